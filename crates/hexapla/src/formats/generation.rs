//! What `generate` of transformers would do by default with a model folder.
//!
//! `generation_config.json` decides; where it is missing, the same keys of `config.json` do (old folders), and
//! `config.json` is not asked for them otherwise. What neither says has the values of [`GenerationDefaults::default`].
//!
//! How transformers (5.x) uses them, as far as it shows in the output:
//! - Lengths count the decoder's start token. Where no length is set, 20 new tokens are the limit, but never more than
//!   the model's positions.
//! - Beam search takes log-softmax first and changes the scores then, in this order: repetition penalty (a negative
//!   score is multiplied, a positive one divided), no-repeat n-grams, bad words, minimum length, forced first token,
//!   forced last token, suppressed tokens, suppressed first tokens; renormalisation comes last. Greedy search applies
//!   the same to the logits. The start token counts for the repetition penalty and for n-grams.
//! - A forced token has score 0 and everything else −∞: a hypothesis cut off at `max_length` with
//!   `forced_eos_token_id` pays nothing for its last token.
//! - Bad words with the end token are dropped, so the end can never be forbidden that way.
//! - Without `renormalize_logits` the probability of a forbidden token is lost, with it the others share it.

use serde_json::{Map, Value, json};

use super::keys::{Keys, float};
use crate::config::{DecoderConfig, EarlyStopping, TransformerConfig};
use crate::error::Result;
use crate::files::Folder;

/// The file that holds them.
pub const GENERATION_FILE: &str = "generation_config.json";
/// New tokens where a folder sets no length.
const DEFAULT_NEW_TOKENS: usize = 20;

/// The defaults of a folder; see the module for what each does in transformers.
#[derive(Debug, Clone, PartialEq)]
pub struct GenerationDefaults {
    /// Beams; 1 is greedy search.
    pub num_beams: usize,
    /// Most tokens of the output, start token included.
    pub max_length: Option<usize>,
    /// Most tokens of the output without the start token; goes before `max_length`.
    pub max_new_tokens: Option<usize>,
    /// Fewest tokens before the end, start token included.
    pub min_length: usize,
    /// Fewest tokens before the end without the start token.
    pub min_new_tokens: usize,
    /// When beam search ends a sentence.
    pub early_stopping: EarlyStopping,
    /// A finished hypothesis scores its log-probability / (new tokens, end included)^this.
    pub length_penalty: f32,
    /// 1 is none.
    pub repetition_penalty: f32,
    /// No n-gram of this size occurs twice; 0 allows all.
    pub no_repeat_ngram_size: usize,
    /// Tokens that are never generated.
    pub suppressed_ids: Vec<u32>,
    /// Tokens that are never generated first.
    pub first_suppressed_ids: Vec<u32>,
    /// Further tokens that end the output, besides the model's end token.
    pub more_eos_token_ids: Vec<u32>,
    /// The token forced at the last position that `max_length` allows.
    pub forced_eos_token_id: Option<u32>,
    /// Probabilities sum to 1 again after all changes.
    pub renormalize_logits: bool,
    /// Sampling instead of the most probable token.
    pub do_sample: bool,
    /// Divides the logits in sampling.
    pub temperature: f32,
    /// Sampling among this many tokens; 0 is all.
    pub top_k: usize,
    /// Sampling among the most probable tokens of this total probability.
    pub top_p: f32,
    /// Sampling among the tokens whose probability is at least this share of the largest; 0 is all.
    pub min_p: f32,
    /// Hypotheses returned for each input.
    pub num_return_sequences: usize,
}

impl Default for GenerationDefaults {
    fn default() -> Self {
        GenerationDefaults {
            num_beams: 1,
            max_length: None,
            max_new_tokens: None,
            min_length: 0,
            min_new_tokens: 0,
            early_stopping: EarlyStopping::Heuristic,
            length_penalty: 1.0,
            repetition_penalty: 1.0,
            no_repeat_ngram_size: 0,
            suppressed_ids: Vec::new(),
            first_suppressed_ids: Vec::new(),
            more_eos_token_ids: Vec::new(),
            forced_eos_token_id: None,
            renormalize_logits: false,
            do_sample: false,
            temperature: 1.0,
            top_k: 50,
            top_p: 1.0,
            min_p: 0.0,
            num_return_sequences: 1,
        }
    }
}

