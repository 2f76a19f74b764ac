//! `hexapla inspect`: what a model folder is, and what of it is refused.

use std::io::Write;
use std::path::{Path, PathBuf};

use hexapla::config::{Assembly, DecoderConfig, EncoderConfig, EncoderHead, TransformerConfig};
use hexapla::encode::SentenceEncoder;
use hexapla::error::{Error, Result};
use hexapla::files::{Folder, MarianFiles};
use hexapla::formats::safetensors::TensorStore;
use hexapla::formats::{self, ModelFolder, Storage};
use hexapla::text::direction::Direction;
use hexapla::text::tokenizer::{DecoderTokenizer, EncoderTokenizer, Tokenizers};

use crate::console::broken;
use crate::model::folder;

#[derive(Debug, clap::Args)]
pub(crate) struct InspectArgs {
    /// Model folder, or a file of weights; the embedded model where absent.
    model: Option<PathBuf>,
    /// List the tensors: of a folder by the names that they have here, of a file by its own.
    #[arg(long)]
    tensors: bool,
}

/// Prints all that can be told. Whatever is refused is told behind it, all at once, and is an error.
pub(crate) fn inspect(args: InspectArgs) -> Result<()> {
    if let Some(file) = args.model.as_deref().filter(|path| path.is_file()) {
        return list_file(file);
    }
    let folder = folder(args.model.as_deref());
    if !folder.exists() {
        return formats::open(folder).map(|_| ());
    }
    let mut refused = Vec::new();
    let mut keep = |result: Result<Vec<(&'static str, String)>>| match result {
        Ok(lines) => print(&lines),
        Err(e) => {
            refused.push(e);
            Ok(())
        }
    };
    let source = SentenceEncoder::source_folder(&folder);
    let (inner, is_table) = match source {
        Ok(source) => source,
        Err(e) => {
            keep(Err(e))?;
            (folder.clone(), false)
        }
    };
    // The files inside the program are as they were built.
    let mut is_whole = args.model.is_some();
    let mut opened = None;
    if is_table {
        keep(SentenceEncoder::describe_table(&inner))?;
    } else {
        let model = formats::open(inner.clone());
        let verified = model.as_ref().map_or(Ok(()), ModelFolder::verify);
        keep(model.map(|model| of_model(opened.insert(model))))?;
        is_whole &= verified.is_ok();
        keep(verified.map(|()| Vec::new()))?;
    }
    let assembly = opened.as_ref().map(|opened| &opened.assembly);
    let analyses = is_table || matches!(assembly, Some(Assembly::Encoder(_)));
    keep(of_tokenizer(&inner, analyses, assembly))?;
    if analyses {
        keep(SentenceEncoder::describe(&folder))?;
    }
    if let Some(opened) = &opened {
        print(&of_manifest(opened, is_whole))?;
        if args.tensors {
            let shapes = opened.model().index().iter();
            let lines = shapes.map(|p| (p.name.clone(), format!("{:?}", p.shape)));
            print(&lines.collect::<Vec<_>>())?;
        }
    }
    all_at_once(refused)
}

/// Tells all of `refused`; the last is the command's error.
fn all_at_once(mut refused: Vec<Error>) -> Result<()> {
    let Some(last) = refused.pop() else {
        return Ok(());
    };
    for error in refused {
        crate::console::say(format_args!("error: {error}"));
    }
    Err(last)
}

fn print<N: AsRef<str>>(lines: &[(N, String)]) -> Result<()> {
    let mut out = std::io::stdout().lock();
    for (name, value) in lines {
        writeln!(out, "{:24} {value}", name.as_ref()).map_err(broken)?;
    }
    Ok(())
}

/// The tensors of a file of weights.
fn list_file(path: &Path) -> Result<()> {
    let store = TensorStore::open_file(path)?;
    let shape = |name: &str| format!("{:?}", store.shape(name).unwrap_or_default());
    let lines = store.names().map(|name| (name.to_string(), shape(name)));
    print(&lines.collect::<Vec<_>>())
}

fn of_model(opened: &ModelFolder) -> Vec<(&'static str, String)> {
    let index = opened.model().index();
    let weights = match opened.storage {
        Storage::Float => "floats",
        Storage::Int8 => "int8, used where they lie",
        Storage::Int4 => "int4, used where they lie",
    };
    let mut lines = vec![
        ("model_type", opened.family.to_string()),
        (
            "parameters",
            format!("{} in {} tensors", index.len(), index.iter().len()),
        ),
        ("weights", weights.into()),
    ];
    lines.extend(match &opened.assembly {
        Assembly::EncoderDecoder(c) => of_encoder_decoder(c),
        Assembly::Encoder(c) => of_encoder(c),
        Assembly::Decoder(c) => of_decoder(c),
    });
    lines
}

/// The tokenizer, and the languages that it has tokens for.
fn of_tokenizer(
    folder: &Folder,
    analyses: bool,
    assembly: Option<&Assembly>,
) -> Result<Vec<(&'static str, String)>> {
    let there = TOKENIZERS.iter().filter(|name| folder.contains(name));
    let marian = MarianFiles::find(folder)?;
    let marian = marian.iter().map(|files| files.settings.as_str());
    let there: Vec<&str> = there.copied().chain(marian).collect();
    if there.is_empty() {
        return Ok(vec![("tokenizer", "none".into())]);
    }
    if analyses {
        EncoderTokenizer::open_folder(folder)?;
        return Ok(vec![("tokenizer", there.join(", "))]);
    }
    if let Some(Assembly::Decoder(_)) = assembly {
        let tokens = DecoderTokenizer::open_folder(folder)?.vocab_size();
        let line = format!("{} ({tokens} tokens)", there.join(", "));
        return Ok(vec![("tokenizer", line)]);
    }
    let tokenizers = Tokenizers::open_folder(folder.clone())?;
    let sizes = match tokenizers.is_joint() {
        true => tokenizers.source.vocab_size().to_string(),
        false => format!(
            "{} and {}",
            tokenizers.source.vocab_size(),
            tokenizers.target.vocab_size()
        ),
    };
    let mut lines = vec![(
        "tokenizer",
        format!("{} ({sizes} tokens)", there.join(", ")),
    )];
    let languages = Direction::languages(&tokenizers.source);
    if !languages.is_empty() {
        lines.push(("languages", languages.join(", ")));
    }
    Ok(lines)
}

