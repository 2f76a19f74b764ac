//! What numbers are rounded to.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result, unknown_name};

/// Arithmetic of the large matrix products in training. Weights, activations, gradients and sums are f32 in either.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// 32-bit floats throughout.
    Float32,
    /// The factors of the linear layers' and the output layer's products are rounded to bf16. With AMX this is several times as
    /// fast, with AVX-512 BF16 up to twice, on some CPUs slower; elsewhere it computes the same rounding, slower.
    Bf16,
    /// Whichever of the two is faster on this CPU. A training measures that when it begins, and stays with it.
    Auto,
}

impl std::fmt::Display for Precision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Precision::Float32 => "float32",
            Precision::Bf16 => "bf16",
            Precision::Auto => "auto",
        })
    }
}

impl std::str::FromStr for Precision {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "float32" => Ok(Precision::Float32),
            "bf16" => Ok(Precision::Bf16),
            "auto" => Ok(Precision::Auto),
            _ => Err(unknown_name(
                "precision",
                name,
                &["float32", "bf16", "auto"],
            )),
        }
    }
}

/// Arithmetic of the matrix products of inference. Activations between them, norms and softmax are f32 in each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ComputeType {
    /// As the folder stores its weights: int8 where it does, else 32-bit floats.
    #[default]
    Default,
    /// 32-bit floats.
    Float32,
    /// Both factors rounded to bf16, sums in f32.
    Bf16,
    /// Weights in 8 bits with one scale for each output, activations in 8 bits with one scale for each row; sums are
    /// exact. A quarter of the memory, and the fastest.
    Int8,
    /// Weights in 4 bits, of which 32 share a scale, tables in 8 as in int8; activations in 8 bits, of which 32 share a scale. About
    /// a sixth of the memory, for decoders that read their weights from memory at each step; less exact.
    Int4,
    /// Whichever is fastest on this CPU, by a short measurement; never int4, which is another model.
    Auto,
}

impl std::fmt::Display for ComputeType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            ComputeType::Default => "default",
            ComputeType::Float32 => "float32",
            ComputeType::Bf16 => "bf16",
            ComputeType::Int8 => "int8",
            ComputeType::Int4 => "int4",
            ComputeType::Auto => "auto",
        })
    }
}

impl std::str::FromStr for ComputeType {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "default" => Ok(ComputeType::Default),
            "float32" => Ok(ComputeType::Float32),
            "bf16" => Ok(ComputeType::Bf16),
            "int8" => Ok(ComputeType::Int8),
            "int4" => Ok(ComputeType::Int4),
            "auto" => Ok(ComputeType::Auto),
            _ => Err(unknown_name(
                "compute type",
                name,
                &["default", "float32", "bf16", "int8", "int4", "auto"],
            )),
        }
    }
}
