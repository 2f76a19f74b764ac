//! Which parts of the figure a model has.

use super::decoder::DecoderConfig;
use super::encoder::EncoderConfig;
use super::stack::ModelConfig;
use super::transformer::TransformerConfig;
use crate::error::Result;

/// A model by the settings of those of its parts that it has.
#[derive(Debug, Clone, PartialEq)]
pub enum Assembly {
    /// Both: translates.
    EncoderDecoder(TransformerConfig),
    /// The encoder alone: analyses.
    Encoder(EncoderConfig),
    /// The decoder alone: goes on with texts.
    Decoder(DecoderConfig),
}

impl Assembly {
    /// The model, taken apart.
    pub fn model(&self) -> ModelConfig {
        match self {
            Assembly::EncoderDecoder(config) => config.model(),
            Assembly::Encoder(config) => config.model(),
            Assembly::Decoder(config) => config.model(),
        }
    }

    /// Checks that the sizes fit together.
    ///
    /// # Errors
    /// Names the first setting that does not fit, what would, and what it is.
    pub fn validate(&self) -> Result<()> {
        match self {
            Assembly::EncoderDecoder(config) => config.validate(),
            Assembly::Encoder(config) => config.validate(),
            Assembly::Decoder(config) => config.validate(),
        }
    }
}

impl From<TransformerConfig> for Assembly {
    fn from(config: TransformerConfig) -> Self {
        Assembly::EncoderDecoder(config)
    }
}

impl From<EncoderConfig> for Assembly {
    fn from(config: EncoderConfig) -> Self {
        Assembly::Encoder(config)
    }
}

impl From<DecoderConfig> for Assembly {
    fn from(config: DecoderConfig) -> Self {
        Assembly::Decoder(config)
    }
}
