//! A look at parallel text before the first step: most failures of training are failures of data.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;

use super::SentencePairs;
use crate::text::clean::has_invisible;
use crate::text::script::script;

/// A pair's ratio of characters is suspicious this far from the corpus's own.
const RATIO_FACTOR: f64 = 4.0;
/// Shorter pairs may have any ratio.
const RATIO_FROM: usize = 30;
/// Most frequent lines that are shown.
const FREQUENT: usize = 3;

/// What one side of the text is like.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SideAudit {
    /// Words: what stands between spaces.
    pub words: usize,
    /// Characters.
    pub characters: usize,
    /// Half of the lines have at most this many characters; then for 90 %, 99 % and all of them.
    pub percentiles: [usize; 4],
    /// The lines that occur most often, with their counts (only those that occur twice or more).
    pub frequent: Vec<(String, usize)>,
    /// Scripts of the letters, commonest first, with their shares.
    pub scripts: Vec<(&'static str, f64)>,
    /// Lines with a control character (tabs aside).
    pub control: usize,
    /// Lines with U+FFFD, the mark of a failed conversion.
    pub replacement: usize,
    /// Lines with invisible characters that are taken away ([`clean`](crate::text::clean::clean)).
    pub invisible: usize,
}

/// What training and validation pairs are like.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Audit {
    /// Pairs.
    pub pairs: usize,
    /// The source side.
    pub source: SideAudit,
    /// The target side.
    pub target: SideAudit,
    /// Pairs whose sides are the same.
    pub identical: usize,
    /// Pairs whose ratio of lengths is far from the corpus's own.
    pub suspicious: usize,
    /// Byte order marks taken away.
    pub byte_order_marks: usize,
    /// Lines that ended with CR LF.
    pub carriage_returns: usize,
    /// Lines of tables with more columns than two.
    pub further_columns: usize,
    /// Validation pairs, where there are any.
    pub valid_pairs: Option<usize>,
    /// Validation pairs that stand in the training data.
    pub valid_overlap: usize,
    /// Validation sources that stand in the training data.
    pub valid_source_overlap: usize,
}

impl SideAudit {
    fn of(lines: &[String]) -> Self {
        let mut side = SideAudit::default();
        let mut lengths = Vec::with_capacity(lines.len());
        let mut counts: HashMap<&str, usize> = HashMap::new();
        let mut scripts: BTreeMap<&'static str, usize> = BTreeMap::new();
        for line in lines {
            let length = line.chars().count();
            lengths.push(length);
            side.characters += length;
            side.words += line.split_whitespace().count();
            side.control += usize::from(line.chars().any(|c| c.is_control() && c != '\t'));
            side.replacement += usize::from(line.contains('\u{FFFD}'));
            side.invisible += usize::from(has_invisible(line));
            *counts.entry(line).or_default() += 1;
            for c in line.chars().filter(|c| c.is_alphabetic()) {
                *scripts.entry(script(c)).or_default() += 1;
            }
        }
        side.percentiles = percentiles(&mut lengths);
        let mut frequent: Vec<_> = counts.into_iter().filter(|(_, count)| *count > 1).collect();
        frequent.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(b.0)));
        frequent.truncate(FREQUENT);
        side.frequent = frequent
            .into_iter()
            .map(|(line, count)| (line.to_string(), count))
            .collect();
        let letters: usize = scripts.values().sum();
        let mut shares: Vec<_> = scripts
            .into_iter()
            .map(|(name, count)| (name, count as f64 / letters as f64))
            .collect();
        shares.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(b.0)));
        side.scripts = shares;
        side
    }
}

impl Audit {
    /// Looks at the pairs.
    pub fn of(train: &SentencePairs) -> Self {
        Audit {
            pairs: train.len(),
            source: SideAudit::of(&train.source),
            target: SideAudit::of(&train.target),
            identical: train
                .iter()
                .filter(|(source, target)| source == target)
                .count(),
            suspicious: suspicious(train),
            byte_order_marks: train.byte_order_marks,
            carriage_returns: train.carriage_returns,
            further_columns: train.further_columns,
            ..Default::default()
        }
    }

    /// Looks at what validation pairs share with those that are trained on.
    pub fn compare(&mut self, train: &SentencePairs, valid: &SentencePairs) {
        let pairs: HashSet<_> = train.iter().collect();
        let sources: HashSet<_> = train.source.iter().collect();
        self.valid_pairs = Some(valid.len());
        self.valid_overlap = valid.iter().filter(|pair| pairs.contains(pair)).count();
        self.valid_source_overlap = valid.source.iter().filter(|s| sources.contains(s)).count();
    }
}

/// Values at 50 %, 90 %, 99 % and the largest (nearest rank).
fn percentiles(lengths: &mut [usize]) -> [usize; 4] {
    lengths.sort_unstable();
    [50, 90, 99, 100].map(|percent| {
        let rank = (lengths.len() * percent).div_ceil(100).max(1);
        lengths.get(rank - 1).copied().unwrap_or(0)
    })
}

fn suspicious(pairs: &SentencePairs) -> usize {
    let lengths: Vec<(usize, usize)> = pairs
        .iter()
        .map(|(s, t)| (s.chars().count(), t.chars().count()))
        .collect();
    let (all_source, all_target) = lengths
        .iter()
        .fold((0, 0), |(a, b), (source, target)| (a + source, b + target));
    if all_source == 0 || all_target == 0 {
        return 0;
    }
    let usual = all_target as f64 / all_source as f64;
    lengths
        .iter()
        .filter(|&&(source, target)| source.max(target) >= RATIO_FROM)
        .filter(|&&(source, target)| {
            let relative = target.max(1) as f64 / source.max(1) as f64 / usual;
            !(1.0 / RATIO_FACTOR..=RATIO_FACTOR).contains(&relative)
        })
        .count()
}

