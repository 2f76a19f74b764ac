//! What was measured, as data: `bench/results.json` holds it, `docs/benchmarks.md` and the table on the screen are drawn
//! from it. A section replaces its predecessor and leaves the others alone.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::check::Agreed;
use super::machine::Machine;
use super::pairs::{Pairs, Spread};
use crate::{Result, root};

/// All sections that were ever measured.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Results {
    pub(crate) sections: BTreeMap<String, Section>,
}

/// What one command measured.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Section {
    /// Day it ended.
    pub(crate) date: String,
    pub(crate) command: String,
    pub(crate) machine: Machine,
    /// Program and version.
    pub(crate) versions: BTreeMap<String, String>,
    pub(crate) rows: Vec<Row>,
    /// SVG files beside the document.
    #[serde(default)]
    pub(crate) plots: Vec<Plot>,
}

/// A figure of the document.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Plot {
    pub(crate) title: String,
    /// Relative to docs/.
    pub(crate) file: String,
}

/// A line of the table.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
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
#[derive(Debug, PartialEq, Serialize, Deserialize)]
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
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Figure {
    pub(crate) work: String,
    pub(crate) program: String,
    pub(crate) unit: String,
    pub(crate) value: Spread,
    pub(crate) share: Option<Share>,
    pub(crate) bar: Option<Bar>,
}

/// What there is no ratio for.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
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
    fn says(self, value: f64) -> String {
        let (sign, bar, met) = match self {
            Bar::AtLeast(bar) => ('≥', bar, value >= bar),
            Bar::AtMost(bar) => ('≤', bar, value <= bar),
        };
        format!("{sign} {bar}{}", if met { " ✓" } else { " missed" })
    }
}

impl Row {
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

/// Three figures or more.
fn amount(value: f64) -> String {
    match value.abs() {
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
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

/// The rows as a Markdown table.
pub(crate) fn table(rows: &[Row]) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | ").replace('\n', " "));
    let mut text = line(&HEADS.map(String::from));
    text += &line(&HEADS.map(|_| "---".to_string()));
    for row in rows {
        text += &line(&row.cells().map(|cell| cell.replace('|', "\\|")));
    }
    text
}

/// The document.
pub(crate) fn render(results: &Results) -> String {
    let mut text = String::from(INTRODUCTION);
    for (name, about) in ABOUT {
        let Some(section) = results.sections.get(name) else {
            continue;
        };
        let versions: Vec<String> = section
            .versions
            .iter()
            .map(|(program, version)| format!("{program} {version}"))
            .collect();
        // Writing to a string does not fail.
        let _ = write!(
            text,
            "\n## {name}\n\n{about}\n\n`{}`, {}; {}. {}\n\n{}",
            section.command,
            section.date,
            versions.join(", "),
            section.machine,
            table(&section.rows)
        );
        for plot in &section.plots {
            let _ = write!(text, "\n![{}]({})\n", plot.title, plot.file);
        }
    }
    text
}

const INTRODUCTION: &str = "\
# Benchmarks

Drawn by `cargo xtask bench` from `bench/results.json`; do not edit.

Ours and a peer are two programs that live side by side and compute in turn, A B A B, never at the same time. A ratio is the
median over the pairs of ours divided by the peer's, with the smallest and the largest pair. Before a ratio is printed both
sides must have computed the same thing; how that was seen stands in the last column, and where they differ there is no ratio.
A peer runs at its best setting, found by a short run of each, and named. `of the limit` is our share of what this machine
can do at most, measured in the same session (`crates/kernels/examples/peak.rs`).
";

/// The sections in the order of the document, and what they are.
const ABOUT: [(&str, &str); 5] = [
    (
        "gemm",
        "Matrix products of the shapes that training and decoding use, on one thread, and the limits themselves. The share \
         is taken of the limit on as many threads.",
    ),
    (
        "train",
        "A whole training step: forward, backward, Adam; label smoothing 0.1, dropout 0.1 on embeddings, sublayers, \
         attention and inside the feed-forward block; one embedding table. TINY is 4+4 layers of width 128 (feed-forward \
         256, 4 heads, 10,000 words, 128 pairs of 16 tokens), SMALL 3+3 of 256 (1,024, 4, 8,000, the same batch), BASE 6+6 \
         of 512 (2,048, 8, 32,000, 64 pairs of 24). Check: from the same initial weights on the same batch without dropout, \
         three steps' losses agree (f32 to 1e-3, bf16 to 2e-2). `epoch` is one of Multi30k with sentences of unequal \
         length, in the same batches for both sides; the peer's are padded. Memory is the greatest resident size of the \
         process (VmHWM). All rates are in target tokens, end tokens included.",
    ),
    (
        "translate",
        "Decoding with a seeded model of the paper's base size (32,000 words), 24 source and 24 forced target tokens. How \
         the model is made so that equal engines must give equal words: `xtask/bench/make_model.py`. Check of f32: at least \
         99 % of the sentences have equal ids. Engines of 8 bits round differently and are not asked to be equal: ours must \
         keep to our own f32 output, which is the one that was compared in f32, for as long as the peer does, less 5 \
         points; both make the same number of tokens. Layouts are workers × threads.",
    ),
    (
        "startup",
        "From the start of the process to the first translated word, seconds of wall clock: the model of `translate`, one \
         line of text, file cache warm. Check: the same word. CTranslate2's C++ client does not come with its Python package and \
         is not measured.",
    ),
    (
        "scaling",
        "How rates change as work grows: longer sentences, larger batches, larger vocabularies.",
    ),
];

impl Results {
    /// Those in `path`, or none if there is no such file.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        match std::fs::read_to_string(path) {
            Ok(text) => serde_json::from_str(&text).map_err(|e| format!("{}: {e}", path.display())),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Results::default()),
            Err(e) => Err(format!("{}: {e}", path.display())),
        }
    }

    /// Puts `section` in the place of its predecessor.
    pub(crate) fn put(&mut self, name: &str, section: Section) {
        self.sections.insert(name.into(), section);
    }
}

