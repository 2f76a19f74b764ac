//! Scaled dot-product attention in several heads (paper, section 3.2).

use std::borrow::Cow;
use std::cmp::Reverse;
use std::ops::Range;
use std::sync::Arc;

use hexapla_kernels::{
    Dropout, Isa, Matrix, MatrixMut, Plus, Visible, dropout_in_place, gemm, gemm_bf16,
    softmax_backward_in_place, softmax_in_place,
};
use rayon::prelude::*;

use crate::batch::Span;
use crate::ops::kv_cache::{Cached, KvCache, attend_cached};
use crate::ops::relative::{BiasByDistance, RelativeBias};
use crate::ops::watch::{Projected, Watch};
use crate::ops::{Run, Step};
use crate::tape::{Backward, keep};
use crate::tensor::{Arena, Node, Tensor};

/// Which rows of keys and values each query row sees.
pub enum AttentionMask<'a> {
    /// The queries of span i see keys of span i.
    Spans {
        /// Sentences among the query rows.
        queries: &'a [Span],
        /// Sentences among the key rows.
        keys: &'a [Span],
        /// Which of them.
        visible: Visible,
        /// Where keys and values are kept for later steps.
        store: Option<Store<'a>>,
    },
    /// A query row sees rows of earlier steps too (decoding).
    Cached(Cached<'a>),
}

/// Where the keys and values of a pass are kept, and which are there from before.
pub struct Store<'a> {
    /// Receives them.
    pub cache: &'a mut KvCache,
    /// The slots that they are stored in.
    pub slots: &'a [u32],
    /// For each span the slots of the rows that stand before its own.
    pub past: Vec<&'a [u32]>,
}

/// How to attend.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Attention {
    /// Heads of the queries.
    pub heads: usize,
    /// Heads of keys and values; divides `heads`. Neighbouring heads of queries share one (Ainslie et al. 2023, "GQA").
    pub kv_heads: usize,
    /// Columns of each head.
    pub head_width: usize,
    /// What a product of query and key is multiplied by: 1/√d_k in the paper.
    pub scale: f32,
    /// Added to the scores after their scale, by the distance between query and key.
    pub bias: Option<RelativeBias>,
    /// Dropout of the probabilities.
    pub dropout: f32,
    /// Query rows whose probabilities are there at a time, so that memory grows with a text's length and not with its square. A
    /// longer text's are computed once more on the way back.
    pub block_rows: usize,
}

impl Attention {
    /// Usual [`Attention::block_rows`].
    pub const BLOCK_ROWS: usize = 256;

    /// The paper's: as many heads on both sides, and 1/√d_k.
    pub fn new(heads: usize, head_width: usize) -> Self {
        Attention {
            heads,
            kv_heads: heads,
            head_width,
            scale: 1.0 / (head_width as f32).sqrt(),
            bias: None,
            dropout: 0.0,
            block_rows: Attention::BLOCK_ROWS,
        }
    }

    /// The columns of a head of queries, and of the head of keys and values that it looks at.
    fn columns(&self, head: usize) -> (Head, Head) {
        let group = self.heads / self.kv_heads;
        let columns = |head| Head {
            start: head * self.head_width,
            width: self.head_width,
        };
        (columns(head), columns(head / group))
    }
}

/// Queries `[rows, heads · head_width]`, keys and values `[rows, kv_heads · head_width]`; head h has the columns from
/// `h · head_width`.
#[derive(Debug)]
pub struct Projections {
    /// What asks.
    pub query: Tensor,
    /// What is compared with.
    pub key: Tensor,
    /// What is taken.
    pub value: Tensor,
}

impl Projections {
    /// The same numbers, held once more.
    fn again(&self) -> Self {
        Projections {
            query: self.query.clone(),
            key: self.key.clone(),
            value: self.value.clone(),
        }
    }
}

