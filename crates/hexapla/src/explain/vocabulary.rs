//! Pieces among the vocabulary: how many entries share them.

use std::collections::BTreeMap;

use serde::Serialize;

/// Signs by which tokenizers tell where a word begins or goes on; they are no part of its text.
const SIGNS: [&str; 3] = ["▁", "Ġ", "##"];

/// The pieces of a text among all others.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct VocabularyUse {
    /// Entries of the vocabulary.
    pub size: usize,
    /// By the piece: how many other entries contain its text, and the shortest three of them.
    pub shared: BTreeMap<u32, (usize, Vec<String>)>,
}

/// A piece without the sign of its place in a word.
pub(super) fn without_sign(piece: &str) -> &str {
    SIGNS
        .iter()
        .find_map(|sign| piece.strip_prefix(sign))
        .unwrap_or(piece)
}

/// Looks for the text of each of `pieces` in all `entries`.
pub(super) fn vocabulary_use(
    entries: impl Iterator<Item = String>,
    pieces: &[(u32, String)],
) -> VocabularyUse {
    let entries: Vec<String> = entries.collect();
    let of = |(id, piece): &(u32, String)| {
        let text = without_sign(piece);
        if text.is_empty() {
            return None;
        }
        let mut sharing: Vec<&String> = entries
            .iter()
            .filter(|entry| entry.contains(text) && without_sign(entry) != text)
            .collect();
        let count = sharing.len();
        sharing.sort_by_key(|entry| (entry.chars().count(), entry.as_str()));
        let examples = sharing.into_iter().take(3).cloned().collect();
        Some((*id, (count, examples)))
    };
    VocabularyUse {
        shared: pieces.iter().filter_map(of).collect(),
        size: entries.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sign_of_a_word_is_no_part_of_its_text() {
        let entries = ["▁un", "happy", "▁happy", "▁unhappy", "##happy", "x"];
        let pieces = [(2, "▁happy".to_string()), (5, "x".into()), (0, "▁".into())];
        let found = vocabulary_use(entries.into_iter().map(String::from), &pieces);
        assert_eq!(found.size, 6);
        assert_eq!(found.shared[&2], (1, vec!["▁unhappy".to_string()]));
        assert_eq!(found.shared[&5], (0, vec![]));
        assert!(!found.shared.contains_key(&0));
    }
}
