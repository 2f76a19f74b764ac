//! A pass over given ids, with all that it computes.

use super::arrays::Arrays;
use super::edits::Edits;
use super::recorder::Recorder;
use crate::batch::{Rows, check_ids, check_length};
use crate::config::Assembly;
use crate::error::Result;
use crate::model::transformer::Transformer;
use crate::ops::Run;
use crate::packed::PackedWeights;
use crate::tensor::Arena;

/// What a model is given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TraceInput {
    /// What the encoder reads, special tokens included; nothing for a decoder alone.
    pub source: Vec<u32>,
    /// Each source token's segment, where the model has segments.
    pub segments: Vec<u32>,
    /// What the decoder reads, the start token first; none for an encoder alone.
    pub target: Option<Vec<u32>>,
    /// Of a decoder alone: how many tokens of `target` it was given. It went through them at once, but for the last one, and step
    /// by step from there on.
    pub prompt: usize,
}

/// What a pass computed.
#[derive(Debug, Clone, PartialEq)]
pub struct Trace {
    /// Every value by its name; `docs/explain.md` lists them.
    pub arrays: Arrays,
}

/// Runs `model` over `input`, changed by `edits`, and keeps every value.
///
/// Without edits the decoder goes step by step, as where it translates, so that its numbers are those of the translation, bit for
/// bit. Edits act on a pass over the whole target at once, whose sums have another order; with int8 and bf16 weights its keys and
/// values are rounded to bf16 as the steps' are.
///
/// # Errors
/// Ids or lengths out of range; edits of what the model does not have.
pub fn trace(
    model: &Transformer,
    parameters: &PackedWeights,
    input: &TraceInput,
    edits: &Edits,
) -> Result<Trace> {
    check(model, input, edits)?;
    let arena = Arena::default();
    let mut recorder = Recorder::new(model, parameters, std::slice::from_ref(edits), true);
    let mut run = Run::inference(&arena, parameters)
        .alone(true)
        .watched(&mut recorder);
    if let Assembly::Decoder(_) = model.assembly() {
        let text = input.target.as_deref().unwrap_or_default();
        go_on(model, &mut run, text, input.prompt, edits);
        drop(run);
        return Ok(Trace {
            arrays: recorder.finish(),
        });
    }
    let mut source = Rows::default();
    source.push_with_segments(&input.source, &input.segments);
    let memory = model.encode(&mut run, &source);
    match &input.target {
        None => drop(model.answer(&mut run, &memory, &source)),
        Some(target) if *edits == Edits::default() => {
            let mut state = model.start(&run);
            state.add_sources(&source, memory, false);
            for token in target {
                let x = model.decode_step(&mut run, &[*token], &mut state);
                model.logits(&mut run, &x);
            }
        }
        Some(target) => {
            let target: Rows = [target].into_iter().collect();
            let x = model.decode(&mut run, &target, &memory, &source);
            model.logits(&mut run, &x);
        }
    }
    drop(run);
    Ok(Trace {
        arrays: recorder.finish(),
    })
}

/// A decoder alone over `text`, of which it was given `prompt` tokens: as where it generates, or under `edits` all at once.
fn go_on(model: &Transformer, run: &mut Run, text: &[u32], prompt: usize, edits: &Edits) {
    let at_once = match *edits == Edits::default() && prompt > 0 {
        true => prompt.min(text.len()) - 1,
        false => text.len(),
    };
    let (first, steps) = text.split_at(at_once);
    if steps.is_empty() {
        let x = model.go_on(run, &[first].into_iter().collect());
        model.logits(run, &x);
        return;
    }
    let mut state = model.start(run);
    let x = model.read(run, &mut state, &[first].into_iter().collect(), &[]);
    if !first.is_empty() {
        model.logits(run, &x);
    }
    for token in steps {
        let x = model.decode_step(run, &[*token], &mut state);
        model.logits(run, &x);
    }
}

/// What the encoder of a model with a decoder computes of a source.
pub(super) fn trace_source(
    model: &Transformer,
    parameters: &PackedWeights,
    input: &TraceInput,
) -> Result<Trace> {
    let edits = [Edits::default()];
    check(model, input, &edits[0])?;
    let arena = Arena::default();
    let mut recorder = Recorder::new(model, parameters, &edits, true);
    let mut run = Run::inference(&arena, parameters).watched(&mut recorder);
    model.encode(&mut run, &[&input.source].into_iter().collect());
    drop(run);
    Ok(Trace {
        arrays: recorder.finish(),
    })
}

pub(super) fn check(model: &Transformer, input: &TraceInput, edits: &Edits) -> Result<()> {
    let config = model.assembly().model();
    let hideable = match config.encoder {
        Some(_) => input.source.len(),
        None => input.target.as_ref().map_or(0, Vec::len),
    };
    edits.check(&config, hideable)?;
    let sides = [
        ("source", Some(&input.source), &config.encoder),
        ("target", input.target.as_ref(), &config.decoder),
    ];
    for (side, ids, stack) in sides {
        if let (Some(ids), Some(stack)) = (ids, stack) {
            let embedding = &stack.embedding;
            check_ids(ids, embedding.vocab_size).map_err(|e| e.at(side))?;
            check_length(ids.len(), embedding.max_positions).map_err(|e| e.at(side))?;
        }
    }
    Ok(())
}
