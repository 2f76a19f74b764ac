//! What `bart`, `mbart`, `marian` and `m2m_100` have in common: all descend from BART's code and share its names.
//!
//! A linear layer's weight lies `[out, in]` there and `[in, out]` here; embeddings lie `[vocab, d_model]` in both.
//! Which tables are one and the same, by `share` (`share_encoder_decoder_embeddings`; always true for `m2m_100`) and
//! `tie` (`tie_word_embeddings`):
//!
//! | share | tie | what transformers computes with |
//! | --- | --- | --- |
//! | yes | yes | one table, `model.shared.weight`; any alias of it may be the one in the file |
//! | no | yes | `model.encoder.embed_tokens`; `model.decoder.embed_tokens`, which is also the output (Marian only) |
//! | no | no | three tables (Marian only) |
//! | yes | no | before version 5 `model.shared` for both sides and `lm_head`; since then three tables of which `model.shared` is none |
//!
//! The last row is read either way, by what the file holds, and is written so that both readings agree.

use serde_json::{Map, Value, json};

use super::keys::{Keys, activation_name, float};
use super::names::TensorNames;
use super::safetensors::TensorStore;
use crate::config::{Activation, TransformerConfig};
use crate::error::{Error, Result};
use crate::weights::Parameter;

pub(super) const SHARED: &str = "model.shared.weight";
pub(super) const ENCODER_EMBEDDING: &str = "model.encoder.embed_tokens.weight";
pub(super) const DECODER_EMBEDDING: &str = "model.decoder.embed_tokens.weight";
pub(super) const OUTPUT: &str = "lm_head.weight";
pub(super) const OUTPUT_BIAS: &str = "final_logits_bias";

/// Both families' layer norms have no setting for it.
pub(super) const LAYER_NORM_EPS: f32 = 1e-5;

/// The settings of both families in their own terms, with the defaults of the class in transformers.
pub(super) struct Defaults {
    pub(super) vocab_size: usize,
    pub(super) activation: Activation,
    pub(super) attention_dropout: f32,
    pub(super) scale_embedding: bool,
    pub(super) pad_token_id: u32,
    pub(super) eos_token_id: u32,
    pub(super) decoder_start_token_id: u32,
    /// Positions are a table of the file, and embeddings are normed.
    pub(super) trained_positions: bool,
}

/// Fills in what both families name alike. Vocabularies, special ids, norms and positions are the caller's.
pub(super) fn read_sizes(
    keys: &mut Keys,
    defaults: &Defaults,
    config: &mut TransformerConfig,
) -> Result<()> {
    let layers = aliased(keys, "encoder_layers", "num_hidden_layers")?;
    let heads = aliased(keys, "encoder_attention_heads", "num_attention_heads")?;
    config.d_model = aliased(keys, "d_model", "hidden_size")?.unwrap_or(1024);
    config.encoder_layers = layers.unwrap_or(12);
    config.decoder_layers = keys.size("decoder_layers")?.unwrap_or(12);
    config.encoder_heads = heads.unwrap_or(16);
    config.decoder_heads = keys.size("decoder_attention_heads")?.unwrap_or(16);
    config.encoder_feed_forward = keys.size("encoder_ffn_dim")?.unwrap_or(4096);
    config.decoder_feed_forward = keys.size("decoder_ffn_dim")?.unwrap_or(4096);
    config.max_position_embeddings = keys.size("max_position_embeddings")?.unwrap_or(1024);
    config.source_vocab_size = keys.size("vocab_size")?.unwrap_or(defaults.vocab_size);
    config.target_vocab_size = config.source_vocab_size;
    config.activation = keys.activation("activation_function", defaults.activation)?;
    config.scale_embedding = keys
        .flag("scale_embedding")?
        .unwrap_or(defaults.scale_embedding);
    config.dropout = keys.number("dropout")?.unwrap_or(0.1);
    config.attention_dropout = keys
        .number("attention_dropout")?
        .unwrap_or(defaults.attention_dropout);
    config.activation_dropout = keys.number("activation_dropout")?.unwrap_or(0.0);
    config.layer_norm_eps = LAYER_NORM_EPS;
    config.pad_token_id = keys.id("pad_token_id")?.unwrap_or(defaults.pad_token_id);
    refuse_other_architectures(keys, defaults.trained_positions)
}

/// transformers lets the alias override the name, so two values are a contradiction.
fn aliased(keys: &mut Keys, name: &str, alias: &str) -> Result<Option<usize>> {
    match (keys.size(name)?, keys.size(alias)?) {
        (Some(a), Some(b)) if a != b => Err(keys
            .error(alias)
            .expected(format!("{a}, as `{name}` says"))
            .found(b.to_string())),
        (value, other) => Ok(value.or(other)),
    }
}

