//! What an output's probability owes to each head and to each source token, or to each token before it: one is left out, and the
//! model is asked again.

use rayon::prelude::*;
use serde::Serialize;

use super::edits::Edits;
use super::likeliest::log_sum_exp;
use super::recorder::Recorder;
use crate::batch::Rows;
use crate::config::{Assembly, ModelConfig};
use crate::model::transformer::Transformer;
use crate::ops::Run;
use crate::packed::PackedWeights;
use crate::tensor::{Arena, Tensor};

/// Rows that pass through the model at most, for the heads and again for the tokens: some seconds for a model of the paper's size.
const ROWS: usize = 30_000;
/// And rows times parameters, for larger ones.
const WORK: usize = 2_000_000_000_000;

/// How the log-probabilities of an output change. What would take too long for so long a text is left empty.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Influence {
    /// Of each output token, nothing being changed, by a pass over the whole target.
    pub log_probs: Vec<f32>,
    /// For each head what it costs to switch it off.
    pub heads: Vec<HeadInfluence>,
    /// For each source token, and each output token: its log-probability where nobody looks at the source token, less its
    /// log-probability otherwise. Empty where the source has one token only, since something must be seen. Of a decoder alone the
    /// same for each token of its text.
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
    /// What the encoder reads; nothing for a decoder alone.
    pub(super) source: &'a [u32],
    /// What the decoder reads, the start token first.
    pub(super) target: &'a [u32],
    /// What each of its rows was followed by.
    pub(super) output: &'a [u32],
}

impl Given<'_> {
    fn is_decoder_alone(&self) -> bool {
        matches!(self.model.assembly(), Assembly::Decoder(_))
    }

    /// The encoder's output under `edits`; nothing where there is no encoder.
    pub(super) fn memory(&self, edits: &Edits) -> Option<Tensor> {
        if self.is_decoder_alone() {
            return None;
        }
        let arena = Arena::default();
        let mut recorder = Recorder::new(self.model, self.parameters, edits, false);
        let mut run = Run::inference(&arena, self.parameters).watched(&mut recorder);
        let source = [self.source].into_iter().collect();
        Some(self.model.encode(&mut run, &source))
    }

    /// Log-probabilities of the whole vocabulary at each target row, under `edits`; `each` is given a row and its logits less the
    /// logarithm of their sum.
    fn decode<T>(
        &self,
        memory: Option<&Tensor>,
        edits: &Edits,
        each: impl Fn(usize, &[f32], f32) -> T,
    ) -> Vec<T> {
        let arena = Arena::default();
        let mut recorder = Recorder::new(self.model, self.parameters, edits, false);
        let mut run = Run::inference(&arena, self.parameters).watched(&mut recorder);
        let source: Rows = [self.source].into_iter().collect();
        let target: Rows = [self.target].into_iter().collect();
        let x = match memory {
            Some(memory) => self.model.decode(&mut run, &target, memory, &source),
            None => self.model.go_on(&mut run, &target),
        };
        let logits = self.model.logits(&mut run, &x);
        let rows = 0..target.len();
        rows.map(|row| each(row, logits.row(row), log_sum_exp(logits.row(row))))
            .collect()
    }

    /// The log-probability of each output token under `edits`.
    pub(super) fn log_probs(&self, memory: Option<&Tensor>, edits: &Edits) -> Vec<f32> {
        self.decode(memory, edits, |row, logits, sum| {
            logits[self.output[row] as usize] - sum
        })
    }

    /// Tokens that may be hidden: those of the source, or of a decoder alone those of its own text.
    fn hideable(&self) -> usize {
        match self.is_decoder_alone() {
            true => self.target.len(),
            false => self.source.len(),
        }
    }

    /// Leaves out each head and each token, one at a time.
    pub(super) fn influence(&self) -> Influence {
        let whole = self.memory(&Edits::default());
        let whole = whole.as_ref();
        let before = self.log_probs(whole, &Edits::default());
        let rows = self.source.len() + self.target.len();
        let takes_too_long = |passes: usize| {
            passes * rows > ROWS || (passes * rows).saturating_mul(self.model.index().len()) > WORK
        };
        let heads = heads_of(&self.model.assembly().model());
        let tokens = match self.hideable() {
            0 | 1 => 0,
            tokens if takes_too_long(tokens) => 0,
            tokens => tokens,
        };
        let source = (0..tokens).into_par_iter().map(|token| {
            let edits = hide(token);
            let memory = self.memory(&edits);
            difference(&self.log_probs(memory.as_ref(), &edits), &before)
        });
        Influence {
            heads: match takes_too_long(heads.len()) {
                true => Vec::new(),
                false => self.without_each(heads, whole, &before),
            },
            source: source.collect(),
            log_probs: before,
        }
    }

    /// Leaves out each of `heads`; `whole` is the encoder's output, and `before` the output's log-probabilities with all of them.
    pub(super) fn without_each(
        &self,
        heads: Vec<(String, usize)>,
        whole: Option<&Tensor>,
        before: &[f32],
    ) -> Vec<HeadInfluence> {
        let without = |(attention, head): (String, usize)| {
            let edits = Edits {
                heads_off: vec![(attention.clone(), head)],
                ..Edits::default()
            };
            // The encoder does not know what the decoder does.
            let after = match attention.starts_with("encoder.") {
                true => self.log_probs(self.memory(&edits).as_ref(), &edits),
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

    /// For each token that may be hidden: what log p(`instead`) − log p(the output token) at target row `row` becomes where nobody looks at it,
    /// less what it is otherwise. The first number is what it is otherwise.
    pub(super) fn contrast(&self, row: usize, instead: u32) -> (f32, Vec<f32>) {
        let difference = |edits: &Edits| {
            let memory = self.memory(edits);
            let rows = self.decode(memory.as_ref(), edits, |at, logits, _| match at == row {
                true => logits[instead as usize] - logits[self.output[at] as usize],
                false => 0.0,
            });
            rows[row]
        };
        let before = difference(&Edits::default());
        let tokens = 0..self.hideable();
        let changes = tokens.into_par_iter().map(|token| match self.hideable() {
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
