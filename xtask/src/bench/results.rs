//! What was measured, as data: `bench/results.json` holds it, `docs/benchmarks.md` is drawn from it. Rows are kept one by
//! one, so that a run that is stopped loses nothing and one row can be measured anew; each knows its day and commit.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::machine::Machine;
use super::products;
use super::report::{self, Row};
use crate::{Result, root, write_whole};

/// All sections that were ever measured.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Results {
    pub(crate) sections: BTreeMap<String, Section>,
}

/// The rows of one kind of work, and the last run that was meant to measure them all.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Section {
    /// Day of that run.
    pub(crate) date: String,
    pub(crate) command: String,
    pub(crate) machine: Machine,
    /// Program and version.
    pub(crate) versions: BTreeMap<String, String>,
    pub(crate) rows: Vec<Entry>,
    /// SVG files beside the document.
    #[serde(default)]
    pub(crate) plots: Vec<Plot>,
}

/// A row and when it was measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Entry {
    #[serde(flatten)]
    pub(crate) row: Row,
    pub(crate) date: String,
    pub(crate) commit: String,
}

/// A figure of the document.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Plot {
    pub(crate) title: String,
    /// Relative to docs/.
    pub(crate) file: String,
}

impl Section {
    /// Takes a run in. Of a run of some rows only, the section keeps what it says of the last whole run.
    pub(crate) fn take(&mut self, run: Section, whole: bool) {
        if whole || self.rows.is_empty() {
            self.date = run.date;
            self.command = run.command;
            self.machine = run.machine;
        }
        self.versions.extend(run.versions);
        for entry in run.rows {
            match self
                .rows
                .iter_mut()
                .find(|e| e.row.key() == entry.row.key())
            {
                Some(old) => *old = entry,
                None => self.rows.push(entry),
            }
        }
        for plot in run.plots {
            self.plots.retain(|p| p.file != plot.file);
            self.plots.push(plot);
        }
    }

    /// Ends a whole run: its rows in its order, then those of peers that were `left_out`; others are no longer measured.
    pub(crate) fn settle(&mut self, measured: &[Row], left_out: &[&str]) {
        let index = |e: &Entry| measured.iter().position(|r| r.key() == e.row.key());
        self.rows
            .retain(|e| index(e).is_some() || left_out.contains(&e.row.key().1));
        self.rows
            .sort_by_key(|e| index(e).unwrap_or(measured.len()));
    }

    /// Where and when a row was measured, if not where the section says.
    fn note(&self, entry: &Entry) -> String {
        if entry.commit == self.machine.commit {
            return String::new();
        }
        format!("(commit {}, {})", entry.commit, entry.date)
    }
}

impl Results {
    /// Those in `path`, or none if there is no such file.
    fn read(path: &Path) -> Result<Self> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Results::default()),
            Err(e) => return Err(format!("{}: {e}", path.display())),
        };
        serde_json::from_str(&text).map_err(|e| format!("{}: {e}", path.display()))
    }

    fn write(&self, path: &Path) -> Result<()> {
        let json = serde_json::to_string_pretty(self).map_err(|e| e.to_string())?;
        let document = root().join("docs/benchmarks.md");
        for (path, text) in [(path, json + "\n"), (&document, render(self))] {
            write_whole(path, &text)?;
        }
        Ok(())
    }
}

/// Changes a section of what is kept, draws the document anew, and gives the section.
pub(crate) fn change(name: &str, how: impl FnOnce(&mut Section)) -> Result<Section> {
    let path = root().join("bench/results.json");
    let mut results = Results::read(&path)?;
    let section = results.sections.entry(name.into()).or_default();
    how(section);
    let section = section.clone();
    results.sections.retain(|_, s| !s.rows.is_empty());
    results.write(&path)?;
    Ok(section)
}

/// Draws the document anew.
pub(crate) fn draw() -> Result<()> {
    let path = root().join("bench/results.json");
    Results::read(&path)?.write(&path)
}

