//! Tokens whose rows of the embedding point the same way.

use std::collections::BTreeMap;

use rayon::prelude::*;
use serde::Serialize;

use super::likeliest::greatest;
use crate::packed::PackedWeights;
use crate::weights::ParameterId;

/// Rows of the table that a thread looks at together.
const BLOCK: usize = 1024;

/// A token's row of the embedding, beside the others.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Neighbours {
    /// The row's length, before it is scaled.
    pub norm: f32,
    /// The tokens with the greatest cosines, itself left out.
    pub nearest: Vec<(u32, f32)>,
}

/// The `count` nearest rows of `table` `[vocab, width]` to the row of each of `ids`.
pub(super) fn neighbours(
    parameters: &PackedWeights,
    table: ParameterId,
    ids: &[u32],
    count: usize,
) -> BTreeMap<u32, Neighbours> {
    let shape = &parameters.index().get(table).shape;
    let (vocab, width) = (shape[0], shape[1]);
    let row = |id: usize| {
        let mut scratch = vec![0.0; width];
        let row = parameters.row(table, id, &mut scratch).to_vec();
        let norm = dot(&row, &row).sqrt();
        let divisor = if norm > 0.0 { norm } else { 1.0 };
        let direction: Vec<f32> = row.iter().map(|x| x / divisor).collect();
        (norm, direction)
    };
    let asked: Vec<(f32, Vec<f32>)> = ids.iter().map(|id| row(*id as usize)).collect();
    let mut cosines = vec![vec![0.0; vocab]; ids.len()];
    let blocks: Vec<(usize, Vec<Vec<f32>>)> = (0..vocab)
        .step_by(BLOCK)
        .collect::<Vec<_>>()
        .into_par_iter()
        .map(|start| {
            let rows: Vec<Vec<f32>> = (start..vocab.min(start + BLOCK))
                .map(|id| row(id).1)
                .collect();
            let of = |asked: &(f32, Vec<f32>)| rows.iter().map(|row| dot(&asked.1, row)).collect();
            (start, asked.iter().map(of).collect())
        })
        .collect();
    for (start, block) in blocks {
        for (to, from) in cosines.iter_mut().zip(block) {
            to[start..start + from.len()].copy_from_slice(&from);
        }
    }
    let mut found = BTreeMap::new();
    for ((id, (norm, _)), mut cosines) in ids.iter().zip(&asked).zip(cosines) {
        cosines[*id as usize] = f32::NEG_INFINITY;
        let nearest = greatest(&cosines, count.min(vocab - 1));
        found.insert(
            *id,
            Neighbours {
                norm: *norm,
                nearest,
            },
        );
    }
    found
}

/// In eight sums, which the compiler keeps in one vector.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0f32; 8];
    let (a, b) = (a.chunks(8), b.chunks(8));
    for (a, b) in a.zip(b) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += a * b;
        }
    }
    sums.iter().sum()
}
