//! Attention of one query row over rows of keys and values that were computed before (decoding).

use crate::bf16::round;
use crate::isa::{Level, multiversion};
use crate::math::exp_small;
use crate::sixteen::Sixteen;
#[cfg(target_arch = "x86_64")]
use crate::sixteen::Two256;
use crate::sums::LANES;
use crate::{Isa, Matrix};

/// How the numbers of cached rows are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stored {
    /// As they are.
    Float32,
    /// Rounded to bf16. A word holds two numbers of a head: j in its lower half, and j + head width / 2.
    Bf16,
}

impl Stored {
    /// Words of 32 bits in a row of `width` numbers.
    pub fn words(self, width: usize) -> usize {
        match self {
            Stored::Float32 => width,
            Stored::Bf16 => width / 2,
        }
    }
}

/// Rows of words in pages of [`PAGE`](PagedRows::PAGE) rows each.
#[derive(Debug, Clone, Copy)]
pub struct PagedRows<'a> {
    /// The pages, each `[PAGE, words]`.
    pub pages: &'a [&'a [f32]],
    /// Words in a row.
    pub words: usize,
}

impl<'a> PagedRows<'a> {
    /// Rows of a page.
    pub const PAGE: usize = 32;

    #[inline(always)]
    fn row(self, row: u32) -> &'a [f32] {
        let row = row as usize;
        &self.pages[row / Self::PAGE][row % Self::PAGE * self.words..][..self.words]
    }
}

/// Keys and values of cached rows.
#[derive(Debug, Clone, Copy)]
pub struct CachedRows<'a> {
    /// Heads of the query.
    pub heads: usize,
    /// Heads of keys and values; divides `heads`. Neighbouring heads of the query share one.
    pub kv_heads: usize,
    /// What a product of query and key is multiplied by.
    pub scale: f32,
    /// Added to the scores after their scale: for each head of the query a number for each row that it sees, those of the last rows
    /// last. `[heads, rows or more]`.
    pub bias: Option<Matrix<'a>>,
    /// How keys and values are stored.
    pub stored: Stored,
    /// The keys.
    pub keys: PagedRows<'a>,
    /// The values.
    pub values: PagedRows<'a>,
}

multiversion! {
    /// Stores a row of numbers as the words `to`. In bf16 the head width is even.
    pub fn store_row(to: &mut [f32], row: &[f32], heads: usize, stored: Stored) -> () {
        assert_eq!(to.len(), heads * stored.words(row.len() / heads), "words of a row");
        match stored {
            Stored::Float32 => to.copy_from_slice(row),
            Stored::Bf16 => {
                let half = row.len() / heads / 2;
                for (to, head) in to.chunks_exact_mut(half).zip(row.chunks_exact(2 * half)) {
                    let (low, high) = head.split_at(half);
                    for (to, (low, high)) in to.iter_mut().zip(low.iter().zip(high)) {
                        *to = f32::from_bits(round(*low).to_bits() >> 16 | round(*high).to_bits());
                    }
                }
            }
        }
    }
}

multiversion! {
    /// The numbers of a row that [`store_row`] stored: as it left them.
    pub fn load_row(to: &mut [f32], words: &[f32], heads: usize, stored: Stored) -> () {
        assert_eq!(words.len(), heads * stored.words(to.len() / heads), "words of a row");
        match stored {
            Stored::Float32 => to.copy_from_slice(words),
            Stored::Bf16 => {
                let half = to.len() / heads / 2;
                for (words, head) in words.chunks_exact(half).zip(to.chunks_exact_mut(2 * half)) {
                    let (low, high) = head.split_at_mut(half);
                    for (word, (low, high)) in words.iter().zip(low.iter_mut().zip(high)) {
                        *low = f32::from_bits(word.to_bits() << 16);
                        *high = f32::from_bits(word.to_bits() & 0xFFFF_0000);
                    }
                }
            }
        }
    }
}

