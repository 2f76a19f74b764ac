//! `hexapla generate`

use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use hexapla::config::ComputeType;
use hexapla::error::{Error, Result};
use hexapla::formats;
use hexapla::generate::generator::{Generator, Prompt};
use hexapla::generate::language_model::{Continuation, Finish, GenerateOptions, LanguageModel};
use hexapla::generate::{Sampling, SearchOptions};
use hexapla::text::corpus::read_lines;
use serde_json::{Value, json};

use crate::console::broken;
use crate::model::decided;
use crate::text::read_ids;

/// Texts that are gone on with together.
const TOGETHER: usize = 256;
/// Longest text of a file or of standard input.
const MAX_BYTES: u64 = 64 << 20;

#[derive(Debug, clap::Args)]
#[command(allow_negative_numbers = true)]
pub(crate) struct GenerateArgs {
    /// Texts to go on with; without them, --input or standard input is one.
    text: Vec<String>,
    /// File with one text; `-` is standard input.
    #[arg(long, short, conflicts_with = "text")]
    input: Option<PathBuf>,
    /// File of JSON lines, each a text or an object with `prompt`; `-` is standard input. Prints JSON lines.
    #[arg(long, conflicts_with_all = ["text", "input"])]
    json_lines: Option<PathBuf>,
    /// File of JSON lines, an array of token ids each; prints arrays of the new ids.
    #[arg(long, conflicts_with_all = ["text", "input", "json_lines", "json", "log_probs", "stop"])]
    input_ids: Option<PathBuf>,
    /// Model folder of a decoder alone.
    #[arg(long, short)]
    model: PathBuf,
    #[command(flatten)]
    choice: ChoiceFlags,
    /// End before this text; may be given several times.
    #[arg(long)]
    stop: Vec<String>,
    /// Print a JSON object for each output.
    #[arg(long)]
    json: bool,
    /// With JSON: each token's text and log-probability.
    #[arg(long)]
    log_probs: bool,
    /// Arithmetic: default (what the folder is stored in), float32, bf16, int8 or auto.
    #[arg(long, default_value = "default")]
    compute_type: ComputeType,
}

/// How tokens are chosen. What is not given is as the model's folder says.
#[derive(Debug, clap::Args)]
struct ChoiceFlags {
    /// Most tokens of an output; as many as the model has room for where neither this nor the model says.
    #[arg(long)]
    max_new_tokens: Option<usize>,
    /// Draw by chance at this temperature; 0 takes the likeliest token.
    #[arg(long)]
    temperature: Option<f32>,
    /// Draw among this many tokens; 0 is all.
    #[arg(long)]
    top_k: Option<usize>,
    /// Draw among the likeliest tokens of this total probability.
    #[arg(long)]
    top_p: Option<f32>,
    /// Draw among tokens with this share of the likeliest one's probability; 0 is all.
    #[arg(long)]
    min_p: Option<f32>,
    /// Keys the draws.
    #[arg(long)]
    seed: Option<u64>,
    /// Outputs of each text.
    #[arg(long, default_value_t = 1)]
    n: usize,
    /// Width of the beam; 1 is greedy.
    #[arg(long)]
    beam_size: Option<usize>,
    /// Divides the score of tokens that are there already, those of the text among them.
    #[arg(long)]
    repetition_penalty: Option<f32>,
    /// Taken from the score of tokens that the output has already.
    #[arg(long)]
    presence_penalty: Option<f32>,
    /// Taken from the score of a token as often as the output has it already.
    #[arg(long)]
    frequency_penalty: Option<f32>,
    /// No n-gram of this size twice; 0 allows all.
    #[arg(long)]
    no_repeat_ngram_size: Option<usize>,
}

