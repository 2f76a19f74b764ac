//! What the program says to bad input. The tables are snapshots: a changed message, a missing snapshot or a run that
//! panics, leaves something behind or says too little fails the test. `INSTA_UPDATE=always cargo test` rewrites them.
#![cfg(unix)]

mod flags;
mod harness;
mod models;
mod paths;
mod text;
