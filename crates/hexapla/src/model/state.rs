//! What the decoder remembers between steps: explicit, handed in and changed by each step.

use hexapla_kernels::Visible;

use crate::batch::{Rows, Span};
use crate::config::{AttentionConfig, LayerConfig, StackConfig};
use crate::model::layer::Memory;
use crate::model::stack::Context;
use crate::ops::Run;
use crate::ops::attention::AttentionMask;
use crate::ops::kv_cache::{Cached, KvCache};
use crate::tensor::Tensor;

/// One decoder layer's memory.
#[derive(Debug)]
pub(crate) struct LayerState {
    /// Of the target rows so far.
    pub(crate) target: KvCache,
    /// Of the encoder's output, in a layer that attends to it.
    pub(crate) source: Option<KvCache>,
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
    /// One hypothesis for each of so many texts in a decoder of shape `config`, without a token yet.
    pub(super) fn new(config: &StackConfig, run: &Run, texts: usize) -> Self {
        let bf16 = run.parameters.keeps_cache_in_bf16();
        let cache = |a: &AttentionConfig| KvCache::new(a.kv_heads, a.head_width, bf16);
        let layer = |layer: &LayerConfig| LayerState {
            target: cache(&layer.self_attention),
            source: layer.cross_attention.as_ref().map(cache),
        };
        DecoderState {
            layers: config.layers.iter().map(layer).collect(),
            target_slots: vec![Vec::new(); texts],
            sentence: (0..texts).collect(),
            source_slots: vec![Vec::new(); texts],
            source: run.arena.tensor(0, 0),
            new_slots: Vec::new(),
            slots_used: 0,
            free: Vec::new(),
            attention: None,
        }
    }

    /// The same with the sources of its texts, whose encoding is `memory` `[source rows, d_model]`.
    pub(super) fn with_source(self, source: &Rows, memory: Tensor, wants_attention: bool) -> Self {
        let rows_of = |s: &Span| (s.start as u32..(s.start + s.len) as u32).collect();
        DecoderState {
            source_slots: source.spans.iter().map(rows_of).collect(),
            source: memory,
            attention: wants_attention.then(Vec::new),
            ..self
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
        self.take_slots(|_| 1);
        if let Some(attention) = &mut self.attention {
            attention.clear();
        }
        positions
    }

    /// As many new slots for each hypothesis.
    fn take_slots(&mut self, count: impl Fn(usize) -> usize) {
        self.new_slots.clear();
        for (i, slots) in self.target_slots.iter_mut().enumerate() {
            for _ in 0..count(i) {
                let slot = self.free.pop().unwrap_or(self.slots_used);
                self.slots_used = self.slots_used.max(slot + 1);
                slots.push(slot);
                self.new_slots.push(slot);
            }
        }
    }

    /// What a pass over the first tokens of all texts attends to, at `spans` of its rows, one for each hypothesis.
    ///
    /// # Panics
    /// There are tokens already.
    pub(super) fn beginning<'a>(&'a mut self, spans: &'a [Span]) -> BeginningContext<'a> {
        assert!(self.target_slots.iter().all(Vec::is_empty), "the beginning");
        assert_eq!(spans.len(), self.len(), "a text for each hypothesis");
        self.take_slots(|i| spans[i].len);
        BeginningContext {
            layers: &mut self.layers,
            spans,
            slots: &self.new_slots,
        }
    }

    /// What a step attends to, after [`DecoderState::advance`].
    pub(super) fn step(&mut self) -> StepContext<'_> {
        let source_slots = |sentence: &usize| self.source_slots[*sentence].as_slice();
        StepContext {
            windowed: Vec::new(),
            target_slots: self.target_slots.iter().map(Vec::as_slice).collect(),
            new_slots: &self.new_slots,
            source_slots: self.sentence.iter().map(source_slots).collect(),
            new_source_slots: (0..self.source.rows() as u32).collect(),
            memory: &self.source,
            layers: &mut self.layers,
            attention: self.attention.as_mut(),
        }
    }

    /// Drops the encoder's output: the first step has made keys and values of it.
    pub(super) fn forget_memory(&mut self, run: &Run) {
        self.source = run.arena.tensor(0, self.source.columns());
    }
}

/// What one token of each hypothesis attends to: the caches of each layer.
pub(super) struct StepContext<'a> {
    layers: &'a mut [LayerState],
    /// The slots that each hypothesis reads, and those that its new row is stored in.
    target_slots: Vec<&'a [u32]>,
    /// Those of them that a layer sees which does not see all.
    windowed: Vec<&'a [u32]>,
    new_slots: &'a [u32],
    source_slots: Vec<&'a [u32]>,
    new_source_slots: Vec<u32>,
    /// The encoder's output in the first step, no rows afterwards.
    memory: &'a Tensor,
    /// Receives the last layer's attention over the source.
    attention: Option<&'a mut Vec<Vec<f32>>>,
}

impl<'a> Context for StepContext<'a> {
    fn layer(&mut self, layer: usize, visible: Visible) -> (AttentionMask<'_>, Option<Memory<'_>>) {
        let seen = match visible.behind {
            usize::MAX => &self.target_slots,
            behind => {
                let newest = |slots: &&'a [u32]| &slots[slots.len().saturating_sub(behind + 1)..];
                self.windowed.clear();
                self.windowed.extend(self.target_slots.iter().map(newest));
                &self.windowed
            }
        };
        let is_last = layer + 1 == self.layers.len();
        let caches = &mut self.layers[layer];
        let mask = AttentionMask::Cached(Cached {
            cache: &mut caches.target,
            new_slots: self.new_slots,
            slots: seen,
            weights: None,
        });
        let memory = caches.source.as_mut().map(|cache| Memory {
            rows: self.memory,
            mask: AttentionMask::Cached(Cached {
                cache,
                new_slots: &self.new_source_slots,
                slots: &self.source_slots,
                weights: self.attention.as_deref_mut().filter(|_| is_last),
            }),
        });
        (mask, memory)
    }
}

/// What the first tokens of texts attend to: each other. Their keys and values are kept.
pub(super) struct BeginningContext<'a> {
    layers: &'a mut [LayerState],
    spans: &'a [Span],
    slots: &'a [u32],
}

impl Context for BeginningContext<'_> {
    fn layer(&mut self, layer: usize, visible: Visible) -> (AttentionMask<'_>, Option<Memory<'_>>) {
        let mask = AttentionMask::Spans {
            queries: self.spans,
            keys: self.spans,
            visible,
            store: Some((&mut self.layers[layer].target, self.slots)),
        };
        (mask, None)
    }
}
