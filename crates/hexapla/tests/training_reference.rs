//! Loss, gradients, ten updates and Muon against PyTorch (`xtask/reference/training.py`).

use std::path::Path;

use hexapla::batch::TrainingRows;
use hexapla::config::{Norm, Positions, TrainingTable, TransformerConfig};
use hexapla::formats::safetensors::TensorStore;
use hexapla::model::transformer::Transformer;
use hexapla::tensor::Arena;
use hexapla::train::muon::{Muon, Shape};
use hexapla::train::shards::TrainStep;
use hexapla::weights::Weights;
use hexapla_kernels::Isa;
use serde_json::Value;

fn golden(name: &str) -> Value {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let text = std::fs::read_to_string(folder.join(format!("{name}.json"))).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn rows(v: &Value) -> Vec<Vec<u32>> {
    serde_json::from_value(v.clone()).unwrap()
}

fn check(name: &str, norm: Norm, shards: usize) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let golden = golden(&format!("training_{name}"));
    let store =
        TensorStore::open_file(&folder.join(format!("training_{name}.safetensors"))).unwrap();
    let c = &golden["config"];
    let n = |key: &str| c[key].as_u64().unwrap() as usize;
    let mut config = TransformerConfig::preset("tiny").unwrap();
    (config.source_vocab_size, config.target_vocab_size) = (29, 29);
    config.d_model = n("d_model");
    (config.encoder_layers, config.decoder_layers) = (2, 2);
    (config.encoder_heads, config.decoder_heads) = (2, 2);
    (config.encoder_feed_forward, config.decoder_feed_forward) = (24, 24);
    (config.norm, config.final_norm) = (norm, norm == Norm::Pre);
    config.positions = Positions::SinusoidalHalves;
    config.dropout = 0.0;
    let model = Transformer::new(config).unwrap();
    let mut weights = Weights::zeros(model.index().clone());
    for p in model.index().iter() {
        let values = store
            .read(&format!("initial.{}", p.name), &p.shape)
            .unwrap();
        weights.data[p.range.clone()].copy_from_slice(&values);
    }
    let mut parts = vec![TrainingRows::default(); shards];
    let (source, input, labels) = (
        rows(&golden["source"]),
        rows(&golden["decoder_input"]),
        rows(&golden["labels"]),
    );
    for i in 0..source.len() {
        let part = &mut parts[i % shards];
        part.source.push(source[i].iter().copied());
        part.target.push(input[i].iter().copied());
        part.labels.extend(&labels[i]);
    }
    let clip_norm = golden["clip_norm"].as_f64().unwrap() as f32;
    let t = TrainingTable {
        shards,
        clip_norm,
        ..TrainingTable::default()
    };
    let mut train_step = TrainStep::new(model, weights, &t);
    for (i, step) in golden["steps"].as_array().unwrap().iter().enumerate() {
        let rate = step["learning_rate"].as_f64().unwrap() as f32;
        let report = train_step
            .run(&t, i as u64 + 1, rate, &[parts.clone()])
            .unwrap();
        let close = |what: &str, found: f64| {
            let expected = step[what].as_f64().unwrap();
            assert!(
                (found / expected - 1.0).abs() < 1e-4,
                "{name} step {i} {what}: {found}, PyTorch {expected}"
            );
        };
        close("loss", report.loss);
        close("gradient_norm", report.gradient_norm);
        if i > 0 {
            continue;
        }
        for p in train_step.model.index().iter() {
            let expected = store
                .read(&format!("gradient.{}", p.name), &p.shape)
                .unwrap();
            let largest = expected.iter().fold(0.0f32, |m, v| m.max(v.abs()));
            // A key's bias has no gradient: softmax does not see what is added to all of a query's scores.
            let bound = if p.name.ends_with("key.bias") {
                1e-6
            } else {
                1e-4 * largest
            };
            for (found, expected) in train_step.gradient()[p.range.clone()].iter().zip(&expected) {
                assert!(
                    (found - expected).abs() <= bound,
                    "{name} {}: {found}, PyTorch {expected}",
                    p.name
                );
            }
        }
    }
}

#[test]
fn training_is_pytorchs() {
    for shards in [1, 2] {
        check("post_norm", Norm::Post, shards);
        check("pre_norm", Norm::Pre, shards);
    }
}

#[test]
fn muon_is_pytorchs() {
    let golden = golden("muon");
    let number = |key: &str| golden[key].as_f64().unwrap() as f32;
    let numbers = |v: &Value| serde_json::from_value::<Vec<f32>>(v.clone()).unwrap();
    let muon = Muon {
        learning_rate: number("learning_rate"),
        momentum: number("momentum"),
        weight_decay: number("weight_decay"),
        gradient_scale: 1.0,
    };
    for matrix in golden["matrices"].as_array().unwrap() {
        let n = |key: &str| matrix[key].as_u64().unwrap() as usize;
        let shape = Shape {
            rows: n("rows"),
            columns: n("columns"),
        };
        let mut weights = numbers(&matrix["initial"]);
        let mut momentum = vec![0.0; weights.len()];
        let arena = Arena::default();
        for gradient in matrix["gradients"].as_array().unwrap() {
            let gradient = numbers(gradient);
            let isa = Isa::best();
            muon.update(isa, &arena, shape, &mut weights, &mut momentum, &gradient);
        }
        for (found, expected) in weights.iter().zip(numbers(&matrix["final"])) {
            let close = (found - expected).abs() < 1e-5;
            assert!(close, "{shape:?}: {found}, PyTorch {expected}");
        }
    }
}
