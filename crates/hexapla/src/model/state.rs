//! What the decoder remembers between steps: explicit, handed in and changed by each step.

use crate::batch::Rows;
use crate::config::TransformerConfig;
use crate::ops::Run;
use crate::ops::past::KeysAndValues;
use crate::tensor::Tensor;

/// One decoder layer's memory.
#[derive(Debug)]
pub(crate) struct LayerState {
    /// Of the target rows seen so far.
    pub(crate) target: KeysAndValues,
    /// Of the encoder's output.
    pub(crate) source: KeysAndValues,
}

/// A batch of hypotheses under way.
///
/// Which rows of keys and values a hypothesis sees is a list of their places, so that branching and reordering beams
/// copies a short list and no keys, and beams of a sentence share its source rows. A place that no hypothesis sees any
/// more is used again.
#[derive(Debug)]
pub struct DecoderState {
    pub(crate) layers: Vec<LayerState>,
    /// For each hypothesis the target rows that it sees, in order.
    pub(crate) seen: Vec<Vec<u32>>,
    /// For each hypothesis its sentence.
    pub(crate) sentence: Vec<usize>,
    /// For each sentence its source rows.
    pub(crate) source_rows: Vec<Vec<u32>>,
    /// The encoder's output until the first step has made keys and values of it, no rows afterwards.
    pub(crate) source: Tensor,
    /// The places of the target rows of this step.
    pub(crate) new: Vec<u32>,
    /// Places of target rows that were ever used.
    places: u32,
    /// Those of them that nobody sees.
    free: Vec<u32>,
    /// Where asked for: the last step's attention over the source, for each hypothesis.
    pub(crate) attention: Option<Vec<Vec<f32>>>,
}

impl DecoderState {
    /// One hypothesis for each sentence of `source` in a model of shape `c`, whose encoding is `memory` `[source rows, d_model]`.
    pub fn new(
        c: &TransformerConfig,
        run: &Run,
        source: &Rows,
        memory: Tensor,
        wants_attention: bool,
    ) -> Self {
        let bf16 = run.parameters.remember_in_bf16();
        let rows = || KeysAndValues::new(c.d_model, c.decoder_heads, bf16);
        let layer = |_| LayerState {
            target: rows(),
            source: rows(),
        };
        let rows_of = |s: &crate::batch::Span| (s.start as u32..(s.start + s.len) as u32).collect();
        DecoderState {
            layers: (0..c.decoder_layers).map(layer).collect(),
            seen: vec![Vec::new(); source.spans.len()],
            sentence: (0..source.spans.len()).collect(),
            source_rows: source.spans.iter().map(rows_of).collect(),
            source: memory,
            new: Vec::new(),
            places: 0,
            free: Vec::new(),
            attention: wants_attention.then(Vec::new),
        }
    }

    /// Number of hypotheses.
    pub fn len(&self) -> usize {
        self.seen.len()
    }

    /// Whether no hypothesis is left.
    pub fn is_empty(&self) -> bool {
        self.seen.is_empty()
    }

    /// Keeps the hypotheses `parents`, in this order; one may stand there several times or not at all.
    pub fn reorder(&mut self, parents: &[usize]) {
        self.seen = parents.iter().map(|p| self.seen[*p].clone()).collect();
        self.sentence = parents.iter().map(|p| self.sentence[*p]).collect();
        let mut used = vec![false; self.places as usize];
        for place in self.seen.iter().flatten() {
            used[*place as usize] = true;
        }
        self.free.clear();
        // The lowest place is taken first.
        let free = (0..self.places).filter(|place| !used[*place as usize]);
        self.free.extend(free.rev());
    }

    /// The last step's attention over the source, averaged over the heads of the last layer: for each hypothesis of that
    /// step a weight for each source token. `None` where it was not asked for.
    pub fn attention(&self) -> Option<&[Vec<f32>]> {
        self.attention.as_deref()
    }

    /// Begins a step of one token for each hypothesis: each sees one row more. Gives each token's place.
    pub(crate) fn advance(&mut self) -> Vec<u32> {
        let places = self.seen.iter().map(|rows| rows.len() as u32).collect();
        self.new.clear();
        for seen in &mut self.seen {
            let place = self.free.pop().unwrap_or(self.places);
            self.places = self.places.max(place + 1);
            seen.push(place);
            self.new.push(place);
        }
        if let Some(attention) = &mut self.attention {
            attention.clear();
        }
        places
    }
}
