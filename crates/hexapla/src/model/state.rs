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

/// A batch of hypotheses under way. More may come between steps.
///
/// Which rows of keys and values a hypothesis sees is a list of their slots, so that branching and reordering beams
/// copies a short list and no keys, and beams of a sentence share its source rows. A slot that no hypothesis sees any
/// more is used again.
#[derive(Debug)]
pub struct DecoderState {
    pub(crate) layers: Vec<LayerState>,
    /// For each hypothesis the target rows that it sees, in order.
    target_slots: Vec<Vec<u32>>,
    /// For each hypothesis the source rows of its sentence.
    source_slots: Vec<Arc<Vec<u32>>>,
    target: TargetSlots,
    source: SourceSlots,
    /// The slots of the target rows of this step.
    new_slots: Vec<u32>,
    /// What the encoder gave for the sources that have come since the last step, with the slots of each.
    pending: Vec<(Vec<Arc<Vec<u32>>>, Tensor)>,
    /// The same in one, in a step, which makes keys and values of it.
    memory: Tensor,
    /// Where asked for: the last step's attention over the source, for each hypothesis.
    attention: Option<Vec<Vec<f32>>>,
}

/// Which slots of target rows are taken, by pages.
#[derive(Debug, Default)]
struct TargetSlots {
    /// Pages that were ever used.
    pages_used: u32,
    /// Those of them in which nobody sees a row.
    free_pages: Vec<u32>,
    /// Rows that nobody sees in pages in which somebody does, and in which rows may be stored.
    free: Vec<u32>,
    /// Which pages are shared: no row is stored in them.
    shared: Vec<bool>,
}

/// Which slots of source rows are taken.
#[derive(Debug, Default)]
struct SourceSlots {
    /// Slots that were ever used.
    used: u32,
    /// Those of them that are free again.
    free: Vec<u32>,
    /// Those of each sentence under way.
    taken: Vec<Arc<Vec<u32>>>,
    /// Those of the rows that get their keys and values in this step.
    new: Vec<u32>,
}

impl SourceSlots {
    /// Slots for the rows of a sentence.
    fn take(&mut self, rows: usize) -> Arc<Vec<u32>> {
        let mut slot = || {
            self.free.pop().unwrap_or_else(|| {
                self.used += 1;
                self.used - 1
            })
        };
        let slots: Arc<Vec<u32>> = Arc::new((0..rows).map(|_| slot()).collect());
        self.taken.push(slots.clone());
        slots
    }

    /// Takes back the slots of sentences of which no hypothesis is left.
    fn find_free(&mut self) {
        let is_left = |slots: &mut Arc<Vec<u32>>| Arc::strong_count(slots) == 1;
        for slots in self.taken.extract_if(.., is_left) {
            // The lowest are taken first.
            self.free.extend(slots.iter().rev());
        }
    }
}

impl TargetSlots {
    /// Looks for rows and pages that nobody sees any more; only those of `seen` are seen. Gives the pages that are shared no more.
    fn find_free<'a>(&mut self, seen: impl Iterator<Item = &'a u32>) -> Vec<usize> {
        let mut used = vec![false; self.pages_used as usize * PAGE as usize];
        for slot in seen {
            used[*slot as usize] = true;
        }
        self.free.clear();
        self.free_pages.clear();
        let mut released = Vec::new();
        // The lowest are taken first.
        for page in (0..self.pages_used).rev() {
            let used = &used[(page * PAGE) as usize..][..PAGE as usize];
            if !used.contains(&true) {
                if std::mem::take(&mut self.shared[page as usize]) {
                    released.push(page as usize);
                }
                self.free_pages.push(page);
            } else if !self.shared[page as usize] {
                let rows = (0..PAGE).rev().filter(|row| !used[*row as usize]);
                self.free.extend(rows.map(|row| page * PAGE + row));
            }
        }
        released
    }

    fn take_page(&mut self) -> u32 {
        self.free_pages.pop().unwrap_or_else(|| {
            self.shared.push(false);
            self.pages_used += 1;
            self.pages_used - 1
        })
    }

    /// A page that others fill.
    fn take_shared_page(&mut self) -> u32 {
        let page = self.take_page();
        self.shared[page as usize] = true;
        page
    }

    /// A slot for one row more.
    fn take(&mut self) -> u32 {
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
}

impl DecoderState {
    /// No hypothesis yet in a decoder of shape `config`.
    pub(super) fn new(config: &StackConfig, run: &Run) -> Self {
        let bf16 = run.parameters.keeps_cache_in_bf16();
        let cache = |a: &AttentionConfig| KvCache::new(a.kv_heads, a.head_width, bf16);
        let layer = |layer: &LayerConfig| LayerState {
            target: cache(&layer.self_attention),
            source: layer.cross_attention.as_ref().map(cache),
        };
        DecoderState {
            layers: config.layers.iter().map(layer).collect(),
            target_slots: Vec::new(),
            source_slots: Vec::new(),
            target: TargetSlots::default(),
            source: SourceSlots::default(),
            new_slots: Vec::new(),
            pending: Vec::new(),
            memory: run.arena.tensor(0, 0),
            attention: None,
        }
    }

