//! `roberta`, `camembert` and `xlm-roberta`: BERT's mathematics with other heads.
//!
//! Positions begin behind the padding token's id, which has none: a table of 514 rows serves texts of 512 tokens.

use super::bert::{BODY, SETTINGS};
use super::{EncoderFamily, Head, HeadActivation, HeadKind, Settings};
use crate::config::Activation;

pub(in crate::formats) const ROBERTA: EncoderFamily = EncoderFamily {
    model_type: "roberta",
    class: "Roberta",
    prefix: "roberta",
    settings: Settings {
        vocab_size: 50265,
        ..OWN_SETTINGS
    },
    body: BODY,
    heads: HEADS,
    without_use: &[],
};

pub(in crate::formats) const CAMEMBERT: EncoderFamily = EncoderFamily {
    model_type: "camembert",
    class: "Camembert",
    settings: OWN_SETTINGS,
    ..ROBERTA
};

pub(in crate::formats) const XLM_ROBERTA: EncoderFamily = EncoderFamily {
    model_type: "xlm-roberta",
    class: "XLMRoberta",
    settings: OWN_SETTINGS,
    ..ROBERTA
};

const OWN_SETTINGS: Settings = Settings {
    pad_token_id: 1,
    positions_after_padding: true,
    ..SETTINGS
};

/// MPNet has the same.
pub(super) const HEADS: &[Head] = &[
    Head {
        classes: &["Model"],
        kind: HeadKind::Hidden { pooler: true },
        names: &[("head.dense", "~.pooler.dense")],
    },
    Head {
        classes: &["ForMaskedLM"],
        kind: HeadKind::Tokens(HeadActivation::Of(Activation::Gelu)),
        names: &[
            ("head.dense", "lm_head.dense"),
            ("head.norm", "lm_head.layer_norm"),
            ("output", "lm_head"),
            ("output", "lm_head.decoder"),
            ("embedding", "lm_head.decoder"),
        ],
    },
    Head {
        classes: &["ForSequenceClassification"],
        kind: HeadKind::Classes(HeadActivation::Of(Activation::Tanh)),
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
];
