//! Greedy decoding and sampling of one sentence: chains of tokens that do not compete.

use super::candidates::{Candidate, Candidates};
use super::hypothesis::Hypothesis;
use super::log_softmax::{Row, log_sum_exp};
use super::sampling::Choices;
use super::sentence::{Chain, Sentence, StepInput, not_a_number};
use super::trace::{Closed, Live, Trace};
use crate::error::Result;

/// The chains of one sentence: one for greedy decoding, one for each sample otherwise.
pub(super) struct Chains {
    trace: Trace,
    live: Vec<Live>,
    closed: Vec<Closed>,
    /// How many of these were told to whoever watches.
    told: usize,
    /// Whether the one chain of the beginning has been divided into the samples.
    divided: bool,
    next: Vec<Live>,
    bounds: Vec<f32>,
    choices: Choices,
}

/// The scores of one row, ready for taking tokens from it.
struct Ready<'a> {
    logits: &'a [f32],
    bounds: &'a [f32],
    greatest: f32,
    log_sum: f32,
}

impl Chains {
    pub(super) fn new(trace: Trace) -> Self {
        let samples = trace.options.n_best;
        Chains {
            live: vec![trace.start()],
            closed: Vec::with_capacity(samples),
            told: 0,
            divided: samples == 1,
            next: Vec::with_capacity(samples),
            bounds: Vec::new(),
            choices: Choices::default(),
            trace,
        }
    }

    /// Continues the chain in one row as each of its samples.
    fn advance_row(&mut self, index: usize, scores: &mut [f32], samples: usize) -> Result<()> {
        let live = self.live[index];
        let trace = &mut self.trace;
        let forced = trace.forced_token();
        let mut row = Row {
            scores,
            bounds: &mut self.bounds,
        };
        let ready = match forced {
            Some(_) => None,
            None => prepare(trace, &live, &mut row)?,
        };
        if let (Some(ready), Some(sampling)) = (&ready, &trace.options.sampling) {
            self.choices.fill(ready.logits, ready.greatest, sampling);
        }
        let likeliest = trace.options.likeliest;
        let likeliest = ready.as_ref().map(|ready| ready.likeliest(likeliest));
        for sample in live.sample..live.sample + samples {
            let live = Live { sample, ..live };
            let taken = match (forced, &ready) {
                (Some(token), _) => Some((token, 0.0)),
                (None, Some(ready)) => take(trace, ready, &self.choices, sample),
                (None, None) => None,
            };
            let Some((token, log_prob)) = taken else {
                self.closed.push(trace.close(&live, trace.length, false));
                continue;
            };
            if trace.options.likeliest > 0 {
                trace.keep_likeliest(likeliest.clone().unwrap_or_default());
            }
            let longer = trace.extend(&live, index, token, log_prob);
            if trace.ends_with(token) {
                let finished = trace.options.is_end(token);
                self.closed
                    .push(trace.close(&longer, trace.length + 1, finished));
            } else {
                self.next.push(longer);
            }
        }
        Ok(())
    }
}

/// Applies the constraints to a row. `None` where they leave no token.
fn prepare<'a>(trace: &mut Trace, live: &Live, row: &'a mut Row) -> Result<Option<Ready<'a>>> {
    if !row.bound().is_finite() {
        return Err(not_a_number());
    }
    trace.process(row, live);
    let greatest = row.bound();
    if greatest == f32::NEG_INFINITY {
        return Ok(None);
    }
    let log_sum = log_sum_exp(row.scores, greatest).ok_or_else(not_a_number)?;
    Ok(Some(Ready {
        logits: row.scores,
        bounds: row.bounds,
        greatest,
        log_sum,
    }))
}

/// The next token of one sample, and its log-probability.
fn take(trace: &Trace, ready: &Ready, choices: &Choices, sample: usize) -> Option<(u32, f32)> {
    let token = match &trace.options.sampling {
        Some(sampling) => {
            choices.draw(sampling.uniform(trace.input.seed_index, sample, trace.length))?
        }
        None => ready.first_greatest(),
    };
    Some((
        token,
        (ready.logits[token as usize] - ready.greatest) - ready.log_sum,
    ))
}

impl Ready<'_> {
    /// The `count` tokens with the greatest scores, and their log-probabilities.
    fn likeliest(&self, count: usize) -> Vec<(u32, f32)> {
        if count == 0 {
            return Vec::new();
        }
        let mut best = Candidates::new(count);
        for (token, logit) in self.logits.iter().enumerate() {
            best.offer(Candidate {
                total: *logit,
                log_prob: (logit - self.greatest) - self.log_sum,
                row: 0,
                token: token as u32,
            });
        }
        let pair = |candidate: &Candidate| (candidate.token, candidate.log_prob);
        best.as_slice().iter().map(pair).collect()
    }

    /// The lowest token id with the greatest score.
    fn first_greatest(&self) -> u32 {
        let block = self
            .bounds
            .iter()
            .take_while(|bound| **bound < self.greatest)
            .count();
        let first = block * super::log_softmax::BLOCK;
        let within = self.logits[first..]
            .iter()
            .take_while(|logit| **logit < self.greatest)
            .count();
        (first + within) as u32
    }
}

impl Sentence for Chains {
    fn live(&self) -> &[Live] {
        &self.live
    }

    fn advance(&mut self, step: StepInput) -> Result<()> {
        self.trace.keep_attention(step.attention);
        self.next.clear();
        // Samples share one row until they can differ (or end).
        let forced_on = self
            .trace
            .forced_token()
            .is_some_and(|token| !self.trace.ends_with(token));
        let samples = if self.divided || forced_on {
            1
        } else {
            self.trace.options.n_best
        };
        for (index, logits) in step.logits.chunks_exact_mut(step.vocab_size).enumerate() {
            self.advance_row(index, logits, samples)?;
        }
        self.divided |= samples > 1;
        std::mem::swap(&mut self.live, &mut self.next);
        self.trace.length += 1;
        Ok(())
    }

    fn watch(&mut self, watch: &mut Chain) -> Result<()> {
        for closed in self.closed.iter().skip(self.told) {
            watch(closed.sample, &self.trace.hypothesis(closed))?;
        }
        let (trace, closed) = (&self.trace, &mut self.closed);
        let mut error = None;
        self.live.retain(|live| {
            let now = trace.close(live, trace.length, false);
            let goes_on = watch(live.sample, &trace.hypothesis(&now));
            if matches!(goes_on, Ok(false)) {
                closed.push(now);
            }
            let stays = !matches!(goes_on, Ok(false));
            error = error.take().or(goes_on.err());
            stays
        });
        self.told = self.closed.len();
        error.map_or(Ok(()), Err)
    }

    fn hypotheses(&self) -> Vec<Hypothesis> {
        let mut closed: Vec<&Closed> = self.closed.iter().collect();
        closed.sort_by_key(|closed| closed.sample);
        closed
            .into_iter()
            .map(|closed| self.trace.hypothesis(closed))
            .collect()
    }
}
