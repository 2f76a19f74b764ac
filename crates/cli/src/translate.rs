//! `hexapla translate`

use std::collections::BTreeMap;
use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};

use hexapla::config::ComputeType;
use hexapla::error::{Error, Result};
use hexapla::generate::engine::Request;
use hexapla::generate::translator::{TranslateOptions, Translation};
use hexapla::generate::{Sampling, SearchOptions};
use hexapla::text::corpus::{Lines, read_lines};

/// Lines translated at a time, so that output flows while input still comes.
const LINES: usize = 2048;

#[derive(Debug, clap::Args)]
pub(crate) struct TranslateArgs {
    /// Text to translate; without it, --input or standard input is read.
    text: Vec<String>,
    /// Model folder; the embedded model where absent.
    #[arg(long, short)]
    model: Option<PathBuf>,
    /// Target language of a multilingual model: `>>to<<` is put before each line. The embedded model has de, en and zh.
    #[arg(long)]
    to: Option<String>,
    /// File to translate; `-` is standard input.
    #[arg(long, short, conflicts_with = "text")]
    input: Option<PathBuf>,
    /// JSON lines, an array of token ids each; prints arrays of ids.
    #[arg(long, conflicts_with_all = ["text", "input", "to"])]
    input_ids: Option<PathBuf>,
    /// File of target prefixes, a line for each input line.
    #[arg(long)]
    target_prefix: Option<PathBuf>,
    /// Print scores before each translation.
    #[arg(long)]
    scores: bool,
    /// Print each piece with its probability.
    #[arg(long)]
    token_probabilities: bool,
    /// Print word alignments (source-target token numbers).
    #[arg(long)]
    alignments: bool,
    /// Take each line as one sentence, however many it has.
    #[arg(long)]
    no_split: bool,
    #[command(flatten)]
    search: SearchFlags,
}

/// How to search.
#[derive(Debug, clap::Args)]
pub(crate) struct SearchFlags {
    /// Width of the beam; 1 is greedy.
    #[arg(long)]
    beam_size: Option<usize>,
    /// Translations of each line.
    #[arg(long)]
    n_best: Option<usize>,
    /// Score = log-probability / length^penalty.
    #[arg(long)]
    length_penalty: Option<f32>,
    /// Fewest tokens of a sentence.
    #[arg(long)]
    min_decoding_length: Option<usize>,
    /// Most tokens of a sentence; three times the source plus ten where absent.
    #[arg(long)]
    max_decoding_length: Option<usize>,
    /// No n-gram of this size twice in a sentence; 0 allows all.
    #[arg(long)]
    no_repeat_ngram_size: Option<usize>,
    /// Divides the score of tokens that are there already.
    #[arg(long)]
    repetition_penalty: Option<f32>,
    /// Draw by chance at this temperature.
    #[arg(long)]
    sampling_temperature: Option<f32>,
    /// Draw among this many tokens; 0 is all.
    #[arg(long)]
    sampling_top_k: Option<usize>,
    /// Draw among the likeliest tokens of this total probability.
    #[arg(long)]
    sampling_top_p: Option<f32>,
    /// Keys the draws.
    #[arg(long)]
    seed: Option<u64>,
    /// Source tokens of a batch.
    #[arg(long, default_value_t = 1024)]
    batch_tokens: usize,
    /// Arithmetic: float32, bf16, int8 or auto. int8 takes a quarter of the memory and is the fastest.
    #[arg(long, default_value = "float32")]
    pub(crate) compute_type: ComputeType,
}

impl SearchFlags {
    /// The model's defaults with what the flags say.
    pub(crate) fn options(
        &self,
        model: &hexapla::generate::translator::Translator,
    ) -> TranslateOptions {
        let mut search =
            SearchOptions::for_folder(model.engine.model().config(), &model.generation);
        let sampled = self.sampling_temperature.is_some()
            || self.sampling_top_k.is_some()
            || self.sampling_top_p.is_some()
            || self.seed.is_some();
        if sampled {
            let s = search.sampling.unwrap_or_default();
            search.beam_size = 1;
            search.sampling = Some(Sampling {
                temperature: self.sampling_temperature.unwrap_or(s.temperature),
                top_k: self.sampling_top_k.unwrap_or(s.top_k),
                top_p: self.sampling_top_p.unwrap_or(s.top_p),
                seed: self.seed.unwrap_or(s.seed),
            });
        } else if let Some(beam_size) = self.beam_size {
            search.beam_size = beam_size;
            search.sampling = None;
        }
        search.n_best = self.n_best.unwrap_or(search.n_best);
        if search.sampling.is_none() && self.beam_size.is_none() {
            search.beam_size = search.beam_size.max(search.n_best);
        }
        search.length_penalty = self.length_penalty.unwrap_or(search.length_penalty);
        search.min_length = self.min_decoding_length.unwrap_or(search.min_length);
        search.no_repeat_ngram_size = self
            .no_repeat_ngram_size
            .unwrap_or(search.no_repeat_ngram_size);
        search.repetition_penalty = self.repetition_penalty.unwrap_or(search.repetition_penalty);
        TranslateOptions {
            search,
            batch_tokens: self.batch_tokens,
            max_decoding_length: self.max_decoding_length,
            split_sentences: true,
        }
    }
}

