//! The document's tables of matrix products: a line for each shape that has a bar, and a summary of each kind. The rest is
//! in `bench/results.json`.

use std::collections::BTreeMap;

use super::pairs::Spread;
use super::report::{Figure, Row, amount, markdown, table};

/// Kind, M, N, K.
type Shape<'a> = (&'a str, [usize; 3]);

/// A figure's kind and shape, and the name of the way it was computed.
fn parse(work: &str) -> Option<(Shape<'_>, &str)> {
    let mut words = work.splitn(3, ' ');
    let (kind, shape, way) = (words.next()?, words.next()?, words.next()?);
    let sizes: Vec<usize> = shape.split('×').map_while(|n| n.parse().ok()).collect();
    Some(((kind, sizes.try_into().ok()?), way))
}

/// The ways to compute one product, ours and the peer's, by name.
#[derive(Debug, Default)]
struct Product<'a> {
    ours: BTreeMap<&'a str, &'a Figure>,
    peer: Option<&'a Figure>,
    notes: Vec<String>,
}

/// The tables of a section's rows, each with its note.
pub(crate) fn tables<'a>(rows: impl Iterator<Item = (&'a Row, String)>) -> String {
    let mut products: BTreeMap<Shape<'a>, Product<'a>> = BTreeMap::new();
    let mut others = Vec::new();
    for (row, note) in rows {
        let Some((figure, (shape, way))) = figure_of(row) else {
            others.push((row, note));
            continue;
        };
        let product = products.entry(shape).or_default();
        if figure.program == "hexapla" {
            product.ours.insert(way, figure);
        } else {
            product.peer = Some(figure);
        }
        if !note.is_empty() && !product.notes.contains(&note) {
            product.notes.push(note);
        }
    }
    let mut text = String::new();
    if !others.is_empty() {
        let limits = others.iter().map(|(row, note)| match row {
            Row::Figure(f) => vec![
                f.work.clone(),
                format!("{} {}", amount(f.value.median), f.unit),
            ],
            _ => vec![
                table([(*row, note.clone())])
                    .lines()
                    .last()
                    .unwrap_or_default()
                    .into(),
            ],
        });
        text += &markdown(&["limit", "measured"], limits);
        text.push('\n');
    }
    text += &markdown(
        &[
            "f32, one thread",
            "A·B",
            "A·Bᵀ",
            "Aᵀ·B",
            "PyTorch, A·Bᵀ",
            "bar",
        ],
        lines(&products),
    );
    text.push('\n');
    let heads = [
        "rows (M)",
        "products",
        "ours, of the limit",
        "compared",
        "ours, A·Bᵀ",
        "PyTorch, A·Bᵀ",
        "bar",
    ];
    text + &markdown(&heads, summary(&products))
}

fn figure_of(row: &Row) -> Option<(&Figure, (Shape<'_>, &str))> {
    match row {
        Row::Figure(figure) => Some((figure, parse(&figure.work)?)),
        _ => None,
    }
}

fn cell(figure: Option<&&Figure>) -> String {
    figure.map_or(String::new(), |f| {
        let share = f.share.as_ref().map_or(f64::NAN, |s| 100.0 * s.value);
        format!("{} ({share:.0} %)", amount(f.value.median))
    })
}

/// The f32 products that have a bar; it is held against the worst of the ways.
fn lines(products: &BTreeMap<Shape<'_>, Product<'_>>) -> Vec<Vec<String>> {
    let mut lines = Vec::new();
    for ((kind, [m, n, k]), product) in products {
        let barred = product.ours.values().find_map(|f| f.bar);
        let (true, Some(bar)) = (*kind == "f32", barred) else {
            continue;
        };
        let worst = shares(product.ours.values()).fold(f64::MAX, f64::min);
        let mut cells = vec![format!("{m}×{n}×{k}")];
        cells.extend(["A·B", "A·Bᵀ", "Aᵀ·B"].map(|way| cell(product.ours.get(way))));
        cells.push(cell(product.peer.as_ref()));
        cells.push(
            [bar.says(worst), product.notes.join(" ")]
                .join(" ")
                .trim()
                .into(),
        );
        lines.push(cells);
    }
    lines
}

fn shares<'a>(figures: impl Iterator<Item = &'a &'a Figure>) -> impl Iterator<Item = f64> {
    figures.filter_map(|f| f.share.as_ref().map(|s| s.value))
}

