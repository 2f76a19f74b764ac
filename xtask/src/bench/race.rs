//! A race: both sides prepared and checked, then in turn, and the rows that come of it.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;
use serde_json::{Value, json};

use super::check::{self, Agreed};
use super::definition::{Race, races};
use super::pairs::Pairs;
use super::peers::{self, Side, Way};
use super::report::{Bar, Row};
use super::{Bench, Peers};
use crate::{Result, root, said, succeed};

/// Seconds of a run of the faster side, so that the clock and the start of the threads do not count.
const RUN_SECONDS: f64 = 1.5;
/// A much slower side shortens runs to this many of its seconds, but not below [`SHORT_RUN_SECONDS`] of the faster one.
const SLOW_RUN_SECONDS: f64 = 6.0;
const SHORT_RUN_SECONDS: f64 = 0.5;

/// What `hexapla-bench prepare` says; `bench/ours/src/prepare.rs` says what the fields are.
#[derive(Debug, Deserialize)]
struct Prepared {
    timed: [PathBuf; 2],
    checked: [PathBuf; 2],
    reference: Option<PathBuf>,
    check: String,
    tolerance: f64,
    trial: [String; 2],
    run: Option<[String; 2]>,
    gop: f64,
}

/// Measures the rows of a section.
pub(super) fn measure(bench: &mut Bench) -> Result<()> {
    for race in races(bench.section)? {
        let asked = !race.is_compiled() || bench.args.peers == Peers::All;
        if asked && bench.wants(&format!("{}, {}", race.name, race.peer)) {
            let rows = run(bench, &race).unwrap_or_else(|reason| vec![Err(reason)]);
            for row in rows {
                bench.add(&race.name, &race.peer, row)?;
            }
        }
    }
    bench.draw()
}

fn run(bench: &mut Bench, race: &Race) -> Result<Vec<Result<Row>>> {
    let threads = race.threads(bench.args.threads);
    let (ours, mut ways) = race.ways(&bench.python, threads)?;
    if let Some(words) = &race.called {
        ways.iter_mut()
            .for_each(|way| way.setting = format!("{}, {words}", way.setting));
    }
    let work = prepare(bench, race)?;
    let [warm, short] = &work.trial;
    let way = peers::best(&ways, &work.timed[1], warm, short)?;
    let agreed = work.agree(&ours, way)?;
    let [a, b] = [(&ours, &work.timed[0]), (way, &work.timed[1])].map(|(way, job)| way.start(job));
    let (mut a, mut b) = (a?, b?);
    let command = work.command(&mut a, &mut b)?;
    let count = race
        .pairs
        .map_or(bench.args.pairs, |most| most.min(bench.args.pairs));
    let pairs = Pairs::in_turn(count, || a.rate(&command), || b.rate(&command))?;
    for (name, side) in [("hexapla", &a), (&*race.peer, &b)] {
        bench.versions.insert(name.into(), side.version.clone());
    }
    let mut row = Row::compared(
        [&race.name, "tokens/s"],
        [&race.peer, &way.setting],
        &pairs,
        &agreed,
    )
    .with_bar(race.at_least.map(Bar::AtLeast));
    if let Some(kind) = &race.limit {
        row = row.of_limit(kind, bench.machine.limit(kind, threads), work.gop);
    }
    let mut rows = vec![Ok(row)];
    if let Some(memory) = &race.memory {
        drop(b);
        rows.push((|| {
            let key = memory.replace(" memory", "_mib");
            let mib = peers::number(&a.ask(short)?, &key)?;
            let (way, theirs) = peers::least(&ways, &work.timed[1], short, &key)?;
            let (name, pairs) = (
                format!("{}, {memory}", race.name),
                Pairs(vec![(mib, theirs)]),
            );
            let peer = [&*race.peer, &way.setting];
            let row = Row::compared([&name, "MiB"], peer, &pairs, &agreed);
            Ok(row.with_bar(race.memory_at_most.map(Bar::AtMost)))
        })());
    }
    Ok(rows)
}