fn refuse_other_architectures(keys: &mut Keys, trained_positions: bool) -> Result<()> {
    keys.only("is_encoder_decoder", &[json!(true)]);
    for key in ["is_decoder", "add_cross_attention", "tie_encoder_decoder"] {
        keys.only(key, &[json!(false)]);
    }
    keys.only("static_position_embeddings", &[json!(!trained_positions)]);
    keys.only("normalize_embedding", &[json!(trained_positions)]);
    keys.only("pruned_heads", &[json!({})]);
    for key in [
        "quantization_config",
        "per_layer_config",
        "cross_attention_hidden_size",
    ] {
        keys.only(key, &[]);
    }
    keys.pass_over_common();
    keys.pass_over(WITHOUT_EFFECT);
    Ok(())
}

/// Metadata, training, other tasks' heads, and how the numbers are stored or returned.
const WITHOUT_EFFECT: &[&str] = &[
    "author",
    "auto_map",
    "base_model",
    "cls_token_id",
    "datasets",
    "description",
    "language",
    "language_pair",
    "languages",
    "library_name",
    "license",
    "mask_token_id",
    "metrics",
    "model_max_length",
    "model_name",
    "name_or_path",
    "pipeline_tag",
    "source_lang",
    "source_language",
    "src_lang",
    "tags",
    "target_lang",
    "target_language",
    "tgt_lang",
    "version",
    "_num_labels",
    "add_bias_logits",
    "bos_token_id",
    "classif_dropout",
    "classifier_dropout",
    "decoder_layerdrop",
    "encoder_layerdrop",
    "extra_pos_embeddings",
    "finetuning_task",
    "grapheme_chars",
    "id2label",
    "init_std",
    "label2id",
    "num_labels",
    "phoneme_chars",
    "prefix",
    "problem_type",
    "tf_legacy_loss",
    "tie_last_hidden_states",
];

/// `architectures`, where present, must name one of `classes`.
pub(super) fn require_architecture(keys: &mut Keys, classes: &[&str]) -> Result<()> {
    let is_one = |name: &Value| classes.iter().any(|class| name == class);
    match keys.take("architectures") {
        Some(Value::Array(names)) if !names.iter().any(is_one) => Err(keys
            .error("architectures")
            .expected(classes.join(" or "))
            .found(Value::Array(names).to_string())),
        _ => Ok(()),
    }
}

/// What both families name alike, to write.
pub(super) fn write_sizes(
    config: &TransformerConfig,
    model_type: &str,
    class: &str,
) -> Map<String, Value> {
    let Value::Object(map) = json!({
        "architectures": [class],
        "model_type": model_type,
        "is_encoder_decoder": true,
        "vocab_size": config.source_vocab_size,
        "d_model": config.d_model,
        "encoder_layers": config.encoder_layers,
        "decoder_layers": config.decoder_layers,
        "num_hidden_layers": config.encoder_layers,
        "encoder_attention_heads": config.encoder_heads,
        "decoder_attention_heads": config.decoder_heads,
        "encoder_ffn_dim": config.encoder_feed_forward,
        "decoder_ffn_dim": config.decoder_feed_forward,
        "encoder_layerdrop": 0.0,
        "decoder_layerdrop": 0.0,
        "activation_function": activation_name(config.activation),
        "dropout": float(config.dropout),
        "attention_dropout": float(config.attention_dropout),
        "activation_dropout": float(config.activation_dropout),
        "max_position_embeddings": config.max_position_embeddings,
        "scale_embedding": config.scale_embedding,
        "tie_word_embeddings": config.tie_output,
        "pad_token_id": config.pad_token_id,
        "bos_token_id": null,
        "eos_token_id": config.eos_token_id,
        "decoder_start_token_id": config.decoder_start_token_id,
        "dtype": "float32",
        "use_cache": true,
    }) else {
        return Map::new();
    };
    map
}

/// Whether the two sides use one table, in a folder that says `share` but not `tie` (see the module).
pub(super) fn sides_agree(tensors: &TensorStore, shape: &[usize]) -> Result<bool> {
    if !(tensors.contains(ENCODER_EMBEDDING) && tensors.contains(DECODER_EMBEDDING)) {
        return Ok(true);
    }
    tables_agree(tensors, [ENCODER_EMBEDDING, DECODER_EMBEDDING], shape)
}

/// Whether two tables hold the same numbers.
pub(super) fn tables_agree(
    tensors: &TensorStore,
    names: [&str; 2],
    shape: &[usize],
) -> Result<bool> {
    const PIECE: usize = 1 << 20;
    let mut a = tensors.reader(names[0], shape)?;
    let mut b = tensors.reader(names[1], shape)?;
    let mut left: usize = shape.iter().product();
    let mut read = [Vec::new(), Vec::new()];
    while left > 0 {
        let count = left.min(PIECE);
        a.read(count, &mut read[0])?;
        b.read(count, &mut read[1])?;
        if read[0] != read[1] {
            return Ok(false);
        }
        left -= count;
    }
    Ok(true)
}

