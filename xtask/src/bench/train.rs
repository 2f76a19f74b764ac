//! Training steps from the same weights on the same batches, and an epoch of real sentences.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Serialize;

use super::check::{self, Agreed};
use super::definition::{self, Epoch, Shape, Train, Wanted, at_least, ways};
use super::peers::{self, Side, Way, Words};
use super::race::{Contest, Race};
use super::report::Bar;
use super::{Bench, Peers};
use crate::{Result, root, succeed};

/// What a program is told to train; `bench/ours/src/train.rs` says what the fields are.
#[derive(Debug, Serialize)]
struct Job<'a> {
    #[serde(flatten)]
    shape: &'a Shape,
    dropout: f32,
    label_smoothing: f32,
    learning_rate: f32,
    precision: &'a str,
    threads: usize,
    weights: &'a Path,
    batches: &'a Path,
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
    /// Operations of a step's matrix products for each target token: forward once, backward twice, two for each
    /// multiplication. Attention is counted in full, although the causal half could be left out.
    fn operations(&self) -> f64 {
        let (d, f, t) = (self.d_model, self.feed_forward, self.length);
        let encoder = 4 * d * d + 2 * d * f + 2 * t * d;
        let decoder = 8 * d * d + 2 * d * f + 4 * t * d;
        (6 * (self.layers * (encoder + decoder) + self.vocabulary * d)) as f64
    }

    /// Random sentences of one length.
    pub(super) fn batch(&self) -> Sentences {
        let mut random = Words(7);
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
pub(super) struct Steps {
    timed: PathBuf,
    checked: PathBuf,
    tolerance: f64,
    /// Of an epoch: the commands that warm and that are a run.
    epoch: Option<[String; 2]>,
}

impl Steps {
    /// Writes them, and the initial weights.
    pub(super) fn write(
        name: &str,
        shape: &Shape,
        batches: &[Sentences],
        precision: &str,
        threads: usize,
    ) -> Result<Steps> {
        let weights = &peers::cache()?.join(format!("train-{name}.safetensors"));
        let batches = &peers::write(&format!("train-{name}-batches.json"), &batches)?;
        let job = |dropout, file: &str| {
            let job = Job {
                shape,
                dropout,
                label_smoothing: 0.1,
                learning_rate: 1e-4,
                precision,
                threads,
                weights,
                batches,
            };
            peers::write(&format!("train-{name}-{precision}-{file}.json"), &job)
        };
        let steps = Steps {
            timed: job(0.1, "timed")?,
            checked: job(0.0, "checked")?,
            tolerance: if precision == "bf16" { 1e-3 } else { 1e-4 },
            epoch: None,
        };
        let program = root().join("target/release/hexapla-bench");
        succeed(Command::new(program).arg("weights").arg(&steps.checked))?;
        Ok(steps)
    }
}

impl Contest for Steps {
    fn trial(&self) -> (PathBuf, [&str; 2]) {
        let short = if self.epoch.is_some() {
            ["run 5", "run 10"]
        } else {
            ["run 2", "run 3"]
        };
        (self.timed.clone(), short)
    }

    fn start(&self, ours: &Way, peer: &Way) -> Result<(Side, Side)> {
        Ok((ours.start(&self.timed)?, peer.start(&self.timed)?))
    }

    /// Do both sides lose the same?
    fn check(&self, ours: &Way, peer: &Way) -> Result<Agreed> {
        let losses = |way: &Way| -> Result<Vec<f64>> {
            let answer = way
                .start(&self.checked)?
                .ask(&format!("run {CHECKED_STEPS}"))?;
            let [gradients, parameters] = ["gradients", "parameters"].map(|k| answer[k].as_u64());
            if gradients != parameters {
                let name = &way.name;
                return Err(format!(
                    "{name}: {gradients:?} of {parameters:?} parameters receive a gradient"
                ));
            }
            peers::part(&answer, "losses")
        };
        check::losses(&losses(ours)?, &losses(peer)?, self.tolerance)
    }

    fn command(&self, ours: &mut Side, peer: &mut Side) -> Result<String> {
        if let Some([warm, run]) = &self.epoch {
            ours.ask(warm)?;
            peer.ask(warm)?;
            return Ok(run.clone());
        }
        let step = |side: &mut Side| -> Result<f64> {
            side.ask("run 2")?;
            Ok(peers::number(&side.ask("run 2")?, "seconds")? / 2.0)
        };
        Ok(format!("run {}", steps(step(ours)?, step(peer)?)))
    }
}

/// Steps of a run, by the seconds of each side's step.
fn steps(ours: f64, peer: f64) -> usize {
    let (fast, slow) = (ours.min(peer), ours.max(peer));
    let long = (RUN_SECONDS / fast).min(SLOW_RUN_SECONDS / slow);
    long.max(SHORT_RUN_SECONDS / fast).ceil().max(1.0) as usize
}

pub(super) fn measure(bench: &mut Bench) -> Result<()> {
    let definition: Train = definition::read("train")?;
    let (python, threads) = (bench.python.clone(), bench.args.threads);
    for race in &definition.race {
        let (precision, peer) = (race.precision.as_str(), race.peer.as_str());
        let name = &format!("{} {precision}", race.shape);
        let asked = peer == "PyTorch" || bench.args.peers == Peers::All;
        if !asked || !bench.wants(&format!("{name}, {peer}")) {
            continue;
        }
        let shape = &definition.shapes[&race.shape];
        let wanted = Wanted {
            work: "train",
            peer,
            ..Wanted::default()
        };
        let kind = if precision == "bf16" { "bf16" } else { "f32" };
        Race {
            name,
            peer,
            bar: at_least(Some(race.at_least)),
            limit: Some((kind, shape.operations() / 1e9)),
            memory: Some((
                "peak memory",
                "peak_mib",
                race.memory_at_most.map(Bar::AtMost),
            )),
            ..Race::default()
        }
        .run(
            bench,
            &Way::ours("train"),
            ways(&wanted, &python, threads),
            Steps::write(&race.shape, shape, &[shape.batch()], precision, threads),
        )?;
    }
    let epoch = &definition.epoch;
    if !bench.wants(&format!("{}, {}", epoch.name, epoch.peer)) {
        return Ok(());
    }
    let wanted = Wanted {
        work: "train",
        peer: &epoch.peer,
        any_shape: true,
        ..Wanted::default()
    };
    let padded = |way: Way| Way {
        setting: way.setting + ", sorted and padded",
        ..way
    };
    let ways = ways(&wanted, &python, threads);
    Race {
        name: &epoch.name,
        peer: &epoch.peer,
        bar: at_least(Some(epoch.at_least)),
        ..Race::default()
    }
    .run(
        bench,
        &Way::ours("train"),
        ways.map(|ways| ways.into_iter().map(padded).collect()),
        epoch.steps(&definition.shapes[&epoch.shape], threads),
    )
}

impl Epoch {
    fn steps(&self, shape: &Shape, threads: usize) -> Result<Steps> {
        let (pairs, vocabulary) = read_pairs(&root().join(&self.data))?;
        let batches = sorted_batches(pairs, self.tokens);
        let shape = Shape {
            vocabulary,
            ..shape.clone()
        };
        // A tenth of an epoch first, so that allocators have seen most lengths.
        let commands = [10, self.parts].map(|n| format!("run {}", batches.len().div_ceil(n)));
        Ok(Steps {
            epoch: Some(commands),
            ..Steps::write("epoch", &shape, &batches, "float32", threads)?
        })
    }
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
    let pairs = english.split('\n').zip(german.split('\n'));
    let pairs = pairs.map(|(en, de)| (of(en), of(de)));
    let pairs = pairs
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
        let train: Train = definition::read("train").unwrap();
        // That table leaves attention out, which is at most 3 % here.
        for (name, expected) in [("tiny", 31.8), ("small", 92.8), ("base", 557.0)] {
            let shape = &train.shapes[name];
            let step = shape.operations() * (shape.sentences * shape.length) as f64 / 1e9;
            assert!((step / expected - 1.0).abs() < 0.03, "{name}: {step}");
        }
    }

    #[test]
    fn batches_hold_every_pair_once_and_keep_their_size() {
        let words = |i: u32, n: u32, most: u32| vec![i; 1 + (i * n % most) as usize];
        let pairs: Vec<IdPair> = (1..500)
            .map(|i| (words(i, 7, 31), words(i, 5, 23)))
            .collect();
        let batches = sorted_batches(pairs, 100);
        let labels = batches.iter().flat_map(|b| &b.labels);
        let mut all: Vec<u32> = labels.map(|l| l[0]).collect();
        all.sort_unstable();
        assert!(all.iter().copied().eq(1..500));
        for b in &batches {
            let longest = b.source.iter().chain(&b.labels).map(Vec::len).max();
            assert!(b.source.len() * longest.unwrap() <= 100);
        }
        for n in 0..40 {
            let mut items = mixed((0..n).collect());
            items.sort_unstable();
            assert!(items.into_iter().eq(0..n), "{n}");
        }
    }

    #[test]
    fn runs_are_long_enough_for_the_clock_and_no_longer_than_they_must() {
        assert_eq!(steps(0.1, 0.2), 15);
        // A peer at 15 times the seconds.
        assert_eq!(steps(0.1, 1.5), 5);
        assert_eq!(steps(4.0, 9.0), 1);
    }
}
