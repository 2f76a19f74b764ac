//! Keys and values that outlive a step, and attention over them (decoding; nothing is recorded).

use std::sync::Arc;

use half::bf16;
use hexapla_kernels::{
    CachedRows, PagedRows, Seen, Stored, Visible, attend_row, attend_scratch, load_row, store_row,
};

use crate::batch::Span;
use crate::ops::Run;
use crate::ops::relative::RelativeBias;
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
struct Pages(Vec<Page>);

/// Rows of a page.
#[derive(Debug)]
enum Page {
    /// None yet.
    Empty,
    /// Rows may be stored here.
    Own(Tensor),
    /// Rows that others read too.
    Shared(Arc<KvBlock>, usize, Side),
}

#[derive(Debug, Clone, Copy)]
enum Side {
    Keys,
    Values,
}

/// Keys and values of a page of tokens in all layers: what was computed once, and is read by whoever has a count of it.
#[derive(Debug)]
pub struct KvBlock {
    /// Layer by layer.
    layers: Vec<[Vec<f32>; 2]>,
}

impl KvBlock {
    /// Tokens of a block.
    pub const TOKENS: usize = PagedRows::PAGE;

    /// A copy of page `page` of each of these caches, one a layer.
    pub(crate) fn copied<'a>(caches: impl Iterator<Item = &'a KvCache>, page: usize) -> Self {
        let copy = |cache: &KvCache| {
            let sides = [&cache.keys, &cache.values];
            sides.map(|pages| {
                pages
                    .0
                    .get(page)
                    .map_or(Vec::new(), |page| page.data().to_vec())
            })
        };
        KvBlock {
            layers: caches.map(copy).collect(),
        }
    }

    #[cfg(test)]
    pub(crate) fn of_numbers(count: usize) -> Self {
        KvBlock {
            layers: vec![[vec![0.0; count], Vec::new()]],
        }
    }

    /// Its size in memory.
    pub fn bytes(&self) -> usize {
        let numbers = self.layers.iter().flatten().map(Vec::len).sum::<usize>();
        numbers * size_of::<f32>()
    }
}

impl Page {
    fn data(&self) -> &[f32] {
        match self {
            Page::Empty => &[],
            Page::Own(tensor) => tensor.data(),
            Page::Shared(block, layer, Side::Keys) => &block.layers[*layer][0],
            Page::Shared(block, layer, Side::Values) => &block.layers[*layer][1],
        }
    }
}

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

    /// Lets page `page` be that of layer `layer` of `block`: nothing more is stored there.
    pub(crate) fn share(&mut self, page: usize, block: &Arc<KvBlock>, layer: usize) {
        for (pages, side) in [
            (&mut self.keys, Side::Keys),
            (&mut self.values, Side::Values),
        ] {
            *pages.page(page) = Page::Shared(block.clone(), layer, side);
        }
    }

    /// Lets go of page `page` if it is a shared one.
    pub(crate) fn release(&mut self, page: usize) {
        for pages in [&mut self.keys, &mut self.values] {
            let page = pages.page(page);
            if matches!(page, Page::Shared(..)) {
                *page = Page::Empty;
            }
        }
    }

    /// Puts before the rows of each span of `keys` and `values` those in the slots `past`. Gives the spans of all.
    pub(super) fn put_before(
        &self,
        run: &Run,
        (keys, values): (&mut Tensor, &mut Tensor),
        spans: &[Span],
        past: &[&[u32]],
    ) -> Vec<Span> {
        let (isa, width) = (run.isa, keys.columns());
        let (heads, stored) = (self.heads, self.stored);
        let words = stored.words(width);
        enum Source {
            Past(u32),
            Own(usize),
        }
        let of_text = |(span, past): (&Span, &&[u32])| {
            let past: Vec<_> = past.iter().map(|slot| Source::Past(*slot)).collect();
            let own = (span.start..span.start + span.len).map(Source::Own);
            past.into_iter().chain(own)
        };
        let sources: Vec<Source> = spans.iter().zip(past).flat_map(of_text).collect();
        let rows = sources.len();
        for (pages, own) in [(&self.keys, keys), (&self.values, values)] {
            let mut all = run.arena.tensor(rows, width);
            run.share_rows((rows, width), [(all.data_mut(), width)], |rows, [to]| {
                for (from, row) in sources[rows].iter().zip(to.chunks_exact_mut(width)) {
                    match from {
                        Source::Past(slot) => {
                            let stored_row = pages.row(*slot, words);
                            load_row(isa, row, stored_row, heads, stored);
                        }
                        Source::Own(r) => row.copy_from_slice(own.row(*r)),
                    }
                }
            });
            *own = all;
        }
        let mut start = 0;
        let mut whole = |(span, past): (&Span, &&[u32])| {
            let len = past.len() + span.len;
            start += len;
            Span {
                start: start - len,
                len,
            }
        };
        spans.iter().zip(past).map(&mut whole).collect()
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
    fn page(&mut self, page: usize) -> &mut Page {
        while self.0.len() <= page {
            self.0.push(Page::Empty);
        }
        &mut self.0[page]
    }

    fn row(&self, slot: u32, words: usize) -> &[f32] {
        let (page, row) = place(slot);
        &self.0[page].data()[row * words..][..words]
    }

    /// # Panics
    /// The page is a shared one.
    fn row_mut(&mut self, arena: &Arena, slot: u32, words: usize) -> &mut [f32] {
        let (page, row) = place(slot);
        let page = self.page(page);
        if matches!(page, Page::Empty) {
            *page = Page::Own(arena.tensor(PagedRows::PAGE, words));
        }
        match page {
            Page::Own(tensor) => &mut tensor.data_mut()[row * words..][..words],
            Page::Empty | Page::Shared(..) => panic!("a page of one's own"),
        }
    }

    fn all(&self) -> Vec<&[f32]> {
        self.0.iter().map(Page::data).collect()
    }
}