/// The document.
fn render(results: &Results) -> String {
    let mut text = String::from(INTRODUCTION);
    for (name, about) in ABOUT {
        let Some(section) = results.sections.get(name) else {
            continue;
        };
        let versions: Vec<String> = section
            .versions
            .iter()
            .map(|(program, version)| format!("{program} {version}"))
            .collect();
        let rows = || section.rows.iter().map(|e| (&e.row, section.note(e)));
        let tables = match name {
            "gemm" => products::tables(rows()),
            _ => report::table(rows()),
        };
        // Writing to a string does not fail.
        let _ = write!(
            text,
            "\n## {name}\n\n{about}\n\n`{}`, {}; {}. {}\n\n{tables}",
            section.command,
            section.date,
            versions.join(", "),
            section.machine,
        );
        for plot in &section.plots {
            let _ = write!(text, "\n![{}]({})\n", plot.title, plot.file);
        }
        if let Some((_, missed)) = MISSED.iter().find(|(section, _)| *section == name) {
            let _ = write!(text, "\n{missed}\n");
        }
    }
    text
}

const INTRODUCTION: &str = "\
# Benchmarks

Drawn by `cargo xtask bench` from `bench/results.json`; do not edit.

Ours and a peer are two programs that live side by side and compute in turn, A B A B, never at the same time. A ratio is the
median over the pairs of ours divided by the peer's, with the smallest and the largest pair. Before a ratio is printed both
sides must have computed the same thing; how that was seen stands in the last column, and where they differ there is no ratio.
A peer runs at its best setting, found by a short run of each, and named. `of the limit` is our share of what this machine
can do at most, measured in the same session (`crates/kernels/examples/peak.rs`). Rows are kept one by one, and one can be
measured anew (`--only`); a row that was not measured at its section's commit says so in its last column.
";

/// The sections in the order of the document, and what they are.
const ABOUT: [(&str, &str); 5] = [
    (
        "gemm",
        "Matrix products of the shapes that training and decoding use, in Gop/s on one thread, and the machine's limits. \
         Percentages are of the limit on one thread. Unlike the sections below, one program runs after the other, and each \
         figure is the best of several repetitions. The first table has the f32 products that have a bar; it is held \
         against the slowest of the three layouts. The second sums up all products by arithmetic and rows, as median and \
         range, and beside it those that PyTorch computed too, in the one layout of its linear layer (its factors in bf16 are \
         rounded before the clock starts, ours while it runs); int8 weights come from memory, not from the cache. Every \
         single figure is in `bench/results.json`.",
    ),
    (
        "train",
        "A whole training step: forward, backward, Adam; label smoothing 0.1, dropout 0.1 on embeddings, sublayers, \
         attention and inside the feed-forward block; one embedding table. TINY is 4+4 layers of width 128 (feed-forward \
         256, 4 heads, 10,000 words, 128 pairs of 16 tokens), SMALL 3+3 of 256 (1,024, 4, 8,000, the same batch), BASE 6+6 \
         of 512 (2,048, 8, 32,000, 64 pairs of 24). Check: from the same initial weights on the same batch without dropout, \
         three steps' losses agree (f32 to 1e-4, bf16 to 1e-3). `epoch` is one of Multi30k with sentences of unequal \
         length, in the same batches for both sides; the peer's are padded; a run takes a third of it. burn runs on its `flex` \
         backend with threads, SIMD and AVX-512, candle on its own processor backend with the AVX-512 of its `gemm` turned \
         on, both compiled for this very processor; candle's MKL is fetched from outside crates.io and is not measured. \
         Because attention has dropout, PyTorch computes it as separate products on a processor (in bf16, which it has to be \
         allowed): the longer the sentences, the more that costs it. The epoch is not compiled: its shapes change at every \
         step. Memory is the greatest resident size of the process (VmHWM), the peer's in whichever of its ways takes least; \
         this PyTorch is the build with CUDA, as PyPI gives it. All rates are in target tokens, end tokens included.",
    ),
    (
        "translate",
        "Decoding with a seeded model of the paper's base size (32,000 words), 24 source and 24 forced target tokens. How \
         the model is made so that equal engines must give equal words: `xtask/bench/make_model.py`. Check of f32: at least \
         99 % of the sentences have equal ids. Engines of 8 bits round differently and are not asked to be equal: ours must \
         keep to our own f32 output, which is the one that was compared in f32, for as long as the peer does, less 5 \
         points; both make the same number of tokens. Layouts are workers × threads; CTranslate2 takes AVX-512 and MKL on this \
         processor only where it is told to, and each was tried with each layout. Resident memory is that of the peer's way that \
         takes least. \
         Marian is not among the peers: the model would have to be written in its own format, for which neither \
         transformers nor CTranslate2 has a converter; both only read it.",
    ),
    (
        "startup",
        "From the start of the process to the first translated word, seconds of wall clock: the model of `translate`, one \
         line of text, file cache warm. Check: the same word. CTranslate2's C++ client does not come with its Python package and \
         is not measured.",
    ),
    (
        "scaling",
        "How rates change as work grows, in f32 and with the checks of `train` and `translate`. Training is TINY with one \
         thing changed at a time (PyTorch eager, fused Adam, tuned malloc): sentences of 8 to 512 tokens at 4,096 tokens a \
         batch, where attention's share grows with the length; batches of 1 to 256 sentences, where a step's fixed costs, the \
         optimizer's pass over all weights above all, are shared by more tokens; vocabularies of 8,000 to 64,000 words, where \
         the output projection and its softmax come to cost more than all layers. Decoding is the model of `translate` \
         (CTranslate2 at its best layout and settings): longer sentences read more keys and values for every word; larger batches read the \
         weights once for more rows, until arithmetic, no longer memory, is the bound. In the plots both axes are logarithmic \
         and higher is faster; a flat line means that cost grows in proportion to work.",
    ),
];

