//! `hexapla generate`

use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use hexapla::config::ComputeType;
use hexapla::error::{Error, Result};
use hexapla::formats;
use hexapla::generate::SearchOptions;
use hexapla::generate::generator::{Generator, Prompt};
use hexapla::generate::language_model::{Continuation, Finish, GenerateOptions, LanguageModel};
use hexapla::text::chat::{Message, Values};
use hexapla::text::corpus::read_lines;
use serde_json::{Value, json};

use crate::choice::ChoiceFlags;
use crate::console::{broken, say};
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
    /// File of JSON lines, each a text, or an object with `prompt` or with the `messages` of a conversation; `-` is standard input.
    /// Prints JSON lines.
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
    /// Go on beyond the longest text that the model takes: whenever it is full, the older half is let go.
    #[arg(long)]
    slide: bool,
    /// Print a JSON object for each output.
    #[arg(long)]
    json: bool,
    /// With JSON: each token's text and log-probability.
    #[arg(long)]
    log_probs: bool,
    /// Arithmetic: default (what the folder is stored in), float32, bf16, int8, int4 or auto.
    #[arg(long, default_value = "default")]
    compute_type: ComputeType,
}

pub(crate) fn run(args: GenerateArgs) -> Result<()> {
    if let Some(path) = &args.input_ids {
        return of_ids(&args, path);
    }
    let model = LanguageModel::open(args.model.as_path(), decided(args.compute_type))?;
    let mut options = args.choice.options(&model, &args.stop)?;
    options.slide = args.slide;
    if args.slide {
        say_slides(model.generator());
    }
    let mut out = std::io::BufWriter::new(std::io::stdout());
    if let Some(path) = &args.json_lines {
        let asked = read_asked(path)?;
        return all(&args, &model, &options, &asked, &mut out).map_err(|e| located(e, path));
    }
    let texts = match args.text.is_empty() {
        false => args.text.clone(),
        true => vec![read_text(args.input.as_deref().unwrap_or(Path::new("-")))?],
    };
    let of_text = |e: Error| e.item_as(|item| format!("text {}", item + 1));
    if args.json || args.log_probs {
        let asked: Vec<Asked> = texts.into_iter().map(Asked::Text).collect();
        return all(&args, &model, &options, &asked, &mut out).map_err(of_text);
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
    let prompts = model.prompts(&[text], options)?;
    if options.search.n_best > 1 {
        let found = model.generate(&prompts, options)?;
        for output in found.iter().flatten() {
            writeln!(out, "{}", output.text).map_err(broken)?;
        }
        return out.flush().map_err(broken);
    }
    for prompt in &prompts {
        model.stream(prompt, options, |_, text| {
            write!(out, "{text}").map_err(broken)?;
            out.flush().map_err(broken)?;
            Ok(true)
        })?;
    }
    writeln!(out).map_err(broken)?;
    out.flush().map_err(broken)
}

/// A JSON line for each output of each text.
fn all(
    args: &GenerateArgs,
    model: &LanguageModel,
    options: &GenerateOptions,
    asked: &[Asked],
    out: &mut dyn Write,
) -> Result<()> {
    let template = match asked
        .iter()
        .any(|asked| matches!(asked, Asked::Messages(_)))
    {
        true => Some(model.chat_template()?),
        false => None,
    };
    for (i, asked) in asked.chunks(TOGETHER).enumerate() {
        let prompt = |(number, asked): (usize, &Asked)| {
            let number_of_all = (i * TOGETHER + number) as u64;
            let prompt = match (asked, &template) {
                (Asked::Messages(messages), Some(template)) => {
                    let said = (messages.as_slice(), &Values::new());
                    model.conversation(template, said, number_of_all, options)
                }
                (Asked::Text(text), _) => model.text_prompt(text, number_of_all, options),
                (Asked::Messages(_), None) => Err(Error::internal("no template was read")),
            };
            prompt.map_err(|e| e.in_item(number))
        };
        let prompts: Result<Vec<Prompt>> = asked.iter().enumerate().map(prompt).collect();
        let found = prompts.and_then(|prompts| model.generate(&prompts, options));
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

/// What is to be gone on with.
enum Asked {
    Text(String),
    Messages(Vec<Message>),
}

/// What JSON lines ask.
fn read_asked(path: &Path) -> Result<Vec<Asked>> {
    let read = |(number, line): (usize, &String)| {
        let wrong = |found: String| {
            Error::input("cannot read a prompt")
                .at(format!("{}, line {}", path.display(), number + 1))
                .expected("a JSON text, or an object with `prompt` or `messages` and nothing else")
                .found(found)
                .hint("every line is one prompt, and none is left empty")
        };
        let mut map = match serde_json::from_str(line).map_err(|e| wrong(e.to_string()))? {
            Value::String(text) => return Ok(Asked::Text(text)),
            Value::Object(map) => map,
            other => return Err(wrong(other.to_string().chars().take(60).collect())),
        };
        match (map.remove("prompt"), map.remove("messages")) {
            (_, _) if !map.is_empty() => {
                let keys: Vec<String> = map.keys().map(|key| format!("`{key}`")).collect();
                Err(wrong(keys.join(", ")))
            }
            (Some(Value::String(text)), None) => Ok(Asked::Text(text)),
            (None, Some(messages)) => serde_json::from_value(messages)
                .map(Asked::Messages)
                .map_err(|e| wrong(e.to_string())),
            (Some(_), Some(_)) => Err(wrong("both".into())),
            (_, None) => Err(wrong(
                "no `prompt` that is a text, and no `messages`".into(),
            )),
        }
    };
    read_lines(path)?.iter().enumerate().map(read).collect()
}

fn say_slides(generator: &Generator) {
    say(format_args!(
        "note: the model sees {} tokens at most; of a longer text the older ones are let go",
        generator.max_tokens()
    ));
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
        let room = generator.room(ids.len(), args.slide);
        prompts.push(Prompt {
            max_new_tokens: most.unwrap_or(room),
            ids,
            seed_index: number as u64,
        });
    }
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let found = match args.slide {
        true => {
            say_slides(&generator);
            generator.generate_sliding(&prompts, &search)
        }
        false => generator.generate(&prompts, &search),
    };
    for hypothesis in found.map_err(|e| located(e, path))?.iter().flatten() {
        writeln!(out, "{}", json!(hypothesis.ids)).map_err(broken)?;
    }
    out.flush().map_err(broken)
}
