//! Given targets: how probable the model finds them, and what it would have said at each position.

use hexapla_kernels::Matrix;
use rayon::prelude::*;

use super::engine::Engine;
use super::log_softmax::log_sum_exp;
use super::sentence::not_a_number;
use crate::batch::{Span, TrainingRows, batches, in_order};
use crate::error::Result;
use crate::ops::Run;
use crate::ops::cross_entropy::LossOptions;
use crate::tensor::{Arena, Tensor};

/// Rows whose logits exist together.
const ROWS_AT_ONCE: usize = 64;

/// Log-probabilities of a given target.
#[derive(Debug, Clone, PartialEq)]
pub struct Scored {
    /// ln p of each target token, the end token last.
    pub token_log_probs: Vec<f32>,
}

impl Scored {
    /// ln p of the whole target.
    pub fn log_prob(&self) -> f64 {
        self.token_log_probs.iter().map(|p| f64::from(*p)).sum()
    }
}

/// What the model would say at a position of a given target, after the target's own tokens before it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Predicted {
    /// The likeliest token, the lowest id among equals.
    pub token: u32,
    /// Its probability, 0 to 1.
    pub probability: f32,
    /// Whether it is the target's.
    pub correct: bool,
}

/// Source ids (end token included) and target ids (end token left out).
type IdPair = (Vec<u32>, Vec<u32>);

impl Engine {
    /// Log-probabilities of given pairs of source (end token included) and target (end token left out), on rayon's threads.
    ///
    /// # Errors
    /// An id or a length out of range; a model whose output is not a number.
    pub fn score(&self, pairs: &[IdPair], batch_tokens: usize) -> Result<Vec<Scored>> {
        let scored = self.with_batches(pairs, self.start(), batch_tokens, |arena, rows| {
            let options = LossOptions {
                label_smoothing: 0.0,
                scale: 1.0,
                r_drop: 0.0,
            };
            let mut run = Run::inference(arena, self.parameters());
            let losses = self.model().loss(&mut run, rows, options);
            let mut log_probs = losses.iter().map(|l| -l.negative_log_likelihood);
            let of = |span: &Span| Scored {
                token_log_probs: log_probs.by_ref().take(span.len).collect(),
            };
            rows.target.spans.iter().map(of).collect()
        })?;
        let broken = |s: &Scored| s.token_log_probs.iter().any(|p| p.is_nan());
        match scored.iter().position(broken) {
            Some(pair) => Err(not_a_number().in_item(pair)),
            None => Ok(scored),
        }
    }

    /// For each token of the targets, the end token last, what the model would have said there. Pairs as for
    /// [`Engine::score`].
    ///
    /// # Errors
    /// An id or a length out of range.
    pub fn predict(&self, pairs: &[IdPair], batch_tokens: usize) -> Result<Vec<Vec<Predicted>>> {
        self.with_batches(pairs, self.start(), batch_tokens, |arena, rows| {
            let mut run = Run::inference(arena, self.parameters());
            let memory = self.model().encode(&mut run, &rows.source);
            let x = self
                .model()
                .decode(&mut run, &rows.target, &memory, &rows.source);
            let mut predicted = self.likeliest(&run, &x, &rows.labels).into_iter();
            let of = |span: &Span| predicted.by_ref().take(span.len).collect();
            rows.target.spans.iter().map(of).collect()
        })
    }

    /// The likeliest token for each row of `x` `[rows, d_model]`, beside that row's label.
    fn likeliest(&self, run: &Run, x: &Tensor, labels: &[u32]) -> Vec<Predicted> {
        let (width, vocab) = (x.columns(), self.model().config().target_vocab_size);
        let mut logits = run.arena.tensor(ROWS_AT_ONCE, vocab);
        let blocks = x.data().chunks(ROWS_AT_ONCE * width);
        let mut predicted = Vec::with_capacity(labels.len());
        for (block, labels) in blocks.zip(labels.chunks(ROWS_AT_ONCE)) {
            let rows = Matrix::new(block, labels.len(), width, width);
            let logits = &mut logits.data_mut()[..labels.len() * vocab];
            self.model().logits_into(run, rows, logits);
            for (row, label) in logits.chunks_exact(vocab).zip(labels) {
                let mut best = (0, f32::NEG_INFINITY);
                for (token, logit) in row.iter().enumerate() {
                    if *logit > best.1 {
                        best = (token, *logit);
                    }
                }
                let token = best.0 as u32;
                predicted.push(Predicted {
                    token,
                    // Where no logit is finite, no token is likely.
                    probability: log_sum_exp(row, best.1).map_or(0.0, |sum| (-sum).exp()),
                    correct: token == *label,
                });
            }
        }
        predicted
    }

