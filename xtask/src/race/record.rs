//! What a race gave, as data: `bench/race.json`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::curve::Curve;
use crate::bench::machine::{Machine, busy_cores};
use crate::{Result, root, write_whole};

/// A race.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) date: String,
    pub(super) command: String,
    pub(super) machine: Machine,
    /// Program and version.
    pub(super) versions: BTreeMap<String, String>,
    /// Of updates, for each side.
    pub(super) minutes: f64,
    pub(super) threads: usize,
    pub(super) setup: Setup,
    /// Ours, then the peers.
    pub(super) entrants: Vec<Entrant>,
}

/// What was trained on what, as `hexapla-bench begin` tells it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Setup {
    /// Validation loss of the initial weights, by our program.
    pub(super) loss: f64,
    pub(super) parameters: u64,
    pub(super) train_pairs: u64,
    pub(super) valid_pairs: u64,
    pub(super) test_pairs: u64,
    /// The test's name.
    pub(super) test: String,
    pub(super) beam_size: u64,
    /// Updates between validations.
    pub(super) valid_every: u64,
    /// Of our products.
    pub(super) precision: String,
}

/// A side and how it did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Entrant {
    pub(super) name: String,
    pub(super) setting: String,
    /// The command, where it is one.
    pub(super) command: Option<String>,
    /// Cores that others kept at work before it or after it, whichever is more, where the system tells.
    pub(super) busy_cores: Option<f64>,
    pub(super) curve: Curve,
    /// On the test's pairs.
    pub(super) scores: Vec<Score>,
}

/// A metric's value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Score {
    pub(super) metric: String,
    pub(super) value: f64,
    pub(super) signature: String,
}

impl Score {
    /// The scores that `hexapla evaluate` printed: lines `NAME = VALUE …`, each with its signature below.
    ///
    /// # Errors
    /// `text` has another form.
    pub(super) fn all(text: &str) -> Result<Vec<Score>> {
        let lines: Vec<&str> = text.lines().collect();
        let scores: Option<Vec<Score>> = lines
            .chunks(2)
            .map(|lines| {
                let [line, signature] = lines else {
                    return None;
                };
                let (metric, value) = line.split_once(" = ")?;
                Some(Score {
                    metric: metric.into(),
                    value: value.split(' ').next()?.parse().ok()?,
                    signature: signature.trim().into(),
                })
            })
            .collect();
        scores
            .filter(|scores| !scores.is_empty())
            .ok_or_else(|| format!("no scores in {text:?}"))
    }
}

impl Record {
    /// The one that is kept.
    ///
    /// # Errors
    /// There is none, or it has another form.
    pub(super) fn read() -> Result<Self> {
        let path = path();
        let text = std::fs::read_to_string(&path).map_err(|e| {
            format!(
                "{}: {e}; `cargo xtask race` writes it on an idle machine",
                path.display()
            )
        })?;
        serde_json::from_str(&text).map_err(|e| format!("{}: {e}", path.display()))
    }

    /// Lets a side run. What there is then stands in `target/race-last.json`, should the race not come to its end.
    ///
    /// # Errors
    /// The run fails, or the file cannot be written.
    pub(super) fn add(&mut self, run: impl FnOnce() -> Result<Entrant>) -> Result<()> {
        let before = busy_cores();
        let mut entrant = run()?;
        entrant.busy_cores = before.zip(busy_cores()).map(|(a, b)| a.max(b));
        self.entrants.push(entrant);
        self.write_to(&root().join("target/race-last.json"))
    }

    /// Keeps it.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(super) fn write(&self) -> Result<()> {
        self.write_to(&path())
    }

    fn write_to(&self, path: &Path) -> Result<()> {
        let json = serde_json::to_string_pretty(self).map_err(|e| e.to_string())?;
        write_whole(path, &(json + "\n"))
    }
}

fn path() -> PathBuf {
    root().join("bench/race.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_are_read_with_their_signatures() {
        let text = "BLEU = 12.34 50.0/20.0/10.0/5.0 (BP = 1.000 ratio = 1.001 hyp_len = 10 ref_len = 10)\n  \
                    nrefs:1|tok:13a\nchrF2 = 45.60\n  nrefs:1|nc:6\n";
        let scores = Score::all(text).unwrap();
        assert_eq!(scores.len(), 2);
        assert_eq!(
            (scores[0].metric.as_str(), scores[0].value),
            ("BLEU", 12.34)
        );
        assert_eq!(scores[0].signature, "nrefs:1|tok:13a");
        assert_eq!(
            (scores[1].metric.as_str(), scores[1].value),
            ("chrF2", 45.6)
        );
        assert!(Score::all("").is_err());
        assert!(Score::all("BLEU = 12.34").is_err());
        assert!(Score::all("BLEU = much\n  tok:13a").is_err());
    }
}
