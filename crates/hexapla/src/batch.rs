//! Sentences end to end in one run of rows, with no padding between them.

use crate::error::{Error, Result};

/// Where a sentence lies among the rows of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Its first row.
    pub start: usize,
    /// Its number of rows.
    pub len: usize,
}

/// The tokens of several sentences, end to end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rows {
    /// One id a row.
    pub ids: Vec<u32>,
    /// Each row's position in its sentence, from 0.
    pub positions: Vec<u32>,
    /// Each row's segment, such as that of the second text of a pair; rows beyond its end have 0.
    pub segments: Vec<u32>,
    /// One for each sentence, in order, covering all rows.
    pub spans: Vec<Span>,
}

impl Rows {
    /// Adds a sentence.
    pub fn push(&mut self, ids: impl IntoIterator<Item = u32>) {
        let start = self.ids.len();
        self.ids.extend(ids);
        let len = self.ids.len() - start;
        self.positions.extend(0..len as u32);
        self.spans.push(Span { start, len });
    }

    /// Adds what stands behind the first `known` tokens of a text.
    pub fn push_behind(&mut self, known: usize, ids: &[u32]) {
        let start = self.positions.len();
        self.push(ids[known..].iter().copied());
        for position in &mut self.positions[start..] {
            *position += known as u32;
        }
    }

    /// Adds a text whose tokens have segments; those beyond the end of `segments` have 0.
    pub fn push_with_segments(&mut self, ids: &[u32], segments: &[u32]) {
        if segments.iter().any(|segment| *segment != 0) {
            self.segments.resize(self.ids.len(), 0);
            self.segments.extend(segments.iter().take(ids.len()));
        }
        self.push(ids.iter().copied());
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// The same sentences in groups of at most `most` rows, or of a single longer sentence.
    pub fn groups(&self, most: usize) -> Vec<Rows> {
        let mut groups: Vec<Rows> = Vec::new();
        for span in &self.spans {
            let ids = self.ids[span.start..span.start + span.len].iter().copied();
            match groups.last_mut() {
                Some(group) if group.len() + span.len <= most => group.push(ids),
                _ => groups.push([ids.collect::<Vec<_>>()].iter().collect()),
            }
        }
        groups
    }

    /// Rows of the longest sentence.
    pub fn longest(&self) -> usize {
        self.spans.iter().map(|s| s.len).max().unwrap_or(0)
    }
}

impl<S: AsRef<[u32]>> FromIterator<S> for Rows {
    fn from_iter<I: IntoIterator<Item = S>>(sentences: I) -> Self {
        let mut rows = Rows::default();
        for sentence in sentences {
            rows.push(sentence.as_ref().iter().copied());
        }
        rows
    }
}

/// A sentence pair in ids, without special tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// Source ids.
    pub source: Vec<u32>,
    /// Target ids.
    pub target: Vec<u32>,
}

impl Pair {
    /// Tokens that the pair counts for in a batch: those of its longer side, one special token included.
    pub fn tokens(&self) -> usize {
        self.source.len().max(self.target.len()) + 1
    }
}

/// Examples of one part of a training batch: what is read, and what is to be said for each row.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrainingRows {
    /// What the encoder reads: source tokens and the end token. No rows where a decoder stands alone.
    pub source: Rows,
    /// What the decoder reads: the start token and the target tokens; alone: tokens of a text.
    pub target: Rows,
    /// What the decoder is to say, row by row: target tokens and the end token; alone: the tokens that follow.
    pub labels: Vec<u32>,
}

impl TrainingRows {
    /// Adds a pair of token sequences without special tokens.
    pub fn push(&mut self, source: &[u32], target: &[u32], decoder_start: u32, eos: u32) {
        self.source.push(source.iter().copied().chain([eos]));
        self.target
            .push([decoder_start].into_iter().chain(target.iter().copied()));
        self.labels.extend(target.iter().copied().chain([eos]));
    }

