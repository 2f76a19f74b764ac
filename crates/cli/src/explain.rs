//! `hexapla explain`

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use hexapla::encode::SentenceEncoder;
use hexapla::error::{Error, Result};
use hexapla::explain::{
    ArrayNames, Contrast, DOCUMENT_BYTES, ExplainOptions, Explained, Language, document,
    explain_continuation, explain_encoding, explain_translation, page, write_arrays,
};
use hexapla::files::{Folder, write_atomically};
use hexapla::formats;
use hexapla::generate::language_model::LanguageModel;
use hexapla::packed::PackedWeights;
use hexapla_server::{Inspector, serve};

use crate::console::{print, say, shown};
use crate::language::LanguageFlags;
use crate::model::decided;
use crate::translate::SearchFlags;

/// What a live page is about where no text is given.
const EXAMPLE: &str = "我昨天在图书馆看见了你的哥哥。";
/// Where the page goes where nothing else is said.
const PAGE: &str = "explain.html";

#[derive(Debug, clap::Args)]
#[command(allow_negative_numbers = true)]
pub(crate) struct ExplainArgs {
    /// The text.
    #[arg(required_unless_present = "serve")]
    text: Option<String>,
    /// Show the page live at an address of this machine: its reader changes the text or the model, and it is made anew.
    #[arg(long, conflicts_with_all = ["output", "arrays", "json", "contrast", "sentence", "no_split"])]
    serve: bool,
    /// Where the live page listens: an address of this machine; port 0 is any that is free.
    #[arg(long, requires = "serve", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Model folder; the embedded model where absent.
    #[arg(long, short)]
    model: Option<PathBuf>,
    #[command(flatten)]
    language: LanguageFlags,
    /// Which sentence of the text, from 1.
    #[arg(long, default_value_t = 1)]
    sentence: usize,
    /// Take the text as one sentence, however many it has.
    #[arg(long)]
    no_split: bool,
    /// Write the page here; explain.html where nothing is asked for.
    #[arg(long, short)]
    output: Option<PathBuf>,
    /// Write all arrays here, in f32, as safetensors.
    #[arg(long)]
    arrays: Option<PathBuf>,
    /// What the arrays are called: hexapla (docs/explain.md) or transformerlens (its hooks' names and shapes).
    #[arg(long, default_value = "hexapla", requires = "arrays")]
    names: ArrayNames,
    /// Write what the page shows here, as JSON (docs/explain.md).
    #[arg(long)]
    json: Option<PathBuf>,
    /// Print why the model did not say this word: how the odds change as each source token is hidden.
    #[arg(long)]
    contrast: Option<String>,
    /// Language in which the page opens: zh or en; the browser's where absent.
    #[arg(long)]
    ui: Option<Language>,
    #[command(flatten)]
    search: SearchFlags,
}

pub(crate) fn run(args: ExplainArgs) -> Result<()> {
    let text = args.text.as_deref().unwrap_or(EXAMPLE);
    let text = text.trim_end_matches(['\r', '\n']);
    let name = name_of(args.model.as_deref());
    if let Some(path) = args.model.as_deref() {
        let (folder, _) = SentenceEncoder::source_folder(&Folder::from(path))?;
        let opened = formats::open(folder.clone())?;
        if opened.encoder().is_ok() {
            check_line(text)?;
            return encoding(&args, &folder, &name, text);
        }
        if opened.decoder().is_ok() {
            return continuation(&args, path, &name, args.text.as_deref().unwrap_or(EXAMPLE));
        }
    }
    check_line(text)?;
    let model = crate::model::open(args.model.as_deref(), args.search.compute_type)?;
    let mut translate = args.search.options(&model)?;
    translate.split_sentences = !args.no_split;
    translate.direction = Some(args.language.direction(&model)?);
    if args.serve {
        let inspector = Inspector {
            model,
            name,
            translate,
            language: args.ui,
            text: text.to_string(),
        };
        inspector.check()?;
        return serve(inspector, args.listen, |address| {
            print(&[address.to_string()])?;
            say("open it in a browser of this machine; Ctrl-C ends it");
            Ok(())
        });
    }
    let options = ExplainOptions {
        sentence: args.sentence.checked_sub(1).ok_or_else(no_sentence_0)?,
        ..args.options()
    };
    let explained = explain_translation(&model, &name, text, &translate, &options)?;
    let described = &explained.explanation.text;
    if described.sentences.len() > 1 {
        say(format_args!(
            "note: the text has {} sentences; this is about number {}; --sentence names another",
            described.sentences.len(),
            described.sentence + 1
        ));
    }
    print(std::slice::from_ref(&described.output))?;
    write(&args, model.engine().parameters(), &explained)
}

/// Refuses line breaks.
fn check_line(text: &str) -> Result<()> {
    if !text.contains(['\r', '\n']) {
        return Ok(());
    }
    Err(Error::input("a text to explain is one line")
        .at("the text")
        .expected("no line break")
        .found(format!("{} lines", text.lines().count()))
        .hint("explain one line at a time"))
}

/// Explains a text by an encoder alone, which neither searches nor knows sentences or languages.
fn encoding(args: &ExplainArgs, folder: &Folder, name: &str, text: &str) -> Result<()> {
    let contrast = ("--contrast", args.contrast.is_some());
    args.refuse_flags("an encoder alone", name, &[contrast])?;
    let (explained, parameters) =
        explain_encoding(folder, decided(args.search.compute_type), name, text)?;
    write(args, &parameters, &explained)
}

