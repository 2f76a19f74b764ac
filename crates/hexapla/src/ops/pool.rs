//! One row for each text: its first, its last, or what its rows have in common.

use std::ops::Range;

use hexapla_kernels::{Isa, add_assign};

use crate::batch::Span;
use crate::ops::{Run, Step};
use crate::tape::{Backward, keep};
use crate::tensor::{Node, Tensor};

/// How the rows of a text become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pooling {
    /// The first row, as BERT's `[CLS]`.
    First,
    /// The last row.
    Last,
    /// Their mean.
    Mean,
    /// Their sum, divided by the square root of their number.
    MeanSqrtLen,
    /// Their mean, row i of a text counted i times (Muennighoff 2022, "SGPT", equation 2).
    WeightedMean,
    /// The greatest number of each column.
    Max,
}

impl Pooling {
    /// What row `i` of `rows` is multiplied by, both counted from the text's first.
    fn weight(self, i: usize, rows: usize) -> f32 {
        let n = rows as f32;
        match self {
            Pooling::First => f32::from(i == 0),
            Pooling::Last => f32::from(i + 1 == rows),
            Pooling::Mean => 1.0 / n,
            Pooling::MeanSqrtLen => 1.0 / n.sqrt(),
            Pooling::WeightedMean => 2.0 * (i + 1) as f32 / (n * (n + 1.0)),
            // Of a maximum there is no weight for a whole row.
            Pooling::Max => 0.0,
        }
    }
}

/// What the backward step needs.
#[derive(Debug)]
pub struct Recorded {
    x: Tensor,
    pooling: Pooling,
    /// Where the spans stand in the lists.
    spans: Range<usize>,
    y: Option<Node>,
}

/// The rows of each of `spans` in `x` `[rows, width]` as one row: `[spans, width]`. A text without rows gives zeros.
pub fn pool(run: &mut Run, x: &Tensor, spans: &[Span], pooling: Pooling) -> Tensor {
    let mut y = run.tensor(spans.len(), x.columns());
    let isa = run.isa;
    for (out, span) in y.data_mut().chunks_exact_mut(x.columns()).zip(spans) {
        match pooling {
            Pooling::Max => greatest(out, x, *span),
            _ => weighted(isa, out, x, *span, pooling),
        }
    }
    run.record(|lists| {
        Step::Pool(Recorded {
            x: x.clone(),
            pooling,
            spans: keep(&mut lists.spans, spans.iter().copied()),
            y: y.node(),
        })
    });
    y
}

/// The rows one after the other, in their order, so that a text's row does not depend on what lies beside it.
fn weighted(isa: Isa, out: &mut [f32], x: &Tensor, span: Span, pooling: Pooling) {
    out.fill(0.0);
    let even = matches!(pooling, Pooling::Mean | Pooling::MeanSqrtLen);
    for i in 0..span.len {
        let row = x.row(span.start + i);
        let weight = pooling.weight(i, span.len);
        match even {
            // Divided at the end: a sum of equal rows is then exact.
            true => add_assign(isa, out, row),
            false if weight == 0.0 => (),
            false => out.iter_mut().zip(row).for_each(|(o, x)| *o += weight * x),
        }
    }
    if even {
        let n = span.len.max(1) as f32;
        let divisor = if pooling == Pooling::Mean {
            n
        } else {
            n.sqrt()
        };
        out.iter_mut().for_each(|o| *o /= divisor);
    }
}

fn greatest(out: &mut [f32], x: &Tensor, span: Span) {
    out.fill(if span.len == 0 {
        0.0
    } else {
        f32::NEG_INFINITY
    });
    for i in span.start..span.start + span.len {
        for (o, x) in out.iter_mut().zip(x.row(i)) {
            // NaN is not lost.
            *o = if *x > *o || x.is_nan() { *x } else { *o };
        }
    }
}