    /// Adds a piece of a text: `ids`, of which each but the first is to be said behind those before it.
    pub fn push_text(&mut self, ids: &[u32]) {
        let read = ids.len().saturating_sub(1);
        self.target.push(ids[..read].iter().copied());
        self.labels.extend(&ids[ids.len() - read..]);
    }
}

/// Sentences of like length together, at most `batch_tokens` tokens a batch (a longer sentence is alone).
pub fn batches(lengths: impl Iterator<Item = usize>, batch_tokens: usize) -> Vec<Vec<usize>> {
    let mut order: Vec<(usize, usize)> = lengths.enumerate().map(|(i, len)| (len, i)).collect();
    // The longest first, so that no long batch is left for one thread at the end.
    order.sort_by(|a, b| b.cmp(a));
    let mut batches: Vec<Vec<usize>> = Vec::new();
    let mut room = 0;
    for (len, i) in order {
        match batches.last_mut() {
            Some(batch) if len <= room => {
                batch.push(i);
                room -= len;
            }
            _ => {
                batches.push(vec![i]);
                room = batch_tokens.saturating_sub(len);
            }
        }
    }
    batches
}

/// Puts the results of batches in the order of the sentences.
pub fn in_order<T>(n: usize, batches: &[Vec<usize>], results: Vec<Vec<T>>) -> Vec<T> {
    let mut all: Vec<(usize, T)> = Vec::with_capacity(n);
    for (batch, results) in batches.iter().zip(results) {
        all.extend(batch.iter().copied().zip(results));
    }
    all.sort_by_key(|(i, _)| *i);
    all.into_iter().map(|(_, result)| result).collect()
}

/// Refuses ids that a vocabulary of `vocab_size` has no row for.
///
/// # Errors
/// Names the first of them.
pub fn check_ids(ids: &[u32], vocab_size: usize) -> Result<()> {
    match ids.iter().find(|id| **id as usize >= vocab_size) {
        None => Ok(()),
        Some(id) => Err(Error::input("a token id is out of range")
            .expected(format!("below {vocab_size}, the vocabulary's size"))
            .found(id.to_string())
            .hint("use the tokenizer that belongs to this model")),
    }
}

/// Refuses a sentence without tokens, or with more than a model of `positions` takes.
///
/// # Errors
/// Names both lengths.
pub fn check_length(tokens: usize, positions: usize) -> Result<()> {
    match (1..=positions).contains(&tokens) {
        true => Ok(()),
        false => Err(
            Error::input("a sentence has a length that the model cannot take")
                .expected(format!("1 to {positions} tokens"))
                .found(format!("{tokens} tokens"))
                .hint("leave out what is empty, and cut what is longer into sentences"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_lie_end_to_end() {
        let rows: Rows = [vec![5, 6], vec![], vec![7]].iter().collect();
        assert_eq!(rows.ids, [5, 6, 7]);
        assert_eq!(rows.positions, [0, 1, 0]);
        assert_eq!(rows.spans[2], Span { start: 2, len: 1 });
        assert_eq!(rows.longest(), 2);
    }

    #[test]
    fn groups_keep_the_sentences_whole_and_in_order() {
        let sentences = [
            vec![1, 2, 3],
            vec![4],
            vec![5, 6, 7, 8, 9],
            vec![],
            vec![10],
        ];
        let rows: Rows = sentences.iter().collect();
        let groups = rows.groups(4);
        let ids: Vec<&[u32]> = groups.iter().map(|g| g.ids.as_slice()).collect();
        assert_eq!(ids, [&[1, 2, 3, 4][..], &[5, 6, 7, 8, 9], &[10]]);
        assert_eq!(groups[2].spans.len(), 2);
    }

    #[test]
    fn the_decoder_reads_its_labels_one_step_late() {
        let mut pair = TrainingRows::default();
        pair.push(&[5, 6], &[7, 8, 9], 1, 2);
        assert_eq!(pair.source.ids, [5, 6, 2]);
        assert_eq!(pair.target.ids, [1, 7, 8, 9]);
        assert_eq!(pair.labels, [7, 8, 9, 2]);
    }
}