/// Explains how a decoder alone goes on with a text.
fn continuation(args: &ExplainArgs, path: &Path, name: &str, text: &str) -> Result<()> {
    let whole = ("--no-split", args.no_split);
    args.refuse_flags("a decoder alone", name, &[whole])?;
    let model = LanguageModel::open(path, decided(args.search.compute_type))?;
    let vocab_size = model.generator().config().vocab_size;
    let generate = args.search.continuation(model.options(), vocab_size)?;
    let explained = explain_continuation(&model, name, text, &generate, &args.options())?;
    print(std::slice::from_ref(&explained.explanation.text.output))?;
    write(args, model.generator().parameters(), &explained)
}

impl ExplainArgs {
    fn options(&self) -> ExplainOptions {
        ExplainOptions {
            contrast: self.contrast.clone(),
            influence: self.json.is_some() || self.asks_for_a_page(),
            ..ExplainOptions::default()
        }
    }

    /// Refuses what is for translators, and `others`.
    fn refuse_flags(&self, kind: &str, name: &str, others: &[(&str, bool)]) -> Result<()> {
        let translators = [
            ("--serve", self.serve),
            ("--sentence", self.sentence != 1),
            ("--from or --to", self.language.is_given()),
        ];
        let mut flags = translators.iter().chain(others);
        match flags.find(|(_, given)| *given) {
            None => Ok(()),
            Some((flag, _)) => Err(Error::settings("this model does not translate")
                .at(*flag)
                .expected(format!("no such flag for {kind}"))
                .found(format!("the model `{name}`"))
                .hint("leave the flag out")),
        }
    }

    fn asks_for_a_page(&self) -> bool {
        self.output.is_some()
            || (self.arrays.is_none() && self.json.is_none() && self.contrast.is_none())
    }
}

/// What was asked for: files, and a contrast as lines.
fn write(args: &ExplainArgs, parameters: &PackedWeights, explained: &Explained) -> Result<()> {
    write_files(args, parameters, explained)?;
    match &explained.explanation.contrast {
        Some(contrast) => print_contrast(explained, contrast),
        None => Ok(()),
    }
}

fn write_files(
    args: &ExplainArgs,
    parameters: &PackedWeights,
    explained: &Explained,
) -> Result<()> {
    if let Some(path) = &args.arrays {
        let text = &explained.explanation.text;
        let metadata = BTreeMap::from([
            ("format".to_string(), "hexapla-trace".to_string()),
            (
                "model".to_string(),
                explained.explanation.model.name.clone(),
            ),
            ("source".to_string(), text.source.clone()),
            ("output".to_string(), text.output.clone()),
        ]);
        write_arrays(path, &explained.trace.arrays, args.names, &metadata)?;
    }
    let page_path = args.asks_for_a_page().then(|| {
        let default = || PathBuf::from(PAGE);
        args.output.clone().unwrap_or_else(default)
    });
    if page_path.is_none() && args.json.is_none() {
        return Ok(());
    }
    let document = document(explained, parameters, DOCUMENT_BYTES)?;
    if let Some(path) = &args.json {
        write_atomically(path, |writer| writer.write_all(document.as_bytes()))?;
    }
    if let Some(path) = &page_path {
        let page = page(&document, args.ui);
        write_atomically(path, |writer| writer.write_all(page.as_bytes()))?;
        say(format_args!(
            "{} ({:.1} MB): open it in a browser",
            path.display(),
            page.len() as f64 / 1e6
        ));
    }
    Ok(())
}

/// A line for each source token, those that matter most first.
fn print_contrast(explained: &Explained, contrast: &Contrast) -> Result<()> {
    let e = &explained.explanation;
    let piece = |side: &BTreeMap<u32, String>, id: u32| shown(side.get(&id).map_or("", |p| p));
    let chosen = e.output.get(contrast.row).map_or(0, |token| token.id);
    let mut lines = vec![
        format!(
            "ln p({}) - ln p({}) at output token {}: {:.3}",
            piece(&e.pieces.target, contrast.instead),
            piece(&e.pieces.target, chosen),
            contrast.row + 1 - e.prompt.saturating_sub(1),
            contrast.difference
        ),
        "hidden\tchange".to_string(),
    ];
    let (hidden, pieces) = match e.source.is_empty() {
        true => (&e.target[..contrast.row], &e.pieces.target),
        false => (&e.source[..], &e.pieces.source),
    };
    let mut rows: Vec<(&u32, &f32)> = hidden.iter().zip(&contrast.change).collect();
    rows.sort_by(|a, b| b.1.abs().total_cmp(&a.1.abs()));
    let line = |(id, change): (&u32, &f32)| format!("{}\t{change:+.3}", piece(pieces, *id));
    lines.extend(rows.into_iter().map(line));
    print(&lines)
}

/// What people call the model in the folder at `path`.
fn name_of(path: Option<&Path>) -> String {
    let Some(path) = path else {
        return "hexapla (embedded)".into();
    };
    let whole = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    let name = whole.file_name().unwrap_or(whole.as_os_str());
    name.to_string_lossy().into_owned()
}

fn no_sentence_0() -> Error {
    Error::settings("a flag is out of range")
        .at("--sentence")
        .expected("at least 1")
        .found("0")
        .hint("the sentences are counted from 1")
}
