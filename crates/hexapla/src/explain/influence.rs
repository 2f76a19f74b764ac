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
use crate::tensor::Arena;

/// Rows that pass through the model at most, for the heads and again for the tokens: some seconds for a model of the paper's size.
const ROWS: usize = 30_000;
/// And rows times parameters, for larger ones.
const WORK: usize = 2_000_000_000_000;
/// Rows of a pass that asks several questions: each weight is read once for all of them.
const BATCH_ROWS: usize = 256;

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

    /// The text once for each of `edits`, under these: `each` is given a row and its logits.
    fn pass<T>(&self, edits: &[Edits], each: impl Fn(usize, &[f32]) -> T) -> Vec<Vec<T>> {
        let arena = Arena::default();
        let watcher = || Recorder::new(self.model, self.parameters, edits, false);
        let times = |ids: &[u32]| -> Rows { edits.iter().map(|_| ids).collect() };
        let (source, target) = (times(self.source), times(self.target));
        let memory = (!self.is_decoder_alone()).then(|| {
            let mut recorder = watcher();
            let mut run = Run::inference(&arena, self.parameters).watched(&mut recorder);
            if edits.iter().any(changes_the_encoder) {
                return self.model.encode(&mut run, &source);
            }
            // It says the same each time.
            let once = self
                .model
                .encode(&mut run, &[self.source].into_iter().collect());
            let mut memory = run.tensor(source.len(), once.columns());
            for to in memory.data_mut().chunks_exact_mut(once.data().len().max(1)) {
                to.copy_from_slice(once.data());
            }
            memory
        });
        let mut recorder = watcher();
        let mut run = Run::inference(&arena, self.parameters).watched(&mut recorder);
        let x = match &memory {
            Some(memory) => self.model.decode(&mut run, &target, memory, &source),
            None => self.model.go_on(&mut run, &target),
        };
        let logits = self.model.logits(&mut run, &x);
        let rows = self.target.len();
        let texts = (0..edits.len()).map(|text| {
            let rows = (0..rows).map(|row| each(row, logits.row(text * rows + row)));
            rows.collect()
        });
        texts.collect()
    }

    /// The log-probability of each output token, under each of `edits`.
    fn log_probs(&self, edits: &[Edits]) -> Vec<Vec<f32>> {
        let log_prob =
            |row: usize, logits: &[f32]| logits[self.output[row] as usize] - log_sum_exp(logits);
        let together = (BATCH_ROWS / self.target.len().max(1)).max(1);
        let batches: Vec<Vec<Vec<f32>>> = edits
            .par_chunks(together)
            .map(|edits| self.pass(edits, log_prob))
            .collect();
        batches.concat()
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
        let rows = self.source.len() + self.target.len();
        let takes_too_long = |passes: usize| {
            passes * rows > ROWS || (passes * rows).saturating_mul(self.model.index().len()) > WORK
        };
        let heads = heads_of(&self.model.assembly().model());
        let heads = match takes_too_long(heads.len()) {
            true => Vec::new(),
            false => heads,
        };
        let tokens = match self.hideable() {
            0 | 1 => 0,
            tokens if takes_too_long(tokens) => 0,
            tokens => tokens,
        };
        let (log_probs, heads) = self.without_each(heads);
        let hidden: Vec<Edits> = (0..tokens).map(hide).collect();
        let source = self.log_probs(&hidden);
        Influence {
            source: source
                .iter()
                .map(|after| difference(after, &log_probs))
                .collect(),
            heads,
            log_probs,
        }
    }

    /// The output's log-probabilities with all heads, and what each of `heads` is worth.
    pub(super) fn without_each(
        &self,
        heads: Vec<(String, usize)>,
    ) -> (Vec<f32>, Vec<HeadInfluence>) {
        let off = heads.iter().map(|head| Edits {
            heads_off: vec![head.clone()],
            ..Edits::default()
        });
        let edits: Vec<Edits> = std::iter::once(Edits::default()).chain(off).collect();
        let mut all = self.log_probs(&edits).into_iter();
        let before = all.next().unwrap_or_default();
        let without = |((attention, head), after): ((String, usize), Vec<f32>)| HeadInfluence {
            attention,
            head,
            change: difference(&after, &before),
        };
        let heads = heads.into_iter().zip(all).map(without).collect();
        (before, heads)
    }

    /// For each token that may be hidden: what log p(`instead`) − log p(the output token) at target row `row` becomes where nobody
    /// looks at it, less what it is otherwise. The first number is what it is otherwise.
    pub(super) fn contrast(&self, row: usize, instead: u32) -> (f32, Vec<f32>) {
        let output = self.output[row] as usize;
        let difference = |edits: &Edits| {
            let rows = self.pass(std::slice::from_ref(edits), |at, logits| match at == row {
                true => logits[instead as usize] - logits[output],
                false => 0.0,
            });
            rows[0][row]
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

/// The encoder does not know what the decoder does.
fn changes_the_encoder(edits: &Edits) -> bool {
    let of_encoder = |(attention, _): &(String, usize)| attention.starts_with("encoder.");
    !edits.hidden_source.is_empty() || edits.heads_off.iter().any(of_encoder)
}

/// Nobody looks at this source token.
fn hide(token: usize) -> Edits {
    Edits {
        hidden_source: vec![token],
        ..Edits::default()
    }
}
