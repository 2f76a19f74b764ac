//! How closely a document keeps each of its arrays.

use serde::Serialize;

use super::arrays::Arrays;
use super::block::Dtype;

/// How closely the arrays of a document are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Detail {
    /// All of them, in f16.
    Everything,
    /// In f16, without those that others give: scores, heads, sublayers' outputs, norms.
    Half,
    /// The same, the inner rows of the feed-forward networks in int8.
    HalfButInner,
    /// Weights in f16; queries, keys, values and the rows between sublayers in int8; of the inner rows the largest units.
    Bytes,
    /// The same, with the rows between layers alone.
    LayerEnds,
    /// Weights in int8, and the rows between layers.
    Weights,
    /// The weights of cross-attention in int8.
    CrossWeights,
    /// No array.
    Nothing,
}

impl Detail {
    /// From the closest down.
    pub(super) const ALL: [Detail; 8] = [
        Detail::Everything,
        Detail::Half,
        Detail::HalfButInner,
        Detail::Bytes,
        Detail::LayerEnds,
        Detail::Weights,
        Detail::CrossWeights,
        Detail::Nothing,
    ];

    /// How the array called `name` is kept, if it is.
    pub(super) fn of(self, name: &str, part: Part) -> Option<Kept> {
        use Detail::{Bytes, CrossWeights, Everything, HalfButInner, LayerEnds, Nothing, Weights};
        let half = Some(Kept::As(Dtype::F16));
        let bytes = Some(Kept::As(Dtype::I8));
        match part {
            Part::Weights if self <= LayerEnds => half,
            Part::Weights if self == Weights => bytes,
            Part::Weights if self == CrossWeights && name.contains("cross_attention") => bytes,
            Part::Flow if self <= LayerEnds => half,
            Part::Projections if self <= HalfButInner => half,
            Part::Projections if self <= LayerEnds => bytes,
            Part::Stream { .. } | Part::Sums if self <= HalfButInner => half,
            Part::Stream { .. } if self == Bytes => bytes,
            Part::Stream { layer_end: true } if self <= Weights => bytes,
            Part::Inner if self <= Detail::Half => half,
            Part::Inner if self == HalfButInner => bytes,
            Part::Inner | Part::Gated if Bytes <= self && self <= LayerEnds => Some(Kept::Largest),
            Part::Gate if self <= Detail::Half => half,
            Part::Gate if self == HalfButInner => bytes,
            Part::Gated if self == Everything => half,
            Part::Answer if self < Nothing => Some(Kept::As(Dtype::F32)),
            Part::Computed if self == Everything => half,
            _ => None,
        }
    }
}

/// How an array is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kept {
    As(Dtype),
    /// The largest numbers of each row, and where they stand.
    Largest,
}

/// What an array is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Weights,
    Flow,
    Projections,
    /// Sums that a norm follows, and positions.
    Sums,
    /// What sublayers are given and add to.
    Stream {
        layer_end: bool,
    },
    Inner,
    /// The two factors of an inner row that is gated.
    Gate,
    /// Their product.
    Gated,
    /// What an encoder's head says.
    Answer,
    /// What others give.
    Computed,
}

impl Part {
    /// What the array called `name` among `arrays` is; `stream` names the values between sublayers.
    pub(super) fn of(name: &str, arrays: &Arrays, stream: &[String]) -> Self {
        let is_gated = |network| arrays.contains_key(&format!("{network}.gated"));
        let end = name.rsplit('.').next().unwrap_or_default();
        if stream.iter().any(|other| other == name) {
            return Part::Stream {
                layer_end: name.contains("feed_forward") || name.contains("embedding"),
            };
        }
        match end {
            "weights" => Part::Weights,
            "flow" => Part::Flow,
            "q" | "k" | "v" => Part::Projections,
            "inner" if !name.strip_suffix(".inner").is_some_and(is_gated) => Part::Inner,
            "inner" | "gate" => Part::Gate,
            "gated" => Part::Gated,
            "sum" | "positions" => Part::Sums,
            _ if name.starts_with("head.") => Part::Answer,
            _ => Part::Computed,
        }
    }
}
