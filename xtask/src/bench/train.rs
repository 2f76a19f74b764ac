//! Training steps from the same weights on the same batches, and an epoch of real sentences.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Serialize;

use super::check::{self, Agreed};
use super::pairs::Pairs;
use super::peers::{self, Program, Side, Way, Words};
use super::report::{Bar, Compared, Measured, Row, Work};
use super::{Bench, Peers};
use crate::{Result, root, succeed};

/// A model and its batch, as in `docs/benchmarks.md`.
#[derive(Debug, Clone)]
pub(super) struct Shape {
    pub(super) name: String,
    pub(super) d_model: usize,
    pub(super) heads: usize,
    pub(super) feed_forward: usize,
    pub(super) layers: usize,
    pub(super) vocabulary: usize,
    pub(super) sentences: usize,
    /// Tokens of each sentence, end token included.
    pub(super) length: usize,
}

/// What a program is told to train; `bench/ours/src/train.rs` says what the fields are.
#[derive(Debug, Serialize)]
struct Job {
    d_model: usize,
    heads: usize,
    feed_forward: usize,
    layers: usize,
    vocabulary: usize,
    dropout: f32,
    label_smoothing: f32,
    learning_rate: f32,
    precision: &'static str,
    threads: usize,
    weights: PathBuf,
    batches: PathBuf,
}

/// A batch without padding.
#[derive(Debug, Default, Serialize)]
pub(super) struct Sentences {
    source: Vec<Vec<u32>>,
    decoder_input: Vec<Vec<u32>>,
    labels: Vec<Vec<u32>>,
}

/// Seconds of a run of the faster side, so that the clock and the start of the threads do not count.
const RUN_SECONDS: f64 = 1.5;
/// A much slower side shortens runs to this many of its seconds, but not below [`SHORT_RUN_SECONDS`] of the faster one.
const SLOW_RUN_SECONDS: f64 = 6.0;
const SHORT_RUN_SECONDS: f64 = 0.5;
const CHECKED_STEPS: usize = 3;

impl Shape {
    pub(super) fn preset(name: &str) -> Shape {
        let (layers, d_model, feed_forward, heads, vocabulary, sentences, length) = match name {
            "tiny" => (4, 128, 256, 4, 10_000, 128, 16),
            "small" => (3, 256, 1024, 4, 8_000, 128, 16),
            _ => (6, 512, 2048, 8, 32_000, 64, 24),
        };
        Shape {
            name: name.into(),
            d_model,
            heads,
            feed_forward,
            layers,
            vocabulary,
            sentences,
            length,
        }
    }

    /// Operations of a step's matrix products for each target token: forward once, backward twice, two for each
    /// multiplication. Attention is counted in full, although the causal half could be left out.
    pub(super) fn operations(&self) -> f64 {
        let (d, f, t) = (self.d_model, self.feed_forward, self.length);
        let encoder = 4 * d * d + 2 * d * f + 2 * t * d;
        let decoder = 8 * d * d + 2 * d * f + 4 * t * d;
        (6 * (self.layers * (encoder + decoder) + self.vocabulary * d)) as f64
    }

    /// Random sentences of one length.
    pub(super) fn batch(&self) -> Sentences {
        let mut random = Words(1);
        let mut word = |_| random.next(1, self.vocabulary as u32 - 1);
        let mut batch = Sentences::default();
        for _ in 0..self.sentences {
            let mut words = || (1..self.length).map(&mut word).collect::<Vec<_>>();
            let (source, target) = (words(), words());
            batch.push(source, &target);
        }
        batch
    }
}

impl Sentences {
    /// Adds a pair without special tokens; id 0 both starts the decoder and ends a sentence.
    fn push(&mut self, mut source: Vec<u32>, target: &[u32]) {
        source.push(0);
        self.source.push(source);
        self.decoder_input.push([&[0], target].concat());
        self.labels.push([target, &[0]].concat());
    }
}

/// The files of one piece of work: a job that is timed, and one without dropout that is checked.
#[derive(Debug)]
pub(super) struct Jobs {
    timed: PathBuf,
    checked: PathBuf,
    precision: &'static str,
}

impl Jobs {
    /// Writes them, and the initial weights.
    pub(super) fn write(
        shape: &Shape,
        batches: &[Sentences],
        precision: &'static str,
        threads: usize,
    ) -> Result<Jobs> {
        let name = &shape.name;
        let weights = peers::cache()?.join(format!("train-{name}.safetensors"));
        let batches = peers::write(&format!("train-{name}-batches.json"), &batches)?;
        let job = |dropout, file: &str| {
            let job = Job {
                d_model: shape.d_model,
                heads: shape.heads,
                feed_forward: shape.feed_forward,
                layers: shape.layers,
                vocabulary: shape.vocabulary,
                dropout,
                label_smoothing: 0.1,
                learning_rate: 1e-4,
                precision,
                threads,
                weights: weights.clone(),
                batches: batches.clone(),
            };
            peers::write(&format!("train-{name}-{precision}-{file}.json"), &job)
        };
        let jobs = Jobs {
            timed: job(0.1, "timed")?,
            checked: job(0.0, "checked")?,
            precision,
        };
        let program = root().join("target/release/hexapla-bench");
        succeed(Command::new(program).arg("weights").arg(&jobs.checked))?;
        Ok(jobs)
    }

