//! The settings of a search.

use super::refuse::refuse;
use super::sampling::Sampling;
use crate::config::{DecoderConfig, EarlyStopping, TransformerConfig};
use crate::error::Result;
use crate::formats::generation::GenerationDefaults;

/// How to search.
#[derive(Debug, Clone, PartialEq)]
pub struct SearchOptions {
    /// Open hypotheses for each sentence; 1 is greedy decoding.
    pub beam_size: usize,
    /// Hypotheses returned for each sentence, best first (samples: in the order of their random streams).
    pub n_best: usize,
    /// A hypothesis' score is its log-probability divided by its length, end token included, to this power.
    pub length_penalty: f32,
    /// When to stop with open hypotheses.
    pub early_stopping: EarlyStopping,
    /// The end token is not produced before this many other tokens.
    pub min_length: usize,
    /// The end token is never produced, so every output has its longest length: for benchmarks.
    pub ignore_eos: bool,
    /// Tokens already there (the start token too) have a positive score divided, a negative one multiplied by this;
    /// 1 changes nothing. Scores are logits in greedy decoding and sampling, log-probabilities in beam search.
    pub repetition_penalty: f32,
    /// Taken from the score of each token that the output has already.
    pub presence_penalty: f32,
    /// Taken from the score of a token as often as the output has it already.
    pub frequency_penalty: f32,
    /// No run of this many tokens occurs twice (the start token counts); 0 is no limit.
    pub no_repeat_ngram_size: usize,
    /// Token ids that are never produced. Their probability is not given to the others in beam search, and is in
    /// greedy decoding and sampling. The end token in this list has no effect.
    pub suppressed_ids: Vec<u32>,
    /// Added to the logits of tokens before anything else.
    pub logit_bias: Vec<(u32, f32)>,
    /// Token ids that are never the first that the search may choose (after `forced_bos_id` or a prefix, where there is one).
    pub first_suppressed_ids: Vec<u32>,
    /// In beam search, give the probability of tokens that the constraints exclude to the others.
    pub renormalize: bool,
    /// What the decoder is fed first where a sentence has no prompt. Not part of the output.
    pub start_id: u32,
    /// The tokens that end a hypothesis.
    pub eos_ids: Vec<u32>,
    /// The first token of every output, where the prefix does not say otherwise.
    pub forced_bos_id: Option<u32>,
    /// The last token of an output that reaches its longest length.
    pub forced_eos_id: Option<u32>,
    /// Draw tokens by chance; `beam_size` is then 1 and `n_best` is the number of samples.
    pub sampling: Option<Sampling>,
    /// Return the cross-attention of every output token.
    pub attention: bool,
    /// Return so many of the likeliest tokens in the place of each output token, not in beam search.
    pub likeliest: usize,
}

impl SearchOptions {
    /// Widest beam, and the greatest number of samples.
    pub const MAX_BEAM_SIZE: usize = 1024;

    /// Greedy decoding from `start_id` to `eos_id`, without constraints.
    pub fn new(start_id: u32, eos_id: u32) -> Self {
        SearchOptions {
            beam_size: 1,
            n_best: 1,
            length_penalty: 1.0,
            early_stopping: EarlyStopping::default(),
            min_length: 0,
            ignore_eos: false,
            repetition_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            no_repeat_ngram_size: 0,
            suppressed_ids: Vec::new(),
            logit_bias: Vec::new(),
            first_suppressed_ids: Vec::new(),
            renormalize: false,
            start_id,
            eos_ids: vec![eos_id],
            forced_bos_id: None,
            forced_eos_id: None,
            sampling: None,
            attention: false,
            likeliest: 0,
        }
    }

    /// Greedy decoding with a model's special tokens; padding is never produced.
    pub fn for_model(config: &TransformerConfig) -> Self {
        SearchOptions {
            suppressed_ids: vec![config.pad_token_id],
            forced_bos_id: config.forced_bos_token_id,
            ..SearchOptions::new(config.decoder_start_token_id, config.eos_token_id)
        }
    }

    /// The search that a model folder asks for: its special tokens and its `generation_config.json`.
    #[doc(hidden)]
    pub fn for_folder(config: &TransformerConfig, defaults: &GenerationDefaults) -> Self {
        let mut options = SearchOptions::for_model(config).with_defaults(defaults);
        options.eos_ids.extend(&defaults.more_eos_token_ids);
        // The folder counts the start token.
        options.min_length = defaults.minimum_length().saturating_sub(1);
        options
    }

    /// As [`SearchOptions::for_folder`], of a decoder alone.
    #[doc(hidden)]
    pub fn for_decoder(config: &DecoderConfig, defaults: &GenerationDefaults) -> Self {
        let mut options = SearchOptions::new(config.bos_token_id.unwrap_or(0), 0);
        options.eos_ids.clone_from(&config.eos_token_ids);
        options.min_length = defaults.min_new_tokens;
        options.with_defaults(defaults)
    }