impl GenerationDefaults {
    /// For a model of our own training: beam search to the end of the model's positions, padding never generated.
    pub fn for_training(config: &TransformerConfig) -> Self {
        let padding = Some(config.pad_token_id).filter(|pad| *pad != config.eos_token_id);
        GenerationDefaults {
            num_beams: 4,
            max_length: Some(config.max_position_embeddings),
            suppressed_ids: padding.into_iter().collect(),
            renormalize_logits: true,
            ..GenerationDefaults::default()
        }
    }

    /// Most tokens of the output, start token included, for a model of so many positions.
    pub fn length_limit(&self, max_position_embeddings: usize) -> usize {
        match (self.max_new_tokens, self.max_length) {
            (Some(new), _) => new.saturating_add(1),
            (None, Some(all)) => all,
            (None, None) => (DEFAULT_NEW_TOKENS + 1).min(max_position_embeddings),
        }
    }

    /// Fewest tokens before the end, start token included.
    pub fn minimum_length(&self) -> usize {
        match self.min_new_tokens {
            0 => self.min_length,
            new => self.min_length.max(new.saturating_add(1)),
        }
    }
}

/// Special tokens as the generation settings give them; they go before those of the model's settings.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct SpecialIds {
    pub(crate) eos: Option<u32>,
    pub(crate) decoder_start: Option<u32>,
    pub(crate) forced_bos: Option<u32>,
}

/// Reads `generation_config.json`, or the same keys of `config`, which loses them in either case.
pub(crate) fn read(folder: &Folder, config: &mut Keys) -> Result<(GenerationDefaults, SpecialIds)> {
    let ends = config.id_or_ids("eos_token_id")?;
    let mut ids = SpecialIds {
        eos: ends.first().copied(),
        decoder_start: config.id("decoder_start_token_id")?,
        forced_bos: None,
    };
    if !folder.contains(GENERATION_FILE) {
        ids.forced_bos = config.id("forced_bos_token_id")?;
        return Ok((take_defaults(config, &ends)?, ids));
    }
    config.pass_over(UNDERSTOOD);
    for list in [
        OFF_AT_ZERO,
        OFF_AT_ONE,
        OFF_AT_FALSE,
        OFF_AT_NULL,
        WITHOUT_EFFECT,
    ] {
        config.pass_over(list);
    }
    let mut keys = Keys::read(folder, GENERATION_FILE)?;
    let ends = match keys.id_or_ids("eos_token_id")? {
        none if none.is_empty() => ends,
        some => some,
    };
    ids.eos = ends.first().copied();
    ids.decoder_start = keys.id("decoder_start_token_id")?.or(ids.decoder_start);
    ids.forced_bos = keys.id("forced_bos_token_id")?;
    let defaults = take_defaults(&mut keys, &ends)?;
    keys.pass_over(&["pad_token_id", "bos_token_id", "transformers_version"]);
    config.take_refusals(keys);
    Ok((defaults, ids))
}

/// The special tokens of a model that generates, as its settings give them.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct SpecialTokens {
    bos: Option<u32>,
    eos: Vec<u32>,
    pad: Option<u32>,
    decoder_start: Option<u32>,
    forced_bos: Option<u32>,
}

impl From<&TransformerConfig> for SpecialTokens {
    fn from(config: &TransformerConfig) -> Self {
        SpecialTokens {
            bos: None,
            eos: vec![config.eos_token_id],
            pad: Some(config.pad_token_id),
            decoder_start: Some(config.decoder_start_token_id),
            forced_bos: config.forced_bos_token_id,
        }
    }
}

impl From<&DecoderConfig> for SpecialTokens {
    fn from(config: &DecoderConfig) -> Self {
        SpecialTokens {
            bos: config.bos_token_id,
            eos: config.eos_token_ids.clone(),
            pad: config.pad_token_id,
            ..SpecialTokens::default()
        }
    }
}

