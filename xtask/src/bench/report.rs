//! Rows of what was measured, and the table that is drawn from them.

use serde::{Deserialize, Serialize};

use super::check::Agreed;
use super::pairs::{Pairs, Spread};

/// A line of the table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum Row {
    /// Ours beside a peer's; both computed the same thing.
    Compared(Compared),
    /// A figure with nothing beside it.
    Figure(Figure),
    /// What there is no ratio for, and why.
    Refused(Refused),
}

/// Ours beside a peer's. Made only with [`Compared::new`], which wants to see that both agree.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Compared {
    work: String,
    unit: String,
    ours: Measured,
    peer: Measured,
    ratio: Spread,
    pairs: usize,
    agreed: String,
    /// Our share of what the machine can do at most.
    share: Option<Share>,
    bar: Option<Bar>,
}

/// One side of a comparison.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Measured {
    program: String,
    setting: String,
    value: Spread,
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

/// A figure with nothing beside it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Figure {
    pub(crate) work: String,
    pub(crate) program: String,
    pub(crate) unit: String,
    pub(crate) value: Spread,
    pub(crate) share: Option<Share>,
    pub(crate) bar: Option<Bar>,
}

/// What there is no ratio for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Refused {
    pub(crate) work: String,
    pub(crate) peer: String,
    pub(crate) reason: String,
}

/// What a comparison is of.
#[derive(Debug, Clone)]
pub(crate) struct Work {
    pub(crate) name: String,
    pub(crate) unit: String,
    pub(crate) bar: Option<Bar>,
}

impl Work {
    pub(crate) fn new(name: &str, unit: &str, bar: Option<Bar>) -> Self {
        Work {
            name: name.into(),
            unit: unit.into(),
            bar,
        }
    }
}

impl Measured {
    /// Its runs are filled in from the pairs.
    pub(crate) fn by(program: &str, setting: &str) -> Self {
        let value = Spread {
            median: 0.0,
            low: 0.0,
            high: 0.0,
        };
        Measured {
            program: program.into(),
            setting: setting.into(),
            value,
        }
    }
}

impl Compared {
    /// `pairs` are runs of two sides that agree.
    pub(crate) fn new(
        work: Work,
        [ours, peer]: [Measured; 2],
        pairs: &Pairs,
        agreed: &Agreed,
    ) -> Self {
        Compared {
            work: work.name,
            unit: work.unit,
            ours: Measured {
                value: pairs.ours(),
                ..ours
            },
            peer: Measured {
                value: pairs.peer(),
                ..peer
            },
            ratio: pairs.ratio(),
            pairs: pairs.0.len(),
            agreed: agreed.how().into(),
            share: None,
            bar: work.bar,
        }
    }

    /// The same with our share of a limit: `cost` of its units go into one of ours.
    pub(crate) fn of_limit(mut self, of: &str, limit: Option<f64>, cost: f64) -> Self {
        self.share = limit.map(|limit| Share {
            of: of.into(),
            value: self.ours.value.median * cost / limit,
        });
        self
    }
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
    /// What no two rows of a section have in common: the work, and the peer or the only program.
    pub(crate) fn key(&self) -> (&str, &str) {
        match self {
            Row::Compared(c) => (&c.work, &c.peer.program),
            Row::Figure(f) => (&f.work, &f.program),
            Row::Refused(r) => (&r.work, &r.peer),
        }
    }

    /// The figures of both sides, where there are two.
    pub(crate) fn medians(&self) -> Option<(f64, f64)> {
        match self {
            Row::Compared(c) => Some((c.ours.value.median, c.peer.value.median)),
            _ => None,
        }
    }

    /// Work, ours, peer, ratio, share, bar, check.
    fn cells(&self) -> [String; 7] {
        match self {
            Row::Compared(c) => [
                format!("{} ({})", c.work, c.unit),
                c.ours.cell(),
                c.peer.cell(),
                format!(
                    "{:.2} ({:.2}–{:.2}, {})",
                    c.ratio.median, c.ratio.low, c.ratio.high, c.pairs
                ),
                share(c.share.as_ref()),
                c.bar.map_or("".into(), |bar| bar.says(c.ratio.median)),
                c.agreed.clone(),
            ],
            Row::Figure(f) => [
                format!("{} ({})", f.work, f.unit),
                format!("{} {}", f.program, amount(f.value.median)),
                String::new(),
                String::new(),
                share(f.share.as_ref()),
                match (f.bar, &f.share) {
                    (Some(bar), Some(share)) => bar.says(share.value),
                    _ => String::new(),
                },
                String::new(),
            ],
            Row::Refused(r) => [
                r.work.clone(),
                String::new(),
                r.peer.clone(),
                "none".into(),
                String::new(),
                String::new(),
                r.reason.clone(),
            ],
        }
    }
}

impl Measured {
    fn cell(&self) -> String {
        let value = amount(self.value.median);
        match self.setting.as_str() {
            "" => format!("{} {value}", self.program),
            setting => format!("{} {value} ({setting})", self.program),
        }
    }
}

fn share(share: Option<&Share>) -> String {
    share.map_or(String::new(), |s| {
        format!("{:.0} % of {}", 100.0 * s.value, s.of)
    })
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

/// The rows as a Markdown table; a note joins the last column.
pub(crate) fn table<'a>(rows: impl IntoIterator<Item = (&'a Row, String)>) -> String {
    let cells = rows.into_iter().map(|(row, note)| {
        let mut cells = row.cells();
        if !note.is_empty() {
            let last = &mut cells[6];
            *last = [last.as_str(), &note].join(" ").trim().to_string();
        }
        cells.to_vec()
    });
    markdown(&HEADS, cells)
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

    pub(crate) fn compared() -> Compared {
        compared_as("step")
    }

    pub(crate) fn compared_as(name: &str) -> Compared {
        let work = Work::new(name, "tokens/s", Some(Bar::AtLeast(2.2)));
        let pairs = Pairs(vec![(300.0, 100.0), (250.0, 100.0), (200.0, 100.0)]);
        let agreed = check::losses(&[1.0], &[1.0], 1e-3).unwrap();
        let sides = [
            Measured::by("hexapla", ""),
            Measured::by("PyTorch", "eager"),
        ];
        Compared::new(work, sides, &pairs, &agreed).of_limit("f32", Some(1000.0), 2.0)
    }

    #[test]
    fn a_row_shows_ratio_spread_share_and_bar() {
        let cells = Row::Compared(compared()).cells();
        assert_eq!(
            cells.join(" | "),
            "step (tokens/s) | hexapla 250 | PyTorch 100 (eager) | 2.50 (2.00–3.00, 3) | 50 % of f32 | ≥ 2.2 ✓ | 1 losses \
             within 0e0"
        );
        assert_eq!(Bar::AtMost(0.4).says(0.5), "≤ 0.4 missed");
    }

    #[test]
    fn what_differs_has_no_ratio() {
        let row = Row::Refused(Refused {
            work: "step".into(),
            peer: "PyTorch".into(),
            reason: "the losses part | here".into(),
        });
        let text = table([(&row, "(commit 0123456)".into())]);
        let last = text.lines().last().unwrap();
        assert_eq!(
            last,
            "| step |  | PyTorch | none |  |  | the losses part \\| here (commit 0123456) |"
        );
    }
}
