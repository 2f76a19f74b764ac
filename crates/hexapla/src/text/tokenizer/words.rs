//! Which words of a text its tokens are part of.

use std::ops::Range;

use super::Tokenizer;
use crate::error::Result;

impl Tokenizer {
    /// For each of `ids` the words that it holds letters of, where `words` are those of the text in their order. `None` where
    /// the tokens have other letters than the words.
    ///
    /// # Errors
    /// An id beyond the vocabulary.
    pub fn words_of(&self, ids: &[u32], words: &[String]) -> Result<Option<Vec<Range<usize>>>> {
        let letters = |text: &str| text.chars().filter(|c| !c.is_whitespace()).count();
        // Where each word ends, in letters.
        let mut end = 0;
        let ends: Vec<usize> = words
            .iter()
            .map(|word| {
                end += letters(word);
                end
            })
            .collect();
        let mut found = Vec::with_capacity(ids.len());
        let mut before = 0;
        for i in 0..ids.len() {
            // A letter whose bytes are several tokens belongs to the last of them.
            let after = letters(&self.decode(&ids[..=i])?).clamp(before, end.max(before));
            let first = ends.partition_point(|end| *end <= before);
            let last = ends.partition_point(|end| *end < after);
            found.push(match after > before {
                true => first..(last + 1).min(words.len()),
                false => 0..0,
            });
            before = after;
        }
        Ok((letters(&self.decode(ids)?) == end).then_some(found))
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn tokens_know_their_words() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/demo");
        let tokenizers = crate::text::tokenizer::Tokenizers::open_folder(folder.as_path());
        let tokenizer = tokenizers.unwrap().source;
        for (text, words) in [
            ("The cat's unbelievable.", "The cat's unbelievable ."),
            (
                "我昨天在图书馆看见了你的哥哥。",
                "我 昨 天 在 图 书 馆 看 见 了 你 的 哥 哥 。",
            ),
            ("Fußballweltmeisterschaft!", "Fußballweltmeisterschaft !"),
        ] {
            let words: Vec<String> = words.split(' ').map(String::from).collect();
            let ids = tokenizer.encode(text).unwrap();
            let found = tokenizer.words_of(&ids, &words).unwrap().unwrap();
            assert_eq!(found.len(), ids.len());
            // In order, each word in some token, each token's letters in its words.
            let mut all: Vec<usize> = found.iter().cloned().flatten().collect();
            assert!(all.is_sorted());
            all.dedup();
            assert!(all.iter().copied().eq(0..words.len()), "{found:?}");
            for (id, range) in ids.iter().zip(&found) {
                let token = tokenizer.decode(&[*id]).unwrap();
                let joined = words[range.clone()].concat();
                assert!(joined.contains(token.trim()), "{token} {joined}");
            }
            assert_eq!(tokenizer.words_of(&ids, &words[1..]).unwrap(), None);
        }
        assert_eq!(tokenizer.words_of(&[], &[]).unwrap(), Some(Vec::new()));
    }
}
