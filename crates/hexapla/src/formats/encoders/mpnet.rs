//! `mpnet`: RoBERTa's heads and positions, no segments, and a number for each head and distance, which all layers share.

use super::bert::SETTINGS;
use super::roberta::HEADS;
use super::{EncoderFamily, Settings};

pub(in crate::formats) const MPNET: EncoderFamily = EncoderFamily {
    model_type: "mpnet",
    class: "MPNet",
    prefix: "mpnet",
    settings: Settings {
        vocab_size: 30527,
        has_segments: false,
        buckets: Some(("relative_attention_num_buckets", 32)),
        pad_token_id: 1,
        positions_after_padding: true,
        // Whatever the setting says, transformers computes with 1.
        pad_is_fixed: true,
        ..SETTINGS
    },
    body: &[
        ("embedding", "embeddings.word_embeddings"),
        ("source_positions", "embeddings.position_embeddings"),
        ("encoder.embedding_norm", "embeddings.LayerNorm"),
        (
            "encoder.relative_positions",
            "encoder.relative_attention_bias",
        ),
        (
            "encoder.layers.*.self_attention.query",
            "encoder.layer.*.attention.attn.q",
        ),
        (
            "encoder.layers.*.self_attention.key",
            "encoder.layer.*.attention.attn.k",
        ),
        (
            "encoder.layers.*.self_attention.value",
            "encoder.layer.*.attention.attn.v",
        ),
        (
            "encoder.layers.*.self_attention.output",
            "encoder.layer.*.attention.attn.o",
        ),
        (
            "encoder.layers.*.self_attention_norm",
            "encoder.layer.*.attention.LayerNorm",
        ),
        (
            "encoder.layers.*.feed_forward.inner",
            "encoder.layer.*.intermediate.dense",
        ),
        (
            "encoder.layers.*.feed_forward.outer",
            "encoder.layer.*.output.dense",
        ),
        (
            "encoder.layers.*.feed_forward_norm",
            "encoder.layer.*.output.LayerNorm",
        ),
    ],
    heads: HEADS,
    without_use: &[],
};
