//! An explanation as one JSON document, its arrays included: `hexapla-trace`.

use std::collections::{BTreeMap, VecDeque};
use std::io::Write;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde::Serialize;
use serde_json::Value;

use super::arrays::{Array, Arrays};
use super::block::{Block, Dtype, PackedArray};
use super::detail::{Detail, Kept, Part};
use super::explained::Explained;
use super::explanation::{Explanation, FORMAT, VERSION};
use super::lens::stream;
use super::likeliest::{greatest, log_sum_exp};
use crate::config::{ModelConfig, OutputConfig, StackConfig};
use crate::error::{Error, Result};
use crate::ops::relative::RelativeNumbers;
use crate::packed::PackedWeights;
use crate::weights::Kind;

/// Most bytes of a document for a page: more is slow to open.
pub const DOCUMENT_BYTES: usize = 4_780_000;
/// Digits of the numbers that are written as text.
const DIGITS: i32 = 4;
/// Units of a feed-forward network that are kept of each row where not all are.
const UNITS: usize = 32;

/// What stands in a document besides the explanation.
#[derive(Debug, Serialize)]
struct Packed<'a> {
    format: &'static str,
    version: u32,
    created_by: String,
    detail: Detail,
    arrays: &'a BTreeMap<String, PackedArray>,
    /// The arrays, compressed by gzip, in base64.
    data: String,
}

/// The document of `explained`, whose model has these `parameters`, with its arrays as closely as `most` bytes allow.
///
/// # Errors
/// None but of this library.
pub fn document(explained: &Explained, parameters: &PackedWeights, most: usize) -> Result<String> {
    let explanation = &explained.explanation;
    let config = &explanation.model.config;
    let mut text = json(explanation)?;
    shorten(&mut text);
    let text = text.to_string();
    let room = most.saturating_sub(text.len());
    let mut kept = (Detail::Nothing, Block::default(), String::new());
    for detail in Detail::ALL {
        // What gzip takes away, base64 adds about.
        let Some(mut block) = pack(&explained.trace.arrays, config, detail, room) else {
            continue;
        };
        add_frequencies(&mut block, config);
        add_relative_positions(&mut block, config, parameters, explanation);
        if detail <= Detail::Half {
            add_vectors(&mut block, parameters);
            add_rows(&mut block, parameters, explanation);
            add_matrices(&mut block, parameters, config, room / 4 * 3);
        }
        let data = compressed(&block.bytes)?;
        let names = json(&block.arrays)?.to_string().len();
        if data.len() + names <= room || detail == Detail::Nothing {
            kept = (detail, block, data);
            break;
        }
    }
    let (detail, block, data) = kept;
    let packed = Packed {
        format: FORMAT,
        version: VERSION,
        created_by: format!("hexapla {}", env!("CARGO_PKG_VERSION")),
        detail,
        arrays: &block.arrays,
        data,
    };
    let packed = json(&packed)?.to_string();
    // Two objects, one after the other, as one.
    Ok(format!("{},{}", &packed[..packed.len() - 1], &text[1..]))
}

fn json(value: &impl Serialize) -> Result<Value> {
    serde_json::to_value(value)
        .map_err(|e| Error::internal("cannot write JSON").found(e.to_string()))
}

/// Rounds all fractions to [`DIGITS`] digits: what an f32 has beyond these nobody looks at, and the page holds many.
fn shorten(value: &mut Value) {
    match value {
        Value::Number(number) if number.is_f64() => {
            let x = number.as_f64().unwrap_or_default();
            if x != 0.0 {
                let scale = 10f64.powi(DIGITS - 1 - x.abs().log10().floor() as i32);
                let rounded = (x * scale).round() / scale;
                *value = serde_json::Number::from_f64(rounded).map_or(Value::Null, Value::Number);
            }
        }
        Value::Array(values) => values.iter_mut().for_each(shorten),
        Value::Object(values) => values.values_mut().for_each(shorten),
        _ => (),
    }
}

