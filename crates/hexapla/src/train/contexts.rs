//! Texts as a decoder alone learns from them: cut into contexts that are full, so that nothing is padded.

use crate::batch::TrainingRows;
use crate::random::mix;
use crate::train::examples::{EpochExamples, Examples};

/// Documents end to end, in contexts of so many tokens. A context may hold the end of one document and the beginning of the next;
/// each sees itself alone, from position 0 on.
///
/// A document's tokens are what stands around it too: one that begins it, one that ends it. Each token but a document's first is
/// foreseen once an epoch.
#[derive(Debug)]
pub struct Contexts<'a> {
    documents: &'a [Vec<u32>],
    /// Tokens to foresee before each document, and before the end.
    before: Vec<usize>,
    context: usize,
    /// Keys where an epoch's first cut lies; without it each epoch is cut from the beginning.
    seed: Option<u64>,
}

/// Contexts of one epoch.
struct EpochContexts<'a> {
    of: &'a Contexts<'a>,
    /// Tokens of the first context, where it is a shorter one.
    first: usize,
}

impl<'a> Contexts<'a> {
    /// `documents` in contexts of `context` tokens. With a seed, each epoch is cut at other places.
    pub fn new(documents: &'a [Vec<u32>], context: usize, seed: Option<u64>) -> Self {
        let mut before = vec![0];
        let mut all = 0;
        for document in documents {
            all += document.len().saturating_sub(1);
            before.push(all);
        }
        Contexts {
            documents,
            before,
            context: context.max(1),
            seed,
        }
    }

    /// Tokens that are foreseen in an epoch.
    pub fn tokens(&self) -> usize {
        self.before.last().copied().unwrap_or(0)
    }

    fn cut(&self, number: u64) -> EpochContexts<'_> {
        let first = match self.seed {
            Some(seed) => mix(seed ^ mix(number ^ 0xC0E7)) % self.context as u64,
            None => 0,
        };
        self.cut_at(first as usize)
    }

    /// Contexts of an epoch that is cut from the beginning.
    pub fn count(&self) -> usize {
        self.tokens().div_ceil(self.context)
    }

    /// One of them.
    pub fn rows(&self, number: usize) -> TrainingRows {
        let mut rows = TrainingRows::default();
        self.cut_at(0).push(number, &mut rows);
        rows
    }

    fn cut_at(&self, first: usize) -> EpochContexts<'_> {
        EpochContexts { of: self, first }
    }
}

impl Examples for Contexts<'_> {
    fn of_epoch(&self, number: u64) -> Box<dyn EpochExamples + '_> {
        Box::new(self.cut(number))
    }
}

impl EpochContexts<'_> {
    /// Where a context begins and ends among the tokens that are foreseen.
    fn bounds(&self, number: usize) -> (usize, usize) {
        let (context, all) = (self.of.context, self.of.tokens());
        let (start, end) = match (self.first, number) {
            (0, _) => (number * context, (number + 1) * context),
            (first, 0) => (0, first),
            (first, _) => (first + (number - 1) * context, first + number * context),
        };
        (start.min(all), end.min(all))
    }
}

impl EpochExamples for EpochContexts<'_> {
    fn lengths(&self) -> Vec<usize> {
        let length = |number| {
            let (start, end) = self.bounds(number);
            end - start
        };
        (0..).map(length).take_while(|length| *length > 0).collect()
    }

    fn push(&self, number: usize, rows: &mut TrainingRows) {
        let (mut start, end) = self.bounds(number);
        let before = &self.of.before;
        // The document that has the token which is foreseen first.
        let mut document = before.partition_point(|before| *before <= start).max(1) - 1;
        while start < end {
            let ids = &self.of.documents[document];
            let at = start - before[document];
            let stop = end.min(before[document + 1]);
            let len = stop - start;
            if len > 0 {
                rows.push_text(&ids[at..=at + len]);
            }
            (start, document) = (stop, document + 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_token_is_foreseen_once_by_its_own_document() {
        let documents = vec![
            vec![1, 2, 3, 4, 5, 6, 7, 0],
            vec![],
            vec![10],
            vec![20, 21],
            vec![30, 31, 32, 33, 34],
        ];
        let all: Vec<u32> = documents
            .iter()
            .flat_map(|d| d.iter().skip(1))
            .copied()
            .collect();
        for context in [1, 2, 3, 5, 12, 100] {
            for (seed, epochs) in [(None, 2), (Some(7), 20)] {
                let contexts = Contexts::new(&documents, context, seed);
                assert_eq!(contexts.tokens(), all.len());
                for number in 0..epochs {
                    let epoch = contexts.of_epoch(number);
                    let lengths = epoch.lengths();
                    let mut labels = Vec::new();
                    for (i, length) in lengths.iter().enumerate() {
                        let mut rows = TrainingRows::default();
                        epoch.push(i, &mut rows);
                        assert_eq!(rows.labels.len(), *length);
                        assert_eq!(rows.target.len(), *length);
                        assert!(rows.source.is_empty() && *length <= context);
                        for span in &rows.target.spans {
                            let read = &rows.target.ids[span.start..span.start + span.len];
                            let said = &rows.labels[span.start..span.start + span.len];
                            assert_eq!(read[1..], said[..span.len - 1]);
                            // Neighbours in one document.
                            let is_there = documents
                                .iter()
                                .any(|d| d.windows(2).any(|pair| pair == [read[0], said[0]]));
                            assert!(is_there);
                        }
                        labels.extend(rows.labels);
                    }
                    assert_eq!(labels, all);
                    let full = lengths.iter().filter(|length| **length == context).count();
                    assert!(full + 2 >= lengths.len());
                }
            }
        }
        let cuts = |number| {
            Contexts::new(&documents, 5, Some(7))
                .of_epoch(number)
                .lengths()
        };
        assert!((0..10).any(|number| cuts(number) != cuts(0)));
        assert!(
            Contexts::new(&[], 5, Some(1))
                .of_epoch(0)
                .lengths()
                .is_empty()
        );
    }
}
