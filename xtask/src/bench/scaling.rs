//! How rates change as work grows.

use std::path::Path;

use super::pairs::Pairs;
use super::peers;
use super::plot::{Lines, Scale};
use super::report::{Compared, Measured, Row, Work};
use super::results::Plot;
use super::train::{self, Jobs, Shape};
use super::translate::{self, Job, Peer};
use super::{Bench, Side};
use crate::{Result, root};

const LENGTHS: [usize; 4] = [8, 32, 128, 512];
const TRAINED_BATCHES: [usize; 5] = [1, 4, 16, 64, 256];
const DECODED_BATCHES: [usize; 9] = [1, 2, 4, 8, 16, 32, 64, 128, 256];
const VOCABULARIES: [usize; 4] = [8_000, 16_000, 32_000, 64_000];

/// Pairs at each point at most: a curve needs fewer than a verdict.
const PAIRS: usize = 3;

/// The two lines of a plot; its rows are named `axis` and a number.
struct Curve {
    axis: &'static str,
    title: &'static str,
    x: &'static str,
    file: &'static str,
    peer: &'static str,
}

const CURVES: [Curve; 5] = [
    Curve {
        axis: "training, tokens of a sentence:",
        title: "Training: sentence length (4,096 tokens a batch)",
        x: "tokens of a sentence",
        file: "train-length",
        peer: "PyTorch",
    },
    Curve {
        axis: "training, sentences of a batch:",
        title: "Training: batch (sentences of 16 tokens)",
        x: "sentences of a batch",
        file: "train-batch",
        peer: "PyTorch",
    },
    Curve {
        axis: "training, vocabulary:",
        title: "Training: vocabulary (128 sentences of 16 tokens)",
        x: "words of the vocabulary",
        file: "train-vocabulary",
        peer: "PyTorch",
    },
    Curve {
        axis: "decoding, tokens of a sentence:",
        title: "Decoding: sentence length (batches of 8)",
        x: "tokens of a sentence",
        file: "decode-length",
        peer: "CTranslate2",
    },
    Curve {
        axis: "decoding, sentences of a batch:",
        title: "Decoding: batch (sentences of 24 tokens)",
        x: "sentences of a batch",
        file: "decode-batch",
        peer: "CTranslate2",
    },
];

pub(super) fn measure(bench: &mut Bench) -> Result<()> {
    let [
        lengths,
        batches,
        vocabularies,
        decoded_lengths,
        decoded_batches,
    ] = &CURVES;
    let tiny = || Shape::preset("tiny");
    for length in LENGTHS {
        let shape = Shape {
            length,
            sentences: 4096 / length,
            ..tiny()
        };
        train_point(bench, lengths, length, shape)?;
    }
    for sentences in TRAINED_BATCHES {
        let shape = Shape {
            sentences,
            ..tiny()
        };
        train_point(bench, batches, sentences, shape)?;
    }
    for vocabulary in VOCABULARIES {
        let shape = Shape {
            vocabulary,
            ..tiny()
        };
        train_point(bench, vocabularies, vocabulary, shape)?;
    }
    let (model, threads) = (translate::model(&bench.python)?, bench.args.threads);
    for length in LENGTHS {
        let job = job(&model, threads, 8, length, 16);
        translate_point(bench, decoded_lengths, length, &job)?;
    }
    for batch in DECODED_BATCHES {
        let job = job(&model, threads, batch, 24, (2 * batch).max(8));
        translate_point(bench, decoded_batches, batch, &job)?;
    }
    draw(bench)
}

fn job(model: &Path, threads: usize, batch: usize, words: usize, sentences: usize) -> Job {
    Job {
        model: model.to_path_buf(),
        compute_type: "float32",
        threads,
        streams: 2,
        batch,
        beam: 1,
        tokens: words,
        sources: translate::sources(sentences, words),
    }
}

/// Measures a point of a curve. One that cannot be measured is a row that says why, and leaves a gap.
fn train_point(bench: &mut Bench, curve: &Curve, at: usize, shape: Shape) -> Result<()> {
    let name = format!("{} {at}", curve.axis);
    if !bench.wants_race(&name, curve.peer) {
        return Ok(());
    }
    let shape = Shape {
        name: format!("{}-{at}", curve.file),
        ..shape
    };
    let row = (|| {
        let jobs = Jobs::write(&shape, &[shape.batch()], "float32", bench.args.threads)?;
        let (ours, way) = (train::ours(), train::torch_eager(&bench.python));
        let agreed = jobs.check(&ours, &way)?;
        let (mut a, mut b, command) = jobs.start(&ours, &way)?;
        let pairs = in_turn(bench, &mut a, &mut b, &command)?;
        bench.met("hexapla", &a);
        bench.met(curve.peer, &b);
        let sides = [
            Measured::by("hexapla", ""),
            Measured::by(curve.peer, &way.program.setting),
        ];
        let row = Compared::new(rate(&name), sides, &pairs, &agreed);
        Ok(Row::Compared(row))
    })();
    bench.add(&name, curve.peer, row)
}