impl Recorded {
    /// Each row's share of its text's gradient. Of a maximum, the first row that has it receives it all.
    pub fn backward(self, back: &mut Backward) {
        let Some(dy) = back.take(self.y) else { return };
        let x = &self.x;
        let mut dx = back.arena.tensor(x.rows(), x.columns());
        dx.data_mut().fill(0.0);
        for (d, span) in dy
            .data()
            .chunks_exact(dy.columns())
            .zip(&back.lists.spans[self.spans])
        {
            let rows = &mut dx.data_mut()[span.start * x.columns()..][..span.len * x.columns()];
            if self.pooling == Pooling::Max {
                for (column, d) in d.iter().enumerate() {
                    let number = |i: usize| x.row(span.start + i)[column];
                    let greatest = (1..span.len)
                        .fold(0, |best, i| if number(i) > number(best) { i } else { best });
                    if span.len > 0 {
                        rows[greatest * x.columns() + column] += d;
                    }
                }
                continue;
            }
            for (i, row) in rows.chunks_exact_mut(x.columns()).enumerate() {
                let weight = self.pooling.weight(i, span.len);
                row.iter_mut()
                    .zip(d)
                    .for_each(|(row, d)| *row += weight * d);
            }
        }
        back.give(x.node(), dx);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::check::Check;

    const SPANS: [Span; 3] = [
        Span { start: 0, len: 3 },
        Span { start: 3, len: 1 },
        Span { start: 4, len: 4 },
    ];
    const KINDS: [Pooling; 6] = [
        Pooling::First,
        Pooling::Last,
        Pooling::Mean,
        Pooling::MeanSqrtLen,
        Pooling::WeightedMean,
        Pooling::Max,
    ];

    #[test]
    fn gradients_are_slopes() {
        for pooling in KINDS {
            let mut check = Check::new();
            let x = check.input(8, 5);
            check.run(|run, inputs| pool(run, &inputs[x], &SPANS, pooling));
        }
    }

    #[test]
    fn a_text_becomes_what_its_definition_says_whatever_lies_beside_it() {
        let arena = crate::tensor::Arena::default();
        let check = Check::new();
        let weights = check.weights();
        let packed = crate::packed::PackedWeights::new(&weights, Default::default());
        let mut run = Run::inference(&arena, &packed);
        let mut x = arena.tensor(8, 2);
        for (i, number) in x.data_mut().iter_mut().enumerate() {
            *number = [3.0, -1.0, 5.0, 2.0][i % 4] + i as f32;
        }
        for pooling in KINDS {
            let all = pool(&mut run, &x, &SPANS, pooling);
            for (text, span) in SPANS.iter().enumerate() {
                let rows: Vec<&[f32]> = (0..span.len).map(|i| x.row(span.start + i)).collect();
                let n = rows.len() as f32;
                for column in 0..2 {
                    let numbers = || rows.iter().map(|row| row[column]);
                    let counted = numbers().zip(1u8..).map(|(x, i)| x * f32::from(i));
                    let expected = match pooling {
                        Pooling::First => rows[0][column],
                        Pooling::Last => rows[rows.len() - 1][column],
                        Pooling::Mean => numbers().sum::<f32>() / n,
                        Pooling::MeanSqrtLen => numbers().sum::<f32>() / n.sqrt(),
                        Pooling::WeightedMean => counted.sum::<f32>() / (n * (n + 1.0) / 2.0),
                        Pooling::Max => numbers().fold(f32::MIN, f32::max),
                    };
                    let found = all.row(text)[column];
                    assert!(
                        (found - expected).abs() < 1e-5,
                        "{pooling:?}: {found} {expected}"
                    );
                }
                let alone = pool(&mut run, &x, &[*span], pooling);
                assert_eq!(alone.row(0), all.row(text));
            }
            let nothing = pool(&mut run, &x, &[Span { start: 2, len: 0 }], pooling);
            assert_eq!(nothing.row(0), [0.0, 0.0]);
        }
    }
}