impl fmt::Display for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let share = |count: usize, of: usize| 100.0 * count as f64 / of.max(1) as f64;
        let sides = [&self.source, &self.target];
        writeln!(
            f,
            "{:<34}{:>16}{:>16}",
            format!("{} pairs", self.pairs),
            "source",
            "target"
        )?;
        type Row = (&'static str, fn(&SideAudit) -> String);
        let rows: [Row; 7] = [
            ("words", |side| side.words.to_string()),
            ("characters", |side| side.characters.to_string()),
            ("characters a line: 50 %, 90 %", |side| {
                format!("{}, {}", side.percentiles[0], side.percentiles[1])
            }),
            ("characters a line: 99 %, all", |side| {
                format!("{}, {}", side.percentiles[2], side.percentiles[3])
            }),
            ("lines with control characters", |side| {
                side.control.to_string()
            }),
            ("lines with U+FFFD", |side| side.replacement.to_string()),
            ("lines with invisible characters", |side| {
                side.invisible.to_string()
            }),
        ];
        for (label, value) in rows {
            writeln!(
                f,
                "{label:<34}{:>16}{:>16}",
                value(&self.source),
                value(&self.target)
            )?;
        }
        for (name, side) in ["source", "target"].iter().zip(sides) {
            let shares: Vec<String> = side
                .scripts
                .iter()
                .filter(|(_, part)| *part >= 0.0005)
                .map(|(script, part)| format!("{script} {:.1} %", 100.0 * part))
                .collect();
            writeln!(f, "letters of the {name}: {}", shares.join(", "))?;
        }
        for (name, side) in ["source", "target"].iter().zip(sides) {
            for (line, count) in &side.frequent {
                let short: String = line.chars().filter(|c| !c.is_control()).take(60).collect();
                writeln!(f, "frequent {name} line, {count} times: {short}")?;
            }
        }
        writeln!(
            f,
            "both sides the same: {} ({:.2} %)",
            self.identical,
            share(self.identical, self.pairs)
        )?;
        writeln!(
            f,
            "suspicious ratio of lengths: {} ({:.2} %)",
            self.suspicious,
            share(self.suspicious, self.pairs)
        )?;
        if self.byte_order_marks + self.carriage_returns > 0 {
            writeln!(
                f,
                "taken away: {} byte order marks, {} carriage returns",
                self.byte_order_marks, self.carriage_returns
            )?;
        }
        if self.further_columns > 0 {
            writeln!(
                f,
                "lines with more than two columns, whose others are passed over: {}",
                self.further_columns
            )?;
        }
        if let Some(valid) = self.valid_pairs {
            writeln!(
                f,
                "of {valid} validation pairs, {} stand in the training data, and {} of their sources",
                self.valid_overlap, self.valid_source_overlap
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(rows: &[(&str, &str)]) -> SentencePairs {
        SentencePairs {
            source: rows.iter().map(|r| r.0.into()).collect(),
            target: rows.iter().map(|r| r.1.into()).collect(),
            ..Default::default()
        }
    }

    #[test]
    fn counts_are_right() {
        let train = pairs(&[
            ("a man", "人"),
            ("a man", "人"),
            ("b\u{1}", "b\u{1}"),
            ("Да", "x\u{FFFD}"),
        ]);
        let mut audit = Audit::of(&train);
        audit.compare(
            &train,
            &pairs(&[("a man", "人"), ("a man", "男"), ("c", "d")]),
        );
        assert_eq!(
            (audit.pairs, audit.source.words, audit.source.characters),
            (4, 6, 14)
        );
        assert_eq!(audit.source.percentiles, [2, 5, 5, 5]);
        assert_eq!(audit.source.frequent, [("a man".to_string(), 2)]);
        assert_eq!(
            (
                audit.source.control,
                audit.target.replacement,
                audit.identical
            ),
            (1, 1, 1)
        );
        assert_eq!(audit.source.scripts[0].0, "Latin");
        assert_eq!(audit.source.scripts[1], ("Cyrillic", 2.0 / 11.0));
        assert_eq!(audit.target.scripts[0], ("Han", 0.5));
        assert_eq!((audit.valid_overlap, audit.valid_source_overlap), (1, 2));
        let shown = audit.to_string();
        assert!(
            shown.contains("of 3 validation pairs, 1 stand") && shown.contains("Cyrillic 18.2 %"),
            "{shown}"
        );
    }

    #[test]
    fn what_nobody_sees_is_counted() {
        let train = pairs(&[("soft\u{AD}en", "a"), ("b", "\u{200B}"), ("c", "d")]);
        let audit = Audit::of(&train);
        assert_eq!((audit.source.invisible, audit.target.invisible), (1, 1));
        assert!(audit.to_string().contains("invisible characters"));
    }

    #[test]
    fn a_ratio_is_measured_against_the_corpus() {
        let long = "x".repeat(120);
        let mut rows = vec![("xxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", "xxxxxxxxxx"); 50];
        assert_eq!(Audit::of(&pairs(&rows)).suspicious, 0);
        rows.push((&long, "x"));
        assert_eq!(Audit::of(&pairs(&rows)).suspicious, 1);
        assert_eq!(Audit::of(&SentencePairs::default()).pairs, 0);
    }
}
