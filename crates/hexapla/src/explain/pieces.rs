//! Pieces as people can read them: byte-level BPE writes each byte as a character of its own.

use std::collections::BTreeMap;
use std::fmt::Write;

/// How the pieces of a vocabulary are read.
#[derive(Debug)]
pub(super) struct Pieces {
    /// The byte of each character, where the vocabulary is one of bytes.
    bytes: Option<BTreeMap<char, u8>>,
}

impl Pieces {
    /// Of a vocabulary; it is one of bytes if it has their characters, and none of the signs of others.
    pub(super) fn of(has: impl Fn(&str) -> bool) -> Self {
        let is_of_bytes = ["Ġ", "Ã"].iter().all(|c| has(c)) && !has("▁") && !has("##s");
        Pieces {
            bytes: is_of_bytes.then(byte_characters),
        }
    }

    /// Whole characters as they are, a space as `Ġ`, and bytes that are none as `<0xE4>`.
    pub(super) fn readable(&self, piece: String) -> String {
        let Some(bytes) = &self.bytes else {
            return piece;
        };
        let all: Option<Vec<u8>> = piece.chars().map(|c| bytes.get(&c).copied()).collect();
        // A special token is text already.
        let Some(all) = all else {
            return piece;
        };
        let mut text = String::with_capacity(all.len());
        for chunk in all.utf8_chunks() {
            text.push_str(&chunk.valid().replace(' ', "Ġ"));
            for byte in chunk.invalid() {
                // Writing to a text cannot fail.
                let _ = write!(text, "<0x{byte:02X}>");
            }
        }
        text
    }
}

/// GPT-2's: a byte that can be seen stands for itself, the others follow from U+0100 on.
fn byte_characters() -> BTreeMap<char, u8> {
    let is_itself = |byte: u8| matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    let others = (0..=u8::MAX).filter(|byte| !is_itself(*byte));
    let others = ('\u{100}'..).zip(others);
    let themselves = (0..=u8::MAX).filter(|byte| is_itself(*byte));
    themselves
        .map(|byte| (char::from(byte), byte))
        .chain(others)
        .collect()
}

#[cfg(test)]
mod tests {
    use tokenizers::pre_tokenizers::byte_level::ByteLevel;

    use super::*;

    #[test]
    fn bytes_become_characters_where_they_are_whole() {
        let alphabet = ByteLevel::alphabet();
        let has = |token: &str| {
            let mut characters = token.chars();
            characters.all(|c| alphabet.contains(&c)) && token.chars().count() == 1
        };
        let pieces = Pieces::of(has);
        for (piece, readable) in [
            ("Ġbrother", "Ġbrother"),
            ("ä½łå¥½", "你好"),
            ("Ġä½", "Ġ<0xE4><0xBD>"),
            ("łå¥½", "<0xA0>好"),
            ("Ċ", "\n"),
            ("<|endoftext|>", "<|endoftext|>"),
            ("", ""),
        ] {
            assert_eq!(pieces.readable(piece.into()), readable, "{piece}");
        }
        // Of another vocabulary nothing is changed.
        let plain = Pieces::of(|token| token == "▁" || has(token));
        assert_eq!(plain.readable("ä½".into()), "ä½");
    }
}
