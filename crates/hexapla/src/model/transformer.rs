//! The paper's figure 1: embeddings, two stacks, and the output layer.

use std::borrow::Cow;
use std::sync::Arc;

use hexapla_kernels::{Isa, Matrix};

use crate::batch::{PairRows, Rows};
use crate::config::{Positions, Precision, TransformerConfig};
use crate::error::Result;
use crate::model::layers::{DecoderLayer, EncoderLayer, LayerNorm, Memory};
use crate::model::positions::Sinusoids;
use crate::model::state::DecoderState;
use crate::ops::attention::AttentionMask;
use crate::ops::cross_entropy::{LossOptions, Losses, Output, cross_entropy, logits, logits_into};
use crate::ops::embedding::{Embedding, PositionTable, embed};
use crate::ops::kv_cache::Cached;
use crate::ops::{PackedTable, Run};
use crate::product::Product;
use crate::tensor::Tensor;
use crate::weights::{Kind, ParameterId, ParameterIndex, Weights};

/// The shape of a model: which operations, on which parameters. The numbers are in [`Weights`].
#[derive(Debug, Clone)]
pub struct Transformer {
    config: TransformerConfig,
    index: Arc<ParameterIndex>,
    source: Embedder,
    target: Embedder,
    encoder: Vec<EncoderLayer>,
    encoder_norm: Option<LayerNorm>,
    decoder: Vec<DecoderLayer>,
    decoder_norm: Option<LayerNorm>,
    output: Output,
}

/// Token embedding plus positions.
#[derive(Debug, Clone)]
struct Embedder {
    table: ParameterId,
    /// `None`: computed, in `fixed`.
    learned: Option<ParameterId>,
    fixed: Arc<Sinusoids>,
}

impl Transformer {
    /// Lays out a model of this configuration.
    ///
    /// # Errors
    /// The configuration does not fit together.
    pub fn new(config: TransformerConfig) -> Result<Self> {
        config.validate()?;
        let mut index = ParameterIndex::default();
        let c = &config;
        let deviation = (c.d_model as f32).powf(-0.5);
        let table = |index: &mut ParameterIndex, name: &str, rows: usize| {
            let found = index.find(name);
            found.unwrap_or_else(|| index.add(name, &[rows, c.d_model], Kind::Table(deviation)))
        };
        let (source_name, target_name) = if c.share_embeddings {
            ("embedding.weight", "embedding.weight")
        } else {
            ("source_embedding.weight", "target_embedding.weight")
        };
        let source = table(&mut index, source_name, c.source_vocab_size);
        let target = table(&mut index, target_name, c.target_vocab_size);
        let output_table = if c.tie_output {
            target
        } else {
            table(&mut index, "output.weight", c.target_vocab_size)
        };
        let fixed = Arc::new(Sinusoids::default());
        let embedder = |index: &mut ParameterIndex, name: &str, table| Embedder {
            table,
            learned: (c.positions == Positions::Learned).then(|| {
                let rows = c.max_position_embeddings + c.position_offset;
                index.add(
                    format!("{name}_positions.weight"),
                    &[rows, c.d_model],
                    Kind::Positions(deviation),
                )
            }),
            fixed: fixed.clone(),
        };
        let source = embedder(&mut index, "source", source);
        let target = embedder(&mut index, "target", target);
        let stack_norm = |index: &mut ParameterIndex, name: &str| {
            c.final_norm.then(|| LayerNorm::new(index, name, c))
        };
        let encoder = (0..c.encoder_layers)
            .map(|i| EncoderLayer::new(&mut index, &format!("encoder.layers.{i}"), c))
            .collect();
        let encoder_norm = stack_norm(&mut index, "encoder.norm");
        let decoder = (0..c.decoder_layers)
            .map(|i| DecoderLayer::new(&mut index, &format!("decoder.layers.{i}"), c))
            .collect();
        let decoder_norm = stack_norm(&mut index, "decoder.norm");
        let bias = c
            .output_bias
            .then(|| index.add("output.bias", &[c.target_vocab_size], Kind::Vector(0.0)));
        Ok(Transformer {
            index: Arc::new(index),
            source,
            target,
            encoder,
            encoder_norm,
            decoder,
            decoder_norm,
            output: Output {
                table: output_table,
                bias,
            },
            config,
        })
    }