/// Has our program write what both sides are told.
fn prepare(bench: &Bench, race: &Race) -> Result<Prepared> {
    let mut spec = json!(race.spec);
    if spec["program"] == "translate" {
        spec["model"] = json!(model(&bench.python)?);
    }
    if spec["program"] == "embed" {
        let folder = made(&bench.python, "make_encoder.py", "encoder")?;
        spec["model"] = json!(folder.join(spec["model"].as_str().unwrap_or_default()));
    }
    if spec["program"] == "generate" {
        peers::install_node_packages()?;
        let folder = made(&bench.python, "make_generator.py", "generator")?;
        spec["model"] = json!(folder.join(spec["model"].as_str().unwrap_or_default()));
    }
    for key in ["data", "text"] {
        if let Some(path) = spec[key].as_str() {
            spec[key] = json!(root().join(path));
        }
    }
    spec["threads"] = json!(race.threads(bench.args.threads));
    spec["folder"] = json!(peers::cache()?);
    let spec = peers::write("spec.json", &spec)?;
    let mut ours = Command::new(root().join("target/release/hexapla-bench"));
    let text = said(ours.arg("prepare").arg(spec))?;
    serde_json::from_str(&text).map_err(|e| format!("hexapla-bench said {text:?}: {e}"))
}

impl Prepared {
    /// Do both sides compute the same? Losses and outputs in f32 are compared; engines of 8 bits each with our own f32 output.
    fn agree(&self, ours: &Way, peer: &Way) -> Result<Agreed> {
        let answer = |way: &Way, job: &Path| {
            let answer = way.start(job)?.ask(&self.check)?;
            let [gradients, parameters] = ["gradients", "parameters"].map(|k| answer[k].as_u64());
            match gradients == parameters {
                true => Ok(answer),
                false => Err(format!(
                    "{}: {gradients:?} of {parameters:?} parameters receive a gradient",
                    way.name
                )),
            }
        };
        let (a, b) = (
            answer(ours, &self.checked[0])?,
            answer(peer, &self.checked[1])?,
        );
        if a["losses"].is_array() {
            return check::losses(
                &peers::part::<Vec<f64>>(&a, "losses")?,
                &peers::part::<Vec<f64>>(&b, "losses")?,
                self.tolerance,
            );
        }
        if a["vectors"].is_array() {
            let vectors = |answer: &Value| peers::part(answer, "vectors");
            return match &self.reference {
                None => check::vectors(vectors(&a)?, vectors(&b)?, 0.9999),
                Some(job) => {
                    let reference = vectors(&answer(ours, job)?)?;
                    check::near_vectors(vectors(&a)?, vectors(&b)?, reference, 0.995)
                }
            };
        }
        let outputs = |answer: &Value| peers::part::<Vec<Vec<u32>>>(answer, "outputs");
        match &self.reference {
            None => check::outputs(&outputs(&a)?, &outputs(&b)?, 0.99),
            Some(job) => {
                let reference = outputs(&answer(ours, job)?)?;
                check::nearness(&outputs(&a)?, &outputs(&b)?, &reference, 0.05)
            }
        }
    }

    /// Warms both sides; gives the command of a run.
    fn command(&self, ours: &mut Side, peer: &mut Side) -> Result<String> {
        if let Some([warm, run]) = &self.run {
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

/// The model folder that is decoded.
pub(super) fn model(python: &Path) -> Result<PathBuf> {
    made(python, "make_model.py", "base")
}

/// The folder that `script` makes, made on first use. Its name carries what it was made from, so that a changed script makes it
/// anew.
pub(super) fn made(python: &Path, script: &str, name: &str) -> Result<PathBuf> {
    let script = root().join("xtask/bench").join(script);
    let text = std::fs::read(&script).map_err(|e| format!("{}: {e}", script.display()))?;
    // FNV-1a: the same in every release of Rust, unlike the standard library's hashes.
    let hash = text.iter().fold(0xcbf29ce484222325u64, |h, byte| {
        (h ^ u64::from(*byte)).wrapping_mul(0x100000001b3)
    });
    let folder = peers::cache()?.join(format!("{name}-{:08x}", hash as u32));
    if !folder.exists() {
        println!("  making the model");
        let half = folder.with_extension("new");
        succeed(Command::new(python).arg(&script).arg(&half))?;
        std::fs::rename(&half, &folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    }
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_long_enough_for_the_clock_and_no_longer_than_they_must() {
        assert_eq!(steps(0.1, 0.2), 15);
        // A peer at 15 times the seconds.
        assert_eq!(steps(0.1, 1.5), 5);
        assert_eq!(steps(4.0, 9.0), 1);
    }
}
