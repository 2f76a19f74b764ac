//! Matrix products as shares of the machine's limit, and PyTorch's beside them.
//!
//! Our rates come from the kernels' own examples, which print a line for each shape: `M N K  GFLOP/s: NAME RATE  NAME RATE …`.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde::Deserialize;

use super::Bench;
use super::definition;
use super::pairs::Spread;
use super::peers;
use super::report::{Bar, Row, amount, markdown};
use crate::{Result, root};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Gemm {
    runs: usize,
    example: Vec<Example>,
}

/// Of the kernels: what it is called, whose limit it is held against, and what is aimed at from how many rows on.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Example {
    name: String,
    kind: String,
    #[serde(default)]
    rows: usize,
    at_least: Option<f64>,
}

/// A product's rate under one name.
#[derive(Debug, PartialEq)]
struct Rate {
    shape: [usize; 3],
    name: String,
    giga: f64,
}

pub(super) fn measure(bench: &mut Bench) -> Result<()> {
    let gemm: Gemm = definition::read("gemm")?;
    for (name, giga) in bench.machine.limits.clone() {
        let unit = if name.starts_with("memory") {
            "GB/s"
        } else {
            "Gop/s"
        };
        let row = Row::figure(&format!("limit: {name}"), "peak", unit, Spread::of(&[giga]));
        bench.add("limit", "", Ok(row))?;
    }
    let mut shapes = Vec::new();
    for example in &gemm.example {
        let kind = &example.kind;
        let mut rates: BTreeMap<([usize; 3], String), Vec<f64>> = BTreeMap::new();
        for _ in 0..gemm.runs {
            for rate in speeds(&example.name)? {
                shapes.push(rate.shape);
                let of = rates.entry((rate.shape, rate.name));
                of.or_default().push(rate.giga);
            }
        }
        for (([m, n, k], name), giga) in rates {
            let work = format!("{kind} {m}×{n}×{k} {name}");
            if bench.wants(&work) {
                let row = product(bench, &work, "hexapla", kind, Spread::of(&giga));
                bench.add(&example.name, "", Ok(row.with_bar(example.bar(m))))?;
            }
        }
    }
    shapes.sort_unstable();
    shapes.dedup();
    if bench.wants("PyTorch") {
        torch(bench, &shapes)?;
    }
    Ok(())
}

/// A rate as a share of the limit on one thread.
fn product(bench: &Bench, work: &str, program: &str, kind: &str, rate: Option<Spread>) -> Row {
    let row = Row::figure(work, program, "Gop/s", rate);
    row.of_limit(kind, bench.machine.limit(kind, 1), 1.0)
}

impl Example {
    fn bar(&self, rows: usize) -> Option<Bar> {
        let at_least = self.at_least.filter(|_| rows >= self.rows);
        at_least.map(Bar::AtLeast)
    }
}