    /// The configuration.
    pub fn config(&self) -> &TransformerConfig {
        &self.config
    }

    /// Names, shapes and ranges of the parameters.
    pub fn index(&self) -> &Arc<ParameterIndex> {
        &self.index
    }

    /// The output layer packed, as training wants it.
    pub fn pack_output(&self, weights: &Weights, precision: Precision) -> PackedTable {
        let product = Product {
            isa: Isa::best(),
            precision,
        };
        PackedTable::new(product, weights, self.output.table)
    }

    /// The encoder: `[source rows, d_model]`.
    pub fn encode(&self, run: &mut Run, source: &Rows) -> Tensor {
        let positions = self.positions(source);
        let mut x = self.embed(run, &self.source, &source.ids, &positions);
        for layer in &self.encoder {
            let mask = AttentionMask::Spans {
                queries: &source.spans,
                keys: &source.spans,
                causal: false,
            };
            x = layer.forward(run, &x, mask);
        }
        self.encoder_norm
            .as_ref()
            .map(|norm| norm.forward(run, &x))
            .unwrap_or(x)
    }

    /// The decoder over whole sentences: `[target rows, d_model]`; `memory` is the encoder's output for `source`.
    pub fn decode(&self, run: &mut Run, target: &Rows, memory: &Tensor, source: &Rows) -> Tensor {
        let positions = self.positions(target);
        let mut x = self.embed(run, &self.target, &target.ids, &positions);
        for layer in &self.decoder {
            let mask = AttentionMask::Spans {
                queries: &target.spans,
                keys: &target.spans,
                causal: true,
            };
            let memory = Memory {
                rows: memory,
                mask: AttentionMask::Spans {
                    queries: &target.spans,
                    keys: &source.spans,
                    causal: false,
                },
            };
            x = layer.forward(run, &x, mask, memory);
        }
        self.decoder_norm
            .as_ref()
            .map(|norm| norm.forward(run, &x))
            .unwrap_or(x)
    }

    /// The decoder for one more token of each hypothesis: `[hypotheses, d_model]`.
    pub fn decode_step(&self, run: &mut Run, tokens: &[u32], state: &mut DecoderState) -> Tensor {
        let positions = state.advance();
        let mut x = self.embed(run, &self.target, tokens, &positions);
        let target_slots: Vec<&[u32]> = state.target_slots.iter().map(Vec::as_slice).collect();
        let source_slots = |s: &usize| state.source_slots[*s].as_slice();
        let source_slots: Vec<&[u32]> = state.sentence.iter().map(source_slots).collect();
        let new_source_slots: Vec<u32> = (0..state.source.rows() as u32).collect();
        let last = self.decoder.len() - 1;
        for (i, (layer, caches)) in self.decoder.iter().zip(&mut state.layers).enumerate() {
            let mask = AttentionMask::Cached(Cached {
                cache: &mut caches.target,
                new_slots: &state.new_slots,
                slots: &target_slots,
                weights: None,
            });
            let memory = Memory {
                rows: &state.source,
                mask: AttentionMask::Cached(Cached {
                    cache: &mut caches.source,
                    new_slots: &new_source_slots,
                    slots: &source_slots,
                    weights: state.attention.as_mut().filter(|_| i == last),
                }),
            };
            x = layer.forward(run, &x, mask, memory);
        }
        state.source = run.arena.tensor(0, self.config.d_model);
        self.decoder_norm
            .as_ref()
            .map(|norm| norm.forward(run, &x))
            .unwrap_or(x)
    }

    /// The output layer: `[rows, d_model]` to `[rows, vocab]`.
    pub fn logits(&self, run: &mut Run, x: &Tensor) -> Tensor {
        logits(run, self.output, x)
    }