    fn start(&self) -> u32 {
        self.model().config().decoder_start_token_id
    }

    /// Does `work` for batches of `pairs`, whose decoder starts with `start`, on rayon's threads, and puts its results, one for each pair, in their order.
    pub(super) fn with_batches<T: Send>(
        &self,
        pairs: &[IdPair],
        start: u32,
        batch_tokens: usize,
        work: impl Fn(&Arena, &TrainingRows) -> Vec<T> + Send + Sync,
    ) -> Result<Vec<T>> {
        let c = self.model().config();
        for (i, (source, target)) in pairs.iter().enumerate() {
            self.check(i, "source", source, c.source_vocab_size)?;
            self.check_length(i, "source", source.len())?;
            self.check(i, "target", target, c.target_vocab_size)?;
            // The decoder is fed the start token as well.
            self.check_length(i, "target", target.len() + 1)?;
        }
        let lengths = pairs.iter().map(|(s, t)| s.len().max(t.len() + 1));
        let batches = batches(lengths, batch_tokens);
        let of_batch = |batch: &Vec<usize>| {
            let mut rows = TrainingRows::default();
            for i in batch {
                let (source, target) = &pairs[*i];
                let target = || target.iter().copied();
                rows.source.push(source.iter().copied());
                rows.target.push([start].into_iter().chain(target()));
                rows.labels.extend(target().chain([c.eos_token_id]));
            }
            self.workers.with_arena(|arena| work(arena, &rows))
        };
        let done: Vec<Vec<T>> = self
            .workers
            .on_threads(|| batches.par_iter().map(of_batch).collect());
        Ok(in_order(pairs.len(), &batches, done))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ComputeType, TransformerConfig};
    use crate::model::transformer::Transformer;
    use crate::packed::PackedWeights;
    use crate::weights::Weights;

    #[test]
    fn predictions_are_the_greatest_of_the_logits() {
        let mut config = TransformerConfig::preset("tiny").unwrap();
        (config.source_vocab_size, config.target_vocab_size) = (90, 90);
        let model = Transformer::new(config).unwrap();
        let weights = Weights::random(model.index().clone(), 3);
        let engine = Engine::new(model, PackedWeights::new(&weights, ComputeType::Float32));
        let c = engine.config().clone();
        // More rows than have their logits together.
        let long: Vec<u32> = (5..85).collect();
        let pairs = [
            (vec![7, 8, 2], vec![9, 10]),
            (vec![30, 2], long),
            (vec![6, 2], vec![]),
        ];
        let found = engine.predict(&pairs, 64).unwrap();
        let scored = engine.score(&pairs, 64).unwrap();
        for ((predicted, scored), (source, target)) in found.iter().zip(&scored).zip(&pairs) {
            let mut input = vec![c.decoder_start_token_id];
            input.extend(target);
            let logits = engine
                .logits(std::slice::from_ref(source), &[input])
                .unwrap();
            assert_eq!(predicted.len(), target.len() + 1);
            let labels = target.iter().chain([&c.eos_token_id]);
            for (((p, row), label), log_prob) in predicted
                .iter()
                .zip(&logits[0])
                .zip(labels)
                .zip(&scored.token_log_probs)
            {
                let best = row[p.token as usize];
                assert!(row.iter().all(|logit| *logit <= best));
                let sum: f64 = row.iter().map(|l| f64::from(l - best).exp()).sum();
                assert!((f64::from(p.probability) - 1.0 / sum).abs() < 1e-5);
                assert_eq!(p.correct, p.token == *label);
                if p.correct {
                    assert!((p.probability.ln() - log_prob).abs() < 1e-4);
                }
            }
        }
    }
}
