//! `t5` and `mt5`: the encoder-decoders of T5, Flan-T5, mT5 and MADLAD-400 (Raffel et al. 2020; Xue et al. 2021).
//!
//! As transformers computes it:
//! - x = `E[token]`, without a scale and without positions.
//! - Pre-norm with a last norm after each stack, all of them RMS norms; no linear layer has a bias.
//! - Heads have a width of their own, `d_kv`; products of queries and keys are not scaled.
//! - A number for each head and bucket of distances is added to the scores of self-attention: one table for all layers of a stack,
//!   stored in the first. Buckets of the encoder tell both sides apart, those of the decoder look back. Attention over the encoder
//!   has none.
//! - `feed_forward_proj` is an activation, or `gated-` and one; `gated-gelu` is the tanh form.
//! - logits = h·Eᵀ/√d_model in T5's first version, which has one table for all (`scale_decoder_outputs`, or `tie_word_embeddings`);
//!   elsewhere h·Wᵀ, where W is a table of its own if the file has one.
//! - The decoder starts with the padding token; a source ends with the end token.
//!
//! Any length can be computed: `n_positions` is what the maker trained with, and not a limit.

use serde_json::{Map, Value, json};

use super::bart::{require_architecture, tables_agree};
use super::encoders::numbered;
use super::generation::SpecialIds;
use super::keys::{Keys, activation_name, activation_named, float};
use super::names::TensorNames;
use super::safetensors::TensorStore;
use crate::config::{Activation, Norm, NormKind, Positions, RelativePositions, TransformerConfig};
use crate::error::{Error, Result};
use crate::weights::Parameter;

/// What tells the two apart.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kind {
    pub(super) model_type: &'static str,
    /// The class of transformers that generates, by its name of today first.
    classes: &'static [&'static str],
    /// What the settings' absence stands for.
    vocab_size: usize,
    feed_forward: usize,
    layers: usize,
    heads: usize,
    activation: &'static str,
    /// Whether logits may be scaled.
    scales: bool,
}

pub(super) const T5: Kind = Kind {
    model_type: "t5",
    classes: &["T5ForConditionalGeneration", "T5WithLMHeadModel"],
    vocab_size: 32_128,
    feed_forward: 2048,
    layers: 6,
    heads: 8,
    activation: "relu",
    scales: true,
};

pub(super) const MT5: Kind = Kind {
    model_type: "mt5",
    classes: &["MT5ForConditionalGeneration"],
    vocab_size: 250_112,
    feed_forward: 1024,
    layers: 8,
    heads: 6,
    activation: GATED_GELU,
    scales: false,
};

/// Its `gelu` is another than elsewhere.
const GATED_GELU: &str = "gated-gelu";
const GATED: &str = "gated-";
const PROJECTION: &str = "feed_forward_proj";

/// Longest text: no table ends.
const MAX_POSITIONS: usize = 1 << 15;
const MAX_HEAD_WIDTH: usize = 1 << 12;

const SHARED: &str = "shared.weight";
const ENCODER_EMBEDDING: &str = "encoder.embed_tokens.weight";
const DECODER_EMBEDDING: &str = "decoder.embed_tokens.weight";
const OUTPUT: &str = "lm_head.weight";

