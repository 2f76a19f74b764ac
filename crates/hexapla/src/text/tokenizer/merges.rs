//! Byte-pair encoding: which pairs of pieces are joined, in which order (Sennrich, Haddow and Birch 2016).
//!
//! Our own, because the `tokenizers` crate's trainer walks hash tables of random order and can give a different result each
//! time; here the same text always gives the same merges.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashMap, HashSet};

use super::alphabet::WordCounts;

/// A pair that occurs once is no regularity.
const MIN_COUNT: u64 = 2;

type Pair = (u32, u32);

/// What to learn.
pub(super) struct MergeTask<'a> {
    /// Words over the alphabet.
    pub(super) words: &'a WordCounts,
    /// The single characters.
    pub(super) alphabet: &'a [char],
    /// Most pieces to make.
    pub(super) room: usize,
    /// Longest piece, in characters.
    pub(super) max_chars: usize,
    /// Texts that must not become a piece.
    pub(super) reserved: &'a HashSet<String>,
}

/// What was learned.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Merges {
    /// Left and right piece, in the order of application.
    pub(super) pairs: Vec<(String, String)>,
    /// New pieces in the order of their making; fewer than `pairs` where two pairs give one piece.
    pub(super) pieces: Vec<String>,
}

struct MergeTrainer {
    words: Vec<(Vec<u32>, u64)>,
    pieces: Vec<String>,
    ids: HashMap<String, u32>,
    counts: HashMap<Pair, u64>,
    /// Words in which a pair occurs or once did.
    indices: HashMap<Pair, Vec<usize>>,
    /// Counts as they were when pushed; an outdated one is found out when it is popped.
    queue: BinaryHeap<(u64, Reverse<Pair>)>,
}

/// Joins the commonest pair again and again until there is no room or no pair left.
pub(super) fn learn(task: &MergeTask) -> Merges {
    let mut trainer = MergeTrainer::new(task);
    let mut merges = Merges::default();
    let mut done: HashSet<Pair> = HashSet::new();
    while merges.pieces.len() < task.room {
        let Some(pair) = trainer.pop() else { break };
        let (left, right) = (
            &trainer.pieces[pair.0 as usize],
            &trainer.pieces[pair.1 as usize],
        );
        let piece = format!("{left}{right}");
        if piece.chars().count() > task.max_chars || task.reserved.contains(&piece) {
            trainer.counts.remove(&pair);
            continue;
        }
        if done.insert(pair) {
            merges.pairs.push((left.clone(), right.clone()));
        }
        if !trainer.ids.contains_key(&piece) {
            merges.pieces.push(piece.clone());
        }
        trainer.join(pair, piece);
    }
    merges
}

impl MergeTrainer {
    fn new(task: &MergeTask) -> Self {
        let pieces: Vec<String> = task.alphabet.iter().map(char::to_string).collect();
        let ids: HashMap<String, u32> = pieces
            .iter()
            .enumerate()
            .map(|(id, piece)| (piece.clone(), id as u32))
            .collect();
        let mut buffer = [0; 4];
        let words = task.words.iter().map(|(word, count)| {
            let symbols = word
                .chars()
                .filter_map(|c| ids.get(&*c.encode_utf8(&mut buffer)).copied());
            (symbols.collect(), *count)
        });
        let mut trainer = MergeTrainer {
            words: words.collect(),
            pieces,
            counts: HashMap::new(),
            indices: HashMap::new(),
            queue: BinaryHeap::new(),
            ids,
        };
        for (index, (symbols, count)) in trainer.words.iter().enumerate() {
            for pair in pairs(symbols) {
                *trainer.counts.entry(pair).or_default() += count;
                trainer.indices.entry(pair).or_default().push(index);
            }
        }
        trainer.queue = trainer
            .counts
            .iter()
            .map(|(pair, count)| (*count, Reverse(*pair)))
            .collect();
        trainer
    }

    /// The commonest pair; of equals, the one whose pieces are older.
    fn pop(&mut self) -> Option<Pair> {
        while let Some((count, Reverse(pair))) = self.queue.pop() {
            if count < MIN_COUNT {
                return None;
            }
            let now = self.counts.get(&pair).copied().unwrap_or(0);
            if now == count {
                return Some(pair);
            }
            if now < count {
                self.queue.push((now, Reverse(pair)));
            }
        }
        None
    }

    fn join(&mut self, pair: Pair, piece: String) {
        let id = match self.ids.get(&piece) {
            Some(id) => *id,
            None => {
                let id = self.pieces.len() as u32;
                self.pieces.push(piece.clone());
                self.ids.insert(piece, id);
                id
            }
        };
        let mut indices = self.indices.remove(&pair).unwrap_or_default();
        indices.sort_unstable();
        indices.dedup();
        let mut grown = BTreeSet::new();
        for index in indices {
            let (symbols, count) = &mut self.words[index];
            let joined = replace(symbols, pair, id);
            for old in pairs(symbols) {
                if let Some(total) = self.counts.get_mut(&old) {
                    *total = total.saturating_sub(*count);
                }
            }
            for new in pairs(&joined) {
                *self.counts.entry(new).or_default() += *count;
                if new.0 == id || new.1 == id {
                    self.indices.entry(new).or_default().push(index);
                    grown.insert(new);
                }
            }
            *symbols = joined;
        }
        self.counts.remove(&pair);
        for new in grown {
            if let Some(count) = self.counts.get(&new) {
                self.queue.push((*count, Reverse(new)));
            }
        }
    }
}

fn pairs(symbols: &[u32]) -> impl Iterator<Item = Pair> + '_ {
    symbols.windows(2).map(|pair| (pair[0], pair[1]))
}

/// Every occurrence of `pair`, from the left, becomes `id`.
fn replace(symbols: &[u32], pair: Pair, id: u32) -> Vec<u32> {
    let mut joined = Vec::with_capacity(symbols.len());
    let mut rest = symbols;
    while let Some((&first, tail)) = rest.split_first() {
        if tail.first().is_some_and(|&second| (first, second) == pair) {
            joined.push(id);
            rest = &tail[1..];
        } else {
            joined.push(first);
            rest = tail;
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;

    fn learned(words: &[(&str, u64)], room: usize) -> Vec<String> {
        let words: WordCounts = words.iter().map(|(w, n)| (w.to_string(), *n)).collect();
        let alphabet: BTreeSet<char> = words.iter().flat_map(|(w, _)| w.chars()).collect();
        let merges = learn(&MergeTask {
            words: &words,
            alphabet: &alphabet.into_iter().collect::<Vec<_>>(),
            room,
            max_chars: 16,
            reserved: &HashSet::from(["xy".to_string()]),
        });
        merges
            .pairs
            .iter()
            .map(|(a, b)| format!("{a} {b}"))
            .collect()
    }

    #[test]
    fn the_papers_example() {
        // The words of Sennrich et al., algorithm 1, with an end mark `.`. Three pairs occur nine times; the older goes first.
        let words = [("low.", 5), ("lower.", 2), ("newest.", 6), ("widest.", 3)];
        assert_eq!(learned(&words, 4), ["e s", "t .", "es t.", "l o"]);
    }

    #[test]
    fn single_occurrences_and_reserved_texts_are_not_joined() {
        assert_eq!(learned(&[("ab", 1)], 10), Vec::<String>::new());
        assert_eq!(learned(&[("xy", 9)], 10), Vec::<String>::new());
        assert_eq!(learned(&[("aaaa", 2)], 10), ["a a", "aa aa"]);
    }
}
