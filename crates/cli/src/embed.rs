//! `hexapla embed` and `hexapla similarity`

use std::path::PathBuf;

use hexapla::config::ComputeType;
use hexapla::encode::{EmbedOptions, LongTexts, SentenceEncoder};
use hexapla::error::{Error, Result};
use hexapla::files::write_atomically;

use crate::console::say;
use crate::model::decided;
use crate::text::TextArgs;

/// How texts become vectors.
#[derive(Debug, clap::Args)]
struct EmbedFlags {
    /// Model folder: of sentence-transformers, a bare encoder, or a model2vec table.
    #[arg(long, short)]
    model: PathBuf,
    /// Name of a prompt of the model that is put before each text; the folder's default where absent.
    #[arg(long)]
    prompt: Option<String>,
    /// Keep the first numbers of each vector only (for models that were trained for it).
    #[arg(long)]
    dimensions: Option<usize>,
    /// Divide each vector by its length, whatever the folder says.
    #[arg(long)]
    normalize: bool,
    /// Texts that are longer than the model: error, cut (their beginning alone counts) or windows (all counts).
    #[arg(long, default_value = "error")]
    long: LongTexts,
    /// Arithmetic: default (what the folder is stored in), float32, bf16, int8, int4 or auto.
    #[arg(long, default_value = "default")]
    compute_type: ComputeType,
}

impl EmbedFlags {
    fn open(&self) -> Result<SentenceEncoder> {
        let model = SentenceEncoder::open(&self.model, decided(self.compute_type))?;
        if !model.says_its_pooling() {
            say(format_args!(
                "note: {} does not say how rows become a vector (modules.json): their mean is taken",
                self.model.display()
            ));
        }
        Ok(model)
    }

    fn options(&self) -> EmbedOptions {
        EmbedOptions {
            prompt: self.prompt.clone(),
            dimensions: self.dimensions,
            normalize: self.normalize,
            long: self.long,
        }
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct EmbedArgs {
    #[command(flatten)]
    texts: TextArgs,
    #[command(flatten)]
    flags: EmbedFlags,
    /// Write an array of NumPy, f32 `[texts, numbers]`, instead of printing a JSON array for each text.
    #[arg(long, short)]
    output: Option<PathBuf>,
}

pub(crate) fn embed(args: EmbedArgs) -> Result<()> {
    let model = args.flags.open()?;
    let options = args.flags.options();
    let Some(path) = &args.output else {
        return args.texts.answer(|lines| {
            let vectors = model.embed(lines, &options)?;
            vectors.iter().map(json).collect()
        });
    };
    let (mut numbers, mut count) = (Vec::new(), 0);
    args.texts.each(
        |lines| model.embed(lines, &options),
        |vector| {
            numbers.extend(vector);
            count += 1;
            Ok(())
        },
    )?;
    let width = options.dimensions.unwrap_or(model.width());
    write_atomically(path, |writer| {
        hexapla::files::write_npy(writer, [count, width], &numbers)
    })
}

/// As JSON.
pub(crate) fn json(value: &impl serde::Serialize) -> Result<String> {
    serde_json::to_string(value)
        .map_err(|e| Error::internal("cannot write JSON").found(e.to_string()))
}

/// A number as people write it: as short as tells it from its neighbours.
pub(crate) fn number(x: f32) -> serde_json::Value {
    let text = x.to_string();
    text.parse::<f64>()
        .map_or(serde_json::Value::Null, Into::into)
}

#[derive(Debug, clap::Args)]
pub(crate) struct SimilarityArgs {
    /// Pairs of texts with a tab between them.
    #[command(flatten)]
    texts: TextArgs,
    #[command(flatten)]
    flags: EmbedFlags,
}

pub(crate) fn similarity(args: SimilarityArgs) -> Result<()> {
    let model = args.flags.open()?;
    let options = args.flags.options();
    args.texts.answer(|lines| {
        let mut sides = Vec::with_capacity(2 * lines.len());
        for (i, line) in lines.iter().enumerate() {
            let (first, second) = line
                .split_once('\t')
                .ok_or_else(|| no_tab(line).in_item(i))?;
            sides.extend([first, second]);
        }
        let vectors = model.embed(&sides, &options).map_err(|e| match e.item() {
            Some(side) => e.in_item(side / 2),
            None => e,
        })?;
        let (pairs, _) = vectors.as_chunks::<2>();
        Ok(pairs
            .iter()
            .map(|[a, b]| format!("{:.6}", model.similarity(a, b)))
            .collect())
    })
}

fn no_tab(line: &str) -> Error {
    Error::input("a pair of texts cannot be read")
        .expected("two texts with a tab between them")
        .found(format!("`{}`", line.chars().take(60).collect::<String>()))
        .hint("put one pair on each line")
}
