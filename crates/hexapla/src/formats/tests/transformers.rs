//! The way back: transformers computes with our folders what it computed with its own.

use serde_json::json;

use super::*;
use crate::config::ComputeType;
use crate::generate::engine::Engine;

#[test]
#[ignore = "needs Python with transformers: set HEXAPLA_PYTHON"]
fn transformers_opens_ours() {
    for name in GOLDEN.into_iter().filter(|name| *name != "m2m_untied") {
        let model = open(&golden(name)).unwrap();
        let folder = tempfile::tempdir().unwrap();
        save_as(
            folder.path(),
            model.encoder_decoder().unwrap(),
            &model.weights().unwrap(),
            &model.generation,
        );
        agrees_with_golden(folder.path(), name);
    }
}

/// The same numbers in an output table of its own, and without a bias: both must change nothing but the layout.
#[test]
#[ignore = "needs Python with transformers: set HEXAPLA_PYTHON"]
fn transformers_opens_what_only_we_write() {
    for name in ["marian_shared", "m2m_tied"] {
        let model = open(&golden(name)).unwrap();
        let config = TransformerConfig {
            tie_output: false,
            ..model.encoder_decoder().unwrap().clone()
        };
        let mut weights = Weights::zeros(register(&config).unwrap());
        let old = model.weights().unwrap();
        copy_values(&old, &mut weights);
        let table = old.get(old.index.find("embedding.weight").unwrap());
        let output = weights.index.find("output.weight").unwrap();
        weights.get_mut(output).copy_from_slice(table);
        let folder = tempfile::tempdir().unwrap();
        save_as(folder.path(), &config, &weights, &model.generation);
        agrees_with_golden(folder.path(), name);
    }
    let model = open(&golden("marian_separate")).unwrap();
    let mut old = model.weights().unwrap();
    let bias = old.index.find("output.bias").unwrap();
    old.get_mut(bias).fill(0.0);
    let config = TransformerConfig {
        output_bias: false,
        ..model.encoder_decoder().unwrap().clone()
    };
    let mut weights = Weights::zeros(register(&config).unwrap());
    copy_values(&old, &mut weights);
    let (zero, none) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    save_as(
        zero.path(),
        model.encoder_decoder().unwrap(),
        &old,
        &model.generation,
    );
    save_as(none.path(), &config, &weights, &model.generation);
    let request = json!({"input_ids": [[3, 4, 1]], "decoder_input_ids": [[43, 5]]});
    assert_eq!(ask(zero.path(), &request), ask(none.path(), &request));
}

/// With padding within the inputs, which no text gives: in M2M-100 it has no position and does not count, in Marian it does.
#[test]
#[ignore = "needs Python with transformers: set HEXAPLA_PYTHON"]
fn padding_counts_as_in_transformers() {
    for name in ["m2m_tied", "m2m_odd_pad", "marian_shared"] {
        let model = open(&golden(name)).unwrap();
        let c = model.encoder_decoder().unwrap();
        let (pad, start) = (c.pad_token_id, c.decoder_start_token_id);
        let source = vec![vec![5, pad, 6, 9], vec![pad, pad, 7], vec![8, 5, pad]];
        let target = vec![
            vec![start, 7, pad, 8],
            vec![start, pad, 9],
            vec![start, 5, 6],
        ];
        let packed = model.pack(ComputeType::Float32).unwrap();
        let engine = Engine::new(model.model().clone(), packed);
        let ours = json!(engine.logits(&source, &target).unwrap());
        let request = json!({"input_ids": source, "decoder_input_ids": target});
        close(&ours, &ask(&golden(name), &request)["logits"], name);
    }
}

fn copy_values(from: &Weights, to: &mut Weights) {
    for parameter in from.index.iter() {
        if let Some(id) = to.index.find(&parameter.name) {
            to.get_mut(id)
                .copy_from_slice(&from.data[parameter.range.clone()]);
        }
    }
}

fn agrees_with_golden(folder: &Path, name: &str) {
    let golden: Value =
        serde_json::from_slice(&fs::read(golden(name).join("golden.json")).unwrap()).unwrap();
    let beam = golden["generate"]
        .as_array()
        .unwrap()
        .iter()
        .find(|run| run["name"] == "beam")
        .unwrap();
    let expected = &golden["logits"];
    let request = json!({"input_ids": expected["input_ids"], "decoder_input_ids": expected["decoder_input_ids"]});
    close(&ask(folder, &request)["logits"], &expected["logits"], name);
    // `generate` by the folder's own defaults, which are four beams in every golden folder.
    let rows = expected["decoder_input_ids"].as_array().unwrap().len();
    let inputs: Vec<_> = beam["inputs"]
        .as_array()
        .unwrap()
        .iter()
        .take(rows)
        .cloned()
        .collect();
    let generated = ask(
        folder,
        &json!({"input_ids": inputs, "decoder_input_ids": expected["decoder_input_ids"]}),
    );
    for row in 0..rows {
        assert_eq!(
            generated["sequences"][row], beam["sequences"][row],
            "{name}"
        );
        close(&generated["scores"][row], &beam["scores"][row], name);
    }
}

fn ask(folder: &Path, request: &Value) -> Value {
    let python = std::env::var("HEXAPLA_PYTHON")
        .expect("HEXAPLA_PYTHON names a Python that has transformers");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../xtask/reference/roundtrip.py");
    let input = tempfile::NamedTempFile::new().unwrap();
    fs::write(input.path(), request.to_string()).unwrap();
    let run = std::process::Command::new(python)
        .arg(script)
        .arg(folder)
        .arg(input.path())
        .output()
        .unwrap();
    assert!(
        run.status.success(),
        "{}",
        String::from_utf8_lossy(&run.stderr)
    );
    serde_json::from_slice(&run.stdout).unwrap()
}

/// Whether the numbers of `a` and `b` are equal within 1e-4 of the largest: processors add up in different orders.
fn close(a: &Value, b: &Value, name: &str) {
    let (a, b) = (numbers(a), numbers(b));
    assert_eq!(a.len(), b.len(), "{name}");
    let largest = b.iter().fold(1.0f64, |most, x| most.max(x.abs()));
    for (a, b) in a.iter().zip(&b) {
        assert!((a - b).abs() <= 1e-4 * largest, "{name}: {a} is not {b}");
    }
}

fn numbers(value: &Value) -> Vec<f64> {
    match value {
        Value::Array(items) => items.iter().flat_map(numbers).collect(),
        _ => vec![value.as_f64().unwrap()],
    }
}
