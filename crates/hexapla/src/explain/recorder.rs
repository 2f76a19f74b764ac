//! Who watches a pass: keeps its values, and changes what edits say.

use std::collections::BTreeMap;

use hexapla_kernels::Visible;

use super::arrays::{Array, Arrays};
use super::edits::Edits;
use crate::config::Assembly;
use crate::model::transformer::Transformer;
use crate::ops::kv_cache::round_to_bf16;
use crate::ops::relative::RelativeNumbers;
use crate::ops::watch::{HeadTable, Projected, Watch};
use crate::packed::PackedWeights;
use crate::tensor::Tensor;

/// A watcher of one text, or of one text several times, each time edited otherwise. What it sees of several steps becomes the rows
/// of one array.
#[derive(Debug)]
pub(super) struct Recorder<'a> {
    /// For each time; but for heads and hidden tokens all are as the first.
    edits: &'a [Edits],
    /// Keys and values of the decoder are those of its steps, which keep them in bf16.
    bf16_cache: bool,
    /// There is no source: tokens that are hidden are those of the decoder's own text.
    is_decoder_alone: bool,
    /// Queries and keys are normed or turned after their projection, which is kept by itself then.
    changes_projections: bool,
    /// What is kept, where anything is.
    kept: Option<BTreeMap<String, Kept>>,
    /// Which keys the queries of each attention see, where a pass has told.
    visible: BTreeMap<String, Visible>,
    /// What is added to the scores of self-attention, by the stack.
    relative: BTreeMap<&'static str, RelativeNumbers>,
    /// What products are multiplied by, by the attention.
    scales: BTreeMap<String, f32>,
    /// Heads of the attention that the pass is in.
    heads: usize,
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
        /// Row r of a step ends at key r, however few it sees before.
        ends_at_row: bool,
    },
}

impl<'a> Recorder<'a> {
    /// A watcher of a pass through `model`, which keeps what it sees or only changes it.
    pub(super) fn new(
        model: &Transformer,
        parameters: &PackedWeights,
        edits: &'a [Edits],
        keeps: bool,
    ) -> Self {
        assert!(!edits.is_empty(), "edits of a text");
        let config = model.assembly().model();
        let stacks = [("encoder", &config.encoder), ("decoder", &config.decoder)];
        let relative = stacks.into_iter().filter_map(|(name, stack)| {
            let numbers = RelativeNumbers::of(name, stack.as_ref()?, parameters)?;
            Some((name, numbers))
        });
        let decoder = &config.decoder;
        let layers = decoder.iter().flat_map(|stack| &stack.layers);
        let mut attentions = layers.map(|layer| layer.self_attention);
        Recorder {
            edits,
            bf16_cache: parameters.keeps_cache_in_bf16(),
            is_decoder_alone: matches!(model.assembly(), Assembly::Decoder(_)),
            changes_projections: attentions
                .any(|attention| attention.rotary.is_some() || attention.query_key_norm.is_some()),
            kept: keeps.then(BTreeMap::new),
            visible: BTreeMap::new(),
            relative: relative.collect(),
            scales: BTreeMap::new(),
            heads: 0,
        }
    }

    /// What a product of the attention called `name` is multiplied by.
    fn scale(&self, name: &str) -> f32 {
        self.scales.get(name).copied().unwrap_or(1.0)
    }

    /// What is added to the scores of the attention called `name`, where something is.
    fn relative(&self, name: &str) -> Option<&RelativeNumbers> {
        let (stack, _) = name.split_once('.')?;
        let relative = self.relative.get(stack)?;
        name.ends_with(".self_attention").then_some(relative)
    }

