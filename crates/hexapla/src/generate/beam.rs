//! Beam search of one sentence.

use super::candidates::{Candidate, Candidates};
use super::hypothesis::Hypothesis;
use super::log_softmax::Row;
use super::sentence::{Sentence, StepInput, not_a_number};
use super::trace::{Closed, Live, Trace};
use crate::config::EarlyStopping;
use crate::error::Result;

/// The beam of one sentence.
pub(super) struct Beam {
    trace: Trace,
    /// Best first.
    live: Vec<Live>,
    /// Best first, at most as many as the beam is wide.
    closed: Vec<Closed>,
    /// Twice as many as the beam is wide: enough open ones remain if half of them end.
    candidates: Candidates,
    next: Vec<Live>,
    bounds: Vec<f32>,
}

impl Beam {
    pub(super) fn new(trace: Trace) -> Self {
        let options = trace.options.clone();
        Beam {
            live: vec![trace.start()],
            closed: Vec::with_capacity(options.beam_size + 1),
            candidates: Candidates::new((1 + options.ends().count()) * options.beam_size),
            next: Vec::with_capacity(options.beam_size),
            bounds: Vec::new(),
            trace,
        }
    }

    /// Ranks every continuation of every open hypothesis.
    fn rank(&mut self, logits: &mut [f32], vocab_size: usize) -> Result<()> {
        self.candidates.clear();
        if let Some(token) = self.trace.forced_token() {
            for (row, live) in self.live.iter().enumerate() {
                self.candidates.offer(Candidate {
                    total: live.log_prob,
                    log_prob: 0.0,
                    row,
                    token,
                });
            }
            return Ok(());
        }
        for (index, (live, scores)) in self
            .live
            .iter()
            .zip(logits.chunks_exact_mut(vocab_size))
            .enumerate()
        {
            let mut row = Row {
                scores,
                bounds: &mut self.bounds,
            };
            row.log_softmax().ok_or_else(not_a_number)?;
            self.trace.process(&mut row, live);
            if self.trace.options.renormalize && row.log_softmax().is_none() {
                if row.bound() == f32::NEG_INFINITY {
                    continue; // The constraints leave no token.
                }
                return Err(not_a_number());
            }
            self.candidates.offer_row(index, live.log_prob, &row);
        }
        Ok(())
    }

    /// Divides the candidates into open and closed hypotheses.
    ///
    /// One that ends counts only if it is among the first `beam_size`; the others are there as a reserve of open ones.
    fn divide(&mut self) {
        let options = self.trace.options.clone();
        let width = options.beam_size;
        let shrinking = options.early_stopping == EarlyStopping::Shrinking;
        // Those that have ended leave a narrower beam.
        let (looked_at, width) = match shrinking {
            true => (width - self.closed.len(), width - self.closed.len()),
            false => (self.candidates.as_slice().len(), width),
        };
        self.next.clear();
        let candidates = self.candidates.as_slice().iter().take(looked_at);
        for (rank, candidate) in candidates.enumerate() {
            let ends = self.trace.ends_with(candidate.token);
            if (ends && rank < width) || (!ends && self.next.len() < width) {
                let live = &self.live[candidate.row];
                let longer =
                    self.trace
                        .extend(live, candidate.row, candidate.token, candidate.log_prob);
                if ends {
                    let finished = self.trace.options.is_end(candidate.token);
                    let closed = self.trace.close(&longer, self.trace.length + 1, finished);
                    insert(&mut self.closed, closed, options.beam_size);
                } else {
                    self.next.push(longer);
                }
            }
        }
    }

    /// Whether the open hypotheses are no longer worth continuing.
    fn may_stop(&self) -> bool {
        let options = &self.trace.options;
        let (Some(best), Some(worst)) = (self.live.first(), self.closed.last()) else {
            return self.live.is_empty();
        };
        if self.closed.len() < options.beam_size
            || options.early_stopping == EarlyStopping::Shrinking
        {
            return false;
        }
        let length = match options.early_stopping {
            EarlyStopping::WhenFull => return true,
            EarlyStopping::Never if options.length_penalty > 0.0 => self.trace.input.max_length,
            _ => self.trace.length,
        };
        best.log_prob / options.length_divisor(length) <= worst.score
    }
}

/// Inserts into a list that is best first and at most `limit` long. Ties: the older one first.
fn insert(list: &mut Vec<Closed>, closed: Closed, limit: usize) {
    let index = list.partition_point(|better| better.score >= closed.score);
    list.insert(index, closed);
    list.truncate(limit);
}

impl Sentence for Beam {
    fn live(&self) -> &[Live] {
        &self.live
    }

    fn advance(&mut self, step: StepInput) -> Result<()> {
        self.trace.keep_attention(step.attention);
        self.rank(step.logits, step.vocab_size)?;
        if self.candidates.as_slice().is_empty() {
            let (width, length) = (self.trace.options.beam_size, self.trace.length);
            for live in self.live.drain(..) {
                insert(
                    &mut self.closed,
                    self.trace.close(&live, length, false),
                    width,
                );
            }
            return Ok(());
        }
        self.divide();
        std::mem::swap(&mut self.live, &mut self.next);
        self.trace.length += 1;
        if self.may_stop() {
            self.live.clear();
        }
        Ok(())
    }

    fn hypotheses(&self) -> Vec<Hypothesis> {
        let best = self.closed.iter().take(self.trace.options.n_best);
        best.map(|closed| self.trace.hypothesis(closed)).collect()
    }
}