/// `generation_config.json` for these defaults.
pub(crate) fn write(defaults: &GenerationDefaults, special: &SpecialTokens) -> Value {
    let plain = GenerationDefaults::default();
    let mut map = Map::new();
    let mut put = |key: &str, differs: bool, value: Value| {
        if differs {
            map.insert(key.to_string(), value);
        }
    };
    let mut ends = special.eos.clone();
    let more = defaults.more_eos_token_ids.iter();
    // A decoder's settings have them all.
    ends.extend(more.filter(|id| !special.eos.contains(id)));
    let eos = match ends.as_slice() {
        [] => json!(null),
        [one] => json!(one),
        several => json!(several),
    };
    put("eos_token_id", !ends.is_empty(), eos);
    for (key, id) in [
        ("pad_token_id", special.pad),
        ("bos_token_id", special.bos),
        ("decoder_start_token_id", special.decoder_start),
        ("forced_bos_token_id", special.forced_bos),
        ("forced_eos_token_id", defaults.forced_eos_token_id),
    ] {
        put(key, id.is_some(), json!(id));
    }
    put("num_beams", true, json!(defaults.num_beams));
    put(
        "max_length",
        defaults.max_length.is_some(),
        json!(defaults.max_length),
    );
    put(
        "max_new_tokens",
        defaults.max_new_tokens.is_some(),
        json!(defaults.max_new_tokens),
    );
    put(
        "min_length",
        defaults.min_length > 0,
        json!(defaults.min_length),
    );
    put(
        "min_new_tokens",
        defaults.min_new_tokens > 0,
        json!(defaults.min_new_tokens),
    );
    let stop = match defaults.early_stopping {
        EarlyStopping::Heuristic => json!(false),
        EarlyStopping::WhenFull => json!(true),
        EarlyStopping::Never => json!("never"),
        EarlyStopping::Shrinking => json!("shrinking"),
    };
    put("early_stopping", stop != json!(false), stop.clone());
    for (key, value, usual) in [
        (
            "length_penalty",
            defaults.length_penalty,
            plain.length_penalty,
        ),
        (
            "repetition_penalty",
            defaults.repetition_penalty,
            plain.repetition_penalty,
        ),
        ("temperature", defaults.temperature, plain.temperature),
        ("top_p", defaults.top_p, plain.top_p),
        ("min_p", defaults.min_p, plain.min_p),
    ] {
        put(key, value != usual, float(value));
    }
    for (key, value, usual) in [
        ("no_repeat_ngram_size", defaults.no_repeat_ngram_size, 0),
        ("top_k", defaults.top_k, plain.top_k),
        ("num_return_sequences", defaults.num_return_sequences, 1),
    ] {
        put(key, value != usual, json!(value));
    }
    let words: Vec<[u32; 1]> = defaults.suppressed_ids.iter().map(|id| [*id]).collect();
    put("bad_words_ids", !words.is_empty(), json!(words));
    let first = &defaults.first_suppressed_ids;
    put("begin_suppress_tokens", !first.is_empty(), json!(first));
    put(
        "renormalize_logits",
        defaults.renormalize_logits,
        json!(true),
    );
    put("do_sample", defaults.do_sample, json!(true));
    Value::Object(map)
}

/// `ends` are the tokens that end an output.
fn take_defaults(keys: &mut Keys, ends: &[u32]) -> Result<GenerationDefaults> {
    let plain = GenerationDefaults::default();
    let mut suppressed_ids = keys.lists_of_one_id("bad_words_ids")?;
    suppressed_ids.retain(|id| !ends.contains(id));
    suppressed_ids.extend(keys.ids("suppress_tokens")?);
    suppressed_ids.sort_unstable();
    suppressed_ids.dedup();
    let defaults = GenerationDefaults {
        num_beams: keys.size("num_beams")?.unwrap_or(plain.num_beams).max(1),
        max_length: keys.size("max_length")?,
        max_new_tokens: keys.size("max_new_tokens")?,
        min_length: keys.size("min_length")?.unwrap_or(0),
        min_new_tokens: keys.size("min_new_tokens")?.unwrap_or(0),
        early_stopping: early_stopping(keys)?,
        length_penalty: keys
            .number("length_penalty")?
            .unwrap_or(plain.length_penalty),
        repetition_penalty: keys
            .number("repetition_penalty")?
            .unwrap_or(plain.repetition_penalty),
        no_repeat_ngram_size: keys.size("no_repeat_ngram_size")?.unwrap_or(0),
        suppressed_ids,
        first_suppressed_ids: keys.ids("begin_suppress_tokens")?,
        more_eos_token_ids: ends.iter().skip(1).copied().collect(),
        forced_eos_token_id: keys.id("forced_eos_token_id")?,
        renormalize_logits: keys.flag("renormalize_logits")?.unwrap_or(false),
        do_sample: keys.flag("do_sample")?.unwrap_or(false),
        temperature: keys.number("temperature")?.unwrap_or(plain.temperature),
        top_k: keys.size("top_k")?.unwrap_or(plain.top_k),
        top_p: keys.number("top_p")?.unwrap_or(plain.top_p),
        min_p: keys.number("min_p")?.unwrap_or(plain.min_p),
        num_return_sequences: keys.size("num_return_sequences")?.unwrap_or(1).max(1),
    };
    refuse_other_searches(keys, defaults.do_sample)?;
    keys.pass_over(WITHOUT_EFFECT);
    Ok(defaults)
}

