//! What each head of a translator does on a corpus: where it looks, and what it is worth.

use std::collections::BTreeSet;

use rayon::prelude::*;
use serde::Serialize;

use super::arrays::Arrays;
use super::edits::Edits;
use super::influence::{Given, heads_of};
use super::trace::{TraceInput, trace};
use crate::error::Result;
use crate::generate::translator::Translator;

/// A head, over all query tokens of a corpus. Weights are means; each query's weights sum to 1.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct HeadStatistics {
    /// Its attention, such as `encoder.layers.0.self_attention`.
    pub attention: String,
    /// Which of its heads, from 0.
    pub head: usize,
    /// Weight on the token before the query's own. In cross-attention, whose keys are another text, there is none; so for the next
    /// two.
    pub previous: Option<f32>,
    /// Weight on the query's own token.
    pub own: Option<f32>,
    /// Weight on the token behind it.
    pub next: Option<f32>,
    /// Weight on special tokens, such as the end token: where heads look that have nothing to look for.
    pub special: f32,
    /// Of the weights, in bits: 0 looks at one token alone.
    pub entropy: f32,
    /// How much −ln p of an output token grows where the head is off.
    pub loss: f32,
}

/// Sums over queries.
#[derive(Debug, Clone, Default)]
struct Sums {
    queries: f64,
    /// Weights before, on and behind the query's own token, and on special ones.
    weights: [f64; 4],
    entropy: f64,
    /// Of the changes of ln p, and how many these are.
    change: f64,
    outputs: f64,
}

impl Sums {
    fn add(&mut self, other: &Sums) {
        self.queries += other.queries;
        for (sum, more) in self.weights.iter_mut().zip(other.weights) {
            *sum += more;
        }
        self.entropy += other.entropy;
        self.change += other.change;
        self.outputs += other.outputs;
    }
}

/// The heads of `translator` on `pairs`: source ids with their end token and what stands around them, and target ids without an end
/// token, as [`Translator::pair_ids`] gives them.
///
/// # Errors
/// An id or a length out of range.
pub fn head_statistics(
    translator: &Translator,
    pairs: &[(Vec<u32>, Vec<u32>)],
) -> Result<Vec<HeadStatistics>> {
    let engine = translator.engine();
    let heads = heads_of(&engine.model().assembly().model());
    let of_pair = |(number, pair): (usize, &(Vec<u32>, Vec<u32>))| {
        sums_of(translator, &heads, pair).map_err(|e| e.in_item(number))
    };
    let found: Vec<Result<Vec<Sums>>> = pairs.par_iter().enumerate().map(of_pair).collect();
    let mut all = vec![Sums::default(); heads.len()];
    for sums in found {
        for (all, sums) in all.iter_mut().zip(sums?) {
            all.add(&sums);
        }
    }
    let statistics = |((attention, head), sums): ((String, usize), Sums)| {
        let queries = sums.queries.max(1.0);
        let [previous, own, next, special] = sums.weights.map(|w| (w / queries) as f32);
        let is_self = attention.ends_with(".self_attention");
        HeadStatistics {
            previous: is_self.then_some(previous),
            own: is_self.then_some(own),
            next: is_self.then_some(next),
            special,
            entropy: (sums.entropy / queries) as f32,
            loss: (-sums.change / sums.outputs.max(1.0)) as f32,
            attention,
            head,
        }
    };
    Ok(heads.into_iter().zip(all).map(statistics).collect())
}

/// What one pair says of each of `heads`.
fn sums_of(
    translator: &Translator,
    heads: &[(String, usize)],
    (source, target): &(Vec<u32>, Vec<u32>),
) -> Result<Vec<Sums>> {
    let engine = translator.engine();
    let (model, parameters, config) = (engine.model(), engine.parameters(), engine.config());
    let mut rows = vec![config.decoder_start_token_id];
    rows.extend(target);
    let mut output = target.clone();
    output.push(config.eos_token_id);
    let input = TraceInput {
        source: source.clone(),
        target: Some(rows.clone()),
        ..TraceInput::default()
    };
    let arrays = trace(model, parameters, &input, &Edits::default())?.arrays;
    let given = Given {
        model,
        parameters,
        source,
        target: &rows,
        output: &output,
    };
    let (_, changes) = given.without_each(heads.to_vec());
    let special = |ids: &[u32], is_source: bool| -> BTreeSet<usize> {
        let rows = ids.iter().enumerate();
        rows.filter(|(_, id)| !translator.is_text(**id, is_source))
            .map(|(row, _)| row)
            .collect()
    };
    let special = [special(source, true), special(&rows, false)];
    let sums = changes.iter().map(|change| {
        let looks_at_target = change.attention.starts_with("decoder.")
            && change.attention.ends_with(".self_attention");
        let mut sums = weights_of(&arrays, change, &special[usize::from(looks_at_target)]);
        sums.change = change.change.iter().map(|c| f64::from(*c)).sum();
        sums.outputs = change.change.len() as f64;
        sums
    });
    Ok(sums.collect())
}

/// Where a head looks in one pass.
fn weights_of(
    arrays: &Arrays,
    head: &super::influence::HeadInfluence,
    special: &BTreeSet<usize>,
) -> Sums {
    let mut sums = Sums::default();
    let Some(weights) = arrays.get(&format!("{}.weights", head.attention)) else {
        return sums;
    };
    for query in 0..weights.shape[1] {
        let row = weights.row(&[head.head, query]);
        sums.queries += 1.0;
        for (key, weight) in row.iter().map(|w| f64::from(*w)).enumerate() {
            let place = match (key + 1).checked_sub(query) {
                Some(place @ 0..=2) => Some(place),
                _ => None,
            };
            if let Some(place) = place {
                sums.weights[place] += weight;
            }
            if special.contains(&key) {
                sums.weights[3] += weight;
            }
            if weight > 0.0 {
                sums.entropy -= weight * weight.log2();
            }
        }
    }
    sums
}
