//! Decoding: the same model, the same sources, the same number of words.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Serialize;

use super::Bench;
use super::check::{self, Agreed};
use super::pairs::Pairs;
use super::peers::{self, Program, Side, Way, Words};
use super::report::{Bar, Compared, Measured, Row, Work};
use crate::{Result, root, succeed};

/// Target words of every sentence, and source words without the end token.
const WORDS: usize = 24;
const VOCABULARY: u32 = 32_000;
/// Multiplications and additions of the products of `make_model.py`'s model, for each generated word: the encoder's and the
/// decoder's keys and values of the source, which a sentence's hypotheses share, and what each hypothesis costs.
const OF_A_SOURCE_WORD: f64 = 44e6;
const OF_A_HYPOTHESIS_WORD: f64 = 77e6;
/// Sentences that are decoded at least to see whether outputs in int8 are near those in f32.
const CHECKED: usize = 128;

/// What a program is told to decode; `bench/ours/src/translate.rs` says what the fields are.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Job {
    pub(super) model: PathBuf,
    pub(super) compute_type: &'static str,
    pub(super) threads: usize,
    pub(super) streams: usize,
    pub(super) batch: usize,
    pub(super) beam: usize,
    pub(super) tokens: usize,
    pub(super) sources: Vec<Vec<u32>>,
}

/// A piece of work and a peer to race.
#[derive(Debug, Clone, Copy)]
struct Race {
    compute_type: &'static str,
    batch: usize,
    beam: usize,
    streams: usize,
    peer: Peer,
    bar: Option<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Peer {
    CTranslate2,
    Transformers,
}

const RACES: [Race; 14] = [
    race("int8", [32, 1, 2], Peer::CTranslate2, Some(1.5)),
    race("int8", [32, 4, 2], Peer::CTranslate2, Some(1.7)),
    race("int8", [1, 1, 1], Peer::CTranslate2, Some(3.0)),
    race("int8", [1, 1, 2], Peer::CTranslate2, Some(1.8)),
    race("int8", [1, 4, 1], Peer::CTranslate2, None),
    race("int8", [1, 4, 2], Peer::CTranslate2, None),
    race("float32", [32, 1, 2], Peer::CTranslate2, Some(1.5)),
    race("float32", [32, 4, 2], Peer::CTranslate2, Some(1.5)),
    race("float32", [1, 1, 1], Peer::CTranslate2, None),
    race("float32", [1, 1, 2], Peer::CTranslate2, None),
    race("float32", [1, 4, 2], Peer::CTranslate2, None),
    race("float32", [32, 1, 2], Peer::Transformers, Some(3.5)),
    race("float32", [32, 4, 2], Peer::Transformers, Some(3.5)),
    race("float32", [1, 1, 1], Peer::Transformers, None),
];

/// `sizes` are sentences of a batch, width of the beam, batches at a time; `bar` is the ratio aimed at.
const fn race(compute_type: &'static str, sizes: [usize; 3], peer: Peer, bar: Option<f64>) -> Race {
    let [batch, beam, streams] = sizes;
    Race {
        compute_type,
        batch,
        beam,
        streams,
        peer,
        bar,
    }
}

impl Race {
    fn name(&self) -> String {
        let streams = if self.streams == 1 {
            "one stream"
        } else {
            "two streams"
        };
        format!(
            "{}, batch {}, beam {}, {streams}",
            self.compute_type, self.batch, self.beam
        )
    }

    /// Enough sentences for two workers to have several batches each, and for a run of about a second or more.
    /// Transformers has no workers, and takes several times as long.
    fn sentences(&self) -> usize {
        match (self.peer, self.batch, self.beam) {
            (Peer::Transformers, 1, _) => 12,
            (_, 1, 1) => 24,
            (_, 1, _) => 12,
            (Peer::Transformers, ..) => 64,
            (_, _, 1) => 192,
            _ => 128,
        }
    }

