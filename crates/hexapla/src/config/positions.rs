//! How a model knows where a token stands.

use serde::{Deserialize, Serialize};

/// How a token's position enters the model (paper, section 3.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Positions {
    /// Sine in the even columns, cosine in the odd ones: the paper's equation.
    SinusoidalInterleaved,
    /// The paper's angles, sines in the first half of the vector and cosines in the second: Marian.
    SinusoidalHalves,
    /// Halves with angles `pos / 10000^(j/(d/2 - 1))`: fairseq, M2M-100.
    SinusoidalHalvesFairseq,
    /// A trained table.
    Learned,
    /// None are added: attention knows distances (Raffel et al. 2020, "T5", section 2.1).
    Relative,
}

/// A number for each head and each bucket of distances.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelativePositions {
    /// Buckets, those of both sides together.
    pub buckets: usize,
    /// Distances from here on share a bucket.
    pub max_distance: usize,
}

impl Default for RelativePositions {
    /// T5's.
    fn default() -> Self {
        RelativePositions {
            buckets: 32,
            max_distance: 128,
        }
    }
}

impl RelativePositions {
    /// What would fit, and what it is, where the sizes do not fit together. The buckets are shared by so many `sides`.
    pub(crate) fn misfit(&self, sides: usize) -> Option<(String, String)> {
        let buckets = 4..=1 << 16;
        if !(buckets.contains(&self.buckets) && self.buckets.is_multiple_of(4)) {
            let expected = "a multiple of 4, at most 65536".into();
            return Some((expected, self.buckets.to_string()));
        }
        // Half of a side's buckets are for one distance each, and a logarithm of the longest distance over these divides.
        let least = self.buckets / sides / 2 + 1;
        (self.max_distance < least || self.max_distance > 1 << 24).then(|| {
            let expected = format!("a longest distance from {least} on");
            (expected, self.max_distance.to_string())
        })
    }
}
