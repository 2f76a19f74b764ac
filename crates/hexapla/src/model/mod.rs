//! The Transformer of "Attention Is All You Need": the paper's figure and its decoding state.
