//! `hexapla tokenizer`: train one, cut text, put it together, and see why subwords.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use hexapla::config::{TokenizerKind, TokenizerTable};
use hexapla::error::{Error, Result};
use hexapla::formats::refuse_model;
use hexapla::text::corpus::{SentencePairs, open_lines, read_lines};
use hexapla::text::tokenizer::{Tokenizer, TokenizerStats, Tokenizers};

use crate::console::{broken, say, shown};

/// Train and use tokenizers.
#[derive(Debug, Args)]
pub(crate) struct TokenizerArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Learn a vocabulary from text
    Train(TrainArgs),
    /// Cut text into pieces or ids, a line out for each line in
    Encode(CodecArgs),
    /// Put pieces or ids together, a line out for each line in
    Decode(CodecArgs),
    /// Tokens per word and per Chinese character, unknown and byte pieces, the commonest splits
    Stats(StatsArgs),
}

#[derive(Debug, Args)]
struct TrainArgs {
    /// Text files, one sentence a line (with --target: the source side)
    #[arg(long, value_name = "FILE", num_args = 1.., required_unless_present = "tsv", conflicts_with = "tsv")]
    input: Vec<PathBuf>,
    /// Text files of the target side
    #[arg(long, value_name = "FILE", num_args = 1.., requires = "input")]
    target: Vec<PathBuf>,
    /// A file with source, tab, target; further columns are ignored
    #[arg(long, value_name = "FILE")]
    tsv: Option<PathBuf>,
    /// Take the second column of --tsv for the source
    #[arg(long, requires = "tsv")]
    reverse: bool,
    /// How text is cut
    #[arg(long, value_enum, default_value_t = Kind::Unigram)]
    kind: Kind,
    /// Number of pieces, special ones included [default: 8000]
    #[arg(long, value_name = "N")]
    vocab_size: Option<usize>,
    /// One vocabulary for both sides (the default)
    #[arg(long, conflicts_with = "separate")]
    joint: bool,
    /// A vocabulary for each side; --output names a folder
    #[arg(long)]
    separate: bool,
    /// Merges of subword-nmt to use instead of learning (text is words between spaces; implies --kind bpe)
    #[arg(long, value_name = "FILE")]
    codes: Option<PathBuf>,
    /// A piece that is never cut, such as `>>de<<`; may be repeated
    #[arg(long = "special-token", value_name = "TOKEN")]
    special_tokens: Vec<String>,
    /// Share of the text's characters that get a piece of their own [default: 0.9995]
    #[arg(long, value_name = "SHARE")]
    character_coverage: Option<f32>,
    /// Make upper case lower before text is cut
    #[arg(long)]
    lowercase: bool,
    /// Where to write: a folder, or a file whose name ends in .json
    #[arg(long, short, value_name = "PATH")]
    output: PathBuf,
    /// Replace a tokenizer that is there, even that of a model
    #[arg(long)]
    replace: bool,
}

#[derive(Debug, Args)]
struct CodecArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// Ids instead of pieces
    #[arg(long)]
    ids: bool,
    /// Text, or `-` for standard input
    #[arg(value_name = "FILE", default_value = "-")]
    file: PathBuf,
}

#[derive(Debug, Args)]
struct StatsArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// Text, or `-` for standard input
    #[arg(value_name = "FILE", default_value = "-")]
    file: PathBuf,
}

#[derive(Debug, Args)]
struct ModelArgs {
    /// A tokenizer.json, or a model's folder
    #[arg(long, short, value_name = "PATH")]
    model: PathBuf,
    /// Which side's tokenizer of a folder with two [default: target for decode, else source]
    #[arg(long, value_enum)]
    side: Option<Side>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Side {
    Source,
    Target,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// Byte-pair encoding with byte fallback
    Bpe,
    /// Byte-pair encoding over bytes, as in GPT-2
    #[value(alias = "byte_bpe")]
    ByteBpe,
    /// Each character is a piece
    Characters,
    /// Unigram language model with byte fallback, as in SentencePiece
    Unigram,
    /// The text is cut already, with spaces; `@@` joins a piece to the next
    Pieces,
}

impl From<Kind> for TokenizerKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Bpe => TokenizerKind::Bpe,
            Kind::ByteBpe => TokenizerKind::ByteBpe,
            Kind::Characters => TokenizerKind::Characters,
            Kind::Unigram => TokenizerKind::Unigram,
            Kind::Pieces => TokenizerKind::Pieces,
        }
    }
}

/// Runs `hexapla tokenizer`.
///
/// # Errors
/// As the library: files that cannot be read, settings out of range, a broken tokenizer.
pub(crate) fn run(args: TokenizerArgs) -> Result<()> {
    match args.command {
        Command::Train(args) => train(args),
        Command::Encode(args) => encode(&args),
        Command::Decode(args) => decode(&args),
        Command::Stats(args) => stats(&args),
    }
}

