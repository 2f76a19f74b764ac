//! Pairs of neighbours merged, those of the greatest score first (Sennrich et al. 2016).

use std::cmp::Ordering;
use std::collections::{BinaryHeap, HashMap};

use super::Vocabulary;
use super::proto::Kind;

/// A part of the text that may still be merged with its neighbours.
struct Symbol {
    start: usize,
    /// 0 once it is a part of another.
    len: usize,
    before: Option<usize>,
    behind: Option<usize>,
    /// A piece of the user's is never merged.
    frozen: bool,
}

/// Two neighbours whose text is a piece.
#[derive(PartialEq)]
struct Pair {
    score: f32,
    left: usize,
    right: usize,
    /// Of both: another length says that one of them was merged meanwhile.
    len: usize,
}

impl Eq for Pair {}

impl Ord for Pair {
    /// The greatest score first, then the leftmost.
    fn cmp(&self, other: &Self) -> Ordering {
        let by_score = self.score.total_cmp(&other.score);
        by_score.then(other.left.cmp(&self.left))
    }
}

impl PartialOrd for Pair {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The pieces of `text` with their numbers.
pub(super) fn cut<'a>(vocabulary: &Vocabulary, text: &'a str) -> Vec<(&'a str, u32)> {
    let mut merging = Merging {
        vocabulary,
        text,
        symbols: symbols(vocabulary, text),
        agenda: BinaryHeap::new(),
        made_of: HashMap::new(),
    };
    for right in 1..merging.symbols.len() {
        merging.consider(Some(right - 1), Some(right));
    }
    merging.run();
    let mut pieces = Vec::new();
    let mut next = (!merging.symbols.is_empty()).then_some(0);
    while let Some(i) = next {
        let symbol = &merging.symbols[i];
        merging.resegment(&text[symbol.start..][..symbol.len], &mut pieces);
        next = symbol.behind;
    }
    pieces
}

/// The characters of `text`, and the pieces of the user's in it.
fn symbols(vocabulary: &Vocabulary, text: &str) -> Vec<Symbol> {
    let mut symbols: Vec<Symbol> = Vec::new();
    let mut start = 0;
    while let Some(character) = text[start..].chars().next() {
        let user = vocabulary.user.longest(&text.as_bytes()[start..]);
        let len = if user > 0 { user } else { character.len_utf8() };
        let i = symbols.len();
        symbols.push(Symbol {
            start,
            len,
            before: i.checked_sub(1),
            behind: (start + len < text.len()).then_some(i + 1),
            frozen: user > 0,
        });
        start += len;
    }
    symbols
}

struct Merging<'a, 'v> {
    vocabulary: &'v Vocabulary,
    text: &'a str,
    symbols: Vec<Symbol>,
    agenda: BinaryHeap<Pair>,
    /// The two parts of pieces that exist only to be parts of others.
    made_of: HashMap<&'a str, (&'a str, &'a str)>,
}

impl<'a> Merging<'a, '_> {
    fn consider(&mut self, left: Option<usize>, right: Option<usize>) {
        let (Some(left), Some(right)) = (left, right) else {
            return;
        };
        let (a, b) = (&self.symbols[left], &self.symbols[right]);
        if a.frozen || b.frozen {
            return;
        }
        let len = a.len + b.len;
        let both = &self.text[a.start..][..len];
        let (first, second) = both.split_at(a.len);
        let Some(id) = self.vocabulary.ids.get(both) else {
            return;
        };
        let entry = self.vocabulary.entry(*id);
        if !matches!(entry.kind, Kind::Normal | Kind::User | Kind::Unused) {
            return;
        }
        if entry.kind == Kind::Unused {
            self.made_of.insert(both, (first, second));
        }
        self.agenda.push(Pair {
            score: entry.score,
            left,
            right,
            len,
        });
    }

    fn run(&mut self) {
        while let Some(pair) = self.agenda.pop() {
            let (a, b) = (self.symbols[pair.left].len, self.symbols[pair.right].len);
            if a == 0 || b == 0 || a + b != pair.len {
                continue;
            }
            let behind = self.symbols[pair.right].behind;
            self.symbols[pair.left].len = pair.len;
            self.symbols[pair.left].behind = behind;
            self.symbols[pair.right].len = 0;
            if let Some(behind) = behind {
                self.symbols[behind].before = Some(pair.left);
            }
            let before = self.symbols[pair.left].before;
            self.consider(before, Some(pair.left));
            self.consider(Some(pair.left), behind);
        }
    }

    /// A piece that exists only to be a part of others is taken apart again.
    fn resegment(&self, piece: &'a str, pieces: &mut Vec<(&'a str, u32)>) {
        let mut waiting = vec![piece];
        while let Some(piece) = waiting.pop() {
            let id = self.vocabulary.ids.get(piece).copied();
            let is_unused = id.is_some_and(|id| self.vocabulary.entry(id).kind == Kind::Unused);
            match self.made_of.get(piece).filter(|_| is_unused) {
                Some((first, second)) => waiting.extend([*second, *first]),
                None => pieces.push((piece, id.unwrap_or(self.vocabulary.unknown))),
            }
        }
    }
}
