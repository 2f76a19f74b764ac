//! Hexapla over HTTP: [`serve_models`] answers the interfaces that people's programs already use, and [`serve`] is the page of
//! `hexapla explain`, which computes anew what its reader changes.
#![forbid(unsafe_code)]

mod accept;
mod app;
mod asked;
mod call;
mod dialect;
mod embedding;
mod engine;
mod fields;
mod generating;
mod guard;
mod html;
pub mod inspector;
mod keys;
mod languages;
mod metrics;
mod models;
mod refusal;
mod routes;
mod secret;
mod serve;
mod settings;
mod translating;
mod warnings;
mod watched;

pub use inspector::{Inspector, serve};
pub use keys::{Allowance, KeySettings, new_key};
pub use models::{ModelSettings, OpenFolder};
pub use serve::{Signal, Told, serve_models};
pub use settings::ServeSettings;
