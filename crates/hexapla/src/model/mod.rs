//! The Transformer of "Attention Is All You Need": the paper's figure, its parameters and its decoding state.

pub mod weights;
