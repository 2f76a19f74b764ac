//! Opening models: a folder, or the one inside the program.

use std::io::Write;
use std::path::{Path, PathBuf};

use hexapla::config::{Assembly, ComputeType, EncoderConfig, EncoderHead, TransformerConfig};
use hexapla::encode::SentenceEncoder;
use hexapla::error::Result;
use hexapla::files::Folder;
use hexapla::formats::{self, Storage};
use hexapla::generate::translator::Translator;

/// Bytes that start at a multiple of 64, so that products read weights where they lie in the program.
#[repr(C, align(64))]
struct Aligned<T: ?Sized>(T);

static WEIGHTS: &Aligned<[u8]> =
    &Aligned(*include_bytes!("../../../models/demo/model.safetensors"));

/// The files of `models/demo`.
const DEMO: &[(&str, &[u8])] = &[
    (
        "config.json",
        include_bytes!("../../../models/demo/config.json"),
    ),
    (
        "generation_config.json",
        include_bytes!("../../../models/demo/generation_config.json"),
    ),
    (
        "manifest.json",
        include_bytes!("../../../models/demo/manifest.json"),
    ),
    ("model.safetensors", &WEIGHTS.0),
    (
        "tokenizer.json",
        include_bytes!("../../../models/demo/tokenizer.json"),
    ),
    (
        "tokenizer_config.json",
        include_bytes!("../../../models/demo/tokenizer_config.json"),
    ),
];

/// The folder at `path`, or the one inside the program.
pub(crate) fn folder(path: Option<&Path>) -> Folder {
    path.map_or(Folder::Embedded(DEMO), Folder::from)
}

/// The model in the folder at `path`, or the one inside the program.
pub(crate) fn open(path: Option<&Path>, compute_type: ComputeType) -> Result<Translator> {
    Translator::builder()
        .compute_type(compute_type)
        .open(folder(path))
}

#[derive(Debug, clap::Args)]
pub(crate) struct InspectArgs {
    /// Model folder; the embedded model where absent.
    model: Option<PathBuf>,
}

pub(crate) fn inspect(args: InspectArgs) -> Result<()> {
    let opened = formats::open(folder(args.model.as_deref()))?;
    opened.verify()?;
    let model = opened.model();
    let mut out = std::io::stdout().lock();
    let mut line = |name: &str, value: String| {
        writeln!(out, "{name:24} {value}").map_err(crate::console::broken)
    };
    line("model_type", opened.family.to_string())?;
    let index = model.index();
    let count = format!("{} in {} tensors", index.len(), index.iter().len());
    line("parameters", count)?;
    let weights = match opened.storage {
        Storage::Float => "floats",
        Storage::Int8 => "int8, used where they lie",
    };
    line("weights", weights.into())?;
    let settings = match &opened.assembly {
        Assembly::EncoderDecoder(c) => of_encoder_decoder(c),
        Assembly::Encoder(c) => of_encoder(c),
    };
    for (name, value) in settings {
        line(name, value)?;
    }
    let there = TOKENIZERS
        .iter()
        .filter(|name| opened.folder().contains(name));
    let there: Vec<&str> = there.copied().collect();
    line(
        "tokenizer",
        if there.is_empty() {
            "none".into()
        } else {
            there.join(", ")
        },
    )?;
    if let Assembly::Encoder(_) = &opened.assembly {
        for (name, value) in SentenceEncoder::describe(opened.folder())? {
            line(name, value)?;
        }
    }
    if let Some(manifest) = &opened.manifest {
        line("created by", manifest.created_by.clone())?;
        for m in &manifest.fields.metrics {
            line(&m.name, format!("{:.2} ({})", m.value, m.signature))?;
        }
        let directions = &manifest.fields.directions;
        if !directions.is_empty() {
            let pairs: Vec<String> = directions.iter().map(ToString::to_string).collect();
            line("directions", pairs.join(", "))?;
        }
        for (name, note) in &manifest.fields.notes {
            line(name, note.clone())?;
        }
        if args.model.is_some() {
            line(
                "checksums",
                format!("{} files, all as written", manifest.files.len()),
            )?;
        }
    }
    Ok(())
}

/// Files that tokenizers are read from.
const TOKENIZERS: [&str; 8] = [
    "tokenizer.json",
    "source_tokenizer.json",
    "target_tokenizer.json",
    "source.spm",
    "target.spm",
    "sentencepiece.bpe.model",
    "vocab.json",
    "vocab.txt",
];

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

#[cfg(test)]
mod tests {
    use hexapla::config::Recipe;

    use super::*;

    #[test]
    fn the_embedded_weights_are_aligned_and_in_int8() {
        assert_eq!(WEIGHTS.0.as_ptr() as usize % 64, 0);
        let model = formats::open(folder(None)).unwrap();
        assert_eq!(model.storage, Storage::Int8);
        // What is embedded is not checked at each start: it is here.
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/demo");
        let disk = Folder::from(&path);
        model.manifest.unwrap().verify(&disk).unwrap();
    }

    #[test]
    fn the_embedded_model_names_the_directions_of_its_recipe() {
        let manifest = formats::open(folder(None)).unwrap().manifest.unwrap();
        let recipe = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../recipes/demo.toml");
        let trained = Recipe::open(&recipe).unwrap().data.directions();
        assert_eq!(trained.len(), 4);
        assert_eq!(manifest.fields.directions, trained);
    }
}
