//! A search under edits: what the model would say if it were otherwise.

use std::ops::Range;

use hexapla_kernels::Buffer;

use super::edits::Edits;
use super::recorder::Recorder;
use super::trace::{TraceInput, check};
use crate::batch::Rows;
use crate::error::Result;
use crate::generate::{Hypothesis, SearchInput, SearchOptions, StepDecoder, search};
use crate::model::transformer::Transformer;
use crate::ops::Run;
use crate::packed::PackedWeights;
use crate::tensor::{Arena, Tensor};

/// Searches for the output of `source` under `edits`. Each step computes the whole target anew, for a cache of keys and values would
/// not know what was changed: it takes time in the square of the length.
///
/// # Errors
/// As [`super::trace()`] and [`search()`].
pub fn search_edited(
    model: &Transformer,
    parameters: &PackedWeights,
    source: &[u32],
    input: &SearchInput,
    options: &SearchOptions,
    edits: &Edits,
) -> Result<Vec<Hypothesis>> {
    let mut decoder = EditedDecoder::new(model, parameters, source, edits)?;
    let found = search(&mut decoder, std::slice::from_ref(input), options)?;
    Ok(found.into_iter().flatten().collect())
}

/// Decodes whole targets, each hypothesis by itself.
pub(super) struct EditedDecoder<'a> {
    model: &'a Transformer,
    parameters: &'a PackedWeights,
    edits: &'a Edits,
    source: Rows,
    memory: Tensor,
    /// What each has been fed.
    hypotheses: Vec<Vec<u32>>,
    /// Each one's newest row.
    logits: Vec<Vec<f32>>,
}

impl<'a> EditedDecoder<'a> {
    /// Nothing is decoded yet.
    pub(super) fn new(
        model: &'a Transformer,
        parameters: &'a PackedWeights,
        source: &[u32],
        edits: &'a Edits,
    ) -> Result<Self> {
        let traced = TraceInput {
            source: source.to_vec(),
            ..TraceInput::default()
        };
        check(model, &traced, edits)?;
        let arena = Arena::default();
        let mut recorder = Recorder::new(model, parameters, std::slice::from_ref(edits), false);
        let source: Rows = [source].into_iter().collect();
        let mut run = Run::inference(&arena, parameters).watched(&mut recorder);
        let memory = model.encode(&mut run, &source);
        drop(run);
        Ok(EditedDecoder {
            model,
            parameters,
            edits,
            source,
            memory,
            hypotheses: vec![Vec::new()],
            logits: Vec::new(),
        })
    }
}

impl StepDecoder for EditedDecoder<'_> {
    fn vocab_size(&self) -> usize {
        self.model.config().target_vocab_size
    }

    fn step(&mut self, tokens: &[u32]) -> Result<()> {
        let arena = Arena::default();
        self.logits.clear();
        for (hypothesis, token) in self.hypotheses.iter_mut().zip(tokens) {
            hypothesis.push(*token);
            let target: Rows = [&*hypothesis].into_iter().collect();
            let edits = std::slice::from_ref(self.edits);
            let mut recorder = Recorder::new(self.model, self.parameters, edits, false);
            let mut run = Run::inference(&arena, self.parameters).watched(&mut recorder);
            let memory = &self.memory;
            let x = self.model.decode(&mut run, &target, memory, &self.source);
            let logits = self.model.logits(&mut run, &x);
            self.logits.push(logits.row(target.len() - 1).to_vec());
        }
        Ok(())
    }

    fn logits(&mut self, hypotheses: Range<usize>, logits: &mut Buffer) -> Result<()> {
        let vocab = self.vocab_size();
        logits.resize(hypotheses.len() * vocab);
        let rows = self.logits[hypotheses].iter();
        for (to, row) in logits.chunks_exact_mut(vocab).zip(rows) {
            to.copy_from_slice(row);
        }
        Ok(())
    }

    fn reorder(&mut self, parents: &[usize]) {
        self.hypotheses = parents
            .iter()
            .map(|p| self.hypotheses[*p].clone())
            .collect();
    }

    fn attention(&self) -> Option<Vec<Vec<f32>>> {
        None
    }
}
