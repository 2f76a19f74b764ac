//! How a text is translated.

use std::collections::BTreeMap;

use super::{Sampling, SearchOptions};
use crate::config::{AlignmentReading, TransformerConfig};
use crate::formats::generation::GenerationDefaults;
use crate::text::direction::Direction;

/// How to translate. [`Translator::options`](super::translator::Translator::options) gives the model's own.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct TranslateOptions {
    /// How to search.
    pub search: SearchOptions,
    /// From which language into which, for a model that has several.
    pub direction: Option<Direction>,
    /// What stands before each sentence as the model sees it, exactly: T5 is told its task so (`translate English to German: `).
    /// Alignments count its tokens too.
    pub source_prefix: Option<String>,
    /// Cut lines into sentences. What the model cannot take whole is cut in any case.
    pub split_sentences: bool,
    /// Longest output of a sentence in tokens; where absent, three times its source plus ten.
    pub max_decoding_length: Option<usize>,
    /// Target text that a line's first sentence starts with, by the line's number in the whole text, from 0.
    pub prefixes: BTreeMap<u64, String>,
    /// Number of the first line in the whole text, from 0: sampling draws differently for each line, and errors name it.
    pub first_line: u64,
    /// Align each translation with its source, by this reading.
    pub alignment: Option<AlignmentReading>,
    /// Source tokens of a batch.
    pub batch_tokens: usize,
}

impl TranslateOptions {
    /// One translation of each line, found as the model's folder asks for it.
    #[doc(hidden)]
    pub fn for_folder(config: &TransformerConfig, defaults: &GenerationDefaults) -> Self {
        TranslateOptions {
            search: SearchOptions {
                n_best: 1,
                ..SearchOptions::for_folder(config, defaults)
            },
            direction: None,
            source_prefix: None,
            split_sentences: true,
            max_decoding_length: None,
            prefixes: BTreeMap::new(),
            first_line: 0,
            alignment: None,
            batch_tokens: 1024,
        }
    }

    /// Searches with a beam of this width; 1 is greedy.
    #[must_use]
    pub fn with_beam_size(mut self, beam_size: usize) -> Self {
        self.search.beam_size = beam_size;
        self.search.sampling = None;
        self
    }

    /// Gives this many translations of each line, with a beam at least as wide where nothing is sampled.
    #[must_use]
    pub fn with_n_best(mut self, n_best: usize) -> Self {
        self.search.n_best = n_best;
        if self.search.sampling.is_none() {
            self.search.beam_size = self.search.beam_size.max(n_best);
        }
        self
    }

    /// Draws tokens by chance.
    #[must_use]
    pub fn with_sampling(mut self, sampling: Sampling) -> Self {
        self.search.beam_size = 1;
        self.search.sampling = Some(sampling);
        self
    }

    /// Translates in this direction.
    #[must_use]
    pub fn with_direction(mut self, direction: Direction) -> Self {
        self.direction = Some(direction);
        self
    }

    /// Puts this text before each sentence, exactly as it is.
    #[must_use]
    pub fn with_source_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.source_prefix = Some(prefix.into());
        self
    }

    /// Aligns each translation with its source ([`Translator::alignment_reading`] gives the model's own reading).
    ///
    /// [`Translator::alignment_reading`]: super::translator::Translator::alignment_reading
    #[must_use]
    pub fn with_alignment(mut self, reading: AlignmentReading) -> Self {
        self.alignment = Some(reading);
        self
    }

    /// Takes each line as one sentence, however many it has, if `split` is false.
    #[must_use]
    pub fn with_split_sentences(mut self, split: bool) -> Self {
        self.split_sentences = split;
        self
    }
}