    fn job(&self, model: &Path, threads: usize) -> Job {
        Job {
            model: model.to_path_buf(),
            compute_type: self.compute_type,
            threads,
            streams: self.streams,
            batch: self.batch,
            beam: self.beam,
            tokens: WORDS,
            sources: sources(self.sentences(), WORDS),
        }
    }
}

impl Peer {
    pub(super) fn name(self) -> &'static str {
        match self {
            Peer::CTranslate2 => "CTranslate2",
            Peer::Transformers => "transformers",
        }
    }

    /// The ways to do a job on two threads.
    pub(super) fn ways(self, python: &Path, job: &Job) -> Vec<Way> {
        let layouts: &[&'static str] = match (self, job.streams, job.batch) {
            (Peer::Transformers, _, _) => {
                let plain = Program::script(self.name(), python, "translate_transformers.py");
                return vec![
                    Way::new(plain.clone(), &[]),
                    Way::new(plain.keeping_memory(), &[]),
                ];
            }
            (_, 1, _) => &["1x1", "1x2"],
            // With one sentence to a batch two streams are two workers.
            (_, _, 1) => &["2x1"],
            _ => &["2x1", "1x2"],
        };
        // On processors other than Intel's it takes neither AVX-512 nor MKL unless it is told to.
        let avx512 = |p: Program| p.with("CT2_FORCE_CPU_ISA", "AVX512", "AVX-512");
        let mkl = |p: Program| p.with("CT2_USE_MKL", "1", "MKL");
        let mut ways = Vec::new();
        for layout in layouts.iter().copied() {
            let program = Program::script(self.name(), python, "translate_ct2.py").called(layout);
            let mut programs = vec![
                program.clone(),
                avx512(program.clone()),
                avx512(program.clone()).keeping_memory(),
            ];
            // In int8 it is an eighth as fast, and takes as much longer to be found out.
            if job.compute_type == "float32" {
                let mkl = mkl(avx512(program));
                programs.extend([mkl.clone(), mkl.keeping_memory()]);
            }
            let way = |program| Way::new(program, &[layout]);
            ways.extend(programs.into_iter().map(way));
        }
        ways
    }
}

