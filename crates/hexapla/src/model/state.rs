//! What the decoder remembers between steps: explicit, handed in and changed by each step.

use crate::batch::Rows;
use crate::config::TransformerConfig;
use crate::ops::Run;
use crate::ops::kv_cache::KvCache;
use crate::tensor::Tensor;

/// One decoder layer's memory.
#[derive(Debug)]
pub(crate) struct LayerState {
    /// Of the target rows so far.
    pub(crate) target: KvCache,
    /// Of the encoder's output.
    pub(crate) source: KvCache,
}

/// A batch of hypotheses under way.
///
/// Which rows of keys and values a hypothesis sees is a list of their slots, so that branching and reordering beams
/// copies a short list and no keys, and beams of a sentence share its source rows. A slot that no hypothesis sees any
/// more is used again.
#[derive(Debug)]
pub struct DecoderState {
    pub(crate) layers: Vec<LayerState>,
    /// For each hypothesis the target rows that it sees, in order.
    pub(crate) target_slots: Vec<Vec<u32>>,
    /// For each hypothesis its sentence.
    pub(crate) sentence: Vec<usize>,
    /// For each sentence its source rows.
    pub(crate) source_slots: Vec<Vec<u32>>,
    /// The encoder's output until the first step has made keys and values of it, no rows afterwards.
    pub(crate) source: Tensor,
    /// The slots of the target rows of this step.
    pub(crate) new_slots: Vec<u32>,
    /// Slots of target rows that were ever used.
    slots_used: u32,
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
        let bf16 = run.parameters.keeps_cache_in_bf16();
        let rows = || KvCache::new(c.d_model, c.decoder_heads, bf16);
        let layer = |_| LayerState {
            target: rows(),
            source: rows(),
        };
        let rows_of = |s: &crate::batch::Span| (s.start as u32..(s.start + s.len) as u32).collect();
        DecoderState {
            layers: (0..c.decoder_layers).map(layer).collect(),
            target_slots: vec![Vec::new(); source.spans.len()],
            sentence: (0..source.spans.len()).collect(),
            source_slots: source.spans.iter().map(rows_of).collect(),
            source: memory,
            new_slots: Vec::new(),
            slots_used: 0,
            free: Vec::new(),
            attention: wants_attention.then(Vec::new),
        }
    }

    /// Number of hypotheses.
    pub fn len(&self) -> usize {
        self.target_slots.len()
    }

    /// Whether no hypothesis is left.
    pub fn is_empty(&self) -> bool {
        self.target_slots.is_empty()
    }

    /// Keeps the hypotheses `parents`, in this order; one may stand there several times or not at all.
    pub fn reorder(&mut self, parents: &[usize]) {
        self.target_slots = parents
            .iter()
            .map(|p| self.target_slots[*p].clone())
            .collect();
        self.sentence = parents.iter().map(|p| self.sentence[*p]).collect();
        let mut used = vec![false; self.slots_used as usize];
        for slot in self.target_slots.iter().flatten() {
            used[*slot as usize] = true;
        }
        self.free.clear();
        // The lowest slot is taken first.
        let free = (0..self.slots_used).filter(|slot| !used[*slot as usize]);
        self.free.extend(free.rev());
    }

    /// The last step's attention over the source, averaged over the heads of the last layer: for each hypothesis of that
    /// step a weight for each source token. `None` where it was not asked for.
    pub fn attention(&self) -> Option<&[Vec<f32>]> {
        self.attention.as_deref()
    }

    /// Begins a step of one token for each hypothesis: each sees one row more. Gives each token's position.
    pub(crate) fn advance(&mut self) -> Vec<u32> {
        let positions = self
            .target_slots
            .iter()
            .map(|rows| rows.len() as u32)
            .collect();
        self.new_slots.clear();
        for slots in &mut self.target_slots {
            let slot = self.free.pop().unwrap_or(self.slots_used);
            self.slots_used = self.slots_used.max(slot + 1);
            slots.push(slot);
            self.new_slots.push(slot);
        }
        if let Some(attention) = &mut self.attention {
            attention.clear();
        }
        positions
    }
}
