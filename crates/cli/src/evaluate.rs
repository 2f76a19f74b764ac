//! `hexapla evaluate` and `hexapla score`

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use hexapla::config::ComputeType;
use hexapla::error::{Error, Result};
use hexapla::files::write_atomically;
use hexapla::generate::translator::Translation;
use hexapla::metrics::{Scores, Tokenizer as Words};
use hexapla::text::corpus::{SentencePairs, read_lines};

use crate::calibration::Confidence;
use crate::console::{broken, say};
use crate::language::LanguageFlags;
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
        let mut options = args
            .search
            .options(model.engine.model().config(), &model.generation)?;
        options.split_sentences = false;
        let tagged = |lines: &[String]| -> Vec<String> {
            lines.iter().map(|line| direction.tagged(line)).collect()
        };
        let translate = |lines: &[String]| -> Result<Vec<Translation>> {
            let found = model.translate(lines, &BTreeMap::new(), &options)?;
            Ok(found
                .into_iter()
                .filter_map(|t| t.into_iter().next())
                .collect())
        };
        let sources = tagged(&test.lines);
        let translations = translate(&sources)?;
        if let Some((path, references)) = args.calibration.as_ref().zip(test.references.first()) {
            let mut measured = Confidence::measure(&model, &sources, references, &translations)
                .map_err(|e| e.within(&test.names))?;
            if let Some((other, lines)) = args.calibration_text.as_ref().zip(other) {
                measured.compare(other, &translate(&tagged(&lines))?);
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
        return Err(Error::new("the file has no text")
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
            (None, None) => return Err(Error::new("nothing to evaluate")),
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
        Err(Error::new("the references do not fit the translations")
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
    /// Arithmetic: default (what the folder is stored in), float32, bf16, int8 or auto.
    #[arg(long, default_value = "default")]
    compute_type: ComputeType,
}

pub(crate) fn score(args: ScoreArgs) -> Result<()> {
    let pairs = match (&args.tsv, &args.source, &args.target) {
        (Some(tsv), ..) => SentencePairs::from_tsv(tsv, false)?,
        (None, Some(source), Some(target)) => SentencePairs::from_files(source, target)?,
        _ => {
            return Err(Error::new("nothing to score")
                .at("--tsv, --source, --target")
                .expected("--tsv FILE, or --source FILE and --target FILE")
                .found("neither")
                .hint("name the sentence pairs to score"));
        }
    };
    let model = crate::model::open(args.model.as_deref(), args.compute_type)?;
    let ids = model.pair_ids(pairs.iter())?;
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let (mut sum, mut tokens) = (0.0, 0);
    let files = [&args.tsv, &args.source, &args.target]
        .into_iter()
        .flatten();
    let files: Vec<String> = files.map(|path| path.display().to_string()).collect();
    let scored = model
        .engine
        .score(&ids, 2048)
        .map_err(|e| e.within(files.join(" and ")))?;
    for scored in scored {
        let n = scored.token_log_probs.len();
        writeln!(
            out,
            "{:.6}\t{:.4}",
            scored.log_prob(),
            (-scored.log_prob() / n as f64).exp()
        )
        .map_err(broken)?;
        sum += scored.log_prob();
        tokens += n;
    }
    out.flush().map_err(broken)?;
    say(format_args!(
        "{tokens} target tokens, perplexity {:.4}",
        (-sum / f64::from(tokens.max(1) as u32)).exp()
    ));
    Ok(())
}