    /// All that was kept.
    pub(super) fn finish(mut self) -> Arrays {
        let kept = self.kept.take().unwrap_or_default();
        let mut arrays: Arrays = kept
            .into_iter()
            .map(|(name, kept)| (name, kept.finish()))
            .collect();
        // The steps of a decoder show no scores: they are made anew of the same queries and keys.
        let names: Vec<String> = arrays.keys().cloned().collect();
        let names = names
            .iter()
            .filter_map(|name| name.strip_suffix(".weights"));
        for name in names.map(|name| name.to_string()) {
            let scores = format!("{name}.scores");
            let part = |part: &str| arrays.get(&format!("{name}.{part}"));
            if let (Some(q), Some(k), Some(weights)) = (part("q"), part("k"), part("weights")) {
                let whole = arrays.get(&scores).map(|scores| &scores.shape);
                if whole == Some(&weights.shape) {
                    continue;
                }
                let visible = match self.visible.get(&name) {
                    Some(visible) => *visible,
                    None if name.ends_with(".self_attention") => Visible {
                        ahead: 0,
                        ..Visible::ALL
                    },
                    None => Visible::ALL,
                };
                let array = self.scores_of(&name, (q, k, weights), visible);
                arrays.insert(scores, array);
            }
        }
        arrays
    }

    /// The scores of the attention called `name`: products of queries and keys times their scale, and what is added; −∞ for a key
    /// that is not `visible`.
    fn scores_of(
        &self,
        name: &str,
        (q, k, weights): (&Array, &Array, &Array),
        visible: Visible,
    ) -> Array {
        let [heads, queries, keys] = [0, 1, 2].map(|i| weights.shape[i]);
        let (scale, relative) = (self.scale(name), self.relative(name));
        let mut data = Vec::with_capacity(weights.data.len());
        for head in 0..heads {
            // Neighbouring heads of queries may share one of keys.
            let shared = head * k.shape[0] / heads;
            for query in 0..queries {
                let seen = visible.columns(query, keys);
                for key in 0..keys {
                    let pairs = q.row(&[head, query]).iter().zip(k.row(&[shared, key]));
                    let product = pairs.fold(0.0f32, |sum, (a, b)| a.mul_add(*b, sum));
                    let bias = relative.map_or(0.0, |r| r.at(head, distance(query, key)));
                    data.push(match seen.contains(&key) {
                        true => product * scale + bias,
                        false => f32::NEG_INFINITY,
                    });
                }
            }
        }
        Array {
            shape: weights.shape.clone(),
            data,
        }
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
        let ends_at_row = name.starts_with("decoder.") && name.contains(".self_attention.");
        let new = || Kept::Tables {
            heads: vec![Vec::new(); heads],
            unseen,
            ends_at_row,
        };
        let Kept::Tables { heads, .. } = kept.entry(name).or_insert_with(new) else {
            return None;
        };
        let rows = heads.get_mut(table.head)?;
        let before = rows.len();
        rows.extend(table.numbers.chunks(table.keys.max(1)).map(<[f32]>::to_vec));
        rows.get_mut(before..)
    }

    /// Whether the keys of this attention are tokens that can be hidden.
    fn looks_at_source(&self, name: &str) -> bool {
        self.is_decoder_alone || name.starts_with("encoder.") || name.ends_with(".cross_attention")
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
            Kept::Tables {
                heads,
                unseen,
                ends_at_row,
            } => {
                let rows = heads.first().map_or(0, Vec::len);
                let longest = heads.iter().flatten().map(Vec::len).max().unwrap_or(0);
                let keys = if ends_at_row {
                    longest.max(rows)
                } else {
                    longest
                };
                let count = heads.len();
                let mut data = Vec::with_capacity(count * rows * keys);
                for head in &heads {
                    for (number, row) in head.iter().enumerate() {
                        let before = match ends_at_row {
                            true => (number + 1).saturating_sub(row.len()),
                            false => 0,
                        };
                        let end = data.len() + keys;
                        data.resize(data.len() + before, unseen);
                        data.extend(row);
                        data.resize(end, unseen);
                    }
                }
                Array {
                    shape: vec![count, rows, keys],
                    data,
                }
            }
        }
    }
}

/// Key − query.
fn distance(query: usize, key: usize) -> isize {
    key as isize - query as isize
}

