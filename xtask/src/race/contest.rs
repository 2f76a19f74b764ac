//! The sides of a race: what they start from, their runs, and what their models are worth.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Serialize;
use serde_json::Value;

use super::Batches;
use super::curve::Curve;
use super::record::{Entrant, Score, Setup};
use crate::bench::peers::{self, Way, number};
use crate::{Result, root, said, succeed};

/// Relative to the repository, where our commands run.
const RECIPE: &str = "recipes/race.toml";
const FOLDER: &str = "target/race";

/// Two losses of the same weights in f32 differ by no more than this share: sums in another order make some 1e-6.
const TOLERANCE: f64 = 1e-3;

/// A race that is prepared: `target/race` holds what all sides start from.
#[derive(Debug)]
pub(super) struct Contest {
    pub(super) setup: Setup,
    minutes: f64,
    threads: usize,
    python: PathBuf,
}

/// Seconds of a try before it is measured, and while it is.
const WARM: &str = "run 5";
const RUN: &str = "run 15";

/// A way to train with PyTorch that may race.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) way: Way,
    pub(super) version: String,
    /// Its name in `target/race`.
    model: String,
    /// Validation loss before any update.
    loss: f64,
}

/// What `hexapla-bench begin` and `end` are told; `bench/ours/src/race.rs` says what the fields are.
#[derive(Debug, Serialize)]
struct Job {
    recipe: PathBuf,
    training: PathBuf,
    output: PathBuf,
    threads: usize,
    weights: Option<PathBuf>,
}

impl Contest {
    /// Makes `target/race` anew (the last one's becomes `target/race-before`): initial weights, token ids of all pairs, the sides of the test.
    ///
    /// # Errors
    /// The data is not there, or a peer could not train what the recipe says.
    pub(super) fn prepare(minutes: f64, threads: usize, python: PathBuf) -> Result<Self> {
        let folder = path("");
        let fail = |e: std::io::Error| format!("{}: {e}", folder.display());
        if folder.exists() {
            // Half an hour of each side: gone only with the race after the next.
            let before = folder.with_file_name("race-before");
            let _ = std::fs::remove_dir_all(&before);
            std::fs::rename(&folder, before).map_err(fail)?;
        }
        std::fs::create_dir_all(folder.join("hexapla/training")).map_err(fail)?;
        let mut contest = Contest {
            setup: Setup::default(),
            minutes,
            threads,
            python,
        };
        let told = contest.tell("begin", &folder, None)?;
        contest.setup = serde_json::from_value(told).map_err(|e| format!("the setup: {e}"))?;
        Ok(contest)
    }

    /// PyTorch's fastest way to train on such batches, once it is seen that it starts where ours does.
    ///
    /// # Errors
    /// It does not start, or it does not compute the same.
    pub(super) fn peer(&self, batches: Batches) -> Result<Peer> {
        let way = peers::best(&self.ways(batches), &self.peers_job(), WARM, RUN)?.clone();
        let mut side = way.start(&self.peers_job())?;
        let loss = number(&side.ask("loss")?, "loss")?;
        same("the initial weights", self.setup.loss, loss)?;
        Ok(Peer {
            way,
            model: format!("torch-{}", batches.option()),
            version: side.version.clone(),
            loss,
        })
    }

    /// All ways of PyTorch to train on such batches.
    fn ways(&self, batches: Batches) -> Vec<Way> {
        let mut ways = Vec::new();
        for precision in ["float32", "bf16"] {
            for attention in ["fused", "plain"] {
                let words = batches.words();
                let setting = format!("{words}, {precision}, {attention} attention, fused Adam");
                // Lengths change, so that a malloc which keeps its memory may also keep holes.
                for (keep, tuned) in [(false, ""), (true, ", malloc tuned")] {
                    ways.push(Way {
                        name: "PyTorch".into(),
                        setting: format!("{setting}{tuned}"),
                        command: peers::script(&self.python, "race_torch.py"),
                        options: [batches.option(), precision, attention]
                            .map(String::from)
                            .into(),
                        environment: peers::environment(&BTreeMap::new(), keep, self.threads),
                    });
                }
            }
        }
        ways
    }

