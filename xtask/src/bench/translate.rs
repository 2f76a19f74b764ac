//! Decoding: the same model, the same sources, the same number of words.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Serialize;

use super::Bench;
use super::check::{self, Agreed};
use super::definition::{self, Translate, TranslateRace, Wanted, at_least, ways};
use super::peers::{self, Side, Way, Words};
use super::race::{Contest, Race};
use super::report::Bar;
use crate::{Result, root, succeed};

/// What a program is told to decode; `bench/ours/src/translate.rs` says what the fields are.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Job {
    pub(super) model: PathBuf,
    pub(super) compute_type: String,
    pub(super) threads: usize,
    pub(super) streams: usize,
    pub(super) batch: usize,
    pub(super) beam: usize,
    pub(super) tokens: usize,
    pub(super) sources: Vec<Vec<u32>>,
}

/// A job, and the same with the model as our side reads it.
#[derive(Debug)]
pub(super) struct Decoding {
    job: Job,
    path: PathBuf,
    ours: Job,
    /// The same with more sentences, for a check in int8.
    more: Vec<Vec<u32>>,
}

impl Decoding {
    pub(super) fn write(job: Job, more: Vec<Vec<u32>>) -> Result<Self> {
        let ours = Job {
            model: our_model(&job.model, &job.compute_type)?,
            ..job.clone()
        };
        Ok(Decoding {
            path: peers::write("translate.json", &job)?,
            job,
            ours,
            more,
        })
    }

    /// What a side decodes of `job`'s sources.
    fn outputs(&self, way: &Way, job: &Job) -> Result<Vec<Vec<u32>>> {
        let path = peers::write("translate-checked.json", job)?;
        peers::part(&way.start(&path)?.ask("outputs")?, "outputs")
    }
}

impl Contest for Decoding {
    fn trial(&self) -> (PathBuf, [&str; 2]) {
        (self.path.clone(), ["run", "run"])
    }

    fn start(&self, ours: &Way, peer: &Way) -> Result<(Side, Side)> {
        let path = peers::write("translate-ours.json", &self.ours)?;
        Ok((ours.start(&path)?, peer.start(&self.path)?))
    }

    /// In f32: do both sides say the same? In int8: do both keep to our f32 output? There a first word decides over its whole
    /// sentence, so the few sentences of a short job would decide by chance: more are decoded, once.
    fn check(&self, ours: &Way, peer: &Way) -> Result<Agreed> {
        if self.job.compute_type == "float32" {
            let [ours, peer] =
                [(ours, &self.ours), (peer, &self.job)].map(|(w, j)| self.outputs(w, j));
            return check::outputs(&ours?, &peer?, 0.99);
        }
        let more = |job: &Job| Job {
            sources: self.more.clone(),
            ..job.clone()
        };
        let float = Job {
            compute_type: "float32".into(),
            ..more(&self.job)
        };
        let reference = self.outputs(ours, &float)?;
        let a = self.outputs(ours, &more(&self.ours))?;
        check::nearness(&a, &self.outputs(peer, &more(&self.job))?, &reference, 0.05)
    }

    fn command(&self, ours: &mut Side, peer: &mut Side) -> Result<String> {
        ours.ask("run")?;
        peer.ask("run")?;
        Ok("run".into())
    }
}

impl Translate {
    /// Random sources of `words` words and the end token.
    pub(super) fn sources(&self, sentences: usize, words: usize) -> Vec<Vec<u32>> {
        let mut random = Words(7);
        let mut sentence = || {
            let word = |_| random.next(2, self.vocabulary - 3);
            (0..words).map(word).chain([0]).collect()
        };
        (0..sentences).map(|_| sentence()).collect()
    }

    fn job(&self, race: &TranslateRace, model: &Path, threads: usize) -> Job {
        Job {
            model: model.to_path_buf(),
            compute_type: race.compute_type.clone(),
            threads,
            streams: race.streams,
            batch: race.batch,
            beam: race.beam,
            tokens: self.words,
            sources: self.sources(race.sentences, self.words),
        }
    }
}

/// The model folder, made on first use. Its name carries what it was made from, so that a changed script makes it anew.
pub(super) fn model(python: &Path) -> Result<PathBuf> {
    let script = root().join("xtask/bench/make_model.py");
    let text = std::fs::read(&script).map_err(|e| format!("{}: {e}", script.display()))?;
    // FNV-1a: the same in every release of Rust, unlike the standard library's hashes.
    let hash = text.iter().fold(0xcbf29ce484222325u64, |h, byte| {
        (h ^ u64::from(*byte)).wrapping_mul(0x100000001b3)
    });
    let folder = peers::cache()?.join(format!("base-{:08x}", hash as u32));
    if !folder.exists() {
        println!("  making the model");
        let half = folder.with_extension("new");
        succeed(Command::new(python).arg(&script).arg(&half))?;
        std::fs::rename(&half, &folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    }
    Ok(folder)
}

/// The model as our side reads it in this number type: CTranslate2 has a folder of its own for int8, and so have we. Made
/// anew each time, by the program that is measured.
pub(super) fn our_model(model: &Path, compute_type: &str) -> Result<PathBuf> {
    if compute_type != "int8" {
        return Ok(model.to_path_buf());
    }
    let folder = model.join("hexapla-int8");
    let mut convert = Command::new(root().join("target/release/hexapla"));
    convert
        .arg("convert")
        .arg(model)
        .arg("--replace")
        .arg("--output");
    succeed(convert.arg(&folder))?;
    Ok(folder)
}

pub(super) fn measure(bench: &mut Bench) -> Result<()> {
    let definition: Translate = definition::read("translate")?;
    let (python, threads) = (bench.python.clone(), bench.args.threads);
    let model = model(&python)?;
    for race in &definition.race {
        let (number_type, peer) = (race.compute_type.as_str(), race.peer.as_str());
        let streams = if race.streams == 1 {
            "one stream"
        } else {
            "two streams"
        };
        let (batch, beam) = (race.batch, race.beam);
        let name = &format!("{number_type}, batch {batch}, beam {beam}, {streams}");
        if !bench.wants(&format!("{name}, {peer}")) {
            continue;
        }
        let kind = if number_type == "int8" { "int8" } else { "f32" };
        let cost = definition.source_word + beam as f64 * definition.hypothesis_word;
        let wanted = Wanted {
            work: "translate",
            peer,
            number_type,
            layouts: &race.layouts,
            ..Wanted::default()
        };
        let more = definition.sources(race.sentences.max(definition.checked), definition.words);
        let resident = (
            "resident memory",
            "resident_mib",
            race.resident_at_most.map(Bar::AtMost),
        );
        Race {
            name,
            peer,
            bar: at_least(race.at_least),
            // A single sentence is bounded by memory, not arithmetic.
            limit: (batch > 1).then_some((kind, cost / 1e3)),
            memory: race.resident.then_some(resident),
            ..Race::default()
        }
        .run(
            bench,
            &Way::ours("translate"),
            ways(&wanted, &python, threads),
            Decoding::write(definition.job(race, &model, threads), more),
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_words_and_an_end() {
        let definition: Translate = definition::read("translate").unwrap();
        let all = definition.sources(50, 24);
        assert_eq!(all, definition.sources(50, 24));
        assert!(all.iter().all(|s| s.len() == 25 && s[24] == 0));
        let words = || all.iter().flat_map(|s| &s[..24]);
        assert!(words().all(|w| (2..definition.vocabulary - 1).contains(w)));
        assert!(words().collect::<std::collections::HashSet<_>>().len() > 1000);
    }
}
