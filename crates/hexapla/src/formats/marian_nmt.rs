//! Models as Marian NMT itself writes them: an `.npz` whose array `special:model.yml` holds the settings. They are read, not
//! written.
//!
//! As Marian computes it:
//! - x = `E[token]`·√d_model + position. Positions count from 0; in a vector of width d the entries k < d/2 are
//!   sin(pos·f_k) and the entries d/2 + k the cosines, f_k = exp(−k·ln 10000 / (d/2 − 1)). (transformers' `marian` has
//!   other angles, 10000^(−2k/d).) Layer norm has eps 1e-6 (not a setting).
//! - The decoder starts with a vector of zeros. Here that is the row of a token that is added behind the vocabulary, as
//!   transformers does it; it is never produced.
//! - Where the layer norm stands is a list of letters: `n` norm, `a` residual, `d` dropout. Before each sublayer
//!   (`transformer-preprocess`) and behind it (`transformer-postprocess`); `dan` behind is post-norm, `n` before and `da`
//!   behind is pre-norm. `-emb` stands behind the embedding, `-top` behind each stack.
//! - In pre-norm, versions before 1.12 do not norm the keys and values of self-attention, and are refused. (1.12 trains with
//!   normed ones, as it is computed here; its own decoder norms them in its first step alone.)
//! - A weight lies `[in, out]`, an embedding `[vocab, d_model]`, a bias `[1, out]`. Layers count from 1.
//! - `gelu` is exact (error function) since 1.12, and was x·sigmoid(1.702·x).
//! - `</s>` is 0 and `<unk>` 1; the latter is not produced.

use serde_json::{Value, json};

use super::generation::GenerationDefaults;
use super::keys::Keys;
use super::names::TensorNames;
use super::safetensors::TensorStore;
use crate::config::{Activation, EarlyStopping, Norm, Positions, TransformerConfig};
use crate::error::{Error, Result};
use crate::files::{Folder, MarianFiles, read_yaml};
use crate::weights::{Kind, Parameter};

const SETTINGS: &str = "special:model.yml";
const LAYER_NORM_EPS: f32 = 1e-6;
/// Marian has no longest text.
const MAX_POSITIONS: usize = 1024;
/// The version that norms the keys and values of pre-norm self-attention, and whose `gelu` is exact; before it was another.
const CHANGED_IN: [u32; 2] = [1, 12];
const EOS_ID: u32 = 0;
const UNKNOWN_ID: u32 = 1;

const SHARED: &str = "Wemb";
const SOURCE: &str = "encoder_Wemb";
const TARGET: &str = "decoder_Wemb";
/// The output layer's table, `[vocab, d_model]`; formerly its weight, `[d_model, vocab]`.
const OUTPUT_TABLE: &str = "decoder_ff_logit_out_Wt";
const OUTPUT_WEIGHT: &str = "decoder_ff_logit_out_W";
const OUTPUT_BIAS: &str = "decoder_ff_logit_out_b";

/// A model: its settings, how it decodes, and its tensors.
pub(super) struct MarianModel {
    pub(super) config: TransformerConfig,
    pub(super) generation: GenerationDefaults,
    pub(super) tensors: TensorStore,
}

/// Reads the model that `files` of `folder` are.
pub(super) fn read(folder: &Folder, files: &MarianFiles) -> Result<MarianModel> {
    if !files.weights.ends_with(".npz") {
        return Err(Error::model("the weights cannot be used")
            .at(folder.path_of(&files.weights).display().to_string())
            .expected("an `.npz`")
            .found("another file")
            .hint("Marian's binary files are made from an `.npz`: use that one"));
    }
    let mut tensors = TensorStore::open_in(folder.clone(), &files.weights)?;
    let mut keys = read_settings(&tensors)?;
    let config = read_config(&mut keys, &tensors)?;
    keys.finish()?;
    add_start_token(&mut tensors)?;
    let start = config.decoder_start_token_id;
    let generation = GenerationDefaults {
        num_beams: files.beam_size,
        length_penalty: files.normalize,
        max_length: Some(MAX_POSITIONS),
        early_stopping: EarlyStopping::Shrinking,
        suppressed_ids: vec![UNKNOWN_ID, start],
        ..GenerationDefaults::default()
    };
    Ok(MarianModel {
        config,
        generation,
        tensors,
    })
}