/// Of the sections with bars that were missed: where the time and the memory go, and what was tried. Profiles are those of
/// `perf record -e cpu-clock` on the programs that were measured.
const MISSED: [(&str, &str); 4] = [
    (
        "gemm",
        "**Missed**: four narrow shapes, where each number serves 128 or 256 multiplications alone and both factors have to be \
         packed: Aᵀ·B at 77 to 83 %. Of these layouts a step of TINY has the weights' gradients (Aᵀ·B of 128 by 256 or 512 by \
         128 over 1,024 rows: 81 to 83 %), but neither 128×10000×128 nor 128×128×10000 as Aᵀ·B: its logits are the first as A·Bᵀ \
         (89 %), the gradient of what they came from the second as A·B (85 %), and that of the table 10000×128×128 as Aᵀ·B \
         (85 %). Packing reads its numbers in blocks of 16 rows by 32 and asks for the next block meanwhile, which is what \
         lifted the narrow shapes. PyTorch's f32 products (MKL) run at 41 % of this processor's limit (Zen 5, whose AVX-512 is \
         twice as wide as MKL seems to use), and ran at 84 % of Zen 4's, whose limit is 117 Gop/s a core.",
    ),
    (
        "train",
        "**Missed**: peak memory of BASE in f32 against PyTorch compiled, which holds least; its fastest way, eager with a tuned \
         malloc, held 4,531 MiB, of which ours is 0.41. Of ours, 1,150 MiB are weights, two moments and the gradients of two \
         shards, 62 the output table packed once more, the rest what the backward pass reads. And burn's SMALL: 3.5 times it \
         would be 86 % of the limit for the whole step, and ours runs at 75 %. The \
         processor of this table has a peak of 271 Gop/s a core in f32 (Zen 5). On one of 117 (Zen 4), and before packing asked \
         for its numbers ahead of time, the ratios to PyTorch were 1.78, 1.58 and 1.27 in f32 (TINY, SMALL, BASE), 2.15, 1.63 and \
         1.37 in bf16, and 1.97 for the epoch: there arithmetic bounds both sides, and 1.7 times PyTorch's BASE would have been \
         105 % of the limit. Where the time goes, f32 and bf16 of TINY: in the products' inner loop 72 % and 55 %, in packing \
         8 % each, loss and its gradient 3 % and 5 %, the backward step of layer norm 3 % and 4 %, softmax 2 % and 4 %, \
         attention's small products 5 % in bf16, the rest in many small parts; of BASE in f32 82 % in the inner loop. Packing \
         was 27 % of TINY's step in bf16 (beside other work) until it read its numbers in blocks and asked for the next one \
         meanwhile. A step asks for no memory once its shapes have been seen.",
    ),
    (
        "translate",
        "**Missed**: CTranslate2 in f32 with beam 4, where 1.5 times its rate would be 87 % of the limit for the whole of decoding \
         and ours runs at 81 %; and resident memory. Transformers with beam 4 gave 3.46 in another run of the same day. Where \
         the time goes in f32, batch 32, beam 1 and 4: 84 and 86 % in the products' inner loop (at 89 and 93 % of the limit), \
         attention 8 and 7 %, log-softmax and the choice of words 2.4 and 2.9 %, the rest below 1.2 % each. Longer panels and asking for the next one \
         evenly made beam 1 and 4 faster by 7 and 5 %; huge pages gave 1 % and are not used; packing the rows that are \
         multiplied, too, gave nothing. The processor of this table has a peak of 270 Gop/s a core in f32 (Zen 5). On one of 117 \
         (Zen 4), with ours of before all this and with CTranslate2 as it is without AVX-512 and a tuned malloc, the ratios were \
         1.86 and 1.73 (int8, batch 32, beam 1 and 4), 3.70 and 3.22 (int8, batch 1, one and two streams), 1.34 and 1.17 (f32, \
         batch 32, beam 1 and 4), 2.22 and 2.11 (transformers): there f32 ran at 74 to 83 % of the limit, and 3.5 times \
         transformers was more than all of it. A generated word costs 77 million operations for each hypothesis and 44 million \
         for its share of the source. In int8 the time went 68 % into the products, attention 10 %, log-softmax 5 %, activation \
         3 % (Zen 4). Resident memory in int8, two batches of 32, by count: 59 MiB are \
         weights, used straight from the file; 36 are keys and values of 48 rows a sentence in six layers, in bf16; 8 are \
         logits; the rest is what an encoder of 256 rows and a step need, in both threads. With single sentences 59 are weights, 6 the \
         program and its libraries, and 14 are held by two streams, of which 6 are in use: the rest is what the allocator cannot \
         give back (another one, mimalloc, held 4 less). The bar there is 69, four more than weights and program. Tried and kept: \
         keys and values in bf16 and in pages that are used again (226 to 148 MiB), attention with explicit vectors (15 % faster).",
    ),
    (
        "startup",
        "CTranslate2 was started as it is, without AVX-512 and a tuned malloc; most of its time is Python's.",
    ),
];

