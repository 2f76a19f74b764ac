//! `hexapla align`

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use hexapla::config::{AlignmentReading, AlignmentStep, AlignmentWeights, ComputeType};
use hexapla::error::{Error, Result};
use hexapla::formats::manifest::{MANIFEST_FILE, Manifest};
use hexapla::generate::translator::Translator;
use hexapla::generate::{Alignment, SourceAttention};
use hexapla::metrics::alignment::{AlignmentErrors, GoldAlignment, Link};
use hexapla::text::corpus::{columns, no_text, one_column};
use hexapla::text::direction::Direction;

use crate::console::{Batches, broken, print, say};
use crate::language::LanguageFlags;

#[derive(Debug, clap::Args)]
pub(crate) struct AlignArgs {
    /// Model folder; the embedded model where absent.
    #[arg(long, short)]
    model: Option<PathBuf>,
    /// Sentence pairs: source and target, tab-separated; `-` is standard input.
    #[arg(long, default_value = "-")]
    tsv: PathBuf,
    /// Swap the two sides of --tsv.
    #[arg(long, conflicts_with = "gold")]
    reverse: bool,
    #[command(flatten)]
    language: LanguageFlags,
    /// Layer of the decoder, from 1; where its folder says where absent, with heads, step and weights.
    #[arg(long, conflicts_with = "gold")]
    layer: Option<usize>,
    /// Heads of the layer, from 1, with commas between them; all where absent.
    #[arg(long, value_delimiter = ',', requires = "layer")]
    heads: Vec<usize>,
    /// The step of the decoder that has the token as its output, or the next, which has it as its input.
    #[arg(long, requires = "layer", default_value = "output")]
    step: Step,
    /// Compare weights of attention, or each times the length of what it brings.
    #[arg(long, requires = "layer", default_value = "attention")]
    weights: Weights,
    /// Measure all readings on these pairs instead, whose words are linked by hand; the name begins with the languages, such as de-en.tsv.
    #[arg(long, conflicts_with_all = ["tsv", "from", "to"])]
    gold: Vec<PathBuf>,
    /// Write the best reading to the manifest of the model's folder.
    #[arg(long, requires = "gold", requires = "model")]
    save: bool,
    /// Arithmetic: default (what the folder is stored in), float32, bf16, int8, int4 or auto.
    #[arg(long, default_value = "default")]
    compute_type: ComputeType,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Step {
    Output,
    Input,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Weights {
    Attention,
    Norm,
}

/// Most pairs aligned at a time.
const LINES: usize = 1024;
/// Tokens of a batch.
const BATCH_TOKENS: usize = 1024;
/// Readings that are shown.
const SHOWN: usize = 20;

pub(crate) fn run(args: AlignArgs) -> Result<()> {
    let model = crate::model::open(args.model.as_deref(), args.compute_type)?;
    if !args.gold.is_empty() {
        return measure(&args, &model);
    }
    let reading = args.reading(&model)?;
    let flags = |e: Error| match args.layer {
        Some(_) => e.at("--layer, --heads"),
        None => e,
    };
    model.engine().check_alignment(&reading).map_err(flags)?;
    let direction = args.language.direction(&model)?;
    let mut lines = AlignedLines {
        model: &model,
        reading,
        direction,
        name: args.tsv.display().to_string(),
        done: 0,
        left_out: 0,
    };
    let mut batches = Batches::open(&args.tsv)?;
    loop {
        let (batch, read) = batches.next(LINES);
        let mut pairs = Vec::with_capacity(batch.len());
        let mut broken_row = Ok(());
        for line in &batch {
            match columns(line) {
                Some((source, target, _)) if args.reverse => pairs.push((target, source)),
                Some((source, target, _)) => pairs.push((source, target)),
                None => {
                    let row = lines.done + pairs.len() + 1;
                    broken_row = Err(one_column(&format!("{}, line {row}", lines.name)));
                    break;
                }
            }
        }
        // What came before a broken line is aligned before it is told.
        lines.print(&pairs)?;
        broken_row.and(read)?;
        if batch.is_empty() {
            break;
        }
    }
    if lines.done == 0 {
        return Err(no_text(&args.tsv));
    }
    if lines.left_out > 0 {
        say(format_args!(
            "note: {} pairs are longer than the model takes, {} tokens a side, and have no alignment",
            lines.left_out,
            model.engine().max_tokens()
        ));
    }
    Ok(())
}

impl AlignArgs {
    /// The reading that the flags name, or the model's own.
    fn reading(&self, model: &Translator) -> Result<AlignmentReading> {
        let Some(layer) = self.layer else {
            return Ok(model.alignment_reading());
        };
        let from_zero = |number: usize, flag: &str| {
            number.checked_sub(1).ok_or_else(|| {
                Error::settings("a flag is out of range")
                    .at(flag)
                    .expected("at least 1")
                    .found("0")
                    .hint("layers and heads are counted from 1")
            })
        };
        let heads = self.heads.iter().map(|head| from_zero(*head, "--heads"));
        Ok(AlignmentReading {
            layer: from_zero(layer, "--layer")?,
            heads: heads.collect::<Result<_>>()?,
            step: match self.step {
                Step::Output => AlignmentStep::Output,
                Step::Input => AlignmentStep::Input,
            },
            weights: match self.weights {
                Weights::Attention => AlignmentWeights::Attention,
                Weights::Norm => AlignmentWeights::Norm,
            },
        })
    }
}

/// Prints a line for each pair.
struct AlignedLines<'a> {
    model: &'a Translator,
    reading: AlignmentReading,
    direction: Direction,
    name: String,
    done: usize,
    /// Pairs that the model cannot take.
    left_out: usize,
}

impl AlignedLines<'_> {
    /// A line for each pair, empty for one that is longer than the model takes.
    fn print(&mut self, pairs: &[(&str, &str)]) -> Result<()> {
        let ids = self
            .model
            .pair_ids(pairs.iter().copied(), Some(&self.direction))
            .map_err(|e| e.within(&self.name))?;
        let count = ids.len();
        let (fitting, taken) = crate::model::that_fit(self.model, ids);
        let mut lines = vec![String::new(); count];
        for (line, found) in fitting.iter().zip(self.model.align(&taken, &self.reading)?) {
            lines[*line] = found.to_string();
        }
        self.left_out += count - fitting.len();
        self.done += count;
        let mut out = std::io::BufWriter::new(std::io::stdout().lock());
        let mut write = || {
            lines.iter().try_for_each(|line| writeln!(out, "{line}"))?;
            out.flush()
        };
        write().map_err(broken)
    }
}