fn read_settings(tensors: &TensorStore) -> Result<Keys> {
    let location = format!("{}, array `{SETTINGS}`", tensors.path().display());
    let damaged = |(expected, found): (String, String)| {
        Error::model("the settings cannot be read")
            .at(location.clone())
            .expected(expected)
            .found(found)
            .hint("is this a model of Marian's? Older ones (`amun`, `nematus`) are not read")
    };
    let Some(shape) = tensors.shape(SETTINGS) else {
        return Err(damaged((
            "Marian's settings".into(),
            "no such array".into(),
        )));
    };
    let numbers = tensors.read_small(SETTINGS, shape)?;
    let bytes: Vec<u8> = numbers.iter().map(|x| *x as i8 as u8).collect();
    let text = String::from_utf8_lossy(&bytes);
    match read_yaml(text.trim_end_matches('\0')).map_err(damaged)? {
        Value::Object(map) => Ok(Keys::of_map(location, map)),
        _ => Err(damaged(("a mapping".into(), "something else".into()))),
    }
}

/// Major and minor number of the Marian that wrote the model; 0.0 where it does not say.
fn version(keys: &mut Keys) -> Result<[u32; 2]> {
    let text = keys.text("version")?.unwrap_or_default();
    let mut numbers = text.trim_start_matches('v').split('.');
    let mut number = || numbers.next()?.parse().ok();
    Ok([number().unwrap_or(0), number().unwrap_or(0)])
}

/// Letters of operations without dropout.
fn operations(keys: &mut Keys, key: &str) -> Result<String> {
    Ok(keys.text(key)?.unwrap_or_default().replace('d', ""))
}

