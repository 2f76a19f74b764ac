//! Flags of how a decoder alone chooses tokens.

use hexapla::error::{Error, Result};
use hexapla::generate::language_model::{GenerateOptions, LanguageModel};
use hexapla::generate::{Sampling, SearchOptions};

/// How tokens are chosen. What is not given is as the model's folder says.
#[derive(Debug, clap::Args)]
pub(crate) struct ChoiceFlags {
    /// Most tokens of an output; as many as the model has room for where neither this nor the model says.
    #[arg(long)]
    pub(crate) max_new_tokens: Option<usize>,
    /// Draw by chance at this temperature; 0 takes the likeliest token.
    #[arg(long)]
    temperature: Option<f32>,
    /// Draw among this many tokens; 0 is all.
    #[arg(long)]
    top_k: Option<usize>,
    /// Draw among the likeliest tokens of this total probability.
    #[arg(long)]
    top_p: Option<f32>,
    /// Draw among tokens with this share of the likeliest one's probability; 0 is all.
    #[arg(long)]
    min_p: Option<f32>,
    /// Keys the draws.
    #[arg(long)]
    seed: Option<u64>,
    /// Outputs of each text.
    #[arg(long, default_value_t = 1)]
    pub(crate) n: usize,
    /// Width of the beam; 1 is greedy.
    #[arg(long)]
    beam_size: Option<usize>,
    /// Divides the score of tokens that are there already, those of the text among them.
    #[arg(long)]
    repetition_penalty: Option<f32>,
    /// Taken from the score of tokens that the output has already.
    #[arg(long)]
    presence_penalty: Option<f32>,
    /// Taken from the score of a token as often as the output has it already.
    #[arg(long)]
    frequency_penalty: Option<f32>,
    /// No n-gram of this size twice; 0 allows all.
    #[arg(long)]
    no_repeat_ngram_size: Option<usize>,
}

impl ChoiceFlags {
    /// `search` with what the flags say.
    pub(crate) fn change(
        &self,
        mut search: SearchOptions,
        vocab_size: usize,
    ) -> Result<SearchOptions> {
        if self.max_new_tokens == Some(0) {
            return Err(Error::settings("a flag is out of range")
                .at("--max-new-tokens")
                .expected("at least 1")
                .found("0")
                .hint("leave it out for the default"));
        }
        let others = self.top_k.is_some()
            || self.top_p.is_some()
            || self.min_p.is_some()
            || self.seed.is_some();
        match self.temperature {
            Some(0.0) => search.sampling = None,
            None if !others => (),
            temperature => {
                let s = search.sampling.unwrap_or_default();
                search.sampling = Some(Sampling {
                    temperature: temperature.unwrap_or(s.temperature),
                    top_k: self.top_k.unwrap_or(s.top_k),
                    top_p: self.top_p.unwrap_or(s.top_p),
                    min_p: self.min_p.unwrap_or(s.min_p),
                    seed: self.seed.unwrap_or(s.seed),
                });
            }
        }
        if search.sampling.is_some() {
            search.beam_size = self.beam_size.unwrap_or(1);
        } else if let Some(beam_size) = self.beam_size {
            search.beam_size = beam_size;
        } else {
            search.beam_size = search.beam_size.max(self.n);
        }
        search.n_best = self.n;
        let set = |to: &mut f32, flag: Option<f32>| *to = flag.unwrap_or(*to);
        set(&mut search.repetition_penalty, self.repetition_penalty);
        set(&mut search.presence_penalty, self.presence_penalty);
        set(&mut search.frequency_penalty, self.frequency_penalty);
        search.no_repeat_ngram_size = self
            .no_repeat_ngram_size
            .unwrap_or(search.no_repeat_ngram_size);
        search.validate(vocab_size)?;
        Ok(search)
    }

    /// What a model's folder says of generating, with what the flags say; `stop` are the strings that end an output.
    pub(crate) fn options(
        &self,
        model: &LanguageModel,
        stop: &[String],
    ) -> Result<GenerateOptions> {
        if let Some(stop) = stop.iter().find(|stop| stop.is_empty()) {
            return Err(Error::settings("a flag is out of range")
                .at("--stop")
                .expected("a text")
                .found(format!("`{stop}`"))
                .hint("leave it out for no stop string"));
        }
        let defaults = model.options();
        let vocab_size = model.generator().config().vocab_size;
        Ok(GenerateOptions {
            search: self.change(defaults.search, vocab_size)?,
            max_new_tokens: self.max_new_tokens.or(defaults.max_new_tokens),
            stop: stop.to_vec(),
            first_text: 0,
            slide: false,
        })
    }
}
