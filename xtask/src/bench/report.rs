//! Rows of what was measured, and the table that is drawn from them.

use serde::{Deserialize, Serialize};

use super::check::Agreed;
use super::pairs::{Pairs, Spread};

/// Ours beside a peer's, or a figure with nothing beside it, or what there is no ratio for.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) work: String,
    unit: String,
    /// Whose figure stands beside ours; of a figure alone, whose that is.
    pub(crate) peer: String,
    /// How the peer was started.
    setting: String,
    ours: Option<Spread>,
    theirs: Option<Spread>,
    /// Over the pairs of runs, of which there were so many.
    ratio: Option<Spread>,
    pairs: usize,
    /// Our part of what the machine can do at most.
    pub(crate) share: Option<Share>,
    /// What was aimed at: a ratio, or of a figure alone a share.
    pub(crate) bar: Option<Bar>,
    /// How it was seen that both computed the same, or why there is no ratio.
    note: String,
    /// When, and at which commit.
    pub(crate) date: String,
    pub(crate) commit: String,
}

/// A part of a limit of the machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Share {
    pub(crate) of: String,
    pub(crate) value: f64,
}

/// What was aimed at.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Bar {
    AtLeast(f64),
    AtMost(f64),
}

impl Bar {
    pub(crate) fn says(self, value: f64) -> String {
        let (sign, bar, met) = match self {
            Bar::AtLeast(bar) => ('≥', bar, value >= bar),
            Bar::AtMost(bar) => ('≤', bar, value <= bar),
        };
        format!("{sign} {bar}{}", if met { " ✓" } else { " missed" })
    }
}

impl Row {
    /// Runs of two sides that agree.
    pub(crate) fn compared(
        [work, unit]: [&str; 2],
        [peer, setting]: [&str; 2],
        pairs: &Pairs,
        agreed: &Agreed,
    ) -> Self {
        Row {
            setting: setting.into(),
            ours: Some(pairs.ours()),
            theirs: Some(pairs.peer()),
            ratio: Some(pairs.ratio()),
            pairs: pairs.0.len(),
            note: agreed.how().into(),
            ..Row::figure(work, peer, unit, None)
        }
    }

    /// A figure of `program` alone.
    pub(crate) fn figure(work: &str, program: &str, unit: &str, value: Option<Spread>) -> Self {
        Row {
            work: work.into(),
            unit: unit.into(),
            peer: program.into(),
            ours: value,
            ..Row::default()
        }
    }

    /// No ratio, and why.
    pub(crate) fn refused(work: &str, peer: &str, reason: &str) -> Self {
        Row {
            note: reason.into(),
            ..Row::figure(work, peer, "", None)
        }
    }

    pub(crate) fn with_bar(self, bar: Option<Bar>) -> Self {
        Row { bar, ..self }
    }

    /// The same with our share of a limit: `cost` of its units go into one of ours.
    pub(crate) fn of_limit(mut self, of: &str, limit: Option<f64>, cost: f64) -> Self {
        self.share = limit.zip(self.ours).map(|(limit, ours)| Share {
            of: of.into(),
            value: ours.median * cost / limit,
        });
        self
    }

    /// What no two rows of a section have in common.
    pub(crate) fn key(&self) -> (&str, &str) {
        (&self.work, &self.peer)
    }

    /// The figure of a row that has nothing beside it.
    pub(crate) fn alone(&self) -> Option<f64> {
        self.ours
            .filter(|_| self.theirs.is_none())
            .map(|v| v.median)
    }

    /// The figures of both sides, where there are two.
    pub(crate) fn medians(&self) -> Option<(f64, f64)> {
        Some((self.ours?.median, self.theirs?.median))
    }

    /// How our share or the ratio compares with what was aimed at.
    pub(crate) fn verdict(&self) -> String {
        let share = || self.share.as_ref().map(|share| share.value);
        let value = self.ratio.map(|ratio| ratio.median).or_else(share);
        let said = self.bar.zip(value).map(|(bar, value)| bar.says(value));
        said.unwrap_or_default()
    }

