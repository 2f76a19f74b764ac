//! `llama`: Llama 1 to 3, SmolLM and SmolLM2, TinyLlama, and many others.
//!
//! As transformers computes it: RMS norms, rotary positions, a gated feed-forward block. Heads of queries may share those of keys
//! and values, and a head may have another width than d_model divided by their number.

use super::{Choice, DecoderFamily, Name, Settings, Windows};
use crate::config::{Activation, NormKind};
use crate::files::LinearLayout;

pub(in crate::formats) const LLAMA: DecoderFamily = DecoderFamily {
    model_type: "llama",
    class: "LlamaForCausalLM",
    settings: SETTINGS,
    prefix: "model",
    body: BODY,
    layout: LinearLayout::OutIn,
    without_use: &[".rotary_emb.inv_freq"],
};

/// Those of Llama, which most of its descendants share.
pub(super) const SETTINGS: Settings = Settings {
    vocab_size: 32000,
    d_model: ("hidden_size", 4096),
    layers: ("num_hidden_layers", 32),
    heads: ("num_attention_heads", 32),
    kv_heads: Some(("num_key_value_heads", None)),
    head_width: Some(("head_dim", None)),
    feed_forward: ("intermediate_size", Some(11008)),
    activation: ("hidden_act", Activation::Swish),
    gated: true,
    norm: NormKind::Rms,
    norm_eps: ("rms_norm_eps", 1e-6),
    max_positions: ("max_position_embeddings", 2048),
    attention_bias: Choice::Setting("attention_bias"),
    attention_output_bias: Choice::Setting("attention_bias"),
    feed_forward_bias: Choice::Setting("mlp_bias"),
    query_key_norm: false,
    rotary_base: Some(10_000.0),
    windows: Windows::None,
    tie_output: false,
    dropout: &[],
    attention_dropout: "attention_dropout",
    bos_token_id: Some(1),
    eos_token_id: Some(2),
    fixed: &[("rope_interleaved", false)],
    without_effect: &[],
};

/// As [`SETTINGS`].
pub(super) const BODY: &[Name] = &[
    ("embedding", "embed_tokens", None),
    (
        "decoder.layers.*.self_attention.query",
        "layers.*.self_attn.q_proj",
        None,
    ),
    (
        "decoder.layers.*.self_attention.key",
        "layers.*.self_attn.k_proj",
        None,
    ),
    (
        "decoder.layers.*.self_attention.value",
        "layers.*.self_attn.v_proj",
        None,
    ),
    (
        "decoder.layers.*.self_attention.output",
        "layers.*.self_attn.o_proj",
        None,
    ),
    // Qwen 3's.
    (
        "decoder.layers.*.self_attention.query_norm",
        "layers.*.self_attn.q_norm",
        None,
    ),
    (
        "decoder.layers.*.self_attention.key_norm",
        "layers.*.self_attn.k_norm",
        None,
    ),
    (
        "decoder.layers.*.self_attention_norm",
        "layers.*.input_layernorm",
        None,
    ),
    (
        "decoder.layers.*.feed_forward.gate",
        "layers.*.mlp.gate_proj",
        None,
    ),
    (
        "decoder.layers.*.feed_forward.inner",
        "layers.*.mlp.up_proj",
        None,
    ),
    (
        "decoder.layers.*.feed_forward.outer",
        "layers.*.mlp.down_proj",
        None,
    ),
    (
        "decoder.layers.*.feed_forward_norm",
        "layers.*.post_attention_layernorm",
        None,
    ),
    ("decoder.norm", "norm", None),
];
