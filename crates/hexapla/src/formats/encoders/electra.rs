//! `electra`: BERT whose embedding may be narrower than its layers, and whose heads are its own.
//!
//! The discriminator says of each token whether it was replaced; the generator fills masked words.

use super::bert::{BODY, SETTINGS};
use super::{EncoderFamily, Head, HeadActivation, HeadKind, Settings};
use crate::config::Activation;

pub(in crate::formats) const ELECTRA: EncoderFamily = EncoderFamily {
    model_type: "electra",
    class: "Electra",
    prefix: "electra",
    settings: Settings {
        d_model: ("hidden_size", 256),
        heads: ("num_attention_heads", 4),
        feed_forward: ("intermediate_size", 1024),
        embedding_width: Some(("embedding_size", 128)),
        without_effect: &[
            "summary_activation",
            "summary_last_dropout",
            "summary_type",
            "summary_use_proj",
        ],
        ..SETTINGS
    },
    body: BODY,
    heads: &[
        Head {
            classes: &["Model"],
            kind: HeadKind::Hidden { pooler: false },
            names: &[],
        },
        Head {
            classes: &["ForMaskedLM"],
            kind: HeadKind::Tokens(HeadActivation::Of(Activation::Gelu)),
            names: &[
                ("head.dense", "generator_predictions.dense"),
                ("head.norm", "generator_predictions.LayerNorm"),
                ("output", "generator_lm_head"),
                ("embedding", "generator_lm_head"),
            ],
        },
        Head {
            classes: &["ForPreTraining"],
            kind: HeadKind::Replaced(HeadActivation::Same),
            names: &[
                ("head.dense", "discriminator_predictions.dense"),
                ("head.output", "discriminator_predictions.dense_prediction"),
            ],
        },
        Head {
            classes: &["ForSequenceClassification"],
            kind: HeadKind::Classes(HeadActivation::Of(Activation::Gelu)),
            names: &[
                ("head.dense", "classifier.dense"),
                ("head.output", "classifier.out_proj"),
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
