//! `hexapla evaluate` and `hexapla score`

use std::io::Write;
use std::path::{Path, PathBuf};

use hexapla::config::ComputeType;
use hexapla::error::{Error, Result};
use hexapla::files::write_atomically;
use hexapla::generate::language_model::LanguageModel;
use hexapla::generate::translator::{Translation, Translator};
use hexapla::metrics::{Scores, Tokenizer as Words};
use hexapla::text::corpus::{SentencePairs, columns, no_text, one_column, read_lines};
use hexapla::text::direction::Direction;
use hexapla::train::progress::short;

use crate::calibration::Confidence;
use crate::console::{Batches, broken, print, say};
use crate::generate::read_text;
use crate::language::LanguageFlags;
use crate::model::decided;
use crate::translate::SearchFlags;

#[derive(Debug, clap::Args)]
#[command(
    allow_negative_numbers = true,
    group = clap::ArgGroup::new("evaluated").required(true).args(["hypothesis", "source", "tsv"])
)]
pub(crate) struct EvaluateArgs {
    /// Translations to score, one a line.
    #[arg(long, conflicts_with_all = ["model", "from", "to", "calibration", "output", "SearchFlags"])]
    hypothesis: Option<PathBuf>,
    /// Or a model folder that translates --source or --tsv; the embedded model where absent.
    #[arg(long, short)]
    model: Option<PathBuf>,
    /// Source sentences, one a line.
    #[arg(long)]
    source: Option<PathBuf>,
    /// Reference translations, one a line; several files are several references.
    #[arg(long, required_unless_present = "tsv")]
    reference: Vec<PathBuf>,
    /// Or source and reference in one file, tab-separated.
    #[arg(long, conflicts_with = "reference")]
    tsv: Option<PathBuf>,
    /// Swap the two sides of --tsv.
    #[arg(long, requires = "tsv", conflicts_with_all = ["hypothesis", "source"])]
    reverse: bool,
    #[command(flatten)]
    language: LanguageFlags,
    /// BLEU's words: 13a, zh, char, intl or none.
    #[arg(long, default_value = "13a")]
    tokenize: String,
    /// Ignore case.
    #[arg(long)]
    lowercase: bool,
    /// Where to write the model's translations.
    #[arg(long)]
    output: Option<PathBuf>,
    /// Compare the model's confidence with what is right, and draw it to this SVG file.
    #[arg(long)]
    calibration: Option<PathBuf>,
    /// Another text, a sentence a line: how confident is the model there?
    #[arg(long, requires = "calibration")]
    calibration_text: Option<PathBuf>,
    #[command(flatten)]
    search: SearchFlags,
}

pub(crate) fn run(args: EvaluateArgs) -> Result<()> {
    let words = Words::from_name(&args.tokenize).map_err(|e| e.at("--tokenize"))?;
    // All that is read is read and compared before anything is translated or written.
    let test = Sides::read(&args)?;
    let other = args.calibration_text.as_deref().map(full_lines);
    let other = other.transpose()?;
    let mut confidence = None;
    let hypotheses = if args.hypothesis.is_some() {
        test.lines
    } else {
        let model = crate::model::open(args.model.as_deref(), args.search.compute_type)?;
        let direction = args.language.direction(&model)?;
        let mut options = args.search.options(&model)?;
        options.split_sentences = false;
        options.direction = Some(direction.clone());
        let translate = |lines: &[String]| -> Result<Vec<Translation>> {
            let found = model.translate_with(lines, &options)?;
            Ok(found
                .into_iter()
                .filter_map(|t| t.into_iter().next())
                .collect())
        };
        let translations = translate(&test.lines)?;
        if let Some((path, references)) = args.calibration.as_ref().zip(test.references.first()) {
            let mut measured =
                Confidence::measure(&model, &direction, (&test.lines, references), &translations)
                    .map_err(|e| e.within(&test.names))?;
            if let Some((other, lines)) = args.calibration_text.as_ref().zip(other) {
                measured.compare(other, &translate(&lines)?);
            }
            measured.draw(path)?;
            confidence = Some(measured);
        }
        translations.into_iter().map(|t| t.text).collect()
    };
    if let Some(path) = &args.output {
        write_atomically(path, |w| {
            hypotheses.iter().try_for_each(|line| writeln!(w, "{line}"))
        })?;
    }
    for references in &test.references {
        let fitting = Words::fitting(references);
        if words == Words::Mteval13a && fitting != words {
            say(format_args!(
                "note: the words of `13a` do not fit these references, which have no spaces between words; `--tokenize {}` does",
                fitting.name()
            ));
            break;
        }
    }
    let streams: Vec<&[String]> = test.references.iter().map(Vec::as_slice).collect();
    let scores = Scores::corpus(words, args.lowercase, &hypotheses, &streams)?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{scores}").map_err(broken)?;
    match confidence {
        Some(confidence) => writeln!(out, "{confidence}").map_err(broken),
        None => Ok(()),
    }
}