    /// Adds a hypothesis without a token for each text of `source`, whose encoding is `memory` `[source rows, d_model]`. With
    /// `attention` each step keeps from now on what it attends to in the source.
    pub fn add_sources(&mut self, source: &Rows, memory: Tensor, attention: bool) {
        let mut slots = Vec::with_capacity(source.spans.len());
        for span in &source.spans {
            slots.push(self.source.take(span.len));
            self.target_slots.push(Vec::new());
        }
        self.source_slots.extend(slots.iter().cloned());
        self.pending.push((slots, memory));
        if attention {
            self.attention.get_or_insert_default();
        }
    }

    /// Brings together the sources that have come since the last step.
    fn take_pending(&mut self, run: &Run) {
        let mut pending = std::mem::take(&mut self.pending);
        let slots = pending.iter().flat_map(|(slots, _)| slots.iter());
        self.source.new.extend(slots.flat_map(|slots| slots.iter()));
        if pending.len() == 1 {
            self.memory = pending.remove(0).1;
            return;
        }
        let Some((_, first)) = pending.first() else {
            return;
        };
        let rows = pending.iter().map(|(_, memory)| memory.rows()).sum();
        let mut all = run.arena.tensor(rows, first.columns());
        let mut rest = all.data_mut();
        for (_, memory) in &pending {
            let (to, others) = rest.split_at_mut(memory.data().len());
            to.copy_from_slice(memory.data());
            rest = others;
        }
        self.memory = all;
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
        fn of<T: Clone>(all: &[T], parents: &[usize]) -> Vec<T> {
            parents.iter().map(|p| all[*p].clone()).collect()
        }
        self.target_slots = of(&self.target_slots, parents);
        if parents.is_empty() {
            self.attention = None;
        }
        for page in self.target.find_free(self.target_slots.iter().flatten()) {
            for layer in &mut self.layers {
                layer.target.release(page);
            }
        }
        if !self.source_slots.is_empty() {
            self.source_slots = of(&self.source_slots, parents);
            // Of whom nobody is left before the first step: one count is of the list of all, one of this one.
            let is_left = |slots: &Arc<Vec<u32>>| Arc::strong_count(slots) > 2;
            self.pending.retain(|(slots, _)| slots.iter().any(is_left));
            self.source.find_free();
        }
    }

    /// The last step's attention over the source, averaged over the heads of the last layer: for each hypothesis of that
    /// step a weight for each source token. `None` where it was not asked for.
    pub fn attention(&self) -> Option<&[Vec<f32>]> {
        self.attention.as_deref()
    }

    /// Begins a step of one token for each hypothesis: each sees one row more. Gives each token's position.
    pub(crate) fn advance(&mut self, run: &Run) -> Vec<u32> {
        self.take_pending(run);
        let positions = self
            .target_slots
            .iter()
            .map(|rows| rows.len() as u32)
            .collect();
        self.new_slots.clear();
        for i in 0..self.len() {
            let slot = self.target.take();
            self.target_slots[i].push(slot);
            self.new_slots.push(slot);
        }
        if let Some(attention) = &mut self.attention {
            attention.clear();
        }
        positions
    }

    /// Adds a hypothesis for each text that stands at `spans` of a pass over their first tokens: what the pass attends to. `past` are the
    /// blocks of tokens that stand before them.
    pub(super) fn beginning<'a>(
        &'a mut self,
        spans: &'a [Span],
        past: &[Vec<Arc<KvBlock>>],
    ) -> BeginningContext<'a> {
        let first = self.len();
        self.new_slots.clear();
        let mut before = Vec::with_capacity(spans.len());
        for (i, span) in spans.iter().enumerate() {
            let mut slots = Vec::new();
            for block in past.get(i).into_iter().flatten() {
                let page = self.target.take_shared_page();
                for (number, layer) in self.layers.iter_mut().enumerate() {
                    layer.target.share(page as usize, block, number);
                }
                slots.extend(page * PAGE..(page + 1) * PAGE);
            }
            before.push(slots.len());
            let own = self.target.take_run(span.len);
            self.new_slots.extend(&own);
            slots.extend(own);
            self.target_slots.push(slots);
        }
        BeginningContext {
            layers: &mut self.layers,
            spans,
            slots: &self.new_slots,
            target_slots: &self.target_slots[first..],
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
        StepContext {
            windowed: Vec::new(),
            target_slots: self.target_slots.iter().map(Vec::as_slice).collect(),
            new_slots: &self.new_slots,
            source_slots: self.source_slots.iter().map(|s| s.as_slice()).collect(),
            new_source_slots: &self.source.new,
            memory: &self.memory,
            layers: &mut self.layers,
            attention: self.attention.as_mut(),
        }
    }

    /// Drops the encoder's output: the step has made keys and values of it.
    pub(super) fn forget_memory(&mut self, run: &Run) {
        self.memory = run.arena.tensor(0, self.memory.columns());
        self.source.new.clear();
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
    new_source_slots: &'a [u32],
    /// The encoder's output for sources that are new in this step.
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
                new_slots: self.new_source_slots,
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