/// What the backward step needs.
#[derive(Debug)]
pub struct Recorded {
    p: Projections,
    attention: Attention,
    visible: Visible,
    bias: Option<Arc<BiasByDistance>>,
    /// Probabilities before dropout, sentence by sentence, head by head; without those of sentences of more than a block of rows.
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
    let mut p = p;
    if let Some((watch, location)) = run.watcher() {
        let projected = Projected {
            query: &mut p.query,
            key: &mut p.key,
            value: &mut p.value,
            heads: options.heads,
            kv_heads: options.kv_heads,
            scale: options.scale,
        };
        watch.projections(location, projected);
    }
    match mask {
        AttentionMask::Spans {
            queries,
            keys,
            visible,
            store,
        } => {
            let mut keys = Cow::Borrowed(keys);
            if let Some(Store { cache, slots, past }) = store {
                cache.as_stored(&mut p.key, &mut p.value);
                cache.store(run, &p.key, &p.value, slots);
                if past.iter().any(|past| !past.is_empty()) {
                    keys = cache
                        .put_before(run, (&mut p.key, &mut p.value), &keys, &past)
                        .into();
                }
            }
            let keys = &*keys;
            let visible = match run.watcher() {
                Some((watch, location)) => watch.visible(location, visible),
                None => visible,
            };
            // A span without its partner would leave its rows as they were.
            assert_eq!(queries.len(), keys.len());
            let longest = keys.iter().map(|s| s.len).max().unwrap_or(0);
            let bias = options.bias.as_ref();
            let bias = bias.map(|bias| Arc::new(bias.by_distance(run, longest, longest)));
            let heads = Heads {
                isa: run.isa,
                bf16: run.isa.has_bf16()
                    && !run.is_recording()
                    && run.parameters.keeps_cache_in_bf16(),
                p: &p,
                options,
                visible,
                bias: bias.as_ref(),
            };
            match run.is_recording() {
                false if run.is_watched() => watched(run, &heads, queries, keys),
                false => heads.attend(run, queries, keys),
                true => recorded(run, &heads, queries, keys),
            }
        }
        AttentionMask::Cached(cached) => {
            let how = (options.heads, options.scale, options.bias);
            attend_cached(run, (&p.query, &p.key, &p.value), how, cached)
        }
    }
}