    /// Our run, with the command that everyone has.
    ///
    /// # Errors
    /// It fails.
    pub(super) fn ours(&self) -> Result<Entrant> {
        let output = format!("{FOLDER}/hexapla");
        let (minutes, threads) = (self.minutes.to_string(), self.threads.to_string());
        let words = ["train", "--config", RECIPE, "--output", &output];
        let limits = ["--max-minutes", &minutes, "--threads", &threads];
        let words = [&words[..], &limits].concat();
        succeed(hexapla().args(&words))?;
        let end = self.tell("end", &path("hexapla-last"), None)?;
        Ok(Entrant {
            name: "hexapla".into(),
            setting: format!("{}, {}", Batches::Drawn.words(), self.setup.precision),
            command: Some(format!("hexapla {}", words.join(" "))),
            busy_cores: None,
            curve: Curve::from(self.setup.loss).with_ours(&end)?,
            scores: self.scores("hexapla-last")?,
        })
    }

    /// A run of PyTorch.
    ///
    /// # Errors
    /// It fails, or our program finds another loss in the weights that it ended with.
    pub(super) fn peers(&self, peer: &Peer) -> Result<Entrant> {
        let Peer { way, model, .. } = peer;
        let seconds = 60.0 * self.minutes;
        let weights = path(&format!("{model}.safetensors"));
        let mut side = way.start(&self.peers_job())?;
        let answer = side.ask(&format!("race {seconds} {}", weights.display()))?;
        // Its threads are not to wait beside what follows.
        drop(side);
        let curve = Curve::from(peer.loss).with_peers(&answer)?;
        let end = self.tell("end", &path(model), Some(weights))?;
        same(
            "the weights that it ended with",
            number(&end, "loss")?,
            curve.last().loss,
        )?;
        Ok(Entrant {
            name: way.name.clone(),
            setting: way.setting.clone(),
            command: None,
            busy_cores: None,
            curve,
            scores: self.scores(model)?,
        })
    }

    /// BLEU and chrF of a model folder in `target/race`.
    fn scores(&self, model: &str) -> Result<Vec<Score>> {
        let mut command = hexapla();
        command.arg("evaluate").arg("--model").arg(path(model));
        command.arg("--source").arg(path("test.source"));
        command.arg("--reference").arg(path("test.reference"));
        command
            .arg("--beam-size")
            .arg(self.setup.beam_size.to_string());
        command.arg("--threads").arg(self.threads.to_string());
        Score::all(&said(&mut command)?)
    }

    /// The job that `hexapla-bench begin` wrote for peers.
    fn peers_job(&self) -> PathBuf {
        path("peer.json")
    }

    /// Runs a command of our side of the benchmarks and reads its answer.
    fn tell(&self, command: &str, output: &Path, weights: Option<PathBuf>) -> Result<Value> {
        let job = Job {
            recipe: root().join(RECIPE),
            training: path("hexapla/training"),
            output: output.into(),
            threads: self.threads,
            weights,
        };
        let job = peers::write("race.json", &job)?;
        let text = said(release("hexapla-bench").arg(command).arg(job))?;
        serde_json::from_str(&text).map_err(|e| format!("hexapla-bench said {text:?}: {e}"))
    }
}

/// Refuses two losses of the same weights on the same pairs that differ by more than rounding.
///
/// # Errors
/// Says what both are.
fn same(weights: &str, ours: f64, peers: f64) -> Result<()> {
    let off = (peers / ours - 1.0).abs();
    // Not `off > TOLERANCE`: that would let NaN pass.
    if off <= TOLERANCE {
        return Ok(());
    }
    Err(format!(
        "no race: the two sides do not compute the same thing. On the validation pairs {weights} lose {ours:.6} by our \
         program and {peers:.6} by PyTorch's; they may differ by {TOLERANCE} of it"
    ))
}

/// A file or folder of the race.
fn path(name: &str) -> PathBuf {
    root().join(FOLDER).join(name)
}

fn hexapla() -> Command {
    release("hexapla")
}

/// A program of ours, in the repository.
fn release(name: &str) -> Command {
    let mut command = Command::new(root().join("target/release").join(name));
    command.current_dir(root());
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sides_that_compute_something_else_are_refused() {
        assert!(same("the initial weights", 9.03, 9.03001).is_ok());
        for other in [9.1, 8.9, f64::NAN, f64::INFINITY, 0.0] {
            let refused = same("the initial weights", 9.03, other).unwrap_err();
            assert!(
                refused.contains("do not compute the same thing"),
                "{refused}"
            );
            assert!(refused.contains("the initial weights lose 9.030000"));
        }
        assert!(same("the initial weights", f64::NAN, f64::NAN).is_err());
    }
}
