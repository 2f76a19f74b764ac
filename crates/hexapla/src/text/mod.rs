//! Text in, text out: tokenizers, parallel corpora, languages and sentences.
//!
//! Lines end at LF and nowhere else (a CR before it goes with it); U+2028 and its like are ordinary characters.

pub mod chat;
#[doc(hidden)]
pub mod clean;
#[doc(hidden)]
pub mod corpus;
#[doc(hidden)]
pub mod detokenize;
pub mod direction;
pub mod language;
pub(crate) mod script;
pub mod segment;
#[doc(hidden)]
pub mod sentencepiece;
pub mod tokenizer;
