//! What was measured, as data: `bench/results.json` holds it, the tables of
//! `docs/benchmarks.md` are drawn from it. Rows are kept one by
//! one, so that a run that is stopped loses nothing and one row can be measured anew; each knows its day and commit.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::machine::Machine;
use super::plot::plot;
use super::report::{self, Row};
use super::{definition, gemm};
use crate::{Result, root, write_whole};

/// All sections that were ever measured, one for each kind of processor.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Results {
    pub(crate) sections: BTreeMap<String, Vec<Section>>,
}

/// The rows of one kind of work, and the last run that was meant to measure them all.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Section {
    /// Day of that run.
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Plot {
    pub(crate) title: String,
    /// Relative to docs/.
    pub(crate) file: String,
}

impl Section {
    /// Takes a run in. Of a run of some rows only, the section keeps what it says of the last whole run.
    pub(crate) fn take(&mut self, run: Section, whole: bool) {
        if whole || self.rows.is_empty() {
            self.date = run.date;
            self.command = run.command;
            self.machine = run.machine;
        }
        self.versions.extend(run.versions);
        for row in run.rows {
            match self.rows.iter_mut().find(|old| old.key() == row.key()) {
                Some(old) => *old = row,
                None => self.rows.push(row),
            }
        }
        for plot in run.plots {
            self.plots.retain(|p| p.file != plot.file);
            self.plots.push(plot);
        }
    }

    /// Ends a whole run: its rows in its order, then those of peers that were `left_out`; others are no longer measured.
    pub(crate) fn settle(&mut self, measured: &[Row], left_out: &[&str]) {
        let index = |row: &Row| measured.iter().position(|r| r.key() == row.key());
        self.rows
            .retain(|row| index(row).is_some() || left_out.contains(&&*row.peer));
        self.rows
            .sort_by_key(|row| index(row).unwrap_or(measured.len()));
    }
}

impl Results {
    /// The section of a kind of processor, which is begun where there is none.
    fn section(&mut self, name: &str, machine: &Machine) -> &mut Section {
        let sections = self.sections.entry(name.into()).or_default();
        let at = sections.iter().position(|s| s.machine.is_like(machine));
        let at = at.unwrap_or_else(|| {
            sections.push(Section {
                machine: machine.clone(),
                ..Section::default()
            });
            sections.len() - 1
        });
        &mut sections[at]
    }

    /// Those in `path`, or none if there is no such file.
    fn read(path: &Path) -> Result<Self> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Results::default()),
            Err(e) => return Err(format!("{}: {e}", path.display())),
        };
        serde_json::from_str(&text).map_err(|e| format!("{}: {e}", path.display()))
    }

    fn write(&self, path: &Path) -> Result<()> {
        let json = serde_json::to_string_pretty(self).map_err(|e| e.to_string())?;
        write_whole(path, &(json + "\n"))?;
        let document = root().join("docs/benchmarks.md");
        let text = std::fs::read_to_string(&document)
            .map_err(|e| format!("{}: {e}", document.display()))?;
        write_whole(&document, &fill(&text, self)?)
    }
}

/// Changes the section of a kind of processor, fills the document anew, and gives the section.
pub(crate) fn change(
    name: &str,
    machine: &Machine,
    how: impl FnOnce(&mut Section),
) -> Result<Section> {
    let path = root().join("bench/results.json");
    let mut results = Results::read(&path)?;
    let section = results.section(name, machine);
    how(section);
    let section = section.clone();
    for sections in results.sections.values_mut() {
        sections.retain(|s| !s.rows.is_empty());
    }
    results.sections.retain(|_, s| !s.is_empty());
    results.write(&path)?;
    Ok(section)
}

/// Draws the curves and fills the document anew.
pub(crate) fn draw() -> Result<()> {
    let path = root().join("bench/results.json");
    let results = Results::read(&path)?;
    for (name, sections) in &results.sections {
        for section in sections.iter().filter(|s| !s.plots.is_empty()) {
            draw_curves(name, &section.machine, &section.rows, false)?;
        }
    }
    results.write(&path)
}

/// Draws the curves of a section from `rows`; a dry run into the cache.
pub(super) fn draw_curves(
    section: &str,
    machine: &Machine,
    rows: &[Row],
    dry: bool,
) -> Result<Vec<Plot>> {
    let folder = root().join(if dry { "target/bench" } else { "docs" });
    let mut plots = Vec::new();
    for curve in definition::curves(section)? {
        let points = |of: fn((f64, f64)) -> f64| -> Vec<(f64, f64)> {
            let medians = |at: usize| rows.iter().find(|r| r.key().0 == curve.row(at))?.medians();
            let points = curve.points.iter();
            points
                .filter_map(|at| Some((*at as f64, of(medians(*at)?))))
                .collect()
        };
        let (ours, peers) = (points(|m| m.0), points(|m| m.1));
        if ours.is_empty() {
            continue;
        }
        let processor = machine.file_name();
        let file = format!("benchmarks/{processor}/{}.svg", curve.file);
        let axes = [curve.x.as_str(), "target tokens/s"];
        let lines = vec![("hexapla".to_string(), ours), (curve.peer.clone(), peers)];
        plot(&folder.join(&file), &curve.title, axes, true, lines)?;
        plots.push(Plot {
            title: curve.title,
            file,
        });
    }
    Ok(plots)
}