/// The arrays at a level of detail; nothing where they are more than `most` bytes.
fn pack(arrays: &Arrays, config: &ModelConfig, detail: Detail, most: usize) -> Option<Block> {
    let streams = [stream(config, "encoder"), stream(config, "decoder")].concat();
    let kept = arrays.iter().filter_map(|(name, array)| {
        // Its upper end is among the candidates.
        let is_logits = name == "output.logits";
        let kept = detail
            .of(name, Part::of(name, arrays, &streams))
            .filter(|_| !is_logits)?;
        Some((name, array, kept))
    });
    let bytes = |(_, array, kept): &(&String, &Array, Kept)| match kept {
        Kept::As(Dtype::I8) => array.data.len(),
        Kept::As(Dtype::F16) => 2 * array.data.len(),
        Kept::As(_) => 4 * array.data.len(),
        Kept::Largest => array.shape[0] * UNITS * 6,
    };
    if kept.clone().map(|one| bytes(&one)).sum::<usize>() > most {
        return None;
    }
    let mut block = Block::default();
    for (name, array, kept) in kept {
        match kept {
            Kept::As(dtype) => block.add(name, array, dtype),
            Kept::Largest => add_largest(&mut block, name, array),
        }
        if let Some(attention) = name.strip_suffix(".weights") {
            // A weight's logarithm and this are its score.
            if let Some(scores) = arrays.get(&format!("{attention}.scores")) {
                let sums = sums_of(scores);
                block.add(&format!("{attention}.log_sum_exp"), &sums, Dtype::F32);
            }
        }
    }
    Some(block)
}

/// The greatest units of each row: their indices, and their numbers.
fn add_largest(block: &mut Block, name: &str, array: &Array) {
    let (rows, width) = (array.shape[0], array.shape[1]);
    let count = UNITS.min(width);
    let rows_of = array.data.chunks_exact(width.max(1));
    let largest: Vec<(u32, f32)> = rows_of.flat_map(|row| greatest(row, count)).collect();
    let of = |numbers: Vec<f32>| Array {
        shape: vec![rows, count],
        data: numbers,
    };
    let units = of(largest.iter().map(|(unit, _)| *unit as f32).collect());
    let numbers = of(largest.iter().map(|(_, x)| *x).collect());
    let active = array.data.chunks_exact(width.max(1));
    let active = active.map(|row| row.iter().filter(|x| **x > 0.0).count() as f32);
    let active = Array {
        shape: vec![rows],
        data: active.collect(),
    };
    block.add(&format!("{name}.units"), &units, Dtype::I32);
    block.add(&format!("{name}.largest"), &numbers, Dtype::F16);
    block.add(&format!("{name}.active"), &active, Dtype::I32);
}

/// ln Σ exp(score) of each head and query.
fn sums_of(scores: &Array) -> Array {
    let keys = scores.shape[2].max(1);
    Array {
        shape: scores.shape[..2].to_vec(),
        data: scores.data.chunks_exact(keys).map(log_sum_exp).collect(),
    }
}

/// Biases and norms.
fn add_vectors(block: &mut Block, parameters: &PackedWeights) {
    for (id, parameter) in parameters.index().ids() {
        if matches!(parameter.kind, Kind::Vector(_)) && parameter.name != "output.bias" {
            let array = Array {
                shape: parameter.shape.clone(),
                data: parameters.plain(id).to_vec(),
            };
            block.add(&parameter.name, &array, Dtype::F16);
        }
    }
}

/// By which angles the decoder turns pairs of queries and keys from one position to the next.
fn add_frequencies(block: &mut Block, config: &ModelConfig) {
    let layers = config.decoder.iter().flat_map(|stack| &stack.layers);
    let Some(rotary) = layers
        .filter_map(|layer| layer.self_attention.rotary)
        .next()
    else {
        return;
    };
    let angles: Vec<f32> = rotary.frequencies().iter().map(|f| *f as f32).collect();
    let array = Array {
        shape: vec![angles.len()],
        data: angles,
    };
    block.add("decoder.rotary.frequencies", &array, Dtype::F32);
}

/// What self-attention adds to its scores, for each head and each distance from a text's first key to its last: that of no distance
/// stands in the middle.
fn add_relative_positions(
    block: &mut Block,
    config: &ModelConfig,
    parameters: &PackedWeights,
    explanation: &Explanation,
) {
    for (name, stack, text) in [
        ("encoder", &config.encoder, &explanation.source),
        ("decoder", &config.decoder, &explanation.target),
    ] {
        let numbers = stack.as_ref();
        let numbers = numbers.and_then(|stack| RelativeNumbers::of(name, stack, parameters));
        let Some(numbers) = numbers else { continue };
        let most = text.len() as isize;
        let of_head = |head| (-most..=most).map(move |distance| (head, distance));
        let all = (0..numbers.heads()).flat_map(of_head);
        let array = Array {
            shape: vec![numbers.heads(), 2 * text.len() + 1],
            data: all
                .map(|(head, distance)| numbers.at(head, distance))
                .collect(),
        };
        block.add(&format!("{name}.relative_positions"), &array, Dtype::F32);
    }
}