#[cfg(test)]
mod tests {
    use super::report::tests::compared;
    use super::report::{Refused, Row};
    use super::*;

    fn refused(work: &str, peer: &str) -> Row {
        Row::Refused(Refused {
            work: work.into(),
            peer: peer.into(),
            reason: "not there".into(),
        })
    }

    fn run(commit: &str, rows: Vec<Row>) -> Section {
        let date = "2000-01-02".to_string();
        let entry = |row| Entry {
            row,
            date: date.clone(),
            commit: commit.into(),
        };
        Section {
            date: date.clone(),
            command: format!("cargo xtask bench train at {commit}"),
            machine: Machine {
                commit: commit.into(),
                ..Machine::default()
            },
            versions: [("PyTorch".to_string(), "1.0".to_string())].into(),
            rows: rows.into_iter().map(entry).collect(),
            plots: Vec::new(),
        }
    }

    fn keys(section: &Section) -> Vec<(&str, &str)> {
        section.rows.iter().map(|e| e.row.key()).collect()
    }

    #[test]
    fn some_rows_replace_their_own_and_say_where_they_come_from() {
        let mut section = Section::default();
        let all = vec![refused("step", "PyTorch"), refused("step", "burn")];
        section.take(run("a", all), true);
        section.take(run("b", vec![Row::Compared(compared())]), false);
        assert_eq!(keys(&section), [("step", "PyTorch"), ("step", "burn")]);
        assert_eq!(section.machine.commit, "a");
        let text = render(&Results {
            sections: [("train".to_string(), section)].into(),
        });
        assert!(text.contains("| 2.50 (2.00–3.00, 3) |"));
        assert!(text.contains("1 losses within 0e0 (commit b, 2000-01-02) |"));
        assert!(text.contains("| not there |") && text.contains("at a`"));
        assert!(!text.contains("## gemm"));
    }

    #[test]
    fn a_whole_run_drops_what_it_no_longer_measures() {
        let mut section = Section::default();
        let old = ["old", "step", "race"].map(|work| refused(work, "PyTorch"));
        section.take(run("a", old.into()), true);
        section.take(run("a", vec![refused("step", "burn")]), false);
        let measured = [refused("race", "PyTorch"), refused("step", "PyTorch")];
        section.settle(&measured, &["burn"]);
        let expected = [("race", "PyTorch"), ("step", "PyTorch"), ("step", "burn")];
        assert_eq!(keys(&section), expected);
    }

    #[test]
    fn what_is_kept_is_read_again() {
        let mut results = Results::default();
        let rows = vec![Row::Compared(compared()), refused("step", "burn")];
        results.sections.insert("train".into(), run("a", rows));
        let folder = std::env::temp_dir().join(format!("results-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("results.json");
        let text = serde_json::to_string(&results).unwrap();
        std::fs::write(&path, text).unwrap();
        let read = Results::read(&path);
        std::fs::remove_dir_all(&folder).unwrap();
        assert_eq!(read.unwrap(), results);
        assert_eq!(Results::read(&path).unwrap(), Results::default());
    }
}
