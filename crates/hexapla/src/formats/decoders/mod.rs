//! Decoders alone, in the layout of transformers: GPT-2, Llama and what descends from it.
//!
//! What these have in common: pre-norm with a last norm, causal attention, and a layer of logits over the embedding's table or one
//! of its own. A family is a table of settings and a table of names; reader, writer and refusals come from these.

mod gpt2;
mod llama;
mod mistral;
mod qwen2;
mod qwen3;
mod rotary;
mod smollm3;

use serde_json::{Map, Value, json};

pub(super) use super::encoders::numbered;
use super::generation::GenerationDefaults;
use super::keys::{Keys, activation_name, float};
use super::names::{Part, TensorNames};
use crate::config::{Activation, DecoderConfig, NormKind};
use crate::error::{Error, Result};
use crate::files::LinearLayout;
use crate::weights::Parameter;

pub(super) use gpt2::GPT2;
pub(super) use llama::LLAMA;
pub(super) use mistral::MISTRAL;
pub(super) use qwen2::QWEN2;
pub(super) use qwen3::QWEN3;
pub(super) use smollm3::SMOLLM3;

/// A family of decoders.
#[derive(Debug)]
pub(super) struct DecoderFamily {
    pub(super) model_type: &'static str,
    /// The class of transformers that generates.
    pub(super) class: &'static str,
    pub(super) settings: Settings,
    /// What the names of `body` begin with, where the file names the whole model and not its stack alone.
    pub(super) prefix: &'static str,
    pub(super) body: &'static [Name],
    /// How linear layers lie in the file.
    pub(super) layout: LinearLayout,
    /// Ends of the names of tensors that a folder may hold although nothing is computed with them.
    pub(super) without_use: &'static [&'static str],
}

/// Our name of a parameter and theirs, where `*` is a layer's number, and which part of theirs it is.
pub(super) type Name = (&'static str, &'static str, Option<Part>);

