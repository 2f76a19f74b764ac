//! `hexapla translate`

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use hexapla::config::ComputeType;
use hexapla::error::{Error, Result};
use hexapla::formats;
use hexapla::generate::engine::{Engine, Request};
use hexapla::generate::language_model::GenerateOptions;
use hexapla::generate::translator::{Translation, Translator};
use hexapla::generate::{EarlyStopping, Sampling, SearchOptions, TranslateOptions};
use hexapla::text::corpus::read_lines;

use crate::console::{broken, say, shown};
use crate::language::LanguageFlags;
use crate::model::decided;
use crate::text::{LINES, TextArgs, read_ids};

#[derive(Debug, clap::Args)]
#[command(allow_negative_numbers = true)]
pub(crate) struct TranslateArgs {
    #[command(flatten)]
    texts: TextArgs,
    /// Model folder; the embedded model where absent.
    #[arg(long, short)]
    model: Option<PathBuf>,
    #[command(flatten)]
    language: LanguageFlags,
    /// JSON lines, an array of token ids each; prints arrays of ids.
    #[arg(
        long,
        conflicts_with_all = [
            "text", "input", "from", "to", "source_prefix", "target_prefix", "scores", "token_probabilities", "alignments", "no_split"
        ]
    )]
    input_ids: Option<PathBuf>,
    /// Text before each sentence, for models that are told their task so (T5: `translate English to German: `).
    #[arg(long, conflicts_with = "alignments")]
    source_prefix: Option<String>,
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
    /// When a sentence's search ends: true (once as many translations are finished as the beam is wide), false (once
    /// besides no open one scores better than the worst of them) or never (once no open one could still get better).
    #[arg(long)]
    early_stopping: Option<EarlyStopping>,
    /// Fewest tokens of a sentence.
    #[arg(long)]
    min_decoding_length: Option<usize>,
    /// Most tokens of a sentence; three times the source plus ten where absent (`explain` with a decoder alone: 24).
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
    /// Arithmetic: default (what the folder is stored in), float32, bf16, int8, int4 or auto. int8 takes a quarter of the memory and is the fastest.
    #[arg(long, default_value = "default")]
    pub(crate) compute_type: ComputeType,
}

impl SearchFlags {
    /// The model's defaults with what the flags say.
    pub(crate) fn options(&self, model: &Translator) -> Result<TranslateOptions> {
        let vocab_size = model.engine().config().target_vocab_size;
        self.change(model.options(), vocab_size)
    }

    /// `defaults` with what the flags say.
    fn change(&self, defaults: TranslateOptions, vocab_size: usize) -> Result<TranslateOptions> {
        let mut options = defaults;
        options.search = self.search(options.search, vocab_size)?;
        options.batch_tokens = self.batch_tokens;
        options.max_decoding_length = self.max_decoding_length;
        Ok(options)
    }

    /// How a decoder alone with these `defaults` goes on with a text.
    pub(crate) fn continuation(
        &self,
        defaults: GenerateOptions,
        vocab_size: usize,
    ) -> Result<GenerateOptions> {
        Ok(GenerateOptions {
            search: self.search(defaults.search, vocab_size)?,
            max_new_tokens: self.max_decoding_length,
            ..defaults
        })
    }

    /// `defaults` with what the flags say of the search.
    fn search(&self, defaults: SearchOptions, vocab_size: usize) -> Result<SearchOptions> {
        for (flag, value) in [
            ("--batch-tokens", Some(self.batch_tokens)),
            ("--max-decoding-length", self.max_decoding_length),
        ] {
            if value == Some(0) {
                return Err(Error::settings("a flag is out of range")
                    .at(flag)
                    .expected("at least 1")
                    .found("0")
                    .hint("leave it out for the default"));
            }
        }
        let mut search = defaults.clone();
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
                ..s
            });
        } else if let Some(beam_size) = self.beam_size {
            search.beam_size = beam_size;
            search.sampling = None;
        }
        // Not the folder's: one line comes out for each that goes in, unless somebody asks for more.
        search.n_best = self.n_best.unwrap_or(1);
        if search.sampling.is_none() && self.beam_size.is_none() {
            search.beam_size = search.beam_size.max(search.n_best);
        }
        search.length_penalty = self.length_penalty.unwrap_or(search.length_penalty);
        search.early_stopping = self.early_stopping.unwrap_or(search.early_stopping);
        search.min_length = self.min_decoding_length.unwrap_or(search.min_length);
        search.no_repeat_ngram_size = self
            .no_repeat_ngram_size
            .unwrap_or(search.no_repeat_ngram_size);
        search.repetition_penalty = self.repetition_penalty.unwrap_or(search.repetition_penalty);
        search.validate(vocab_size).map_err(|error| {
            // Which may be what the folder says, and no flag.
            match defaults.validate(vocab_size) {
                Err(same) if same == error => error.within("generation_config.json"),
                _ => error,
            }
        })?;
        Ok(search)
    }
}

