//! Alignment error rate: how far links between words are from those that a person made (Och & Ney 2003, section 6.1).

use std::collections::BTreeSet;
use std::path::Path;

use crate::error::{Error, Result};
use crate::text::corpus::read_lines;

/// A word of the source and one of the target, from 0.
pub type Link = (usize, usize);

/// A sentence pair whose words a person has linked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GoldAlignment {
    /// The source sentence.
    pub source: String,
    /// The target sentence.
    pub target: String,
    /// The source's words.
    pub source_words: Vec<String>,
    /// The target's words.
    pub target_words: Vec<String>,
    /// Links that must be found.
    pub sure: BTreeSet<Link>,
    /// Links that may be found, the sure ones among them.
    pub possible: BTreeSet<Link>,
}

impl GoldAlignment {
    /// Reads a file of them: in each line the two sentences, their words with spaces between them and the links (`0-1` is sure,
    /// `0p1` possible), with tabs between them; what follows is left alone.
    ///
    /// # Errors
    /// A line that is none, or links that name no word.
    pub fn read(path: &Path) -> Result<Vec<Self>> {
        let lines = read_lines(path)?;
        let line = |(number, line): (usize, &String)| {
            GoldAlignment::parse(line)
                .map_err(|e| e.at(format!("{}, line {}", path.display(), number + 1)))
        };
        lines.iter().enumerate().map(line).collect()
    }

    fn parse(line: &str) -> Result<Self> {
        let refuse = |expected: &str, found: &str| {
            Error::input("cannot read an aligned pair")
                .expected(expected)
                .found(format!("`{found}`"))
                .hint("bench/alignments/README.md describes the file")
        };
        let mut columns = line.split('\t');
        let mut column = |what: &str| {
            let text = columns.next().filter(|text| !text.trim().is_empty());
            text.ok_or_else(|| {
                refuse(
                    &format!("{what}, five columns with tabs between them"),
                    line,
                )
            })
        };
        let (source, target) = (column("a source")?, column("a target")?);
        let (of_source, of_target) = (column("words")?, column("words")?);
        let links = column("links")?;
        let words = |text: &str| text.split_whitespace().map(String::from).collect();
        let mut pair = GoldAlignment {
            source: source.to_string(),
            target: target.to_string(),
            source_words: words(of_source),
            target_words: words(of_target),
            sure: BTreeSet::new(),
            possible: BTreeSet::new(),
        };
        for text in links.split_whitespace() {
            let at = text.find(['-', 'p']).map(|at| text.split_at(at));
            let numbers = at.map(|(source, rest)| (source.parse(), rest[1..].parse()));
            let Some((Ok(source), Ok(target))) = numbers else {
                return Err(refuse("links such as 3-4 or 3p4", text));
            };
            if source >= pair.source_words.len() || target >= pair.target_words.len() {
                return Err(refuse("links between words, from 0", text));
            }
            if text.contains('-') {
                pair.sure.insert((source, target));
            }
            pair.possible.insert((source, target));
        }
        Ok(pair)
    }

    /// The same with source and target swapped.
    #[must_use]
    pub fn reversed(self) -> Self {
        let swap = |links: BTreeSet<Link>| links.into_iter().map(|(s, t)| (t, s)).collect();
        GoldAlignment {
            source: self.target,
            target: self.source,
            source_words: self.target_words,
            target_words: self.source_words,
            sure: swap(self.sure),
            possible: swap(self.possible),
        }
    }
}

/// The alignment error rate of a corpus under way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AlignmentErrors {
    /// Links found and sure ones, all together.
    links: usize,
    /// Links found that are sure, and those that are possible.
    right: usize,
}

impl AlignmentErrors {
    /// Adds a sentence pair.
    pub fn add(&mut self, found: &BTreeSet<Link>, gold: &GoldAlignment) {
        self.links += found.len() + gold.sure.len();
        self.right += found.intersection(&gold.sure).count();
        self.right += found.intersection(&gold.possible).count();
    }

    /// 1 − (|A ∩ S| + |A ∩ P|) / (|A| + |S|), 0 to 1; 0 of nothing.
    pub fn rate(&self) -> f64 {
        match self.links {
            0 => 0.0,
            links => 1.0 - self.right as f64 / links as f64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = "Er kam.\tHe came .\tEr kam .\tHe came .\t0-0 1-1 1p0 2-2\tcredit";

    #[test]
    fn the_rate_is_that_of_the_definition() {
        let gold = GoldAlignment::parse(LINE).unwrap();
        assert_eq!(gold.sure.len(), 3);
        assert_eq!(gold.possible.len(), 4);
        let rate = |links: &[Link]| {
            let mut errors = AlignmentErrors::default();
            errors.add(&links.iter().copied().collect(), &gold);
            errors.rate()
        };
        assert_eq!(rate(&[(0, 0), (1, 1), (2, 2)]), 0.0);
        // A possible link costs nothing.
        assert_eq!(rate(&[(0, 0), (1, 0), (1, 1), (2, 2)]), 0.0);
        assert_eq!(rate(&[]), 1.0);
        // 2 found, of which 1 is right on both counts; 3 are sure.
        assert!((rate(&[(0, 0), (0, 1)]) - (1.0 - 2.0 / 5.0)).abs() < 1e-12);
        let back = gold.clone().reversed();
        assert!(back.possible.contains(&(0, 1)) && !back.sure.contains(&(0, 1)));
        assert_eq!(back.reversed(), gold);
    }

    #[test]
    fn what_is_no_aligned_pair_is_refused() {
        for line in [
            "",
            "a\tb",
            "a\tb\ta\tb\t",
            "a\tb\ta\tb\t0-1",
            "a\tb\ta\tb\t1-0",
            "a\tb\ta\tb\t0x0",
            "a\tb\ta\tb\t-",
            "a\tb\ta\tb\t0-é",
            "a\tb\ta\tb\té-0",
            "a\tb\ta\tb\t0-99999999999999999999999",
        ] {
            assert!(GoldAlignment::parse(line).is_err(), "{line}");
        }
    }
}
