//! How rates change as work grows.

use super::Bench;
use super::definition::{self, Change, Curve, Scaling, Train, Translate, Wanted, ways};
use super::peers::Way;
use super::plot::plot;
use super::race::Race;
use super::report::Row;
use super::results::Plot;
use super::train::Steps;
use super::translate::{self, Decoding, Job};
use crate::{Result, root};

pub(super) fn measure(bench: &mut Bench) -> Result<()> {
    let scaling: Scaling = definition::read("scaling")?;
    let (train, translate): (Train, Translate) =
        (definition::read("train")?, definition::read("translate")?);
    let (python, threads) = (bench.python.clone(), bench.args.threads);
    for curve in &scaling.curve {
        for &at in &curve.points {
            let (name, peer) = (&curve.row(at), curve.peer.as_str());
            if !bench.wants(&format!("{name}, {peer}")) {
                continue;
            }
            let race = Race {
                name,
                peer,
                pairs: Some(scaling.pairs),
                ..Race::default()
            };
            let layouts = ["2x1", "1x2"].map(String::from);
            if let Some(shape) = &curve.shape {
                let mut shape = train.shapes[shape].clone();
                match curve.change {
                    Change::Length => shape.length = at,
                    Change::Sentences => shape.sentences = at,
                    Change::Vocabulary => shape.vocabulary = at,
                }
                if let Some(tokens) = curve.tokens {
                    shape.sentences = tokens / shape.length;
                }
                let file = format!("{}-{at}", curve.file);
                let steps = Steps::write(&file, &shape, &[shape.batch()], "float32", threads);
                let wanted = Wanted {
                    work: "train",
                    peer,
                    curves: true,
                    ..Wanted::default()
                };
                race.run(
                    bench,
                    &Way::ours("train"),
                    ways(&wanted, &python, threads),
                    steps,
                )?;
            } else {
                let (words, batch) = match curve.change {
                    Change::Length => (at, 8),
                    _ => (translate.words, at),
                };
                let job = Job {
                    model: translate::model(&python)?,
                    compute_type: "float32".into(),
                    threads,
                    streams: 2,
                    batch,
                    beam: 1,
                    tokens: words,
                    sources: translate.sources((2 * batch).max(8), words),
                };
                let wanted = Wanted {
                    work: "translate",
                    peer,
                    number_type: "float32",
                    layouts: &layouts[..if batch == 1 { 1 } else { 2 }],
                    ..Wanted::default()
                };
                let ways = ways(&wanted, &python, threads);
                race.run(
                    bench,
                    &Way::ours("translate"),
                    ways,
                    Decoding::write(job, Vec::new()),
                )?;
            }
        }
    }
    let rows = bench.known()?;
    bench.plot(draw(&rows, bench.args.dry)?)
}

/// Draws the curves from `rows`; a dry run into the cache.
pub(super) fn draw(rows: &[Row], dry: bool) -> Result<Vec<Plot>> {
    let scaling: Scaling = definition::read("scaling")?;
    let folder = root().join(if dry { "target/bench" } else { "docs" });
    let mut plots = Vec::new();
    for curve in &scaling.curve {
        let points = curve.points_of(rows);
        if points.is_empty() {
            continue;
        }
        let file = format!("benchmarks/{}.svg", curve.file);
        let lines = vec![
            (
                "hexapla".to_string(),
                points.iter().map(|p| (p.0, p.1)).collect(),
            ),
            (
                curve.peer.clone(),
                points.iter().map(|p| (p.0, p.2)).collect(),
            ),
        ];
        let axes = [curve.x.as_str(), "target tokens/s"];
        plot(&folder.join(&file), &curve.title, axes, true, lines)?;
        plots.push(Plot {
            title: curve.title.clone(),
            file,
        });
    }
    Ok(plots)
}

impl Curve {
    /// The name of a point's row.
    fn row(&self, at: usize) -> String {
        format!("{} {at}", self.axis)
    }

    /// Amount of work, our rate, the peer's; in the order of the amount.
    fn points_of(&self, rows: &[Row]) -> Vec<(f64, f64, f64)> {
        let point = |at: &usize| {
            let row = rows.iter().find(|row| row.key().0 == self.row(*at))?;
            let (ours, peer) = row.medians()?;
            Some((*at as f64, ours, peer))
        };
        self.points.iter().filter_map(point).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::report::tests::compared_as;

    #[test]
    fn points_are_read_from_the_rows_of_their_axis() {
        let scaling: Scaling = definition::read("scaling").unwrap();
        let [lengths, batches, ..] = &scaling.curve[..] else {
            panic!("{scaling:?}");
        };
        let row = |name: String| Row::Compared(compared_as(&name));
        let rows = [
            row(lengths.row(32)),
            row(lengths.row(8)),
            row(batches.row(1)),
        ];
        assert_eq!(
            lengths.points_of(&rows),
            [(8.0, 250.0, 100.0), (32.0, 250.0, 100.0)]
        );
        assert_eq!(batches.points_of(&rows), [(1.0, 250.0, 100.0)]);
    }
}
