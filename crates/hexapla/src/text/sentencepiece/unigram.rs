//! The most probable way to cut a text (Kudo 2018, section 3.2).

use super::Vocabulary;
use super::proto::Kind;

/// What an unknown character costs beyond the least probable piece.
const UNKNOWN_PENALTY: f32 = 10.0;

/// The best way that ends at a place.
#[derive(Clone, Copy)]
struct Node {
    id: u32,
    score: f32,
    /// Where its last piece begins; none where no way ends here.
    start: Option<usize>,
}

/// The pieces of `text` with their numbers.
pub(super) fn cut<'a>(vocabulary: &Vocabulary, text: &'a str) -> Vec<(&'a str, u32)> {
    let unknown_score = vocabulary.smallest - UNKNOWN_PENALTY;
    let none = Node {
        id: vocabulary.unknown,
        score: 0.0,
        start: None,
    };
    let mut ends = vec![none; text.len() + 1];
    for (start, character) in text.char_indices() {
        let so_far = ends[start].score;
        let mut is_known = false;
        vocabulary
            .prefixes
            .each(&text.as_bytes()[start..], |len, id| {
                let entry = vocabulary.entry(id);
                // Sums in f64, kept in f32, as that program adds them.
                let score = match entry.kind {
                    Kind::Unused => return,
                    Kind::User => f64::from(len as f32 * vocabulary.greatest) - 0.1,
                    _ => f64::from(entry.score),
                };
                let score = score + f64::from(so_far);
                let end = &mut ends[start + len];
                if end.start.is_none() || score > f64::from(end.score) {
                    *end = Node {
                        id,
                        score: score as f32,
                        start: Some(start),
                    };
                }
                is_known |= len == character.len_utf8();
            });
        if !is_known {
            let score = unknown_score + so_far;
            let end = &mut ends[start + character.len_utf8()];
            if end.start.is_none() || score > end.score {
                *end = Node {
                    id: vocabulary.unknown,
                    score,
                    start: Some(start),
                };
            }
        }
    }
    let mut pieces = Vec::new();
    let mut end = text.len();
    while let Some(start) = ends[end].start {
        pieces.push((&text[start..end], ends[end].id));
        end = start;
    }
    pieces.reverse();
    pieces
}
