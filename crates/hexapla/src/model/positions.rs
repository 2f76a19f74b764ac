//! The sinusoidal positions of the paper's section 3.5.

use std::sync::OnceLock;

use crate::config::{Positions, TransformerConfig};

/// Rows that are computed at first: enough for most sentences, at an eighth of the time that a table of 1024 takes, which a
/// program that translates one line would feel.
const FIRST: usize = 128;

/// The table `[max_position_embeddings + position_offset, d_model]`, computed when it is needed, and its first rows before
/// the rest.
#[derive(Debug, Default)]
pub(super) struct Sinusoids {
    first: OnceLock<Vec<f32>>,
    whole: OnceLock<Vec<f32>>,
}

impl Sinusoids {
    /// The table's first `needed` rows at least.
    pub(super) fn rows(&self, c: &TransformerConfig, needed: usize) -> &[f32] {
        let all = c.max_position_embeddings + c.position_offset;
        if needed <= FIRST {
            return self.first.get_or_init(|| sinusoids(c, all.min(FIRST)));
        }
        self.whole.get_or_init(|| sinusoids(c, all))
    }
}

/// The first `rows` rows of the table, computed in f64.
fn sinusoids(c: &TransformerConfig, rows: usize) -> Vec<f32> {
    let d = c.d_model;
    let wavelength = |j: usize| {
        let exponent = match c.positions {
            Positions::SinusoidalHalvesFairseq => j as f64 / (d / 2 - 1) as f64,
            _ => 2.0 * j as f64 / d as f64,
        };
        libm::pow(10_000.0, exponent)
    };
    let wavelengths: Vec<f64> = (0..d / 2).map(wavelength).collect();
    let mut table = vec![0.0; rows * d];
    for (position, row) in table.chunks_exact_mut(d).enumerate() {
        if c.positions == Positions::SinusoidalHalvesFairseq && position < c.position_offset {
            continue;
        }
        for (j, wavelength) in wavelengths.iter().enumerate() {
            let angle = position as f64 / wavelength;
            let (sine, cosine) = match c.positions {
                Positions::SinusoidalInterleaved => (2 * j, 2 * j + 1),
                _ => (j, d / 2 + j),
            };
            row[sine] = libm::sin(angle) as f32;
            row[cosine] = libm::cos(angle) as f32;
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_follow_their_formulas() {
        let mut c = TransformerConfig::preset("tiny").unwrap();
        (c.d_model, c.max_position_embeddings) = (8, 10);
        let at = |positions, position: usize| {
            let config = TransformerConfig {
                positions,
                ..c.clone()
            };
            let table = sinusoids(&config, 10);
            table[position * 8..position * 8 + 8].to_vec()
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
        let c = TransformerConfig {
            d_model: 8,
            max_position_embeddings: 300,
            ..TransformerConfig::preset("tiny").unwrap()
        };
        let table = Sinusoids::default();
        let first = table.rows(&c, 128);
        let whole = table.rows(&c, 129);
        assert_eq!((first.len(), whole.len()), (128 * 8, 300 * 8));
        assert_eq!(first, &whole[..128 * 8]);
        let few = TransformerConfig {
            max_position_embeddings: 5,
            ..c
        };
        assert_eq!(Sinusoids::default().rows(&few, 5).len(), 5 * 8);
    }
}
