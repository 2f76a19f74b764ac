//! Which source token each token of a translation stands for: read in the decoder's attention over the source, in a pass over the
//! finished translation.

use std::fmt;

use hexapla_kernels::{Matrix, MatrixMut, Plus, Visible};

use super::engine::Engine;
use crate::batch::Span;
use crate::config::{AlignmentReading, AlignmentStep, AlignmentWeights};
use crate::error::{Error, Result};
use crate::ops::Run;
use crate::ops::watch::{HeadTable, Projected, Watch};
use crate::packed::{PackedProduct, PackedWeights};
use crate::tensor::Tensor;
use crate::weights::ParameterId;

/// Pairs of source and target tokens. Shown in Pharaoh's format, `0-0 1-2`: source, hyphen, target, from 0.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Alignment {
    /// Source and target position, in the order of the target.
    pub pairs: Vec<(usize, usize)>,
}

impl Alignment {
    /// For each target token (a row of `weights`) that `of_target` holds, the first with the greatest weight of the source tokens
    /// that `of_source` holds.
    pub fn from_weights(
        weights: &[Vec<f32>],
        of_source: impl Fn(usize) -> bool,
        of_target: impl Fn(usize) -> bool,
    ) -> Self {
        let rows = weights.iter().enumerate();
        let pairs = rows.filter(|(target, _)| of_target(*target));
        let pairs = pairs.filter_map(|(target, weights)| {
            let mut weights = weights.iter().enumerate().filter(|(i, _)| of_source(*i));
            let first = weights.next()?;
            let greatest = weights.fold(
                first,
                |best, next| if next.1 > best.1 { next } else { best },
            );
            Some((greatest.0, target))
        });
        Alignment {
            pairs: pairs.collect(),
        }
    }
}

impl fmt::Display for Alignment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, (source, target)) in self.pairs.iter().enumerate() {
            let space = if number == 0 { "" } else { " " };
            write!(f, "{space}{source}-{target}")?;
        }
        Ok(())
    }
}

/// What the decoder's rows of one pair made of the source, in the layers that were asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceAttention {
    /// Target tokens, the end token left out.
    pub targets: usize,
    /// Source tokens, with all that stands around a text.
    pub sources: usize,
    layers: Vec<LayerAttention>,
}

#[derive(Debug, Clone, PartialEq)]
struct LayerAttention {
    /// From 0.
    layer: usize,
    heads: Vec<HeadAttention>,
}

#[derive(Debug, Clone, PartialEq)]
struct HeadAttention {
    /// `[targets + 1, sources]`: the first row is the start token's, the last the last token's.
    weights: Vec<f32>,
    /// ‖v · W_O‖ of each source token; nothing where it was not asked for.
    lengths: Vec<f32>,
}

impl SourceAttention {
    /// For each target token its numbers for the source tokens.
    ///
    /// # Panics
    /// The layer, a head of it or its lengths were not asked for.
    pub fn rows(&self, reading: &AlignmentReading) -> Vec<Vec<f32>> {
        let layer = self.layers.iter().find(|l| l.layer == reading.layer);
        let all = &layer.expect("a layer that was asked for").heads;
        let heads: Vec<&HeadAttention> = match reading.heads.as_slice() {
            [] => all.iter().collect(),
            heads => heads.iter().map(|h| &all[*h]).collect(),
        };
        let later = usize::from(reading.step == AlignmentStep::Input);
        let row = |target: usize| {
            let mut sum = vec![0.0; self.sources];
            for head in &heads {
                let weights = &head.weights[(target + later) * self.sources..][..self.sources];
                for (i, (sum, weight)) in sum.iter_mut().zip(weights).enumerate() {
                    *sum += match reading.weights {
                        AlignmentWeights::Attention => *weight,
                        AlignmentWeights::Norm => weight * head.lengths[i],
                    };
                }
            }
            sum
        };
        (0..self.targets).map(row).collect()
    }
}

/// Keeps the weights of the attentions that it is asked about.
#[derive(Debug)]
struct Recorder {
    layers: Vec<Recorded>,
}

#[derive(Debug)]
struct Recorded {
    layer: usize,
    name: String,
    heads: usize,
    kv_heads: usize,
    /// Text after text, head after head.
    weights: Vec<Vec<f32>>,
    /// `[source rows of all texts, kv_heads · width]`, where lengths are wanted.
    values: Option<Vec<f32>>,
}

impl Recorder {
    fn layer(&mut self, name: &str) -> Option<&mut Recorded> {
        self.layers.iter_mut().find(|layer| layer.name == name)
    }
}

