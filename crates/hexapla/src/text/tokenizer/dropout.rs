//! BPE-dropout (Provilkov, Emelianenko and Voita 2020): the same text, cut differently each time.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};

use serde_json::Value;

use super::Tokenizer;
use crate::error::{Error, Result};
use crate::random::SplitMix;

/// The merges of a BPE tokenizer, by id.
#[derive(Debug)]
pub struct BpeDropout {
    /// Rank and result of each pair that merges; the lowest rank comes first.
    merges: HashMap<(u32, u32), (u32, u32)>,
    /// What a piece was merged from.
    parts: HashMap<u32, (u32, u32)>,
}

impl Tokenizer {
    /// The merges of this tokenizer.
    ///
    /// # Errors
    /// It is of another kind.
    pub fn bpe_dropout(&self) -> Result<BpeDropout> {
        let broken = |found: &str| {
            Error::settings("this tokenizer has no merges to leave out")
                .at("training.bpe_dropout")
                .expected("byte-pair encoding")
                .found(found)
                .hint("set `kind = \"bpe\"` in [tokenizer], or leave `bpe_dropout` out")
        };
        let json: Value =
            serde_json::from_str(&self.json).map_err(|e| broken(&format!("no JSON: {e}")))?;
        let model = &json["model"];
        let merges = model["merges"].as_array();
        let (Some("BPE"), Some(merges)) = (model["type"].as_str(), merges) else {
            let kind = model["type"].as_str().unwrap_or("no type");
            return Err(broken(kind));
        };
        let prefix = model["continuing_subword_prefix"].as_str().unwrap_or("");
        let mut dropout = BpeDropout {
            merges: HashMap::with_capacity(merges.len()),
            parts: HashMap::with_capacity(merges.len()),
        };
        // What was a part of something is not taken apart by a later merge: so no broken file makes a circle.
        let mut used = HashSet::new();
        for (rank, merge) in merges.iter().enumerate() {
            let pair = match merge {
                Value::Array(pair) => pair
                    .first()
                    .and_then(Value::as_str)
                    .zip(pair.get(1).and_then(Value::as_str)),
                merge => merge.as_str().and_then(|text| text.split_once(' ')),
            };
            let id = |token: &str| {
                model["vocab"][token]
                    .as_u64()
                    .and_then(|id| u32::try_from(id).ok())
            };
            let ids = pair.and_then(|(left, right)| {
                let whole = format!("{left}{}", right.strip_prefix(prefix).unwrap_or(right));
                Some((id(left)?, id(right)?, id(&whole)?))
            });
            let (left, right, whole) =
                ids.ok_or_else(|| broken(&format!("a merge beyond its vocabulary: {merge}")))?;
            dropout
                .merges
                .entry((left, right))
                .or_insert((rank as u32, whole));
            used.extend([left, right]);
            if !used.contains(&whole) {
                dropout.parts.entry(whole).or_insert((left, right));
            }
        }
        Ok(dropout)
    }
}

impl BpeDropout {
    /// Cuts anew what the tokenizer cut into `ids`: back to characters, and together again by the merges in their order,
    /// but each time that one could be made it is passed over with probability `p` (section 3, algorithm 1).
    ///
    /// With `p` 0 the ids come back, with 1 the characters.
    pub fn cut(&self, ids: &[u32], p: f32, random: &mut SplitMix) -> Vec<u32> {
        let mut pieces = self.characters(ids);
        let end = pieces.len();
        // The piece at i has its neighbours at `before[i]` and `after[i]`; one that was merged away is gone.
        let mut before: Vec<usize> = (0..end).map(|i| i.wrapping_sub(1)).collect();
        let mut after: Vec<usize> = (1..=end).collect();
        let mut gone = vec![false; end];
        let candidate = |pieces: &[u32], left: usize, right: usize| {
            let pair = (pieces[left], pieces[right]);
            let (rank, whole) = *self.merges.get(&pair)?;
            Some(Reverse((rank, left, pair, whole)))
        };
        let mut candidates: BinaryHeap<_> = (1..end)
            .filter_map(|right| candidate(&pieces, right - 1, right))
            .collect();
        let mut passed = Vec::new();
        while let Some(Reverse(merge)) = candidates.pop() {
            let (_, left, pair, whole) = merge;
            let right = after[left];
            if gone[left] || right == end || (pieces[left], pieces[right]) != pair {
                continue;
            }
            if random.uniform() < p {
                passed.push(Reverse(merge));
                continue;
            }
            candidates.extend(passed.drain(..));
            pieces[left] = whole;
            gone[right] = true;
            after[left] = after[right];
            if after[left] < end {
                before[after[left]] = left;
                candidates.extend(candidate(&pieces, left, after[left]));
            }
            if before[left] < end {
                candidates.extend(candidate(&pieces, before[left], left));
            }
        }
        let kept = pieces.into_iter().zip(gone);
        kept.filter_map(|(piece, gone)| (!gone).then_some(piece))
            .collect()
    }

