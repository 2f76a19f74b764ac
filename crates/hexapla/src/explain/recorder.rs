//! Who watches a pass: keeps its values, and changes what edits say.

use std::collections::BTreeMap;

use half::bf16;
use hexapla_kernels::Visible;

use super::arrays::{Array, Arrays};
use super::edits::Edits;
use crate::ops::watch::{HeadTable, Projected, Watch};
use crate::tensor::Tensor;

/// A watcher of one text. What it sees of several steps becomes the rows of one array.
#[derive(Debug)]
pub(super) struct Recorder<'a> {
    edits: &'a Edits,
    /// Keys and values of the decoder are those of its steps, which keep them in bf16.
    bf16_cache: bool,
    /// What is kept, where anything is.
    kept: Option<BTreeMap<String, Kept>>,
    /// Of the attention that the pass is in.
    heads: usize,
    scale: f32,
}

/// A value so far.
#[derive(Debug)]
enum Kept {
    /// `[rows, width]`.
    Rows { width: usize, data: Vec<f32> },
    /// `[rows, heads · width]`.
    Heads {
        heads: usize,
        width: usize,
        data: Vec<f32>,
    },
    /// For each head its rows, which grow longer from step to step where more keys are seen.
    Tables {
        heads: Vec<Vec<Vec<f32>>>,
        /// What stands for a key that is not seen.
        unseen: f32,
    },
}

impl<'a> Recorder<'a> {
    pub(super) fn new(edits: &'a Edits, bf16_cache: bool, keeps: bool) -> Self {
        Recorder {
            edits,
            bf16_cache,
            kept: keeps.then(BTreeMap::new),
            heads: 0,
            scale: 1.0,
        }
    }

    /// All that was kept.
    pub(super) fn finish(self) -> Arrays {
        let kept = self.kept.unwrap_or_default();
        let mut arrays: Arrays = kept
            .into_iter()
            .map(|(name, kept)| (name, kept.finish()))
            .collect();
        // The steps of a decoder show no scores: they are made of the same queries and keys.
        let names: Vec<String> = arrays.keys().cloned().collect();
        let names = names
            .iter()
            .filter_map(|name| name.strip_suffix(".weights"));
        for name in names.map(|name| name.to_string()) {
            let scores = format!("{name}.scores");
            let part = |part: &str| arrays.get(&format!("{name}.{part}"));
            if let (None, Some(q), Some(k), Some(weights)) =
                (arrays.get(&scores), part("q"), part("k"), part("weights"))
            {
                let array = scores_of(q, k, weights, name.ends_with(".self_attention"));
                arrays.insert(scores, array);
            }
        }
        arrays
    }

    fn keep_rows(&mut self, name: &str, x: &Tensor) {
        let Some(kept) = &mut self.kept else { return };
        let width = x.columns();
        let new = || Kept::Rows {
            width,
            data: Vec::new(),
        };
        let entry = kept.entry(name.to_string()).or_insert_with(new);
        entry.append(x.data());
    }

    fn keep_heads(&mut self, name: &str, x: &Tensor, heads: usize) {
        let Some(kept) = &mut self.kept else { return };
        let width = x.columns() / heads.max(1);
        let new = || Kept::Heads {
            heads,
            width,
            data: Vec::new(),
        };
        let entry = kept.entry(name.to_string()).or_insert_with(new);
        entry.append(x.data());
    }

    fn keep_table(
        &mut self,
        name: String,
        table: &HeadTable,
        unseen: f32,
    ) -> Option<&mut [Vec<f32>]> {
        let heads = self.heads;
        let kept = self.kept.as_mut()?;
        let new = || Kept::Tables {
            heads: vec![Vec::new(); heads],
            unseen,
        };
        let Kept::Tables { heads, .. } = kept.entry(name).or_insert_with(new) else {
            return None;
        };
        let rows = heads.get_mut(table.head)?;
        let before = rows.len();
        rows.extend(table.numbers.chunks(table.keys.max(1)).map(<[f32]>::to_vec));
        rows.get_mut(before..)
    }

    /// Whether the keys of this attention are the source's.
    fn looks_at_source(name: &str) -> bool {
        name.starts_with("encoder.") || name.ends_with(".cross_attention")
    }
}

impl Kept {
    fn append(&mut self, numbers: &[f32]) {
        match self {
            Kept::Rows { data, .. } | Kept::Heads { data, .. } => data.extend(numbers),
            Kept::Tables { .. } => (),
        }
    }

    fn finish(self) -> Array {
        match self {
            Kept::Rows { width, data } => Array {
                shape: vec![data.len() / width.max(1), width],
                data,
            },
            Kept::Heads { heads, width, data } => {
                let rows = data.len() / (heads * width).max(1);
                let row = |row: usize, head: usize| &data[(row * heads + head) * width..][..width];
                let all = (0..heads).flat_map(|head| (0..rows).map(move |r| (r, head)));
                Array {
                    shape: vec![heads, rows, width],
                    data: all.flat_map(|(r, head)| row(r, head)).copied().collect(),
                }
            }
            Kept::Tables { heads, unseen } => {
                let rows = heads.first().map_or(0, Vec::len);
                let keys = heads.iter().flatten().map(Vec::len).max().unwrap_or(0);
                let count = heads.len();
                let mut data = Vec::with_capacity(count * rows * keys);
                for mut row in heads.into_iter().flatten() {
                    row.resize(keys, unseen);
                    data.extend(row);
                }
                Array {
                    shape: vec![count, rows, keys],
                    data,
                }
            }
        }
    }
}

