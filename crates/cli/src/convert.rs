//! `hexapla convert`

use std::path::PathBuf;

use hexapla::config::ComputeType;
use hexapla::error::Result;
use hexapla::formats::{self, ConvertModel};

use crate::console::say;

#[derive(Debug, clap::Args)]
pub(crate) struct ConvertArgs {
    /// Model folder; the embedded model where absent.
    model: Option<PathBuf>,
    /// Folder to write.
    #[arg(long, short)]
    output: PathBuf,
    /// How to store the weights: int8 or float32. A folder in int8 is a quarter as large and is used without being read in.
    #[arg(long, default_value = "int8")]
    compute_type: ComputeType,
    /// Lose the model that lies in the folder to write.
    #[arg(long)]
    replace: bool,
}

pub(crate) fn run(args: ConvertArgs) -> Result<()> {
    let model = formats::open(crate::model::folder(args.model.as_deref()))?;
    model.verify()?;
    let job = ConvertModel {
        model: &model,
        compute_type: args.compute_type,
        replace: args.replace,
    };
    let saved = formats::convert(&job, &args.output)?;
    if let Some(note) = saved.note {
        say(format_args!("note: {note}"));
    }
    Ok(())
}