    /// Do both sides lose the same?
    pub(super) fn check(&self, ours: &Way, peer: &Way) -> Result<Agreed> {
        let losses = |way: &Way| -> Result<Vec<f64>> {
            let mut side = way.start(&self.checked)?;
            let answer = side.ask(&format!("run {CHECKED_STEPS}"))?;
            let [gradients, parameters] = ["gradients", "parameters"].map(|k| answer[k].as_u64());
            if gradients != parameters {
                return Err(format!(
                    "{}: {gradients:?} of {parameters:?} parameters receive a gradient",
                    way.program.name
                ));
            }
            peers::part(&answer, "losses")
        };
        let tolerance = if self.precision == "bf16" { 1e-3 } else { 1e-4 };
        check::losses(&losses(ours)?, &losses(peer)?, tolerance)
    }

    /// Both sides, warm, and the command of a run.
    pub(super) fn start(&self, ours: &Way, peer: &Way) -> Result<(Side, Side, String)> {
        let (mut ours, mut peer) = (ours.start(&self.timed)?, peer.start(&self.timed)?);
        let step = |side: &mut Side| -> Result<f64> {
            side.ask("run 2")?;
            Ok(peers::number(&side.ask("run 2")?, "seconds")? / 2.0)
        };
        let steps = steps(step(&mut ours)?, step(&mut peer)?);
        Ok((ours, peer, format!("run {steps}")))
    }

    /// The peer's fastest way.
    pub(super) fn best<'a>(&self, ways: &'a [Way]) -> Result<&'a Way> {
        peers::best(ways, &self.timed, "run 2", "run 3")
    }
}

/// Steps of a run, by the seconds of each side's step.
fn steps(ours: f64, peer: f64) -> usize {
    let (fast, slow) = (ours.min(peer), ours.max(peer));
    let long = (RUN_SECONDS / fast).min(SLOW_RUN_SECONDS / slow);
    long.max(SHORT_RUN_SECONDS / fast).ceil().max(1.0) as usize
}

pub(super) fn ours() -> Way {
    Way::new(Program::ours("train"), &[])
}

/// The ways to train with PyTorch.
fn torch(python: &Path, compile: bool) -> Vec<Way> {
    let torch = Program::script("PyTorch", python, "train_torch.py");
    let mut ways = vec![
        Way::new(torch.clone().called("eager"), &[]),
        Way::new(torch.clone().called("eager").keeping_memory(), &[]),
        torch_eager(python),
    ];
    if compile {
        let compiled = torch.called("compiled, fused Adam").keeping_memory();
        ways.push(Way::new(compiled, &["compile", "fused"]));
    }
    ways
}

/// The way of the points of curves: none was faster by more than a few per cent for any shape without compiling.
pub(super) fn torch_eager(python: &Path) -> Way {
    let torch = Program::script("PyTorch", python, "train_torch.py");
    Way::new(
        torch.called("eager, fused Adam").keeping_memory(),
        &["fused"],
    )
}

/// A framework in Rust, built on the spot.
fn rust_peer(name: &str, threads: usize) -> Result<Vec<Way>> {
    let binary = peers::build_peer(name)?;
    let program = Program::new(name, [binary.into()]).on_threads(threads);
    Ok(vec![
        Way::new(program.clone(), &[]),
        Way::new(program.keeping_memory(), &[]),
    ])
}

/// Against whom, in what arithmetic, and what is aimed at.
struct Race {
    peer: &'static str,
    shape: &'static str,
    precision: &'static str,
    rate: f64,
    memory: Option<f64>,
}

const fn race(
    peer: &'static str,
    shape: &'static str,
    precision: &'static str,
    rate: f64,
    memory: Option<f64>,
) -> Race {
    Race {
        peer,
        shape,
        precision,
        rate,
        memory,
    }
}

/// No base of burn and candle: a step takes them most of a minute.
const RACES: [Race; 10] = [
    race("PyTorch", "tiny", "float32", 2.2, Some(0.5)),
    race("PyTorch", "small", "float32", 1.7, None),
    race("PyTorch", "base", "float32", 1.7, Some(0.4)),
    race("PyTorch", "tiny", "bf16", 2.5, None),
    race("PyTorch", "small", "bf16", 1.6, None),
    race("PyTorch", "base", "bf16", 1.5, None),
    race("burn", "tiny", "float32", 3.5, None),
    race("burn", "small", "float32", 3.5, None),
    race("candle", "tiny", "float32", 3.5, None),
    race("candle", "small", "float32", 3.5, None),
];

