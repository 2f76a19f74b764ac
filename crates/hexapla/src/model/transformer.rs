//! The paper's figure 1: an encoder, a decoder, and the output layer.

use std::sync::Arc;

use hexapla_kernels::{Int8Scales, Matrix};

use crate::batch::{Rows, TrainingRows, check_ids, check_length};
use crate::config::{Assembly, DecoderConfig, EncoderConfig, Precision, TransformerConfig};
use crate::error::Result;
use crate::model::embedding::{Embedder, table};
use crate::model::head::Head;
use crate::model::stack::Stack;
use crate::model::state::DecoderState;
use crate::ops::cross_entropy::{LossOptions, Losses};
use crate::ops::kv_cache::KvBlock;
use crate::ops::{PackedTable, Run};
use crate::tensor::Tensor;
use crate::weights::{ParameterIndex, Weights};

/// The shape of a model: which operations, on which parameters. The numbers are in [`Weights`].
///
/// With both halves it translates. An encoder alone analyses texts, a decoder alone goes on with them.
#[derive(Debug, Clone)]
pub struct Transformer {
    assembly: Assembly,
    index: Arc<ParameterIndex>,
    encoder: Option<Stack>,
    decoder: Option<Stack>,
    head: Option<Head>,
}

impl Transformer {
    /// Lays out a model of this configuration.
    ///
    /// # Errors
    /// The configuration does not fit together.
    pub fn new(assembly: impl Into<Assembly>) -> Result<Self> {
        let assembly = assembly.into();
        assembly.validate()?;
        let model = assembly.model();
        let d_model = model.d_model;
        let mut index = ParameterIndex::default();
        if model.decoder.is_none() {
            // A few outliers of a text's rows would show in its vector; words that are decoded are chosen anew at each step.
            index.int8_scales = Int8Scales::WithoutOutlier;
        }
        // The order of the parameters is that of every checkpoint, and of the streams of their initial weights: tables of
        // tokens, tables of positions, layers.
        let halves = [
            ("encoder", "source", model.encoder),
            ("decoder", "target", model.decoder),
        ];
        let halves = halves.map(|(name, side, config)| {
            config.map(|config| {
                let tokens = &config.embedding;
                let table = table(&mut index, tokens.table, [tokens.vocab_size, tokens.width]);
                (name, side, table, config)
            })
        });
        let head = model.head.as_ref();
        let head = head.map(|config| (Head::table(&mut index, d_model, config), config));
        let mut shared = Vec::new();
        let halves = halves.map(|half| {
            half.map(|(name, side, table, config)| {
                let embedding = &config.embedding;
                let names = (name, side);
                let embedder =
                    Embedder::new(&mut index, names, table, &mut shared, d_model, embedding);
                (name, embedder, config)
            })
        });
        let [encoder, decoder] = halves.map(|half| {
            half.map(|(name, embedder, config)| {
                Stack::new(&mut index, name, d_model, embedder, config)
            })
        });
        Ok(Transformer {
            encoder,
            decoder,
            head: head.map(|(table, config)| Head::new(&mut index, table, d_model, config)),
            index: Arc::new(index),
            assembly,
        })
    }

    fn encoder(&self) -> &Stack {
        self.encoder.as_ref().expect("a model with an encoder")
    }

    fn decoder(&self) -> &Stack {
        self.decoder.as_ref().expect("a model with a decoder")
    }

    fn head(&self) -> &Head {
        self.head.as_ref().expect("a model with a head")
    }

    /// Which parts it has, and their settings.
    pub fn assembly(&self) -> &Assembly {
        &self.assembly
    }

    /// The configuration of a model with both halves.
    ///
    /// # Panics
    /// It has one alone: a mistake in this library, for folders are asked when they are opened.
    pub fn config(&self) -> &TransformerConfig {
        match &self.assembly {
            Assembly::EncoderDecoder(config) => config,
            Assembly::Encoder(_) | Assembly::Decoder(_) => panic!("a model with both halves"),
        }
    }

    /// The configuration of an encoder alone.
    ///
    /// # Panics
    /// It has a decoder: a mistake in this library.
    pub fn encoder_config(&self) -> &EncoderConfig {
        match &self.assembly {
            Assembly::Encoder(config) => config,
            Assembly::EncoderDecoder(_) | Assembly::Decoder(_) => panic!("an encoder alone"),
        }
    }

    /// The configuration of a decoder alone.
    ///
    /// # Panics
    /// It has an encoder: a mistake in this library.
    pub fn decoder_config(&self) -> &DecoderConfig {
        match &self.assembly {
            Assembly::Decoder(config) => config,
            Assembly::EncoderDecoder(_) | Assembly::Encoder(_) => panic!("a decoder alone"),
        }
    }

    /// Tokens that it may say next: the rows of its output layer's table.
    ///
    /// # Panics
    /// Its head is not over a vocabulary.
    pub fn vocab_size(&self) -> usize {
        self.head().vocab_size(&self.index)
    }

    /// Width of every token's vector.
    pub fn d_model(&self) -> usize {
        match &self.assembly {
            Assembly::EncoderDecoder(config) => config.d_model,
            Assembly::Encoder(config) => config.d_model,
            Assembly::Decoder(config) => config.d_model,
        }
    }

    /// Names, shapes and ranges of the parameters.
    pub fn index(&self) -> &Arc<ParameterIndex> {
        &self.index
    }

    /// The output layer packed, as training wants it.
    pub fn pack_output(&self, weights: &Weights, precision: Precision) -> PackedTable {
        self.head().pack(weights, precision)
    }

    /// The encoder: `[source rows, d_model]`.
    pub fn encode(&self, run: &mut Run, source: &Rows) -> Tensor {
        self.encoder().texts(run, source, None)
    }