impl ChoiceFlags {
    /// `search` with what the flags say.
    fn change(&self, mut search: SearchOptions, vocab_size: usize) -> Result<SearchOptions> {
        if self.max_new_tokens == Some(0) {
            return Err(Error::settings("a flag is out of range")
                .at("--max-new-tokens")
                .expected("at least 1")
                .found("0")
                .hint("leave it out for the default"));
        }
        let others = self.top_k.is_some()
            || self.top_p.is_some()
            || self.min_p.is_some()
            || self.seed.is_some();
        match self.temperature {
            Some(0.0) => search.sampling = None,
            None if !others => (),
            temperature => {
                let s = search.sampling.unwrap_or_default();
                search.sampling = Some(Sampling {
                    temperature: temperature.unwrap_or(s.temperature),
                    top_k: self.top_k.unwrap_or(s.top_k),
                    top_p: self.top_p.unwrap_or(s.top_p),
                    min_p: self.min_p.unwrap_or(s.min_p),
                    seed: self.seed.unwrap_or(s.seed),
                });
            }
        }
        if search.sampling.is_some() {
            search.beam_size = self.beam_size.unwrap_or(1);
        } else if let Some(beam_size) = self.beam_size {
            search.beam_size = beam_size;
        } else {
            search.beam_size = search.beam_size.max(self.n);
        }
        search.n_best = self.n;
        let set = |to: &mut f32, flag: Option<f32>| *to = flag.unwrap_or(*to);
        set(&mut search.repetition_penalty, self.repetition_penalty);
        set(&mut search.presence_penalty, self.presence_penalty);
        set(&mut search.frequency_penalty, self.frequency_penalty);
        search.no_repeat_ngram_size = self
            .no_repeat_ngram_size
            .unwrap_or(search.no_repeat_ngram_size);
        search.validate(vocab_size)?;
        Ok(search)
    }
}

pub(crate) fn run(args: GenerateArgs) -> Result<()> {
    if let Some(path) = &args.input_ids {
        return of_ids(&args, path);
    }
    if let Some(stop) = args.stop.iter().find(|stop| stop.is_empty()) {
        return Err(Error::settings("a flag is out of range")
            .at("--stop")
            .expected("a text")
            .found(format!("`{stop}`"))
            .hint("leave it out for no stop string"));
    }
    let model = LanguageModel::open(args.model.as_path(), decided(args.compute_type))?;
    let defaults = model.options();
    let vocab_size = model.generator().config().vocab_size;
    let options = GenerateOptions {
        search: args.choice.change(defaults.search, vocab_size)?,
        max_new_tokens: args.choice.max_new_tokens.or(defaults.max_new_tokens),
        stop: args.stop.clone(),
        first_text: 0,
    };
    let mut out = std::io::BufWriter::new(std::io::stdout());
    if let Some(path) = &args.json_lines {
        let prompts = read_prompts(path)?;
        return all(&args, &model, &options, &prompts, &mut out).map_err(|e| located(e, path));
    }
    let texts = match args.text.is_empty() {
        false => args.text.clone(),
        true => vec![read_text(args.input.as_deref().unwrap_or(Path::new("-")))?],
    };
    let of_text = |e: Error| e.item_as(|item| format!("text {}", item + 1));
    if args.json || args.log_probs {
        return all(&args, &model, &options, &texts, &mut out).map_err(of_text);
    }
    for (number, text) in texts.iter().enumerate() {
        let options = GenerateOptions {
            first_text: number as u64,
            ..options.clone()
        };
        let streamed = stream(&model, text, &options, &mut out);
        streamed.map_err(|e| match e.item() {
            Some(_) => of_text(e.in_item(number)),
            None => e,
        })?;
    }
    Ok(())
}

/// Prints what becomes of one text as it comes, and a line break after it.
fn stream(
    model: &LanguageModel,
    text: &str,
    options: &GenerateOptions,
    out: &mut (dyn Write + Send),
) -> Result<()> {
    if options.search.n_best > 1 {
        let found = model.generate(&[text], options)?;
        for output in found.iter().flatten() {
            writeln!(out, "{}", output.text).map_err(broken)?;
        }
        return out.flush().map_err(broken);
    }
    model.stream(text, options, |_, text| {
        write!(out, "{text}").map_err(broken)?;
        out.flush().map_err(broken)
    })?;
    writeln!(out).map_err(broken)?;
    out.flush().map_err(broken)
}

/// A JSON line for each output of each text.
fn all(
    args: &GenerateArgs,
    model: &LanguageModel,
    options: &GenerateOptions,
    texts: &[String],
    out: &mut dyn Write,
) -> Result<()> {
    for (i, texts) in texts.chunks(TOGETHER).enumerate() {
        let options = GenerateOptions {
            first_text: (i * TOGETHER) as u64,
            ..options.clone()
        };
        let found = model.generate(texts, &options);
        let found = found.map_err(|e| match e.item() {
            Some(item) => e.in_item(i * TOGETHER + item),
            None => e,
        })?;
        for (number, outputs) in found.iter().enumerate() {
            for output in outputs {
                let number = i * TOGETHER + number;
                writeln!(out, "{}", described(args, model, number, output)).map_err(broken)?;
            }
        }
        out.flush().map_err(broken)?;
    }
    Ok(())
}

