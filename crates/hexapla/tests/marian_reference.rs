//! Marian's own files: what is read of models that Marian trained (`xtask/reference/marian.py`), and what is refused.

use std::fs;
use std::path::{Path, PathBuf};

use hexapla::formats::{self, ConvertModel, Family};
use hexapla::generate::SearchOptions;
use hexapla::{ComputeType, Request, Translator};
use serde_json::Value;

fn golden(name: &str) -> (PathBuf, Value) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name);
    let text = fs::read_to_string(folder.join("golden.json")).unwrap();
    (folder, serde_json::from_str(&text).unwrap())
}

/// The best hypothesis of each text: its text and score.
fn search(
    model: &Translator,
    texts: &[Value],
    options: &SearchOptions,
    max_length: usize,
) -> Vec<(String, f32)> {
    let request = |text: &Value| Request {
        source: model.source_ids(text.as_str().unwrap()).unwrap(),
        prefix: Vec::new(),
        max_length,
        seed_index: 0,
    };
    let requests: Vec<Request> = texts.iter().map(request).collect();
    let found = model.engine().generate(&requests, options, 100).unwrap();
    let target = &model.tokenizers().target;
    let best = |found: &Vec<hexapla::generate::Hypothesis>| {
        (target.decode(found[0].tokens()).unwrap(), found[0].score)
    };
    found.iter().map(best).collect()
}

#[test]
fn translations_are_those_of_marian() {
    for name in [
        "marian_tied",
        "marian_apart",
        "marian_words",
        "marian_sides",
    ] {
        let (folder, golden) = golden(name);
        let model = Translator::open(&folder).unwrap();
        assert_eq!(model.family(), Family::MarianNmt);
        let options = model.options().search;
        assert_eq!((options.beam_size, options.length_penalty), (4, 0.6));
        let inputs = golden["inputs"].as_array().unwrap();
        for (beam, expected) in golden["beams"].as_object().unwrap() {
            let options = SearchOptions {
                beam_size: beam.parse().unwrap(),
                ..options.clone()
            };
            let found = search(&model, inputs, &options, 60);
            let mut compared = 0;
            let pairs = found.iter().zip(expected.as_array().unwrap());
            for ((text, score), expected) in pairs.filter(|(_, e)| !e.is_null()) {
                let location = format!("{name}, beam of {beam}");
                assert_eq!(text, expected["text"].as_str().unwrap(), "{location}");
                let off = f64::from(*score) - expected["score"].as_f64().unwrap();
                assert!(off.abs() < 2e-4, "{location}: {text}: {off}");
                compared += 1;
            }
            assert!(compared >= 100, "{name}: {compared}");
        }
    }
}

#[test]
fn the_first_tokens_of_a_pre_norm_model_are_those_of_marian() {
    let (folder, golden) = golden("marian_pre");
    let model = Translator::open(&folder).unwrap();
    let options = SearchOptions {
        beam_size: 1,
        ..model.options().search
    };
    let inputs = golden["inputs"].as_array().unwrap();
    let found = search(&model, inputs, &options, 1);
    for ((text, score), expected) in found.iter().zip(golden["first"].as_array().unwrap()) {
        assert_eq!(text, expected["text"].as_str().unwrap());
        let off = f64::from(*score) - expected["score"].as_f64().unwrap();
        assert!(off.abs() < 2e-4, "{text}: {off}");
    }
}

/// Copies a golden folder.
fn copy(name: &str) -> tempfile::TempDir {
    let (from, _) = golden(name);
    let to = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.path().join(entry.file_name())).unwrap();
    }
    to
}

/// Puts `new` in the place of `old` in a file, which keeps its length.
fn replace(path: &Path, old: &str, new: &str) {
    assert_eq!(old.len(), new.len());
    let mut bytes = fs::read(path).unwrap();
    let windows = bytes.windows(old.len());
    let starts: Vec<usize> = windows
        .enumerate()
        .filter_map(|(i, window)| (window == old.as_bytes()).then_some(i))
        .collect();
    assert!(!starts.is_empty(), "{old}");
    for start in starts {
        bytes[start..start + new.len()].copy_from_slice(new.as_bytes());
    }
    fs::write(path, bytes).unwrap();
}

