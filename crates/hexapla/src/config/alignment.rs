//! Where an alignment is read in the decoder's attention over the source.

use serde::{Deserialize, Serialize};

/// How to tell which source token each target token stands for. Layers and heads differ much in that; a model's folder may say
/// which reading was measured to be the best for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlignmentReading {
    /// The layer of the decoder, from 0.
    pub layer: usize,
    /// Its heads, from 0, whose mean is taken; nothing for all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub heads: Vec<usize>,
    /// At which step a token's row is read.
    #[serde(default)]
    pub step: AlignmentStep,
    /// What is compared.
    #[serde(default)]
    pub weights: AlignmentWeights,
}

/// The step of the decoder at which a target token is aligned.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AlignmentStep {
    /// That which produces the token, and does not know it yet.
    #[default]
    Output,
    /// The next one, which reads it (Chen et al. 2020, "Shift-Att").
    Input,
}

/// What says how much a source token counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AlignmentWeights {
    /// The weights of attention.
    #[default]
    Attention,
    /// Each weight times the length of what it brings, ‖v · W_O‖ (Kobayashi et al. 2020, equation 6).
    Norm,
}

impl AlignmentReading {
    /// For a model that was not measured: the last of its `layers`, all heads.
    pub fn of_last_layer(layers: usize) -> Self {
        AlignmentReading {
            layer: layers.saturating_sub(1),
            heads: Vec::new(),
            step: AlignmentStep::default(),
            weights: AlignmentWeights::default(),
        }
    }
}
