//! From text to token ids, and back.

pub mod batch;