/// One pair whose words are linked, with what the model attends to in it.
struct Measured {
    gold: GoldAlignment,
    ids: (Vec<u32>, Vec<u32>),
    attention: SourceAttention,
    /// The words of each token.
    words: [Vec<std::ops::Range<usize>>; 2],
}

impl Measured {
    /// The words that an alignment of tokens links.
    fn links(&self, alignment: &Alignment) -> BTreeSet<Link> {
        let [source, target] = &self.words;
        let of_tokens = |(s, t): &(usize, usize)| {
            let (source, target) = (source[*s].clone(), target[*t].clone());
            source.flat_map(move |s| target.clone().map(move |t| (s, t)))
        };
        alignment.pairs.iter().flat_map(of_tokens).collect()
    }
}

/// Readings of all layers and heads, the best first.
fn measure(args: &AlignArgs, model: &Translator) -> Result<()> {
    let mut tests = Vec::new();
    for path in &args.gold {
        tests.extend(directions(model, path)?);
    }
    let mut corpora = Vec::new();
    for (name, direction, gold) in tests {
        let count = gold.len();
        let pairs = attended(model, &direction, gold)?;
        say(format_args!("{name}: {} pairs", pairs.len()));
        if pairs.len() < count {
            say(format_args!(
                "note: {} pairs of {name} are left out: empty or too long, or their tokens have other letters than their words",
                count - pairs.len()
            ));
        }
        // Each half needs one.
        if pairs.len() > 1 {
            corpora.push(pairs);
        }
    }
    if corpora.is_empty() {
        return Err(Error::input("there is no pair to measure by")
            .at(args.gold[0].display().to_string())
            .expected("at least two pairs with linked words, in languages of the model")
            .found("fewer")
            .hint("bench/alignments/README.md describes the file"));
    }
    // Chosen by the first half of each file, told of the second: nothing is chosen by what it is told of.
    let rate = |reading: &AlignmentReading, second: bool| {
        let rates = corpora.iter().map(|pairs| {
            let (first_half, second_half) = pairs.split_at(pairs.len() / 2);
            let mut errors = AlignmentErrors::default();
            for pair in if second { second_half } else { first_half } {
                let rows = pair.attention.rows(reading);
                let links = pair.links(&model.alignment_of(&rows, &pair.ids));
                errors.add(&links, &pair.gold);
            }
            errors.rate()
        });
        let rates: Vec<f64> = rates.collect();
        rates.iter().sum::<f64>() / rates.len() as f64
    };
    let config = model.engine().config();
    let mut all = Vec::new();
    for layer in 0..config.decoder_layers {
        for step in [AlignmentStep::Output, AlignmentStep::Input] {
            for weights in [AlignmentWeights::Attention, AlignmentWeights::Norm] {
                let of = |heads: &[usize]| {
                    let reading = AlignmentReading {
                        layer,
                        heads: heads.to_vec(),
                        step,
                        weights,
                    };
                    (rate(&reading, false), reading)
                };
                let mut single: Vec<(f64, usize)> = (0..config.decoder_heads)
                    .map(|head| (of(&[head]).0, head))
                    .collect();
                single.sort_by(|a, b| a.0.total_cmp(&b.0));
                // The best heads together, from one to all but one, and all.
                for count in 1..single.len() {
                    let mut heads: Vec<usize> = single[..count].iter().map(|s| s.1).collect();
                    heads.sort_unstable();
                    all.push(of(&heads));
                }
                all.push(of(&[]));
            }
        }
    }
    // Of equal ones the simplest, which comes first.
    all.sort_by(|a, b| a.0.total_cmp(&b.0));
    let line = |name: &str, reading: &AlignmentReading, first: f64| {
        format!(
            "{name}\t{}\t{}\t{}\t{}\t{:.1}\t{:.1}",
            reading.layer + 1,
            heads(&reading.heads),
            match reading.step {
                AlignmentStep::Output => "output",
                AlignmentStep::Input => "input",
            },
            match reading.weights {
                AlignmentWeights::Attention => "attention",
                AlignmentWeights::Norm => "norm",
            },
            100.0 * first,
            100.0 * rate(reading, true),
        )
    };
    let mut lines =
        vec!["reading\tlayer\theads\tstep\tweights\tAER %, first half\tsecond half".to_string()];
    let last = AlignmentReading::of_last_layer(config.decoder_layers);
    let known = [
        ("not measured", last),
        ("the model's", model.alignment_reading()),
    ];
    for (name, reading) in known {
        // A manifest may name what the decoder does not have.
        if model.engine().check_alignment(&reading).is_ok() {
            lines.push(line(name, &reading, rate(&reading, false)));
        }
    }
    for (number, (first, reading)) in all.iter().take(SHOWN).enumerate() {
        lines.push(line(&(number + 1).to_string(), reading, *first));
    }
    print(&lines)?;
    match (&args.model, all.into_iter().next()) {
        (Some(folder), Some((_, reading))) if args.save => save(folder, reading),
        _ => Ok(()),
    }
}

