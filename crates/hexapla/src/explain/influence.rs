//! What an output's probability owes to each head and to each source token: one is left out, and the model is asked again.

use rayon::prelude::*;
use serde::Serialize;

use super::edits::Edits;
use super::likeliest::log_sum_exp;
use super::recorder::Recorder;
use crate::batch::Rows;
use crate::config::ModelConfig;
use crate::model::transformer::Transformer;
use crate::ops::Run;
use crate::packed::PackedWeights;
use crate::tensor::{Arena, Tensor};

/// Rows that pass through the model at most, for the heads and again for the source tokens: some seconds for a model of the paper's
/// size.
const ROWS: usize = 30_000;

/// How the log-probabilities of an output change. What would take too long for so long a text is left empty.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Influence {
    /// Of each output token, nothing being changed, by a pass over the whole target.
    pub log_probs: Vec<f32>,
    /// For each head what it costs to switch it off.
    pub heads: Vec<HeadInfluence>,
    /// For each source token, and each output token: its log-probability where nobody looks at the source token, less its
    /// log-probability otherwise. Empty where the source has one token only, since something must be seen.
    pub source: Vec<Vec<f32>>,
}

/// A head, and what it costs to switch it off.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct HeadInfluence {
    /// Its attention, such as `encoder.layers.0.self_attention`.
    pub attention: String,
    /// Which of its heads, from 0.
    pub head: usize,
    /// For each output token: its log-probability without the head, less that with it.
    pub change: Vec<f32>,
}

/// A model, a source and what it was translated to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Given<'a> {
    pub(super) model: &'a Transformer,
    pub(super) parameters: &'a PackedWeights,
    /// What the encoder reads.
    pub(super) source: &'a [u32],
    /// What the decoder reads, the start token first.
    pub(super) target: &'a [u32],
    /// What each of its rows was followed by.
    pub(super) output: &'a [u32],
}

impl Given<'_> {
    /// The encoder's output under `edits`.
    pub(super) fn memory(&self, edits: &Edits) -> Tensor {
        let arena = Arena::default();
        let mut recorder = Recorder::new(edits, false, false);
        let mut run = Run::inference(&arena, self.parameters).watched(&mut recorder);
        self.model
            .encode(&mut run, &[self.source].into_iter().collect())
    }

    /// Log-probabilities of the whole vocabulary at each target row, under `edits`; `each` is given a row and its logits less the
    /// logarithm of their sum.
    fn decode<T>(
        &self,
        memory: &Tensor,
        edits: &Edits,
        each: impl Fn(usize, &[f32], f32) -> T,
    ) -> Vec<T> {
        let arena = Arena::default();
        let rounds = self.parameters.keeps_cache_in_bf16();
        let mut recorder = Recorder::new(edits, rounds, false);
        let mut run = Run::inference(&arena, self.parameters).watched(&mut recorder);
        let source: Rows = [self.source].into_iter().collect();
        let target: Rows = [self.target].into_iter().collect();
        let x = self.model.decode(&mut run, &target, memory, &source);
        let logits = self.model.logits(&mut run, &x);
        let rows = 0..target.len();
        rows.map(|row| each(row, logits.row(row), log_sum_exp(logits.row(row))))
            .collect()
    }

    /// The log-probability of each output token under `edits`.
    pub(super) fn log_probs(&self, memory: &Tensor, edits: &Edits) -> Vec<f32> {
        self.decode(memory, edits, |row, logits, sum| {
            logits[self.output[row] as usize] - sum
        })
    }

    /// Leaves out each head and each source token, one at a time.
    pub(super) fn influence(&self) -> Influence {
        let whole = self.memory(&Edits::default());
        let before = self.log_probs(&whole, &Edits::default());
        let rows = self.source.len() + self.target.len();
        let heads = heads_of(&self.model.assembly().model());
        let tokens = match self.source.len() {
            0 | 1 => 0,
            tokens if tokens * rows > ROWS => 0,
            tokens => tokens,
        };
        let source = (0..tokens).into_par_iter().map(|token| {
            let edits = hide(token);
            difference(&self.log_probs(&self.memory(&edits), &edits), &before)
        });
        Influence {
            heads: match heads.len() * rows > ROWS {
                true => Vec::new(),
                false => self.without_each(heads, &whole, &before),
            },
            source: source.collect(),
            log_probs: before,
        }
    }

    /// Leaves out each of `heads`; `whole` is the encoder's output, and `before` the output's log-probabilities with all of them.
    pub(super) fn without_each(
        &self,
        heads: Vec<(String, usize)>,
        whole: &Tensor,
        before: &[f32],
    ) -> Vec<HeadInfluence> {
        let without = |(attention, head): (String, usize)| {
            let edits = Edits {
                heads_off: vec![(attention.clone(), head)],
                ..Edits::default()
            };
            // The encoder does not know what the decoder does.
            let after = match attention.starts_with("encoder.") {
                true => self.log_probs(&self.memory(&edits), &edits),
                false => self.log_probs(whole, &edits),
            };
            HeadInfluence {
                attention,
                head,
                change: difference(&after, before),
            }
        };
        heads.into_par_iter().map(without).collect()
    }

    /// For each source token: what log p(`instead`) − log p(the output token) at target row `row` becomes where nobody looks at it,
    /// less what it is otherwise. The first number is what it is otherwise.
    pub(super) fn contrast(&self, row: usize, instead: u32) -> (f32, Vec<f32>) {
        let difference = |edits: &Edits| {
            let rows = self.decode(&self.memory(edits), edits, |at, logits, _| {
                match at == row {
                    true => logits[instead as usize] - logits[self.output[at] as usize],
                    false => 0.0,
                }
            });
            rows[row]
        };
        let before = difference(&Edits::default());
        let tokens = 0..self.source.len();
        let changes = tokens.into_par_iter().map(|token| match self.source.len() {
            1 => 0.0,
            _ => difference(&hide(token)) - before,
        });
        (before, changes.collect())
    }
}

/// All heads of a model, in the order of their layers: the attention's name, and the head.
pub(super) fn heads_of(model: &ModelConfig) -> Vec<(String, usize)> {
    let mut heads = Vec::new();
    for (half, stack) in [("encoder", &model.encoder), ("decoder", &model.decoder)] {
        let layers = stack
            .iter()
            .flat_map(|stack| stack.layers.iter().enumerate());
        for (i, layer) in layers {
            let name = |of: &str| format!("{half}.layers.{i}.{of}");
            let own = (0..layer.self_attention.heads).map(|h| (name("self_attention"), h));
            heads.extend(own);
            let cross = layer.cross_attention.map_or(0, |attention| attention.heads);
            heads.extend((0..cross).map(|h| (name("cross_attention"), h)));
        }
    }
    heads
}

fn difference(after: &[f32], before: &[f32]) -> Vec<f32> {
    let pairs = after.iter().zip(before);
    pairs.map(|(after, before)| after - before).collect()
}

/// Nobody looks at this source token.
fn hide(token: usize) -> Edits {
    Edits {
        hidden_source: vec![token],
        ..Edits::default()
    }
}