/// With probabilities kept for the way back.
fn recorded(run: &mut Run, heads: &Heads, queries: &[Span], keys: &[Span]) -> Tensor {
    let Heads { p, options, .. } = heads;
    let dropout = run.dropout(options.dropout);
    let pairs = || queries.iter().zip(keys);
    let kept = |(q, k): (&Span, &Span)| match heads.is_kept(*q) {
        true => q.len * k.len * options.heads,
        false => 0,
    };
    let mut probabilities = run.arena.tensor(1, pairs().map(kept).sum());
    let most = pairs().map(|(q, k)| heads.largest_block(*q, *k)).max();
    let mut scratch = [0; 2].map(|_| run.arena.tensor(1, most.unwrap_or(0)));
    let [again, dropped] = scratch.each_mut().map(Tensor::data_mut);
    let mut out = run.tensor(p.query.rows(), p.query.columns());
    let mut rest = probabilities.data_mut();
    let mut start = 0;
    for (q, k) in pairs() {
        for h in 0..options.heads {
            for block in heads.blocks(*q, *k, 0, options.block_rows) {
                let size = block.size();
                let scores = match heads.is_kept(*q) {
                    true => {
                        let (scores, others) = std::mem::take(&mut rest).split_at_mut(size);
                        rest = others;
                        scores
                    }
                    false => &mut again[..size],
                };
                heads.probabilities(scores, h, block);
                let seen = if dropout.is_none() {
                    &*scores
                } else {
                    let copy = &mut dropped[..size];
                    copy.copy_from_slice(scores);
                    block.drop_out(heads.isa, copy, dropout, (start, k.len));
                    &*copy
                };
                let (head, _) = options.columns(h);
                heads.values(head.of_mut(&mut out, block.rows), seen, h, block);
            }
            start += q.len * k.len;
        }
    }
    run.record(|lists| {
        Step::Attention(Recorded {
            p: p.again(),
            attention: **options,
            visible: heads.visible,
            bias: heads.bias.cloned(),
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

/// Head by head before somebody's eyes: the numbers of [`Heads::attend`].
fn watched(run: &mut Run, heads: &Heads, queries: &[Span], keys: &[Span]) -> Tensor {
    let Heads {
        p,
        options,
        visible,
        ..
    } = heads;
    let mut out = run.tensor(p.query.rows(), p.query.columns());
    for (text, (q, k)) in queries.iter().zip(keys).enumerate() {
        let mut scores = run.arena.tensor(q.len, k.len);
        for head in 0..options.heads {
            let numbers = scores.data_mut();
            heads.scores(numbers, head, heads.whole(*q, *k));
            run.show_table(Watch::scores, (text, head, k.len), *visible, numbers);
            heads.softmax(numbers, head, 0, k.len);
            run.show_table(Watch::weights, (text, head, k.len), *visible, numbers);
            let (columns, _) = options.columns(head);
            heads.values(
                columns.of_mut(&mut out, *q),
                numbers,
                head,
                heads.whole(*q, *k),
            );
        }
    }
    run.show("heads", &mut out);
    out
}

/// What the heads of a pass read.
struct Heads<'a> {
    isa: Isa,
    /// Whether the products of a text with many keys take factors that are rounded to bf16.
    bf16: bool,
    p: &'a Projections,
    options: &'a Attention,
    visible: Visible,
    bias: Option<&'a Arc<BiasByDistance>>,
}

/// Some query rows of a text.
#[derive(Clone, Copy)]
struct Piece {
    rows: Span,
    /// The number of the first of them among the keys.
    first: usize,
    /// The keys that they see.
    keys: Span,
    /// Whether the factors of its products are rounded to bf16.
    bf16: bool,
}

impl Piece {
    /// Numbers of its scores.
    fn size(&self) -> usize {
        self.rows.len * self.keys.len
    }

    /// Drops some of its probabilities. The text's are numbered from `start` on, `keys` for each row.
    fn drop_out(&self, isa: Isa, x: &mut [f32], dropout: Dropout, (start, keys): (usize, usize)) {
        let first = start + self.first * keys;
        if self.keys.len == keys {
            return dropout_in_place(isa, x, dropout, first as u32);
        }
        for (r, row) in x.chunks_exact_mut(self.keys.len.max(1)).enumerate() {
            dropout_in_place(isa, row, dropout, (first + r * keys) as u32);
        }
    }
}

/// Does `work` with each of `all`, on all threads where these share it.
fn each<T: Send>(shared: bool, all: Vec<T>, work: impl Fn(T) + Sync + Send) {
    match shared {
        true => all.into_par_iter().for_each(work),
        false => all.into_iter().for_each(work),
    }
}

/// Multiplications of a pass over one text from which on it is worth waking a thread.
const SHARED_WORK: usize = 1 << 20;
/// Keys of a text from which on products of rounded factors are faster, their packing counted.
const MANY_KEYS: usize = 64;
/// Query rows that one thread takes at least.
const LEAST_ROWS: usize = 16;
/// The same where heads share keys and values.
const LEAST_GROUPED_ROWS: usize = 64;

impl Heads<'_> {
    /// Nothing goes back: the probabilities of one head and a block of rows are enough at a time.
    fn attend(&self, run: &mut Run, queries: &[Span], keys: &[Span]) -> Tensor {
        let width = self.p.query.columns();
        let mut out = run.tensor(self.p.query.rows(), width);
        let threads = rayon::current_num_threads();
        let work = |(q, k): (&Span, &Span)| q.len * k.len * width;
        let all: usize = queries.iter().zip(keys).map(work).sum();
        let shared = run.product().alone && threads > 1 && all >= SHARED_WORK;
        let arena = &run.arena;
        if !shared && self.group() == 1 {
            let most = self.pieces(queries, keys, 1).map(|piece| piece.size());
            let mut scores = arena.tensor(1, most.max().unwrap_or(0));
            for piece in self.pieces(queries, keys, 1) {
                let rows = piece.rows;
                let out = &mut out.data_mut()[rows.start * width..][..rows.len * width];
                self.piece(out, &mut scores.data_mut()[..piece.size()], piece);
            }
            return out;
        }
        // Each piece with its rows.
        let mut pieces = Vec::new();
        let (mut rest, mut done) = (out.data_mut(), 0);
        for piece in self.pieces(queries, keys, if shared { threads } else { 1 }) {
            let rows = piece.rows;
            let (_, from) = rest.split_at_mut((rows.start - done) * width);
            let (out, others) = from.split_at_mut(rows.len * width);
            rest = others;
            done = rows.start + rows.len;
            pieces.push((out, piece));
        }
        if self.group() > 1 {
            self.attend_grouped(arena, shared, pieces);
        } else {
            // The later rows of a text see more keys: what takes longest is begun first.
            pieces.sort_by_key(|(_, piece)| Reverse(piece.size()));
            pieces.into_par_iter().for_each(|(out, piece)| {
                let mut scores = arena.tensor(1, piece.size());
                self.piece(out, scores.data_mut(), piece);
            });
        }
        out
    }

    /// Heads of queries for each of keys and values.
    fn group(&self) -> usize {
        self.options.heads / self.options.kv_heads
    }

    /// The same where several heads of queries share one of keys and values, which is then read once for all of them.
    fn attend_grouped(&self, arena: &Arena, shared: bool, pieces: Vec<(&mut [f32], Piece)>) {
        let Attention {
            heads,
            kv_heads,
            head_width,
            ..
        } = *self.options;
        let numbers = pieces.iter().map(|(out, _)| out.len()).sum();
        let mut stacked = arena.tensor(1, numbers);
        let mut rest = stacked.data_mut();
        let mut work = Vec::with_capacity(pieces.len() * kv_heads);
        for (out, piece) in &pieces {
            for kv_head in 0..kv_heads {
                let all = std::mem::take(&mut rest);
                let (these, others) = all.split_at_mut(out.len() / kv_heads);
                rest = others;
                work.push((these, kv_head, *piece));
            }
        }
        work.sort_by_key(|(_, _, piece)| Reverse(piece.size()));
        each(shared, work, |(out, kv_head, piece)| {
            self.heads_of(kv_head, arena, out, piece);
        });
        let mut rest = stacked.data();
        let parts = pieces.into_iter().map(|(out, _)| {
            let (from, others) = rest.split_at(out.len());
            rest = others;
            (out, from)
        });
        each(shared, parts.collect(), |(out, from)| {
            for (h, rows) in from.chunks_exact((out.len() / heads).max(1)).enumerate() {
                let to = out.chunks_exact_mut(heads * head_width);
                for (to, row) in to.zip(rows.chunks_exact(head_width)) {
                    to[h * head_width..][..head_width].copy_from_slice(row);
                }
            }
        });
    }

    /// Some query rows of the heads that share one of keys and values, below each other: `out` is
    /// `[heads of the group · rows, head_width]`.
    fn heads_of(&self, kv_head: usize, arena: &Arena, out: &mut [f32], piece: Piece) {
        let Piece { rows, keys, .. } = piece;
        let (width, group) = (self.options.head_width, self.group());
        let first = kv_head * group;
        let (_, kv) = self.options.columns(first);
        let mut query = arena.tensor(group * rows.len, width);
        for (i, to) in query.data_mut().chunks_exact_mut(width).enumerate() {
            let row = self.p.query.row(rows.start + i % rows.len);
            to.copy_from_slice(&row[(first + i / rows.len) * width..][..width]);
        }
        let mut scores = arena.tensor(group * rows.len, keys.len);
        let columns = kv.of(&self.p.key, keys).transposed();
        self.product(piece.bf16, scores.matrix_mut(), query.matrix(), columns);
        for (i, scores) in scores
            .data_mut()
            .chunks_exact_mut(piece.size().max(1))
            .enumerate()
        {
            self.softmax(scores, first + i, piece.first, keys.len);
        }
        let out = MatrixMut::new(out, group * rows.len, width, width);
        self.product(piece.bf16, out, scores.matrix(), kv.of(&self.p.value, keys));
    }

    /// The work, some rows of a text at a time, so that each of `threads` has some.
    fn pieces(
        &self,
        queries: &[Span],
        keys: &[Span],
        threads: usize,
    ) -> impl Iterator<Item = Piece> {
        let of_text = move |(q, k): (&Span, &Span)| {
            let (q, k) = (*q, *k);
            // Queries are the last of their text's rows; of another text they see all.
            let before = match self.is_causal() {
                true => k.len.saturating_sub(q.len),
                false => 0,
            };
            let least = match self.group() {
                1 => LEAST_ROWS,
                // Threads share their heads too.
                _ => LEAST_GROUPED_ROWS,
            };
            let part = match threads {
                1 => q.len,
                _ => q.len.div_ceil(2 * threads).next_multiple_of(least),
            };
            let most = (self.options.block_rows / self.group()).max(1);
            self.blocks(q, k, before, part.min(most))
        };
        queries.iter().zip(keys).flat_map(of_text)
    }

    /// The rows of a text, at most `most` of them at a time; `before` keys stand before the first.
    fn blocks(
        &self,
        q: Span,
        k: Span,
        before: usize,
        most: usize,
    ) -> impl Iterator<Item = Piece> + use<> {
        let (visible, bf16, causal) = (self.visible, self.bf16, self.is_causal());
        let mut first = 0;
        std::iter::from_fn(move || {
            let position = before + first;
            // Whether a row is rounded depends on the rows that it sees alone, not on those that come behind it.
            let (bf16, len) = match (bf16, causal) {
                (false, _) => (false, most),
                (true, false) => (k.len >= MANY_KEYS, most),
                (true, true) if position < MANY_KEYS => (false, most.min(MANY_KEYS - position)),
                (true, true) => (true, most),
            };
            let rows = Span {
                start: q.start + first,
                len: len.max(1).min(q.len - first),
            };
            first += rows.len;
            (rows.len > 0).then(|| Piece {
                rows,
                first: position,
                keys: Span {
                    // What none of these rows sees need not be there.
                    len: visible.columns(position + rows.len - 1, k.len).end,
                    ..k
                },
                bf16,
            })
        })
    }

    /// Whether a row sees none behind its own.
    fn is_causal(&self) -> bool {
        self.visible.ahead != usize::MAX
    }

    /// Whether the probabilities of these rows are kept for the way back.
    fn is_kept(&self, q: Span) -> bool {
        q.len <= self.options.block_rows
    }

    /// Numbers of the largest block of a text.
    fn largest_block(&self, q: Span, k: Span) -> usize {
        q.len.min(self.options.block_rows) * k.len
    }

    /// All heads of some query rows: to `out`, which is theirs alone.
    fn piece(&self, out: &mut [f32], scores: &mut [f32], piece: Piece) {
        let width = self.p.query.columns();
        for h in 0..self.options.heads {
            self.probabilities(scores, h, piece);
            let (head, _) = self.options.columns(h);
            let out = out.get_mut(head.start..).unwrap_or(&mut []);
            let out = MatrixMut::new(out, piece.rows.len, head.width, width);
            self.values(out, scores, h, piece);
        }
    }

    /// All rows of a text, not rounded.
    fn whole(&self, rows: Span, keys: Span) -> Piece {
        Piece {
            rows,
            first: 0,
            keys,
            bf16: false,
        }
    }

    /// Head `h`: what each of the query rows makes of each key.
    fn probabilities(&self, scores: &mut [f32], h: usize, piece: Piece) {
        self.scores(scores, h, piece);
        self.softmax(scores, h, piece.first, piece.keys.len);
    }

    /// Head `h`: the products of the query rows and the keys.
    fn scores(&self, scores: &mut [f32], h: usize, piece: Piece) {
        let Piece { rows, keys, .. } = piece;
        let (head, kv) = self.options.columns(h);
        let scores = MatrixMut::new(scores, rows.len, keys.len, keys.len);
        let keys = kv.of(&self.p.key, keys).transposed();
        self.product(piece.bf16, scores, head.of(&self.p.query, rows), keys);
    }

    /// Head `h`: the probabilities of these products, of which the first row is number `first` among the keys.
    fn softmax(&self, scores: &mut [f32], h: usize, first: usize, keys: usize) {
        let visible = Visible {
            offset: self.visible.offset + first,
            ..self.visible
        };
        let Some(bias) = self.bias else {
            return softmax_in_place(self.isa, scores, keys, self.options.scale, visible);
        };
        for (r, row) in scores.chunks_exact_mut(keys.max(1)).enumerate() {
            let bias = bias.row(h, first + r, keys);
            for (score, bias) in row.iter_mut().zip(bias) {
                *score = score.mul_add(self.options.scale, *bias);
            }
        }
        softmax_in_place(self.isa, scores, keys, 1.0, visible);
    }

    /// Head `h`: the values of the keys, as the rows of probabilities `seen` weigh them.
    fn values(&self, out: MatrixMut, seen: &[f32], h: usize, piece: Piece) {
        let (_, kv) = self.options.columns(h);
        let k = piece.keys;
        let seen = Matrix::new(seen, out.rows(), k.len, k.len);
        self.product(piece.bf16, out, seen, kv.of(&self.p.value, k));
    }

    /// `out = a · b`.
    fn product(&self, bf16: bool, out: MatrixMut, a: Matrix, b: Matrix) {
        match bf16 {
            true => gemm_bf16(self.isa, out, a, b, Plus::Nothing),
            false => gemm(self.isa, out, a, b, Plus::Nothing),
        }
    }
}

/// One head's columns.
#[derive(Clone, Copy)]
struct Head {
    start: usize,
    width: usize,
}

impl Head {
    /// The rows of `span`, this head's columns: `[span.len, width]`.
    fn of(self, x: &Tensor, span: Span) -> Matrix<'_> {
        let rest = x
            .data()
            .get(span.start * x.columns() + self.start..)
            .unwrap_or(&[]);
        Matrix::new(rest, span.len, self.width, x.columns())
    }

    /// Makes zeros of them.
    fn clear(self, x: &mut Tensor, span: Span) {
        let columns = x.columns();
        let rows = x.data_mut().chunks_exact_mut(columns.max(1));
        for row in rows.skip(span.start).take(span.len) {
            row[self.start..][..self.width].fill(0.0);
        }
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
        let heads = Heads {
            isa,
            bf16: false,
            p: &self.p,
            options: &self.attention,
            visible: self.visible,
            bias: self.bias.as_ref(),
        };
        let shape = |t: &Tensor| (t.rows(), t.columns());
        let new = |(rows, columns)| back.arena.tensor(rows, columns);
        let (mut dq, mut dk, mut dv) = (new(shape(query)), new(shape(key)), new(shape(value)));
        let pairs = &back.lists.pairs[self.pairs];
        let most = pairs.iter().map(|(q, k)| heads.largest_block(*q, *k)).max();
        let mut scratch = [0; 3].map(|_| new((1, most.unwrap_or(0))));
        let [again, dropped, ds] = scratch.each_mut().map(Tensor::data_mut);
        let mut kept = self.probabilities.data();
        let mut start = 0;
        for (q, k) in pairs {
            for h in 0..self.attention.heads {
                let (head, kv) = self.attention.columns(h);
                // Heads of queries that share one of keys add their gradients, in their order, and so do blocks of rows.
                let group = self.attention.heads / self.attention.kv_heads;
                let mut plus = match h % group {
                    0 => Plus::Nothing,
                    _ => Plus::C,
                };
                let mut blocks = heads.blocks(*q, *k, 0, self.attention.block_rows);
                let seen = blocks.next().map(|block| block.keys.len);
                if seen != Some(k.len) && plus == Plus::Nothing {
                    // The first block does not see all keys, and the others add theirs.
                    kv.clear(&mut dk, *k);
                    kv.clear(&mut dv, *k);
                    plus = Plus::C;
                }
                for block in heads.blocks(*q, *k, 0, self.attention.block_rows) {
                    let Piece {
                        rows, first, keys, ..
                    } = block;
                    let size = block.size();
                    let p = match heads.is_kept(*q) {
                        true => {
                            let (p, others) = kept.split_at(size);
                            kept = others;
                            p
                        }
                        false => {
                            heads.probabilities(&mut again[..size], h, block);
                            &again[..size]
                        }
                    };
                    let d_head = head.of(&d_out, rows);
                    let dropped = &mut dropped[..size];
                    dropped.copy_from_slice(p);
                    block.drop_out(isa, dropped, self.dropout, (start, k.len));
                    let dropped = Matrix::new(dropped, rows.len, keys.len, keys.len);
                    let d_values = kv.of_mut(&mut dv, keys);
                    gemm(isa, d_values, dropped.transposed(), d_head, plus);
                    let ds = &mut ds[..size];
                    product(isa, ds, d_head, kv.of(value, keys).transposed());
                    block.drop_out(isa, ds, self.dropout, (start, k.len));
                    match &self.attention.bias {
                        None => {
                            softmax_backward_in_place(isa, ds, p, keys.len, self.attention.scale);
                        }
                        Some(bias) => {
                            softmax_backward_in_place(isa, ds, p, keys.len, 1.0);
                            let buckets = back.weights.index.get(bias.table).shape[0];
                            let range = back.weights.index.get(bias.table).range.clone();
                            let gradient = &mut back.gradients[range];
                            for (i, row) in ds.chunks_exact_mut(keys.len.max(1)).enumerate() {
                                for (j, d) in row.iter_mut().enumerate() {
                                    let distance = j as isize - (first + i) as isize;
                                    let bucket = bias.bucket(distance, buckets);
                                    gradient[bucket * self.attention.heads + h] += *d;
                                    *d *= self.attention.scale;
                                }
                            }
                        }
                    }
                    let ds = Matrix::new(ds, rows.len, keys.len, keys.len);
                    let d_queries = head.of_mut(&mut dq, rows);
                    gemm(isa, d_queries, ds, kv.of(key, keys), Plus::Nothing);
                    let (d_keys, queries) = (kv.of_mut(&mut dk, keys), head.of(query, rows));
                    gemm(isa, d_keys, ds.transposed(), queries, plus);
                    plus = Plus::C;
                }
                start += q.len * k.len;
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

    const WINDOW: Visible = Visible {
        offset: 0,
        behind: 1,
        ahead: 1,
    };

    /// Four heads of width 3; keys and values have `kv_heads`.
    fn check(kv_heads: usize, dropout: f32, keys: &'static [Span; 3], visible: Visible) {
        for bias in [false, true] {
            // All rows at once; and the longest text in two blocks.
            for block_rows in [Attention::BLOCK_ROWS, 3] {
                check_with((bias, block_rows), kv_heads, dropout, keys, visible);
            }
        }
    }

    fn check_with(
        (bias, block_rows): (bool, usize),
        kv_heads: usize,
        dropout: f32,
        keys: &'static [Span; 3],
        visible: Visible,
    ) {
        let mut check = Check::new();
        let bias = bias.then(|| RelativeBias {
            table: check.parameter(&[6, 4]),
            max_distance: 4,
            bidirectional: true,
        });
        let rows = keys[2].start + keys[2].len;
        let (q, k, v) = (
            check.input(8, 12),
            check.input(rows, 3 * kv_heads),
            check.input(rows, 3 * kv_heads),
        );
        let options = Attention {
            kv_heads,
            dropout,
            scale: 0.7,
            bias,
            block_rows,
            ..Attention::new(4, 3)
        };
        check.run(|run, x| {
            let p = Projections {
                query: x[q].clone(),
                key: x[k].clone(),
                value: x[v].clone(),
            };
            let mask = AttentionMask::Spans {
                queries: &SPANS,
                keys,
                visible,
                store: None,
            };
            attention(run, p, &options, mask)
        });
    }

    #[test]
    fn gradients_are_slopes() {
        for dropout in [0.0, 0.3] {
            for kv_heads in [4, 2, 1] {
                check(kv_heads, dropout, &SPANS, Visible::CAUSAL);
                check(kv_heads, dropout, &SPANS, WINDOW);
                check(kv_heads, dropout, &OTHERS, Visible::ALL);
            }
        }
    }

    #[test]
    fn shared_heads_are_heads_that_are_repeated() {
        let arena = crate::tensor::Arena::default();
        let none = Check::new().weights();
        let packed = crate::packed::PackedWeights::new(&none, Default::default());
        let mut run = Run::inference(&arena, &packed);
        let mut random = crate::random::SplitMix(5);
        let mut tensor = |columns| {
            let mut t = arena.tensor(8, columns);
            t.data_mut().iter_mut().for_each(|v| *v = random.normal());
            t
        };
        let (query, key, value) = (tensor(12), tensor(6), tensor(6));
        let repeated = |x: &Tensor| {
            let mut all = arena.tensor(8, 12);
            for r in 0..8 {
                let head = |h: usize| &x.row(r)[h * 3..][..3];
                let row = [head(0), head(0), head(1), head(1)].concat();
                all.data_mut()[r * 12..][..12].copy_from_slice(&row);
            }
            all
        };
        let mut attended = |kv_heads, key: Tensor, value: Tensor| {
            let query = query.clone();
            let options = Attention {
                kv_heads,
                ..Attention::new(4, 3)
            };
            let mask = AttentionMask::Spans {
                queries: &SPANS,
                keys: &SPANS,
                visible: Visible::CAUSAL,
                store: None,
            };
            attention(&mut run, Projections { query, key, value }, &options, mask)
        };
        let all = attended(4, repeated(&key), repeated(&value));
        assert_eq!(all.data(), attended(2, key, value).data());
    }
}
