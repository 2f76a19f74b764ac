//! A batch under way: which rows the decoder computes, and for which sentence.

use std::ops::Range;
use std::sync::Arc;

use hexapla_kernels::Buffer;
use rayon::prelude::*;

use super::beam::Beam;
use super::chains::Chains;
use super::decoder::StepDecoder;
use super::hypothesis::Hypothesis;
use super::options::{SearchInput, SearchOptions};
use super::sentence::{Sentence, StepInput};
use super::trace::Trace;
use crate::error::{Error, Result};

/// Logits of a step from which on its sentences are worth dividing among threads.
const PARALLEL_FROM: usize = 1 << 17;

/// Hypotheses whose logits are there at a time: enough for the product to be fast, few enough for their logits to be still in
/// the cache when they are looked at.
const AT_ONCE: usize = 32;

/// A sentence that is not done.
struct Active {
    number: usize,
    /// Rows that it had in the last step.
    rows: usize,
    options: Arc<SearchOptions>,
    sentence: Box<dyn Sentence>,
    /// What ended it before its time.
    failed: Option<Error>,
}

/// A search under way: sentences that are decoded together, a token at a time. Sentences may come and go between steps
/// (continuous batching), each with settings of its own, and no result depends on the others.
///
/// The decoder is asked for exactly one row for each open hypothesis: a sentence has 1 row at first, up to `beam_size` (or `n_best`
/// samples) later, and none once it is done.
pub struct Search<D> {
    decoder: D,
    /// In the order of the decoder's rows.
    active: Vec<Active>,
    /// What the decoder is fed next, one token for each of its hypotheses.
    tokens: Vec<u32>,
    /// Sentences that were ever added.
    added: usize,
    logits: Buffer,
    /// What ended it.
    failed: Option<Error>,
}

/// A sentence that is done, by its number, and its hypotheses as [`SearchOptions::n_best`] says, or what kept it from them.
pub type Done = (usize, Result<Vec<Hypothesis>>);

/// Looks at a chain as it grows: the sentence's number, that of the sample, and what there is of it. Says whether it is to go
/// on.
pub type Progress<'a> = dyn FnMut(usize, usize, &Hypothesis) -> Result<bool> + Send + 'a;

impl<D: StepDecoder> Search<D> {
    /// Nothing yet: `decoder` has no hypothesis, or one for each of the sentences that are added first.
    pub fn new(decoder: D) -> Self {
        Search {
            decoder,
            active: Vec::new(),
            tokens: Vec::new(),
            added: 0,
            logits: Buffer::default(),
            failed: None,
        }
    }

    /// What it decodes with.
    pub(super) fn decoder_mut(&mut self) -> &mut D {
        &mut self.decoder
    }

    /// Sentences that are not done.
    pub fn len(&self) -> usize {
        self.active.len()
    }

    /// Whether all are done.
    pub fn is_empty(&self) -> bool {
        self.active.is_empty()
    }

    /// Takes in sentences, and gives their numbers: they are counted as they come. `begin` gives the decoder a hypothesis for each of
    /// them, behind those that it has; there is nothing to do where they are there already.
    ///
    /// # Errors
    /// Settings or sentences out of range ([`Error::item`] says which), or that of `begin`. None of them is taken in then.
    pub fn add(
        &mut self,
        sentences: Vec<(SearchInput, Arc<SearchOptions>)>,
        begin: impl FnOnce(&mut D) -> Result<()>,
    ) -> Result<Range<usize>> {
        let vocab_size = self.decoder.vocab_size();
        for (i, (input, options)) in sentences.iter().enumerate() {
            options.validate(vocab_size)?;
            let valid = input.validate(options, vocab_size);
            valid.map_err(|e| e.in_item(i))?;
        }
        begin(&mut self.decoder)?;
        let first = self.added;
        for (input, options) in sentences {
            self.tokens.push(options.first_token(&input));
            self.active.push(Active {
                number: self.added,
                rows: 1,
                sentence: start(&options, input),
                options,
                failed: None,
            });
            self.added += 1;
        }
        Ok(first..self.added)
    }

    /// Lets go of a sentence that is not done. Whether there was one with this number.
    pub fn remove(&mut self, number: usize) -> bool {
        let Some(place) = self.active.iter().position(|a| a.number == number) else {
            return false;
        };
        let first = self.active[..place].iter().map(|a| a.rows).sum();
        let rows = self.active.remove(place).rows;
        let parents: Vec<usize> = (0..first).chain(first + rows..self.tokens.len()).collect();
        self.tokens.drain(first..first + rows);
        self.decoder.reorder(&parents);
        true
    }

    /// Decodes one token for every open hypothesis, and gives the sentences that are done then, in the order in which they came.
    /// `progress` sees every chain that has grown, and may end it; an error of it is its sentence's. In beam search, where nothing is
    /// known before the end, it sees nothing.
    ///
    /// # Errors
    /// What is wrong with no sentence alone: that of the decoder, its output of the wrong shape, or attention asked of a decoder that
    /// has none. Nothing can be decoded any more then: each further step gives the same error.
    pub fn step(&mut self, progress: Option<&mut Progress>) -> Result<Vec<Done>> {
        if let Some(failed) = &self.failed {
            return Err(failed.clone());
        }
        let done = self.advance(progress);
        self.failed = done.as_ref().err().cloned();
        done
    }

