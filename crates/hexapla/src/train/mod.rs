//! From sentence pairs to a trained model.

#[doc(hidden)]
pub mod batches;
#[doc(hidden)]
pub mod change;
#[doc(hidden)]
pub mod checkpoint;
#[doc(hidden)]
pub mod data;
mod evaluator;
#[doc(hidden)]
pub mod examples;
#[doc(hidden)]
pub mod held_out;
mod lock;
#[doc(hidden)]
pub mod muon;
#[doc(hidden)]
pub mod optimizer;
#[doc(hidden)]
pub mod pairs;
pub mod progress;
#[doc(hidden)]
pub mod provenance;
#[doc(hidden)]
pub mod report;
#[doc(hidden)]
pub mod schedule;
pub mod session;
#[doc(hidden)]
pub mod shards;
#[doc(hidden)]
pub mod tensorboard;
#[doc(hidden)]
pub mod test_set;
pub mod trainer;