impl Kind {
    /// Reads `config.json`, whose generation settings are taken already.
    pub(super) fn read(
        self,
        mut settings: Keys,
        ids: SpecialIds,
        tensors: &TensorStore,
    ) -> Result<TransformerConfig> {
        let keys = &mut settings;
        let mut c = TransformerConfig::preset("base")?;
        require_architecture(keys, self.classes)?;
        let mut size = |name: &str, absent| Ok::<_, Error>(keys.size(name)?.unwrap_or(absent));
        c.source_vocab_size = size("vocab_size", self.vocab_size)?;
        c.target_vocab_size = c.source_vocab_size;
        c.d_model = size("d_model", 512)?;
        c.head_width = Some(size("d_kv", 64)?);
        c.encoder_feed_forward = size("d_ff", self.feed_forward)?;
        c.decoder_feed_forward = c.encoder_feed_forward;
        c.encoder_layers = size("num_layers", self.layers)?;
        c.decoder_layers = size("num_decoder_layers", c.encoder_layers)?;
        c.encoder_heads = size("num_heads", self.heads)?;
        c.decoder_heads = c.encoder_heads;
        c.relative_positions = RelativePositions {
            buckets: size("relative_attention_num_buckets", 32)?,
            max_distance: size("relative_attention_max_distance", 128)?,
        };
        // In the file's own words; whatever else does not fit is told of in those of the configuration.
        if let Some((expected, found)) = c.relative_positions.misfit(1) {
            let key = match found == c.relative_positions.buckets.to_string() {
                true => "relative_attention_num_buckets",
                false => "relative_attention_max_distance",
            };
            return Err(keys.error(key).expected(expected).found(found));
        }
        if let Some(width) = c.head_width.filter(|w| !(1..=MAX_HEAD_WIDTH).contains(w)) {
            let expected = format!("1 to {MAX_HEAD_WIDTH}");
            return Err(keys
                .error("d_kv")
                .expected(expected)
                .found(width.to_string()));
        }
        (c.activation, c.gated) = self.activation(keys)?;
        c.layer_norm_eps = keys.number("layer_norm_epsilon")?.unwrap_or(1e-6);
        if !(c.layer_norm_eps > 0.0 && c.layer_norm_eps < 1.0) {
            return Err(keys
                .error("layer_norm_epsilon")
                .expected("between 0 and 1")
                .found(c.layer_norm_eps.to_string()));
        }
        c.dropout = keys.number("dropout_rate")?.unwrap_or(0.1);
        c.attention_dropout = c.dropout;
        c.activation_dropout = c.dropout;
        c.max_position_embeddings = MAX_POSITIONS;
        set_what_is_fixed(&mut c);
        c.pad_token_id = keys.id("pad_token_id")?.unwrap_or(0);
        c.eos_token_id = ids.eos.unwrap_or(1);
        c.decoder_start_token_id = ids.decoder_start.unwrap_or(c.pad_token_id);
        c.forced_bos_token_id = ids.forced_bos;
        let tied = keys.flag("tie_word_embeddings")?.unwrap_or(true);
        let scaled = keys.flag("scale_decoder_outputs")?;
        c.scale_output = self.scales && scaled.unwrap_or(tied);
        keys.only("is_encoder_decoder", &[json!(true)]);
        keys.only("is_decoder", &[json!(false)]);
        keys.only("is_gated_act", &[json!(c.gated)]);
        // What version 5 of transformers makes of `feed_forward_proj`, and writes.
        let made = keys.text("dense_act_fn")?;
        if let Some(other) = made.filter(|name| activation_named(name) != Some(c.activation)) {
            return Err(keys
                .error("dense_act_fn")
                .expected(format!(
                    "{}, as `{PROJECTION}` says",
                    activation_name(c.activation)
                ))
                .found(other));
        }
        for key in ["quantization_config", "pruned_heads"] {
            keys.only(key, &[json!({})]);
        }
        keys.pass_over_common();
        keys.pass_over(WITHOUT_EFFECT);
        settings.finish()?;
        let tables = [SHARED, DECODER_EMBEDDING, ENCODER_EMBEDDING];
        let table = tables.into_iter().find(|name| tensors.contains(name));
        c.tie_output = match table {
            // Version 5 of transformers writes that they are tied, whether they are or not. What cannot be read is told where it is
            // asked for.
            Some(table) if tensors.contains(OUTPUT) => {
                let shape = [c.target_vocab_size, c.d_model];
                tables_agree(tensors, [table, OUTPUT], &shape).unwrap_or(false)
            }
            _ => !tensors.contains(OUTPUT),
        };
        Ok(c)
    }

