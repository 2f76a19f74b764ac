//! How rates change as work grows.

use std::path::Path;

use super::pairs::Pairs;
use super::peers;
use super::plot::Lines;
use super::report::{Compared, Measured, Plot, Row, Work};
use super::train::{self, Jobs, Shape};
use super::translate::{self, Job, Peer};
use super::{Bench, Side};
use crate::{Result, root};

const LENGTHS: [usize; 4] = [8, 32, 128, 512];
const BATCHES: [usize; 9] = [1, 2, 4, 8, 16, 32, 64, 128, 256];
const VOCABULARIES: [usize; 4] = [8_000, 16_000, 32_000, 64_000];

/// Pairs at each point: a curve needs fewer than a verdict.
const PAIRS: usize = 3;

/// The two lines of a plot as they grow.
struct Curve {
    title: &'static str,
    x: &'static str,
    file: &'static str,
    peer: &'static str,
    points: Vec<(f64, Pairs)>,
}

pub(super) fn measure(bench: &mut Bench) -> Result<()> {
    let curve = |title, x, file, peer| Curve {
        title,
        x,
        file,
        peer,
        points: Vec::new(),
    };
    let model = translate::model(&bench.python)?;
    let mut lengths = curve(
        "Training: sentence length",
        "tokens of a sentence",
        "train-length",
        "PyTorch",
    );
    for length in LENGTHS {
        let shape = Shape {
            name: format!("length {length}"),
            length,
            sentences: 4096 / length,
            ..Shape::preset("tiny")
        };
        train_point(bench, &mut lengths, length, &shape);
    }
    let mut vocabularies = curve(
        "Training: vocabulary",
        "words",
        "train-vocabulary",
        "PyTorch",
    );
    for vocabulary in VOCABULARIES {
        let shape = Shape {
            name: format!("vocabulary {vocabulary}"),
            vocabulary,
            ..Shape::preset("tiny")
        };
        train_point(bench, &mut vocabularies, vocabulary, &shape);
    }
    let mut decoded = curve(
        "Decoding: sentence length",
        "words of a sentence",
        "decode-length",
        "CTranslate2",
    );
    for length in LENGTHS {
        let job = job(&model, bench.args.threads, 8, length, 16);
        translate_point(
            bench,
            &mut decoded,
            length,
            &format!("decoding length {length}"),
            &job,
        );
    }
    let mut batches = curve(
        "Decoding: batch",
        "sentences of a batch",
        "decode-batch",
        "CTranslate2",
    );
    for batch in BATCHES {
        let job = job(&model, bench.args.threads, batch, 24, (2 * batch).max(8));
        translate_point(
            bench,
            &mut batches,
            batch,
            &format!("decoding batch {batch}"),
            &job,
        );
    }
    for curve in [lengths, vocabularies, decoded, batches] {
        curve.draw(bench)?;
    }
    Ok(())
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

/// Measures a point of a curve. One that cannot be measured is a row of its own and leaves a gap.
fn train_point(bench: &mut Bench, curve: &mut Curve, at: usize, shape: &Shape) {
    let name = format!("training {}, float32", shape.name);
    if !bench.wants(&name) {
        return;
    }
    let row = (|| {
        let jobs = Jobs::write(shape, &[shape.batch()], "float32", bench.args.threads)?;
        let (ours, ways) = (train::ours(), train::torch(&bench.python, false));
        let agreed = jobs.check(&ours, &ways[0])?;
        let way = jobs.best(&ways)?;
        let (mut a, mut b, command) = jobs.start(&ours, way)?;
        let pairs = in_turn(&mut a, &mut b, &command)?;
        let row = Compared::new(
            rate(&name),
            [
                Measured::by("hexapla", ""),
                Measured::by(curve.peer, &way.program.setting),
            ],
            &pairs,
            &agreed,
        );
        bench.met(curve.peer, &b);
        curve.points.push((at as f64, pairs));
        Ok(Row::Compared(row))
    })();
    bench.add(&name, curve.peer, row);
}

fn translate_point(bench: &mut Bench, curve: &mut Curve, at: usize, name: &str, job: &Job) {
    if !bench.wants(name) {
        return;
    }
    let row = (|| {
        let path = peers::write("scaling.json", job)?;
        let ways = Peer::CTranslate2.ways(&bench.python, 2, job.batch);
        let way = peers::best(&ways, &path, "run", "run")?;
        let (mut a, mut b) = (translate::ours_way().start(&path)?, way.start(&path)?);
        let agreed = translate::agree(job, &mut a, &mut b)?;
        let pairs = in_turn(&mut a, &mut b, "run")?;
        let sides = [
            Measured::by("hexapla", ""),
            Measured::by(curve.peer, &way.program.setting),
        ];
        let row = Compared::new(rate(name), sides, &pairs, &agreed);
        bench.met(curve.peer, &b);
        curve.points.push((at as f64, pairs));
        Ok(Row::Compared(row))
    })();
    bench.add(name, curve.peer, row);
}

fn in_turn(a: &mut Side, b: &mut Side, command: &str) -> Result<Pairs> {
    Pairs::in_turn(PAIRS, || a.rate(command), || b.rate(command))
}

fn rate(name: &str) -> Work {
    Work {
        name: name.into(),
        unit: "tokens/s".into(),
        bar: None,
    }
}

impl Curve {
    fn draw(self, bench: &mut Bench) -> Result<()> {
        if self.points.is_empty() {
            return Ok(());
        }
        let line = |of: fn(&Pairs) -> f64| self.points.iter().map(|(x, p)| (*x, of(p))).collect();
        let lines = Lines {
            title: self.title.into(),
            x: self.x.into(),
            y: "tokens/s".into(),
            lines: vec![
                ("hexapla".into(), line(|p| p.ours().median)),
                (self.peer.into(), line(|p| p.peer().median)),
            ],
        };
        let file = format!("benchmarks/{}.svg", self.file);
        // Drawn beside the document only where the results are kept.
        let folder = if bench.args.dry || bench.args.only.is_some() {
            peers::cache()?
        } else {
            root().join("docs")
        };
        let path = folder.join(&file);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(|e| format!("{}: {e}", parent.display()))?;
        }
        lines.draw(&path)?;
        println!("  drew {}", path.display());
        bench.plots.push(Plot {
            title: self.title.into(),
            file,
        });
        Ok(())
    }
}