/// `in f32` is the same product for comparison, `weights at hand` what a cache that holds them all would give.
fn real<'a>(product: &Product<'a>) -> Vec<&'a Figure> {
    let ways = product.ours.iter();
    ways.filter(|(way, _)| !way.ends_with("in f32") && !way.ends_with("at hand"))
        .map(|(_, figure)| *figure)
        .collect()
}

/// A line for each kind and number of rows, or class of them.
fn summary(products: &BTreeMap<Shape<'_>, Product<'_>>) -> Vec<Vec<String>> {
    let mut groups: BTreeMap<(String, usize), Vec<&Product<'_>>> = BTreeMap::new();
    for ((kind, [m, ..]), product) in products {
        // Decoding has few rows, each number a case of its own; training has many.
        let rows = if *m < 128 { *m } else { 128 };
        groups
            .entry((kind.to_string(), rows))
            .or_default()
            .push(product);
    }
    let percent = |values: Vec<f64>| {
        Spread::of(&values).map_or(String::new(), |s| {
            let [median, low, high] = [s.median, s.low, s.high].map(|v| 100.0 * v);
            format!("{median:.0} % ({low:.0}–{high:.0})")
        })
    };
    let mut lines = Vec::new();
    for ((kind, rows), group) in groups {
        let ours: Vec<Vec<&Figure>> = group.iter().map(|p| real(p)).collect();
        let measured = ours.iter().filter(|figures| !figures.is_empty()).count();
        if measured == 0 {
            continue;
        }
        let own: Vec<f64> = shares(ours.iter().flatten()).collect();
        // The same products in the same layout.
        let both: Vec<(&Figure, &Figure)> = group
            .iter()
            .filter_map(|p| Some((*p.ours.get("A·Bᵀ")?, p.peer?)))
            .collect();
        let bar = ours.iter().flatten().find_map(|f| f.bar);
        let worst = own.iter().copied().fold(f64::MAX, f64::min);
        let sign = if rows == 128 { "≥ " } else { "" };
        lines.push(vec![
            format!("{kind}, {sign}{rows}"),
            measured.to_string(),
            percent(own),
            both.len().to_string(),
            percent(shares(both.iter().map(|(ours, _)| ours)).collect()),
            percent(shares(both.iter().map(|(_, peer)| peer)).collect()),
            bar.map_or(String::new(), |bar| bar.says(worst)),
        ]);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::super::report::{Bar, Share};
    use super::*;

    fn row(work: &str, program: &str, share: f64) -> Row {
        let value = 100.0 * share;
        Row::Figure(Figure {
            work: work.into(),
            program: program.into(),
            unit: "Gop/s".into(),
            value: Spread {
                median: value,
                low: value,
                high: value,
            },
            share: Some(Share {
                of: "f32".into(),
                value: share,
            }),
            bar: (program == "hexapla").then_some(Bar::AtLeast(0.85)),
        })
    }

    #[test]
    fn a_shape_is_one_line_with_the_peers_figure() {
        let rows = [
            row("f32 128×64×32 A·B", "hexapla", 0.9),
            row("f32 128×64×32 A·Bᵀ", "hexapla", 0.85),
            row("f32 128×64×32 Aᵀ·B", "hexapla", 0.8),
            row("f32 128×64×32 A·Bᵀ", "PyTorch", 0.7),
            // Only one side has these.
            row("f32 256×64×32 A·Bᵀ", "PyTorch", 0.1),
            row("f32 512×64×32 A·B", "hexapla", 0.85),
            row("limit: f32 × 1", "peak", 1.0),
        ];
        let text = tables(rows.iter().map(|r| (r, String::new())));
        assert!(text.contains("| limit: f32 × 1 | 100 Gop/s |"), "{text}");
        let line =
            "| 128×64×32 | 90.0 (90 %) | 85.0 (85 %) | 80.0 (80 %) | 70.0 (70 %) | ≥ 0.85 missed |";
        assert!(text.contains(line), "{text}");
        assert!(
            text.contains("| f32, ≥ 128 | 2 | 85 % (80–90) | 1 | 85 % (85–85) | 70 % (70–70) | ≥ 0.85 missed |"),
            "{text}"
        );
    }
}
