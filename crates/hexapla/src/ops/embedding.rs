//! Token embedding plus position (paper, sections 3.4 and 3.5).

use std::ops::Range;

use hexapla_kernels::{Dropout, dropout_in_place, embed_row};

use crate::ops::{Run, Step};
use crate::tape::{Backward, keep};
use crate::tensor::{Node, Tensor};
use crate::weights::ParameterId;

/// Where the positions' vectors come from.
#[derive(Debug, Clone, Copy)]
pub enum PositionTable<'a> {
    /// Computed once: `[positions, d_model]`.
    Fixed(&'a [f32]),
    /// A parameter of that shape.
    Learned(ParameterId),
    /// Nothing is added.
    None,
}

/// How to embed.
#[derive(Debug, Clone, Copy)]
pub struct Embedding<'a> {
    /// `[vocab, d_model]`.
    pub table: ParameterId,
    /// What a token's vector is multiplied by (√d_model in the paper).
    pub scale: f32,
    /// Position vectors.
    pub positions: PositionTable<'a>,
    /// Dropout of the sum.
    pub dropout: f32,
}

/// What the backward step needs.
#[derive(Debug)]
pub struct Recorded {
    /// Where they stand in the lists.
    tokens: Range<usize>,
    table: ParameterId,
    /// The table of positions, if it is a parameter.
    positions: Option<ParameterId>,
    scale: f32,
    dropout: Dropout,
    y: Option<Node>,
}

/// `dropout(table[id] · scale + positions[position])` for each token, an id and a row of the position table; the result is
/// `[tokens, d_model]`.
pub fn embed(
    run: &mut Run,
    options: &Embedding,
    tokens: impl ExactSizeIterator<Item = (u32, u32)> + Clone,
) -> Tensor {
    let dropout = run.dropout(options.dropout);
    let parameters = run.parameters;
    let width = parameters.shape(options.table)[1];
    let has_positions = !matches!(options.positions, PositionTable::None);
    let nothing = (!has_positions).then(|| {
        let mut row = run.arena.tensor(1, width);
        row.data_mut().fill(0.0);
        row
    });
    let positions = match options.positions {
        PositionTable::Fixed(table) => table,
        PositionTable::Learned(id) => parameters.plain(id),
        PositionTable::None => nothing.as_ref().map_or(&[][..], Tensor::data),
    };
    let row_of = |row: u32| if has_positions { row as usize } else { 0 };
    let position = |row: u32| &positions[row_of(row) * width..][..width];
    let shown = (run.is_watched() && has_positions).then(|| {
        let mut rows = run.tensor(tokens.len(), width);
        let to = rows.data_mut().chunks_exact_mut(width);
        for (to, (_, row)) in to.zip(tokens.clone()) {
            to.copy_from_slice(position(row));
        }
        run.show("embedding.positions", &mut rows);
        rows
    });
    let mut y = run.tensor(tokens.len(), width);
    let mut scratch = run.arena.tensor(1, width);
    let isa = run.isa;
    for (r, (row, (id, row_of_position))) in y
        .data_mut()
        .chunks_exact_mut(width)
        .zip(tokens.clone())
        .enumerate()
    {
        let embedding = parameters.row(options.table, id as usize, scratch.data_mut());
        let position = match &shown {
            Some(rows) => rows.row(r),
            None => position(row_of_position),
        };
        embed_row(
            isa,
            row,
            embedding,
            position,
            options.scale,
            dropout,
            (r * width) as u32,
        );
    }
    run.show("embedding.sum", &mut y);
    run.record(|lists| {
        Step::Embedding(Recorded {
            tokens: keep(&mut lists.tokens, tokens),
            table: options.table,
            positions: match options.positions {
                PositionTable::Fixed(_) | PositionTable::None => None,
                PositionTable::Learned(id) => Some(id),
            },
            scale: options.scale,
            dropout,
            y: y.node(),
        })
    });
    y
}

impl Recorded {
    /// Each row's gradient is added to its token's and its position's row, in the rows' order.
    pub fn backward(self, back: &mut Backward) {
        let Some(mut dy) = back.take(self.y) else {
            return;
        };
        dropout_in_place(back.isa, dy.data_mut(), self.dropout, 0);
        let width = dy.columns();
        let tokens = &back.lists.tokens[self.tokens];
        let mut scatter = |id: ParameterId, row: fn(&(u32, u32)) -> u32, scale: f32| {
            let gradient = back.gradient(id);
            for (d, token) in dy.data().chunks_exact(width).zip(tokens) {
                let sum = &mut gradient[row(token) as usize * width..][..width];
                for (sum, d) in sum.iter_mut().zip(d) {
                    *sum = d.mul_add(scale, *sum);
                }
            }
        };
        scatter(self.table, |token| token.0, self.scale);
        if let Some(positions) = self.positions {
            scatter(positions, |token| token.1, 1.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::check::Check;

    #[test]
    fn gradients_are_slopes() {
        for dropout in [0.0, 0.3] {
            for positions in 0..3 {
                let mut check = Check::new();
                let table = check.parameter(&[7, 6]);
                let position = check.parameter(&[5, 6]);
                let fixed = vec![0.5; 30];
                check.run(|run, _| {
                    let positions = match positions {
                        0 => PositionTable::Learned(position),
                        1 => PositionTable::Fixed(&fixed),
                        _ => PositionTable::None,
                    };
                    let options = Embedding {
                        table,
                        scale: 2.5,
                        positions,
                        dropout,
                    };
                    embed(run, &options, [(1, 0), (6, 1), (1, 2), (0, 0)].into_iter())
                });
            }
        }
    }
}
