//! The unigram language model (Kudo 2018): expectation maximisation over a shrinking set of pieces.

use std::collections::HashSet;

use tokenizers::models::unigram::{Unigram, UnigramTrainer};

use super::alphabet::WordCounts;
use super::guarded;
use crate::error::{Error, Result};

/// The trainer gives characters that lost all their weight scores this far apart, in random order.
const RARE_STEP: f64 = 1e-4;

/// The pieces with their scores (log-probabilities), best first; at most `room`, every character of `words` among them.
///
/// The same words give the same pieces: one thread, so that sums keep their order, words in order, and one score for the
/// rarest characters, which the trainer takes from a hash table of random order.
pub(super) fn learn(
    words: &WordCounts,
    room: usize,
    max_chars: usize,
    reserved: &HashSet<String>,
) -> Result<Vec<(String, f64)>> {
    let chars: HashSet<char> = words.iter().flat_map(|(word, _)| word.chars()).collect();
    let sentinel = unused_char(&chars).ok_or_else(|| {
        Error::input("cannot train the tokenizer").found("text that uses every private character")
    })?;
    // Pieces that hold the sentinel are thrown away afterwards: room for them.
    let trainer = UnigramTrainer::builder()
        .show_progress(false)
        .vocab_size(u32::try_from(room + room / 16 + 2).unwrap_or(u32::MAX))
        .max_piece_length(max_chars)
        .build()
        .map_err(|e| Error::input("cannot train the tokenizer").found(e.to_string()))?;
    let mut model = Unigram::default();
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(1)
        .build()
        .map_err(|e| Error::input("cannot train the tokenizer").found(e.to_string()))?;
    let entries = entries(words, sentinel);
    pool.install(|| {
        guarded("cannot train the tokenizer", || {
            trainer.do_train(entries, &mut model)
        })
    })?;
    let kept = || {
        let usable = |piece: &str| !piece.contains(sentinel) && !reserved.contains(piece);
        model.iter().filter(move |(piece, _)| usable(piece))
    };
    let lowest = kept()
        .map(|(_, score)| *score)
        .fold(f64::INFINITY, f64::min);
    let rare = lowest + RARE_STEP * (chars.len() + 1) as f64;
    let mut pieces: Vec<(String, f64)> = Vec::new();
    for (piece, score) in kept() {
        let score = if is_char(piece) && *score <= rare {
            lowest
        } else {
            *score
        };
        // Six decimals are read back from JSON exactly, by every reader.
        pieces.push((piece.clone(), (score * 1e6).round() / 1e6));
    }
    // Characters first, for none of them may be cut off; then the best.
    pieces.sort_by(|a, b| {
        let order = is_char(&b.0).cmp(&is_char(&a.0)).then(b.1.total_cmp(&a.1));
        order.then_with(|| a.0.cmp(&b.0))
    });
    pieces.truncate(room);
    pieces.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    Ok(pieces)
}

fn is_char(piece: &str) -> bool {
    piece.chars().nth(1).is_none()
}

/// The words as the trainer takes them. Counts are scaled for their sum to fit its 32 bits.
///
/// The trainer's candidates are substrings that go on in two ways (inner nodes of a suffix tree). A word that is the start of
/// no other, such as `▁einem`, always goes on with the end of its entry, and would never become a piece however frequent it
/// is. So a frequent word is entered once more with `sentinel` after it.
fn entries(words: &WordCounts, sentinel: char) -> Vec<(String, u32)> {
    let total: u64 = words.iter().map(|(_, count)| count).sum();
    let divisor = total / u64::from(u32::MAX / 2) + 1;
    let mut entries = Vec::with_capacity(2 * words.len());
    for (word, count) in words {
        let count = u32::try_from(count / divisor).unwrap_or(u32::MAX).max(1);
        if count > 1 && !word.is_empty() {
            entries.push((format!("{word}{sentinel}"), 1));
        }
        entries.push((word.clone(), count - u32::from(count > 1)));
    }
    entries
}

/// The last characters of Unicode are for private use; one that no word holds is found at once.
fn unused_char(chars: &HashSet<char>) -> Option<char> {
    ('\u{100000}'..='\u{10FFFD}')
        .rev()
        .find(|c| !chars.contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frequent_words_become_pieces_though_they_start_no_other() {
        let words = [
            ("▁eine", 90),
            ("▁einem", 500),
            ("▁einer", 300),
            ("▁dem", 400),
            ("▁der", 900),
            ("▁rot", 2),
        ];
        let words: WordCounts = words
            .iter()
            .map(|(word, count)| (word.to_string(), *count))
            .collect();
        let pieces = learn(&words, 20, 16, &HashSet::new()).unwrap();
        assert!(pieces.len() <= 20);
        let has = |piece: &str| pieces.iter().any(|(known, _)| known == piece);
        for piece in ["▁einem", "▁einer", "▁der", "▁dem", "▁", "t"] {
            assert!(has(piece), "{piece}: {pieces:?}");
        }
        assert!(
            pieces
                .iter()
                .all(|(piece, _)| piece.chars().all(|c| c < '\u{E000}'))
        );
    }
}
