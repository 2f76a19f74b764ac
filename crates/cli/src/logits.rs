//! `hexapla logits`

use std::io::Write;
use std::path::PathBuf;

use hexapla::config::ComputeType;
use hexapla::error::{Error, Result};
use hexapla::files::read_limited;
use hexapla::formats;
use hexapla::generate::engine::Engine;

/// Largest input: a thousand sentences are some hundred kilobytes.
const MAX_BYTES: u64 = 64 << 20;

#[derive(Debug, clap::Args)]
pub(crate) struct LogitsArgs {
    /// Model folder.
    model: PathBuf,
    /// JSON file: `{"input_ids": [[…]], "decoder_input_ids": [[…]]}`.
    #[arg(long)]
    input: PathBuf,
    /// Arithmetic: default (what the folder is stored in), float32, bf16, int8 or auto.
    #[arg(long, default_value = "default")]
    compute_type: ComputeType,
}

pub(crate) fn run(args: LogitsArgs) -> Result<()> {
    let bytes = read_limited(&args.input, MAX_BYTES)?;
    let refuse = |found: String| {
        Error::new("cannot read the input")
            .at(args.input.display().to_string())
            .expected("{\"input_ids\": [[…]], \"decoder_input_ids\": [[…]]}")
            .found(found)
            .hint("both are lists of lists of token ids, one list for each sentence")
    };
    let value: serde_json::Value =
        serde_json::from_slice(&bytes).map_err(|e| refuse(e.to_string()))?;
    let ids = |key: &str| -> Result<Vec<Vec<u32>>> {
        let part = value
            .get(key)
            .cloned()
            .ok_or_else(|| refuse(format!("no `{key}`")))?;
        serde_json::from_value(part).map_err(|e| refuse(format!("`{key}`: {e}")))
    };
    let (source, target) = (ids("input_ids")?, ids("decoder_input_ids")?);
    let opened = formats::open(&args.model)?;
    let engine = Engine::new(opened.model().clone(), opened.prepare(args.compute_type)?);
    let logits = engine
        .logits(&source, &target)
        .map_err(|e| e.within(args.input.display()))?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", serde_json::json!({ "logits": logits })).map_err(crate::console::broken)
}
