//! `hexapla convert`

use std::path::PathBuf;

use hexapla::config::ComputeType;
use hexapla::encode::SentenceEncoder;
use hexapla::error::{Error, Result};
use hexapla::formats::{self, ConvertModel};

use crate::console::say;

#[derive(Debug, clap::Args)]
pub(crate) struct ConvertArgs {
    /// Model folder; the embedded model where absent.
    model: Option<PathBuf>,
    /// Folder to write.
    #[arg(long, short)]
    output: PathBuf,
    /// How to store the weights: int8, int4 or float32. A folder in int8 is a quarter as large and is used without being read in; in int4 about a sixth, for large decoders, and less exact.
    #[arg(long, default_value = "int8")]
    compute_type: ComputeType,
    /// Lose the model that lies in the folder to write.
    #[arg(long)]
    replace: bool,
}

pub(crate) fn run(args: ConvertArgs) -> Result<()> {
    let folder = crate::model::folder(args.model.as_deref());
    let (inner, is_table) = SentenceEncoder::source_folder(&folder)?;
    if is_table {
        return Err(Error::model("a table of vectors cannot be converted")
            .at(folder.path().display().to_string())
            .expected("a model with layers")
            .found("a table (model2vec, StaticEmbedding)")
            .hint("it is used as it is: `hexapla embed`"));
    }
    let model = formats::open(inner.clone())?;
    model.verify()?;
    let job = ConvertModel {
        model: &model,
        around: (inner.path() != folder.path()).then_some(&folder),
        compute_type: args.compute_type,
        replace: args.replace,
    };
    let saved = formats::convert(&job, &args.output)?;
    if let Some(note) = saved.note {
        say(format_args!("note: {note}"));
    }
    Ok(())
}
