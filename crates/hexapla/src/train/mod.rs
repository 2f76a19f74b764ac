//! From sentence pairs to a trained model.

pub mod optimizer;
pub mod schedule;
pub mod shards;
