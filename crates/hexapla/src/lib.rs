//! Hexapla trains, runs and explains Transformers on the CPU.
#![forbid(unsafe_code)]

pub mod config;
pub mod error;
pub mod model;