/// Where the probabilities of a query go that are wanted besides the result; slices that are empty receive none.
#[derive(Debug, Default)]
pub struct Seen<'a> {
    /// Each row's probability averaged over the heads: `[rows]`.
    pub mean: &'a mut [f32],
    /// Those of each head: `[heads, rows]`.
    pub weights: &'a mut [f32],
}

/// Heads whose scores stand side by side.
const GROUP: usize = 16;

/// Distance between the scores of two rows, for `heads ≤ 16`.
fn stride(heads: usize) -> usize {
    heads.next_power_of_two()
}

/// Numbers that [`attend_row`] needs beside its result.
pub fn attend_scratch(heads: usize, rows: usize) -> usize {
    (rows * stride(heads.min(GROUP))).next_multiple_of(LANES)
}

/// Attention of one query row over the cached rows `rows`, in their order, for all heads (paper, section 3.2).
///
/// `query` and `out` are `[width]`; `scratch` holds [`attend_scratch`] numbers; `seen` says what is told of the probabilities.
///
/// # Panics
/// A slice has another size, or a row is not there.
pub fn attend_row(
    isa: Isa,
    out: &mut [f32],
    seen: Seen,
    scratch: &mut [f32],
    query: &[f32],
    cached: CachedRows,
    rows: &[u32],
) {
    let CachedRows {
        heads,
        kv_heads,
        scale,
        bias,
        stored,
        keys,
        values,
    } = cached;
    let head_width = query.len() / heads;
    let head_words = stored.words(head_width);
    assert!(head_width * heads == query.len() && out.len() == query.len());
    assert!(heads.is_multiple_of(kv_heads), "heads that share keys");
    assert!(keys.words == kv_heads * head_words && values.words == keys.words);
    assert!(bias.is_none_or(|bias| bias.rows() == heads && bias.columns() >= rows.len()));
    let Seen { mean, weights } = seen;
    assert!(mean.is_empty() || mean.len() == rows.len());
    assert!(weights.is_empty() || weights.len() == heads * rows.len());
    assert_eq!(
        stored.words(2 * head_width),
        2 * head_words,
        "an odd width has no halves"
    );
    mean.fill(0.0);
    let groups = query.chunks(GROUP * head_width);
    let outs = out.chunks_mut(GROUP * head_width);
    let all_heads = heads;
    for (g, (query, out)) in groups.zip(outs).enumerate() {
        let heads = query.len() / head_width;
        let group = Group {
            heads,
            stride: stride(heads),
            head_width,
            head_words,
            first_head: g * GROUP,
            sharing: all_heads / kv_heads,
        };
        let scores = &mut scratch[..(rows.len() * group.stride).next_multiple_of(LANES)];
        score(isa, scores, query, keys, rows, group, stored);
        if let Some(bias) = bias {
            group.add_bias(scores, scale, bias, rows.len());
        }
        let scale = if bias.is_some() { 1.0 } else { scale };
        softmax(isa, scores, group.stride, scale);
        out.fill(0.0);
        add_values(isa, out, scores, values, rows, group, stored);
        for (mean, scores) in mean.iter_mut().zip(scores.chunks_exact(group.stride)) {
            *mean += scores[..heads].iter().sum::<f32>();
        }
        let weights = weights.chunks_exact_mut(rows.len().max(1)).skip(g * GROUP);
        for (h, weights) in weights.take(heads).enumerate() {
            for (weight, scores) in weights.iter_mut().zip(scores.chunks_exact(group.stride)) {
                *weight = scores[h];
            }
        }
    }
    mean.iter_mut().for_each(|mean| *mean /= heads as f32);
}

/// Up to 16 heads: their scores of a row stand side by side, a power of two apart from those of the next row, so that a
/// lane of 16 always belongs to the same head.
#[derive(Clone, Copy)]
struct Group {
    heads: usize,
    stride: usize,
    head_width: usize,
    head_words: usize,
    /// The first of them among all heads.
    first_head: usize,
    /// Heads that share one of keys and values.
    sharing: usize,
}

