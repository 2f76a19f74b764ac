//! The sinusoidal positions of the paper's section 3.5.

use std::sync::{Arc, OnceLock};

use crate::config::{EmbeddingConfig, Positions};

/// Rows that are computed at first: enough for most sentences, at an eighth of the time that a table of 1024 takes, which a
/// program that translates one line would feel.
const FIRST: usize = 128;

/// The table `[max_positions + position_offset, d_model]`, computed when it is needed, and its first rows before the rest.
#[derive(Debug)]
pub(super) struct Sinusoids {
    positions: Positions,
    offset: usize,
    /// All rows, and their width.
    shape: [usize; 2],
    first: OnceLock<Vec<f32>>,
    whole: OnceLock<Vec<f32>>,
}

impl Sinusoids {
    fn new(positions: Positions, config: &EmbeddingConfig, d_model: usize) -> Self {
        Sinusoids {
            positions,
            offset: config.position_offset,
            shape: [config.max_positions + config.position_offset, d_model],
            first: OnceLock::new(),
            whole: OnceLock::new(),
        }
    }

    /// That of `shared` with these settings, or a new one there: two halves of a model compute theirs once.
    pub(super) fn among(
        shared: &mut Vec<Arc<Sinusoids>>,
        positions: Positions,
        config: &EmbeddingConfig,
        d_model: usize,
    ) -> Arc<Self> {
        let new = Sinusoids::new(positions, config, d_model);
        let settings = |s: &Sinusoids| (s.positions, s.offset, s.shape);
        let same = shared.iter().find(|old| settings(old) == settings(&new));
        same.cloned().unwrap_or_else(|| {
            shared.push(Arc::new(new));
            shared[shared.len() - 1].clone()
        })
    }

    /// The table's first `needed` rows at least.
    pub(super) fn rows(&self, needed: usize) -> &[f32] {
        let [all, _] = self.shape;
        if needed <= FIRST {
            return self.first.get_or_init(|| self.compute(all.min(FIRST)));
        }
        self.whole.get_or_init(|| self.compute(all))
    }

    /// The first `rows` rows of the table, in f64.
    fn compute(&self, rows: usize) -> Vec<f32> {
        let [_, d] = self.shape;
        let fairseq = self.positions == Positions::SinusoidalHalvesFairseq;
        let wavelength = |j: usize| {
            let exponent = match fairseq {
                true => j as f64 / (d / 2 - 1) as f64,
                false => 2.0 * j as f64 / d as f64,
            };
            libm::pow(10_000.0, exponent)
        };
        let wavelengths: Vec<f64> = (0..d / 2).map(wavelength).collect();
        let mut table = vec![0.0; rows * d];
        for (position, row) in table.chunks_exact_mut(d).enumerate() {
            if fairseq && position < self.offset {
                continue;
            }
            for (j, wavelength) in wavelengths.iter().enumerate() {
                let angle = position as f64 / wavelength;
                let (sine, cosine) = match self.positions {
                    Positions::SinusoidalInterleaved => (2 * j, 2 * j + 1),
                    _ => (j, d / 2 + j),
                };
                row[sine] = libm::sin(angle) as f32;
                row[cosine] = libm::cos(angle) as f32;
            }
        }
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::TransformerConfig;

    /// The table of a model of width 8 with so many positions.
    fn table(positions: Positions, max_position_embeddings: usize) -> Sinusoids {
        let config = TransformerConfig {
            d_model: 8,
            positions,
            max_position_embeddings,
            ..TransformerConfig::preset("tiny").unwrap()
        };
        Sinusoids::new(positions, &config.model().encoder.unwrap().embedding, 8)
    }

    #[test]
    fn positions_follow_their_formulas() {
        let at = |positions, position: usize| {
            table(positions, 10).rows(10)[position * 8..position * 8 + 8].to_vec()
        };
        let close = |a: f32, b: f64| assert!((f64::from(a) - b).abs() < 1e-6, "{a} {b}");
        let row = at(Positions::SinusoidalInterleaved, 3);
        close(row[2], (3.0 / 10_000f64.powf(2.0 / 8.0)).sin());
        close(row[3], (3.0 / 10_000f64.powf(2.0 / 8.0)).cos());
        let row = at(Positions::SinusoidalHalves, 3);
        close(row[1], (3.0 / 10_000f64.powf(2.0 / 8.0)).sin());
        close(row[5], (3.0 / 10_000f64.powf(2.0 / 8.0)).cos());
        let row = at(Positions::SinusoidalHalvesFairseq, 3);
        close(row[1], (3.0 / 10_000f64.powf(1.0 / 3.0)).sin());
    }

    #[test]
    fn the_first_rows_are_those_of_the_whole() {
        let long = table(Positions::SinusoidalHalves, 300);
        let (first, whole) = (long.rows(128), long.rows(129));
        assert_eq!((first.len(), whole.len()), (128 * 8, 300 * 8));
        assert_eq!(first, &whole[..128 * 8]);
        let few = table(Positions::SinusoidalHalves, 5);
        assert_eq!(few.rows(5).len(), 5 * 8);
    }
}