/// The names of `parameter` in a folder. `tensors` is the folder that is read; without one they are for writing.
pub(super) fn names(
    config: &TransformerConfig,
    parameter: &Parameter,
    tensors: Option<&TensorStore>,
) -> Result<TensorNames> {
    let both_sides = tensors.is_none_or(|t| t.contains(ENCODER_EMBEDDING));
    let owned = |names: &[&str]| {
        names
            .iter()
            .map(|name| (*name).to_string())
            .collect::<Vec<_>>()
    };
    let table = |read: &[&str], write: &[&str]| TensorNames {
        read: owned(read),
        write: owned(write),
        shape: parameter.shape.clone(),
        transposed: false,
        part: None,
        interleaved: None,
    };
    Ok(match (parameter.name.as_str(), config.tie_output) {
        ("embedding.weight", true) => table(
            &[SHARED, ENCODER_EMBEDDING, DECODER_EMBEDDING, OUTPUT],
            &[SHARED],
        ),
        ("embedding.weight", false) if both_sides => table(
            &[ENCODER_EMBEDDING, DECODER_EMBEDDING],
            &[SHARED, ENCODER_EMBEDDING, DECODER_EMBEDDING],
        ),
        ("embedding.weight", false) => table(&[SHARED], &[SHARED]),
        ("source_embedding.weight", _) => table(&[ENCODER_EMBEDDING], &[ENCODER_EMBEDDING]),
        ("target_embedding.weight", true) => {
            table(&[DECODER_EMBEDDING, OUTPUT], &[DECODER_EMBEDDING])
        }
        ("target_embedding.weight", false) => table(&[DECODER_EMBEDDING], &[DECODER_EMBEDDING]),
        ("output.weight", _) => table(&[OUTPUT], &[OUTPUT]),
        ("output.bias", _) => TensorNames {
            shape: vec![1, config.target_vocab_size],
            ..table(&[OUTPUT_BIAS], &[OUTPUT_BIAS])
        },
        (name, _) => layer_names(name, parameter)?,
    })
}

/// A parameter of a layer, or a final norm: `encoder.layers.0.feed_forward.inner.weight` is
/// `model.encoder.layers.0.fc1.weight`.
fn layer_names(name: &str, parameter: &Parameter) -> Result<TensorNames> {
    let unknown = || Error::model("a parameter has no name in this family of models").at(name);
    let parts: Vec<&str> = name.split('.').collect();
    let theirs = match parts.as_slice() {
        [side @ ("encoder" | "decoder"), "norm", kind] => format!("model.{side}.layer_norm.{kind}"),
        [side @ ("encoder" | "decoder"), "embedding_norm", kind] => {
            format!("model.{side}.layernorm_embedding.{kind}")
        }
        ["source_positions", "weight"] => "model.encoder.embed_positions.weight".into(),
        ["target_positions", "weight"] => "model.decoder.embed_positions.weight".into(),
        [
            side @ ("encoder" | "decoder"),
            "layers",
            number,
            block,
            inner @ ..,
            kind,
        ] => {
            let block = match (*block, inner) {
                ("self_attention_norm", []) => "self_attn_layer_norm".to_string(),
                ("cross_attention_norm", []) => "encoder_attn_layer_norm".to_string(),
                ("feed_forward_norm", []) => "final_layer_norm".to_string(),
                ("feed_forward", ["inner"]) => "fc1".to_string(),
                ("feed_forward", ["outer"]) => "fc2".to_string(),
                ("self_attention", [which]) => {
                    format!("self_attn.{}", projection(which).ok_or_else(unknown)?)
                }
                ("cross_attention", [which]) => {
                    format!("encoder_attn.{}", projection(which).ok_or_else(unknown)?)
                }
                _ => return Err(unknown()),
            };
            format!("model.{side}.layers.{number}.{block}.{kind}")
        }
        _ => return Err(unknown()),
    };
    let names = vec![theirs];
    Ok(TensorNames::of_pytorch(parameter, names.clone(), names))
}

fn projection(which: &str) -> Option<&'static str> {
    Some(match which {
        "query" => "q_proj",
        "key" => "k_proj",
        "value" => "v_proj",
        "output" => "out_proj",
        _ => return None,
    })
}

/// Tensors that a folder may hold although nothing is computed with them: the tables of sinusoidal positions, which
/// are always computed anew, and a shared table that both sides have a copy of.
pub(super) fn without_use(name: &str) -> bool {
    matches!(
        name,
        SHARED
            | "model.encoder.embed_positions.weight"
            | "model.decoder.embed_positions.weight"
            | "model.encoder.embed_positions.weights"
            | "model.decoder.embed_positions.weights"
    )
}
