//! From a model's logits to sentences: greedy decoding, beam search and sampling.
//!
//! [`search()`] drives any [`StepDecoder`]. For the same logits it returns the same ids and scores as
//! `generate()` of the Python library transformers (5.23), which the golden tests hold it to. The points where it
//! goes further, or where that library leaves a choice open:
//!
//! - Each sentence may have its own prefix, its own longest length and its own random stream, and its result never
//!   depends, to the bit, on the other sentences of the batch, on threads or on the machine.
//! - Exact ties go to the hypothesis earlier in the beam, then to the lower token id.
//! - Only real hypotheses are returned: fewer than [`SearchOptions::n_best`] where the constraints leave fewer.
//! - A sentence that the constraints leave without any next token ends there, unfinished.
//! - Prefix tokens, like the forced first and last tokens, are part of the output and of its length, and add a
//!   log-probability of 0 (as CTranslate2 scores a target prefix).

mod align;
mod beam;
mod candidates;
mod chains;
mod decoder;
pub mod engine;
pub mod forced;
pub mod generator;
mod growing_text;
mod hypothesis;
pub mod language_model;
mod line;
mod log_softmax;
mod options;
pub mod outputs;
mod prefix_cache;
mod processors;
mod refuse;
pub mod running;
mod sampling;
mod search;
mod sentence;
mod sliding;
pub mod state_decoder;
mod trace;
mod translate_options;
pub mod translator;

pub use crate::config::EarlyStopping;
pub(crate) use align::lengths_of_values;
pub use align::{Alignment, SourceAttention};
pub use decoder::StepDecoder;
pub use hexapla_kernels::Buffer;
pub use hypothesis::Hypothesis;
pub(crate) use log_softmax::log_sum_exp;
pub use options::{SearchInput, SearchOptions};
pub use sampling::Sampling;
pub use search::{Done, Progress, Search, search};
pub use translate_options::TranslateOptions;