    /// Work, ours, peer, ratio, share, bar, check; `commit` is that of the other rows.
    fn cells(&self, commit: &str) -> Vec<String> {
        let unit = if self.unit.is_empty() {
            String::new()
        } else {
            format!(" ({})", self.unit)
        };
        let peer = self.theirs.map_or(self.peer.clone(), |value| {
            let value = amount(value.median);
            match self.setting.as_str() {
                "" => format!("{} {value}", self.peer),
                setting => format!("{} {value} ({setting})", self.peer),
            }
        });
        let ours = match (self.ours, self.theirs) {
            (Some(ours), Some(_)) => [format!("hexapla {}", amount(ours.median)), peer],
            (Some(ours), None) => [format!("{peer} {}", amount(ours.median)), String::new()],
            (None, _) => [String::new(), peer],
        };
        let ratio = self.ratio.map_or("none".into(), |r| {
            format!(
                "{:.2} ({:.2}–{:.2}, {})",
                r.median, r.low, r.high, self.pairs
            )
        });
        let share = self.share.as_ref();
        let share = share.map(|s| format!("{:.0} % of {}", 100.0 * s.value, s.of));
        let mut cells = vec![format!("{}{unit}", self.work)];
        cells.extend(ours);
        cells.extend([ratio, share.unwrap_or_default(), self.verdict()]);
        let note = match commit == self.commit {
            true => self.note.clone(),
            false => format!("{} (commit {}, {})", self.note, self.commit, self.date),
        };
        cells.push(note);
        cells
    }
}

/// Three figures or more, below one two.
pub(crate) fn amount(value: f64) -> String {
    match value.abs() {
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        v if v >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

const HEADS: [&str; 7] = [
    "work",
    "ours",
    "peer",
    "ratio (from–to, pairs)",
    "of the limit",
    "bar",
    "both computed the same",
];

/// The rows as a Markdown table; those that are not of `commit` say so.
pub(crate) fn table<'a>(rows: impl IntoIterator<Item = &'a Row>, commit: &str) -> String {
    markdown(&HEADS, rows.into_iter().map(|row| row.cells(commit)))
}

/// A Markdown table.
pub(crate) fn markdown(heads: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | ").replace('\n', " "));
    let own = |words: &[&str]| words.iter().map(|w| w.to_string()).collect::<Vec<_>>();
    let mut text = line(&own(heads));
    text += &line(&vec!["---".to_string(); heads.len()]);
    for cells in rows {
        let cells: Vec<String> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
        text += &line(&cells);
    }
    text
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::bench::check;

    pub(crate) fn compared() -> Row {
        let pairs = Pairs(vec![(300.0, 100.0), (250.0, 100.0), (200.0, 100.0)]);
        let agreed = check::losses(&[1.0], &[1.0], 1e-3).unwrap();
        Row::compared(["step", "tokens/s"], ["PyTorch", "eager"], &pairs, &agreed)
            .with_bar(Some(Bar::AtLeast(2.2)))
            .of_limit("f32", Some(1000.0), 2.0)
    }

    #[test]
    fn a_row_shows_ratio_spread_share_and_bar() {
        let text = table([&compared()], "");
        assert_eq!(
            text.lines().last().unwrap(),
            "| step (tokens/s) | hexapla 250 | PyTorch 100 (eager) | 2.50 (2.00–3.00, 3) | 50 % of f32 | ≥ 2.2 ✓ | 1 losses \
             within 0e0 |"
        );
        assert_eq!(Bar::AtMost(0.4).says(0.5), "≤ 0.4 missed");
    }

    #[test]
    fn what_differs_has_no_ratio() {
        let mut row = Row::refused("step", "PyTorch", "the losses part | here");
        (row.commit, row.date) = ("0123456".into(), "today".into());
        let text = table([&row], "another");
        assert_eq!(
            text.lines().last().unwrap(),
            "| step |  | PyTorch | none |  |  | the losses part \\| here (commit 0123456, today) |"
        );
    }
}