    fn activation(self, keys: &mut Keys) -> Result<(Activation, bool)> {
        let text = keys.text(PROJECTION)?;
        let text = text.as_deref().unwrap_or(self.activation);
        if text == GATED_GELU {
            return Ok((Activation::GeluTanh, true));
        }
        let (name, gated) = match text.strip_prefix(GATED) {
            Some(name) => (name, true),
            None => (text, false),
        };
        let activation = activation_named(name).ok_or_else(|| {
            keys.error(PROJECTION)
                .expected("an activation such as relu, or `gated-` and one")
                .found(text)
        })?;
        Ok((activation, gated))
    }

    /// `config.json`.
    pub(super) fn write(self, c: &TransformerConfig) -> Map<String, Value> {
        let activation = match (c.gated, c.activation) {
            (true, Activation::GeluTanh) => GATED_GELU.to_string(),
            // The name of which they make another function there.
            (true, Activation::Gelu) => format!("{GATED}gelu_python"),
            (true, activation) => format!("{GATED}{}", activation_name(activation)),
            (false, activation) => activation_name(activation).to_string(),
        };
        let Value::Object(map) = json!({
            "architectures": &self.classes[..1],
            "model_type": self.model_type,
            "is_encoder_decoder": true,
            "vocab_size": c.source_vocab_size,
            "d_model": c.d_model,
            "d_kv": head_width(c),
            "d_ff": c.encoder_feed_forward,
            "num_layers": c.encoder_layers,
            "num_decoder_layers": c.decoder_layers,
            "num_heads": c.encoder_heads,
            "relative_attention_num_buckets": c.relative_positions.buckets,
            "relative_attention_max_distance": c.relative_positions.max_distance,
            PROJECTION: activation,
            "layer_norm_epsilon": float(c.layer_norm_eps),
            "dropout_rate": float(c.dropout),
            // Both keys: the first is that of version 5, and the second that of older ones, where it says which table it is too.
            "scale_decoder_outputs": c.scale_output,
            "tie_word_embeddings": c.scale_output,
            "pad_token_id": c.pad_token_id,
            "eos_token_id": c.eos_token_id,
            "decoder_start_token_id": c.decoder_start_token_id,
            "dtype": "float32",
            "use_cache": true,
        }) else {
            return Map::new();
        };
        map
    }

    /// Why this family cannot say a configuration; nothing where it can.
    pub(super) fn cannot_say(self, config: &TransformerConfig) -> Option<&'static str> {
        let mut fixed = config.clone();
        set_what_is_fixed(&mut fixed);
        let c = config;
        [
            (
                *config != fixed,
                "they are pre-norm with RMS norms, relative positions and no biases, and scale neither embeddings nor scores",
            ),
            (
                c.encoder_heads != c.decoder_heads
                    || c.encoder_feed_forward != c.decoder_feed_forward,
                "encoder and decoder have heads and feed-forward blocks of one size",
            ),
            (
                c.attention_dropout != c.dropout || c.activation_dropout != c.dropout,
                "there is one dropout",
            ),
            (
                c.max_position_embeddings != MAX_POSITIONS,
                "their texts have no longest length",
            ),
            (
                c.scale_output && !(self.scales && c.tie_output),
                "logits are scaled in t5 alone, where it has one table",
            ),
        ]
        .into_iter()
        .find_map(|(wrong, why)| wrong.then_some(why))
    }
}

/// What is no setting of theirs.
fn set_what_is_fixed(c: &mut TransformerConfig) {
    c.head_width = Some(head_width(c));
    c.norm = Norm::Pre;
    c.norm_kind = NormKind::Rms;
    c.final_norm = true;
    c.embedding_norm = false;
    c.bias = false;
    c.output_bias = false;
    c.scale_embedding = false;
    c.scale_attention = false;
    c.positions = Positions::Relative;
    c.position_offset = 0;
    c.share_embeddings = true;
}

