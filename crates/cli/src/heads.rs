//! `hexapla heads`

use std::path::PathBuf;

use hexapla::config::ComputeType;
use hexapla::error::{Error, Result};
use hexapla::explain::{HeadStatistics, head_statistics};
use hexapla::files::write_atomically;
use hexapla::text::corpus::SentencePairs;

use crate::console::{print, say};
use crate::embed::json;
use crate::language::LanguageFlags;

#[derive(Debug, clap::Args)]
pub(crate) struct HeadsArgs {
    /// Model folder; the embedded model where absent.
    #[arg(long, short)]
    model: Option<PathBuf>,
    /// Sentence pairs: source and target, tab-separated.
    #[arg(long)]
    tsv: PathBuf,
    /// Swap the two sides of --tsv.
    #[arg(long)]
    reverse: bool,
    #[command(flatten)]
    language: LanguageFlags,
    /// Pairs that are looked at, evenly drawn from the file.
    #[arg(long, default_value_t = 200)]
    pairs: usize,
    /// Write the figures here too, as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Arithmetic: default (what the folder is stored in), float32, bf16, int8, int4 or auto.
    #[arg(long, default_value = "default")]
    compute_type: ComputeType,
}

pub(crate) fn run(args: HeadsArgs) -> Result<()> {
    if args.pairs == 0 {
        return Err(Error::settings("a flag is out of range")
            .at("--pairs")
            .expected("at least 1")
            .found("0")
            .hint("leave it out for 200"));
    }
    let corpus = SentencePairs::from_tsv(&args.tsv, args.reverse)?;
    let model = crate::model::open(args.model.as_deref(), args.compute_type)?;
    let direction = args.language.direction(&model)?;
    // Evenly from the whole file, which may be sorted.
    let count = args.pairs.min(corpus.len());
    let lines: Vec<usize> = (0..count).map(|i| i * corpus.len() / count).collect();
    let pair = |line: &usize| (corpus.source[*line].as_str(), corpus.target[*line].as_str());
    let name = args.tsv.display().to_string();
    let ids = model.pair_ids(lines.iter().map(pair), Some(&direction));
    let ids = ids.map_err(|e| e.within(&name))?;
    let most = model.engine().max_tokens();
    let fits = |(_, (source, target)): &(usize, (Vec<u32>, Vec<u32>))| {
        source.len().max(target.len() + 1) <= most && !target.is_empty()
    };
    let (lines, ids): (Vec<usize>, Vec<_>) = lines.into_iter().zip(ids).filter(fits).unzip();
    if ids.len() < count {
        say(format_args!(
            "note: {} of {count} pairs are left out: empty, or longer than the model takes",
            count - ids.len()
        ));
    }
    if ids.is_empty() {
        return Err(Error::input("there is no pair to look at")
            .at(name)
            .expected("pairs of at most as many tokens as the model takes")
            .found("none")
            .hint("cut long lines into sentences"));
    }
    let found = head_statistics(&model, &ids).map_err(|e| {
        e.item_as(|n| format!("line {}", lines.get(n).map_or(n, |line| line + 1)))
            .within(&name)
    })?;
    if let Some(path) = &args.json {
        let text = json(&found)?;
        write_atomically(path, |writer| writer.write_all(text.as_bytes()))?;
    }
    print(&table(&found))
}

/// Tab-separated, a line for each head.
fn table(heads: &[HeadStatistics]) -> Vec<String> {
    let share = |x: Option<f32>| x.map_or("-".to_string(), |x| format!("{x:.3}"));
    let line = |h: &HeadStatistics| {
        format!(
            "{}\t{}\t{}\t{}\t{}\t{:.3}\t{:.3}\t{:+.4}",
            h.attention,
            h.head + 1,
            share(h.previous),
            share(h.own),
            share(h.next),
            h.special,
            h.entropy,
            h.loss
        )
    };
    let header = "attention\thead\t-1\t0\t+1\tspecial\tentropy\tloss when off";
    std::iter::once(header.to_string())
        .chain(heads.iter().map(line))
        .collect()
}
