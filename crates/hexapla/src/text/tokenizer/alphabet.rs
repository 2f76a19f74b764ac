//! The words of a corpus, how often each occurs, and the characters that get a piece of their own.

use std::collections::HashMap;

use rayon::prelude::*;
use tokenizers::{OffsetReferential, OffsetType, PreTokenizer};

use super::guarded;
use crate::error::Result;
use crate::text::clean::clean;
use crate::text::script::{is_han, is_spaceless};

/// Texts that are counted at a time, and bytes of them: bounds memory, and keeps all threads busy.
const CHUNK: usize = 8192;
const CHUNK_BYTES: usize = 4 << 20;
/// A longer word is learned from in parts; lattices and merges over it would grow without a use.
const MAX_WORD_CHARS: usize = 200;
/// A longer word is none, and is not learned from: base64, a sequence of genes, a log without spaces. Letters of scripts that are
/// written without spaces do not count.
const LONGEST_WORD_CHARS: usize = 500;

/// Distinct words with their counts, ordered by the word.
pub(super) type WordCounts = Vec<(String, u64)>;

/// Cleans, normalises and cuts `texts` as `tokenizer` does before its model runs, and counts the words. Gives the number of
/// words besides that are longer than any word, and left out.
pub(super) fn count_words<S: AsRef<str>>(
    tokenizer: &tokenizers::Tokenizer,
    texts: impl IntoIterator<Item = S>,
) -> Result<(WordCounts, usize)> {
    let mut counts: HashMap<String, u64> = HashMap::new();
    let mut left_out = 0;
    let mut texts = texts.into_iter();
    loop {
        let (mut chunk, mut bytes) = (Vec::new(), 0);
        while chunk.len() < CHUNK && bytes < CHUNK_BYTES {
            let Some(text) = texts.next() else { break };
            bytes += text.as_ref().len();
            chunk.push(clean(text.as_ref()).into_owned());
        }
        if chunk.is_empty() {
            break;
        }
        let words: Vec<Vec<Option<String>>> = chunk
            .par_iter()
            .map(|text| words(tokenizer, text))
            .collect::<Result<_>>()?;
        for word in words.into_iter().flatten() {
            match word {
                Some(word) => *counts.entry(word).or_default() += 1,
                None => left_out += 1,
            }
        }
    }
    let mut counts: WordCounts = counts.into_iter().collect();
    counts.sort_unstable();
    Ok((counts, left_out))
}

/// The characters of `texts` as they are, each a word.
pub(super) fn count_characters<S: AsRef<str>>(texts: impl IntoIterator<Item = S>) -> WordCounts {
    let mut counts: HashMap<char, u64> = HashMap::new();
    for text in texts {
        text.as_ref()
            .chars()
            .for_each(|c| *counts.entry(c).or_default() += 1);
    }
    let counts = counts.into_iter();
    let mut counts: WordCounts = counts.map(|(c, n)| (c.to_string(), n)).collect();
    counts.sort_unstable();
    counts
}

/// The words of `text`; none for one that is longer than any.
fn words(tokenizer: &tokenizers::Tokenizer, text: &str) -> Result<Vec<Option<String>>> {
    guarded("cannot cut the training text", || {
        let mut cut = tokenizer
            .get_added_vocabulary()
            .extract_and_normalize(tokenizer.get_normalizer(), text);
        if let Some(pre_tokenizer) = tokenizer.get_pre_tokenizer() {
            pre_tokenizer.pre_tokenize(&mut cut)?;
        }
        let splits = cut.get_splits(OffsetReferential::Original, OffsetType::Byte);
        let plain = splits
            .into_iter()
            .filter(|(word, _, tokens)| tokens.is_none() && !word.is_empty());
        let learnable = |(word, (start, end), _): (&str, (usize, usize), _)| {
            // The text's own letters: byte by byte they are others.
            let own = text.get(start..end).unwrap_or(word);
            let letters = own.chars().filter(|c| !is_han(*c) && !is_spaceless(*c));
            (letters.count() <= LONGEST_WORD_CHARS).then(|| word.to_string())
        };
        Ok(plain.map(learnable).collect())
    })
}

/// The characters of a corpus that get a piece of their own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Alphabet {
    /// In the order of their code points.
    pub(super) chars: Vec<char>,
    /// Distinct characters in the corpus.
    pub(super) seen: usize,
    /// Whether room, not coverage, set the limit.
    pub(super) cut_short: bool,
}

impl Alphabet {
    /// The commonest characters that together make up the share `coverage` of the text, at most `limit` of them.
    pub(super) fn of(words: &WordCounts, coverage: f64, limit: usize) -> Self {
        let mut counts: HashMap<char, u64> = HashMap::new();
        for (word, count) in words {
            for c in word.chars() {
                *counts.entry(c).or_default() += count;
            }
        }
        let total: u64 = counts.values().sum();
        let mut by_count: Vec<(char, u64)> = counts.into_iter().collect();
        by_count.sort_unstable_by_key(|&(c, count)| (std::cmp::Reverse(count), c));
        let mut chars = Vec::new();
        let mut covered = 0;
        for &(c, count) in &by_count {
            if covered as f64 >= coverage * total as f64 {
                break;
            }
            chars.push(c);
            covered += count;
        }
        let cut_short = chars.len() > limit;
        chars.truncate(limit);
        chars.sort_unstable();
        Alphabet {
            chars,
            seen: by_count.len(),
            cut_short,
        }
    }

    /// The parts of `words` that lie within the alphabet.
    pub(super) fn restrict(&self, words: &WordCounts) -> WordCounts {
        let mut parts: HashMap<String, u64> = HashMap::new();
        for (word, count) in words {
            for run in word.split(|c| self.chars.binary_search(&c).is_err()) {
                let chars: Vec<char> = run.chars().collect();
                for part in chars.chunks(MAX_WORD_CHARS) {
                    *parts.entry(part.iter().collect()).or_default() += count;
                }
            }
        }
        let mut parts: WordCounts = parts.into_iter().collect();
        parts.sort_unstable();
        parts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coverage_leaves_the_rarest_characters_out() {
        let words = vec![("aab".to_string(), 10), ("z".to_string(), 1)];
        let all = Alphabet::of(&words, 1.0, 100);
        assert_eq!(
            (all.chars, all.seen, all.cut_short),
            (vec!['a', 'b', 'z'], 3, false)
        );
        assert_eq!(Alphabet::of(&words, 0.95, 100).chars, ['a', 'b']);
        let short = Alphabet::of(&words, 1.0, 1);
        assert_eq!((short.chars, short.cut_short), (vec!['a'], true));
    }

    #[test]
    fn words_are_cut_where_a_character_is_left_out() {
        let words = vec![("aazb".to_string(), 2), ("aa".to_string(), 1)];
        let alphabet = Alphabet {
            chars: vec!['a', 'b'],
            seen: 3,
            cut_short: false,
        };
        assert_eq!(
            alphabet.restrict(&words),
            [("aa".to_string(), 3), ("b".to_string(), 2)]
        );
    }
}
