//! The `hexapla` command: one file for each of its commands.

mod demo;
mod evaluate;
mod logits;
mod model;
mod tokenizer;
mod train;
mod translate;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use hexapla::error::{Error, Result};

/// Train, run and explain Transformers on the CPU.
#[derive(Debug, Parser)]
#[command(name = "hexapla", version)]
struct Cli {
    /// Threads; all of the machine's where absent.
    #[arg(long, global = true)]
    threads: Option<usize>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Train a model on sentence pairs.
    Train(train::TrainArgs),
    /// Translate text: one line out for each line in.
    Translate(translate::TranslateArgs),
    /// Log-probabilities and perplexity of given pairs.
    Score(evaluate::ScoreArgs),
    /// BLEU and chrF of a file, or of a model on a test set.
    Evaluate(evaluate::EvaluateArgs),
    /// Logits for given ids, as JSON.
    Logits(logits::LogitsArgs),
    /// What a model folder is.
    Inspect(model::InspectArgs),
    /// Train and use tokenizers.
    Tokenizer(tokenizer::TokenizerArgs),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> Result<ExitCode> {
    if cli.threads == Some(0) {
        return Err(Error::new("a flag is out of range")
            .at("--threads")
            .expected("at least 1")
            .found("0"));
    }
    rayon::ThreadPoolBuilder::new()
        .num_threads(cli.threads.unwrap_or(0))
        .build_global()
        .map_err(|e| Error::new("cannot start threads").found(e.to_string()))?;
    match cli.command {
        Command::Train(args) => return train::run(args),
        Command::Translate(args) => translate::run(args)?,
        Command::Score(args) => evaluate::score(args)?,
        Command::Evaluate(args) => evaluate::run(args)?,
        Command::Logits(args) => logits::run(args)?,
        Command::Inspect(args) => model::inspect(args)?,
        Command::Tokenizer(args) => tokenizer::run(args)?,
    }
    Ok(ExitCode::SUCCESS)
}
