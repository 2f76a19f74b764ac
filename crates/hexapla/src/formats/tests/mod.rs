//! Folders of transformers, our own, and damaged ones. The first come from `xtask/reference/folders.py`.

mod damage;
mod folders;
mod store;
mod stored;
mod transformers;

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use super::family::Family;
use super::generation::GenerationDefaults;
use super::manifest::{MANIFEST_FILE, ManifestFields};
use super::safetensors::{INDEX_FILE, NamedTensor, TensorStore, WEIGHTS_FILE, write_tensors};
use super::stored::Storage;
use super::*;
use crate::config::TransformerConfig;
use crate::config::{Norm, Positions};
use crate::error::Result;
use crate::model::transformer::Transformer;
use crate::weights::{Kind, ParameterIndex, Weights};

/// The parameters of a configuration.
fn register(config: &TransformerConfig) -> Result<Arc<ParameterIndex>> {
    Ok(Transformer::new(config.clone())?.index().clone())
}

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name)
}

const GOLDEN: [&str; 12] = [
    "marian_shared",
    "marian_old",
    "marian_separate",
    "marian_untied",
    "m2m_tied",
    "m2m_odd_pad",
    "m2m_untied",
    "bart_small",
    "mbart_small",
    "t5_first",
    "t5_gated",
    "mt5_small",
];

/// A copy of a golden folder to damage.
fn copy(name: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for file in fs::read_dir(golden(name)).unwrap() {
        let file = file.unwrap();
        if file.file_name() != "golden.json" {
            fs::copy(file.path(), folder.path().join(file.file_name())).unwrap();
        }
    }
    folder
}

fn change(folder: &Path, file: &str, change: impl FnOnce(&mut serde_json::Map<String, Value>)) {
    let path = folder.join(file);
    let mut value: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(value.as_object_mut().unwrap());
    fs::write(&path, value.to_string()).unwrap();
}

fn refusal(folder: &Path) -> String {
    open(folder)
        .and_then(|model| model.weights())
        .unwrap_err()
        .to_string()
}

/// A folder of random weights, and these.
fn saved(config: &TransformerConfig) -> (tempfile::TempDir, Weights) {
    let weights = Weights::random(register(config).unwrap(), 5);
    let folder = tempfile::tempdir().unwrap();
    save_as(
        folder.path(),
        config,
        &weights,
        &GenerationDefaults::default(),
    );
    (folder, weights)
}

fn save_as(
    folder: &Path,
    config: &TransformerConfig,
    weights: &Weights,
    generation: &GenerationDefaults,
) -> Saved {
    let model = SaveModel {
        assembly: &config.clone().into(),
        family: None,
        weights,
        generation,
        files: BTreeMap::from([("tokenizer.json".to_string(), b"{}".to_vec())]),
        manifest: ManifestFields {
            seed: Some(3),
            ..ManifestFields::default()
        },
    };
    save(folder, &model).unwrap()
}

fn small(norm: Norm) -> TransformerConfig {
    TransformerConfig {
        source_vocab_size: 11,
        target_vocab_size: 11,
        d_model: 8,
        encoder_layers: 2,
        decoder_layers: 1,
        encoder_heads: 2,
        decoder_heads: 4,
        encoder_feed_forward: 6,
        decoder_feed_forward: 10,
        norm,
        final_norm: norm == Norm::Pre,
        positions: if norm == Norm::Pre {
            Positions::SinusoidalHalvesFairseq
        } else {
            Positions::SinusoidalHalves
        },
        position_offset: if norm == Norm::Pre { 1 } else { 0 },
        output_bias: norm == Norm::Post,
        max_position_embeddings: 32,
        eos_token_id: 1,
        decoder_start_token_id: if norm == Norm::Pre { 2 } else { 0 },
        ..TransformerConfig::preset("tiny").unwrap()
    }
}

/// A tensor of a file, to change and write again.
struct Tensor {
    name: String,
    shape: Vec<usize>,
    data: Vec<f32>,
}

fn tensors_of(path: &Path) -> Vec<Tensor> {
    let store = TensorStore::open_file(path).unwrap();
    let read = |name: &str| {
        let shape = store.shape(name).unwrap().to_vec();
        Tensor {
            name: name.into(),
            data: store.read(name, &shape).unwrap(),
            shape,
        }
    };
    store.names().map(read).collect()
}

fn write_all(path: &Path, tensors: &[Tensor]) {
    let parts = tensors.iter().map(|t| NamedTensor {
        name: t.name.clone(),
        shape: t.shape.clone(),
        data: &t.data,
        transposed: false,
    });
    write_tensors(path, parts.collect()).unwrap();
}