/// What stands before and after the figures of a section in the document; all else there is written by hand.
fn marks(name: &str) -> [String; 2] {
    [
        format!("<!-- measured: {name} -->\n"),
        "<!-- end -->".into(),
    ]
}

/// `document` with the figures of every section between its marks.
fn fill(document: &str, results: &Results) -> Result<String> {
    let mut text = document.to_string();
    for (name, sections) in &results.sections {
        let [start, end] = marks(name);
        let missing = || format!("docs/benchmarks.md has no `{}`", start.trim());
        let from = text.find(&start).ok_or_else(missing)? + start.len();
        let to = from + text[from..].find(&end).ok_or_else(missing)?;
        let figures = sections.iter().map(|section| section.figures(name));
        text.replace_range(from..to, &figures.collect::<String>());
    }
    Ok(text)
}

impl Section {
    /// Processor, command, day, versions, machine, tables, plots.
    fn figures(&self, name: &str) -> String {
        let version = |(program, version): (&String, &String)| format!("{program} {version}");
        let versions: Vec<String> = self.versions.iter().map(version).collect();
        let tables = match name {
            "gemm" => gemm::tables(&self.rows),
            _ => report::table(&self.rows, &self.machine.commit),
        };
        let (command, date, machine) = (&self.command, &self.date, &self.machine);
        let mut text = format!(
            "\n### {name} on {}\n\n`{command}`, {date}; {}. {machine}\n\n{tables}\n",
            machine.kind(),
            versions.join(", ")
        );
        for plot in &self.plots {
            text += &format!("![{}]({})\n\n", plot.title, plot.file);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::tests::compared;
    use super::*;

    fn run(commit: &str, mut rows: Vec<Row>) -> Section {
        let date = "2000-01-02".to_string();
        for row in &mut rows {
            (row.date, row.commit) = (date.clone(), commit.into());
        }
        Section {
            date,
            command: format!("cargo xtask bench train at {commit}"),
            machine: Machine {
                commit: commit.into(),
                ..Machine::default()
            },
            versions: [("PyTorch".to_string(), "1.0".to_string())].into(),
            rows,
            plots: Vec::new(),
        }
    }

    fn refused(work: &str, peer: &str) -> Row {
        Row::refused(work, peer, "not there")
    }

    fn keys(section: &Section) -> Vec<(&str, &str)> {
        section.rows.iter().map(Row::key).collect()
    }

    #[test]
    fn some_rows_replace_their_own_and_say_where_they_come_from() {
        let mut section = Section::default();
        let all = vec![refused("step", "PyTorch"), refused("step", "burn")];
        section.take(run("a", all), true);
        section.take(run("b", vec![compared()]), false);
        assert_eq!(keys(&section), [("step", "PyTorch"), ("step", "burn")]);
        assert_eq!(section.machine.commit, "a");
        let results = Results {
            sections: [("train".to_string(), vec![section])].into(),
        };
        let text = serde_json::to_string(&results).unwrap();
        assert_eq!(serde_json::from_str::<Results>(&text).unwrap(), results);
        let by_hand = "# T\n<!-- measured: train -->\nold\n<!-- end -->\nafter\n";
        let text = fill(by_hand, &results).unwrap();
        assert!(text.starts_with("# T\n<!-- measured: train -->\n\n### train on "));
        assert!(text.ends_with("|\n\n<!-- end -->\nafter\n") && !text.contains("old"));
        assert!(text.contains("| 2.50 (2.00–3.00, 3) |"));
        assert!(text.contains("1 losses within 0e0 (commit b, 2000-01-02) |"));
        assert!(text.contains("| not there |") && text.contains("at a`"));
        assert!(
            fill("# T\n", &results)
                .unwrap_err()
                .contains("measured: train")
        );
    }

    #[test]
    fn each_kind_of_processor_has_its_own_section() {
        let machine = |family: &str| Machine {
            family: family.into(),
            ..Machine::default()
        };
        let mut results = Results::default();
        for (family, work) in [("6", "step"), ("25", "race"), ("6", "race")] {
            let run = run("a", vec![refused(work, "PyTorch")]);
            let run = Section {
                machine: machine(family),
                ..run
            };
            results.section("train", &machine(family)).take(run, false);
        }
        let sections = &results.sections["train"];
        assert_eq!(sections.len(), 2);
        assert_eq!(
            keys(&sections[0]),
            [("step", "PyTorch"), ("race", "PyTorch")]
        );
        assert_eq!(keys(&sections[1]), [("race", "PyTorch")]);
        let text = fill("<!-- measured: train -->\n<!-- end -->\n", &results).unwrap();
        assert!(text.contains("### train on , family 6\n") && text.contains(", family 25\n"));
    }

    #[test]
    fn a_whole_run_drops_what_it_no_longer_measures() {
        let mut section = Section::default();
        let old = ["old", "step", "race"].map(|work| refused(work, "PyTorch"));
        section.take(run("a", old.into()), true);
        section.take(run("a", vec![refused("step", "burn")]), false);
        let measured = [refused("race", "PyTorch"), refused("step", "PyTorch")];
        section.settle(&measured, &["burn"]);
        let expected = [("race", "PyTorch"), ("step", "PyTorch"), ("step", "burn")];
        assert_eq!(keys(&section), expected);
    }
}
