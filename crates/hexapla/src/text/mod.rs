//! Text in, text out: tokenizers, parallel corpora, languages and sentences.
//!
//! Lines end at LF and nowhere else (a CR before it goes with it); U+2028 and its like are ordinary characters.

pub mod clean;
pub mod corpus;
pub mod detokenize;
pub mod direction;
pub mod language;
pub(crate) mod script;
pub mod segment;
pub mod tokenizer;
