//! The library's beam search over a model of one's own: letters that follow each other, counted in a text.
//!
//! `cargo run --release -p hexapla --example own_search -- README.md th`
//!
//! prints the five likeliest words that begin with `th`.

use std::collections::BTreeMap;
use std::ops::Range;

use hexapla::generate::{Buffer, SearchInput, StepDecoder, search};
use hexapla::{Hypothesis, Result, SearchOptions};

/// Between two words. It starts and ends each.
const SPACE: u32 = 0;

/// How often each letter follows each pair of letters.
struct Counts {
    /// The letters, each with its id; that of the space is 0.
    letters: Vec<char>,
    next: BTreeMap<(u32, u32), Vec<f32>>,
}

impl Counts {
    fn of(text: &str) -> Self {
        let mut letters: Vec<char> = text.chars().filter(|c| c.is_alphabetic()).collect();
        letters.sort_unstable();
        letters.dedup();
        letters.insert(SPACE as usize, ' ');
        let mut counts = Counts {
            letters,
            next: BTreeMap::new(),
        };
        for word in text.split(|c: char| !c.is_alphabetic()) {
            let mut before = (SPACE, SPACE);
            for letter in word.chars().chain([' ']) {
                let id = counts.id(letter);
                let vocab = counts.letters.len();
                let row = counts
                    .next
                    .entry(before)
                    .or_insert_with(|| vec![0.0; vocab]);
                row[id as usize] += 1.0;
                before = (before.1, id);
            }
        }
        counts
    }

    fn id(&self, letter: char) -> u32 {
        let found = self.letters.iter().position(|known| *known == letter);
        found.map_or(SPACE, |id| id as u32)
    }
}

/// Words under way: of each the last two letters are enough.
struct Words<'a> {
    counts: &'a Counts,
    live: Vec<(u32, u32)>,
}

impl StepDecoder for Words<'_> {
    fn vocab_size(&self) -> usize {
        self.counts.letters.len()
    }

    fn step(&mut self, tokens: &[u32]) -> Result<()> {
        for (last, token) in self.live.iter_mut().zip(tokens) {
            *last = (last.1, *token);
        }
        Ok(())
    }

    fn logits(&mut self, hypotheses: Range<usize>, logits: &mut Buffer) -> Result<()> {
        let vocab = self.vocab_size();
        logits.resize(hypotheses.len() * vocab);
        for (row, last) in logits.chunks_exact_mut(vocab).zip(&self.live[hypotheses]) {
            match self.counts.next.get(last) {
                // A letter that was never seen there stays possible, for a prefix may force it.
                Some(counts) => (0..vocab).for_each(|i| row[i] = (counts[i] + 1e-6).ln()),
                None => row.fill(0.0),
            }
        }
        Ok(())
    }

    fn reorder(&mut self, parents: &[usize]) {
        self.live = parents.iter().map(|parent| self.live[*parent]).collect();
    }

    fn attention(&self) -> Option<Vec<Vec<f32>>> {
        None
    }
}

/// The `count` likeliest words that begin with `start`, each with its log-probability given that start.
fn likeliest(counts: &Counts, start: &str, count: usize) -> Result<Vec<(String, f32)>> {
    let mut words = Words {
        counts,
        live: vec![(SPACE, SPACE)],
    };
    let input = SearchInput {
        prompt: Vec::new(),
        prefix: start.chars().map(|letter| counts.id(letter)).collect(),
        max_length: 20,
        seed_index: 0,
    };
    let options = SearchOptions {
        beam_size: 4 * count,
        n_best: count,
        // A word's score is its log-probability, however long it is.
        length_penalty: 0.0,
        ..SearchOptions::new(SPACE, SPACE)
    };
    let found = search(&mut words, &[input], &options)?;
    let text = |h: &Hypothesis| {
        h.tokens()
            .iter()
            .map(|id| counts.letters[*id as usize])
            .collect()
    };
    Ok(found[0].iter().map(|h| (text(h), h.log_prob)).collect())
}

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [file, start] = arguments.as_slice() else {
        return Err("usage: own_search FILE START".into());
    };
    let counts = Counts::of(&std::fs::read_to_string(file)?);
    for (word, log_prob) in likeliest(&counts, start, 5)? {
        println!("{word}\t{log_prob:.3}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commonest_word_comes_first() {
        let counts = Counts::of("the then the that the then");
        let found = likeliest(&counts, "th", 2).unwrap();
        // After `th` comes `e` five times of six, and after `he` the end three times of five.
        assert_eq!(found[0].0, "the");
        assert!(
            (found[0].1 - (5.0f32 / 6.0 * 3.0 / 5.0).ln()).abs() < 1e-3,
            "{found:?}"
        );
        assert_eq!(found[1].0, "then");
    }
}