pub(super) fn measure(bench: &mut Bench) -> Result<()> {
    for race in RACES {
        let name = format!("{} {}", race.shape, race.precision);
        let asked = race.peer == "PyTorch" || bench.args.peers == Peers::All;
        if !asked || !bench.wants_race(&name, race.peer) {
            continue;
        }
        if let Err(reason) = run(bench, &race, &name) {
            bench.add(&name, race.peer, Err(reason))?;
        }
    }
    if bench.wants_race(EPOCH, "PyTorch") {
        let row = epoch(bench);
        bench.add(EPOCH, "PyTorch", row)?;
    }
    Ok(())
}

/// One race: a row of rates and one of memory.
fn run(bench: &mut Bench, race: &Race, name: &str) -> Result<()> {
    let shape = Shape::preset(race.shape);
    let jobs = Jobs::write(&shape, &[shape.batch()], race.precision, bench.args.threads)?;
    let ways = match race.peer {
        "PyTorch" => torch(&bench.python, true),
        name => rust_peer(name, bench.args.threads)?,
    };
    let ours = ours();
    let way = jobs.best(&ways)?;
    let agreed = jobs.check(&ours, way)?;
    let (mut a, mut b, command) = jobs.start(&ours, way)?;
    let pairs = bench.in_turn(&mut a, &mut b, &command)?;
    bench.met("hexapla", &a);
    bench.met(race.peer, &b);
    let sides = [
        Measured::by("hexapla", ""),
        Measured::by(race.peer, &way.program.setting),
    ];
    let kind = if race.precision == "bf16" {
        "bf16"
    } else {
        "f32"
    };
    let limit = bench.machine.limit(kind, bench.args.threads);
    let rates = Compared::new(
        Work {
            name: name.into(),
            unit: "tokens/s".into(),
            bar: Some(Bar::AtLeast(race.rate)),
        },
        sides,
        &pairs,
        &agreed,
    )
    .of_limit(kind, limit, shape.operations() / 1e9);
    bench.add(name, race.peer, Ok(Row::Compared(rates)))?;
    drop(b);
    let row = (|| {
        let peak = peers::number(&a.ask("run 1")?, "peak_mib")?;
        let (way, theirs) = peers::least(&ways, &jobs.timed, "run 3", "peak_mib")?;
        let work = Work {
            name: format!("{name}, peak memory"),
            unit: "MiB".into(),
            bar: race.memory.map(Bar::AtMost),
        };
        let sides = [
            Measured::by("hexapla", ""),
            Measured::by(race.peer, &way.program.setting),
        ];
        let pairs = Pairs(vec![(peak, theirs)]);
        Ok(Row::Compared(Compared::new(work, sides, &pairs, &agreed)))
    })();
    bench.add(name, race.peer, row)?;
    Ok(())
}

const EPOCH: &str = "epoch of Multi30k, tiny float32";
/// Parts of an epoch; a run takes one, and the next run goes on with the next, so that all pairs see more than one epoch.
const EPOCH_PARTS: usize = 3;

/// Beside the repository: the data may not be given away.
const MULTI30K: &str = "../shared/data/multi30k/bpe-wu2021";
/// Target and source tokens, end tokens included, that a batch of the epoch holds at most, counted as the longer side.
const EPOCH_TOKENS: usize = 4096;

fn epoch(bench: &mut Bench) -> Result<Row> {
    let folder = root().join(MULTI30K);
    let (pairs, vocabulary) = read_pairs(&folder)?;
    let batches = sorted_batches(pairs, EPOCH_TOKENS);
    let steps = batches.len();
    let shape = Shape {
        name: "epoch".into(),
        vocabulary,
        ..Shape::preset("tiny")
    };
    let jobs = Jobs::write(&shape, &batches, "float32", bench.args.threads)?;
    let (ours, ways) = (ours(), torch(&bench.python, false));
    let way = peers::best(&ways, &jobs.timed, "run 5", "run 10")?;
    let agreed = jobs.check(&ours, way)?;
    let (mut a, mut b) = (ours.start(&jobs.timed)?, way.start(&jobs.timed)?);
    // A tenth of an epoch, so that allocators have seen most lengths.
    let warm = format!("run {}", steps.div_ceil(10));
    a.ask(&warm)?;
    b.ask(&warm)?;
    let pairs = bench.in_turn(
        &mut a,
        &mut b,
        &format!("run {}", steps.div_ceil(EPOCH_PARTS)),
    )?;
    bench.met("hexapla", &a);
    bench.met("PyTorch", &b);
    let work = Work {
        name: EPOCH.into(),
        unit: "tokens/s".into(),
        bar: Some(Bar::AtLeast(2.5)),
    };
    let setting = format!("{}, sorted and padded", way.program.setting);
    let sides = [
        Measured::by("hexapla", ""),
        Measured::by("PyTorch", &setting),
    ];
    Ok(Row::Compared(Compared::new(work, sides, &pairs, &agreed)))
}