    /// As [`Transformer::logits`], to `out`, which holds `rows · vocab` numbers.
    pub fn logits_into(&self, run: &Run, x: Matrix, out: &mut [f32]) {
        logits_into(run, self.output, x, out);
    }

    /// The loss of each target row of `pairs`.
    pub fn loss(&self, run: &mut Run, pairs: &PairRows, options: LossOptions) -> Losses {
        let memory = self.encode(run, &pairs.source);
        let x = self.decode(run, &pairs.target, &memory, &pairs.source);
        cross_entropy(run, self.output, &x, &pairs.labels, options)
    }

    /// Whether a padding token has no position, as in fairseq and M2M-100.
    fn padding_has_no_position(&self) -> bool {
        let c = &self.config;
        c.positions == Positions::SinusoidalHalvesFairseq
            && (c.pad_token_id as usize) < c.position_offset
    }

    /// The position of each row of whole sentences, from 0. Where a padding token has none, it does not count for those behind
    /// it. (In `decode_step` it does: transformers counts what its cache holds.)
    fn positions<'a>(&self, rows: &'a Rows) -> Cow<'a, [u32]> {
        let pad = self.config.pad_token_id;
        if !self.padding_has_no_position() || !rows.ids.contains(&pad) {
            return Cow::Borrowed(&rows.positions);
        }
        let mut positions = Vec::with_capacity(rows.len());
        for span in &rows.spans {
            let mut next = 0;
            for id in &rows.ids[span.start..span.start + span.len] {
                positions.push(next);
                next += u32::from(*id != pad);
            }
        }
        Cow::Owned(positions)
    }

    fn embed(&self, run: &mut Run, embedder: &Embedder, ids: &[u32], positions: &[u32]) -> Tensor {
        let c = &self.config;
        let without = self.padding_has_no_position();
        let row = |(id, position): (&u32, &u32)| match without && *id == c.pad_token_id {
            // Its row of the table is zero.
            true => (*id, c.pad_token_id),
            false => (*id, position + c.position_offset as u32),
        };
        let tokens = ids.iter().zip(positions).map(row);
        let rows = tokens.clone().map(|(_, row)| row as usize + 1).max();
        let options = Embedding {
            table: embedder.table,
            scale: if c.scale_embedding {
                (c.d_model as f32).sqrt()
            } else {
                1.0
            },
            positions: match embedder.learned {
                Some(table) => PositionTable::Learned(table),
                None => PositionTable::Fixed(embedder.fixed.rows(c, rows.unwrap_or(0))),
            },
            dropout: c.dropout,
        };
        embed(run, &options, tokens)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ComputeType, Norm};
    use crate::ops::{DropoutKey, Gradients};
    use crate::packed::PackedWeights;
    use crate::tensor::Arena;

    pub(crate) fn small(norm: Norm) -> Transformer {
        let mut c = TransformerConfig::preset("tiny").unwrap();
        (c.source_vocab_size, c.target_vocab_size) = (23, 23);
        (c.d_model, c.encoder_layers, c.decoder_layers) = (24, 2, 3);
        (c.encoder_heads, c.decoder_heads) = (3, 2);
        (c.encoder_feed_forward, c.decoder_feed_forward) = (20, 28);
        c.norm = norm;
        c.final_norm = norm == Norm::Pre;
        Transformer::new(c).unwrap()
    }

    fn pairs() -> PairRows {
        let mut pairs = PairRows::default();
        pairs.push(&[3, 4, 5, 6, 7], &[8, 9, 10], 1, 2);
        pairs.push(&[11], &[12, 13, 14, 15, 16, 17, 18], 1, 2);
        pairs.push(&[19, 20, 21, 22, 0], &[], 1, 2);
        pairs
    }

    #[test]
    fn padding_does_not_count_where_it_has_no_position() {
        let mut c = TransformerConfig::preset("tiny").unwrap();
        (c.source_vocab_size, c.target_vocab_size, c.pad_token_id) = (23, 23, 1);
        let rows: Rows = [vec![5, 1, 6, 2], vec![1, 1, 7], vec![1]].iter().collect();
        let model = Transformer::new(c.clone()).unwrap();
        assert_eq!(*model.positions(&rows), [0, 1, 2, 3, 0, 1, 2, 0]);
        c.positions = Positions::SinusoidalHalvesFairseq;
        c.position_offset = 2;
        let model = Transformer::new(c).unwrap();
        // transformers: cumsum(ids ≠ pad)·(ids ≠ pad) + pad; the rows of the padding are not these.
        assert_eq!(*model.positions(&rows), [0, 1, 1, 2, 0, 0, 0, 0]);
        let weights = Weights::random(model.index().clone(), 5);
        let packed = PackedWeights::new(&weights, ComputeType::Float32);
        let arena = Arena::default();
        let mut run = Run::inference(&arena, &packed);
        let embedded = |run: &mut Run, rows: &Rows| {
            let positions = model.positions(rows);
            model.embed(run, &model.source, &rows.ids, &positions)
        };
        let with = embedded(&mut run, &[[5, 1, 6, 2]].iter().collect());
        let bare = embedded(&mut run, &[[5, 6, 2]].iter().collect());
        for (padded, row) in [(0, 0), (2, 1), (3, 2)] {
            assert_eq!(with.row(padded), bare.row(row));
        }
    }

    #[test]
    fn every_parameter_receives_a_gradient() {
        for norm in [Norm::Post, Norm::Pre] {
            let model = small(norm);
            let weights = Weights::random(model.index().clone(), 5);
            let mut gradients = Gradients::zeros(weights.data.len());
            let packed = PackedTable::NONE;
            let mut run = Run::training(
                &Arena::default(),
                &weights,
                &packed,
                &mut gradients,
                DropoutKey::new(1, 1, 0, 0),
            );
            model.loss(
                &mut run,
                &pairs(),
                LossOptions {
                    label_smoothing: 0.1,
                    scale: 1.0,
                    r_drop: 0.0,
                },
            );
            run.backward();
            for p in model.index().iter() {
                // A key's bias adds the same to all scores of a query: softmax does not see it.
                let expected = !p.name.ends_with("key.bias");
                let largest = gradients.data[p.range.clone()]
                    .iter()
                    .fold(0.0f32, |m, g| m.max(g.abs()));
                assert_eq!(largest > 1e-6, expected, "{norm:?} {}: {largest}", p.name);
            }
        }
    }

    #[test]
    fn a_step_at_a_time_gives_what_the_whole_gives() {
        for norm in [Norm::Post, Norm::Pre] {
            let model = small(norm);
            let weights = Weights::random(model.index().clone(), 5);
            let arena = Arena::default();
            let packed = PackedWeights::new(&weights, ComputeType::Float32);
            let mut run = Run::inference(&arena, &packed);
            let pairs = pairs();
            let memory = model.encode(&mut run, &pairs.source);
            let x = model.decode(&mut run, &pairs.target, &memory, &pairs.source);
            let whole = model.logits(&mut run, &x);
            let mut state = DecoderState::new(model.config(), &run, &pairs.source, memory, true);
            let mut live: Vec<usize> = (0..3).collect();
            for step in 0..pairs.target.longest() {
                let keep: Vec<usize> = (0..live.len())
                    .filter(|i| pairs.target.spans[live[*i]].len > step)
                    .collect();
                state.reorder(&keep);
                live = keep.iter().map(|i| live[*i]).collect();
                let row = |s: &usize| pairs.target.spans[*s].start + step;
                let tokens: Vec<u32> = live.iter().map(|s| pairs.target.ids[row(s)]).collect();
                let x = model.decode_step(&mut run, &tokens, &mut state);
                let logits = model.logits(&mut run, &x);
                for (i, s) in live.iter().enumerate() {
                    for (a, b) in logits.row(i).iter().zip(whole.row(row(s))) {
                        assert!((a - b).abs() < 2e-5, "{norm:?} step {step}: {a} {b}");
                    }
                    assert_eq!(
                        state.attention().unwrap()[i].len(),
                        pairs.source.spans[*s].len
                    );
                }
            }
        }
    }
}