/// Heads from 1, or all.
fn heads(heads: &[usize]) -> String {
    match heads {
        [] => "all".to_string(),
        heads => {
            let numbers: Vec<String> = heads.iter().map(|head| (head + 1).to_string()).collect();
            numbers.join(",")
        }
    }
}

/// The pairs of a file, in each of its directions that the model translates, with the direction's name.
fn directions(
    model: &Translator,
    path: &Path,
) -> Result<Vec<(String, Direction, Vec<GoldAlignment>)>> {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let stem = stem.split(['.', '_']).next().unwrap_or_default();
    let Some((source, target)) = stem.split_once('-') else {
        return Err(Error::input("the file's name says no languages")
            .at(path.display().to_string())
            .expected("a name such as de-en.tsv")
            .found(format!("`{stem}`"))
            .hint("rename it after its source and target languages"));
    };
    let gold = GoldAlignment::read(path)?;
    let knows = |source: &str, target: &str| {
        let known = model.directions();
        known.is_empty()
            || known
                .iter()
                .any(|d| d.source == source && d.target == target)
    };
    let mut found = Vec::new();
    if knows(source, target) {
        let direction = model.direction(Some(source), Some(target))?;
        found.push((format!("{source}-{target}"), direction, gold.clone()));
    }
    // Of a model that does not say what it translates, one direction is enough to believe.
    if !model.directions().is_empty() && knows(target, source) {
        let direction = model.direction(Some(target), Some(source))?;
        let gold = gold.into_iter().map(GoldAlignment::reversed).collect();
        found.push((format!("{target}-{source}"), direction, gold));
    }
    Ok(found)
}

