//! The loop over a batch: which rows the decoder computes, and for which sentence.

use hexapla_kernels::Buffer;
use rayon::prelude::*;

use super::beam::Beam;
use super::chains::Chains;
use super::decoder::StepDecoder;
use super::hypothesis::Hypothesis;
use super::options::{SearchInput, SearchOptions};
use super::sentence::{Sentence, StepInput};
use crate::error::{Error, Result};

/// Logits of a step from which on its sentences are worth dividing among threads.
const PARALLEL_FROM: usize = 1 << 17;

/// Hypotheses whose logits are there at a time: enough for the product to be fast, few enough for their logits to be still in
/// the cache when they are looked at.
const AT_ONCE: usize = 32;

/// A sentence that is not done.
struct Active<'a> {
    /// Its index in the batch.
    index: usize,
    /// Rows that it had in the last step.
    rows: usize,
    sentence: Box<dyn Sentence + 'a>,
}

/// Searches for the output of every sentence of a batch.
///
/// The decoder holds one live hypothesis for each sentence, in order. It is asked for exactly one row for each open
/// hypothesis: a sentence has 1 row at first, up to `beam_size` (or `n_best` samples) later, and none once it is done.
/// Returns for each sentence its hypotheses as [`SearchOptions::n_best`] says.
///
/// # Errors
/// Settings or sentences out of range ([`Error::item`] says which sentence), an error of the decoder, logits that are not numbers, or attention asked of a
/// decoder that has none.
pub fn search(
    decoder: &mut dyn StepDecoder,
    sentences: &[SearchInput],
    options: &SearchOptions,
) -> Result<Vec<Vec<Hypothesis>>> {
    search_watched(decoder, sentences, options, None)
}

/// Looks at a chain as it grows: the sentence's index, the number of the sample, and what there is of it. Says whether it is to go
/// on.
pub type Progress<'a> = dyn FnMut(usize, usize, &Hypothesis) -> Result<bool> + 'a;

/// As [`search`]. After each step `progress` sees every chain that has grown, and may end it; in beam search, where nothing is
/// known before the end, it sees nothing.
///
/// # Errors
/// As [`search`], or that of `progress`.
pub fn search_watched(
    decoder: &mut dyn StepDecoder,
    sentences: &[SearchInput],
    options: &SearchOptions,
    mut progress: Option<&mut Progress>,
) -> Result<Vec<Vec<Hypothesis>>> {
    let vocab_size = decoder.vocab_size();
    options.validate(vocab_size)?;
    for (index, input) in sentences.iter().enumerate() {
        let valid = input.validate(options, vocab_size);
        valid.map_err(|e| e.in_item(index))?;
    }
    let mut results = vec![Vec::new(); sentences.len()];
    let new = |(index, input)| Active {
        index,
        rows: 1,
        sentence: start(options, input),
    };
    let mut active: Vec<Active> = sentences.iter().enumerate().map(new).collect();
    let first = sentences.iter().map(|input| options.first_token(input));
    let (mut tokens, mut parents): (Vec<u32>, Vec<usize>) = (first.collect(), Vec::new());
    let mut logits = Buffer::default();
    while !tokens.is_empty() {
        decoder.step(&tokens)?;
        let rows = tokens.len();
        let mut attention = step_attention(decoder, options, rows)?.into_iter();
        let (mut rest, mut first) = (active.as_mut_slice(), 0);
        while !rest.is_empty() {
            let (sentences, rows) = next_sentences(rest);
            let (next, others) = rest.split_at_mut(sentences);
            rest = others;
            decoder.logits(first..first + rows, &mut logits)?;
            let attention = attention.by_ref().take(rows).collect();
            advance(next, &mut logits, vocab_size, rows, attention)?;
            first += rows;
        }
        if let Some(progress) = &mut progress {
            for active in &mut active {
                let index = active.index;
                let mut watch = |sample, chain: &Hypothesis| progress(index, sample, chain);
                active.sentence.watch(&mut watch)?;
            }
        }
        next_rows(&mut active, &mut tokens, &mut parents);
        active.retain(|active| {
            if active.rows == 0 {
                results[active.index] = active.sentence.hypotheses();
            }
            active.rows > 0
        });
        let unchanged = parents.len() == rows
            && parents
                .iter()
                .enumerate()
                .all(|(row, parent)| row == *parent);
        if !unchanged && !parents.is_empty() {
            decoder.reorder(&parents);
        }
    }
    Ok(results)
}