fn of_manifest(opened: &ModelFolder, is_whole: bool) -> Vec<(String, String)> {
    let Some(manifest) = &opened.manifest else {
        return Vec::new();
    };
    let fields = &manifest.fields;
    let mut lines = vec![("created by".to_string(), manifest.created_by.clone())];
    let metrics = fields.metrics.iter();
    lines.extend(metrics.map(|m| (m.name.clone(), format!("{:.2} ({})", m.value, m.signature))));
    if !fields.directions.is_empty() {
        let pairs: Vec<String> = fields.directions.iter().map(ToString::to_string).collect();
        lines.push(("directions".into(), pairs.join(", ")));
    }
    lines.extend(
        fields
            .notes
            .iter()
            .map(|(name, note)| (name.clone(), note.clone())),
    );
    if is_whole {
        let count = format!("{} files, all as written", manifest.files.len());
        lines.push(("checksums".into(), count));
    }
    lines
}

/// Files that tokenizers are read from.
const TOKENIZERS: [&str; 11] = [
    "mapping.toml",
    "tokenizer.json",
    "tokenizer.model",
    "source_tokenizer.json",
    "target_tokenizer.json",
    "source.spm",
    "target.spm",
    "sentencepiece.bpe.model",
    "spiece.model",
    "vocab.json",
    "vocab.txt",
];

fn of_decoder(c: &DecoderConfig) -> Vec<(&'static str, String)> {
    let heads = match c.kv_heads == c.heads {
        true => c.heads.to_string(),
        false => format!("{}, and {} of keys and values", c.heads, c.kv_heads),
    };
    let positions = match &c.rotary {
        Some(rotary) => format!("rotary, base {}", rotary.base),
        None => "learned".into(),
    };
    let mut lines = vec![
        ("assembly", "decoder: goes on with texts".into()),
        ("layers", c.layers.to_string()),
        ("d_model", c.d_model.to_string()),
        ("heads", format!("{heads}, of {} columns", c.head_width)),
        ("feed_forward", c.feed_forward.to_string()),
        ("vocabulary", c.vocab_size.to_string()),
        (
            "positions",
            format!("{positions}, at most {}", c.max_position_embeddings),
        ),
    ];
    lines.extend(c.window.map(|window| {
        let layers = c.layers_with_window.len();
        ("window", format!("{window} tokens in {layers} layers"))
    }));
    lines
}

fn of_encoder_decoder(c: &TransformerConfig) -> Vec<(&'static str, String)> {
    let both = |encoder: usize, decoder: usize| format!("{encoder} encoder, {decoder} decoder");
    vec![
        ("assembly", "encoder and decoder: translates".into()),
        ("layers", both(c.encoder_layers, c.decoder_layers)),
        ("d_model", c.d_model.to_string()),
        ("heads", both(c.encoder_heads, c.decoder_heads)),
        (
            "feed_forward",
            both(c.encoder_feed_forward, c.decoder_feed_forward),
        ),
        (
            "vocabulary",
            format!(
                "{} source, {} target",
                c.source_vocab_size, c.target_vocab_size
            ),
        ),
        ("norm", format!("{:?}, final {}", c.norm, c.final_norm)),
        ("activation", format!("{:?}", c.activation)),
        (
            "positions",
            format!("{:?}, at most {}", c.positions, c.max_position_embeddings),
        ),
        (
            "tied",
            format!(
                "source and target {}, output {}",
                c.share_embeddings, c.tie_output
            ),
        ),
    ]
}

fn of_encoder(c: &EncoderConfig) -> Vec<(&'static str, String)> {
    let head = match &c.head {
        EncoderHead::Hidden { .. } => "none: vectors (embed)".to_string(),
        EncoderHead::Tokens { .. } => "masked words (fill)".into(),
        EncoderHead::Classes { labels, scores, .. } => {
            format!(
                "{scores:?} of {} classes of texts (classify, rerank): {}",
                labels.len(),
                few(labels)
            )
        }
        EncoderHead::TokenClasses { labels, .. } => {
            format!("{} classes of tokens (tag): {}", labels.len(), few(labels))
        }
    };
    let mut settings = vec![
        ("assembly", "encoder alone: analyses".into()),
        ("head", head),
        ("layers", c.layers.to_string()),
        ("d_model", c.d_model.to_string()),
        ("heads", c.heads.to_string()),
        ("feed_forward", c.feed_forward.to_string()),
        ("vocabulary", c.vocab_size.to_string()),
        ("segments", c.segments.to_string()),
        ("activation", format!("{:?}", c.activation)),
        (
            "positions",
            format!("at most {}", c.max_position_embeddings),
        ),
    ];
    if let Some(relative) = c.relative_positions {
        settings.push((
            "relative positions",
            format!("{} buckets", relative.buckets),
        ));
    }
    settings
}

/// The first of many names.
fn few(names: &[String]) -> String {
    let shown: Vec<&str> = names.iter().take(8).map(String::as_str).collect();
    let more = if names.len() > 8 { ", …" } else { "" };
    format!("{}{more}", shown.join(", "))
}
