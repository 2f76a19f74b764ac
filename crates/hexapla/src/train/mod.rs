//! From sentence pairs, or from texts, to a trained model.

#[doc(hidden)]
pub mod batches;
#[doc(hidden)]
pub mod change;
#[doc(hidden)]
pub mod checkpoint;
#[doc(hidden)]
pub mod contexts;
#[doc(hidden)]
pub mod data;
#[doc(hidden)]
pub mod evaluation;
mod evaluator;
#[doc(hidden)]
pub mod examples;
#[doc(hidden)]
pub mod held_out;
#[doc(hidden)]
pub mod initial;
mod lock;
#[doc(hidden)]
pub mod muon;
#[doc(hidden)]
pub mod optimizer;
#[doc(hidden)]
pub mod pair_data;
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
#[doc(hidden)]
pub mod text_data;
mod text_evaluator;
pub mod trainer;