/// An error of writing to standard output.
pub(crate) fn broken(e: std::io::Error) -> Error {
    Error::new("cannot write to standard output").found(e.to_string())
}

pub(crate) fn run(args: TranslateArgs) -> Result<()> {
    let model = crate::model::open(args.model.as_deref(), args.search.compute_type)?;
    let mut options = args.search.options(&model);
    options.search.attention = args.alignments;
    options.split_sentences = !args.no_split;
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    if let Some(path) = &args.input_ids {
        return translate_ids(&model, path, &options, &mut out);
    }
    let prefixes = match &args.target_prefix {
        Some(path) => read_lines(path)?,
        None => Vec::new(),
    };
    let tag = match (&args.to, args.model.is_none()) {
        (Some(to), _) => Some(to.clone()),
        // The embedded model needs a target: Chinese for English text, English for all other.
        (None, true) => None,
        (None, false) => Some(String::new()),
    };
    let mut done = 0;
    let mut unfinished = 0;
    let mut flush = |lines: &[String]| -> Result<()> {
        let tagged: Vec<String> = lines
            .iter()
            .map(|line| with_tag(line, tag.as_deref()))
            .collect();
        let here: BTreeMap<usize, String> = (0..lines.len())
            .filter_map(|i| Some((i, prefixes.get(done + i)?.clone())))
            .collect();
        for translations in model.translate(&tagged, &here, &options)? {
            unfinished += usize::from(translations.first().is_some_and(|t| !t.finished));
            for t in &translations {
                show(&mut out, t, &args).map_err(broken)?;
            }
        }
        done += lines.len();
        out.flush().map_err(broken)
    };
    if !args.text.is_empty() {
        flush(&args.text)?;
    } else {
        let reader: Box<dyn BufRead> = match args.input.as_deref().filter(|p| *p != Path::new("-"))
        {
            Some(path) => Box::new(std::io::BufReader::new(
                std::fs::File::open(path)
                    .map_err(|e| Error::io("cannot read the input", path, &e))?,
            )),
            None => Box::new(std::io::stdin().lock()),
        };
        let name = args
            .input
            .as_ref()
            .map_or("standard input".into(), |p| p.display().to_string());
        let mut lines = Vec::new();
        for line in Lines::new(reader, name) {
            lines.push(line?);
            if lines.len() == LINES {
                flush(&lines)?;
                lines.clear();
            }
        }
        flush(&lines)?;
    }
    if unfinished > 0 {
        eprintln!(
            "note: {unfinished} lines reached the longest length before their end; see --max-decoding-length"
        );
    }
    Ok(())
}

fn with_tag(line: &str, tag: Option<&str>) -> String {
    if line.trim().is_empty() || line.trim_start().starts_with(">>") {
        return line.to_string();
    }
    match tag {
        Some("") => line.to_string(),
        Some(tag) => format!(">>{tag}<< {line}"),
        None => {
            let foreign = line
                .chars()
                .any(|c| ('\u{4e00}'..='\u{9fff}').contains(&c) || "äöüßÄÖÜ".contains(c));
            format!(">>{}<< {line}", if foreign { "en" } else { "zh" })
        }
    }
}

fn show(out: &mut dyn Write, t: &Translation, args: &TranslateArgs) -> std::io::Result<()> {
    if args.scores {
        write!(out, "{:.6}\t{:.6}\t", t.score, t.log_prob)?;
    }
    write!(out, "{}", t.text)?;
    if args.token_probabilities {
        let tokens: Vec<String> = t
            .tokens
            .iter()
            .map(|(piece, p)| format!("{piece}:{:.4}", p.exp()))
            .collect();
        write!(out, "\t{}", tokens.join(" "))?;
    }
    if let Some(alignment) = &t.alignment {
        write!(out, "\t{alignment}")?;
    }
    writeln!(out)
}

fn translate_ids(
    model: &hexapla::generate::translator::Translator,
    path: &Path,
    options: &TranslateOptions,
    out: &mut dyn Write,
) -> Result<()> {
    let mut requests = Vec::new();
    for (number, line) in read_lines(path)?.iter().enumerate() {
        let source: Vec<u32> = serde_json::from_str(line).map_err(|e| {
            Error::new("cannot read token ids")
                .at(format!("{}, line {}", path.display(), number + 1))
                .expected("a JSON array of ids, such as [5, 17, 0]")
                .found(e.to_string())
        })?;
        let max_length = options.max_decoding_length.unwrap_or(source.len() * 3 + 10);
        requests.push(Request {
            source,
            prefix: Vec::new(),
            max_length,
        });
    }
    for hypotheses in model
        .engine
        .generate(&requests, &options.search, options.batch_tokens)?
    {
        for h in hypotheses {
            writeln!(out, "{}", serde_json::json!(h.ids)).map_err(broken)?;
        }
    }
    out.flush().map_err(broken)
}
