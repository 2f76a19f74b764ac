//! The project's own tools: `cargo xtask test|arm|reference|api|page|bench|race|curves`.
#![forbid(unsafe_code)]

mod api;
mod arm;
mod bench;
mod curves;
mod debian;
mod page;
mod python;
mod race;
mod reference;
mod test;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;

/// What failed, in words.
type Result<T> = std::result::Result<T, String>;

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", about = "The project's own tools")]
enum Command {
    /// Run everything that must hold.
    Test(test::TestArgs),
    /// Run the kernels' tests and a translation on 64-bit ARM, which QEMU plays.
    Arm(arm::ArmArgs),
    /// Compute the golden numbers of the tests anew with the programs that they come from.
    Reference(reference::ReferenceArgs),
    /// List the library's public items.
    Api(api::ApiArgs),
    /// Build the page of `hexapla explain` from the folder `page`.
    Page(page::PageArgs),
    /// Measure this machine, us and our peers, in turn.
    Bench(bench::BenchArgs),
    /// Train beside PyTorch: the same model on the same data for the same time.
    Race(race::RaceArgs),
    /// Draw the validations of trainings, one line each.
    Curves(curves::CurvesArgs),
}

fn main() -> ExitCode {
    let result = match Command::parse() {
        Command::Test(args) => test::run(&args),
        Command::Arm(args) => arm::run(&args),
        Command::Reference(args) => reference::run(&args),
        Command::Api(args) => api::run(&args),
        Command::Page(args) => page::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Race(args) => race::run(&args),
        Command::Curves(args) => curves::run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

/// The repository.
fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}

/// Writes `text` to `path`, whole or not at all.
fn write_whole(path: &Path, text: &str) -> Result<()> {
    // Beside it first: a run that is stopped while it writes must not leave half a file.
    let half = path.with_extension("new");
    std::fs::write(&half, text)
        .and_then(|()| std::fs::rename(&half, path))
        .map_err(|e| format!("cannot write {}: {e}", path.display()))
}

/// What a command prints, if it succeeds.
fn said(command: &mut std::process::Command) -> Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stderr(std::process::Stdio::inherit())
        .output()
        .map_err(|e| format!("cannot run {program}: {e}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    match output.status.success() {
        true => Ok(text),
        false => Err(format!("{program}: {}\n{}", output.status, text.trim())),
    }
}

/// `command`'s program and what became of it, unless it succeeded.
fn succeed(command: &mut std::process::Command) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{program}: {status}")),
        Err(e) => Err(format!("cannot run {program}: {e}")),
    }
}