    fn with_defaults(self, defaults: &GenerationDefaults) -> Self {
        SearchOptions {
            beam_size: if defaults.do_sample {
                1
            } else {
                defaults.num_beams
            },
            n_best: defaults.num_return_sequences,
            length_penalty: defaults.length_penalty,
            early_stopping: defaults.early_stopping,
            repetition_penalty: defaults.repetition_penalty,
            no_repeat_ngram_size: defaults.no_repeat_ngram_size,
            suppressed_ids: defaults.suppressed_ids.clone(),
            first_suppressed_ids: defaults.first_suppressed_ids.clone(),
            renormalize: defaults.renormalize_logits,
            forced_eos_id: defaults.forced_eos_token_id,
            sampling: defaults.do_sample.then(|| Sampling {
                temperature: defaults.temperature,
                top_k: defaults.top_k,
                top_p: defaults.top_p,
                min_p: defaults.min_p,
                ..Sampling::default()
            }),
            ..self
        }
    }

    /// Checks the settings against each other and against the model's vocabulary.
    ///
    /// # Errors
    /// Names the first setting that does not fit.
    pub fn validate(&self, vocab_size: usize) -> Result<()> {
        self.validate_widths()?;
        let finite = |key, value: f32| match value.is_finite() {
            true => Ok(()),
            false => Err(refuse(key, "a finite number", value)),
        };
        finite("length_penalty", self.length_penalty)?;
        finite("repetition_penalty", self.repetition_penalty)?;
        finite("presence_penalty", self.presence_penalty)?;
        finite("frequency_penalty", self.frequency_penalty)?;
        if self.repetition_penalty <= 0.0 {
            return Err(refuse(
                "repetition_penalty",
                "above 0",
                self.repetition_penalty,
            ));
        }
        if let Some(sampling) = &self.sampling {
            sampling.validate()?;
        }
        for (_, bias) in &self.logit_bias {
            finite("logit_bias", *bias)?;
        }
        let single = [
            ("start_id", Some(self.start_id)),
            ("forced_bos_id", self.forced_bos_id),
            ("forced_eos_id", self.forced_eos_id),
        ];
        let all = |key, ids: &'_ [u32]| {
            ids.iter()
                .map(move |id| (key, Some(*id)))
                .collect::<Vec<_>>()
        };
        let suppressed = all("suppressed_ids", &self.suppressed_ids);
        let biased: Vec<u32> = self.logit_bias.iter().map(|(id, _)| *id).collect();
        let biased = all("logit_bias", &biased);
        let ends = all("eos_ids", &self.eos_ids);
        let first = all("first_suppressed_ids", &self.first_suppressed_ids);
        let all = single
            .into_iter()
            .chain(suppressed)
            .chain(biased)
            .chain(first);
        for (key, id) in all.chain(ends) {
            if let Some(id) = id.filter(|id| *id as usize >= vocab_size) {
                return Err(refuse(
                    key,
                    &format!("below the vocabulary's size {vocab_size}"),
                    id,
                ));
            }
        }
        Ok(())
    }

    fn validate_widths(&self) -> Result<()> {
        let range = format!("1 to {}", Self::MAX_BEAM_SIZE);
        for (key, value) in [("beam_size", self.beam_size), ("n_best", self.n_best)] {
            if value == 0 || value > Self::MAX_BEAM_SIZE {
                return Err(refuse(key, &range, value));
            }
        }
        if self.sampling.is_some() && self.beam_size != 1 {
            return Err(
                refuse("beam_size", "1 where tokens are sampled", self.beam_size)
                    .hint("n_best sets the number of samples"),
            );
        }
        if self.likeliest > 0 && self.beam_size != 1 {
            return Err(refuse("likeliest", "0 in beam search", self.likeliest));
        }
        if self.sampling.is_none() && self.n_best > self.beam_size {
            let expected = format!("at most beam_size {}", self.beam_size);
            return Err(refuse("n_best", &expected, self.n_best).hint("widen the beam, or sample"));
        }
        Ok(())
    }

    /// What the decoder is fed first for `input`.
    pub(super) fn first_token(&self, input: &SearchInput) -> u32 {
        input.prompt.last().copied().unwrap_or(self.start_id)
    }

    /// The tokens that end a sentence.
    pub fn ends(&self) -> impl Iterator<Item = u32> {
        self.eos_ids.iter().copied()
    }

    /// Whether `token` ends a sentence.
    pub fn is_end(&self, token: u32) -> bool {
        self.ends().any(|end| end == token)
    }

    /// What a log-probability is divided by for an output of `length` tokens.
    pub(super) fn length_divisor(&self, length: usize) -> f32 {
        libm::pow(length.max(1) as f64, f64::from(self.length_penalty)) as f32
    }
}

/// One sentence to search for. The model knows its source already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SearchInput {
    /// Tokens before the output, which the model has read but for the last of them. Where there are none,
    /// [`SearchOptions::start_id`] stands before it.
    pub prompt: Vec<u32>,
    /// Tokens that the output starts with.
    pub prefix: Vec<u32>,
    /// Longest output in tokens, prefix and end token included; at least 1.
    pub max_length: usize,
    /// Which random stream this sentence samples from: its number in the whole text, whatever its batch.
    pub seed_index: u64,
}