fn speeds(example: &str) -> Result<Vec<Rate>> {
    let output = Command::new(root().join("target/release/examples").join(example))
        .output()
        .map_err(|e| format!("cannot run {example}: {e}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let rates: Vec<Rate> = text.lines().flat_map(rates).collect();
    if rates.is_empty() {
        return Err(format!("{example} printed no rates"));
    }
    Ok(rates)
}

/// Those of one line; none where the line is something else.
fn rates(line: &str) -> Vec<Rate> {
    let Some((shape, rates)) = line.split_once("/s:") else {
        return Vec::new();
    };
    let shape: Vec<usize> = shape
        .split_whitespace()
        .map_while(|w| w.parse().ok())
        .collect();
    let [m, n, k] = shape[..] else {
        return Vec::new();
    };
    let mut found = Vec::new();
    let mut name = Vec::new();
    // What stands in brackets is for the eye.
    let rates = rates.split_once(" (").map_or(rates, |(rates, _)| rates);
    for word in rates.split_whitespace() {
        match word.parse() {
            Ok(giga) => found.push(Rate {
                shape: [m, n, k],
                name: std::mem::take(&mut name).join(" "),
                giga,
            }),
            Err(_) => name.push(word),
        }
    }
    found
}

fn torch(bench: &mut Bench, shapes: &[[usize; 3]]) -> Result<()> {
    let job = serde_json::json!({ "threads": 1, "shapes": shapes });
    let job = peers::write("gemm.json", &job)?;
    let peer = "PyTorch";
    let ways = definition::ways_of(peer, "gemm", &bench.python, 1)?;
    let mut side = ways.first().ok_or("no way to start PyTorch")?.start(&job)?;
    bench.versions.insert(peer.into(), side.version.clone());
    let rates: Vec<(usize, usize, usize, String, f64)> = peers::part(&side.ask("run")?, "shapes")?;
    for (m, n, k, kind, giga) in rates {
        let work = format!("{kind} {m}×{n}×{k} A·Bᵀ");
        let row = product(bench, &work, peer, &kind, Spread::of(&[giga]));
        bench.add(peer, "", Ok(row))?;
    }
    Ok(())
}

/// The ways of computing each shape of a kind.
type Shapes<'a> = BTreeMap<[usize; 3], BTreeMap<String, &'a Row>>;

/// A table of the limits, and one of each kind: a line for each shape that we computed, a column for each way, and the worst
/// of them held against the bar.
pub(super) fn tables(rows: &[Row]) -> String {
    let mut limits = Vec::new();
    let mut kinds: BTreeMap<&str, Shapes> = BTreeMap::new();
    for row in rows {
        match parse(&row.work) {
            Some((kind, shape, way)) => {
                let theirs = format!("{}, {way}", row.peer);
                let way = if row.peer == "hexapla" {
                    way.into()
                } else {
                    theirs
                };
                let ways = kinds.entry(kind).or_default().entry(shape).or_default();
                ways.insert(way, row);
            }
            None => limits.push(vec![
                row.work.clone(),
                row.alone().map_or("none".into(), amount),
            ]),
        }
    }
    let mut text = markdown(&["limit", "measured"], limits);
    for (kind, mut shapes) in kinds {
        shapes.retain(|_, ways| ways.values().any(|row| row.peer == "hexapla"));
        let ways: BTreeSet<&String> = shapes.values().flat_map(BTreeMap::keys).collect();
        let names = ways.iter().map(|way| way.as_str());
        let heads: Vec<&str> = [kind].into_iter().chain(names).chain(["bar"]).collect();
        let line = |([m, n, k], figures): (&[usize; 3], &BTreeMap<String, &Row>)| {
            let cells = ways
                .iter()
                .map(|way| figures.get(*way).map_or(String::new(), |f| cell(f)));
            let share = |row: &Row| row.share.as_ref().map_or(0.0, |share| share.value);
            let barred = figures.values().filter(|row| row.bar.is_some());
            let worst = barred.min_by(|a, b| share(a).total_cmp(&share(b)));
            let verdict = worst.map_or(String::new(), |row| row.verdict());
            [format!("{m}×{n}×{k}")]
                .into_iter()
                .chain(cells)
                .chain([verdict])
                .collect()
        };
        text += "\n";
        text += &markdown(&heads, shapes.iter().map(line));
    }
    text
}

fn cell(row: &Row) -> String {
    let share = row.share.as_ref().map_or(f64::NAN, |s| 100.0 * s.value);
    let value = row.alone().unwrap_or(f64::NAN);
    format!("{} ({share:.0} %)", amount(value))
}

/// A figure's kind, its shape M, N, K, and the name of the way it was computed.
fn parse(work: &str) -> Option<(&str, [usize; 3], &str)> {
    let mut words = work.splitn(3, ' ');
    let (kind, shape, way) = (words.next()?, words.next()?, words.next()?);
    let sizes: Vec<usize> = shape.split('×').map_while(|n| n.parse().ok()).collect();
    Some((kind, sizes.try_into().ok()?, way))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_rates_are_read() {
        let line = "  1024    128    128  GFLOP/s: A·B   80.5  A·Bᵀ   81.0  packed B 100";
        let read = rates(line);
        assert_eq!(read.len(), 3);
        assert_eq!(read[0].shape, [1024, 128, 128]);
        assert_eq!((read[2].name.as_str(), read[2].giga), ("packed B", 100.0));
        assert!(rates("warming up").is_empty() && rates("12 13 GFLOP/s: A 1").is_empty());
    }

    #[test]
    fn a_shape_is_one_line_with_the_peers_figure_and_its_worst_way() {
        let row = |work: &str, program: &str, share: f64| {
            let row = Row::figure(work, program, "Gop/s", Spread::of(&[100.0 * share]));
            let bar = (program == "hexapla").then_some(Bar::AtLeast(0.85));
            row.of_limit("f32", Some(100.0), 1.0).with_bar(bar)
        };
        let text = tables(&[
            row("f32 128×64×32 A·B", "hexapla", 0.9),
            row("f32 128×64×32 Aᵀ·B", "hexapla", 0.8),
            row("f32 128×64×32 A·Bᵀ", "PyTorch", 0.7),
            // The peer alone has this.
            row("f32 256×64×32 A·Bᵀ", "PyTorch", 0.1),
            row("limit: f32 × 1", "peak", 1.0),
        ]);
        for line in [
            "| limit: f32 × 1 | 100 |",
            "| f32 | A·B | Aᵀ·B | PyTorch, A·Bᵀ | bar |",
            "| 128×64×32 | 90.0 (90 %) | 80.0 (80 %) | 70.0 (70 %) | ≥ 0.85 missed |",
        ] {
            assert!(text.lines().any(|l| l == line), "{line}\n{text}");
        }
        assert!(!text.contains("256×64×32"));
    }
}