/// The products of queries and keys times 1/√d_k, −∞ for a key behind its query where the mask is `causal`.
fn scores_of(q: &Array, k: &Array, weights: &Array, causal: bool) -> Array {
    let [heads, queries, keys] = [0, 1, 2].map(|i| weights.shape[i]);
    let scale = 1.0 / (q.shape[2] as f32).sqrt();
    let mut data = Vec::with_capacity(weights.data.len());
    for head in 0..heads {
        // Neighbouring heads of queries may share one of keys.
        let shared = head * k.shape[0] / heads;
        for query in 0..queries {
            for key in 0..keys {
                let pairs = q.row(&[head, query]).iter().zip(k.row(&[shared, key]));
                let product = pairs.fold(0.0f32, |sum, (a, b)| a.mul_add(*b, sum));
                data.push(match causal && key > query {
                    true => f32::NEG_INFINITY,
                    false => product * scale,
                });
            }
        }
    }
    Array {
        shape: weights.shape.clone(),
        data,
    }
}

fn round_to_bf16(x: &mut Tensor) {
    for number in x.data_mut() {
        *number = bf16::from_f32(*number).to_f32();
    }
}

impl Watch for Recorder<'_> {
    fn value(&mut self, name: &str, x: &mut Tensor) {
        if self.edits.without_positions && name.ends_with(".embedding.positions") {
            x.data_mut().fill(0.0);
        }
        for patch in self.edits.patches.iter().filter(|p| p.name == name) {
            let width = x.columns();
            let rows = patch.rows.iter().filter(|row| **row < patch.from.shape[0]);
            for row in rows {
                let to = x.data_mut().chunks_exact_mut(width).nth(*row);
                if let Some(to) = to.filter(|to| to.len() == patch.from.shape[1]) {
                    to.copy_from_slice(patch.from.row(&[*row]));
                }
            }
        }
        if let Some(attention) = name.strip_suffix(".heads") {
            let (columns, width) = (x.columns(), x.columns() / self.heads.max(1));
            for (_, head) in self.edits.heads_off.iter().filter(|(n, _)| n == attention) {
                for row in x.data_mut().chunks_exact_mut(columns) {
                    row[head * width..(head + 1) * width].fill(0.0);
                }
            }
            return self.keep_heads(name, x, self.heads);
        }
        // Kept once they meet, as heads.
        let is_projection = [".query", ".key", ".value"]
            .iter()
            .any(|part| name.ends_with(part));
        if !is_projection {
            self.keep_rows(name, x);
        }
    }

    fn projections(&mut self, name: &str, p: Projected) {
        (self.heads, self.scale) = (p.heads, p.scale);
        if self.edits.keys_are_queries
            && !name.ends_with(".cross_attention")
            && p.query.columns() == p.key.columns()
        {
            p.key.data_mut().copy_from_slice(p.query.data());
        }
        if self.bf16_cache && name.starts_with("decoder.") {
            round_to_bf16(p.key);
            round_to_bf16(p.value);
        }
        self.keep_heads(&format!("{name}.q"), p.query, p.heads);
        self.keep_heads(&format!("{name}.k"), p.key, p.kv_heads);
        self.keep_heads(&format!("{name}.v"), p.value, p.kv_heads);
    }

    fn visible(&mut self, name: &str, visible: Visible) -> Visible {
        match self.edits.without_mask && name.starts_with("decoder.") {
            true => Visible::ALL,
            false => visible,
        }
    }

    fn scores(&mut self, name: &str, table: HeadTable, visible: Visible) {
        if Self::looks_at_source(name) {
            for row in table.numbers.chunks_exact_mut(table.keys) {
                for key in &self.edits.hidden_source {
                    if let Some(score) = row.get_mut(*key) {
                        *score = f32::NEG_INFINITY;
                    }
                }
            }
        }
        let (scale, keys) = (self.scale, table.keys);
        let name = format!("{name}.scores");
        let rows = self.keep_table(name, &table, f32::NEG_INFINITY);
        for (query, row) in rows.into_iter().flatten().enumerate() {
            let seen = visible.columns(query, keys);
            for (key, score) in row.iter_mut().enumerate() {
                *score = match seen.contains(&key) {
                    true => *score * scale,
                    false => f32::NEG_INFINITY,
                };
            }
        }
    }

    fn weights(&mut self, name: &str, table: HeadTable, _visible: Visible) {
        self.keep_table(format!("{name}.weights"), &table, 0.0);
    }

    fn residual(&mut self, _name: &str, _x: &Tensor, y: &Tensor, sum: &mut Tensor) {
        if self.edits.without_residual {
            sum.data_mut().copy_from_slice(y.data());
        }
    }
}
