//! Our side of the benchmarks. Started by `cargo xtask bench`; by hand:
//!
//! ```text
//! hexapla-bench prepare SPEC.json     writes the jobs of a piece of work, and what they name, for all sides
//! hexapla-bench words SPEC.json       tells a source as text
//! hexapla-bench train JOB.json        then `run STEPS` on standard input
//! hexapla-bench translate JOB.json    then `run` or `outputs`
//! hexapla-bench embed JOB.json        then `run` or `outputs`
//! hexapla-bench generate JOB.json     then `run`, `losses` or `prefix`
//! hexapla-bench begin JOB.json        writes what both sides of a race start from
//! hexapla-bench end JOB.json          makes a model folder of what a side of a race ended with
//! ```
//!
//! The jobs and the protocol are described in `xtask/bench/README.md`.
#![forbid(unsafe_code)]

mod embed;
mod generate;
mod prepare;
mod protocol;
mod race;
mod train;
mod translate;
mod weights;

use hexapla::error::{Error, Result};
use serde::de::DeserializeOwned;
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match arguments[..] {
        ["prepare", spec] => read(spec).and_then(|spec| prepare::run(&spec)),
        ["words", spec] => read(spec).and_then(|spec| prepare::words(&spec)),
        ["train", job] => read(job).and_then(|job| train::serve(&job)),
        ["translate", job] => read(job).and_then(|job| translate::serve(&job)),
        ["embed", job] => read(job).and_then(|job| embed::serve(&job)),
        ["generate", job] => read(job).and_then(|job| generate::serve(&job)),
        ["begin", job] => read(job).and_then(|job| race::begin(&job)),
        ["end", job] => read(job).and_then(|job| race::end(&job)),
        _ => Err(Error::settings("unknown command")
            .expected("prepare|words|train|translate|embed|generate|begin|end JOB.json")
            .found(format!("`{}`", arguments.join(" ")))),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            // On the protocol's channel: what is not offered is then shown as such in the table.
            protocol::say(&serde_json::json!({ "error": e.to_string() }));
            ExitCode::FAILURE
        }
    }
}

fn read<T: DeserializeOwned>(path: &str) -> Result<T> {
    let text = std::fs::read_to_string(path)
        .map_err(|e| Error::io("cannot read the job", Path::new(path), &e))?;
    serde_json::from_str(&text).map_err(|e| {
        Error::settings("the job is not understood")
            .at(path)
            .found(e.to_string())
    })
}
