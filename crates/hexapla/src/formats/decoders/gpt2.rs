//! `gpt2`: GPT-2, DistilGPT-2 and what nanoGPT trains.
//!
//! As transformers computes it: layer norms, a trained table of positions, biases everywhere. Its linear layers lie in the file as
//! `[in, out]`, and queries, keys and values side by side in one.

use super::{Choice, DecoderFamily, Name, Settings, Windows};
use crate::config::{Activation, NormKind};
use crate::files::LinearLayout;
use crate::formats::names::Part;

pub(in crate::formats) const GPT2: DecoderFamily = DecoderFamily {
    model_type: "gpt2",
    class: "GPT2LMHeadModel",
    settings: Settings {
        vocab_size: 50257,
        d_model: ("n_embd", 768),
        layers: ("n_layer", 12),
        heads: ("n_head", 12),
        kv_heads: None,
        head_width: None,
        feed_forward: ("n_inner", None),
        activation: ("activation_function", Activation::GeluTanh),
        gated: false,
        norm: NormKind::Layer,
        norm_eps: ("layer_norm_epsilon", 1e-5),
        max_positions: ("n_positions", 1024),
        attention_bias: Choice::Always,
        attention_output_bias: Choice::Always,
        feed_forward_bias: Choice::Always,
        query_key_norm: false,
        rotary_base: None,
        windows: Windows::None,
        tie_output: true,
        dropout: &["embd_pdrop", "resid_pdrop"],
        attention_dropout: "attn_pdrop",
        bos_token_id: Some(50256),
        eos_token_id: Some(50256),
        fixed: &[
            ("scale_attn_weights", true),
            ("scale_attn_by_inverse_layer_idx", false),
            ("add_cross_attention", false),
        ],
        without_effect: &[
            "n_ctx",
            "reorder_and_upcast_attn",
            "summary_activation",
            "summary_first_dropout",
            "summary_proj_to_labels",
            "summary_type",
            "summary_use_proj",
        ],
    },
    prefix: "transformer",
    body: BODY,
    layout: LinearLayout::InOut,
    without_use: &[".attn.bias", ".attn.masked_bias"],
};

const fn third(number: usize) -> Option<Part> {
    Some(Part { number, of: 3 })
}

const BODY: &[Name] = &[
    ("embedding", "wte", None),
    ("target_positions", "wpe", None),
    (
        "decoder.layers.*.self_attention.query",
        "h.*.attn.c_attn",
        third(0),
    ),
    (
        "decoder.layers.*.self_attention.key",
        "h.*.attn.c_attn",
        third(1),
    ),
    (
        "decoder.layers.*.self_attention.value",
        "h.*.attn.c_attn",
        third(2),
    ),
    (
        "decoder.layers.*.self_attention.output",
        "h.*.attn.c_proj",
        None,
    ),
    ("decoder.layers.*.self_attention_norm", "h.*.ln_1", None),
    ("decoder.layers.*.feed_forward.inner", "h.*.mlp.c_fc", None),
    (
        "decoder.layers.*.feed_forward.outer",
        "h.*.mlp.c_proj",
        None,
    ),
    ("decoder.layers.*.feed_forward_norm", "h.*.ln_2", None),
    ("decoder.norm", "ln_f", None),
];