fn early_stopping(keys: &mut Keys) -> Result<EarlyStopping> {
    match keys.take("early_stopping") {
        None | Some(Value::Bool(false)) => Ok(EarlyStopping::Heuristic),
        Some(Value::Bool(true)) => Ok(EarlyStopping::WhenFull),
        Some(Value::String(text)) if text == "never" => Ok(EarlyStopping::Never),
        Some(Value::String(text)) if text == "shrinking" => Ok(EarlyStopping::Shrinking),
        Some(other) => Err(keys
            .error("early_stopping")
            .expected("true, false, \"never\" or \"shrinking\"")
            .found(other.to_string())),
    }
}

/// Searches that are not offered here pass only where they are switched off.
fn refuse_other_searches(keys: &mut Keys, sampling: bool) -> Result<()> {
    let sampling_only = ["typical_p", "epsilon_cutoff", "eta_cutoff", "top_h"];
    if !sampling {
        keys.pass_over(&sampling_only);
    }
    keys.only("typical_p", &[json!(1)]);
    for key in OFF_AT_ZERO.iter().chain(&["epsilon_cutoff", "eta_cutoff"]) {
        keys.only(key, &[json!(0)]);
    }
    for key in OFF_AT_ONE {
        keys.only(key, &[json!(1)]);
    }
    for key in OFF_AT_FALSE {
        keys.only(key, &[json!(false)]);
    }
    for key in OFF_AT_NULL.iter().chain(&["top_h"]) {
        keys.only(key, &[]);
    }
    Ok(())
}

const UNDERSTOOD: &[&str] = &[
    "forced_bos_token_id",
    "forced_eos_token_id",
    "num_beams",
    "max_length",
    "max_new_tokens",
    "min_length",
    "min_new_tokens",
    "early_stopping",
    "length_penalty",
    "repetition_penalty",
    "no_repeat_ngram_size",
    "bad_words_ids",
    "suppress_tokens",
    "begin_suppress_tokens",
    "renormalize_logits",
    "do_sample",
    "temperature",
    "top_k",
    "top_p",
    "num_return_sequences",
    "typical_p",
    "epsilon_cutoff",
    "eta_cutoff",
    "min_p",
    "top_h",
];
const OFF_AT_ZERO: &[&str] = &["encoder_no_repeat_ngram_size", "diversity_penalty"];
const OFF_AT_ONE: &[&str] = &[
    "encoder_repetition_penalty",
    "num_beam_groups",
    "guidance_scale",
];
const OFF_AT_FALSE: &[&str] = &["token_healing", "force_bos_token_to_be_generated"];
const OFF_AT_NULL: &[&str] = &[
    "dola_layers",
    "penalty_alpha",
    "sequence_bias",
    "exponential_decay_length_penalty",
    "watermarking_config",
    "constraints",
    "force_words_ids",
    "stop_strings",
    "max_time",
];
/// Speed, memory and the form of what a call returns.
const WITHOUT_EFFECT: &[&str] = &[
    "use_cache",
    "cache_implementation",
    "cache_config",
    "max_cache_len",
    "output_attentions",
    "output_hidden_states",
    "output_scores",
    "output_logits",
    "return_dict_in_generate",
    "remove_invalid_values",
    "is_assistant",
    "num_assistant_tokens",
    "num_assistant_tokens_schedule",
    "assistant_confidence_threshold",
    "assistant_early_exit",
    "assistant_lookbehind",
    "target_lookbehind",
    "assistant_ensemble_weight",
    "prompt_lookup_num_tokens",
    "max_matching_ngram_size",
    "speculation_type",
    "use_mtp",
    "compile_config",
    "disable_compile",
    "low_memory",
    "prefill_chunk_size",
    "continuous_batching_config",
    "_from_model_config",
    "_commit_hash",
];
