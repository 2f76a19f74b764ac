//! The Transformer of "Attention Is All You Need": the paper's figure and its decoding state.
mod embedding;
mod head;
mod layer;
pub mod layers;
mod positions;
mod stack;
pub mod state;
pub mod transformer;
