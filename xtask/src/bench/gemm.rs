//! Matrix products as shares of the machine's limit, and PyTorch's beside them.
//!
//! Our rates come from the kernels' own examples, which print a line for each shape: `M N K  GFLOP/s: NAME RATE  NAME RATE …`.

use std::collections::BTreeMap;
use std::process::Command;

use super::Bench;
use super::definition::{self, Example, Gemm, Wanted, ways};
use super::pairs::Spread;
use super::peers;
use super::report::{Bar, Figure, Row, Share, amount, markdown};
use crate::{Result, root};

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
        let figure = figure(format!("limit: {name}"), "peak", unit, &[giga]);
        bench.add("limit", "", figure.map(Row::Figure))?;
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
                let figure = figure(work, "hexapla", "Gop/s", &giga);
                let figure = figure.map(|f| Row::Figure(of_limit(bench, f, kind, bar(example, m))));
                bench.add(&example.name, "", figure)?;
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

fn bar(example: &Example, rows: usize) -> Option<Bar> {
    let at_least = example.at_least.filter(|_| rows >= example.rows);
    at_least.map(Bar::AtLeast)
}

fn of_limit(bench: &Bench, mut figure: Figure, kind: &str, bar: Option<Bar>) -> Figure {
    let value = figure.value.median;
    figure.share = bench.machine.limit(kind, 1).map(|limit| Share {
        of: kind.into(),
        value: value / limit,
    });
    figure.bar = bar;
    figure
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
    let wanted = Wanted {
        work: "gemm",
        peer,
        ..Wanted::default()
    };
    let ways = ways(&wanted, &bench.python, 1)?;
    let mut side = ways.first().ok_or("no way to start PyTorch")?.start(&job)?;
    bench.versions.insert(peer.into(), side.version.clone());
    let rates: Vec<(usize, usize, usize, String, f64)> = peers::part(&side.ask("run")?, "shapes")?;
    for (m, n, k, kind, giga) in rates {
        let figure = figure(format!("{kind} {m}×{n}×{k} A·Bᵀ"), peer, "Gop/s", &[giga]);
        let figure = figure.map(|f| Row::Figure(of_limit(bench, f, &kind, None)));
        bench.add(peer, "", figure)?;
    }
    Ok(())
}

/// A table of the limits, and one of each kind: a line for each shape that we computed, a column for each way, and the worst
/// of them held against the bar. Every row of `rows` has its note.
pub(super) fn tables<'a>(rows: impl Iterator<Item = (&'a Row, String)>) -> String {
    let mut limits = Vec::new();
    let mut kinds: BTreeMap<&str, BTreeMap<[usize; 3], BTreeMap<String, &Figure>>> =
        BTreeMap::new();
    for (row, note) in rows {
        match row {
            Row::Figure(f) if f.program == "peak" => {
                limits.push(vec![
                    f.work.clone(),
                    format!("{} {}", amount(f.value.median), f.unit),
                ]);
            }
            Row::Figure(f) => {
                if let Some((kind, shape, way)) = parse(&f.work) {
                    let way = match f.program.as_str() {
                        "hexapla" => way.to_string(),
                        program => format!("{program}, {way}"),
                    };
                    kinds
                        .entry(kind)
                        .or_default()
                        .entry(shape)
                        .or_default()
                        .insert(way, f);
                }
            }
            // What could not be measured.
            other => limits.push(vec![other.key().0.into(), note]),
        }
    }
    let mut text = markdown(&["limit", "measured"], limits);
    for (kind, shapes) in kinds {
        let ours = shapes
            .iter()
            .filter(|(_, ways)| ways.values().any(|f| f.program == "hexapla"));
        let ours: Vec<_> = ours.collect();
        let ways: std::collections::BTreeSet<&String> =
            ours.iter().flat_map(|(_, ways)| ways.keys()).collect();
        let mut heads = vec![kind];
        heads.extend(ways.iter().map(|way| way.as_str()));
        heads.push("bar");
        let line = |([m, n, k], figures): &(&[usize; 3], &BTreeMap<String, &Figure>)| {
            let mut cells = vec![format!("{m}×{n}×{k}")];
            cells.extend(
                ways.iter()
                    .map(|way| figures.get(*way).map_or(String::new(), |f| cell(f))),
            );
            let barred = figures
                .values()
                .filter_map(|f| Some((f.bar?, f.share.as_ref()?.value)));
            let worst = barred.min_by(|a, b| a.1.total_cmp(&b.1));
            cells.push(worst.map_or(String::new(), |(bar, share)| bar.says(share)));
            cells
        };
        text += "\n";
        text += &markdown(&heads, ours.iter().map(line));
    }
    text
}

fn cell(figure: &Figure) -> String {
    let share = figure.share.as_ref().map_or(f64::NAN, |s| 100.0 * s.value);
    format!("{} ({share:.0} %)", amount(figure.value.median))
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
            let mut figure = figure(work.into(), program, "Gop/s", &[100.0 * share]).unwrap();
            let (of, value) = ("f32".into(), share);
            figure.share = Some(Share { of, value });
            figure.bar = (program == "hexapla").then_some(Bar::AtLeast(0.85));
            Row::Figure(figure)
        };
        let rows = [
            row("f32 128×64×32 A·B", "hexapla", 0.9),
            row("f32 128×64×32 Aᵀ·B", "hexapla", 0.8),
            row("f32 128×64×32 A·Bᵀ", "PyTorch", 0.7),
            // The peer alone has this.
            row("f32 256×64×32 A·Bᵀ", "PyTorch", 0.1),
            row("limit: f32 × 1", "peak", 1.0),
        ];
        let text = tables(rows.iter().map(|r| (r, String::new())));
        for line in [
            "| limit: f32 × 1 | 100 Gop/s |",
            "| f32 | A·B | Aᵀ·B | PyTorch, A·Bᵀ | bar |",
            "| 128×64×32 | 90.0 (90 %) | 80.0 (80 %) | 70.0 (70 %) | ≥ 0.85 missed |",
        ] {
            assert!(text.lines().any(|l| l == line), "{line}\n{text}");
        }
        assert!(!text.contains("256×64×32"));
    }
}
