//! Norms, and where they stand.

use serde::{Deserialize, Serialize};

/// Where layer norm stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Norm {
    /// `norm(x + sublayer(x))`, as in the paper.
    Post,
    /// `x + sublayer(norm(x))`.
    Pre,
}

/// A norm of each row.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct NormConfig {
    /// Which.
    pub kind: NormKind,
    /// Added to the variance, or to the mean of the squares.
    pub eps: f32,
}

/// Kinds of norms.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NormKind {
    /// Layer norm, with scale and shift (Ba et al. 2016).
    #[default]
    Layer,
    /// RMS norm, with a scale alone (Zhang and Sennrich 2019).
    Rms,
}
