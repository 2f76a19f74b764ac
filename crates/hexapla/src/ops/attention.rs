//! Scaled dot-product attention in several heads (paper, section 3.2).

use std::ops::Range;

use hexapla_kernels::{
    Dropout, Isa, Matrix, MatrixMut, Plus, dropout_in_place, gemm, softmax_backward_in_place,
    softmax_in_place,
};

use crate::batch::Span;
use crate::ops::kv_cache::{Cached, attend_cached};
use crate::ops::{Run, Step};
use crate::tape::{Backward, keep};
use crate::tensor::{Node, Tensor};

/// Which rows of keys and values each query row sees.
pub enum AttentionMask<'a> {
    /// The queries of span i see the keys of span i: all of them, or with `causal` those up to their own position.
    Spans {
        /// Sentences among the query rows.
        queries: &'a [Span],
        /// Sentences among the key rows.
        keys: &'a [Span],
        /// The mask of decoder self-attention.
        causal: bool,
    },
    /// A query row sees rows of earlier steps too (decoding).
    Cached(Cached<'a>),
}

/// How to attend.
#[derive(Debug, Clone, Copy)]
pub struct Attention {
    /// Number of heads; divides the width.
    pub heads: usize,
    /// Dropout of the probabilities.
    pub dropout: f32,
}

/// Queries, keys and values, each `[rows, d_model]`; head h has the columns from `h · d_model / heads`.
#[derive(Debug)]
pub struct Projections {
    /// What asks.
    pub query: Tensor,
    /// What is compared with.
    pub key: Tensor,
    /// What is taken.
    pub value: Tensor,
}

/// What the backward step needs.
#[derive(Debug)]
pub struct Recorded {
    p: Projections,
    heads: usize,
    /// Probabilities before dropout, sentence by sentence, head by head.
    probabilities: Tensor,
    /// Sentences among queries and keys: where they stand in the lists.
    pairs: Range<usize>,
    dropout: Dropout,
    out: Option<Node>,
}

/// `softmax(Q·Kᵀ/√d_k) · V` for each head; the result has the queries' shape.
pub fn attention(
    run: &mut Run,
    p: Projections,
    options: &Attention,
    mask: AttentionMask,
) -> Tensor {
    match mask {
        AttentionMask::Spans {
            queries,
            keys,
            causal,
        } => over_spans(run, p, options, (queries, keys), causal),
        AttentionMask::Cached(cached) => attend_cached(run, &p.query, &p.key, &p.value, cached),
    }
}

fn over_spans(
    run: &mut Run,
    p: Projections,
    options: &Attention,
    (queries, keys): (&[Span], &[Span]),
    causal: bool,
) -> Tensor {
    let dropout = run.dropout(options.dropout);
    // Where nothing goes back, one head's are enough at a time.
    let recording = run.is_recording();
    let size: usize = match recording {
        true => {
            let of = |(q, k): (&Span, &Span)| q.len * k.len * options.heads;
            queries.iter().zip(keys).map(of).sum()
        }
        false => largest(queries, keys),
    };
    let mut out = run.tensor(p.query.rows(), p.query.columns());
    let mut probabilities = run.arena.tensor(1, size);
    let mut dropped = run.arena.tensor(
        1,
        if dropout.is_none() {
            0
        } else {
            largest(queries, keys)
        },
    );
    // A span without its partner would leave its rows as they were.
    assert_eq!(queries.len(), keys.len());
    let mut start = 0;
    for (q, k) in queries.iter().zip(keys) {
        for h in 0..options.heads {
            let head = Head::new(h, options.heads, p.query.columns());
            let end = start + q.len * k.len;
            let scores = &mut probabilities.data_mut()[start..end];
            let scale = 1.0 / (head.width as f32).sqrt();
            product(
                run.isa,
                scores,
                head.of(&p.query, *q),
                head.of(&p.key, *k).transposed(),
            );
            softmax_in_place(run.isa, scores, k.len, scale, causal);
            let seen = if dropout.is_none() {
                &*scores
            } else {
                let copy = &mut dropped.data_mut()[..end - start];
                copy.copy_from_slice(scores);
                dropout_in_place(run.isa, copy, dropout, start as u32);
                &*copy
            };
            let seen = Matrix::new(seen, q.len, k.len, k.len);
            gemm(
                run.isa,
                head.of_mut(&mut out, *q),
                seen,
                head.of(&p.value, *k),
                Plus::Nothing,
            );
            if recording {
                start = end;
            }
        }
    }
    run.record(|lists| {
        Step::Attention(Recorded {
            p,
            heads: options.heads,
            probabilities,
            pairs: keep(
                &mut lists.pairs,
                queries.iter().copied().zip(keys.iter().copied()),
            ),
            dropout,
            out: out.node(),
        })
    });
    out
}

/// One head's columns.
#[derive(Clone, Copy)]
struct Head {
    start: usize,
    width: usize,
}

impl Head {
    fn new(head: usize, heads: usize, d_model: usize) -> Self {
        let width = d_model / heads;
        Head {
            start: head * width,
            width,
        }
    }