pub(crate) fn run(args: TranslateArgs) -> Result<()> {
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    if let Some(path) = &args.input_ids {
        return translate_ids(&args, path, &mut out);
    }
    let model = crate::model::open(args.model.as_deref(), args.search.compute_type)?;
    let mut options = args.search.options(&model)?;
    options.alignment = args.alignments.then(|| model.alignment_reading());
    options.split_sentences = !args.no_split;
    options.source_prefix.clone_from(&args.source_prefix);
    let prefixes = args
        .target_prefix
        .as_deref()
        .map(|path| Prefixes::read(path, &model))
        .transpose()?;
    let direction = args.language.direction(&model)?;
    options.direction = Some(direction.clone());
    let mut done = 0;
    let mut unfinished = 0;
    let mut untrained = 0;
    let mut first_untrained = None;
    let mut flush = |lines: &[String], last: bool| -> Result<()> {
        for (number, line) in lines.iter().enumerate() {
            if let Some(language) = direction.untrained(line) {
                untrained += 1;
                first_untrained.get_or_insert((done + number + 1, language.to_string()));
            }
        }
        if let Some(prefixes) = &prefixes {
            options.prefixes = prefixes.of(done, lines.len(), last)?;
        }
        options.first_line = done as u64;
        let translated = model.translate_with(lines, &options);
        for translations in translated.map_err(|e| e.within(args.texts.name()))? {
            unfinished += usize::from(translations.first().is_some_and(|t| !t.finished));
            for t in &translations {
                show(&mut out, t, &args).map_err(broken)?;
            }
        }
        done += lines.len();
        out.flush().map_err(broken)
    };
    let mut batches = args.texts.open()?;
    loop {
        let (lines, read) = batches.next(LINES);
        let last = read.is_ok() && (lines.is_empty() || batches.is_at_end());
        // What came before a broken line is translated before it is told.
        flush(&lines, last)?;
        read?;
        if last {
            break;
        }
    }
    if unfinished > 0 {
        say(format_args!(
            "note: {unfinished} lines reached the longest length before their end; see --max-decoding-length"
        ));
    }
    if let Some((number, language)) = first_untrained {
        say(format_args!(
            "note: {untrained} lines seem to be in a language that this model was not trained to translate from into this target; the first is line {number}, `{language}`; if that is wrong, name --from"
        ));
    }
    Ok(())
}

/// Target prefixes, a line for each line of the input.
struct Prefixes<'a> {
    path: &'a Path,
    lines: Vec<String>,
}

impl<'a> Prefixes<'a> {
    fn read(path: &'a Path, model: &Translator) -> Result<Self> {
        let lines = read_lines(path)?;
        for (number, line) in lines.iter().enumerate() {
            model
                .prefix_ids(line)
                .map_err(|e| e.at(format!("{}, line {}", path.display(), number + 1)))?;
        }
        Ok(Prefixes { path, lines })
    }

    /// Those of `count` lines after `done` others. With `last`, none may be left over.
    fn of(&self, done: usize, count: usize, last: bool) -> Result<BTreeMap<u64, String>> {
        let end = done + count;
        if self.lines.len() < end || (last && self.lines.len() > end) {
            let least = if last { "" } else { "at least " };
            return Err(Error::input("the prefixes do not fit the input")
                .at(self.path.display().to_string())
                .expected(format!(
                    "{least}{end} lines, one for each line of the input"
                ))
                .found(format!("{} lines", self.lines.len()))
                .hint("an empty line stands for no prefix"));
        }
        let here = self.lines.get(done..end).unwrap_or_default();
        Ok((done as u64..).zip(here.iter().cloned()).collect())
    }
}

fn show(out: &mut dyn Write, t: &Translation, args: &TranslateArgs) -> std::io::Result<()> {
    if args.scores {
        write!(out, "{:.6}\t{:.6}\t", t.score, t.log_prob)?;
    }
    let columns = args.scores || args.token_probabilities || t.alignment.is_some();
    if columns {
        write!(out, "{}", t.text.replace('\t', " "))?;
    } else {
        write!(out, "{}", t.text)?;
    }
    if args.token_probabilities {
        let tokens: Vec<String> = t
            .tokens
            .iter()
            .map(|(piece, p)| format!("{}:{:.4}", shown(piece), p.exp()))
            .collect();
        write!(out, "\t{}", tokens.join(" "))?;
    }
    if let Some(alignment) = &t.alignment {
        write!(out, "\t{alignment}")?;
    }
    writeln!(out)
}

/// Needs no tokenizer.
fn translate_ids(args: &TranslateArgs, path: &Path, out: &mut dyn Write) -> Result<()> {
    let opened = formats::open(crate::model::folder(args.model.as_deref()))?;
    let config = opened.encoder_decoder()?;
    let defaults = TranslateOptions::for_folder(config, &opened.generation);
    let options = args.search.change(defaults, config.target_vocab_size)?;
    let packed = opened.pack(decided(args.search.compute_type))?;
    let engine = Engine::new(opened.model().clone(), packed);
    let mut requests = Vec::new();
    for (number, source) in read_ids(path)?.into_iter().enumerate() {
        let mut request = Request::new(source).at_line(number as u64, 0);
        request.max_length = options.max_decoding_length.unwrap_or(request.max_length);
        requests.push(request);
    }
    for hypotheses in engine
        .generate(&requests, &options.search, options.batch_tokens)
        .map_err(|e| {
            e.item_as(|n| format!("line {}", n + 1))
                .within(path.display())
        })?
    {
        for h in hypotheses {
            writeln!(out, "{}", serde_json::json!(h.ids)).map_err(broken)?;
        }
    }
    out.flush().map_err(broken)
}
