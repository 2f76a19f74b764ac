//! The operations of the Transformer. Each file holds one: its forward step, its backward step, its gradient check.

pub mod attention;
pub mod cross_entropy;
pub mod embedding;
pub mod layer_norm;
pub mod linear;
pub mod parameters;
pub mod past;
pub mod pointwise;
mod run;

pub use parameters::{PackedTable, Parameters};
pub use run::{Dropped, Gradients, Run, Step};

#[cfg(test)]
pub(crate) mod check;