/// The rows of the tables of tokens that the text needs: those of its tokens, and of the likeliest at each step.
fn add_rows(block: &mut Block, parameters: &PackedWeights, explanation: &Explanation) {
    let config = &explanation.model.config;
    let table = |stack: &Option<StackConfig>| stack.as_ref().map(|stack| stack.embedding.table);
    let mut wanted: Vec<(&str, Vec<u32>)> = Vec::new();
    let mut want = |name: Option<&'static str>, ids: Vec<u32>| {
        let Some(name) = name else { return };
        match wanted.iter_mut().find(|(other, _)| *other == name) {
            Some((_, all)) => all.extend(ids),
            None => wanted.push((name, ids)),
        }
    };
    want(table(&config.encoder), explanation.source.clone());
    want(table(&config.decoder), explanation.target.clone());
    let head = config.head.as_ref().and_then(|head| match &head.output {
        Some(OutputConfig::Tokens { table, .. }) => Some(*table),
        _ => None,
    });
    let candidates = explanation.candidates.iter();
    let likeliest = candidates.flat_map(|row| row.tokens.iter().take(5).map(|(id, _)| *id));
    want(head, likeliest.collect());
    let chosen = explanation.output.iter().map(|token| token.id);
    want(head, chosen.collect());
    for (name, mut ids) in wanted {
        ids.sort_unstable();
        ids.dedup();
        let Some(id) = parameters.index().find(name) else {
            continue;
        };
        let width = parameters.index().get(id).shape[1];
        let mut scratch = vec![0.0; width];
        let mut data = Vec::with_capacity(ids.len() * width);
        for row in &ids {
            data.extend(parameters.row(id, *row as usize, &mut scratch));
        }
        let ids_array = Array {
            shape: vec![ids.len()],
            data: ids.iter().map(|id| *id as f32).collect(),
        };
        let rows = Array {
            shape: vec![ids.len(), width],
            data,
        };
        block.add(&format!("{name}.ids"), &ids_array, Dtype::I32);
        block.add(name, &rows, Dtype::I8);
    }
}

/// The matrices of as many layers as there is room for, `[out, in]`: those of the last layer of the decoder first, then of the
/// first layer of the encoder, and so on.
fn add_matrices(block: &mut Block, parameters: &PackedWeights, config: &ModelConfig, most: usize) {
    let count = |stack: &Option<StackConfig>| stack.as_ref().map_or(0, |stack| stack.layers.len());
    let encoder = (0..count(&config.encoder)).map(|i| format!("encoder.layers.{i}."));
    let decoder = (0..count(&config.decoder)).rev();
    let decoder = decoder.map(|i| format!("decoder.layers.{i}."));
    let mut encoder = encoder.collect::<VecDeque<_>>();
    let mut layers = Vec::new();
    for layer in decoder {
        layers.push(layer);
        layers.extend(encoder.pop_front());
    }
    layers.extend(encoder);
    for layer in layers {
        let matrices: Vec<_> = parameters
            .index()
            .ids()
            .filter(|(_, p)| p.kind == Kind::Weight && p.name.starts_with(&layer))
            .collect();
        let bytes: usize = matrices
            .iter()
            .map(|(_, p)| p.shape.iter().product::<usize>())
            .sum();
        if block.bytes.len() + bytes > most {
            break;
        }
        for (id, parameter) in matrices {
            let [rows, columns] = parameter.shape[..] else {
                continue;
            };
            let mut scratch = vec![0.0; rows];
            let mut data = Vec::with_capacity(rows * columns);
            for column in 0..columns {
                data.extend(parameters.row(id, column, &mut scratch));
            }
            let array = Array {
                shape: vec![columns, rows],
                data,
            };
            block.add(&parameter.name, &array, Dtype::I8);
        }
    }
}

fn compressed(bytes: &[u8]) -> Result<String> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    let written = encoder.write_all(bytes).and_then(|()| encoder.finish());
    let written =
        written.map_err(|e| Error::internal("cannot compress arrays").found(e.to_string()))?;
    Ok(STANDARD.encode(written))
}