/// The lines of a text that are not empty.
fn full_lines(path: &Path) -> Result<Vec<String>> {
    let mut lines = read_lines(path)?;
    lines.retain(|line| !line.trim().is_empty());
    if lines.is_empty() {
        return Err(Error::input("the file has no text")
            .at(path.display().to_string())
            .expected("at least one line that is not empty")
            .found("none")
            .hint("is this the file that you mean?"));
    }
    Ok(lines)
}

/// What is compared: as many lines on each side, at least one.
struct Sides {
    /// Translations, or what is to be translated.
    lines: Vec<String>,
    /// One list for each reference.
    references: Vec<Vec<String>>,
    /// The files, for errors.
    names: String,
}

impl Sides {
    fn read(args: &EvaluateArgs) -> Result<Self> {
        let path = match (&args.tsv, args.hypothesis.as_ref().or(args.source.as_ref())) {
            (Some(tsv), _) => {
                let pairs = SentencePairs::from_tsv(tsv, args.reverse)?;
                return Ok(Sides {
                    lines: pairs.source,
                    references: vec![pairs.target],
                    names: tsv.display().to_string(),
                });
            }
            (None, Some(path)) => path,
            (None, None) => return Err(Error::settings("nothing to evaluate")),
        };
        let lines = read_lines(path)?;
        let files = args.reference.iter().chain([path]);
        let names: Vec<String> = files.map(|f| f.display().to_string()).collect();
        Ok(Sides {
            references: references(&args.reference, path, lines.len())?,
            lines,
            names: names.join(" and "),
        })
    }
}

/// The references in `files`, each with one line for each of the `count` lines of `path`.
fn references(files: &[PathBuf], path: &Path, count: usize) -> Result<Vec<Vec<String>>> {
    let read = |file: &PathBuf| {
        let lines = read_lines(file)?;
        if lines.len() == count && count > 0 {
            return Ok(lines);
        }
        Err(Error::input("the references do not fit the translations")
            .at(format!("{} and {}", file.display(), path.display()))
            .expected("as many lines in both, at least one")
            .found(format!("{} and {count}", lines.len()))
            .hint("lines end with LF alone; a tool that splits at other characters counts differently"))
    };
    files.iter().map(read).collect()
}

#[derive(Debug, clap::Args)]
pub(crate) struct ScoreArgs {
    /// Model folder; the embedded model where absent.
    #[arg(long, short)]
    model: Option<PathBuf>,
    /// Source and target, tab-separated.
    #[arg(long, conflicts_with_all = ["source", "target"])]
    tsv: Option<PathBuf>,
    /// Source sentences.
    #[arg(long, requires = "target")]
    source: Option<PathBuf>,
    /// Target sentences.
    #[arg(long, requires = "source")]
    target: Option<PathBuf>,
    /// File with one text, for a decoder alone: its perplexity.
    #[arg(long, conflicts_with_all = ["tsv", "source", "target", "from", "to"], requires = "model")]
    text: Option<PathBuf>,
    /// With --text: tokens between the beginnings of two windows; half of what the model takes where absent.
    #[arg(long, requires = "text")]
    stride: Option<usize>,
    #[command(flatten)]
    language: LanguageFlags,
    /// Arithmetic: default (what the folder is stored in), float32, bf16, int8, int4 or auto.
    #[arg(long, default_value = "default")]
    compute_type: ComputeType,
}

/// Perplexity of a text: e to the power of the mean of −ln p of its tokens.
fn score_text(args: &ScoreArgs, model: &Path, path: &Path) -> Result<()> {
    let text = read_text(path)?;
    let model = LanguageModel::open(model, decided(args.compute_type))?;
    let most = model.generator().max_tokens();
    let stride = args.stride.unwrap_or(most.div_ceil(2));
    let losses = model
        .losses(&text, stride)
        .map_err(|e| e.within(path.display()))?;
    if losses.is_empty() {
        return Err(no_text(path));
    }
    let sum: f64 = losses.iter().map(|loss| f64::from(*loss)).sum();
    let mean = sum / losses.len() as f64;
    print(&[format!(
        "perplexity {:.4} of {} tokens ({mean:.6} nats a token)",
        mean.exp(),
        losses.len()
    )])
}

/// Most pairs scored at a time.
const LINES: usize = 2048;