    fn advance(&mut self, mut progress: Option<&mut Progress>) -> Result<Vec<Done>> {
        if self.tokens.is_empty() {
            return Ok(Vec::new());
        }
        let decoder = &mut self.decoder;
        let vocab_size = decoder.vocab_size();
        decoder.step(&self.tokens)?;
        let rows = self.tokens.len();
        let is_asked = self.active.iter().any(|a| a.options.attention);
        let mut attention = step_attention(decoder, is_asked, rows)?.into_iter();
        let (mut rest, mut first) = (self.active.as_mut_slice(), 0);
        while !rest.is_empty() {
            let (sentences, rows) = next_sentences(rest);
            let (next, others) = rest.split_at_mut(sentences);
            rest = others;
            decoder.logits(first..first + rows, &mut self.logits)?;
            let attention = attention.by_ref().take(rows).collect();
            advance(next, &mut self.logits, vocab_size, rows, attention)?;
            first += rows;
        }
        if let Some(progress) = &mut progress {
            for active in self.active.iter_mut().filter(|a| a.failed.is_none()) {
                let number = active.number;
                let mut watch = |sample, chain: &Hypothesis| progress(number, sample, chain);
                active.failed = active.sentence.watch(&mut watch).err();
            }
        }
        let parents = next_rows(&mut self.active, &mut self.tokens);
        let is_done = |active: &mut Active| active.rows == 0;
        let done = self.active.extract_if(.., is_done).map(|active| {
            let found = active
                .failed
                .map_or_else(|| Ok(active.sentence.hypotheses()), Err);
            (active.number, found)
        });
        let done = done.collect();
        if !parents.iter().copied().eq(0..rows) {
            self.decoder.reorder(&parents);
        }
        Ok(done)
    }
}

/// Searches for the output of every sentence of a batch.
///
/// The decoder holds one live hypothesis for each sentence, in order. Returns for each sentence its hypotheses as
/// [`SearchOptions::n_best`] says.
///
/// # Errors
/// Settings or sentences out of range ([`Error::item`] says which sentence), an error of the decoder, logits that are not numbers, or attention asked of a
/// decoder that has none.
pub fn search(
    decoder: &mut dyn StepDecoder,
    sentences: &[SearchInput],
    options: &SearchOptions,
) -> Result<Vec<Vec<Hypothesis>>> {
    let options = Arc::new(options.clone());
    let sentences: Vec<_> = sentences
        .iter()
        .map(|input| (input.clone(), options.clone()))
        .collect();
    let mut search = Search::new(decoder);
    search.add(sentences, |_| Ok(()))?;
    search.finish(None)
}

impl<D: StepDecoder> Search<D> {
    /// Steps until all sentences are done that were ever added. Gives their hypotheses in their order.
    ///
    /// # Errors
    /// As [`Search::step`], or that of a sentence ([`Error::item`] says which).
    pub(super) fn finish(
        &mut self,
        mut progress: Option<&mut Progress>,
    ) -> Result<Vec<Vec<Hypothesis>>> {
        let mut results = vec![Vec::new(); self.added];
        while !self.is_empty() {
            let progress = progress
                .as_mut()
                .map(|progress| &mut **progress as &mut Progress);
            for (number, found) in self.step(progress)? {
                results[number] = found.map_err(|e| e.in_item(number))?;
            }
        }
        Ok(results)
    }
}

fn start(options: &Arc<SearchOptions>, input: SearchInput) -> Box<dyn Sentence> {
    let trace = Trace::new(options.clone(), input);
    match options.beam_size {
        1 => Box::new(Chains::new(trace)),
        _ => Box::new(Beam::new(trace)),
    }
}

/// The error where attention is asked of a model that has none.
pub(super) fn no_attention() -> Error {
    Error::model("the model has no attention to the source")
        .hint("search without `attention` and alignments")
}

/// The attention of the last step, checked: one row for each hypothesis, or nothing where it is not asked for.
fn step_attention(
    decoder: &impl StepDecoder,
    is_asked: bool,
    rows: usize,
) -> Result<Vec<Vec<f32>>> {
    if !is_asked {
        return Ok(Vec::new());
    }
    let attention = decoder.attention().ok_or_else(no_attention)?;
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
        let mut attention: Vec<_> = attention.by_ref().take(active.rows).collect();
        if !active.options.attention {
            attention.clear();
        }
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
        active.failed = active.sentence.advance(step).err();
    };
    match parallel {
        true => work.into_par_iter().for_each(run),
        false => work.into_iter().for_each(run),
    }
    Ok(())
}

/// What the decoder is fed next, into `tokens`; gives the rows of the last step that these come from.
fn next_rows(active: &mut [Active], tokens: &mut Vec<u32>) -> Vec<usize> {
    tokens.clear();
    let mut parents = Vec::with_capacity(active.len());
    let mut first_row = 0;
    for active in active {
        let live = match active.failed {
            Some(_) => &[],
            None => active.sentence.live(),
        };
        tokens.extend(live.iter().map(|live| live.token));
        parents.extend(live.iter().map(|live| first_row + live.row));
        first_row += active.rows;
        active.rows = live.len();
    }
    parents
}
