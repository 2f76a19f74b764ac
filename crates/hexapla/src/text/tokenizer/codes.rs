//! Merges learned by subword-nmt (`#version: 0.2`): `</w>` ends a word, and pieces that go on are shown with `@@`.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::Path;

use super::alphabet::WordCounts;
use crate::error::{Error, Result};
use crate::text::corpus::read_lines;

/// Ends a word inside the vocabulary.
pub(super) const END_OF_WORD: &str = "</w>";
/// Ends a piece that is joined to the next, in text.
pub(super) const JOINER: &str = "@@";

/// `text` with its pieces joined: `brea@@ king` becomes `breaking`.
pub fn join_pieces(text: &str) -> String {
    text.replace(&format!("{JOINER} "), "")
}

/// Reads the merges of the file `path` in order; of a pair that stands there twice the first counts.
pub(super) fn read(path: &Path) -> Result<Vec<(String, String)>> {
    let mut merges = Vec::new();
    let mut seen = HashSet::new();
    for (number, line) in read_lines(path)?.into_iter().enumerate() {
        let refuse = |expected: &str| {
            Err(Error::input("cannot read subword-nmt merges")
                .at(format!("{}, line {}", path.display(), number + 1))
                .expected(expected)
                .found(format!("`{}`", line.chars().take(60).collect::<String>()))
                .hint("`subword-nmt learn-bpe` writes such files"))
        };
        if number == 0 {
            if line.trim_end() != "#version: 0.2" {
                return refuse("the header `#version: 0.2`");
            }
            continue;
        }
        let line = line.trim_end_matches(' ');
        let Some((left, right)) = line.split_once(' ') else {
            return refuse("two pieces with a space between them");
        };
        if left.is_empty() || right.is_empty() || right.contains(' ') {
            return refuse("two pieces with a space between them");
        }
        let pair = (left.to_string(), right.to_string());
        if seen.insert(pair.clone()) {
            merges.push(pair);
        }
    }
    Ok(merges)
}

/// The vocabulary that the merges need, without special tokens: every character, inside a word and at its end, of the merges
/// and of the training text, then what the merges make.
pub(super) fn vocabulary(merges: &[(String, String)], words: &WordCounts) -> Vec<String> {
    let mut first = BTreeSet::new();
    let mut add = |c: char| {
        first.insert(c.to_string());
        first.insert(format!("{c}{END_OF_WORD}"));
    };
    for (left, right) in merges {
        left.chars().for_each(&mut add);
        right
            .strip_suffix(END_OF_WORD)
            .unwrap_or(right)
            .chars()
            .for_each(&mut add);
    }
    words
        .iter()
        .flat_map(|(word, _)| word.chars())
        .for_each(&mut add);
    let mut known: HashMap<String, ()> = HashMap::new();
    let mut vocabulary = Vec::new();
    let made = merges.iter().map(|(left, right)| format!("{left}{right}"));
    // A merge's own sides come first: a file may use a piece that none of its merges makes.
    let sides = merges
        .iter()
        .flat_map(|(left, right)| [left.clone(), right.clone()]);
    for token in first.into_iter().chain(made).chain(sides) {
        if known.insert(token.clone(), ()).is_none() {
            vocabulary.push(token);
        }
    }
    vocabulary
}