fn read_config(keys: &mut Keys, tensors: &TensorStore) -> Result<TransformerConfig> {
    let mut config = TransformerConfig::preset("base")?;
    let version = version(keys)?;
    keys.only("type", &[json!("transformer")]);
    keys.only("transformer-decoder-autoreg", &[json!("self-attention")]);
    refuse_other_models(keys);
    let d_model = required(keys, "dim-emb")?;
    config.d_model = d_model;
    config.encoder_layers = required(keys, "enc-depth")?;
    config.decoder_layers = required(keys, "dec-depth")?;
    config.encoder_heads = required(keys, "transformer-heads")?;
    config.decoder_heads = config.encoder_heads;
    config.encoder_feed_forward = required(keys, "transformer-dim-ffn")?;
    let own = keys.size("transformer-decoder-dim-ffn")?;
    let own = own.filter(|width| *width > 0);
    config.decoder_feed_forward = own.unwrap_or(config.encoder_feed_forward);
    config.activation = match keys.text("transformer-ffn-activation")?.as_deref() {
        None | Some("swish") => Activation::Swish,
        Some("relu") => Activation::Relu,
        Some("gelu") if version >= CHANGED_IN => Activation::Gelu,
        Some("gelu") => Activation::GeluSigmoid,
        Some(other) => {
            return Err(keys
                .error("transformer-ffn-activation")
                .expected("swish, relu or gelu")
                .found(other));
        }
    };
    let before = operations(keys, "transformer-preprocess")?;
    let behind = operations(keys, "transformer-postprocess")?;
    config.norm = match (before.as_str(), behind.as_str()) {
        ("", "an") => Norm::Post,
        ("n", "a") if version >= CHANGED_IN => Norm::Pre,
        ("n", "a") => {
            let [major, minor] = CHANGED_IN;
            return Err(keys
                .error("transformer-preprocess")
                .expected(format!(
                    "nothing, or a model of Marian {major}.{minor} or later"
                ))
                .found(format!("`n` of version {}.{}", version[0], version[1]))
                .hint("that version norms no keys and values, which is not computed here"));
        }
        _ => {
            return Err(keys
                .error("transformer-postprocess")
                .expected("`dan`, or `da` after `transformer-preprocess: n`")
                .found(format!("`{behind}` after `{before}`")));
        }
    };
    let mut norm = |key: &str| match operations(keys, key)?.as_str() {
        "" => Ok(false),
        "n" => Ok(true),
        other => Err(keys.error(key).expected("`d`, `n` or nothing").found(other)),
    };
    config.embedding_norm = norm("transformer-postprocess-emb")?;
    config.final_norm = norm("transformer-postprocess-top")?;
    config.layer_norm_eps = LAYER_NORM_EPS;
    config.positions = Positions::SinusoidalHalvesFairseq;
    config.position_offset = 0;
    config.max_position_embeddings = MAX_POSITIONS;
    config.scale_embedding = true;
    config.share_embeddings = tensors.contains(SHARED);
    let rows = |name: &str| match tensors.shape(name) {
        Some([rows, _]) => Ok(*rows),
        other => Err(Error::model("an embedding is missing")
            .at(format!("{}, array `{name}`", tensors.path().display()))
            .expected(format!("[vocabulary, {d_model}]"))
            .found(other.map_or("nothing".into(), |shape| format!("{shape:?}")))),
    };
    let [source, target] = match config.share_embeddings {
        true => [SHARED; 2],
        false => [SOURCE, TARGET],
    };
    // Each has one token more than Marian's.
    config.source_vocab_size = rows(source)? + 1;
    config.target_vocab_size = rows(target)? + 1;
    config.tie_output = !tensors.contains(OUTPUT_TABLE) && !tensors.contains(OUTPUT_WEIGHT);
    config.output_bias = tensors.contains(OUTPUT_BIAS);
    config.eos_token_id = EOS_ID;
    config.decoder_start_token_id = config.target_vocab_size as u32 - 1;
    config.pad_token_id = config.decoder_start_token_id;
    config.forced_bos_token_id = None;
    Ok(config)
}

fn required(keys: &mut Keys, key: &str) -> Result<usize> {
    let value = keys.size(key)?;
    value.ok_or_else(|| keys.error(key).expected("a size").found("none"))
}

/// What other models have, and what the tensors say anyway.
fn refuse_other_models(keys: &mut Keys) {
    for key in [
        "right-left",
        "transformer-disable-position-embeddings",
        "transformer-no-affine",
        "transformer-no-bias",
        "transformer-no-projection",
        "transformer-pool",
        "transformer-rnn-projection",
        "ulr",
    ] {
        keys.only(key, &[json!(false)]);
    }
    keys.only("transformer-attention-mask", &[json!("default")]);
    keys.only("transformer-ffn-depth", &[json!(2)]);
    keys.only("transformer-decoder-ffn-depth", &[json!(0), json!(2)]);
    keys.only("transformer-tied-layers", &[json!([])]);
    keys.only("input-types", &[json!([]), json!(["sequence", "sequence"])]);
    keys.only("lemma-dim-emb", &[json!(0)]);
    keys.only("lemma-dependency", &[json!("")]);
    keys.pass_over(&[
        "bert-train-type-embeddings",
        "bert-type-vocab-size",
        "dec-cell",
        "dec-cell-base-depth",
        "dec-cell-high-depth",
        "dim-rnn",
        "dim-vocabs",
        "enc-cell",
        "enc-cell-depth",
        "enc-type",
        "factors-combine",
        "factors-dim-emb",
        "layer-normalization",
        "output-omit-bias",
        "separator-symbol",
        "skip",
        "special-vocab",
        "tied-embeddings",
        "tied-embeddings-all",
        "tied-embeddings-src",
        "transformer-aan-activation",
        "transformer-aan-depth",
        "transformer-aan-nogate",
        "transformer-alibi-shift",
        "transformer-alibi-trainable",
        "transformer-depth-scaling",
        "transformer-dim-aan",
        "transformer-guided-alignment-layer",
        // Marian reads positions from an array; where there is none they are sinusoidal, whatever this says.
        "transformer-train-position-embeddings",
        "ulr-dim-emb",
        "ulr-trainable-transformation",
    ]);
}