/// What the model attends to in those pairs that it can take.
fn attended(
    model: &Translator,
    direction: &Direction,
    gold: Vec<GoldAlignment>,
) -> Result<Vec<Measured>> {
    let texts = gold
        .iter()
        .map(|pair| (pair.source.as_str(), pair.target.as_str()));
    let ids = model.pair_ids(texts, Some(direction))?;
    let most = model.engine().max_tokens();
    let tokenizers = model.tokenizers();
    let mut kept = Vec::new();
    for (gold, ids) in gold.into_iter().zip(ids) {
        // Tags have letters too, and are no words.
        let words = |ids: &[u32], words: &[String], is_source: bool| {
            let tokenizer = match is_source {
                true => &tokenizers.source,
                false => &tokenizers.target,
            };
            let is_text: Vec<bool> = ids.iter().map(|id| model.is_text(*id, is_source)).collect();
            let text: Vec<u32> = (ids.iter().zip(&is_text))
                .filter_map(|(id, is_text)| is_text.then_some(*id))
                .collect();
            let found = tokenizer.words_of(&text, words)?;
            Ok::<_, Error>(found.map(|found| {
                let mut found = found.into_iter();
                let next = |is_text: bool| is_text.then(|| found.next()).flatten();
                let all = is_text.into_iter().map(next);
                all.map(|words| words.unwrap_or(0..0)).collect::<Vec<_>>()
            }))
        };
        let source = words(&ids.0, &gold.source_words, true)?;
        let target = words(&ids.1, &gold.target_words, false)?;
        let fits = ids.0.len().max(ids.1.len() + 1) <= most && !ids.1.is_empty();
        if let (Some(source), Some(target), true) = (source, target, fits) {
            kept.push((gold, ids, [source, target]));
        }
    }
    let pairs: Vec<_> = kept.iter().map(|(_, ids, _)| ids.clone()).collect();
    let start = model.engine().config().decoder_start_token_id;
    let attention = model
        .engine()
        .source_attention(&pairs, start, None, true, BATCH_TOKENS)?;
    let all = kept.into_iter().zip(attention);
    Ok(all
        .map(|((gold, ids, words), attention)| Measured {
            gold,
            ids,
            attention,
            words,
        })
        .collect())
}

/// Puts the reading into the folder's manifest.
fn save(folder: &Path, reading: AlignmentReading) -> Result<()> {
    let Some(mut manifest) = Manifest::read(&folder.into())? else {
        return Err(Error::model("the folder has no manifest to write to")
            .at(folder.join(MANIFEST_FILE).display().to_string())
            .expected("a folder that hexapla wrote")
            .found("none")
            .hint("hexapla convert makes one of this folder"));
    };
    manifest.fields.alignment = Some(reading);
    manifest.write(folder)?;
    say(format_args!(
        "written to {}",
        folder.join(MANIFEST_FILE).display()
    ));
    Ok(())
}
