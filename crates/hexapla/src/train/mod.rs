//! From sentence pairs to a trained model.

pub mod batches;
pub mod change;
pub mod checkpoint;
pub mod data;
mod evaluator;
pub mod held_out;
mod lock;
pub mod muon;
pub mod optimizer;
pub mod pairs;
pub mod progress;
pub mod provenance;
pub mod report;
pub mod schedule;
pub mod session;
pub mod shards;
pub mod tensorboard;
pub mod test_set;
pub mod trainer;
