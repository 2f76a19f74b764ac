//! Logits and outputs of decoder folders made by transformers (`xtask/reference/decoders.py`), of every family.

use std::fs;
use std::path::{Path, PathBuf};

use hexapla::config::ComputeType;
use hexapla::formats::{self, ConvertModel};
use hexapla::generate::SearchOptions;
use hexapla::generate::generator::{Generator, Prompt};
use serde_json::Value;

fn folders() -> Vec<PathBuf> {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/decoders");
    let folders = fs::read_dir(golden).unwrap().map(|e| e.unwrap().path());
    let mut folders: Vec<PathBuf> = folders.collect();
    folders.sort();
    folders
}

fn ids(value: &Value) -> Vec<Vec<u32>> {
    serde_json::from_value(value.clone()).unwrap()
}

/// The options of a search as transformers names them.
fn options(folder: &Path, asked: &Value) -> (SearchOptions, usize) {
    let opened = formats::open(folder).unwrap();
    let config = opened.decoder().unwrap();
    let mut options = SearchOptions::for_decoder(config, &opened.generation);
    for (key, value) in asked.as_object().unwrap() {
        let number = value.as_f64().unwrap() as f32;
        match key.as_str() {
            "repetition_penalty" => options.repetition_penalty = number,
            "length_penalty" => options.length_penalty = number,
            "no_repeat_ngram_size" => options.no_repeat_ngram_size = number as usize,
            "min_new_tokens" => options.min_length = number as usize,
            "num_beams" => options.beam_size = number as usize,
            other => panic!("{other}"),
        }
    }
    (options, 12)
}

#[test]
fn logits_and_outputs_are_those_of_transformers() {
    let folders = folders();
    assert!(folders.len() >= 13);
    let mut prompts_compared = 0;
    for folder in folders {
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        let text = fs::read_to_string(folder.join("golden.json")).unwrap();
        let golden: Value = serde_json::from_str(&text).unwrap();
        let generator = Generator::open(&folder, ComputeType::Float32).unwrap();
        let found = generator.logits(&ids(&golden["input_ids"])).unwrap();
        let expected: Vec<Vec<Vec<f32>>> =
            serde_json::from_value(golden["logits"].clone()).unwrap();
        let numbers = |x: &[Vec<Vec<f32>>]| x.concat().concat();
        assert_eq!(numbers(&found).len(), numbers(&expected).len(), "{name}");
        let all = numbers(&expected);
        let largest = all.iter().fold(0.0f32, |m, v| m.max(v.abs()));
        for (f, e) in numbers(&found).iter().zip(&all) {
            assert!(
                (f - e).abs() < 1e-4 * largest,
                "{name}: {f} instead of {e}, of {largest}"
            );
        }
        for search in golden["generate"].as_array().unwrap() {
            let (options, max_new_tokens) = options(&folder, &search["options"]);
            let prompts = ids(&search["prompts"]).into_iter().map(|ids| Prompt {
                ids,
                max_new_tokens,
                seed_index: 0,
            });
            let prompts: Vec<Prompt> = prompts.collect();
            let found = generator.generate(&prompts, &options).unwrap();
            for ((prompt, found), expected) in
                prompts.iter().zip(&found).zip(ids(&search["outputs"]))
            {
                assert_eq!(
                    found[0].ids, expected,
                    "{name} {} {:?}",
                    search["options"], prompt.ids
                );
                prompts_compared += 1;
            }
        }
    }
    assert!(prompts_compared >= 200, "{prompts_compared}");
}

#[test]
fn what_is_converted_computes_the_same() {
    for folder in folders() {
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        let opened = formats::open(&folder).unwrap();
        let text = fs::read_to_string(folder.join("golden.json")).unwrap();
        let golden: Value = serde_json::from_str(&text).unwrap();
        let texts = ids(&golden["input_ids"]);
        let logits = |folder: &Path, compute_type| {
            let generator = Generator::open(folder, compute_type).unwrap();
            generator.logits(&texts).unwrap().concat().concat()
        };
        let out = tempfile::tempdir().unwrap();
        for compute_type in [ComputeType::Float32, ComputeType::Int8] {
            let to = out.path().join(format!("{compute_type:?}"));
            let job = ConvertModel {
                model: &opened,
                around: None,
                compute_type,
                replace: false,
            };
            let saved = formats::convert(&job, &to).unwrap();
            assert_eq!(saved.family, opened.family, "{name}");
            // The numbers of the folder, whether they are packed before or now.
            let now = logits(&folder, compute_type);
            assert_eq!(logits(&to, ComputeType::Default), now, "{name}");
            let again = formats::open(&to).unwrap();
            assert_eq!(again.assembly, opened.assembly, "{name}");
            assert_eq!(again.generation, opened.generation, "{name}");
        }
    }
}

#[test]
fn all_end_tokens_are_written_where_the_defaults_name_none() {
    let folder = folders()
        .into_iter()
        .find(|f| f.ends_with("llama_wide"))
        .unwrap();
    let mut opened = formats::open(&folder).unwrap();
    assert_eq!(opened.decoder().unwrap().eos_token_ids, [2, 5]);
    // As a GGUF file has them: in its settings alone.
    opened.generation.more_eos_token_ids.clear();
    let out = tempfile::tempdir().unwrap();
    let job = ConvertModel {
        model: &opened,
        around: None,
        compute_type: ComputeType::Float32,
        replace: false,
    };
    formats::convert(&job, &out.path().join("again")).unwrap();
    let again = formats::open(&out.path().join("again")).unwrap();
    assert_eq!(again.decoder().unwrap().eos_token_ids, [2, 5]);
}