    /// The decoder over whole texts: `[target rows, d_model]`; `memory` is the encoder's output for `source`.
    pub fn decode(&self, run: &mut Run, target: &Rows, memory: &Tensor, source: &Rows) -> Tensor {
        self.decoder()
            .texts(run, target, Some((memory, &source.spans)))
    }

    /// Begins to decode, without a hypothesis yet: sources are added to it ([`DecoderState::add_sources`]), or in a decoder alone
    /// texts are read into it ([`Transformer::read`]).
    pub fn start(&self, run: &Run) -> DecoderState {
        DecoderState::new(&self.decoder().config, run)
    }

    /// Begins to go on with texts, one hypothesis more for each, in a decoder alone: their tokens `texts` are read in one pass, whose
    /// output `[rows, d_model]` is given back. `past` are blocks of tokens that stand before those of each text, and whose keys and
    /// values are known; a text may have none, and may be empty.
    pub fn read(
        &self,
        run: &mut Run,
        state: &mut DecoderState,
        texts: &Rows,
        past: &[Vec<Arc<KvBlock>>],
    ) -> Tensor {
        let decoder = self.decoder();
        run.enter(&decoder.name);
        let x = decoder.embedder.texts(run, texts);
        let mut context = state.beginning(&texts.spans, past);
        decoder.forward(run, x, &texts.positions, &mut context)
    }

    /// A decoder alone over whole texts: `[rows, d_model]`.
    pub fn go_on(&self, run: &mut Run, texts: &Rows) -> Tensor {
        self.decoder().texts(run, texts, None)
    }

    /// The decoder for one more token of each hypothesis: `[hypotheses, d_model]`.
    pub fn decode_step(&self, run: &mut Run, tokens: &[u32], state: &mut DecoderState) -> Tensor {
        let positions = state.advance(run);
        run.enter(&self.decoder().name);
        let x = self.decoder().embedder.step(run, tokens, &positions);
        let x = self
            .decoder()
            .forward(run, x, &positions, &mut state.step());
        state.forget_memory(run);
        x
    }

    /// The output layer: `[rows, d_model]` to `[rows, vocab]`.
    pub fn logits(&self, run: &mut Run, x: &Tensor) -> Tensor {
        self.head().forward(run, x, &[])
    }

    /// The output layer behind rows that another layer than the last has made, `[rows, d_model]`: the last norm, where there is
    /// one, and the output.
    pub(crate) fn logits_after(&self, run: &mut Run, x: &Tensor) -> Tensor {
        let stack = self.decoder.as_ref().unwrap_or_else(|| self.encoder());
        let x = stack.finish(run, x.clone());
        self.head().forward(run, &x, &[])
    }

    /// What the head says of texts whose encoding is `x` `[rows, d_model]`: for each row of them, or for each text. Without a
    /// head it is `x`.
    pub fn answer(&self, run: &mut Run, x: &Tensor, texts: &Rows) -> Tensor {
        match &self.head {
            Some(head) => head.forward(run, x, &texts.spans),
            None => x.clone(),
        }
    }

    /// As [`Transformer::logits`], to `out`, which holds `rows · vocab` numbers.
    pub fn logits_into(&self, run: &Run, x: Matrix, out: &mut [f32]) {
        self.head().logits_into(run, x, out);
    }

    /// Refuses rows that the model has no room for.
    ///
    /// # Errors
    /// An id or a length out of range.
    pub fn check(&self, rows: &TrainingRows) -> Result<()> {
        for (side, rows, stack) in [
            ("source", &rows.source, &self.encoder),
            ("target", &rows.target, &self.decoder),
        ] {
            let Some(Stack { config, .. }) = stack else {
                continue;
            };
            check_ids(&rows.ids, config.embedding.vocab_size).map_err(|e| e.at(side))?;
            for (number, span) in rows.spans.iter().enumerate() {
                check_length(span.len, config.embedding.max_positions)
                    .map_err(|e| e.at(side).in_item(number))?;
            }
        }
        check_ids(&rows.labels, self.vocab_size()).map_err(|e| e.at("labels"))
    }

    /// The loss of each target row.
    pub fn loss(&self, run: &mut Run, rows: &TrainingRows, options: LossOptions) -> Losses {
        let x = match self.encoder {
            Some(_) => {
                let memory = self.encode(run, &rows.source);
                self.decode(run, &rows.target, &memory, &rows.source)
            }
            None => self.go_on(run, &rows.target),
        };
        self.head().loss(run, &x, &rows.labels, options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Positions;
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

    fn pairs() -> TrainingRows {
        let mut pairs = TrainingRows::default();
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
        assert_eq!(
            *model.encoder().embedder.positions(&rows),
            [0, 1, 2, 3, 0, 1, 2, 0]
        );
        c.positions = Positions::SinusoidalHalvesFairseq;
        c.position_offset = 2;
        let model = Transformer::new(c).unwrap();
        // transformers: cumsum(ids ≠ pad)·(ids ≠ pad) + pad; the rows of the padding are not these.
        assert_eq!(
            *model.encoder().embedder.positions(&rows),
            [0, 1, 1, 2, 0, 0, 0, 0]
        );
        let weights = Weights::random(model.index().clone(), 5);
        let packed = PackedWeights::new(&weights, ComputeType::Float32);
        let arena = Arena::default();
        let mut run = Run::inference(&arena, &packed);
        let embedded = |run: &mut Run, rows: &Rows| model.encoder().embedder.texts(run, rows);
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
            let mut state = model.start(&run);
            state.add_sources(&pairs.source, memory, true);
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