/// The page of a slot, and the row in it.
fn place(slot: u32) -> (usize, usize) {
    let slot = slot as usize;
    (slot / PagedRows::PAGE, slot % PagedRows::PAGE)
}

/// `softmax(q·Kᵀ/√d_k) · V` for each head of each query row, over the slots that it sees, those of `keys` and `values`
/// among them; the result has the queries' shape.
pub(crate) fn attend_cached(
    run: &mut Run,
    (query, key, value): (&Tensor, &Tensor, &Tensor),
    (heads, scale, bias): (usize, f32, Option<RelativeBias>),
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
    let longest = slots.iter().map(|slots| slots.len()).max().unwrap_or(0);
    // The newest row that a query sees is its own.
    let bias = bias.map(|bias| bias.by_distance(run, longest, 1));
    let rows = CachedRows {
        heads,
        kv_heads: cache.heads,
        scale,
        bias: bias.as_ref().map(|bias| bias.numbers().matrix()),
        stored: cache.stored,
        keys: paged(&key_pages),
        values: paged(&value_pages),
    };
    let (isa, width) = (run.isa, query.columns());
    let mut out = run.tensor(query.rows(), width);
    let arena = run.arena.clone();
    let scratch = || arena.tensor(1, attend_scratch(heads, longest));
    if weights.is_none() && !run.is_watched() {
        let numbers = longest * (key.columns() + value.columns());
        run.share_rows(
            (query.rows(), numbers),
            [(out.data_mut(), width)],
            |these, [out]| {
                let mut scratch = scratch();
                for (r, out) in these.zip(out.chunks_exact_mut(width)) {
                    let (seen, scratch) = (Seen::default(), scratch.data_mut());
                    attend_row(isa, out, seen, scratch, query.row(r), rows, slots[r]);
                }
            },
        );
        return out;
    }
    let mut scratch = scratch();
    let out_rows = out.data_mut().chunks_exact_mut(width);
    for ((r, slots), out) in slots.iter().enumerate().zip(out_rows) {
        let mut mean = vec![0.0; if weights.is_some() { slots.len() } else { 0 }];
        let watched = if run.is_watched() { heads } else { 0 };
        let mut of_heads = vec![0.0; watched * slots.len()];
        let seen = Seen {
            mean: &mut mean,
            weights: &mut of_heads,
        };
        attend_row(
            isa,
            out,
            seen,
            scratch.data_mut(),
            query.row(r),
            rows,
            slots,
        );
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
    use crate::ops::attention::{Attention, AttentionMask, Projections, Store, attention};
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
            store: Some(Store {
                cache: &mut stored,
                slots: &slots,
                past: vec![&[]; 3],
            }),
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