fn train(args: TrainArgs) -> Result<()> {
    let table = table(&args)?;
    let is_file = args
        .output
        .extension()
        .is_some_and(|extension| extension == "json");
    if args.separate && is_file {
        return Err(Error::settings("two tokenizers do not fit one file")
            .at("--output")
            .expected("a folder with --separate")
            .found(args.output.display().to_string())
            .hint("leave out the ending `.json`"));
    }
    if args.separate && args.tsv.is_none() && args.target.is_empty() {
        return Err(Error::settings("--separate needs two sides")
            .expected("--tsv, or --input and --target")
            .found("--input only")
            .at("--separate")
            .hint("name the other side's text, or leave out --separate"));
    }
    if !args.replace {
        match is_file {
            true if args.output.is_file() => {
                return Err(Error::conflict("the file is there already")
                    .at(args.output.display().to_string())
                    .expected("a name that is free")
                    .found("a file")
                    .hint("name another file with --output, or give --replace to lose that one"));
            }
            true => {}
            false => refuse_model(&args.output)?,
        }
    }
    let (source, target) = match &args.tsv {
        Some(path) => {
            let pairs = SentencePairs::from_tsv(path, args.reverse)?;
            (pairs.source, pairs.target)
        }
        None => (read_all(&args.input)?, read_all(&args.target)?),
    };
    let tokenizers = Tokenizers::prepare(&table, &source, &target)?;
    let written = if is_file {
        tokenizers.source.save(&args.output)?;
        vec![(args.output.clone(), &tokenizers.source)]
    } else {
        std::fs::create_dir_all(&args.output)
            .map_err(|e| Error::io("cannot make the folder", &args.output, &e))?;
        let names = tokenizers.save_folder(&args.output, 512)?;
        let sides = [&tokenizers.source, &tokenizers.target];
        let sides = sides.into_iter().take(if args.separate { 2 } else { 1 });
        names
            .iter()
            .map(|name| args.output.join(name))
            .zip(sides)
            .collect()
    };
    for (path, tokenizer) in written {
        for note in tokenizer.notes() {
            say(format_args!("note: {note}"));
        }
        say(format_args!(
            "{}: {} pieces",
            path.display(),
            tokenizer.vocab_size()
        ));
    }
    Ok(())
}

fn table(args: &TrainArgs) -> Result<TokenizerTable> {
    let mut table = TokenizerTable {
        kind: if args.codes.is_some() {
            TokenizerKind::Bpe
        } else {
            args.kind.into()
        },
        codes: args.codes.clone(),
        joint: !args.separate,
        special_tokens: args.special_tokens.clone(),
        lowercase: args.lowercase,
        ..Default::default()
    };
    if let Some(size) = args.vocab_size {
        if args.codes.is_some() || args.kind == Kind::Pieces {
            return Err(Error::settings(
                "the vocabulary's size is given by the text or the merges",
            )
            .at("--vocab-size")
            .expected("no --vocab-size with --codes or --kind pieces")
            .found(size.to_string())
            .hint("leave out --vocab-size"));
        }
        table.vocab_size = size;
    }
    if let Some(coverage) = args.character_coverage {
        table.character_coverage = coverage;
    }
    Ok(table)
}

fn read_all(paths: &[PathBuf]) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    for path in paths {
        lines.append(&mut read_lines(path)?);
    }
    Ok(lines)
}

impl ModelArgs {
    fn open(&self, default: Side) -> Result<std::sync::Arc<Tokenizer>> {
        if !self.model.is_dir() {
            return Ok(Tokenizer::open(&self.model)?.into());
        }
        let tokenizers = Tokenizers::open_folder(&self.model)?;
        Ok(match self.side.unwrap_or(default) {
            Side::Source => tokenizers.source,
            Side::Target => tokenizers.target,
        })
    }
}

fn encode(args: &CodecArgs) -> Result<()> {
    let tokenizer = args.model.open(Side::Source)?;
    each_line(&args.file, |line, _| {
        let pieces: Vec<String> = if args.ids {
            tokenizer.encode(line)?.iter().map(u32::to_string).collect()
        } else {
            let pieces = tokenizer.pieces(line)?;
            pieces.iter().map(|piece| shown(piece)).collect()
        };
        Ok(pieces.join(" "))
    })
}

fn decode(args: &CodecArgs) -> Result<()> {
    let tokenizer = args.model.open(Side::Target)?;
    each_line(&args.file, |line, location| {
        let ids = line
            .split(' ')
            .filter(|token| !token.is_empty())
            .map(|token| {
                let id = if args.ids {
                    token.parse().ok()
                } else {
                    tokenizer.piece_to_id(token)
                };
                id.ok_or_else(|| {
                    let what = if args.ids {
                        "an id"
                    } else {
                        "a piece of the vocabulary"
                    };
                    Error::input("cannot decode")
                        .at(location)
                        .expected(what)
                        .found(format!("`{token}`"))
                        .hint(if args.ids {
                            "separate the ids with spaces"
                        } else {
                            "separate the pieces with spaces; --ids reads ids"
                        })
                })
            });
        let ids = ids.collect::<Result<Vec<u32>>>()?;
        let text = tokenizer.decode(&ids).map_err(|e| e.at(location))?;
        // A line end among the pieces would make two lines of one.
        Ok(text.replace(['\n', '\r'], " "))
    })
}

fn stats(args: &StatsArgs) -> Result<()> {
    let tokenizer = args.model.open(Side::Source)?;
    let lines = read_lines(&args.file)?;
    let stats = TokenizerStats::of(&tokenizer, &lines)?;
    let mut out = std::io::stdout().lock();
    write!(out, "{stats}")
        .and_then(|()| out.flush())
        .map_err(broken)
}

/// Writes what `change` makes of each line, given its location.
fn each_line(path: &Path, change: impl Fn(&str, &str) -> Result<String>) -> Result<()> {
    let mut lines = open_lines(path)?;
    let mut out = std::io::stdout().lock();
    while let Some(line) = lines.next() {
        let changed = change(&line?, &lines.location())?;
        writeln!(out, "{changed}").map_err(broken)?;
    }
    out.flush().map_err(broken)
}
