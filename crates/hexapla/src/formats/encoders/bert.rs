//! `bert`: BERT, MiniLM, BGE, E5, GTE and the cross-encoders made of them.
//!
//! As transformers computes it: word, position and segment vectors are added, then normed. The head of a class for texts stands on
//! the pooler, a linear layer of the first row with tanh. For masked words a linear layer, the activation and a norm come before
//! the embedding's own table, with a bias.

use super::{EncoderFamily, Head, HeadActivation, HeadKind, Name, Settings};
use crate::config::Activation;

pub(in crate::formats) const BERT: EncoderFamily = EncoderFamily {
    model_type: "bert",
    class: "Bert",
    prefix: "bert",
    settings: SETTINGS,
    body: BODY,
    heads: &[
        Head {
            classes: &["Model"],
            kind: HeadKind::Hidden { pooler: true },
            names: &[("head.dense", "~.pooler.dense")],
        },
        Head {
            classes: &["ForMaskedLM", "ForPreTraining"],
            kind: HeadKind::Tokens(HeadActivation::Same),
            names: &[
                ("head.dense", "cls.predictions.transform.dense"),
                ("head.norm", "cls.predictions.transform.LayerNorm"),
                ("output", "cls.predictions"),
                ("output", "cls.predictions.decoder"),
                ("embedding", "cls.predictions.decoder"),
            ],
        },
        Head {
            classes: &["ForSequenceClassification"],
            kind: HeadKind::Classes(HeadActivation::Of(Activation::Tanh)),
            names: &[
                ("head.dense", "~.pooler.dense"),
                ("head.output", "classifier"),
            ],
        },
        Head {
            classes: &["ForTokenClassification"],
            kind: HeadKind::TokenClasses,
            names: &[("head.output", "classifier")],
        },
    ],
    without_use: &["cls.seq_relationship"],
};

/// Those of BERT, which most of its descendants share.
pub(super) const SETTINGS: Settings = Settings {
    vocab_size: 30522,
    d_model: ("hidden_size", 768),
    layers: ("num_hidden_layers", 12),
    heads: ("num_attention_heads", 12),
    feed_forward: ("intermediate_size", 3072),
    activation: "hidden_act",
    dropout: "hidden_dropout_prob",
    attention_dropout: "attention_probs_dropout_prob",
    has_eps: true,
    has_segments: true,
    embedding_width: None,
    buckets: None,
    pad_token_id: 0,
    positions_after_padding: false,
    pad_is_fixed: false,
    without_effect: &[
        "pooler_fc_size",
        "pooler_num_attention_heads",
        "pooler_num_fc_layers",
        "pooler_size_per_head",
        "pooler_type",
    ],
};

/// As [`SETTINGS`].
pub(super) const BODY: &[Name] = &[
    ("embedding", "embeddings.word_embeddings"),
    ("source_positions", "embeddings.position_embeddings"),
    ("source_segments", "embeddings.token_type_embeddings"),
    ("encoder.embedding_norm", "embeddings.LayerNorm"),
    // ELECTRA's, where its embedding is narrower.
    ("encoder.embedding_projection", "embeddings_project"),
    (
        "encoder.layers.*.self_attention.query",
        "encoder.layer.*.attention.self.query",
    ),
    (
        "encoder.layers.*.self_attention.key",
        "encoder.layer.*.attention.self.key",
    ),
    (
        "encoder.layers.*.self_attention.value",
        "encoder.layer.*.attention.self.value",
    ),
    (
        "encoder.layers.*.self_attention.output",
        "encoder.layer.*.attention.output.dense",
    ),
    (
        "encoder.layers.*.self_attention_norm",
        "encoder.layer.*.attention.output.LayerNorm",
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
];
