//! What the decoder remembers between steps: explicit, handed in and changed by each step.

use crate::batch::Rows;
use crate::model::transformer::Transformer;
use crate::tensor::{Arena, Tensor};

/// Keys and values of the rows seen so far, `[rows, d_model]` each.
#[derive(Debug)]
pub struct KeysAndValues {
    keys: Tensor,
    values: Tensor,
}

impl KeysAndValues {
    fn new(arena: &Arena) -> Self {
        KeysAndValues {
            keys: arena.tensor(0, 0),
            values: arena.tensor(0, 0),
        }
    }

    /// Adds rows; gives all.
    pub(crate) fn extend(&mut self, keys: &Tensor, values: &Tensor) -> (Tensor, Tensor) {
        self.keys.append(keys);
        self.values.append(values);
        (self.keys.clone(), self.values.clone())
    }
}

/// One decoder layer's memory.
#[derive(Debug)]
pub(crate) struct LayerState {
    pub(crate) target: KeysAndValues,
    pub(crate) source: KeysAndValues,
}

/// A batch of hypotheses under way.
///
/// Rows of keys and values are only ever added. Which of them a hypothesis sees is a list of row numbers, so that
/// branching and reordering beams copies a short list and no keys, and beams of a sentence share its source rows.
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
    /// Target rows made so far.
    pub(crate) rows: u32,
    /// Where asked for: the last step's attention over the source, for each hypothesis.
    pub(crate) attention: Option<Vec<Vec<f32>>>,
}

impl DecoderState {
    /// One hypothesis for each sentence of `source`, whose encoding is `memory` `[source rows, d_model]`.
    pub fn new(
        model: &Transformer,
        arena: &Arena,
        source: &Rows,
        memory: Tensor,
        wants_attention: bool,
    ) -> Self {
        let layer = |_| LayerState {
            target: KeysAndValues::new(arena),
            source: KeysAndValues::new(arena),
        };
        let rows_of = |s: &crate::batch::Span| (s.start as u32..(s.start + s.len) as u32).collect();
        DecoderState {
            layers: (0..model.config().decoder_layers).map(layer).collect(),
            seen: vec![Vec::new(); source.spans.len()],
            sentence: (0..source.spans.len()).collect(),
            source_rows: source.spans.iter().map(rows_of).collect(),
            source: memory,
            rows: 0,
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
    }

    /// The last step's attention over the source, averaged over the heads of the last layer: for each hypothesis of that
    /// step a weight for each source token. `None` where it was not asked for.
    pub fn attention(&self) -> Option<&[Vec<f32>]> {
        self.attention.as_deref()
    }

    /// Begins a step of one token for each hypothesis: each sees one row more. Gives each token's place.
    pub(crate) fn advance(&mut self) -> Vec<u32> {
        let places = self.seen.iter().map(|rows| rows.len() as u32).collect();
        for (rows, row) in self.seen.iter_mut().zip(self.rows..) {
            rows.push(row);
        }
        self.rows += self.seen.len() as u32;
        if let Some(attention) = &mut self.attention {
            attention.clear();
        }
        places
    }
}
