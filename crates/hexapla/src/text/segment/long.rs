//! Sentences that are too long, into parts.

use unicode_segmentation::UnicodeSegmentation;

use super::{Segment, is_closer, push};

/// Cuts a sentence of more than `max_units` into parts of at most that many, as `count` counts them: after commas and the
/// like where possible, else at spaces, else between characters, and within a character only where it alone is too long (a
/// letter under hundreds of marks).
/// `count` should not shrink when text is added; where it does, parts may be shorter than they could be, never longer.
pub fn split_long(text: &str, max_units: usize, count: impl Fn(&str) -> usize) -> Vec<Segment<'_>> {
    let fits = |part: &str| count(part.trim()) <= max_units;
    let mut segments = Vec::new();
    for part in pack(text, &LEVELS, &fits) {
        push(&mut segments, part);
    }
    segments
}

/// Where a long sentence may be cut, best first.
#[derive(Clone, Copy)]
enum Level {
    Clause,
    Space,
    Character,
    CodePoint,
}

const LEVELS: [Level; 4] = [
    Level::Clause,
    Level::Space,
    Level::Character,
    Level::CodePoint,
];

impl Level {
    /// The smallest parts of `text` at this level; joined they are `text`.
    fn units(self, text: &str) -> Vec<&str> {
        match self {
            Level::CodePoint => text.split_inclusive(|_| true).collect(),
            Level::Character => text.graphemes(true).collect(),
            Level::Space => cut_after(text, |c, _| c.is_whitespace()),
            Level::Clause => cut_after(text, ends_clause),
        }
    }
}

/// Whether a clause ends with `c`: full-width punctuation at once, ASCII only before a space (`3,000` is one number).
fn ends_clause(c: char, next: char) -> bool {
    match c {
        '，' | '、' | '：' | '；' | '。' | '！' | '？' => !is_closer(next),
        ',' | ';' | ':' | '.' | '!' | '?' | ')' | '–' | '—' => next.is_whitespace(),
        _ => false,
    }
}

/// Cuts where `ends(character, next character)` says so, after the white space that follows.
fn cut_after(text: &str, ends: impl Fn(char, char) -> bool) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut start, mut ended) = (0, false);
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        if ended && !c.is_whitespace() {
            parts.push(&text[start..at]);
            (start, ended) = (at, false);
        }
        ended |= chars.peek().is_some_and(|(_, next)| ends(c, *next));
    }
    parts.push(&text[start..]);
    parts
}

/// Parts of `text` that fit, each as long as the units of the first level allow.
fn pack<'a>(text: &'a str, levels: &[Level], fits: &impl Fn(&str) -> bool) -> Vec<&'a str> {
    let Some((level, finer)) = levels.split_first().filter(|_| !fits(text)) else {
        return vec![text];
    };
    let mut ends: Vec<usize> = Vec::new();
    let mut end = 0;
    for unit in level.units(text) {
        end += unit.len();
        ends.push(end);
    }
    let mut parts = Vec::new();
    let (mut start, mut used) = (0, 0);
    while used < ends.len() {
        let taken = longest(ends.len() - used, |units| {
            fits(&text[start..ends[used + units - 1]])
        });
        let end = ends[used + taken.max(1) - 1];
        let part = &text[start..end];
        match taken {
            0 => parts.extend(pack(part, finer, fits)),
            _ => parts.push(part),
        }
        used += taken.max(1);
        start = end;
    }
    parts
}

/// The largest number up to `limit` for which `fits` was seen to hold, doubling and then halving: few calls on short texts
/// rather than many on long ones.
fn longest(limit: usize, fits: impl Fn(usize) -> bool) -> usize {
    let (mut good, mut bad) = (0, 1);
    while bad <= limit && fits(bad) {
        good = bad;
        bad = (2 * bad).min(limit).max(bad + 1);
    }
    while good + 1 < bad {
        let middle = good.midpoint(bad);
        if fits(middle) {
            good = middle
        } else {
            bad = middle
        }
    }
    good
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_sentences_are_cut_at_clauses_then_spaces_then_characters() {
        let units = |part: &str| part.chars().filter(|c| !c.is_whitespace()).count();
        let split = |text, max| -> Vec<&str> {
            split_long(text, max, units)
                .iter()
                .map(|s| s.text)
                .collect()
        };
        assert_eq!(split("ab, cd, ef gh", 6), ["ab, cd,", "ef gh"]);
        assert_eq!(split("ab cd ef", 4), ["ab cd", "ef"]);
        assert_eq!(split("你好，世界真大", 3), ["你好，", "世界真", "大"]);
        assert_eq!(split("abcdefg", 3), ["abc", "def", "g"]);
        assert_eq!(split("1,000 x", 5), ["1,000", "x"]);
        assert_eq!(split("short", 5), ["short"]);
        let marks = format!("e{}", "\u{301}".repeat(8));
        assert_eq!(split(&marks, 6).concat(), marks);
        assert_eq!(split(&marks, 6).len(), 2);
    }

    #[test]
    fn a_long_text_without_spaces_is_cut_quickly() {
        let text = "字".repeat(200_000);
        let parts = split_long(&text, 100, |part| part.chars().count());
        assert_eq!(parts.len(), 2000);
    }
}
