//! `hexapla evaluate` and `hexapla score`

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use hexapla::config::ComputeType;
use hexapla::error::{Error, Result};
use hexapla::metrics::{Scores, Tokenizer as Words};
use hexapla::text::corpus::{SentencePairs, read_lines};

use crate::console::{broken, say};
use crate::translate::SearchFlags;

#[derive(Debug, clap::Args)]
#[command(allow_negative_numbers = true)]
pub(crate) struct EvaluateArgs {
    /// Translations to score, one a line.
    #[arg(long, conflicts_with = "model")]
    hypothesis: Option<PathBuf>,
    /// Or a model folder that translates --source.
    #[arg(long, short, requires = "source")]
    model: Option<PathBuf>,
    /// Source sentences for --model.
    #[arg(long)]
    source: Option<PathBuf>,
    /// Reference translations, one a line; several files are several references.
    #[arg(long, required = true)]
    reference: Vec<PathBuf>,
    /// BLEU's words: 13a, zh, char, intl or none.
    #[arg(long, default_value = "13a")]
    tokenize: String,
    /// Ignore case.
    #[arg(long)]
    lowercase: bool,
    /// Where to write the model's translations.
    #[arg(long)]
    output: Option<PathBuf>,
    #[command(flatten)]
    search: SearchFlags,
}

pub(crate) fn run(args: EvaluateArgs) -> Result<()> {
    let words = Words::from_name(&args.tokenize).map_err(|e| e.at("--tokenize"))?;
    let Some(path) = args.hypothesis.as_ref().or(args.source.as_ref()) else {
        return Err(Error::new("nothing to evaluate")
            .at("--hypothesis, --source")
            .expected("--hypothesis FILE, or --model FOLDER with --source FILE")
            .found("neither")
            .hint("name the translations to score, or what to translate"));
    };
    // All that is read is read and compared before anything is translated or written.
    let lines = read_lines(path)?;
    let references = references(&args.reference, path, lines.len())?;
    let hypotheses = match args.hypothesis {
        Some(_) => lines,
        None => {
            let model = crate::model::open(args.model.as_deref(), args.search.compute_type)?;
            let mut options = args.search.options(&model)?;
            options.split_sentences = false;
            let found = model.translate(&lines, &BTreeMap::new(), &options)?;
            found
                .into_iter()
                .map(|t| t.into_iter().next().map_or(String::new(), |t| t.text))
                .collect()
        }
    };
    if let Some(path) = &args.output {
        hexapla::files::write_atomically(path, |w| {
            hypotheses.iter().try_for_each(|line| writeln!(w, "{line}"))
        })?;
    }
    let streams: Vec<&[String]> = references.iter().map(Vec::as_slice).collect();
    let scores = Scores::corpus(words, args.lowercase, &hypotheses, &streams)?;
    writeln!(std::io::stdout().lock(), "{scores}").map_err(broken)
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
    let ids = pairs
        .iter()
        .map(|(source, target)| {
            Ok((
                model.source_ids(source)?,
                model.tokenizers.target.encode(target)?,
            ))
        })
        .collect::<Result<Vec<_>>>()?;
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