/// Random sources of `words` words and the end token.
pub(super) fn sources(sentences: usize, words: usize) -> Vec<Vec<u32>> {
    let mut random = Words(7);
    let mut sentence = || {
        let word = |_| random.next(2, VOCABULARY - 3);
        (0..words).map(word).chain([0]).collect()
    };
    (0..sentences).map(|_| sentence()).collect()
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
pub(super) fn ours(model: &Path, compute_type: &str) -> Result<PathBuf> {
    if compute_type != "int8" {
        return Ok(model.to_path_buf());
    }
    let folder = model.join("hexapla-int8");
    let mut convert = Command::new(root().join("target/release/hexapla"));
    convert.arg("convert").arg(model).arg("--output");
    succeed(convert.arg(&folder))?;
    Ok(folder)
}

pub(super) fn measure(bench: &mut Bench) -> Result<()> {
    let model = model(&bench.python)?;
    for race in RACES {
        let (name, peer) = (race.name(), race.peer.name());
        if !bench.wants_race(&name, peer) {
            continue;
        }
        if let Err(reason) = run(bench, &model, &race) {
            bench.add(&name, peer, Err(reason))?;
        }
    }
    Ok(())
}

/// The outputs of a side; it may go on with its work afterwards, warm.
fn outputs(side: &mut Side) -> Result<Vec<Vec<u32>>> {
    peers::part(&side.ask("outputs")?, "outputs")
}

/// Do both sides say the same in f32? Both are running the job.
pub(super) fn agree(ours: &mut Side, peer: &mut Side) -> Result<Agreed> {
    check::outputs(&outputs(ours)?, &outputs(peer)?, 0.99)
}

/// Do both sides, in int8, keep to our f32 output? A first word decides over its whole sentence, so the few sentences of a
/// short job would decide by chance: more are decoded, once.
fn near(job: &Job, ours: &Job, peer: &Way) -> Result<Agreed> {
    let more = |job: &Job| Job {
        sources: sources(job.sources.len().max(CHECKED), WORDS),
        ..job.clone()
    };
    let float = Job {
        compute_type: "float32",
        ..more(job)
    };
    let mut reference = ours_way().start(&peers::write("translate-reference.json", &float)?)?;
    let reference = outputs(&mut reference)?;
    let path = peers::write("translate-checked.json", &more(ours))?;
    let a = outputs(&mut ours_way().start(&path)?)?;
    let path = peers::write("translate-checked.json", &more(job))?;
    let b = outputs(&mut peer.start(&path)?)?;
    check::nearness(&a, &b, &reference, 0.05)
}

pub(super) fn ours_way() -> Way {
    Way::new(Program::ours("translate"), &[])
}

fn run(bench: &mut Bench, model: &Path, race: &Race) -> Result<()> {
    let (name, peer) = (race.name(), race.peer.name());
    let job = race.job(model, bench.args.threads);
    let path = peers::write("translate.json", &job)?;
    let ours = Job {
        model: ours(model, race.compute_type)?,
        ..job.clone()
    };
    let mut a = ours_way().start(&peers::write("translate-ours.json", &ours)?)?;
    let ways = race.peer.ways(&bench.python, &job);
    let way = peers::best(&ways, &path, "run", "run")?;
    let mut b = way.start(&path)?;
    let agreed = match race.compute_type {
        "float32" => agree(&mut a, &mut b)?,
        _ => near(&job, &ours, way)?,
    };
    let pairs = bench.in_turn(&mut a, &mut b, "run")?;
    bench.met("hexapla", &a);
    bench.met(peer, &b);
    let sides = [
        Measured::by("hexapla", ""),
        Measured::by(peer, &way.program.setting),
    ];
    let work = Work {
        name: name.clone(),
        unit: "tokens/s".into(),
        bar: race.bar.map(Bar::AtLeast),
    };
    let kind = if race.compute_type == "int8" {
        "int8"
    } else {
        "f32"
    };
    let limit = bench.machine.limit(kind, bench.args.threads);
    let row = Compared::new(work, sides, &pairs, &agreed);
    // A single sentence is bounded by memory, not arithmetic.
    let row = if race.batch > 1 {
        let operations = OF_A_SOURCE_WORD + race.beam as f64 * OF_A_HYPOTHESIS_WORD;
        row.of_limit(kind, limit, operations / 1e9)
    } else {
        row
    };
    bench.add(&name, peer, Ok(Row::Compared(row)))?;
    if race.beam == 1 && race.streams == 2 && race.peer == Peer::CTranslate2 {
        let bar = (race.compute_type == "int8").then_some(0.6);
        drop(b);
        let row = (|| {
            // Once each has decoded.
            let resident = peers::number(&a.ask("run")?, "resident_mib")?;
            let (way, theirs) = peers::least(&ways, &path, "run", "resident_mib")?;
            let work = Work {
                name: format!("{name}, resident memory"),
                unit: "MiB".into(),
                bar: bar.map(Bar::AtMost),
            };
            let sides = [
                Measured::by("hexapla", ""),
                Measured::by(peer, &way.program.setting),
            ];
            let pairs = Pairs(vec![(resident, theirs)]);
            Ok(Row::Compared(Compared::new(work, sides, &pairs, &agreed)))
        })();
        bench.add(&name, peer, row)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_words_and_an_end() {
        let all = sources(50, WORDS);
        assert_eq!(all, sources(50, WORDS));
        assert!(all.iter().all(|s| s.len() == WORDS + 1 && s[WORDS] == 0));
        let words = || all.iter().flat_map(|s| &s[..WORDS]);
        assert!(words().all(|w| (2..VOCABULARY - 1).contains(w)));
        assert!(words().collect::<std::collections::HashSet<_>>().len() > 1000);
    }
}
