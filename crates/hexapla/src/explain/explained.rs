//! An explanation with its arrays, and what all explanations are put together of.

use std::collections::{BTreeMap, BTreeSet};

use super::explanation::{Candidates, Explanation, ModelDescription, Sides};
use super::likeliest::likeliest;
use super::neighbours::{Neighbours, neighbours};
use super::trace::Trace;
use crate::config::ModelConfig;
use crate::error::{Error, Result};
use crate::formats::{Family, ManifestMetric};
use crate::generate::Hypothesis;
use crate::model::transformer::Transformer;
use crate::packed::PackedWeights;

/// Tokens that are shown of each distribution.
pub(super) const CANDIDATES: usize = 20;
/// Tokens that are shown after each sublayer.
pub(super) const LENS: usize = 5;
/// Rows of the embedding that are shown beside a token's own.
const NEIGHBOURS: usize = 10;

/// An explanation with its arrays.
#[derive(Debug, Clone, PartialEq)]
pub struct Explained {
    /// All but the arrays.
    pub explanation: Explanation,
    /// Every value of the pass.
    pub trace: Trace,
}

/// The likeliest tokens of each row of the logits called `name`.
pub(super) fn candidates(trace: &Trace, name: &str) -> Vec<Candidates> {
    let Some(logits) = trace.arrays.get(name) else {
        return Vec::new();
    };
    let vocab = logits.shape.last().copied().unwrap_or(1);
    logits
        .data
        .chunks_exact(vocab.max(1))
        .map(|row| {
            let found = likeliest(row, CANDIDATES);
            Candidates {
                log_sum_exp: found.log_sum_exp,
                tokens: found.tokens,
            }
        })
        .collect()
}

/// The embedding's table of the source, or of the target.
pub(super) fn table(config: &ModelConfig, target: bool) -> Option<&str> {
    let stack = match target {
        true => &config.decoder,
        false => &config.encoder,
    };
    stack.as_ref().map(|stack| stack.embedding.table)
}

/// What `model` is; `told` are its family and what its folder tells of its quality.
pub(super) fn describe(
    model: &Transformer,
    parameters: &PackedWeights,
    name: &str,
    told: (Family, &[ManifestMetric]),
) -> ModelDescription {
    ModelDescription {
        name: name.to_string(),
        family: told.0.to_string(),
        compute_type: parameters.compute_type().to_string(),
        parameters: model.index().len(),
        metrics: told.1.iter().map(metric).collect(),
        config: model.assembly().model(),
    }
}

/// The ids that occur, in their order.
pub(super) fn distinct(ids: &[u32]) -> Vec<u32> {
    let ids: BTreeSet<u32> = ids.iter().copied().collect();
    ids.into_iter().collect()
}

/// The neighbours of each of `ids` in the table of this name, if there is one.
pub(super) fn near(
    model: &Transformer,
    parameters: &PackedWeights,
    table: Option<&str>,
    ids: &[u32],
) -> BTreeMap<u32, Neighbours> {
    let table = table.and_then(|name| model.index().find(name));
    table.map_or_else(BTreeMap::new, |table| {
        neighbours(parameters, table, &distinct(ids), NEIGHBOURS)
    })
}

/// As people write it: `BLEU 41.0`.
fn metric(metric: &ManifestMetric) -> String {
    format!("{} {:.1}", metric.name, metric.value)
}

/// All ids that an explanation mentions.
pub(super) fn ids_of(e: &Explanation) -> Sides<BTreeSet<u32>> {
    let near = |neighbours: &BTreeMap<u32, Neighbours>| -> BTreeSet<u32> {
        let of = neighbours.iter().flat_map(|(id, near)| {
            std::iter::once(*id).chain(near.nearest.iter().map(|(id, _)| *id))
        });
        of.collect()
    };
    let mut source = near(&e.neighbours.source);
    source.extend(&e.source);
    let mut target = near(&e.neighbours.target);
    target.extend(&e.target);
    target.extend(e.output.iter().map(|token| token.id));
    let candidates = e.candidates.iter().flat_map(|row| &row.tokens);
    target.extend(candidates.map(|(id, _)| *id));
    let lens = e.lens.iter().flat_map(|row| row.tokens.iter().flatten());
    target.extend(lens.map(|(id, _)| *id));
    let nodes = e.search.iter().flat_map(|tree| &tree.nodes);
    target.extend(nodes.map(|node| node.id));
    target.extend(e.contrast.iter().map(|contrast| contrast.instead));
    Sides { source, target }
}

/// The best of what a search found.
pub(super) fn first_output(found: Vec<Hypothesis>) -> Result<Hypothesis> {
    let best = found.into_iter().next();
    best.filter(|output| !output.ids.is_empty()).ok_or_else(|| {
        Error::input("the model has no output for this text")
            .at("the text")
            .expected("a token that its constraints allow")
            .found("none")
            .hint("look at generation_config.json: what it suppresses and forces")
    })
}

/// There is nothing to explain, or not so many sentences.
pub(super) fn no_sentence(wanted: usize, count: usize) -> Error {
    match count {
        0 => Error::input("there is no text to explain")
            .at("the text")
            .expected("a sentence")
            .found("nothing that the model could read")
            .hint("give a sentence in quotes: hexapla explain \"Good morning.\""),
        _ => Error::input("the text has no such sentence")
            .at("--sentence")
            .expected(format!("1 to {count}"))
            .found((wanted + 1).to_string())
            .hint("the sentences are counted from 1"),
    }
}
