//! A model and the keys and values of its hypotheses, as the search sees them.

use std::ops::Range;
use std::sync::Arc;

use hexapla_kernels::{Buffer, Matrix};

use super::StepDecoder;
use crate::batch::Rows;
use crate::error::Result;
use crate::model::state::DecoderState;
use crate::model::transformer::Transformer;
use crate::ops::Run;
use crate::ops::kv_cache::KvBlock;
use crate::tensor::Tensor;

/// Decodes with a cache of keys and values.
#[derive(Debug)]
pub struct StateDecoder<'a> {
    model: &'a Transformer,
    run: Run<'a>,
    state: DecoderState,
    /// The decoder's output for the newest tokens, `[hypotheses, d_model]`.
    newest: Tensor,
}

impl<'a> StateDecoder<'a> {
    /// No hypothesis yet.
    pub(crate) fn new(model: &'a Transformer, run: Run<'a>) -> Self {
        StateDecoder {
            model,
            state: model.start(&run),
            newest: run.arena.tensor(0, model.d_model()),
            run,
        }
    }

    /// The pass that it decodes in.
    pub(crate) fn run(&mut self) -> &mut Run<'a> {
        &mut self.run
    }

    /// As [`DecoderState::add_sources`].
    pub(crate) fn add_sources(&mut self, source: &Rows, memory: Tensor, attention: bool) {
        self.state.add_sources(source, memory, attention);
    }

    /// As [`Transformer::read`].
    pub(crate) fn read(&mut self, texts: &Rows, past: &[Vec<Arc<KvBlock>>]) {
        self.model.read(&mut self.run, &mut self.state, texts, past);
    }

    /// Number of hypotheses.
    pub(crate) fn len(&self) -> usize {
        self.state.len()
    }

    /// As [`DecoderState::block`].
    pub(crate) fn block(&self, hypothesis: usize, number: usize) -> KvBlock {
        self.state.block(hypothesis, number)
    }
}

impl StepDecoder for StateDecoder<'_> {
    fn vocab_size(&self) -> usize {
        self.model.vocab_size()
    }

    fn step(&mut self, tokens: &[u32]) -> Result<()> {
        let (run, state) = (&mut self.run, &mut self.state);
        self.newest = self.model.decode_step(run, tokens, state);
        Ok(())
    }

    fn logits(&mut self, hypotheses: Range<usize>, logits: &mut Buffer) -> Result<()> {
        let width = self.newest.columns();
        let numbers = &self.newest.data()[hypotheses.start * width..hypotheses.end * width];
        let x = Matrix::new(numbers, hypotheses.len(), width, width);
        logits.resize(hypotheses.len() * self.vocab_size());
        self.model.logits_into(&self.run, x, logits);
        Ok(())
    }

    fn reorder(&mut self, parents: &[usize]) {
        self.state.reorder(parents);
    }

    fn attention(&self) -> Option<Vec<Vec<f32>>> {
        self.state.attention().map(<[_]>::to_vec)
    }
}
