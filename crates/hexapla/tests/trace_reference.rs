//! Attentions and hidden states are those of transformers (`xtask/reference/traces.py`).

use std::fs;
use std::path::{Path, PathBuf};

use hexapla::config::{Assembly, ComputeType, ModelConfig, Norm};
use hexapla::explain::{Array, Edits, Trace, TraceInput, trace};
use hexapla::formats;
use serde_json::Value;

/// Distance that is allowed, beside the size of the largest number.
const BOUND: f32 = 1e-4;

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// All numbers of nested lists, in order.
fn numbers(value: &Value) -> Vec<f32> {
    match value {
        Value::Array(values) => values.iter().flat_map(numbers).collect(),
        number => vec![number.as_f64().unwrap() as f32],
    }
}

fn compare(found: &Array, expected: &Value, what: &str) {
    let expected = numbers(expected);
    assert_eq!(
        found.data.len(),
        expected.len(),
        "{what}: {:?}",
        found.shape
    );
    let largest = expected.iter().fold(1.0f32, |a, b| a.max(b.abs()));
    for (a, b) in found.data.iter().zip(&expected) {
        assert!((a - b).abs() <= BOUND * largest, "{what}: {a} {b}");
    }
}

/// The values between the layers of a half: what transformers calls its hidden states.
fn states<'a>(trace: &'a Trace, config: &ModelConfig, half: &str) -> Vec<&'a Array> {
    let stack = match half {
        "encoder" => config.encoder.as_ref(),
        _ => config.decoder.as_ref(),
    };
    let stack = stack.unwrap();
    let get = |name: String| &trace.arrays[&name];
    let first = [
        "embedding_projection",
        "embedding_norm",
        "embedding.with_segments",
        "embedding.sum",
    ];
    let first = first.iter().map(|end| format!("{half}.{end}"));
    let first = first.clone().find(|name| trace.arrays.contains_key(name));
    let mut found = vec![get(first.unwrap())];
    for (i, layer) in stack.layers.iter().enumerate() {
        let end = match layer.order {
            Norm::Pre => "feed_forward.sum",
            Norm::Post => "feed_forward_norm",
        };
        found.push(get(format!("{half}.layers.{i}.{end}")));
    }
    if stack.norm.is_some() {
        // transformers gives the last one after the last norm.
        let last = found.len() - 1;
        found[last] = get(format!("{half}.norm"));
    }
    found
}

#[test]
fn attentions_and_hidden_states_are_those_of_transformers() {
    let mut compared = 0;
    for entry in fs::read_dir(golden().join("traces")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        let expected: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        let folder = match golden().join(name) {
            folder if folder.exists() => folder,
            _ => golden().join("encoders").join(name),
        };
        let opened = formats::open(&folder).unwrap();
        let parameters = opened.pack(ComputeType::Float32).unwrap();
        let ids = |field: &str| -> Option<Vec<u32>> {
            serde_json::from_value(expected[field].clone()).unwrap()
        };
        let input = TraceInput {
            source: ids("input_ids").unwrap(),
            segments: ids("token_type_ids").unwrap_or_default(),
            target: ids("decoder_input_ids"),
            ..TraceInput::default()
        };
        let has_decoder = matches!(opened.assembly, Assembly::EncoderDecoder(_));
        assert_eq!(input.target.is_some(), has_decoder, "{name}");
        let found = trace(opened.model(), &parameters, &input, &Edits::default()).unwrap();
        let config = opened.assembly.model();
        for (field, half, attention) in [
            ("encoder_attentions", "encoder", "self_attention"),
            ("decoder_attentions", "decoder", "self_attention"),
            ("cross_attentions", "decoder", "cross_attention"),
        ] {
            let layers = expected[field].as_array();
            for (i, layer) in layers.into_iter().flatten().enumerate() {
                let of = format!("{half}.layers.{i}.{attention}.weights");
                compare(&found.arrays[&of], layer, &format!("{name} {of}"));
                compared += 1;
            }
        }
        for half in ["encoder", "decoder"] {
            let Some(layers) = expected[format!("{half}_hidden_states")].as_array() else {
                continue;
            };
            let states = states(&found, &config, half);
            assert_eq!(states.len(), layers.len(), "{name} {half}");
            for (i, (state, layer)) in states.iter().zip(layers).enumerate() {
                compare(state, layer, &format!("{name} {half} {i}"));
                compared += 1;
            }
        }
    }
    assert!(compared > 100, "{compared}");
}
