//! How good the weights at hand are.

use crate::error::Result;
use crate::formats::manifest::ManifestMetric;
use crate::model::transformer::Transformer;
use crate::train::progress::{Sample, Validation};
use crate::weights::Weights;

/// A validation with what a person wants to see of it.
#[derive(Debug, Clone)]
pub struct Evaluation {
    /// Its numbers.
    pub validation: Validation,
    /// The metrics, with their signatures.
    pub metrics: Vec<ManifestMetric>,
    /// What the model makes of some inputs.
    pub samples: Vec<Sample>,
}

impl From<Validation> for Evaluation {
    fn from(validation: Validation) -> Self {
        Evaluation {
            validation,
            metrics: Vec::new(),
            samples: Vec::new(),
        }
    }
}

/// What judges weights on data that is set aside.
pub(super) trait Judge {
    /// None if a signal came before the end.
    fn validate(&self, model: &Transformer, weights: &Weights) -> Result<Option<Evaluation>>;
}
