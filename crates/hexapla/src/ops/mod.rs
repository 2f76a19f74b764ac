//! The operations of the Transformer. Each file holds one: its forward step, its backward step, its gradient check.

pub mod add_rows;
pub mod attention;
pub mod cross_entropy;
pub mod embedding;
pub mod gate;
pub mod kv_cache;
pub mod layer_norm;
pub mod linear;
pub mod parameters;
pub mod pointwise;
pub mod pool;
pub mod relative;
pub mod rms_norm;
pub mod rotary;
mod run;
mod shares;
pub mod watch;

pub use parameters::{PackedTable, Parameters};
pub use run::{DropoutKey, Gradients, Run, Step};

#[cfg(test)]
pub(crate) mod check;