impl Watch for Recorder {
    fn value(&mut self, _: &str, _: &mut Tensor) {}

    fn projections(&mut self, name: &str, p: Projected) {
        if let Some(layer) = self.layer(name) {
            (layer.heads, layer.kv_heads) = (p.heads, p.kv_heads);
            if let Some(values) = &mut layer.values {
                values.extend(p.value.data());
            }
        }
    }

    fn weights(&mut self, name: &str, table: HeadTable, _: Visible) {
        if let Some(layer) = self.layer(name) {
            layer.weights.push(table.numbers.to_vec());
        }
    }
}

impl Engine {
    /// Refuses what this model's decoder does not have.
    ///
    /// # Errors
    /// Names the layer or the head.
    pub fn check_alignment(&self, reading: &AlignmentReading) -> Result<()> {
        let config = self.config();
        let refuse = |what: &str, found: usize, count: usize| {
            Err(Error::settings(format!("the decoder has no such {what}"))
                .at("where alignments are read")
                .expected(format!("{what} 1 to {count}"))
                .found((found + 1).to_string())
                .hint("layers and heads are counted from 1 here, from 0 in manifest.json"))
        };
        if reading.layer >= config.decoder_layers {
            return refuse("layer", reading.layer, config.decoder_layers);
        }
        match reading.heads.iter().find(|h| **h >= config.decoder_heads) {
            Some(head) => refuse("head", *head, config.decoder_heads),
            None => Ok(()),
        }
    }

    /// What the decoder attends to in given pairs of source (all that stands around a text included) and target (end token left
    /// out) whose decoder starts with `start`: in one layer, or in all; with the lengths of what attention brings, where `lengths`
    /// asks for them.
    ///
    /// # Errors
    /// An id or a length out of range.
    pub fn source_attention(
        &self,
        pairs: &[(Vec<u32>, Vec<u32>)],
        start: u32,
        layer: Option<usize>,
        lengths: bool,
        batch_tokens: usize,
    ) -> Result<Vec<SourceAttention>> {
        let layers = match layer {
            Some(layer) => layer..layer + 1,
            None => 0..self.config().decoder_layers,
        };
        let recorded = |layer: usize| Recorded {
            layer,
            name: format!("decoder.layers.{layer}.cross_attention"),
            heads: 0,
            kv_heads: 0,
            weights: Vec::new(),
            values: lengths.then(Vec::new),
        };
        self.with_batches(pairs, start, batch_tokens, |arena, rows| {
            let mut run = Run::inference(arena, self.parameters());
            let memory = self.model().encode(&mut run, &rows.source);
            let mut recorder = Recorder {
                layers: layers.clone().map(recorded).collect(),
            };
            let mut run = Run::inference(arena, self.parameters()).watched(&mut recorder);
            self.model()
                .decode(&mut run, &rows.target, &memory, &rows.source);
            drop(run);
            let spans = rows.target.spans.iter().zip(&rows.source.spans);
            let mut all: Vec<SourceAttention> = spans
                .map(|(target, source)| SourceAttention {
                    targets: target.len - 1,
                    sources: source.len,
                    layers: Vec::new(),
                })
                .collect();
            for recorded in recorder.layers {
                recorded.share_out(self.parameters(), &rows.source.spans, &mut all);
            }
            all
        })
    }
}

impl Recorded {
    /// Gives each pair its own.
    fn share_out(self, parameters: &PackedWeights, sources: &[Span], to: &mut [SourceAttention]) {
        let heads = self.heads;
        let output = parameters
            .index()
            .find(&format!("{}.output.weight", self.name));
        let lengths = self.values.as_ref().zip(output).map(|(values, output)| {
            let rows: usize = sources.iter().map(|s| s.len).sum();
            let row_width = values.len() / rows;
            let width = row_width / self.kv_heads;
            lengths_of_values(parameters, output, (heads, rows, width), |head, row| {
                &values[row * row_width + head * self.kv_heads / heads * width..][..width]
            })
        });
        let mut weights = self.weights.into_iter();
        for (pair, span) in to.iter_mut().zip(sources) {
            let of_head = |(head, weights): (usize, Vec<f32>)| HeadAttention {
                weights,
                lengths: match &lengths {
                    Some(lengths) => lengths[head][span.start..span.start + span.len].to_vec(),
                    None => Vec::new(),
                },
            };
            pair.layers.push(LayerAttention {
                layer: self.layer,
                heads: weights
                    .by_ref()
                    .take(heads)
                    .enumerate()
                    .map(of_head)
                    .collect(),
            });
        }
    }
}