/// A pair of sentences in ids.
type IdPair = (Vec<u32>, Vec<u32>);

/// The pairs of a tokenised corpus and the size of its joint vocabulary. Ids are given as words come; 0 is kept.
fn read_pairs(folder: &Path) -> Result<(Vec<IdPair>, usize)> {
    let read = |name: &str| {
        let path = folder.join(name);
        std::fs::read_to_string(&path).map_err(|_| format!("skipped: no {}", path.display()))
    };
    let mut ids = std::collections::HashMap::new();
    let mut of = |line: &str| -> Vec<u32> {
        let id = |word: &str| {
            let next = ids.len() as u32 + 1;
            *ids.entry(word.to_string()).or_insert(next)
        };
        line.split_whitespace().map(id).collect()
    };
    let (english, german) = (read("train.en")?, read("train.de")?);
    let pairs = english
        .split('\n')
        .zip(german.split('\n'))
        .map(|(en, de)| (of(en), of(de)))
        .filter(|(en, de)| !en.is_empty() && !de.is_empty())
        .collect();
    Ok((pairs, ids.len() + 1))
}

/// Like lengths together, at most `tokens` a batch counted as its longest side padded, in an order that mixes lengths.
fn sorted_batches(mut pairs: Vec<IdPair>, tokens: usize) -> Vec<Sentences> {
    pairs.sort_by_key(|(source, target)| (target.len(), source.len()));
    let mut batches: Vec<Sentences> = Vec::new();
    let (mut count, mut longest) = (0, 0);
    for (source, target) in pairs {
        let length = source.len().max(target.len()) + 1;
        if batches.is_empty() || longest.max(length) * (count + 1) > tokens {
            batches.push(Sentences::default());
            (count, longest) = (0, 0);
        }
        (count, longest) = (count + 1, longest.max(length));
        if let Some(batch) = batches.last_mut() {
            batch.push(source, &target);
        }
    }
    mixed(batches)
}

/// The items in steps of about 0.618 of their number: every one once, neighbours far apart.
fn mixed<T>(items: Vec<T>) -> Vec<T> {
    let n = items.len();
    let coprime =
        |step: &usize| (2..=*step).all(|d| !step.is_multiple_of(d) || !n.is_multiple_of(d));
    let step = (n * 618 / 1000..n).find(coprime).unwrap_or(1).max(1);
    let mut slots: Vec<Option<T>> = items.into_iter().map(Some).collect();
    (0..n).filter_map(|i| slots[i * step % n].take()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_costs_what_the_peers_table_says() {
        // That table leaves attention out, which is at most 3 % here.
        for (name, expected) in [("tiny", 31.8), ("small", 92.8), ("base", 557.0)] {
            let shape = Shape::preset(name);
            let step = shape.operations() * (shape.sentences * shape.length) as f64 / 1e9;
            assert!((step / expected - 1.0).abs() < 0.03, "{name}: {step}");
        }
    }

    #[test]
    fn batches_hold_every_pair_once_and_keep_their_size() {
        let pairs: Vec<IdPair> = (1..500u32)
            .map(|i| {
                (
                    vec![i; 1 + i as usize * 7 % 31],
                    vec![i; 1 + i as usize * 5 % 23],
                )
            })
            .collect();
        let batches = sorted_batches(pairs, 100);
        let mut all: Vec<u32> = batches
            .iter()
            .flat_map(|b| &b.labels)
            .map(|l| l[0])
            .collect();
        all.sort_unstable();
        assert!(all.iter().copied().eq(1..500));
        for b in &batches {
            let longest = b
                .source
                .iter()
                .chain(&b.labels)
                .map(Vec::len)
                .max()
                .unwrap();
            assert!(b.source.len() * longest <= 100);
        }
    }

    #[test]
    fn runs_are_long_enough_for_the_clock_and_no_longer_than_they_must() {
        assert_eq!(steps(0.1, 0.2), 15);
        // A peer at 15 times the seconds.
        assert_eq!(steps(0.1, 1.5), 5);
        assert_eq!(steps(4.0, 9.0), 1);
    }

    #[test]
    fn mixing_loses_nothing() {
        for n in 0..40 {
            let mut items = mixed((0..n).collect());
            items.sort_unstable();
            assert!(items.into_iter().eq(0..n), "{n}");
        }
    }
}
