//! What stands between linear layers.

use serde::{Deserialize, Serialize};

/// The non-linearity between the two linear layers of a feed-forward block (paper, section 3.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// max(0, x), as in the paper.
    Relu,
    /// max(0, x)² (So et al. 2021, "Primer").
    ReluSquared,
    /// x·Φ(x) with the exact error function.
    Gelu,
    /// x·sigmoid(x), also called SiLU.
    Swish,
    /// x·Φ(x) with Φ by a tanh: GPT-2.
    GeluTanh,
    /// x·sigmoid(1.702·x), close to GELU (Hendrycks and Gimpel 2016, section 2): `quick_gelu`, and older Marian's `gelu`.
    GeluSigmoid,
    /// The hyperbolic tangent.
    Tanh,
}
