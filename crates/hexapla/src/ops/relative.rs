//! Relative positions: a number for each head and each distance between query and key, added to the scores
//! (Raffel et al. 2020, "T5", section 2.1).

use crate::config::StackConfig;
use crate::ops::Run;
use crate::packed::PackedWeights;
use crate::tensor::Tensor;
use crate::weights::ParameterId;

/// Where those numbers come from, and how distances share them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RelativeBias {
    /// `[buckets, heads]`.
    pub table: ParameterId,
    /// Distances from here on share the last bucket of their side.
    pub max_distance: usize,
    /// Whether keys behind a query have buckets of their own, half of them. Otherwise all of them have the first.
    pub bidirectional: bool,
}

impl RelativeBias {
    /// The bias of a stack of this configuration, whose table it is.
    pub(crate) fn new(config: &StackConfig, table: ParameterId) -> Option<Self> {
        config.relative_positions.map(|relative| RelativeBias {
            table,
            max_distance: relative.max_distance,
            bidirectional: config.layers.iter().all(|l| !l.self_attention.causal),
        })
    }

    /// The bucket of a key at the distance `key − query`, of so many: small distances have one each, larger ones share
    /// them logarithmically.
    pub fn bucket(&self, distance: isize, buckets: usize) -> usize {
        let (first, buckets, distance) = match self.bidirectional {
            true => {
                let half = buckets / 2;
                let first = if distance > 0 { half } else { 0 };
                (first, half, distance.unsigned_abs())
            }
            false => (0, buckets, (-distance).max(0).unsigned_abs()),
        };
        let exact = buckets / 2;
        if distance < exact {
            return first + distance;
        }
        // In f32, as the models' own programs compute it.
        let ratio = libm::logf(distance as f32 / exact as f32);
        let whole = libm::log(self.max_distance as f64 / exact as f64) as f32;
        let step = (ratio / whole * (buckets - exact) as f32) as usize;
        first + (exact + step).min(buckets - 1)
    }

    /// The numbers of all heads for texts of at most `queries` queries and `keys` keys.
    pub(super) fn by_distance(&self, run: &Run, queries: usize, keys: usize) -> BiasByDistance {
        let shape = run.parameters.shape(self.table);
        let (buckets, heads) = (shape[0], shape[1]);
        let table = run.parameters.plain(self.table);
        let back = queries.saturating_sub(1);
        let width = back + keys;
        let mut numbers = run.arena.tensor(heads, width);
        let all = numbers.data_mut();
        for i in 0..width {
            let bucket = self.bucket(i as isize - back as isize, buckets);
            for (head, number) in table[bucket * heads..][..heads].iter().enumerate() {
                all[head * width + i] = *number;
            }
        }
        BiasByDistance { numbers, back }
    }
}

/// The numbers of a [`RelativeBias`], one by one.
#[derive(Debug)]
pub(crate) struct RelativeNumbers {
    bias: RelativeBias,
    /// `[buckets, heads]`.
    table: Vec<f32>,
    heads: usize,
}

impl RelativeNumbers {
    /// The name of the table of the stack called `stack`.
    pub(crate) fn name(stack: &str) -> String {
        format!("{stack}.relative_positions.weight")
    }

    /// Those of the stack called `stack`, where it has some.
    pub(crate) fn of(
        stack: &str,
        config: &StackConfig,
        parameters: &PackedWeights,
    ) -> Option<Self> {
        let table = parameters.index().find(&RelativeNumbers::name(stack))?;
        Some(RelativeNumbers {
            bias: RelativeBias::new(config, table)?,
            table: parameters.plain(table).to_vec(),
            heads: parameters.index().get(table).shape[1],
        })
    }

    /// Heads that have numbers of their own.
    pub(crate) fn heads(&self) -> usize {
        self.heads
    }

    /// What is added to the scores of a head at the distance `key − query`.
    pub(crate) fn at(&self, head: usize, distance: isize) -> f32 {
        let bucket = self.bias.bucket(distance, self.table.len() / self.heads);
        self.table[bucket * self.heads + head]
    }
}

/// The numbers of a [`RelativeBias`] laid out for rows of scores.
#[derive(Debug)]
pub(super) struct BiasByDistance {
    /// `[heads, distances]`, from the farthest key before a query on.
    numbers: Tensor,
    /// The distances before 0.
    back: usize,
}

impl BiasByDistance {
    /// What is added to the scores of the query at position `query` of its text with its first `keys` keys.
    pub(super) fn row(&self, head: usize, query: usize, keys: usize) -> &[f32] {
        &self.numbers.row(head)[self.back - query..][..keys]
    }

    /// `[heads, distances]`, the last distance that of the query itself, where there are no keys behind a query.
    pub(super) fn numbers(&self) -> &Tensor {
        &self.numbers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of T5's own function, for 32 buckets and 128 as the longest distance.
    #[test]
    fn distances_have_the_buckets_of_t5() {
        let bias = |bidirectional| RelativeBias {
            table: ParameterId(0),
            max_distance: 128,
            bidirectional,
        };
        let both = [
            (-200, 15),
            (-128, 15),
            (-64, 14),
            (-20, 10),
            (-16, 10),
            (-9, 8),
            (-8, 8),
            (-7, 7),
            (-1, 1),
            (0, 0),
            (1, 17),
            (7, 23),
            (8, 24),
            (15, 25),
            (32, 28),
            (127, 31),
            (500, 31),
        ];
        for (distance, bucket) in both {
            assert_eq!(bias(true).bucket(distance, 32), bucket, "{distance}");
        }
        for (distance, bucket) in [
            (5, 0),
            (0, 0),
            (-15, 15),
            (-16, 16),
            (-31, 21),
            (-64, 26),
            (-200, 31),
        ] {
            assert_eq!(bias(false).bucket(distance, 32), bucket, "{distance}");
        }
    }
}
