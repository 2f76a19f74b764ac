//! `hexapla logits`

use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use hexapla::config::ComputeType;
use hexapla::error::{Error, Result};
use hexapla::files::open_input;
use hexapla::formats;
use hexapla::generate::engine::Engine;

use crate::console::broken;

/// Largest input: a thousand sentences are some hundred kilobytes.
const MAX_BYTES: u64 = 64 << 20;

#[derive(Debug, clap::Args)]
pub(crate) struct LogitsArgs {
    /// Model folder.
    model: PathBuf,
    /// JSON file, `-` for standard input: `{"input_ids": [[…]], "decoder_input_ids": [[…]]}`.
    #[arg(long)]
    input: PathBuf,
    /// Arithmetic: default (what the folder is stored in), float32, bf16, int8 or auto.
    #[arg(long, default_value = "default")]
    compute_type: ComputeType,
}

pub(crate) fn run(args: LogitsArgs) -> Result<()> {
    let (input, name) = open_input(&args.input)?;
    let mut bytes = Vec::new();
    let read = input.take(MAX_BYTES + 1).read_to_end(&mut bytes);
    read.map_err(|e| Error::io("cannot read the input", Path::new(&name), &e))?;
    let refuse = |found: String| {
        Error::input("cannot read the input")
            .at(name.clone())
            .expected("{\"input_ids\": [[…]], \"decoder_input_ids\": [[…]]}")
            .found(found)
            .hint("both are lists of lists of token ids, one list for each sentence")
    };
    if bytes.len() as u64 > MAX_BYTES {
        return Err(refuse(format!("more than {MAX_BYTES} bytes")));
    }
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
    let engine = Engine::new(opened.model().clone(), opened.pack(args.compute_type)?);
    let mut out = BufWriter::new(std::io::stdout().lock());
    // A sentence at a time: a thousand of them are gigabytes.
    let mut before = "{\"logits\":[";
    engine
        .each_logits(&source, &target, |logits| {
            if logits.iter().flatten().any(|x| !x.is_finite()) {
                return Err(Error::model("the model's logits are not finite")
                    .expected("numbers")
                    .found("NaN or infinity")
                    .hint("its weights are broken"));
            }
            out.write_all(before.as_bytes()).map_err(broken)?;
            before = ",";
            serde_json::to_writer(&mut out, &logits).map_err(|e| broken(e.into()))
        })
        .map_err(|e| e.within(&name))?;
    let after = if source.is_empty() { before } else { "" };
    writeln!(out, "{after}]}}")
        .and_then(|()| out.flush())
        .map_err(broken)
}
