//! Keys and values that outlive a step, and attention over them (decoding; nothing is recorded).

use half::bf16;
use hexapla_kernels::{
    CachedRows, PagedRows, Seen, Stored, Visible, attend_row, attend_scratch, store_row,
};

use crate::ops::Run;
use crate::ops::watch::Watch;
use crate::tensor::{Arena, Tensor};

/// Keys and values of rows, in pages that are never moved. A slot that nobody sees any more may be given to another row.
#[derive(Debug)]
pub struct KvCache {
    /// Heads of keys and values.
    heads: usize,
    stored: Stored,
    keys: Pages,
    values: Pages,
}

#[derive(Debug, Default)]
struct Pages(Vec<Tensor>);

/// What a step of decoding attends to.
pub struct Cached<'a> {
    /// Receives the new keys and values first.
    pub cache: &'a mut KvCache,
    /// The slots that the new rows are stored in.
    pub new_slots: &'a [u32],
    /// The slots that each query row attends to, in order.
    pub slots: &'a [&'a [u32]],
    /// Receives each query row's probabilities averaged over the heads, one after the other.
    pub weights: Option<&'a mut Vec<Vec<f32>>>,
}

impl KvCache {
    /// None yet. Rows of `heads` heads of `head_width` numbers each are stored in bf16 if `bf16` says so and a head has an even
    /// width.
    pub(crate) fn new(heads: usize, head_width: usize, bf16: bool) -> Self {
        let pairs = bf16 && head_width.is_multiple_of(2);
        KvCache {
            heads,
            stored: if pairs { Stored::Bf16 } else { Stored::Float32 },
            keys: Pages::default(),
            values: Pages::default(),
        }
    }

    /// Makes keys and values what steps will read of them, so that a text's first pass and its steps see the same numbers.
    pub(super) fn as_stored(&self, keys: &mut Tensor, values: &mut Tensor) {
        if let Stored::Bf16 = self.stored {
            round_to_bf16(keys);
            round_to_bf16(values);
        }
    }

    /// Stores rows `[slots, heads · head_width]` at their slots.
    pub(super) fn store(&mut self, run: &Run, keys: &Tensor, values: &Tensor, slots: &[u32]) {
        let (heads, stored) = (self.heads, self.stored);
        let words = stored.words(keys.columns());
        for (pages, rows) in [(&mut self.keys, keys), (&mut self.values, values)] {
            for (i, slot) in slots.iter().enumerate() {
                let to = pages.row_mut(&run.arena, *slot, words);
                store_row(run.isa, to, rows.row(i), heads, stored);
            }
        }
    }
}

/// What is left of numbers that are kept in bf16.
pub(crate) fn round_to_bf16(x: &mut Tensor) {
    for number in x.data_mut() {
        *number = bf16::from_f32(*number).to_f32();
    }
}

impl Pages {
    fn row_mut(&mut self, arena: &Arena, slot: u32, words: usize) -> &mut [f32] {
        let (page, row) = (
            slot as usize / PagedRows::PAGE,
            slot as usize % PagedRows::PAGE,
        );
        while self.0.len() <= page {
            self.0.push(arena.tensor(PagedRows::PAGE, words));
        }
        &mut self.0[page].data_mut()[row * words..][..words]
    }

    fn all(&self) -> Vec<&[f32]> {
        self.0.iter().map(Tensor::data).collect()
    }
}

