//! `distilbert`: BERT without segments and pooler, under other names.

use super::bert::SETTINGS;
use super::{EncoderFamily, Head, HeadActivation, HeadKind, Settings};
use crate::config::Activation;

pub(in crate::formats) const DISTILBERT: EncoderFamily = EncoderFamily {
    model_type: "distilbert",
    class: "DistilBert",
    prefix: "distilbert",
    settings: Settings {
        d_model: ("dim", 768),
        layers: ("n_layers", 6),
        heads: ("n_heads", 12),
        feed_forward: ("hidden_dim", 3072),
        activation: "activation",
        dropout: "dropout",
        attention_dropout: "attention_dropout",
        has_eps: false,
        has_segments: false,
        without_effect: &[
            "qa_dropout",
            "seq_classif_dropout",
            // The table of positions is in the file either way.
            "sinusoidal_pos_embds",
            "tie_weights_",
        ],
        ..SETTINGS
    },
    body: &[
        ("embedding", "embeddings.word_embeddings"),
        ("source_positions", "embeddings.position_embeddings"),
        ("encoder.embedding_norm", "embeddings.LayerNorm"),
        (
            "encoder.layers.*.self_attention.query",
            "transformer.layer.*.attention.q_lin",
        ),
        (
            "encoder.layers.*.self_attention.key",
            "transformer.layer.*.attention.k_lin",
        ),
        (
            "encoder.layers.*.self_attention.value",
            "transformer.layer.*.attention.v_lin",
        ),
        (
            "encoder.layers.*.self_attention.output",
            "transformer.layer.*.attention.out_lin",
        ),
        (
            "encoder.layers.*.self_attention_norm",
            "transformer.layer.*.sa_layer_norm",
        ),
        (
            "encoder.layers.*.feed_forward.inner",
            "transformer.layer.*.ffn.lin1",
        ),
        (
            "encoder.layers.*.feed_forward.outer",
            "transformer.layer.*.ffn.lin2",
        ),
        (
            "encoder.layers.*.feed_forward_norm",
            "transformer.layer.*.output_layer_norm",
        ),
    ],
    heads: &[
        Head {
            classes: &["Model"],
            kind: HeadKind::Hidden { pooler: false },
            names: &[],
        },
        Head {
            classes: &["ForMaskedLM"],
            kind: HeadKind::Tokens(HeadActivation::Same),
            names: &[
                ("head.dense", "vocab_transform"),
                ("head.norm", "vocab_layer_norm"),
                ("output", "vocab_projector"),
                ("embedding", "vocab_projector"),
            ],
        },
        Head {
            classes: &["ForSequenceClassification"],
            kind: HeadKind::Classes(HeadActivation::Of(Activation::Relu)),
            names: &[
                ("head.dense", "pre_classifier"),
                ("head.output", "classifier"),
            ],
        },
        Head {
            classes: &["ForTokenClassification"],
            kind: HeadKind::TokenClasses,
            names: &[("head.output", "classifier")],
        },
    ],
    without_use: &[],
};
