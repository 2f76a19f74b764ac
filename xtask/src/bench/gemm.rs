//! Matrix products as shares of the machine's limit, and PyTorch's beside them.
//!
//! Our rates come from the kernels' own examples, `speed` and any `speed_*`, which print a line for each shape:
//! `M N K  GFLOP/s: NAME RATE  NAME RATE …`. `speed_int8` is held against the limit of bytes, `speed_bf16` of bf16, all
//! others of f32. All run on one thread.

use std::collections::BTreeMap;
use std::process::Command;

use super::Bench;
use super::pairs::Spread;
use super::peers::{self, Program, Way};
use super::report::{Bar, Figure, Row, Share};
use crate::{Result, root};

/// Runs of each program: rates are the best of several repetitions already.
const RUNS: usize = 3;

/// A product's rate under one name.
#[derive(Debug, PartialEq)]
struct Rate {
    shape: [usize; 3],
    name: String,
    giga: f64,
}

pub(super) fn measure(bench: &mut Bench) -> Result<()> {
    for (name, giga) in bench.machine.limits.clone() {
        let unit = if name.starts_with("memory") {
            "GB/s"
        } else {
            "Gop/s"
        };
        let figure = figure(format!("limit: {name}"), "peak", unit, &[giga]);
        bench.add("limit", "", figure.map(Row::Figure))?;
    }
    let mut shapes = Vec::new();
    for example in examples()? {
        let kind = match example.as_str() {
            "speed_int8" => "int8",
            "speed_bf16" => "bf16",
            _ => "f32",
        };
        let mut rates: BTreeMap<([usize; 3], String), Vec<f64>> = BTreeMap::new();
        for _ in 0..RUNS {
            for rate in speeds(&example)? {
                shapes.push(rate.shape);
                rates
                    .entry((rate.shape, rate.name))
                    .or_default()
                    .push(rate.giga);
            }
        }
        for (([m, n, k], name), giga) in rates {
            let work = format!("{kind} {m}×{n}×{k} {name}");
            if !bench.wants(&work) {
                continue;
            }
            let figure =
                figure(work, "hexapla", "Gop/s", &giga).map(|f| of_limit(bench, f, kind, m));
            bench.add(&example, "", figure.map(Row::Figure))?;
        }
    }
    shapes.sort_unstable();
    shapes.dedup();
    if bench.wants("PyTorch") {
        torch(bench, &shapes)?;
    }
    Ok(())
}

fn figure(work: String, program: &str, unit: &str, values: &[f64]) -> Result<Figure> {
    Ok(Figure {
        work,
        program: program.into(),
        unit: unit.into(),
        value: Spread::of(values).ok_or("nothing was measured")?,
        share: None,
        bar: None,
    })
}

/// Few rows are bounded by memory: they have a share and no bar.
fn of_limit(bench: &Bench, mut figure: Figure, kind: &str, rows: usize) -> Figure {
    let value = figure.value.median;
    figure.share = bench.machine.limit(kind, 1).map(|limit| Share {
        of: kind.into(),
        value: value / limit,
    });
    figure.bar = match kind {
        "f32" if rows >= 128 => Some(Bar::AtLeast(0.85)),
        "int8" if rows >= 32 => Some(Bar::AtLeast(0.6)),
        _ => None,
    };
    figure
}

/// The kernels' examples of speed.
fn examples() -> Result<Vec<String>> {
    let folder = root().join("crates/kernels/examples");
    let entries = std::fs::read_dir(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let mut names: Vec<String> = entries
        .flatten()
        .filter_map(|e| {
            e.file_name()
                .to_str()?
                .strip_suffix(".rs")
                .map(String::from)
        })
        .filter(|name| name.starts_with("speed"))
        .collect();
    names.sort();
    Ok(names)
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
    let job = peers::write(
        "gemm.json",
        &serde_json::json!({ "threads": 1, "shapes": shapes }),
    )?;
    let way = Way::new(
        Program::script("PyTorch", &bench.python, "gemm_torch.py"),
        &[],
    );
    let mut side = way.start(&job)?;
    bench.met("PyTorch", &side);
    let rates: Vec<(usize, usize, usize, String, f64)> = peers::part(&side.ask("run")?, "shapes")?;
    for (m, n, k, kind, giga) in rates {
        let figure = figure(
            format!("{kind} {m}×{n}×{k} A·Bᵀ"),
            "PyTorch",
            "Gop/s",
            &[giga],
        );
        let figure = figure.map(|f| Figure {
            bar: None,
            ..of_limit(bench, f, &kind, m)
        });
        bench.add("PyTorch", "", figure.map(Row::Figure))?;
    }
    Ok(())
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
        assert!(rates("warming up").is_empty());
        assert!(rates("12 13 GFLOP/s: A 1").is_empty());
    }
}
