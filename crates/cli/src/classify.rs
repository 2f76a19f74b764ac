//! `hexapla classify`, `rerank`, `tag` and `fill`

use std::path::PathBuf;

use hexapla::config::ComputeType;
use hexapla::encode::{Classifier, FillMask, LongTexts, Tagger};
use hexapla::error::{Error, Result};
use serde_json::json;

use crate::embed::{json, number};
use crate::model::decided;
use crate::text::TextArgs;

/// A model, and what becomes of long texts.
#[derive(Debug, clap::Args)]
struct ModelFlags {
    /// Model folder.
    #[arg(long, short)]
    model: PathBuf,
    /// Texts that are longer than the model: error, cut (their beginning alone counts) or windows (all counts).
    #[arg(long, default_value = "error")]
    long: LongTexts,
    /// Arithmetic: default (what the folder is stored in), float32, bf16, int8, int4 or auto.
    #[arg(long, default_value = "default")]
    compute_type: ComputeType,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ClassifyArgs {
    #[command(flatten)]
    texts: TextArgs,
    #[command(flatten)]
    flags: ModelFlags,
    /// Print all classes with their scores, the best first.
    #[arg(long)]
    all: bool,
}

pub(crate) fn classify(args: ClassifyArgs) -> Result<()> {
    let model = Classifier::open(&args.flags.model, decided(args.flags.compute_type))?;
    args.texts.answer(|lines| {
        let found = model.classify(lines, args.flags.long)?;
        found
            .iter()
            .map(|scores| {
                let mut classes: Vec<(&String, &f32)> = model.labels().iter().zip(scores).collect();
                classes.sort_by(|a, b| b.1.total_cmp(a.1));
                let shown = classes
                    .iter()
                    .map(|(label, score)| json!({"label": label, "score": number(**score)}));
                match args.all {
                    true => json(&shown.collect::<Vec<_>>()),
                    false => json(&shown.take(1).next()),
                }
            })
            .collect()
    })
}

#[derive(Debug, clap::Args)]
#[command(mut_arg("text", |arg| arg.help("Passages; without them, --input or standard input is read, one a line")))]
pub(crate) struct RerankArgs {
    #[command(flatten)]
    texts: TextArgs,
    #[command(flatten)]
    flags: ModelFlags,
    /// What is asked for.
    #[arg(long, short)]
    query: String,
    /// Print the best passages first instead of in their order.
    #[arg(long)]
    sort: bool,
    /// Print so many of the sorted passages.
    #[arg(long, requires = "sort")]
    top: Option<usize>,
}

pub(crate) fn rerank(args: RerankArgs) -> Result<()> {
    let model = Classifier::open(&args.flags.model, decided(args.flags.compute_type))?;
    let rank = |lines: &[String]| -> Result<Vec<(f32, String)>> {
        let scores = model.rank(&args.query, lines, args.flags.long)?;
        Ok(scores.into_iter().zip(lines.iter().cloned()).collect())
    };
    let shown = |(score, passage): &(f32, String)| format!("{score:.6}\t{passage}");
    if !args.sort {
        return args
            .texts
            .answer(|lines| Ok(rank(lines)?.iter().map(shown).collect()));
    }
    let mut all = Vec::new();
    args.texts.each(rank, |ranked| {
        all.push(ranked);
        Ok(())
    })?;
    all.sort_by(|a, b| b.0.total_cmp(&a.0));
    let lines: Vec<String> = all
        .iter()
        .take(args.top.unwrap_or(usize::MAX))
        .map(shown)
        .collect();
    crate::console::print(&lines)
}

#[derive(Debug, clap::Args)]
pub(crate) struct TagArgs {
    #[command(flatten)]
    texts: TextArgs,
    #[command(flatten)]
    flags: ModelFlags,
}

pub(crate) fn tag(args: TagArgs) -> Result<()> {
    let model = Tagger::open(&args.flags.model, decided(args.flags.compute_type))?;
    args.texts.answer(|lines| {
        let found = model.tag(lines, args.flags.long)?;
        let of_line = |(line, tokens): (&String, Vec<_>)| {
            let shown = |token: &hexapla::encode::TaggedToken| {
                // Of a tokenizer that changes its text a place may lie within a character.
                let characters =
                    |end: usize| line.char_indices().take_while(|(i, _)| *i < end).count();
                json!({
                    "word": line.get(token.bytes.clone()).unwrap_or_default(),
                    "start": characters(token.bytes.start),
                    "end": characters(token.bytes.end),
                    "entity": model.labels().get(token.class),
                    "score": number(token.score),
                })
            };
            json(&tokens.iter().map(shown).collect::<Vec<_>>())
        };
        lines.iter().zip(found).map(of_line).collect()
    })
}

#[derive(Debug, clap::Args)]
pub(crate) struct FillArgs {
    #[command(flatten)]
    texts: TextArgs,
    /// Model folder.
    #[arg(long, short)]
    model: PathBuf,
    /// Words to show for each mask.
    #[arg(long, default_value_t = 5)]
    top: usize,
    /// Arithmetic: default (what the folder is stored in), float32, bf16, int8, int4 or auto.
    #[arg(long, default_value = "default")]
    compute_type: ComputeType,
}

pub(crate) fn fill(args: FillArgs) -> Result<()> {
    if args.top == 0 {
        return Err(Error::settings("a flag is out of range")
            .at("--top")
            .expected("at least 1")
            .found("0")
            .hint("leave it out for 5"));
    }
    let model = FillMask::open(&args.model, decided(args.compute_type))?;
    args.texts.answer(|lines| {
        let found = model.fill(lines, args.top)?;
        let of_line = |masks: &Vec<Vec<hexapla::encode::Candidate>>| {
            let candidate = |c: &hexapla::encode::Candidate| json!({"token": c.id, "token_str": c.text, "score": number(c.score)});
            let of_mask = |mask: &Vec<_>| mask.iter().map(candidate).collect::<Vec<_>>();
            json(&masks.iter().map(of_mask).collect::<Vec<_>>())
        };
        found.iter().map(of_line).collect()
    })
}
