//! The Transformer of "Attention Is All You Need": the paper's figure and its decoding state.
pub mod layers;
mod positions;
pub mod state;
pub mod transformer;