/// A token behind each vocabulary whose vector is zero.
fn add_start_token(tensors: &mut TensorStore) -> Result<()> {
    for (name, axis) in [
        (SHARED, 0),
        (SOURCE, 0),
        (TARGET, 0),
        (OUTPUT_TABLE, 0),
        (OUTPUT_WEIGHT, 1),
        (OUTPUT_BIAS, 1),
    ] {
        if tensors.contains(name) {
            tensors.add_zeros(name, axis)?;
        }
    }
    Ok(())
}

/// The name of `parameter` in an `.npz`.
pub(super) fn names(
    config: &TransformerConfig,
    parameter: &Parameter,
    tensors: Option<&TensorStore>,
) -> Result<TensorNames> {
    let unknown = || Error::model("a parameter has no name in Marian's files").at(&parameter.name);
    let parts: Vec<&str> = parameter.name.split('.').collect();
    let norm = |kind: &str| match kind {
        "weight" => "ln_scale",
        _ => "ln_bias",
    };
    let order = match config.norm {
        Norm::Pre => "_pre",
        Norm::Post => "",
    };
    let theirs = match parts.as_slice() {
        ["embedding", "weight"] => SHARED.to_string(),
        ["source_embedding", "weight"] => SOURCE.into(),
        ["target_embedding", "weight"] => TARGET.into(),
        ["output", "bias"] => OUTPUT_BIAS.into(),
        ["output", "weight"] => match tensors.is_some_and(|t| t.contains(OUTPUT_WEIGHT)) {
            true => OUTPUT_WEIGHT.into(),
            false => OUTPUT_TABLE.into(),
        },
        [side, "norm", kind] => format!("{side}_top_{}", norm(kind)),
        [side, "embedding_norm", kind] => format!("{side}_emb_{}_pre", norm(kind)),
        [side, "layers", number, block, inner @ ..] => {
            let number: usize = number.parse().map_err(|_| unknown())?;
            let letter = |kind: &str| if kind == "weight" { 'W' } else { 'b' };
            let rest = match (*block, inner) {
                ("self_attention_norm", [kind]) => format!("self_Wo_{}{order}", norm(kind)),
                ("cross_attention_norm", [kind]) => format!("context_Wo_{}{order}", norm(kind)),
                ("feed_forward_norm", [kind]) => format!("ffn_ffn_{}{order}", norm(kind)),
                ("feed_forward", ["inner", kind]) => format!("ffn_{}1", letter(kind)),
                ("feed_forward", ["outer", kind]) => format!("ffn_{}2", letter(kind)),
                ("self_attention", [which, kind]) => {
                    format!("self_{}{}", letter(kind), &which[..1])
                }
                ("cross_attention", [which, kind]) => {
                    format!("context_{}{}", letter(kind), &which[..1])
                }
                _ => return Err(unknown()),
            };
            format!("{side}_l{}_{rest}", number + 1)
        }
        _ => return Err(unknown()),
    };
    let transposed = theirs == OUTPUT_WEIGHT;
    let shape = match (parameter.kind, parameter.shape.as_slice()) {
        (Kind::Weight | Kind::Table(_), [rows, columns]) if transposed => vec![*columns, *rows],
        (_, [width]) => vec![1, *width],
        (_, shape) => shape.to_vec(),
    };
    Ok(TensorNames {
        read: vec![theirs],
        write: Vec::new(),
        shape,
        transposed,
        part: None,
        interleaved: None,
    })
}