/// `softmax(q·Kᵀ/√d_k) · V` for each head of each query row, over the slots that it sees, those of `keys` and `values`
/// among them; the result has the queries' shape.
pub(crate) fn attend_cached(
    run: &mut Run,
    (query, key, value): (&Tensor, &Tensor, &Tensor),
    (heads, scale): (usize, f32),
    cached: Cached,
) -> Tensor {
    let Cached {
        cache,
        new_slots,
        slots,
        mut weights,
    } = cached;
    cache.store(run, key, value, new_slots);
    let words = cache.stored.words(key.columns());
    let (key_pages, value_pages) = (cache.keys.all(), cache.values.all());
    let paged = |pages| PagedRows { pages, words };
    let rows = CachedRows {
        heads,
        kv_heads: cache.heads,
        scale,
        stored: cache.stored,
        keys: paged(&key_pages),
        values: paged(&value_pages),
    };
    let width = query.columns();
    let mut out = run.tensor(query.rows(), width);
    let longest = slots.iter().map(|slots| slots.len()).max().unwrap_or(0);
    let mut scratch = run.arena.tensor(1, attend_scratch(heads, longest));
    let out_rows = out.data_mut().chunks_exact_mut(width);
    for ((r, slots), out) in slots.iter().enumerate().zip(out_rows) {
        let mut mean = vec![0.0; if weights.is_some() { slots.len() } else { 0 }];
        let watched = if run.is_watched() { heads } else { 0 };
        let mut of_heads = vec![0.0; watched * slots.len()];
        let seen = Seen {
            mean: &mut mean,
            weights: &mut of_heads,
        };
        let scratch = scratch.data_mut();
        attend_row(run.isa, out, seen, scratch, query.row(r), rows, slots);
        let rows_of_heads = of_heads.chunks_exact_mut(slots.len().max(1));
        for (head, numbers) in rows_of_heads.enumerate() {
            let table = (r, head, slots.len());
            run.show_table(Watch::weights, table, Visible::ALL, numbers);
        }
        if let Some(weights) = &mut weights {
            weights.push(mean);
        }
    }
    run.show("heads", &mut out);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::Span;
    use crate::ops::attention::{Attention, AttentionMask, Projections, attention};
    use crate::ops::check::Check;

    #[test]
    fn picked_rows_see_what_spans_see() {
        const SPANS: [Span; 3] = [
            Span { start: 0, len: 14 },
            Span { start: 14, len: 1 },
            Span { start: 15, len: 30 },
        ];
        for kv_heads in [3, 1] {
            picked_and_spans(&SPANS, kv_heads);
        }
    }

    fn picked_and_spans(spans: &[Span; 3], kv_heads: usize) {
        let arena = Arena::default();
        let mut check = Check::new();
        check.parameter(&[1]);
        let packed = crate::packed::PackedWeights::new(&check.weights(), Default::default());
        let mut run = Run::inference(&arena, &packed);
        let mut random = crate::random::SplitMix(5);
        let mut tensor = |columns| {
            let mut t = arena.tensor(45, columns);
            t.data_mut().iter_mut().for_each(|v| *v = random.normal());
            t
        };
        let width = 4 * kv_heads;
        let (query, key, value) = (tensor(12), tensor(width), tensor(width));
        let mut attended = |mask: AttentionMask| {
            let p = Projections {
                query: query.clone(),
                key: key.clone(),
                value: value.clone(),
            };
            let options = Attention {
                kv_heads,
                ..Attention::new(3, 4)
            };
            attention(&mut run, p, &options, mask)
        };
        // Slots in any order, over more than a page.
        let slots: Vec<u32> = (0..45).map(|i| i * 7 % 45).collect();
        let mut stored = KvCache::new(kv_heads, 4, false);
        let whole = attended(AttentionMask::Spans {
            queries: spans,
            keys: spans,
            visible: hexapla_kernels::Visible::CAUSAL,
            store: Some((&mut stored, &slots)),
        });
        let visible: Vec<&[u32]> = spans
            .iter()
            .flat_map(|s| (1..=s.len).map(|n| &slots[s.start..s.start + n]))
            .collect();
        for (bf16, tolerance) in [(false, 1e-6), (true, 0.02)] {
            let (mut cache, mut averages) = (KvCache::new(kv_heads, 4, bf16), Vec::new());
            let found = attended(AttentionMask::Cached(Cached {
                cache: &mut cache,
                new_slots: &slots,
                slots: &visible,
                weights: Some(&mut averages),
            }));
            for (a, b) in whole.data().iter().zip(found.data()) {
                assert!((a - b).abs() < tolerance, "{bf16}: {a} {b}");
            }
            // What a pass over whole texts has stored is what steps store.
            let pages = |cache: &KvCache| {
                let all = [&cache.keys, &cache.values].map(Pages::all).concat();
                all.concat()
            };
            assert!(bf16 || pages(&cache)[..45 * width] == pages(&stored)[..45 * width]);
            assert!(averages.iter().zip(&visible).all(|(w, slots)| {
                w.len() == slots.len() && (w.iter().sum::<f32>() - 1.0).abs() < 1e-5
            }));
        }
    }
}
