//! Hexapla trains, runs and explains Transformers on the CPU.
#![forbid(unsafe_code)]

pub mod batch;
pub mod config;
pub mod error;
pub mod files;
pub mod formats;
pub mod generate;
pub mod metrics;
pub mod model;
pub mod ops;
pub mod prepared;
pub mod product;
pub mod random;
pub mod tape;
pub mod tensor;
pub mod text;
pub mod train;
pub mod weights;
