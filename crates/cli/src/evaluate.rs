//! `hexapla evaluate` and `hexapla score`

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;

use hexapla::config::ComputeType;
use hexapla::error::{Error, Result};
use hexapla::metrics::{Bleu, Chrf, Tokenizer as Words};
use hexapla::text::corpus::{SentencePairs, read_lines};

use crate::translate::{SearchFlags, broken};

#[derive(Debug, clap::Args)]
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
    let hypotheses = match (&args.hypothesis, &args.source) {
        (Some(path), _) => read_lines(path)?,
        (None, Some(source)) => {
            let model = crate::model::open(args.model.as_deref(), args.search.compute_type)?;
            let mut options = args.search.options(&model);
            options.split_sentences = false;
            let lines = read_lines(source)?;
            let found = model.translate(&lines, &BTreeMap::new(), &options)?;
            found
                .into_iter()
                .map(|t| t.into_iter().next().map_or(String::new(), |t| t.text))
                .collect()
        }
        (None, None) => {
            return Err(Error::new("nothing to evaluate")
                .expected("--hypothesis FILE, or --model FOLDER with --source FILE")
                .found("neither"));
        }
    };
    if let Some(path) = &args.output {
        hexapla::files::write_atomically(path, |w| {
            hypotheses.iter().try_for_each(|line| writeln!(w, "{line}"))
        })?;
    }
    let references: Vec<Vec<String>> = args
        .reference
        .iter()
        .map(|path| read_lines(path))
        .collect::<Result<_>>()?;
    let streams: Vec<&[String]> = references.iter().map(Vec::as_slice).collect();
    let bleu = Bleu {
        tokenizer: Words::from_name(&args.tokenize)?,
        lowercase: args.lowercase,
        ..Bleu::default()
    };
    let chrf = Chrf {
        lowercase: args.lowercase,
        ..Chrf::default()
    };
    let bleu = bleu.corpus(&hypotheses, &streams)?;
    let chrf = chrf.corpus(&hypotheses, &streams)?;
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "{bleu}\n  {}\n{chrf}\n  {}",
        bleu.signature(),
        chrf.signature()
    )
    .map_err(broken)
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
    /// Arithmetic: float32, bf16, int8 or auto.
    #[arg(long, default_value = "float32")]
    compute_type: ComputeType,
}

pub(crate) fn score(args: ScoreArgs) -> Result<()> {
    let pairs = match (&args.tsv, &args.source, &args.target) {
        (Some(tsv), ..) => SentencePairs::from_tsv(tsv, false)?,
        (None, Some(source), Some(target)) => SentencePairs::from_files(source, target)?,
        _ => {
            return Err(Error::new("nothing to score")
                .expected("--tsv FILE, or --source FILE and --target FILE")
                .found("neither"));
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
    for scored in model.engine.score(&ids, 2048)? {
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
    eprintln!(
        "{tokens} target tokens, perplexity {:.4}",
        (-sum / f64::from(tokens.max(1) as u32)).exp()
    );
    Ok(())
}