impl SearchInput {
    /// Checks this sentence, the `index`-th of its batch, against the options and the vocabulary.
    pub(super) fn validate(&self, options: &SearchOptions, vocab_size: usize) -> Result<()> {
        let refuse = |key, expected: &str, found: String| Err(refuse(key, expected, found));
        if self.max_length == 0 {
            return refuse("max_length", "at least 1", "0".into());
        }
        if self.prefix.len() > self.max_length {
            let expected = format!("at most max_length {} tokens", self.max_length);
            return refuse("prefix", &expected, format!("{} tokens", self.prefix.len()));
        }
        if let Some(id) = self.prefix.iter().find(|id| **id as usize >= vocab_size) {
            return refuse(
                "prefix",
                &format!("ids below the vocabulary's size {vocab_size}"),
                id.to_string(),
            );
        }
        if let Some(id) = self.prompt.iter().find(|id| **id as usize >= vocab_size) {
            return refuse(
                "prompt",
                &format!("ids below the vocabulary's size {vocab_size}"),
                id.to_string(),
            );
        }
        if let Some(end) = self.prefix.iter().find(|id| options.is_end(**id)) {
            return refuse("prefix", "no end token", format!("id {end}"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(change: impl Fn(&mut SearchOptions)) -> String {
        let mut options = SearchOptions::new(1, 0);
        options.validate(10).unwrap();
        change(&mut options);
        options.validate(10).unwrap_err().to_string()
    }

    #[test]
    fn settings_out_of_range_are_named() {
        let sampling = |f: fn(&mut Sampling)| {
            move |o: &mut SearchOptions| {
                let mut sampling = Sampling::default();
                f(&mut sampling);
                o.sampling = Some(sampling);
            }
        };
        for (message, key) in [
            (message(|o| o.beam_size = 0), "beam_size"),
            (message(|o| o.beam_size = 1 << 20), "beam_size"),
            (message(|o| o.n_best = 0), "n_best"),
            (message(|o| o.n_best = 2), "n_best"),
            (message(|o| o.length_penalty = f32::NAN), "length_penalty"),
            (
                message(|o| o.repetition_penalty = 0.0),
                "repetition_penalty",
            ),
            (
                message(|o| o.repetition_penalty = f32::INFINITY),
                "repetition_penalty",
            ),
            (
                message(|o| o.presence_penalty = f32::NAN),
                "presence_penalty",
            ),
            (
                message(|o| o.frequency_penalty = f32::INFINITY),
                "frequency_penalty",
            ),
            (message(sampling(|s| s.min_p = 1.5)), "min_p"),
            (message(sampling(|s| s.min_p = f32::NAN)), "min_p"),
            (message(|o| o.start_id = 10), "start_id"),
            (message(|o| o.eos_ids = vec![0, 10]), "eos_ids"),
            (message(|o| o.forced_bos_id = Some(10)), "forced_bos_id"),
            (message(|o| o.forced_eos_id = Some(11)), "forced_eos_id"),
            (
                message(|o| o.suppressed_ids = vec![3, 10]),
                "suppressed_ids",
            ),
            (message(sampling(|s| s.temperature = 0.0)), "temperature"),
            (
                message(sampling(|s| s.temperature = f32::NAN)),
                "temperature",
            ),
            (message(sampling(|s| s.top_p = 0.0)), "top_p"),
            (message(sampling(|s| s.top_p = 1.1)), "top_p"),
            (message(sampling(|s| s.top_p = f32::NAN)), "top_p"),
        ] {
            assert!(
                message.contains(&format!("where: {key}\n")),
                "{key}: {message}"
            );
        }
    }

    #[test]
    fn sampling_and_beams_exclude_each_other() {
        let mut options = SearchOptions::new(1, 0);
        options.sampling = Some(Sampling::default());
        options.n_best = 5;
        options.validate(10).unwrap();
        options.beam_size = 2;
        assert!(options.validate(10).is_err());
    }

    #[test]
    fn sentences_are_checked() {
        let options = SearchOptions::new(1, 0);
        let good = SearchInput {
            prompt: Vec::new(),
            prefix: vec![2, 3],
            max_length: 2,
            seed_index: 0,
        };
        good.validate(&options, 10).unwrap();
        for (bad, part) in [
            (
                SearchInput {
                    max_length: 0,
                    ..good.clone()
                },
                "max_length",
            ),
            (
                SearchInput {
                    max_length: 1,
                    ..good.clone()
                },
                "2 tokens",
            ),
            (
                SearchInput {
                    prefix: vec![10],
                    ..good.clone()
                },
                "found: 10",
            ),
            (
                SearchInput {
                    prefix: vec![0],
                    ..good.clone()
                },
                "end token",
            ),
        ] {
            let message = bad.validate(&options, 10).unwrap_err().to_string();
            assert!(message.contains(part), "{message}");
        }
    }
}
