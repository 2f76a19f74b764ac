//! Hexapla over HTTP: for now the page of `hexapla explain`, which translates anew what its reader changes.
#![forbid(unsafe_code)]

mod accept;
mod asked;
mod guard;
pub mod inspector;

pub use inspector::{Inspector, serve};