fn translate_point(bench: &mut Bench, curve: &Curve, at: usize, job: &Job) -> Result<()> {
    let name = format!("{} {at}", curve.axis);
    if !bench.wants_race(&name, curve.peer) {
        return Ok(());
    }
    let row = (|| {
        let path = peers::write("scaling.json", job)?;
        let ways = Peer::CTranslate2.ways(&bench.python, job);
        let way = peers::best(&ways, &path, "run", "run")?;
        let (mut a, mut b) = (translate::ours_way().start(&path)?, way.start(&path)?);
        let agreed = translate::agree(&mut a, &mut b)?;
        let pairs = in_turn(bench, &mut a, &mut b, "run")?;
        bench.met("hexapla", &a);
        bench.met(curve.peer, &b);
        let sides = [
            Measured::by("hexapla", ""),
            Measured::by(curve.peer, &way.program.setting),
        ];
        let row = Compared::new(rate(&name), sides, &pairs, &agreed);
        Ok(Row::Compared(row))
    })();
    bench.add(&name, curve.peer, row)
}

fn in_turn(bench: &Bench, a: &mut Side, b: &mut Side, command: &str) -> Result<Pairs> {
    let pairs = bench.args.pairs.min(PAIRS);
    Pairs::in_turn(pairs, || a.rate(command), || b.rate(command))
}

fn rate(name: &str) -> Work {
    Work {
        name: name.into(),
        unit: "tokens/s".into(),
        bar: None,
    }
}

/// Draws the curves from all rows that are known. A dry run draws into the cache.
fn draw(bench: &mut Bench) -> Result<()> {
    let folder = if bench.args.dry {
        peers::cache()?
    } else {
        root().join("docs")
    };
    let rows = bench.known()?;
    let mut plots = Vec::new();
    for curve in &CURVES {
        let points = curve.points(&rows);
        if points.is_empty() {
            continue;
        }
        let file = format!("benchmarks/{}.svg", curve.file);
        let path = folder.join(&file);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(|e| format!("{}: {e}", parent.display()))?;
        }
        curve.lines(&points).draw(&path)?;
        println!("  drew {}", path.display());
        plots.push(Plot {
            title: curve.title.into(),
            file,
        });
    }
    bench.plot(plots)
}

impl Curve {
    /// Amount of work, our rate, the peer's; in the order of the amount.
    fn points(&self, rows: &[Row]) -> Vec<(f64, f64, f64)> {
        let point = |row: &Row| {
            let at = row.key().0.strip_prefix(self.axis)?.trim().parse().ok()?;
            let (ours, peer) = row.medians()?;
            Some((at, ours, peer))
        };
        let mut points: Vec<(f64, f64, f64)> = rows.iter().filter_map(point).collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        points
    }

    fn lines(&self, points: &[(f64, f64, f64)]) -> Lines {
        Lines {
            title: self.title.into(),
            x: self.x.into(),
            y: "target tokens/s".into(),
            scale: Scale::Logarithmic,
            lines: vec![
                (
                    "hexapla".into(),
                    points.iter().map(|p| (p.0, p.1)).collect(),
                ),
                (
                    self.peer.into(),
                    points.iter().map(|p| (p.0, p.2)).collect(),
                ),
            ],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::check;

    #[test]
    fn points_are_read_from_the_rows_of_their_axis() {
        let row = |name: &str| {
            let pairs = Pairs(vec![(4.0, 2.0)]);
            let agreed = check::losses(&[1.0], &[1.0], 1e-3).unwrap();
            let sides = [Measured::by("hexapla", ""), Measured::by("PyTorch", "")];
            Row::Compared(Compared::new(rate(name), sides, &pairs, &agreed))
        };
        let [lengths, batches, ..] = &CURVES;
        let name = |curve: &Curve, at| row(&format!("{} {at}", curve.axis));
        let rows = [name(lengths, 32), name(lengths, 8), name(batches, 1)];
        assert_eq!(lengths.points(&rows), [(8.0, 4.0, 2.0), (32.0, 4.0, 2.0)]);
        assert_eq!(batches.points(&rows), [(1.0, 4.0, 2.0)]);
    }
}