    /// Every merge undone.
    fn characters(&self, ids: &[u32]) -> Vec<u32> {
        let mut characters = Vec::with_capacity(4 * ids.len());
        let mut rest: Vec<u32> = ids.iter().rev().copied().collect();
        while let Some(id) = rest.pop() {
            match self.parts.get(&id) {
                Some((left, right)) => rest.extend([right, left]),
                None => characters.push(id),
            }
        }
        characters
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{TokenizerKind, TokenizerTable};

    const TEXTS: [&str; 5] = [
        "the lower the newer the wider (the lowest, the newest and the widest)!",
        "low lower lowest new newer newest wide wider widest",
        "was? wer? wo?! „das\" ist's 1999, 2000 und 2001.",
        "北京是首都。 天津不是首都。",
        "the new and the low",
    ];

    fn tokenizer(kind: TokenizerKind, vocab_size: usize) -> Tokenizer {
        let table = TokenizerTable {
            kind,
            vocab_size,
            ..TokenizerTable::default()
        };
        Tokenizer::train(&table, TEXTS.iter().flat_map(|t| [*t; 3])).unwrap()
    }

    #[test]
    fn without_dropout_the_tokens_are_the_tokenizers_and_with_it_the_text_stays() {
        for (kind, size) in [(TokenizerKind::Bpe, 400), (TokenizerKind::ByteBpe, 330)] {
            let tokenizer = tokenizer(kind, size);
            let dropout = tokenizer.bpe_dropout().unwrap();
            assert!(!dropout.merges.is_empty());
            let mut random = SplitMix(3);
            let mut lengths = [0; 4];
            for text in TEXTS.iter().chain(&["never seen: ü, 天, wow (1)"]) {
                let ids = tokenizer.encode(text).unwrap();
                assert_eq!(dropout.cut(&ids, 0.0, &mut random), ids, "{text}");
                for (length, p) in lengths.iter_mut().zip([0.0, 0.1, 0.5, 1.0]) {
                    for _ in 0..20 {
                        let cut = dropout.cut(&ids, p, &mut random);
                        assert_eq!(tokenizer.decode(&cut), tokenizer.decode(&ids), "{text}");
                        *length += cut.len();
                    }
                }
                let characters = dropout.cut(&ids, 1.0, &mut random);
                assert!(characters.iter().all(|id| !dropout.parts.contains_key(id)));
            }
            assert!(lengths.is_sorted_by(|a, b| a < b), "{lengths:?}");
        }
    }

    #[test]
    fn a_merge_is_passed_over_as_often_as_asked() {
        // One merge that could be made: it is left out in three of ten cuts.
        let dropout = BpeDropout {
            merges: [((1, 2), (0, 3))].into(),
            parts: [(3, (1, 2))].into(),
        };
        let mut random = SplitMix(1);
        let n = 20_000;
        let left_out = (0..n)
            .filter(|_| dropout.cut(&[3], 0.3, &mut random).len() == 2)
            .count();
        assert!(
            (left_out as f64 / f64::from(n) - 0.3).abs() < 0.015,
            "{left_out}"
        );
    }

    #[test]
    fn a_merge_that_was_passed_over_is_tried_again_after_another() {
        // a b c with merges (b, c) then (a, bc), or (a, b): after (a, b) is passed over and (b, c) made, (a, bc) may follow.
        let dropout = BpeDropout {
            merges: [((1, 2), (0, 4)), ((2, 3), (1, 5)), ((1, 5), (2, 6))].into(),
            parts: [(4, (1, 2)), (5, (2, 3)), (6, (1, 5))].into(),
        };
        let mut random = SplitMix(1);
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..1000 {
            seen.insert(dropout.cut(&[4, 3], 0.5, &mut random));
        }
        let all = [vec![1, 2, 3], vec![1, 5], vec![4, 3], vec![6]];
        assert!(seen.into_iter().eq(all));
    }

    #[test]
    fn merges_that_go_in_a_circle_end() {
        let mut json: Value =
            serde_json::from_str(tokenizer(TokenizerKind::Bpe, 400).to_json()).unwrap();
        json["model"]["vocab"][""] = 400.into();
        let merges = json["model"]["merges"].as_array_mut().unwrap();
        merges.insert(0, serde_json::json!(["t", ""]));
        let tokenizer = Tokenizer::from_json(json.to_string()).unwrap();
        let dropout = tokenizer.bpe_dropout().unwrap();
        let ids = [tokenizer.token_to_id("t").unwrap()];
        assert_eq!(dropout.cut(&ids, 0.5, &mut SplitMix(1)), ids);
    }

    #[test]
    fn other_kinds_are_refused() {
        let error = tokenizer(TokenizerKind::Unigram, 400)
            .bpe_dropout()
            .unwrap_err();
        assert!(error.to_string().contains("Unigram"), "{error}");
    }
}
