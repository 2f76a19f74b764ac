//! What the decoder remembers between steps: explicit, handed in and changed by each step.

use std::sync::Arc;

use hexapla_kernels::Visible;

use crate::batch::{Rows, Span};
use crate::config::{AttentionConfig, LayerConfig, StackConfig};
use crate::model::layer::Memory;
use crate::model::stack::Context;
use crate::ops::Run;
use crate::ops::attention::{AttentionMask, Store};
use crate::ops::kv_cache::{Cached, KvBlock, KvCache};
use crate::tensor::Tensor;

/// Rows of a page.
const PAGE: u32 = KvBlock::TOKENS as u32;

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
    /// Pages of target rows that were ever used.
    pages_used: u32,
    /// Those of them in which nobody sees a row.
    free_pages: Vec<u32>,
    /// Rows that nobody sees in pages in which somebody does, and in which rows may be stored.
    free: Vec<u32>,
    /// Which pages are shared: no row is stored in them.
    shared: Vec<bool>,
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
            pages_used: 0,
            free_pages: Vec::new(),
            free: Vec::new(),
            shared: Vec::new(),
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
        self.find_free();
    }

    /// Looks for rows and pages that nobody sees any more.
    fn find_free(&mut self) {
        let mut used = vec![false; self.pages_used as usize * PAGE as usize];
        for slot in self.target_slots.iter().flatten() {
            used[*slot as usize] = true;
        }
        self.free.clear();
        self.free_pages.clear();
        // The lowest are taken first.
        for page in (0..self.pages_used).rev() {
            let used = &used[(page * PAGE) as usize..][..PAGE as usize];
            if !used.contains(&true) {
                if std::mem::take(&mut self.shared[page as usize]) {
                    for layer in &mut self.layers {
                        layer.target.release(page as usize);
                    }
                }
                self.free_pages.push(page);
            } else if !self.shared[page as usize] {
                let rows = (0..PAGE).rev().filter(|row| !used[*row as usize]);
                self.free.extend(rows.map(|row| page * PAGE + row));
            }
        }
    }

    fn take_page(&mut self) -> u32 {
        self.free_pages.pop().unwrap_or_else(|| {
            self.shared.push(false);
            self.pages_used += 1;
            self.pages_used - 1
        })
    }

    /// A slot for one row more.
    fn take_slot(&mut self) -> u32 {
        if self.free.is_empty() {
            let first = self.take_page() * PAGE;
            self.free.extend((first..first + PAGE).rev());
        }
        self.free.pop().unwrap_or_default()
    }

    /// Slots for so many rows of a text, in order and from the beginning of a page on.
    fn take_run(&mut self, rows: usize) -> Vec<u32> {
        let mut slots = Vec::with_capacity(rows);
        while slots.len() < rows {
            let first = self.take_page() * PAGE;
            let end = first + PAGE.min((rows - slots.len()) as u32);
            slots.extend(first..end);
            self.free.extend((end..first + PAGE).rev());
        }
        slots
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
        for i in 0..self.len() {
            let slot = self.take_slot();
            self.target_slots[i].push(slot);
            self.new_slots.push(slot);
        }
        if let Some(attention) = &mut self.attention {
            attention.clear();
        }
        positions
    }

    /// What a pass over the first tokens of all texts attends to, at `spans` of its rows, one for each hypothesis; `past` are the
    /// blocks of tokens that stand before them.
    ///
    /// # Panics
    /// There are tokens already.
    pub(super) fn beginning<'a>(
        &'a mut self,
        spans: &'a [Span],
        past: &[Vec<Arc<KvBlock>>],
    ) -> BeginningContext<'a> {
        assert!(self.target_slots.iter().all(Vec::is_empty), "the beginning");
        assert_eq!(spans.len(), self.len(), "a text for each hypothesis");
        self.new_slots.clear();
        let mut before = Vec::with_capacity(spans.len());
        for (i, span) in spans.iter().enumerate() {
            let mut slots = Vec::new();
            for block in past.get(i).into_iter().flatten() {
                let page = self.take_page();
                for (number, layer) in self.layers.iter_mut().enumerate() {
                    layer.target.share(page as usize, block, number);
                }
                self.shared[page as usize] = true;
                slots.extend(page * PAGE..(page + 1) * PAGE);
            }
            before.push(slots.len());
            let own = self.take_run(span.len);
            self.new_slots.extend(&own);
            slots.extend(own);
            self.target_slots[i] = slots;
        }
        BeginningContext {
            layers: &mut self.layers,
            spans,
            slots: &self.new_slots,
            target_slots: &self.target_slots,
            before,
        }
    }

    /// A copy of the keys and values of the `number`th page of tokens of a hypothesis, which begin a text.
    pub(crate) fn block(&self, hypothesis: usize, number: usize) -> KvBlock {
        let slot = self.target_slots[hypothesis][number * PAGE as usize];
        let caches = self.layers.iter().map(|layer| &layer.target);
        KvBlock::copied(caches, (slot / PAGE) as usize)
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

/// What the first tokens of texts attend to: each other, and what was kept before them. Their keys and values are kept.
pub(super) struct BeginningContext<'a> {
    layers: &'a mut [LayerState],
    spans: &'a [Span],
    slots: &'a [u32],
    /// Of each text, those before this pass among them.
    target_slots: &'a [Vec<u32>],
    /// How many those are.
    before: Vec<usize>,
}

impl Context for BeginningContext<'_> {
    fn layer(&mut self, layer: usize, visible: Visible) -> (AttentionMask<'_>, Option<Memory<'_>>) {
        let slots = self.target_slots.iter().zip(&self.before);
        let past = slots.map(|(slots, before)| &slots[..*before]).collect();
        let mask = AttentionMask::Spans {
            queries: self.spans,
            keys: self.spans,
            visible,
            store: Some(Store {
                cache: &mut self.layers[layer].target,
                slots: self.slots,
                past,
            }),
        };
        (mask, None)
    }
}