#[test]
fn what_is_not_computed_here_is_refused_by_name() {
    for (old, new, place, found) in [
        (
            "type: transformer",
            "type: transformex",
            "type",
            "transformex",
        ),
        (
            "autoreg: self-attention",
            "autoreg: rnn           ",
            "transformer-decoder-autoreg",
            "rnn",
        ),
        (
            "right-left: false",
            "right-left: true ",
            "right-left",
            "true",
        ),
        (
            "postprocess: dan",
            "postprocess: dhn",
            "transformer-postprocess",
            "hn",
        ),
        ("ffn-depth: 2", "ffn-depth: 3", "transformer-ffn-depth", "3"),
        ("skip: false", "skib: false", "skib", "false"),
        ("ulr: false", "ulr: [1,2]", "ulr", "[1,2]"),
    ] {
        let folder = copy("marian_tied");
        replace(&folder.path().join("model.npz"), old, new);
        let e = formats::open(folder.path()).unwrap_err().to_string();
        assert!(e.contains(place) && e.contains(found), "{old}: {e}");
    }
    // Keys were not normed before 1.12.
    let folder = copy("marian_pre");
    replace(
        &folder.path().join("model.npz"),
        "version: v1.12",
        "version: v1.11",
    );
    let e = formats::open(folder.path()).unwrap_err().to_string();
    assert!(
        e.contains("transformer-preprocess") && e.contains("1.11"),
        "{e}"
    );
    // Ensembles, other vocabularies, settings of the search.
    for (old, new, part) in [
        ("- model.npz\n", "- a.npz\n- b.npz\n", "an ensemble of 2"),
        (
            "- vocab.spm\n- vocab.spm\n",
            "- vocab.spm\n",
            "two vocabularies",
        ),
        ("- vocab.spm\n", "- vocab.fsv\n", "vocab.fsv"),
        ("beam-size: 4", "beam-size: 0", "beam-size"),
        ("word-penalty: 0", "word-penalty: 0.5", "word-penalty"),
        ("models:\n", "models: &a\n- *a\n", "no aliases"),
        ("- model.npz\n", "- model.bin\n", "model.bin"),
    ] {
        let folder = copy("marian_tied");
        let path = folder.path().join("model.npz.decoder.yml");
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(old), "{old}: {text}");
        fs::write(&path, text.replace(old, new)).unwrap();
        let e = Translator::open(folder.path()).unwrap_err().to_string();
        assert!(e.contains(part), "{old}: {e}");
    }
    // Two of them; and a vocabulary that Marian did not number.
    let folder = copy("marian_tied");
    let path = folder.path();
    fs::copy(
        path.join("model.npz.decoder.yml"),
        path.join("b.npz.decoder.yml"),
    )
    .unwrap();
    let e = formats::open(path).unwrap_err().to_string();
    assert!(e.contains("several models"), "{e}");
    fs::rename(path.join("b.npz.decoder.yml"), path.join("decoder.yml")).unwrap();
    formats::open(path).unwrap();
    let folder = copy("marian_words");
    replace(&folder.path().join("t.yml"), "</s>: 0", "</s>: 9");
    let e = Translator::open(folder.path()).unwrap_err().to_string();
    assert!(e.contains("t.yml") && e.contains("`</s>`"), "{e}");
}

#[test]
fn a_converted_model_translates_the_same() {
    for name in ["marian_apart", "marian_words"] {
        let (folder, golden) = golden(name);
        let lines: Vec<&str> = golden["inputs"].as_array().unwrap()[..20]
            .iter()
            .map(|text| text.as_str().unwrap())
            .collect();
        let own = Translator::open(&folder).unwrap();
        let opened = formats::open(&folder).unwrap();
        let to = tempfile::tempdir().unwrap();
        for compute_type in [ComputeType::Float32, ComputeType::Int8] {
            let to = to.path().join(format!("{compute_type:?}"));
            let job = ConvertModel {
                model: &opened,
                around: None,
                compute_type,
                replace: false,
            };
            formats::convert(&job, &to).unwrap();
            let converted = Translator::open(&to).unwrap();
            let expected = match compute_type {
                ComputeType::Float32 => own.translate_lines(&lines).unwrap(),
                other => {
                    let rounded = Translator::builder().compute_type(other);
                    let rounded = rounded.open(&folder).unwrap();
                    rounded.translate_lines(&lines).unwrap()
                }
            };
            assert_eq!(
                converted.translate_lines(&lines).unwrap(),
                expected,
                "{name}"
            );
        }
    }
}

#[test]
fn damage_is_an_error_or_harmless() {
    let mut random = 1u64;
    let mut next = |below: usize| {
        random = random.wrapping_mul(6364136223846793005).wrapping_add(1);
        (random >> 33) as usize % below
    };
    let (mut refused, mut opened) = (0, 0);
    for name in ["marian_words", "marian_tied"] {
        let folder = copy(name);
        let names = ["model.npz", "model.npz.decoder.yml", "t.yml", "vocab.spm"];
        let names = names.map(|name| folder.path().join(name));
        let names: Vec<_> = names.iter().filter(|path| path.exists()).collect();
        for round in 0..600 {
            let path = names[round % names.len()];
            let whole = fs::read(path).unwrap();
            let mut bytes = whole.clone();
            // The ends of the archive and the headers are worth more than the numbers.
            let start = match next(3) {
                0 => bytes.len().saturating_sub(4000),
                _ => 0,
            };
            let length = (bytes.len() - start).min(20_000);
            match next(4) {
                0 => bytes.truncate(start + next(length)),
                1 => drop(bytes.drain(start + next(length / 2)..start + length / 2 + 1)),
                _ => {
                    for _ in 0..1 + next(4) {
                        bytes[start + next(length)] = next(256) as u8;
                    }
                }
            }
            fs::write(path, bytes).unwrap();
            match Translator::open(folder.path()).and_then(|m| m.translate("ka romi tesu")) {
                Ok(_) => opened += 1,
                Err(_) => refused += 1,
            }
            fs::write(path, whole).unwrap();
        }
    }
    assert!(
        refused > 300 && opened > 50,
        "{refused} refused, {opened} opened"
    );
}
