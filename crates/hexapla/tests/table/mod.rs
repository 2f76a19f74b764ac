//! Models for the tests of the search: their logits depend on nothing but a row's own history.

use std::ops::Range;

use hexapla::error::Result;
use hexapla::generate::{SearchInput, StepDecoder};
use hexapla::random::SplitMix;
use hexapla_kernels::Buffer;

/// Logits of the token after a history (source token, start token, output so far).
pub(crate) trait Logits {
    fn vocab_size(&self) -> usize;
    fn fill(&self, history: &[u32], row: &mut [f32]);
}

/// A decoder that keeps every row's history, and checks that the search keeps to its side of the contract.
pub(crate) struct Histories<'a> {
    pub(crate) logits: &'a dyn Logits,
    pub(crate) rows: Vec<Vec<u32>>,
    /// Rows of every step so far.
    pub(crate) steps: Vec<usize>,
    /// Number of calls of `reorder`.
    pub(crate) reorders: usize,
}

impl<'a> Histories<'a> {
    pub(crate) fn new(logits: &'a dyn Logits, sources: &[u32]) -> Self {
        let rows = sources.iter().map(|source| vec![*source]).collect();
        Histories {
            logits,
            rows,
            steps: Vec::new(),
            reorders: 0,
        }
    }
}

impl StepDecoder for Histories<'_> {
    fn vocab_size(&self) -> usize {
        self.logits.vocab_size()
    }

    fn step(&mut self, tokens: &[u32]) -> Result<()> {
        assert_eq!(tokens.len(), self.rows.len());
        for (history, token) in self.rows.iter_mut().zip(tokens) {
            history.push(*token);
        }
        self.steps.push(tokens.len());
        Ok(())
    }

    fn logits(&mut self, rows: Range<usize>, logits: &mut Buffer) -> Result<()> {
        let vocab_size = self.vocab_size();
        logits.resize(rows.len() * vocab_size);
        for (history, row) in self.rows[rows]
            .iter()
            .zip(logits.chunks_exact_mut(vocab_size))
        {
            self.logits.fill(history, row);
        }
        Ok(())
    }

    fn reorder(&mut self, parents: &[usize]) {
        let identity: Vec<usize> = (0..self.rows.len()).collect();
        assert!(parents != identity);
        self.rows = parents.iter().map(|row| self.rows[*row].clone()).collect();
        self.reorders += 1;
    }

    fn attention(&self) -> Option<Vec<Vec<f32>>> {
        Some(self.rows.iter().map(|history| attention(history)).collect())
    }
}

/// Weights of the source tokens after a history.
pub(crate) fn attention(history: &[u32]) -> Vec<f32> {
    let mut random = SplitMix(hash(history) ^ 1);
    let length = 3 + history.first().map_or(0, |source| source % 4);
    (0..length).map(|_| random.uniform()).collect()
}

/// A number that differs for every history.
pub(crate) fn hash(history: &[u32]) -> u64 {
    let step = |key: u64, token: &u32| SplitMix(key ^ u64::from(*token + 1)).next_u64();
    history.iter().fold(7, step)
}

/// A sentence without a prefix.
pub(crate) fn input(max_length: usize, seed_index: u64) -> SearchInput {
    SearchInput {
        prompt: Vec::new(),
        prefix: Vec::new(),
        max_length,
        seed_index,
    }
}
