//! What the model would say if it stopped after a sublayer ("logit lens").

use serde::Serialize;

use super::arrays::Arrays;
use super::likeliest::likeliest;
use crate::config::{ModelConfig, Norm, OutputConfig};
use crate::model::transformer::Transformer;
use crate::ops::Run;
use crate::packed::PackedWeights;
use crate::tensor::Arena;

/// The likeliest tokens after each sublayer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LensRow {
    /// The value that the output layer was given, such as `decoder.layers.0.self_attention.sum`.
    pub name: String,
    /// For each row the likeliest tokens with their log-probabilities.
    pub tokens: Vec<Vec<(u32, f32)>>,
}

/// Puts the last norm and the output layer behind the embedding and each sublayer of the decoder, or of an encoder alone. Where the
/// stack has a last norm, it is computed anew for each: a row's own mean and variance. The last entry is the model's own output.
/// Nothing for a model without logits over a vocabulary.
pub(super) fn lens(
    model: &Transformer,
    parameters: &PackedWeights,
    arrays: &Arrays,
    count: usize,
) -> Vec<LensRow> {
    let arena = Arena::default();
    let mut run = Run::inference(&arena, parameters).alone(true);
    let config = model.assembly().model();
    let output = config.head.as_ref().and_then(|head| head.output.as_ref());
    let names = match (output, &config.decoder) {
        (Some(OutputConfig::Tokens { .. }), Some(_)) => stream(&config, "decoder"),
        (Some(OutputConfig::Tokens { .. }), None) => stream(&config, "encoder"),
        _ => Vec::new(),
    };
    let rows = names.into_iter().filter_map(|name| {
        let array = arrays.get(&name)?;
        let [rows, columns] = array.shape[..] else {
            return None;
        };
        let mut x = run.tensor(rows, columns);
        x.data_mut().copy_from_slice(&array.data);
        let logits = model.logits_after(&mut run, &x);
        let tokens = (0..rows)
            .map(|row| likeliest(logits.row(row), count).tokens)
            .collect();
        Some(LensRow { name, tokens })
    });
    rows.collect()
}

/// The values between the sublayers of `half` (`encoder` or `decoder`), from the embedding up: what each sublayer is given and adds
/// to.
pub(super) fn stream(model: &ModelConfig, half: &str) -> Vec<String> {
    let stack = match half {
        "encoder" => &model.encoder,
        _ => &model.decoder,
    };
    let Some(stack) = stack else {
        return Vec::new();
    };
    let mut names = vec![embedded(model, half)];
    for (i, layer) in stack.layers.iter().enumerate() {
        let cross = layer.cross_attention.map(|_| "cross_attention");
        let sublayers = [Some("self_attention"), cross, Some("feed_forward")];
        for sublayer in sublayers.into_iter().flatten() {
            let end = match layer.order {
                Norm::Pre => ".sum",
                Norm::Post => "_norm",
            };
            names.push(format!("{half}.layers.{i}.{sublayer}{end}"));
        }
    }
    names
}

/// The last value of the embedding of `half`: what the first layer is given.
fn embedded(model: &ModelConfig, half: &str) -> String {
    let stack = match half {
        "encoder" => &model.encoder,
        _ => &model.decoder,
    };
    let embedding = stack.as_ref().map(|stack| &stack.embedding);
    let end = match embedding {
        Some(e) if e.width != model.d_model => "embedding_projection",
        Some(e) if e.norm.is_some() => "embedding_norm",
        Some(e) if e.segments > 0 => "embedding.with_segments",
        _ => "embedding.sum",
    };
    format!("{half}.{end}")
}