/// What `config.json` calls the sizes, each with the value that its absence stands for.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) vocab_size: usize,
    pub(super) d_model: (&'static str, usize),
    pub(super) layers: (&'static str, usize),
    pub(super) heads: (&'static str, usize),
    /// Heads of keys and values, where they are a setting; where absent as many as those of queries.
    pub(super) kv_heads: Option<(&'static str, Option<usize>)>,
    /// Columns of a head, where they are a setting; otherwise, and where absent, d_model divided by the heads.
    pub(super) head_width: Option<(&'static str, Option<usize>)>,
    /// Where absent four times d_model.
    pub(super) feed_forward: (&'static str, Option<usize>),
    pub(super) activation: (&'static str, Activation),
    pub(super) gated: bool,
    pub(super) norm: NormKind,
    pub(super) norm_eps: (&'static str, f32),
    pub(super) max_positions: (&'static str, usize),
    pub(super) attention_bias: Choice,
    pub(super) attention_output_bias: Choice,
    pub(super) feed_forward_bias: Choice,
    pub(super) query_key_norm: bool,
    /// The base of rotary positions where no setting says it; without one, positions are a trained table.
    pub(super) rotary_base: Option<f64>,
    pub(super) windows: Windows,
    pub(super) tie_output: bool,
    /// Of embeddings and sublayers, all of which must agree; then that of attention.
    pub(super) dropout: &'static [&'static str],
    pub(super) attention_dropout: &'static str,
    /// What is not set where its absence stands for this.
    pub(super) bos_token_id: Option<u32>,
    pub(super) eos_token_id: Option<u32>,
    /// Settings that can have but this value.
    pub(super) fixed: &'static [(&'static str, bool)],
    /// Settings that change nothing that is computed.
    pub(super) without_effect: &'static [&'static str],
}

/// Whether something is there.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Choice {
    Always,
    Never,
    /// As a setting says; not where it is absent.
    Setting(&'static str),
}

/// Which layers see a window, and which do not know positions.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Windows {
    None,
    /// All, where `sliding_window` is a number; where it is absent it is this one.
    All(usize),
    /// Those of `layer_types`, or those from `max_window_layers` on, where `use_sliding_window` says so.
    Some,
    /// As `Some`, and `no_rope_layers` names layers without positions; these see the window, where there is one.
    WithoutPositions,
}

impl DecoderFamily {
    /// Reads `config.json`, whose generation settings are taken already: its end token, or that it has none.
    pub(super) fn read(
        &self,
        mut settings: Keys,
        (end, endless): (Option<u32>, bool),
        generation: &GenerationDefaults,
    ) -> Result<DecoderConfig> {
        let s = &self.settings;
        let keys = &mut settings;
        let size = |keys: &mut Keys, (key, absent): (&str, usize)| {
            Ok::<_, Error>(keys.size(key)?.unwrap_or(absent))
        };
        let choice = |keys: &mut Keys, choice| {
            Ok::<_, Error>(match choice {
                Choice::Always => true,
                Choice::Never => false,
                Choice::Setting(key) => keys.flag(key)?.unwrap_or(false),
            })
        };
        let d_model = size(keys, s.d_model)?;
        let layers = size(keys, s.layers)?;
        let heads = size(keys, s.heads)?;
        let kv_heads = match s.kv_heads {
            Some((key, absent)) => keys.size(key)?.or(absent).unwrap_or(heads),
            None => heads,
        };
        let head_width = match s.head_width {
            Some((key, absent)) => keys.size(key)?.or(absent),
            None => None,
        };
        let head_width = match head_width {
            Some(width) => width,
            None if heads > 0 && d_model.is_multiple_of(heads) => d_model / heads,
            None => {
                return Err(keys
                    .error(s.heads.0)
                    .expected(format!("a divisor of {} {d_model}", s.d_model.0))
                    .found(heads.to_string()));
            }
        };
        let max_positions = size(keys, s.max_positions)?;
        let rotary = match s.rotary_base {
            Some(base) => Some(rotary::read(keys, base, head_width, max_positions)?),
            None => None,
        };
        let (window, layers_with_window, layers_without_positions) = self.windows(keys, layers)?;
        for (key, value) in s.fixed {
            keys.only(key, &[json!(value)]);
        }
        let attention_bias = choice(keys, s.attention_bias)?;
        let attention_output_bias = match s.attention_output_bias == s.attention_bias {
            true => attention_bias,
            false => choice(keys, s.attention_output_bias)?,
        };
        let mut dropouts = Vec::new();
        for key in s.dropout {
            dropouts.push(keys.number(key)?.unwrap_or(0.1));
        }
        let ends = end.into_iter();
        let ends: Vec<u32> = ends.chain(generation.more_eos_token_ids.clone()).collect();
        let config = DecoderConfig {
            vocab_size: size(keys, ("vocab_size", s.vocab_size))?,
            d_model,
            layers,
            heads,
            kv_heads,
            head_width,
            feed_forward: keys
                .size(s.feed_forward.0)?
                .or(s.feed_forward.1)
                .unwrap_or(d_model.saturating_mul(4)),
            activation: keys.activation(s.activation.0, s.activation.1)?,
            gated: s.gated,
            norm: s.norm,
            norm_eps: keys.number(s.norm_eps.0)?.unwrap_or(s.norm_eps.1),
            attention_bias,
            attention_output_bias,
            feed_forward_bias: choice(keys, s.feed_forward_bias)?,
            query_key_norm: s.query_key_norm,
            rotary,
            layers_without_positions,
            window,
            layers_with_window,
            max_position_embeddings: max_positions,
            tie_output: keys.flag("tie_word_embeddings")?.unwrap_or(s.tie_output),
            // Training alone looks at it; where a file has several the first one stands for all.
            dropout: dropouts.first().copied().unwrap_or(0.0),
            attention_dropout: keys.number(s.attention_dropout)?.unwrap_or(0.0),
            bos_token_id: match keys.is_null("bos_token_id") {
                true => None,
                false => keys.id("bos_token_id")?.or(s.bos_token_id),
            },
            eos_token_ids: match (ends.is_empty(), s.eos_token_id) {
                (true, Some(id)) if !endless => vec![id],
                _ => ends,
            },
            pad_token_id: keys.id("pad_token_id")?,
        };
        keys.pass_over(&["architectures", "bos_token_id", "model_type"]);
        keys.pass_over_common();
        keys.pass_over(WITHOUT_EFFECT);
        keys.pass_over(s.without_effect);
        settings.finish()?;
        Ok(config)
    }

    /// The window, the layers that see no more than it, and those without positions.
    fn windows(
        &self,
        keys: &mut Keys,
        layers: usize,
    ) -> Result<(Option<usize>, Vec<usize>, Vec<usize>)> {
        let all = || 0..layers;
        match self.settings.windows {
            Windows::None => Ok((None, Vec::new(), Vec::new())),
            Windows::All(absent) => {
                let window = match keys.is_null("sliding_window") {
                    true => None,
                    false => Some(keys.size("sliding_window")?.unwrap_or(absent)),
                };
                keys.pass_over(&["sliding_window"]);
                let seen = all().filter(|_| window.is_some()).collect();
                Ok((window, seen, Vec::new()))
            }
            kind => {
                let without = match kind {
                    Windows::WithoutPositions => layers_without_positions(keys, layers)?,
                    _ => Vec::new(),
                };
                let is_used = keys.flag("use_sliding_window")?.unwrap_or(false);
                let window = keys.size("sliding_window")?.filter(|_| is_used);
                let first = keys.size("max_window_layers")?.unwrap_or(28);
                let types = keys.texts("layer_types")?;
                let Some(window) = window else {
                    if types.iter().flatten().any(|kind| kind != FULL) {
                        return Err(keys
                            .error("layer_types")
                            .expected(format!("`{FULL}` alone, without `use_sliding_window`"))
                            .found(types.unwrap_or_default().join(", ")));
                    }
                    return Ok((None, Vec::new(), without));
                };
                let seen = match types {
                    Some(types) => {
                        let known = |kind: &String| kind == FULL || kind == SLIDING;
                        if types.len() != layers || !types.iter().all(known) {
                            return Err(keys
                                .error("layer_types")
                                .expected(format!("`{FULL}` or `{SLIDING}` for {layers} layers"))
                                .found(types.join(", ")));
                        }
                        all().filter(|i| types[*i] == SLIDING).collect()
                    }
                    None if kind == Windows::WithoutPositions => without.clone(),
                    None => all().filter(|i| *i >= first).collect::<Vec<_>>(),
                };
                // A window that no layer sees is none.
                let window = Some(window).filter(|_| !seen.is_empty());
                Ok((window, seen, without))
            }
        }
    }

    /// `config.json`.
    pub(super) fn write(&self, config: &DecoderConfig) -> Map<String, Value> {
        let s = &self.settings;
        let mut map = Map::new();
        let mut put = |key: &str, value: Value| {
            map.insert(key.to_string(), value);
        };
        put("architectures", json!([self.class]));
        put("model_type", json!(self.model_type));
        put("vocab_size", json!(config.vocab_size));
        put(s.d_model.0, json!(config.d_model));
        put(s.layers.0, json!(config.layers));
        put(s.heads.0, json!(config.heads));
        if let Some((key, _)) = s.kv_heads {
            put(key, json!(config.kv_heads));
        }
        if let Some((key, _)) = s.head_width {
            put(key, json!(config.head_width));
        }
        put(s.feed_forward.0, json!(config.feed_forward));
        put(s.activation.0, json!(activation_name(config.activation)));
        put(s.norm_eps.0, float(config.norm_eps));
        put(s.max_positions.0, json!(config.max_position_embeddings));
        for (choice, is_there) in [
            (s.attention_bias, config.attention_bias),
            (s.attention_output_bias, config.attention_output_bias),
            (s.feed_forward_bias, config.feed_forward_bias),
        ] {
            if let Choice::Setting(key) = choice {
                put(key, json!(is_there));
            }
        }
        if let Some(rotary) = &config.rotary {
            put("rope_parameters", rotary::write(rotary, config));
        }
        match s.windows {
            Windows::None => (),
            Windows::All(_) => put("sliding_window", json!(config.window)),
            kind => {
                put("use_sliding_window", json!(config.window.is_some()));
                put("sliding_window", json!(config.window));
                let kind_of = |i| match config.layers_with_window.contains(&i) {
                    true => SLIDING,
                    false => FULL,
                };
                let kinds: Vec<&str> = (0..config.layers).map(kind_of).collect();
                put("layer_types", json!(kinds));
                if kind == Windows::WithoutPositions {
                    let has = |i| usize::from(!config.layers_without_positions.contains(&i));
                    let flags: Vec<usize> = (0..config.layers).map(has).collect();
                    put("no_rope_layers", json!(flags));
                }
            }
        }
        put("tie_word_embeddings", json!(config.tie_output));
        for key in s.dropout {
            put(key, float(config.dropout));
        }
        put(s.attention_dropout, float(config.attention_dropout));
        put("bos_token_id", json!(config.bos_token_id));
        put("eos_token_id", json!(config.eos_token_ids));
        put("pad_token_id", json!(config.pad_token_id));
        put("dtype", json!("float32"));
        map
    }

    /// Why this family cannot say a configuration; nothing where it can.
    pub(super) fn cannot_say(&self, config: &DecoderConfig) -> Option<&'static str> {
        let s = &self.settings;
        let other = |choice: Choice, is_there: bool| match choice {
            Choice::Always => !is_there,
            Choice::Never => is_there,
            Choice::Setting(_) => false,
        };
        let one_bias = s.attention_bias == s.attention_output_bias
            && config.attention_bias != config.attention_output_bias;
        let all: Vec<usize> = (0..config.layers).collect();
        let windows = match s.windows {
            Windows::None => config.window.is_some(),
            Windows::All(_) => config.window.is_some() && config.layers_with_window != all,
            Windows::Some | Windows::WithoutPositions => false,
        };
        let without = !config.layers_without_positions.is_empty();
        let reasons = [
            (
                s.gated != config.gated,
                "the gate of its feed-forward block",
            ),
            (s.norm != config.norm, "its norm"),
            (
                s.query_key_norm != config.query_key_norm,
                "the norm of queries and keys",
            ),
            (
                s.rotary_base.is_some() != config.rotary.is_some(),
                "its positions",
            ),
            (
                s.kv_heads.is_none() && config.kv_heads != config.heads,
                "heads that share keys",
            ),
            (
                s.head_width.is_none() && config.head_width * config.heads != config.d_model,
                "its heads divide d_model",
            ),
            (
                other(s.attention_bias, config.attention_bias)
                    || other(s.attention_output_bias, config.attention_output_bias)
                    || other(s.feed_forward_bias, config.feed_forward_bias)
                    || one_bias,
                "its biases",
            ),
            (windows, "its windows"),
            (
                without && s.windows != Windows::WithoutPositions,
                "layers without positions",
            ),
        ];
        reasons
            .into_iter()
            .find_map(|(wrong, why)| wrong.then_some(why))
    }

    /// The names of `parameter` in a folder.
    pub(super) fn names(
        &self,
        config: &DecoderConfig,
        parameter: &Parameter,
    ) -> Result<TensorNames> {
        let unknown =
            || Error::model("a parameter has no name in this family of models").at(&parameter.name);
        let (stem, kind) = parameter.name.rsplit_once('.').ok_or_else(unknown)?;
        let (pattern, number) = numbered(stem);
        let mut read = Vec::new();
        let mut part = None;
        if pattern == "output" {
            read.push(format!("lm_head.{kind}"));
        } else {
            let mut body = self.body.iter();
            let (_, theirs, found) = body
                .find(|(ours, _, _)| *ours == pattern)
                .ok_or_else(unknown)?;
            part = *found;
            let theirs = format!("{}.{kind}", theirs.replacen('*', &number, 1));
            read.push(format!("{}.{theirs}", self.prefix));
            // The stack alone, without the layer of logits.
            read.push(theirs);
            if pattern == "embedding" && config.tie_output {
                read.push("lm_head.weight".into());
            }
        }
        let write = vec![read[0].clone()];
        Ok(TensorNames::of_layout(
            self.layout,
            parameter,
            (read, write),
            part,
        ))
    }

    /// Whether nothing is computed with a tensor of this name, which a folder may hold.
    pub(super) fn without_use(&self, name: &str) -> bool {
        self.without_use.iter().any(|end| name.ends_with(end))
    }
}

/// Of `no_rope_layers`, or every fourth.
fn layers_without_positions(keys: &mut Keys, layers: usize) -> Result<Vec<usize>> {
    let interval = keys.size("no_rope_layer_interval")?.unwrap_or(4);
    if interval == 0 {
        return Err(keys
            .error("no_rope_layer_interval")
            .expected("at least 1")
            .found("0"));
    }
    let flags = match keys.take("no_rope_layers") {
        None => (0..layers).map(|i| (i + 1) % interval != 0).collect(),
        Some(Value::Array(flags)) if flags.len() >= layers => {
            let mut has = Vec::new();
            for flag in flags.iter().take(layers) {
                match flag.as_u64() {
                    Some(flag @ 0..=1) => has.push(flag == 1),
                    _ => {
                        return Err(keys
                            .error("no_rope_layers")
                            .expected("0 or 1 for each layer")
                            .found(flag.to_string()));
                    }
                }
            }
            has
        }
        Some(other) => {
            return Err(keys
                .error("no_rope_layers")
                .expected(format!("a list of {layers} flags"))
                .found(other.to_string()));
        }
    };
    let flags = flags.into_iter().enumerate();
    Ok(flags.filter(|(_, has)| !has).map(|(i, _)| i).collect())
}

const FULL: &str = "full_attention";
const SLIDING: &str = "sliding_attention";

/// Metadata, training, and the form of what a call returns.
const WITHOUT_EFFECT: &[&str] = &[
    "_model_name_or_path",
    "auto_map",
    "id2label",
    "initializer_range",
    "is_decoder",
    "is_llama_config",
    "keys_to_ignore_at_inference",
    "label2id",
    "model_max_length",
    "pretraining_tp",
    "problem_type",
    "transformers.js_config",
];