impl Group {
    /// Scales scores, and adds to them the last of the numbers that `bias` has for each of all heads.
    fn add_bias(self, scores: &mut [f32], scale: f32, bias: Matrix, rows: usize) {
        let first = bias.columns() - rows;
        for h in 0..self.heads {
            let bias = &bias.data[(self.first_head + h) * bias.row_stride + first..][..rows];
            let scores = scores.iter_mut().skip(h).step_by(self.stride);
            for (score, bias) in scores.zip(bias) {
                *score = *score * scale + bias;
            }
        }
    }

    /// The words in a row that head `h` looks at.
    #[inline(always)]
    fn head(self, row: &[f32], h: usize) -> &[f32] {
        &row[(self.first_head + h) / self.sharing * self.head_words..][..self.head_words]
    }
}

/// Writes one body for each instruction set, with the type that has its sixteen lanes.
macro_rules! with_sixteen {
    ($(#[$doc:meta])* fn $name:ident($($arg:ident: $ty:ty),* $(,)?), $stored:ident, $body:ident) => {
        $(#[$doc])*
        #[allow(clippy::too_many_arguments)]
        fn $name(isa: Isa, $($arg: $ty,)* $stored: Stored) {
            #[inline(always)]
            #[allow(clippy::too_many_arguments)]
            unsafe fn any<V: Sixteen>($($arg: $ty,)* $stored: Stored) {
                // SAFETY: the caller has the instruction set.
                unsafe {
                    match $stored {
                        Stored::Float32 => $body::<V, false>($($arg),*),
                        Stored::Bf16 => $body::<V, true>($($arg),*),
                    }
                }
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            #[allow(clippy::too_many_arguments)]
            fn avx2($($arg: $ty,)* $stored: Stored) {
                // SAFETY: this function has the instruction set.
                unsafe { any::<Two256>($($arg,)* $stored) }
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,avx512f,avx512vl,avx512bw,avx512dq")]
            #[allow(clippy::too_many_arguments)]
            fn avx512($($arg: $ty,)* $stored: Stored) {
                // SAFETY: this function has the instruction set.
                unsafe { any::<std::arch::x86_64::__m512>($($arg,)* $stored) }
            }
            match isa.0 {
                // SAFETY: plain Rust needs no instruction set.
                Level::Scalar => unsafe { any::<[f32; LANES]>($($arg,)* $stored) },
                // SAFETY: as above.
                #[cfg(target_arch = "aarch64")]
                Level::Neon => unsafe { any::<[f32; LANES]>($($arg,)* $stored) },
                // SAFETY: an `Isa` of this level exists only where the CPU has these features.
                #[cfg(target_arch = "x86_64")]
                Level::Avx2 => unsafe { avx2($($arg,)* $stored) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                Level::Avx512 | Level::Amx => unsafe { avx512($($arg,)* $stored) },
            }
        }
    };
}

with_sixteen! {
    /// `scores[row · stride + head] = query · key`.
    fn score(scores: &mut [f32], query: &[f32], keys: PagedRows, rows: &[u32], group: Group), stored, score_rows
}

with_sixteen! {
    /// `out += Σ scores[row · stride + head] · value`, row after row.
    fn add_values(out: &mut [f32], scores: &[f32], values: PagedRows, rows: &[u32], group: Group), stored, add_rows
}

/// # Safety
/// The CPU has V's instruction set.
#[inline(always)]
unsafe fn score_rows<V: Sixteen, const PAIRS: bool>(
    scores: &mut [f32],
    query: &[f32],
    keys: PagedRows,
    rows: &[u32],
    group: Group,
) {
    // Eight products are summed at once: those of eight heads, or of the heads of several rows.
    let heads_at_once = group.stride.min(8);
    let rows_at_once = 8 / heads_at_once;
    for (part, some) in rows.chunks(rows_at_once).enumerate() {
        if let Some(next) = rows.get((part + 1) * rows_at_once) {
            prefetch(keys.row(*next));
        }
        let first = keys.row(some[0]);
        let mut row_of = [first; 8];
        if rows_at_once > 1 {
            for (slot, row) in row_of.iter_mut().enumerate() {
                *row = some
                    .get(slot / heads_at_once)
                    .map_or(&[][..], |row| keys.row(*row));
            }
        }
        for h0 in (0..group.stride).step_by(8) {
            let slots = Slots {
                query,
                group,
                h0,
                heads_at_once,
            };
            // SAFETY: the caller has the instruction set, and eight scores follow the offset, which lies in the slice.
            unsafe {
                let v = [
                    slots.product::<V, PAIRS>(row_of[0], 0),
                    slots.product::<V, PAIRS>(row_of[1], 1),
                    slots.product::<V, PAIRS>(row_of[2], 2),
                    slots.product::<V, PAIRS>(row_of[3], 3),
                    slots.product::<V, PAIRS>(row_of[4], 4),
                    slots.product::<V, PAIRS>(row_of[5], 5),
                    slots.product::<V, PAIRS>(row_of[6], 6),
                    slots.product::<V, PAIRS>(row_of[7], 7),
                ];
                let offset = part * rows_at_once * group.stride + h0;
                let to: &mut [f32] = &mut scores[offset..][..8];
                V::sums(v, to.as_mut_ptr());
            }
        }
    }
    scores[rows.len() * group.stride..].fill(f32::NEG_INFINITY);
}

/// The products that are summed together.
#[derive(Clone, Copy)]
struct Slots<'a> {
    query: &'a [f32],
    group: Group,
    h0: usize,
    heads_at_once: usize,
}

impl Slots<'_> {
    /// Query times key in lanes, for the head of the given slot; zeros where there is none.
    ///
    /// # Safety
    /// The CPU has V's instruction set.
    #[inline(always)]
    unsafe fn product<V: Sixteen, const PAIRS: bool>(self, row: &[f32], slot: usize) -> V {
        let h = self.h0 + slot % self.heads_at_once;
        // SAFETY: the caller has the instruction set; `part` checks what it reads.
        unsafe {
            if h >= self.group.heads || row.is_empty() {
                return V::zero();
            }
            let key = self.group.head(row, h);
            let query = &self.query[h * self.group.head_width..][..self.group.head_width];
            if !PAIRS {
                return products(V::zero(), query, key, |v: V| v);
            }
            let (first, second) = query.split_at(key.len());
            let sums = products(V::zero(), first, key, |v: V| v.low());
            sums.plus(products(V::zero(), second, key, |v: V| v.high()))
        }
    }
}

/// `sums + x · number(words)`, in lanes.
///
/// # Safety
/// The CPU has V's instruction set.
#[inline(always)]
unsafe fn products<V: Sixteen>(
    mut sums: V,
    x: &[f32],
    words: &[f32],
    number: impl Fn(V) -> V,
) -> V {
    assert_eq!(x.len(), words.len());
    let whole = x.len() / LANES * LANES;
    // SAFETY: both slices hold what is read: 16 numbers from each j, then the rest.
    unsafe {
        for j in (0..whole).step_by(LANES) {
            let (x, words) = (V::load(x.as_ptr().add(j)), V::load(words.as_ptr().add(j)));
            sums = number(words).times_plus(x, sums);
        }
        let rest = x.len() - whole;
        if rest > 0 {
            let x = V::load_part(x.as_ptr().add(whole), rest);
            let words = V::load_part(words.as_ptr().add(whole), rest);
            sums = number(words).times_plus(x, sums);
        }
    }
    sums
}

multiversion! {
    /// Softmax of `scale · scores` over the rows, for each head: lane l belongs to head l mod stride.
    fn softmax(scores: &mut [f32], stride: usize, scale: f32) -> () {
        let (scores, _) = scores.as_chunks_mut::<LANES>();
        let mut most = [f32::NEG_INFINITY; LANES];
        for scores in scores.iter() {
            for l in 0..LANES {
                most[l] = if scores[l] > most[l] { scores[l] } else { most[l] };
            }
        }
        let most = of_heads(most, stride, |a, b| if b > a { b } else { a });
        let mut sums = [0.0; LANES];
        for scores in scores.iter_mut() {
            for l in 0..LANES {
                scores[l] = exp_small((scores[l] - most[l]) * scale);
                sums[l] += scores[l];
            }
        }
        let sums = of_heads(sums, stride, |a, b| a + b);
        let inverse = sums.map(|sum| 1.0 / sum);
        for scores in scores.iter_mut() {
            for l in 0..LANES {
                scores[l] *= inverse[l];
            }
        }
    }
}

/// Combines the lanes of each head in a fixed tree, and gives the result to all its lanes.
#[inline(always)]
fn of_heads(mut lanes: [f32; LANES], stride: usize, f: impl Fn(f32, f32) -> f32) -> [f32; LANES] {
    for width in [8, 4, 2, 1] {
        if width >= stride {
            for l in 0..width {
                lanes[l] = f(lanes[l], lanes[l + width]);
            }
        }
    }
    std::array::from_fn(|l| lanes[l % stride])
}

/// # Safety
/// The CPU has V's instruction set.
#[inline(always)]
unsafe fn add_rows<V: Sixteen, const PAIRS: bool>(
    out: &mut [f32],
    scores: &[f32],
    values: PagedRows,
    rows: &[u32],
    group: Group,
) {
    // Four rows at a time, so that the sums are loaded and stored once for all four; each sum still runs in order.
    let (fours, rest) = rows.as_chunks::<4>();
    for (i, four) in fours.iter().enumerate() {
        let [v0, v1, v2, v3] = four.map(|row| values.row(row));
        if let Some(next) = fours.get(i + 1) {
            for row in next {
                prefetch(values.row(*row));
            }
        }
        let scores = &scores[4 * i * group.stride..][..4 * group.stride];
        for (h, out) in out.chunks_exact_mut(group.head_width).enumerate() {
            let w = [
                scores[h],
                scores[group.stride + h],
                scores[2 * group.stride + h],
                scores[3 * group.stride + h],
            ];
            let v = [
                group.head(v0, h),
                group.head(v1, h),
                group.head(v2, h),
                group.head(v3, h),
            ];
            // SAFETY: the caller has the instruction set.
            unsafe { add_scaled::<V, PAIRS, 4>(out, w, v) };
        }
    }
    for (i, row) in rest.iter().enumerate() {
        let value = values.row(*row);
        let scores = &scores[(4 * fours.len() + i) * group.stride..][..group.stride];
        for (h, out) in out.chunks_exact_mut(group.head_width).enumerate() {
            // SAFETY: the caller has the instruction set.
            unsafe { add_scaled::<V, PAIRS, 1>(out, [scores[h]], [group.head(value, h)]) };
        }
    }
}

/// `out += Σ wᵢ · vᵢ`, in this order, for one head.
///
/// # Safety
/// The CPU has V's instruction set.
#[inline(always)]
unsafe fn add_scaled<V: Sixteen, const PAIRS: bool, const N: usize>(
    out: &mut [f32],
    w: [f32; N],
    v: [&[f32]; N],
) {
    let words = v[0].len();
    assert_eq!(out.len(), if PAIRS { 2 * words } else { words });
    for v in v {
        assert_eq!(v.len(), words);
    }
    // SAFETY: the caller has the instruction set; `out` and each `v` hold what is read and written: 16 words from each j,
    // then the rest, and for pairs as many again behind them.
    unsafe {
        let out = out.as_mut_ptr();
        for j in (0..words / LANES * LANES).step_by(LANES) {
            let at = out.add(j);
            if PAIRS {
                let (mut a, mut b) = (V::load(at), V::load(at.add(words)));
                for i in 0..N {
                    let (v, w) = (V::load(v[i].as_ptr().add(j)), V::splat(w[i]));
                    a = v.low().times_plus(w, a);
                    b = v.high().times_plus(w, b);
                }
                a.store(at);
                b.store(at.add(words));
            } else {
                let mut a = V::load(at);
                for i in 0..N {
                    a = V::load(v[i].as_ptr().add(j)).times_plus(V::splat(w[i]), a);
                }
                a.store(at);
            }
        }
        let (j, rest) = (words / LANES * LANES, words % LANES);
        if rest > 0 {
            let at = out.add(j);
            let mut a = V::load_part(at, rest);
            let mut b = V::zero();
            if PAIRS {
                b = V::load_part(at.add(words), rest);
            }
            for i in 0..N {
                let (v, w) = (V::load_part(v[i].as_ptr().add(j), rest), V::splat(w[i]));
                a = if PAIRS { v.low() } else { v }.times_plus(w, a);
                b = v.high().times_plus(w, b);
            }
            a.store_part(at, rest);
            if PAIRS {
                b.store_part(at.add(words), rest);
            }
        }
    }
}

/// Asks for the cache lines of `x`. Rows of keys and values lie far apart, where no processor guesses the next one.
#[inline(always)]
fn prefetch(x: &[f32]) {
    for line in x.chunks(16) {
        crate::simd::prefetch(line.as_ptr());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::numbers;

    /// Softmax(q·kᵀ/√d)·v in f64, head after head.
    fn by_definition(
        q: &[f32],
        k: &[f32],
        v: &[f32],
        rows: &[u32],
        (heads, kv_heads): (usize, usize),
        bias: Option<Matrix>,
    ) -> Vec<f64> {
        let head_width = q.len() / heads;
        let width = head_width * kv_heads;
        let at = |x: &[f32], row: u32, j: usize| {
            let head = j / head_width / (heads / kv_heads);
            f64::from(x[row as usize * width + head * head_width + j % head_width])
        };
        let of_head = |h: usize| {
            let part = h * head_width..(h + 1) * head_width;
            let score = |(i, row): (usize, &u32)| {
                let products = part.clone().map(|j| f64::from(q[j]) * at(k, *row, j));
                let bias = bias.map_or(0.0, |bias| {
                    let last = bias.columns() - rows.len();
                    f64::from(bias.data[h * bias.row_stride + last + i])
                });
                (products.sum::<f64>() / (head_width as f64).sqrt() + bias).exp()
            };
            let scores: Vec<f64> = rows.iter().enumerate().map(score).collect();
            let sum: f64 = scores.iter().sum();
            let mean = move |j| {
                let terms = rows.iter().zip(&scores).map(|(row, s)| s * at(v, *row, j));
                terms.sum::<f64>() / sum
            };
            part.map(mean).collect::<Vec<f64>>()
        };
        (0..heads).flat_map(of_head).collect()
    }

    /// Runs attention; gives the result and the mean probabilities.
    #[allow(clippy::too_many_arguments)]
    fn attended(
        isa: Isa,
        stored: Stored,
        (heads, kv_heads): (usize, usize),
        q: &[f32],
        k: &[f32],
        v: &[f32],
        rows: &[u32],
        bias: Option<Matrix>,
    ) -> Vec<f32> {
        let width = q.len();
        let kv_width = width / heads * kv_heads;
        let words = stored.words(kv_width);
        let paged = |x: &[f32]| {
            let rows = (x.len() / kv_width).next_multiple_of(PagedRows::PAGE);
            let mut pages = vec![0.0; rows * words];
            for (to, row) in pages.chunks_exact_mut(words).zip(x.chunks_exact(kv_width)) {
                store_row(isa, to, row, kv_heads, stored);
            }
            pages
        };
        let (k, v) = (paged(k), paged(v));
        let pages = |x| <[f32]>::chunks_exact(x, PagedRows::PAGE * words).collect::<Vec<_>>();
        let (k, v) = (pages(&k), pages(&v));
        let cached = CachedRows {
            heads,
            kv_heads,
            scale: 1.0 / ((width / heads) as f32).sqrt(),
            bias,
            stored,
            keys: PagedRows { pages: &k, words },
            values: PagedRows { pages: &v, words },
        };
        let (mut out, mut mean) = (vec![0.0; width], vec![9.0; rows.len()]);
        let mut scratch = vec![f32::NAN; attend_scratch(heads, rows.len())];
        let mut weights = vec![9.0; heads * rows.len()];
        let seen = Seen {
            mean: &mut mean,
            weights: &mut weights,
        };
        attend_row(isa, &mut out, seen, &mut scratch, q, cached, rows);
        for (r, mean) in mean.iter().enumerate() {
            let of_heads = weights.iter().skip(r).step_by(rows.len());
            assert!((of_heads.sum::<f32>() / heads as f32 - mean).abs() < 1e-6);
        }
        // Nobody need look.
        let mut alone = vec![0.0; width];
        attend_row(
            isa,
            &mut alone,
            Seen::default(),
            &mut scratch,
            q,
            cached,
            rows,
        );
        assert_eq!(alone, out);
        [out, mean].concat()
    }

    #[test]
    fn every_instruction_set_attends_alike_and_as_defined() {
        for (heads, kv_heads, head_width, count) in [
            (3, 3, 8, 9),
            (2, 2, 64, 70),
            (2, 1, 64, 70),
            (1, 1, 34, 33),
            (4, 4, 2, 1),
            (12, 12, 32, 5),
            (12, 4, 32, 5),
            (20, 20, 6, 8),
            (20, 5, 6, 8),
            (20, 1, 6, 8),
        ] {
            let (width, kv_width) = (heads * head_width, kv_heads * head_width);
            let heads = (heads, kv_heads);
            let q = numbers(width, 1);
            let (k, v) = (numbers(kv_width * count, 2), numbers(kv_width * count, 3));
            let biases = numbers(heads.0 * 43, 4);
            let biases = Matrix::new(&biases, heads.0, 43, 43);
            for (n, bias) in [1, 2, 4, 7, 40]
                .into_iter()
                .flat_map(|n| [(n, None), (n, Some(biases))])
            {
                let rows: Vec<u32> = (0..n).map(|i| (i * 7 % count) as u32).collect();
                let exact = by_definition(&q, &k, &v, &rows, heads, bias);
                for (stored, tolerance) in [(Stored::Float32, 1e-5), (Stored::Bf16, 0.03)] {
                    let attended = |isa| attended(isa, stored, heads, &q, &k, &v, &rows, bias);
                    let scalar = attended(Isa::SCALAR);
                    assert!((scalar[width..].iter().sum::<f32>() - 1.0).abs() < 1e-5);
                    for (found, exact) in scalar.iter().zip(&exact) {
                        let off = (f64::from(*found) - exact).abs();
                        assert!(off < tolerance, "{stored:?} {width} {n}: {off}");
                    }
                    for isa in Isa::available() {
                        let found = attended(isa);
                        let same = |(a, b): (&f32, &f32)| a.to_bits() == b.to_bits();
                        assert!(scalar.iter().zip(&found).all(same), "{}", isa.name());
                    }
                }
            }
        }
    }

    #[test]
    fn a_pair_holds_the_nearest_bf16() {
        let row = [1.0, 1.0 + 1.0 / 256.0, -3.0e38, f32::NAN];
        for isa in Isa::available() {
            let mut words = [0.0; 2];
            store_row(isa, &mut words, &row, 1, Stored::Bf16);
            // 1 + 2⁻⁸ lies in the middle between 1 and 1 + 2⁻⁷: the even one is 1.
            let low = words.map(|word| f32::from_bits(word.to_bits() << 16));
            let high = words.map(|word| f32::from_bits(word.to_bits() & 0xFFFF_0000));
            assert_eq!(low, [1.0, 1.0]);
            assert!((high[0] / -3.0e38 - 1.0).abs() < 1.0 / 256.0);
            assert!(high[1].is_nan());
        }
    }
}