/// Scores pairs and prints a line for each.
struct ScoreLines {
    model: Translator,
    /// Where a target is named: what tells it to the model.
    direction: Option<Direction>,
    files: String,
    sum: f64,
    tokens: usize,
    lines: usize,
    /// Pairs that the model cannot take.
    left_out: usize,
}

impl ScoreLines {
    fn new(args: &ScoreArgs) -> Result<Self> {
        let files = [&args.tsv, &args.source, &args.target]
            .into_iter()
            .flatten();
        let files: Vec<String> = files.map(|path| path.display().to_string()).collect();
        let model = crate::model::open(args.model.as_deref(), args.compute_type)?;
        let direction = args.language.direction(&model)?;
        Ok(ScoreLines {
            model,
            // Without a target the sources are taken as they are, with the tags that they bring.
            direction: args.language.is_given().then_some(direction),
            files: files.join(" and "),
            sum: 0.0,
            tokens: 0,
            lines: 0,
            left_out: 0,
        })
    }

    /// A line for each pair: `nan` for one that is longer than the model takes.
    fn print(&mut self, pairs: &[(&str, &str)]) -> Result<()> {
        let direction = self.direction.as_ref();
        let ids = self.model.pair_ids(pairs.iter().copied(), direction)?;
        let count = ids.len();
        let (fitting, taken) = crate::model::that_fit(&self.model, ids);
        let scored = self.model.engine().score(&taken, 2048).map_err(|e| {
            let line = |n: usize| fitting.get(n).map_or(n, |i| *i) + self.lines + 1;
            e.item_as(|n| format!("line {}", line(n)))
                .within(&self.files)
        })?;
        let mut scored = scored.into_iter();
        let mut fitting = fitting.into_iter().peekable();
        let mut out = std::io::BufWriter::new(std::io::stdout().lock());
        for i in 0..count {
            let line = match fitting.next_if_eq(&i).and_then(|_| scored.next()) {
                Some(scored) => {
                    let (log_prob, n) = (scored.log_prob(), scored.token_log_probs.len());
                    self.sum += log_prob;
                    self.tokens += n;
                    format!("{log_prob:.6}\t{}", short((-log_prob / n as f64).exp(), 4))
                }
                None => {
                    self.left_out += 1;
                    "nan\tnan".to_string()
                }
            };
            writeln!(out, "{line}").map_err(broken)?;
        }
        self.lines += count;
        out.flush().map_err(broken)
    }

    fn tell(&self) {
        if self.left_out > 0 {
            say(format_args!(
                "note: {} pairs are longer than the model takes, {} tokens a side, and have no score: nan",
                self.left_out,
                self.model.engine().max_tokens()
            ));
        }
        if self.tokens > 0 {
            let perplexity = (-self.sum / self.tokens as f64).exp();
            let (tokens, perplexity) = (self.tokens, short(perplexity, 4));
            say(format_args!(
                "{tokens} target tokens, perplexity {perplexity}"
            ));
        }
    }
}

pub(crate) fn score(args: ScoreArgs) -> Result<()> {
    if let (Some(text), Some(model)) = (&args.text, &args.model) {
        return score_text(&args, model, text);
    }
    let mut scores = ScoreLines::new(&args)?;
    match (&args.tsv, &args.source, &args.target) {
        (Some(tsv), ..) => {
            let mut batches = Batches::open(tsv)?;
            let mut rows = 0;
            loop {
                let (lines, read) = batches.next(LINES);
                let mut pairs = Vec::with_capacity(lines.len());
                let mut broken_row = Ok(());
                for line in &lines {
                    rows += 1;
                    match columns(line) {
                        Some((source, target, _)) => pairs.push((source, target)),
                        None => {
                            broken_row =
                                Err(one_column(&format!("{}, line {rows}", tsv.display())));
                            break;
                        }
                    }
                }
                // What came before a broken line is scored before it is told.
                scores.print(&pairs)?;
                broken_row.and(read)?;
                if lines.is_empty() {
                    break;
                }
            }
            if rows == 0 {
                return Err(no_text(tsv));
            }
        }
        (None, Some(source), Some(target)) => {
            let pairs = SentencePairs::from_files(source, target)?;
            scores.print(&pairs.iter().collect::<Vec<_>>())?;
        }
        _ => {
            return Err(Error::settings("nothing to score")
                .at("--tsv, --source, --target")
                .expected("--tsv FILE, or --source FILE and --target FILE; or --text FILE for a decoder alone")
                .found("neither")
                .hint("name the sentence pairs to score"));
        }
    }
    scores.tell();
    Ok(())
}
