//! Keys and values that outlive a step, and attention over them (decoding; nothing is recorded).

use hexapla_kernels::{PagedRows, PastRows, Stored, attend_row, attend_scratch, store_row};

use crate::ops::Run;
use crate::tensor::{Arena, Tensor};

/// Keys and values of rows, in pages that are never moved. A place that nobody sees any more may be given to another row.
#[derive(Debug)]
pub struct KeysAndValues {
    heads: usize,
    stored: Stored,
    keys: Pages,
    values: Pages,
}

#[derive(Debug, Default)]
struct Pages(Vec<Tensor>);

/// What a step of decoding attends to.
pub struct Past<'a> {
    /// Receives the new keys and values first.
    pub rows: &'a mut KeysAndValues,
    /// The places of the new rows.
    pub new: &'a [u32],
    /// The places that each query row sees, in order.
    pub seen: &'a [&'a [u32]],
    /// Receives each query row's probabilities averaged over the heads, one after the other.
    pub weights: Option<&'a mut Vec<Vec<f32>>>,
}

impl KeysAndValues {
    /// None yet. Rows of `d_model` numbers are shared by `heads` heads, and stored in bf16 if `bf16` says so and a head
    /// has an even width.
    pub(crate) fn new(d_model: usize, heads: usize, bf16: bool) -> Self {
        let pairs = bf16 && (d_model / heads).is_multiple_of(2);
        KeysAndValues {
            heads,
            stored: if pairs { Stored::Bf16 } else { Stored::Float32 },
            keys: Pages::default(),
            values: Pages::default(),
        }
    }

    /// Stores rows `[places, d_model]` at their places.
    fn store(&mut self, run: &Run, keys: &Tensor, values: &Tensor, places: &[u32]) {
        let (heads, stored) = (self.heads, self.stored);
        let words = stored.words(keys.columns());
        for (pages, rows) in [(&mut self.keys, keys), (&mut self.values, values)] {
            for (i, place) in places.iter().enumerate() {
                let to = pages.row_mut(&run.arena, *place, words);
                store_row(run.isa, to, rows.row(i), heads, stored);
            }
        }
    }
}

impl Pages {
    fn row_mut(&mut self, arena: &Arena, place: u32, words: usize) -> &mut [f32] {
        let (page, row) = (
            place as usize / PagedRows::PAGE,
            place as usize % PagedRows::PAGE,
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

/// `softmax(q·Kᵀ/√d_k) · V` for each head of each query row, over the places that it sees, those of `keys` and `values`
/// among them; the result has the queries' shape.
pub(crate) fn attend_past(
    run: &mut Run,
    query: &Tensor,
    keys: &Tensor,
    values: &Tensor,
    past: Past,
) -> Tensor {
    let Past {
        rows,
        new,
        seen,
        mut weights,
    } = past;
    rows.store(run, keys, values, new);
    let words = rows.stored.words(query.columns());
    let (key_pages, value_pages) = (rows.keys.all(), rows.values.all());
    let paged = |pages| PagedRows { pages, words };
    let heads = rows.heads;
    let past = PastRows {
        heads,
        stored: rows.stored,
        keys: paged(&key_pages),
        values: paged(&value_pages),
    };
    let width = query.columns();
    let mut out = run.tensor(query.rows(), width);
    let longest = seen.iter().map(|places| places.len()).max().unwrap_or(0);
    let mut scratch = run.arena.tensor(1, attend_scratch(heads, longest));
    let out_rows = out.data_mut().chunks_exact_mut(width);
    for ((r, places), out) in seen.iter().enumerate().zip(out_rows) {
        let mut mean = vec![0.0; if weights.is_some() { places.len() } else { 0 }];
        let scratch = scratch.data_mut();
        attend_row(
            run.isa,
            (out, &mut mean),
            scratch,
            query.row(r),
            past,
            places,
        );
        if let Some(weights) = &mut weights {
            weights.push(mean);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::Span;
    use crate::ops::attention::{Attention, Projections, View, attention};
    use crate::ops::check::Check;

    #[test]
    fn picked_rows_see_what_spans_see() {
        const SPANS: [Span; 3] = [
            Span { start: 0, len: 14 },
            Span { start: 14, len: 1 },
            Span { start: 15, len: 30 },
        ];
        let arena = Arena::default();
        let mut check = Check::new();
        check.parameter(&[1]);
        let prepared = crate::prepared::Prepared::new(&check.weights(), Default::default());
        let mut run = Run::inference(&arena, &prepared);
        let mut random = crate::random::SplitMix(5);
        let mut tensor = || {
            let mut t = arena.tensor(45, 12);
            t.data_mut().iter_mut().for_each(|v| *v = random.normal());
            t
        };
        let (query, key, value) = (tensor(), tensor(), tensor());
        let mut attended = |view: View| {
            let p = Projections {
                query: query.clone(),
                key: key.clone(),
                value: value.clone(),
            };
            let options = Attention {
                heads: 3,
                dropout: 0.0,
            };
            attention(&mut run, p, &options, view)
        };
        let whole = attended(View::Spans {
            queries: &SPANS,
            keys: &SPANS,
            causal: true,
        });
        // Places in any order, over more than a page.
        let places: Vec<u32> = (0..45).map(|i| i * 7 % 45).collect();
        let seen: Vec<&[u32]> = SPANS
            .iter()
            .flat_map(|s| (1..=s.len).map(|n| &places[s.start..s.start + n]))
            .collect();
        for (bf16, tolerance) in [(false, 1e-6), (true, 0.02)] {
            let (mut rows, mut averages) = (KeysAndValues::new(12, 3, bf16), Vec::new());
            let found = attended(View::Past(Past {
                rows: &mut rows,
                new: &places,
                seen: &seen,
                weights: Some(&mut averages),
            }));
            for (a, b) in whole.data().iter().zip(found.data()) {
                assert!((a - b).abs() < tolerance, "{bf16}: {a} {b}");
            }
            assert!(averages.iter().zip(&seen).all(|(w, seen)| {
                w.len() == seen.len() && (w.iter().sum::<f32>() - 1.0).abs() < 1e-5
            }));
        }
    }
}
