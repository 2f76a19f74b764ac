//! Encoders at work: texts in, vectors, classes, tagged words or filled gaps out.
//!
//! [`Encoder`] is the model on token ids. Each task stands over it: [`SentenceEncoder`] makes one vector of each text,
//! [`Classifier`] gives texts their classes and passages their ranks, [`Tagger`] gives tokens their classes, [`FillMask`] finds
//! masked words. A text's answer never depends, to the bit, on the texts beside it, on batches or on threads.

mod classify;
mod encoder;
mod fill;
mod length;
mod reader;
mod sentence;
mod tag;

pub use classify::{Classes, Classifier};
pub use encoder::{Encoder, Input};
pub use fill::{Candidate, FillMask};
pub(crate) use length::Limit;
pub use length::LongTexts;
pub use sentence::{EmbedOptions, SentenceEncoder, normalize};
pub use tag::{TaggedToken, Tagger};