    /// The rows of `span`, this head's columns: `[span.len, width]`.
    fn of(self, x: &Tensor, span: Span) -> Matrix<'_> {
        let rest = x
            .data()
            .get(span.start * x.columns() + self.start..)
            .unwrap_or(&[]);
        Matrix::new(rest, span.len, self.width, x.columns())
    }

    fn of_mut(self, x: &mut Tensor, span: Span) -> MatrixMut<'_> {
        let columns = x.columns();
        let rest = x
            .data_mut()
            .get_mut(span.start * columns + self.start..)
            .unwrap_or(&mut []);
        MatrixMut::new(rest, span.len, self.width, columns)
    }
}

/// Numbers in the largest table of probabilities of one head.
fn largest(queries: &[Span], keys: &[Span]) -> usize {
    queries
        .iter()
        .zip(keys)
        .map(|(q, k)| q.len * k.len)
        .max()
        .unwrap_or(0)
}

/// `out = a · b`, `out` without gaps.
fn product(isa: Isa, out: &mut [f32], a: Matrix, b: Matrix) {
    let (rows, columns) = (a.rows(), b.columns());
    gemm(
        isa,
        MatrixMut::new(out, rows, columns, columns),
        a,
        b,
        Plus::Nothing,
    );
}

impl Recorded {
    /// With P the probabilities and D the dropout: `dV = (P∘D)ᵀ·dO`, `dP = (dO·Vᵀ)∘D`,
    /// `dS = P∘(dP − Σ P∘dP)/√d_k`, `dQ = dS·K`, `dK = dSᵀ·Q`.
    pub fn backward(self, back: &mut Backward) {
        let Some(d_out) = back.take(self.out) else {
            return;
        };
        let isa = back.isa;
        let Projections { query, key, value } = &self.p;
        let shape = |t: &Tensor| (t.rows(), t.columns());
        let new = |(rows, columns)| back.arena.tensor(rows, columns);
        let (mut dq, mut dk, mut dv) = (new(shape(query)), new(shape(key)), new(shape(value)));
        let pairs = &back.lists.pairs[self.pairs];
        let most = pairs.iter().map(|(q, k)| q.len * k.len).max().unwrap_or(0);
        let (mut dropped, mut ds) = (new((1, most)), new((1, most)));
        let mut start = 0;
        for (q, k) in pairs {
            for h in 0..self.heads {
                let head = Head::new(h, self.heads, query.columns());
                let size = q.len * k.len;
                let p = &self.probabilities.data()[start..start + size];
                let d_head = head.of(&d_out, *q);
                let dropped = &mut dropped.data_mut()[..size];
                dropped.copy_from_slice(p);
                dropout_in_place(isa, dropped, self.dropout, start as u32);
                let dropped = Matrix::new(dropped, q.len, k.len, k.len);
                gemm(
                    isa,
                    head.of_mut(&mut dv, *k),
                    dropped.transposed(),
                    d_head,
                    Plus::Nothing,
                );
                let ds = &mut ds.data_mut()[..size];
                product(isa, ds, d_head, head.of(value, *k).transposed());
                dropout_in_place(isa, ds, self.dropout, start as u32);
                softmax_backward_in_place(isa, ds, p, k.len, 1.0 / (head.width as f32).sqrt());
                let ds = Matrix::new(ds, q.len, k.len, k.len);
                gemm(
                    isa,
                    head.of_mut(&mut dq, *q),
                    ds,
                    head.of(key, *k),
                    Plus::Nothing,
                );
                gemm(
                    isa,
                    head.of_mut(&mut dk, *k),
                    ds.transposed(),
                    head.of(query, *q),
                    Plus::Nothing,
                );
                start += size;
            }
        }
        back.give(query.node(), dq);
        back.give(key.node(), dk);
        back.give(value.node(), dv);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::check::Check;

    const SPANS: [Span; 3] = [
        Span { start: 0, len: 4 },
        Span { start: 4, len: 1 },
        Span { start: 5, len: 3 },
    ];
    const OTHERS: [Span; 3] = [
        Span { start: 0, len: 2 },
        Span { start: 2, len: 5 },
        Span { start: 7, len: 3 },
    ];

    #[test]
    fn gradients_are_slopes() {
        for dropout in [0.0, 0.3] {
            for (keys, causal) in [(&SPANS, true), (&SPANS, false), (&OTHERS, false)] {
                let mut check = Check::new();
                let rows = keys[2].start + keys[2].len;
                let (q, k, v) = (
                    check.input(8, 12),
                    check.input(rows, 12),
                    check.input(rows, 12),
                );
                check.run(|run, x| {
                    let p = Projections {
                        query: x[q].clone(),
                        key: x[k].clone(),
                        value: x[v].clone(),
                    };
                    let view = AttentionMask::Spans {
                        queries: &SPANS,
                        keys,
                        causal,
                    };
                    attention(run, p, &Attention { heads: 3, dropout }, view)
                });
            }
        }
    }
}