fn start<'a>(options: &'a SearchOptions, input: &'a SearchInput) -> Box<dyn Sentence + 'a> {
    if options.beam_size > 1 {
        Box::new(Beam::new(options, input))
    } else {
        Box::new(Chains::new(options, input))
    }
}

/// The attention of the last step, checked: one row for each hypothesis, or nothing where it is not asked for.
fn step_attention(
    decoder: &dyn StepDecoder,
    options: &SearchOptions,
    rows: usize,
) -> Result<Vec<Vec<f32>>> {
    if !options.attention {
        return Ok(Vec::new());
    }
    let attention = decoder.attention().ok_or_else(|| {
        Error::model("the model has no attention to the source")
            .hint("search without `attention` and alignments")
    })?;
    if attention.len() != rows {
        return Err(
            Error::model("the model returned attention of the wrong shape")
                .expected(format!("{rows} rows"))
                .found(format!("{} rows", attention.len())),
        );
    }
    Ok(attention)
}

/// How many sentences come next, and their rows: about [`AT_ONCE`], and never no sentence.
fn next_sentences(active: &[Active]) -> (usize, usize) {
    let (mut sentences, mut rows) = (0, 0);
    for active in active {
        if sentences > 0 && rows + active.rows > AT_ONCE {
            break;
        }
        sentences += 1;
        rows += active.rows;
    }
    (sentences, rows)
}

/// Hands every sentence its rows. Sentences do not share anything, so threads cannot change a result.
fn advance(
    active: &mut [Active],
    logits: &mut [f32],
    vocab_size: usize,
    rows: usize,
    attention: Vec<Vec<f32>>,
) -> Result<()> {
    if logits.len() != rows * vocab_size {
        return Err(Error::model("the model returned logits of the wrong shape")
            .expected(format!("{rows} rows of {vocab_size} numbers"))
            .found(format!("{} numbers", logits.len())));
    }
    let parallel = logits.len() >= PARALLEL_FROM && rayon::current_num_threads() > 1;
    let (mut rest, mut attention) = (logits, attention.into_iter());
    let mut work = Vec::with_capacity(active.len());
    for active in active {
        let (logits, others) = rest.split_at_mut(active.rows * vocab_size);
        rest = others;
        let attention = attention.by_ref().take(active.rows).collect();
        work.push((
            active,
            StepInput {
                logits,
                vocab_size,
                attention,
            },
        ));
    }
    let run = |(active, step): (&mut Active, StepInput)| {
        let index = active.index;
        let advanced = active.sentence.advance(step);
        advanced.map_err(|e| e.in_item(index))
    };
    if parallel {
        // Collected in order, so that the error reported is the first sentence's however threads run.
        let results: Vec<Result<()>> = work.into_par_iter().map(run).collect();
        results.into_iter().collect()
    } else {
        work.into_iter().try_for_each(run)
    }
}

/// What the decoder is fed next, and from which of its rows.
fn next_rows(active: &mut [Active], tokens: &mut Vec<u32>, parents: &mut Vec<usize>) {
    tokens.clear();
    parents.clear();
    let mut first_row = 0;
    for active in active {
        let live = active.sentence.live();
        tokens.extend(live.iter().map(|live| live.token));
        parents.extend(live.iter().map(|live| first_row + live.row));
        first_row += active.rows;
        active.rows = live.len();
    }
}