/// Adds a section to the results and draws the document anew.
pub(crate) fn save(name: &str, section: Section) -> Result<()> {
    let path = root().join("bench/results.json");
    let mut results = Results::read(&path)?;
    results.put(name, section);
    let json = serde_json::to_string_pretty(&results).map_err(|e| e.to_string())?;
    let write = |path: &Path, text: &str| {
        std::fs::write(path, text).map_err(|e| format!("cannot write {}: {e}", path.display()))
    };
    write(&path, &(json + "\n"))?;
    write(&root().join("docs/benchmarks.md"), &render(&results))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::check;

    fn compared() -> Compared {
        let work = Work {
            name: "step".into(),
            unit: "tokens/s".into(),
            bar: Some(Bar::AtLeast(2.2)),
        };
        let pairs = Pairs(vec![(300.0, 100.0), (250.0, 100.0), (200.0, 100.0)]);
        let agreed = check::losses(&[1.0], &[1.0], 1e-3).unwrap();
        let sides = [
            Measured::by("hexapla", ""),
            Measured::by("PyTorch", "eager"),
        ];
        Compared::new(work, sides, &pairs, &agreed).of_limit("f32", Some(1000.0), 2.0)
    }

    fn section(rows: Vec<Row>) -> Section {
        Section {
            date: "2000-01-02".into(),
            command: "cargo xtask bench train".into(),
            machine: Machine::default(),
            versions: [("PyTorch".to_string(), "1.0".to_string())].into(),
            rows,
            plots: Vec::new(),
        }
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
        let text = table(&[row]);
        let last = text.lines().last().unwrap();
        assert_eq!(
            last,
            "| step |  | PyTorch | none |  |  | the losses part \\| here |"
        );
    }

    #[test]
    fn a_section_replaces_only_its_own() {
        let mut results = Results::default();
        results.put("train", section(vec![]));
        results.put("translate", section(vec![]));
        results.put("train", section(vec![Row::Compared(compared())]));
        assert_eq!(results.sections["train"].rows.len(), 1);
        assert_eq!(results.sections["translate"].rows.len(), 0);
        let text = serde_json::to_string(&results).unwrap();
        let read: Results = serde_json::from_str(&text).unwrap();
        assert_eq!(read, results);
        let document = render(&results);
        let train = document.find("## train").unwrap();
        assert!(train < document.find("## translate").unwrap());
        assert!(document.contains("| 2.50 (2.00–3.00, 3) |"));
        assert!(document.contains("PyTorch 1.0"));
        assert!(!document.contains("## gemm"));
    }
}