impl Watch for Recorder<'_> {
    fn value(&mut self, name: &str, x: &mut Tensor) {
        if self.edits[0].without_positions && name.ends_with(".embedding.positions") {
            x.data_mut().fill(0.0);
        }
        for patch in self.edits[0].patches.iter().filter(|p| p.name == name) {
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
            let rows = x.rows() / self.edits.len();
            let texts = x.data_mut().chunks_exact_mut((rows * columns).max(1));
            for (edits, text) in self.edits.iter().zip(texts) {
                let heads = edits.heads_off.iter();
                for (_, head) in heads.filter(|(name, _)| name == attention) {
                    for row in text.chunks_exact_mut(columns) {
                        row[head * width..(head + 1) * width].fill(0.0);
                    }
                }
            }
            return self.keep_heads(name, x, self.heads);
        }
        // Kept once they meet, as heads.
        let is_projection = [".query", ".key"].iter().any(|part| name.ends_with(part));
        if !(is_projection && !self.changes_projections || name.ends_with(".value")) {
            self.keep_rows(name, x);
        }
    }

    fn projections(&mut self, name: &str, p: Projected) {
        self.heads = p.heads;
        self.scales.insert(name.to_string(), p.scale);
        if self.edits[0].keys_are_queries
            && !name.ends_with(".cross_attention")
            && p.query.columns() == p.key.columns()
        {
            p.key.data_mut().copy_from_slice(p.query.data());
        }
        let head_width = p.key.columns() / p.kv_heads.max(1);
        if self.bf16_cache && name.starts_with("decoder.") && head_width.is_multiple_of(2) {
            round_to_bf16(p.key);
            round_to_bf16(p.value);
        }
        self.keep_heads(&format!("{name}.q"), p.query, p.heads);
        self.keep_heads(&format!("{name}.k"), p.key, p.kv_heads);
        self.keep_heads(&format!("{name}.v"), p.value, p.kv_heads);
    }

    fn visible(&mut self, name: &str, visible: Visible) -> Visible {
        let visible = match self.edits[0].without_mask && name.starts_with("decoder.") {
            true => Visible::ALL,
            false => visible,
        };
        self.visible.insert(name.to_string(), visible);
        visible
    }

    fn scores(&mut self, name: &str, table: HeadTable, visible: Visible) {
        if self.looks_at_source(name) {
            for (query, row) in table
                .numbers
                .chunks_exact_mut(table.keys.max(1))
                .enumerate()
            {
                for key in &self.edits[table.text.min(self.edits.len() - 1)].hidden_source {
                    // The first token of a decoder's text has nothing but itself to look at.
                    let is_own = self.is_decoder_alone && query == *key;
                    if let Some(score) = row.get_mut(*key).filter(|_| !is_own) {
                        *score = f32::NEG_INFINITY;
                    }
                }
            }
        }
        let (scale, without_positions) = (self.scale(name), self.edits[0].without_positions);
        if let Some(relative) = self.relative(name).filter(|_| without_positions) {
            // What is added afterwards is taken away before.
            let rows = table.numbers.chunks_exact_mut(table.keys.max(1));
            for (query, row) in rows.enumerate() {
                for (key, score) in row.iter_mut().enumerate() {
                    *score -= relative.at(table.head, distance(query, key)) / scale;
                }
            }
        }
        if self.kept.is_none() {
            return;
        }
        let mut numbers = table.numbers.to_vec();
        let relative = self.relative(name);
        for (query, row) in numbers.chunks_exact_mut(table.keys.max(1)).enumerate() {
            let seen = visible.columns(query, table.keys);
            for (key, score) in row.iter_mut().enumerate() {
                let bias = relative.map_or(0.0, |r| r.at(table.head, distance(query, key)));
                *score = match seen.contains(&key) {
                    true => *score * scale + bias,
                    false => f32::NEG_INFINITY,
                };
            }
        }
        let table = HeadTable {
            numbers: &mut numbers,
            ..table
        };
        self.keep_table(format!("{name}.scores"), &table, f32::NEG_INFINITY);
    }

    fn weights(&mut self, name: &str, table: HeadTable, _visible: Visible) {
        self.keep_table(format!("{name}.weights"), &table, 0.0);
    }

    fn residual(&mut self, _name: &str, _x: &Tensor, y: &Tensor, sum: &mut Tensor) {
        if self.edits[0].without_residual {
            sum.data_mut().copy_from_slice(y.data());
        }
    }
}