/// ‖v · W_O‖ for each head and each of `rows` values, which `value` gives by head and row: W_O are those rows of the output
/// projection that the head is multiplied by; its bias is left out, for it belongs to no value.
pub(crate) fn lengths_of_values<'a>(
    parameters: &PackedWeights,
    output: ParameterId,
    (heads, rows, width): (usize, usize, usize),
    value: impl Fn(usize, usize) -> &'a [f32],
) -> Vec<Vec<f32>> {
    let columns = parameters.index().get(output).shape[1];
    let mut x = vec![0.0; rows * heads * width];
    let mut y = vec![0.0; rows * columns];
    let length = |row: &[f32]| row.iter().map(|x| x * x).sum::<f32>().sqrt();
    let of_head = |head: usize| {
        // Its values alone, where they stand among those of all heads.
        x.fill(0.0);
        for (row, to) in x.chunks_exact_mut(heads * width).enumerate() {
            to[head * width..(head + 1) * width].copy_from_slice(value(head, row));
        }
        let product = PackedProduct {
            id: output,
            y: MatrixMut::new(&mut y, rows, columns, columns),
            epilogue: Plus::Nothing.into(),
        };
        let x = Matrix::new(&x, rows, heads * width, heads * width);
        parameters.multiply(false, x, [product]);
        y.chunks_exact(columns).map(length).collect()
    };
    (0..heads).map(of_head).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ComputeType, TransformerConfig};
    use crate::model::transformer::Transformer;
    use crate::weights::Weights;

    #[test]
    fn alignments_are_in_pharaohs_format() {
        let rows = [
            vec![0.1, 0.7, 0.2],
            vec![0.4, 0.2, 0.4],
            vec![0.0, 0.1, 0.9],
        ];
        fn all(_: usize) -> bool {
            true
        }
        let aligned = |source: fn(usize) -> bool, target: fn(usize) -> bool| {
            Alignment::from_weights(&rows, source, target).to_string()
        };
        // Of equal weights the first counts; what is no word is left out.
        assert_eq!(aligned(all, all), "1-0 0-1 2-2");
        assert_eq!(aligned(|i| i < 2, all), "1-0 0-1 1-2");
        assert_eq!(aligned(all, |i| i != 1), "1-0 2-2");
        assert_eq!(aligned(|_| false, all), "");
    }

    #[test]
    fn each_pair_has_its_own_weights_in_any_batch() {
        let mut config = TransformerConfig::preset("tiny").unwrap();
        (config.source_vocab_size, config.target_vocab_size) = (90, 90);
        let model = Transformer::new(config).unwrap();
        let weights = Weights::random(model.index().clone(), 3);
        let engine = Engine::new(model, PackedWeights::new(&weights, ComputeType::Float32));
        let start = engine.config().decoder_start_token_id;
        let pairs = [
            (vec![7, 8, 2], vec![9, 10]),
            (vec![30, 2], vec![11]),
            (vec![6, 5, 4, 2], vec![]),
            (vec![40, 41, 42, 43, 2], vec![50, 51, 52, 53]),
        ];
        let together = engine
            .source_attention(&pairs, start, None, true, 1000)
            .unwrap();
        let layers = engine.config().decoder_layers;
        for (found, pair) in together.iter().zip(&pairs) {
            let one = std::slice::from_ref(pair);
            for layer in 0..layers {
                let alone = engine.source_attention(one, start, Some(layer), true, 1000);
                let alone = &alone.unwrap()[0];
                let mut reading = AlignmentReading::of_last_layer(layer + 1);
                let plain = found.rows(&reading);
                assert_eq!(plain, alone.rows(&reading));
                assert_eq!(plain.len(), pair.1.len());
                let heads = engine.config().decoder_heads as f32;
                for row in &plain {
                    assert_eq!(row.len(), pair.0.len());
                    assert!((row.iter().sum::<f32>() - heads).abs() < 1e-4);
                }
                // The step that reads a token is the one that produces the next.
                reading.step = AlignmentStep::Input;
                let shifted = found.rows(&reading);
                for (row, next) in shifted.iter().zip(plain.iter().skip(1)) {
                    assert_eq!(row, next);
                }
                reading.weights = AlignmentWeights::Norm;
                reading.heads = vec![1];
                let norms = found.rows(&reading);
                assert_eq!(norms, alone.rows(&reading));
                assert!(norms.iter().flatten().all(|n| *n > 0.0));
            }
        }
    }
}