fn head_width(c: &TransformerConfig) -> usize {
    c.head_width.unwrap_or(c.d_model / c.encoder_heads.max(1))
}

/// The names of `parameter` in a folder.
pub(super) fn names(c: &TransformerConfig, parameter: &Parameter) -> Result<TensorNames> {
    let unknown =
        || Error::model("a parameter has no name in this family of models").at(&parameter.name);
    let table = |read: &[&str], write: &[&str]| {
        let [read, write] = [read, write].map(|n| n.iter().map(ToString::to_string).collect());
        Ok(TensorNames::of_pytorch(parameter, read, write))
    };
    let tables = [SHARED, ENCODER_EMBEDDING, DECODER_EMBEDDING, OUTPUT];
    match (parameter.name.as_str(), c.tie_output) {
        ("embedding.weight", true) if c.scale_output => return table(&tables, &[SHARED]),
        // Older versions look for a table of its own where logits are not scaled.
        ("embedding.weight", true) => return table(&tables, &[SHARED, OUTPUT]),
        ("embedding.weight", false) => return table(&tables[..3], &[SHARED]),
        ("output.weight", _) => return table(&[OUTPUT], &[OUTPUT]),
        _ => (),
    }
    let (stem, _) = parameter.name.rsplit_once('.').ok_or_else(unknown)?;
    let (pattern, number) = numbered(stem);
    let (side, part) = pattern.split_once('.').ok_or_else(unknown)?;
    let part = part.strip_prefix("layers.*.").unwrap_or(part);
    // The feed-forward block is the last of two sublayers, or of three.
    let last = if side == "decoder" { 2 } else { 1 };
    let of_layer = |sublayer: usize, name: &str| format!("block.{number}.layer.{sublayer}.{name}");
    let theirs = match part.split_once('.') {
        None => match part {
            "norm" => "final_layer_norm".into(),
            "relative_positions" => {
                "block.0.layer.0.SelfAttention.relative_attention_bias".to_string()
            }
            "self_attention_norm" => of_layer(0, "layer_norm"),
            "cross_attention_norm" => of_layer(1, "layer_norm"),
            "feed_forward_norm" => of_layer(last, "layer_norm"),
            _ => return Err(unknown()),
        },
        Some((block, linear)) => {
            let theirs = match (block, linear) {
                ("feed_forward", "gate") => "wi_0",
                ("feed_forward", "inner") if c.gated => "wi_1",
                ("feed_forward", "inner") => "wi",
                ("feed_forward", "outer") => "wo",
                (_, "query") => "q",
                (_, "key") => "k",
                (_, "value") => "v",
                (_, "output") => "o",
                _ => return Err(unknown()),
            };
            let (sublayer, block) = match block {
                "self_attention" => (0, "SelfAttention"),
                "cross_attention" => (1, "EncDecAttention"),
                "feed_forward" => (last, "DenseReluDense"),
                _ => return Err(unknown()),
            };
            of_layer(sublayer, &format!("{block}.{theirs}"))
        }
    };
    let names = vec![format!("{side}.{theirs}.weight")];
    Ok(TensorNames::of_pytorch(parameter, names.clone(), names))
}

/// Whether nothing is computed with a tensor of this name, which a folder may hold: numbers of distances for attention over the
/// encoder, which first versions stored.
pub(super) fn without_use(name: &str) -> bool {
    name.ends_with("EncDecAttention.relative_attention_bias.weight")
}

/// Metadata, training, and the form of what a call returns.
const WITHOUT_EFFECT: &[&str] = &[
    "bos_token_id",
    "classifier_dropout",
    "finetuning_task",
    "id2label",
    "initializer_factor",
    "label2id",
    "model_type",
    "n_positions",
    "prefix",
    "problem_type",
];
