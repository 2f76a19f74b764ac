//! The `hexapla` command: one file for each of its commands.
#![forbid(unsafe_code)]

mod align;
mod calibration;
mod chat;
mod choice;
mod classify;
mod console;
mod convert;
mod demo;
mod embed;
mod evaluate;
mod explain;
mod generate;
mod heads;
mod inspect;
mod language;
mod logits;
mod model;
mod numerals;
mod serve;
mod signals;
mod text;
mod tokenizer;
mod train;
mod translate;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use hexapla::error::{Error, Result};
use hexapla_kernels::Isa;

/// More would not be faster on any machine.
const MAX_THREADS: usize = 1024;

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
    /// Vectors of texts: one for each line.
    Embed(embed::EmbedArgs),
    /// How alike the two texts of each line are.
    Similarity(embed::SimilarityArgs),
    /// How well each passage answers a query.
    Rerank(classify::RerankArgs),
    /// The class of each text.
    Classify(classify::ClassifyArgs),
    /// The class of each token of each text.
    Tag(classify::TagArgs),
    /// The words that masks stand for.
    Fill(classify::FillArgs),
    /// Go on with texts, by a decoder alone.
    Generate(generate::GenerateArgs),
    /// Talk with a decoder alone that was trained on conversations.
    Chat(chat::ChatArgs),
    /// Serve models over HTTP, as LibreTranslate, OpenAI, text-embeddings-inference and DeepL do.
    Serve(serve::ServeArgs),
    /// Show every number between a text and its translation, as a page.
    Explain(explain::ExplainArgs),
    /// What each head does on sentence pairs, and what it is worth.
    Heads(heads::HeadsArgs),
    /// Which word of a translation stands for which of its source.
    Align(align::AlignArgs),
    /// Log-probabilities and perplexity of given pairs.
    Score(evaluate::ScoreArgs),
    /// BLEU and chrF of a file, or of a model on a test set.
    Evaluate(evaluate::EvaluateArgs),
    /// Logits for given ids, as JSON.
    Logits(logits::LogitsArgs),
    /// Store a model's weights in int8, to be used where they lie.
    Convert(convert::ConvertArgs),
    /// What a model folder is.
    Inspect(inspect::InspectArgs),
    /// Train and use tokenizers.
    Tokenizer(tokenizer::TokenizerArgs),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli) {
        Ok(code) => code,
        Err(error) => {
            console::say(format_args!("error: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> Result<ExitCode> {
    if let Some(threads) = cli.threads.filter(|n| !(1..=MAX_THREADS).contains(n)) {
        return Err(Error::settings("a flag is out of range")
            .at("--threads")
            .expected(format!("1 to {MAX_THREADS}"))
            .found(threads.to_string())
            .hint("leave it out for one thread on each of the machine's cores"));
    }
    if let Err(names) = Isa::from_environment() {
        return Err(
            Error::settings("this CPU has no instruction set of this name")
                .at("environment variable HEXAPLA_ISA")
                .expected(format!("one of {names}"))
                .found(format!(
                    "`{}`",
                    std::env::var_os("HEXAPLA_ISA")
                        .unwrap_or_default()
                        .display()
                ))
                .hint("unset it for the best that this CPU has"),
        );
    }
    rayon::ThreadPoolBuilder::new()
        .num_threads(cli.threads.unwrap_or(0))
        .build_global()
        .map_err(|e| {
            Error::internal("cannot start threads")
                .at("--threads")
                .expected("threads that the system grants")
                .found(e.to_string())
                .hint("ask for fewer")
        })?;
    match cli.command {
        Command::Train(args) => return train::run(args),
        Command::Translate(args) => translate::run(args)?,
        Command::Embed(args) => embed::embed(args)?,
        Command::Similarity(args) => embed::similarity(args)?,
        Command::Rerank(args) => classify::rerank(args)?,
        Command::Classify(args) => classify::classify(args)?,
        Command::Tag(args) => classify::tag(args)?,
        Command::Fill(args) => classify::fill(args)?,
        Command::Generate(args) => generate::run(args)?,
        Command::Chat(args) => chat::run(args)?,
        Command::Serve(args) => serve::run(args)?,
        Command::Explain(args) => explain::run(args)?,
        Command::Heads(args) => heads::run(args)?,
        Command::Align(args) => align::run(args)?,
        Command::Score(args) => evaluate::score(args)?,
        Command::Evaluate(args) => evaluate::run(args)?,
        Command::Logits(args) => logits::run(args)?,
        Command::Convert(args) => convert::run(args)?,
        Command::Inspect(args) => inspect::inspect(args)?,
        Command::Tokenizer(args) => tokenizer::run(args)?,
    }
    Ok(ExitCode::SUCCESS)
}