fn described(
    args: &GenerateArgs,
    model: &LanguageModel,
    number: usize,
    output: &Continuation,
) -> Value {
    let finish = match output.finish {
        Finish::End => "end",
        Finish::Stop => "stop",
        Finish::Length => "length",
    };
    let mut value = json!({
        "index": number,
        "text": output.text,
        "finish": finish,
        "new_tokens": output.ids.len(),
        "log_prob": output.log_prob,
    });
    if args.log_probs {
        let tokens = output.ids.iter().zip(&output.token_log_probs);
        let tokens = tokens.map(|(id, log_prob)| {
            let token = model.tokenizer().id_to_token(*id);
            json!({"id": id, "token": token, "log_prob": log_prob})
        });
        value["tokens"] = tokens.collect();
    }
    value
}

fn located(e: Error, path: &Path) -> Error {
    e.item_as(|item| format!("line {}", item + 1))
        .within(path.display())
}

/// One text, as it is.
pub(crate) fn read_text(path: &Path) -> Result<String> {
    let failed = |e: std::io::Error| Error::io("cannot read the text", path, &e);
    let mut bytes = Vec::new();
    let read = match path == Path::new("-") {
        true => std::io::stdin()
            .lock()
            .take(MAX_BYTES + 1)
            .read_to_end(&mut bytes),
        false => std::fs::File::open(path)
            .map_err(failed)?
            .take(MAX_BYTES + 1)
            .read_to_end(&mut bytes),
    };
    read.map_err(failed)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(Error::input("the text is too long")
            .at(path.display().to_string())
            .expected(format!("at most {MAX_BYTES} bytes"))
            .found("more")
            .hint("no model takes so long a text"));
    }
    String::from_utf8(bytes).map_err(|e| {
        Error::input("the text cannot be read")
            .at(path.display().to_string())
            .expected("UTF-8")
            .found(e.to_string())
            .hint("convert the file, for instance with iconv")
    })
}

/// The texts of JSON lines.
fn read_prompts(path: &Path) -> Result<Vec<String>> {
    let read = |(number, line): (usize, &String)| {
        let wrong = |found: String| {
            Error::input("cannot read a prompt")
                .at(format!("{}, line {}", path.display(), number + 1))
                .expected("a JSON text, or an object with `prompt` and nothing else")
                .found(found)
                .hint("every line is one prompt, and none is left empty")
        };
        match serde_json::from_str(line).map_err(|e| wrong(e.to_string()))? {
            Value::String(text) => Ok(text),
            Value::Object(mut map) => match (map.remove("prompt"), map.keys().next()) {
                (Some(Value::String(text)), None) => Ok(text),
                (_, Some(key)) => Err(wrong(format!("`{key}`"))),
                (_, None) => Err(wrong("no `prompt`".into())),
            },
            other => Err(wrong(other.to_string().chars().take(60).collect())),
        }
    };
    read_lines(path)?.iter().enumerate().map(read).collect()
}

/// Needs no tokenizer.
fn of_ids(args: &GenerateArgs, path: &Path) -> Result<()> {
    let opened = formats::open(args.model.as_path())?;
    let config = opened.decoder()?;
    let defaults = SearchOptions::for_decoder(config, &opened.generation);
    let search = args.choice.change(defaults, config.vocab_size)?;
    let most = args.choice.max_new_tokens;
    let most = most.or(opened.generation.max_new_tokens);
    let packed = opened.pack(decided(args.compute_type))?;
    let generator = Generator::new(opened.model().clone(), packed);
    let mut prompts = Vec::new();
    for (number, ids) in read_ids(path)?.into_iter().enumerate() {
        let room = generator.max_tokens().saturating_sub(ids.len());
        prompts.push(Prompt {
            max_new_tokens: most.unwrap_or(room),
            ids,
            seed_index: number as u64,
        });
    }
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let found = generator.generate(&prompts, &search);
    for hypothesis in found.map_err(|e| located(e, path))?.iter().flatten() {
        writeln!(out, "{}", json!(hypothesis.ids)).map_err(broken)?;
    }
    out.flush().map_err(broken)
}
