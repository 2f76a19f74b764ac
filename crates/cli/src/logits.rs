//! `hexapla logits`

use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use hexapla::config::{Assembly, ComputeType, EncoderHead};
use hexapla::encode::{Encoder, Input};
use hexapla::error::{Error, Result};
use hexapla::files::open_input;
use hexapla::formats;
use hexapla::generate::engine::Engine;

use crate::console::broken;
use crate::model::decided;

/// Largest input: a thousand sentences are some hundred kilobytes.
const MAX_BYTES: u64 = 64 << 20;

#[derive(Debug, clap::Args)]
pub(crate) struct LogitsArgs {
    /// Model folder.
    model: PathBuf,
    /// JSON file, `-` for standard input: `{"input_ids": [[…]], "decoder_input_ids": [[…]]}`; of an encoder alone
    /// `{"input_ids": [[…]], "token_type_ids": [[…]]}`, of which the second may be absent.
    #[arg(long)]
    input: PathBuf,
    /// Arithmetic: default (what the folder is stored in), float32, bf16, int8, int4 or auto.
    #[arg(long, default_value = "default")]
    compute_type: ComputeType,
}

pub(crate) fn run(args: LogitsArgs) -> Result<()> {
    let (input, name) = open_input(&args.input)?;
    let mut bytes = Vec::new();
    let read = input.take(MAX_BYTES + 1).read_to_end(&mut bytes);
    read.map_err(|e| Error::io("cannot read the input", Path::new(&name), &e))?;
    let opened = formats::open(&args.model)?;
    let is_encoder = matches!(opened.assembly, Assembly::Encoder(_));
    let (second, must) = match is_encoder {
        true => ("token_type_ids", ""),
        false => ("decoder_input_ids", ", \"decoder_input_ids\": [[…]]"),
    };
    let refuse = |found: String| {
        Error::input("cannot read the input")
            .at(name.clone())
            .expected(format!("{{\"input_ids\": [[…]]{must}}}"))
            .found(found)
            .hint("these are lists of lists of token ids, one list for each text")
    };
    if bytes.len() as u64 > MAX_BYTES {
        return Err(refuse(format!("more than {MAX_BYTES} bytes")));
    }
    let value: serde_json::Value =
        serde_json::from_slice(&bytes).map_err(|e| refuse(e.to_string()))?;
    let ids = |key: &str| -> Result<Option<Vec<Vec<u32>>>> {
        let Some(part) = value.get(key).filter(|part| !part.is_null()) else {
            return Ok(None);
        };
        serde_json::from_value(part.clone()).map_err(|e| refuse(format!("`{key}`: {e}")))
    };
    let source = ids("input_ids")?.ok_or_else(|| refuse("no `input_ids`".into()))?;
    let other = ids(second)?;
    if is_encoder {
        let encoder = Encoder::new(
            opened.model().clone(),
            opened.pack(decided(args.compute_type))?,
        );
        return encode(&encoder, source, other).map_err(|e| e.within(&name));
    }
    let target = other.ok_or_else(|| refuse(format!("no `{second}`")))?;
    let engine = Engine::new(
        opened.model().clone(),
        opened.pack(decided(args.compute_type))?,
    );
    let mut out = BufWriter::new(std::io::stdout().lock());
    // A sentence at a time: a thousand of them are gigabytes.
    let mut before = "{\"logits\":[";
    engine
        .each_logits(&source, &target, |logits| {
            finite(&logits)?;
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

fn finite(logits: &[Vec<f32>]) -> Result<()> {
    match logits.iter().flatten().all(|x| x.is_finite()) {
        true => Ok(()),
        false => Err(Error::model("the model's logits are not finite")
            .expected("numbers")
            .found("NaN or infinity")
            .hint("its weights are broken")),
    }
}

/// Of an encoder: `{"logits": [text][token][class]}`, `[text][class]` where its head speaks once for each text, or
/// `{"hidden": [text][token][d_model]}` where it has no head.
fn encode(encoder: &Encoder, ids: Vec<Vec<u32>>, segments: Option<Vec<Vec<u32>>>) -> Result<()> {
    let segments = segments.unwrap_or_else(|| vec![Vec::new(); ids.len()]);
    if segments.len() != ids.len() {
        return Err(Error::input("the segments do not pair up with the ids")
            .at("token_type_ids")
            .expected(format!("{}, one for each of input_ids", ids.len()))
            .found(segments.len().to_string())
            .hint("each text has one list in both"));
    }
    let inputs: Vec<Input> = ids
        .into_iter()
        .zip(segments)
        .map(|(ids, segments)| Input { ids, segments })
        .collect();
    let is_bare = matches!(encoder.config().head, EncoderHead::Hidden { .. });
    let found = match is_bare {
        true => encoder.hidden(&inputs)?,
        false => encoder.logits(&inputs)?,
    };
    found.iter().try_for_each(|text| finite(text))?;
    let mut out = BufWriter::new(std::io::stdout().lock());
    let key = if is_bare { "hidden" } else { "logits" };
    write!(out, "{{\"{key}\":").map_err(broken)?;
    match !is_bare && encoder.speaks_once() {
        true => serde_json::to_writer(&mut out, &found.concat()),
        false => serde_json::to_writer(&mut out, &found),
    }
    .map_err(|e| broken(e.into()))?;
    writeln!(out, "}}")
        .and_then(|()| out.flush())
        .map_err(broken)
}
