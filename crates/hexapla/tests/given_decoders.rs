//! Decoders that other people trained, beside what they computed: a GPT that sorts, with every activation of a pass, and a small
//! Llama that tells stories.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hexapla::config::ComputeType;
use hexapla::explain::{Array, Edits, TraceInput, trace};
use hexapla::formats;
use hexapla::formats::safetensors::{NamedTensor, transpose, write_tensors};
use hexapla::generate::SearchOptions;
use hexapla::generate::generator::{Generator, Prompt};
use hexapla::generate::language_model::{Finish, GenerateOptions, LanguageModel};
use serde_json::{Value, json};

/// The folder of models, where there is one.
fn models() -> Option<PathBuf> {
    let data = std::env::var_os("HEXAPLA_DATA");
    if data.is_none() {
        eprintln!("skipped: HEXAPLA_DATA does not name the data");
    }
    Some(PathBuf::from(data?).join("../models"))
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// A tensor as the GPT's files write it: base64 of f32.
fn array(value: &Value) -> Array {
    let bytes = STANDARD.decode(value["data"].as_str().unwrap()).unwrap();
    let (words, _) = bytes.as_chunks::<4>();
    Array {
        shape: serde_json::from_value(value["shape"].clone()).unwrap(),
        data: words.iter().map(|w| f32::from_le_bytes(*w)).collect(),
    }
}

/// The GPT as a folder of GPT-2.
fn folder_of(model: &Value) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let c = &model["config"];
    let config = json!({
        "model_type": "gpt2", "vocab_size": c["vocab_size"], "n_embd": c["n_embd"], "n_layer": c["n_layer"], "n_head": c["n_head"],
        "n_positions": c["block_size"], "tie_word_embeddings": false, "bos_token_id": null, "eos_token_id": null,
    });
    fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
    let tensors = model.as_object().unwrap().iter();
    let tensors = tensors.filter(|(name, _)| *name != "config" && !name.ends_with(".attn.bias"));
    let tensors: BTreeMap<String, Array> = tensors
        .map(|(name, value)| {
            let mut array = array(value);
            let is_linear = name.contains(".c_") && name.ends_with(".weight");
            if let (true, &[rows, columns]) = (is_linear, array.shape.as_slice()) {
                // Its linear layers lie as PyTorch's.
                array.data = transpose(&array.data, rows, columns);
                array.shape = vec![columns, rows];
            }
            (name.clone(), array)
        })
        .collect();
    let named = tensors.iter().map(|(name, array)| NamedTensor {
        name: name.clone(),
        shape: array.shape.clone(),
        data: &array.data,
        transposed: false,
    });
    let path = folder.path().join("model.safetensors");
    write_tensors(&path, named.collect()).unwrap();
    folder
}

#[test]
fn every_activation_of_a_sorting_gpt_is_its_own() {
    let Some(models) = models() else { return };
    let folder = folder_of(&read(
        &models.join("gpt-nano-sort/gpt-nano-sort-model.json"),
    ));
    let partials = read(&models.join("gpt-nano-sort/gpt-nano-sort-t0-partials.json"));
    let opened = formats::open(folder.path()).unwrap();
    let packed = opened.pack(ComputeType::Float32).unwrap();
    let inputs = &partials["idx"];
    let texts: Vec<Vec<u32>> = match inputs["data"].is_string() {
        true => {
            let bytes = STANDARD.decode(inputs["data"].as_str().unwrap()).unwrap();
            let words: Vec<u32> = match inputs["dtype"].as_str() {
                Some("torch.int64") => {
                    let (words, _) = bytes.as_chunks::<8>();
                    words
                        .iter()
                        .map(|w| i64::from_le_bytes(*w) as u32)
                        .collect()
                }
                _ => array(inputs).data.iter().map(|x| *x as u32).collect(),
            };
            words.chunks_exact(11).map(<[u32]>::to_vec).collect()
        }
        false => serde_json::from_value(inputs["data"].clone()).unwrap(),
    };
    assert_eq!(texts.len(), 3);
    let all: BTreeMap<&str, Array> = partials
        .as_object()
        .unwrap()
        .iter()
        .filter(|(name, _)| !["config", "idx"].contains(&name.as_str()))
        .map(|(name, value)| (name.as_str(), array(value)))
        .collect();
    let mut compared = 0;
    for (number, ids) in texts.iter().enumerate() {
        let input = TraceInput {
            target: Some(ids.clone()),
            ..TraceInput::default()
        };
        let found = trace(opened.model(), &packed, &input, &Edits::default()).unwrap();
        let found = |name: &str| &found.arrays[name];
        let layer = |name: &str| found(&format!("decoder.layers.0.{name}"));
        let theirs = |name: &str| {
            let array = &all[name];
            let texts = array.shape[0];
            let part = array.data.len() / texts;
            &array.data[number.min(texts - 1) * part..][..part]
        };
        let mut compare = |name: &str, ours: &[f32], theirs: &[f32]| {
            assert_eq!(ours.len(), theirs.len(), "{name}");
            for (a, b) in ours.iter().zip(theirs) {
                assert!((a - b).abs() < 1e-5, "{name}: {a} instead of {b}");
            }
            compared += 1;
        };
        let positions = found("decoder.embedding.positions");
        let sum = found("decoder.embedding.sum");
        let tokens = sum.data.iter().zip(&positions.data).map(|(a, b)| a - b);
        compare("tok_emb", &tokens.collect::<Vec<f32>>(), theirs("tok_emb"));
        for (ours, name) in [
            ("self_attention_norm", "ln1"),
            ("self_attention.q", "q"),
            ("self_attention.k", "k"),
            ("self_attention.v", "v"),
            ("self_attention.weights", "attSm"),
            ("self_attention.output", "yProj"),
            ("self_attention.sum", "attnResid"),
            ("feed_forward_norm", "ln2"),
            ("feed_forward.inner", "gelu"),
            ("feed_forward.outer", "mlp"),
            ("feed_forward.sum", "mlpResid"),
        ] {
            compare(name, &layer(ours).data, theirs(name));
        }
        // Rows of all heads, side by side.
        let rows = |array: &Array| -> Vec<f32> {
            let [heads, rows, width] = [0, 1, 2].map(|i| array.shape[i]);
            let row = |r| (0..heads).flat_map(move |h| array.row(&[h, r]).iter().copied());
            assert_eq!(heads * width, 48);
            (0..rows).flat_map(row).collect()
        };
        compare("y", &rows(layer("self_attention.heads")), theirs("y"));
        let parts = ["q", "k", "v"].map(|part| rows(layer(&format!("self_attention.{part}"))));
        let qkv: Vec<f32> = (0..11)
            .flat_map(|r| {
                parts
                    .iter()
                    .flat_map(move |part| part[r * 48..][..48].to_vec())
            })
            .collect();
        compare("qkv", &qkv, theirs("qkv"));
        // Where the mask hides a key their scores may say anything.
        let scores = layer("self_attention.scores").data.iter();
        let seen = scores
            .zip(theirs("att"))
            .filter(|(ours, _)| ours.is_finite());
        let (ours, of_them): (Vec<f32>, Vec<f32>) = seen.map(|(a, b)| (*a, *b)).unzip();
        assert_eq!(ours.len(), 3 * 66);
        compare("att", &ours, &of_them);
        for (ours, name) in [
            ("decoder.embedding.positions", "pos_emb"),
            ("decoder.embedding.sum", "x"),
            ("decoder.layers.0.feed_forward.sum", "block0"),
            ("decoder.layers.1.feed_forward.sum", "block1"),
            ("decoder.layers.2.feed_forward.sum", "block2"),
            ("decoder.norm", "ln_f"),
            ("output.logits", "lm_head"),
        ] {
            compare(name, &found(ours).data, theirs(name));
        }
        let probabilities = found("output.logits").data.chunks_exact(3).flat_map(|row| {
            let sum: f32 = row.iter().map(|x| x.exp()).sum();
            row.iter().map(move |x| x.exp() / sum).collect::<Vec<f32>>()
        });
        compare(
            "probs",
            &probabilities.collect::<Vec<f32>>(),
            theirs("probs"),
        );
        // Before the activation there is nothing to see: what they have there becomes what stands behind it.
        let gelu = |x: &f32| {
            let inner = (2.0 / std::f32::consts::PI).sqrt() * (x + 0.044715 * x.powi(3));
            0.5 * x * (1.0 + inner.tanh())
        };
        let activated: Vec<f32> = theirs("fc").iter().map(gelu).collect();
        compare("fc", &layer("feed_forward.inner").data, &activated);
    }
    // All of theirs, in each text.
    assert_eq!(compared, 3 * all.len());
    // It sorts: what follows six numbers are these six in their order.
    let generator = Generator::new(opened.model().clone(), packed);
    let config = opened.decoder().unwrap();
    let options = SearchOptions::for_decoder(config, &opened.generation);
    let prompt = Prompt {
        ids: vec![2, 0, 1, 0, 2, 1],
        max_new_tokens: 5,
        seed_index: 0,
    };
    let sorted = generator.generate(&[prompt], &options).unwrap();
    assert_eq!(sorted[0][0].ids, [0, 0, 1, 1, 2]);
}

#[test]
fn stories_go_on_as_an_independent_reader_has_them() {
    let Some(models) = models() else { return };
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/stories260k.json");
    let golden = read(&golden);
    let ids = |key: &str| -> Vec<Vec<u32>> { serde_json::from_value(golden[key].clone()).unwrap() };
    let path = models.join("stories260k/stories260K.bin");
    let opened = formats::open(&path).unwrap();
    let packed = opened.pack(ComputeType::Float32).unwrap();
    let generator = Generator::new(opened.model().clone(), packed);
    let config = opened.decoder().unwrap();
    let options = SearchOptions::for_decoder(config, &opened.generation);
    let prompt = |ids| Prompt {
        ids,
        max_new_tokens: 256,
        seed_index: 0,
    };
    let prompts: Vec<Prompt> = ids("prompts").into_iter().map(prompt).collect();
    let found = generator.generate(&prompts, &options).unwrap();
    for (found, expected) in found.iter().zip(ids("outputs")) {
        assert_eq!(found[0].ids, expected);
    }
    // With its tokenizer, which lies beside it, it tells them.
    let teller = LanguageModel::open(&path, ComputeType::Float32).unwrap();
    let beginning = teller.tokenizer().encode("Once upon a time", true).unwrap();
    assert_eq!(beginning[..1], [1]);
    assert_eq!(beginning[1..], found[0][0].ids[..4]);
    let asked = GenerateOptions {
        max_new_tokens: Some(40),
        ..teller.options()
    };
    let mut told = String::new();
    let each = |_, text: &str| {
        told.push_str(text);
        Ok(true)
    };
    let prompt = teller.text_prompt("Once upon a time", 0, &asked).unwrap();
    let story = teller.stream(&prompt, &asked, each).unwrap();
    assert_eq!(story[0].ids, found[0][0].ids[4..44]);
    assert_eq!(story[0].text, told);
    assert!(told.starts_with(", there was a little"), "{told}");
    // Beyond what it takes, the newer half of a text is read anew.
    let window = generator.max_tokens();
    let mut beyond = GenerateOptions {
        max_new_tokens: Some(window + window / 2),
        slide: true,
        ..teller.options()
    };
    beyond.search.ignore_eos = true;
    let prompt = teller.text_prompt("Once upon a time", 0, &beyond).unwrap();
    let mut told = String::new();
    let each = |_, text: &str| {
        told.push_str(text);
        Ok(true)
    };
    let long = teller.stream(&prompt, &beyond, each).unwrap();
    assert_eq!(
        (long[0].text == told, long[0].finish),
        (true, Finish::Length)
    );
    let mut ids = prompt.ids.clone();
    while ids.len() < prompt.ids.len() + window + window / 2 {
        let kept = if ids.len() < window {
            ids.len()
        } else {
            window / 2
        };
        let left = prompt.ids.len() + window + window / 2 - ids.len();
        let piece = Prompt {
            ids: ids[ids.len() - kept..].to_vec(),
            max_new_tokens: left.min(window - kept),
            seed_index: 0,
        };
        ids.extend(&generator.generate(&[piece], &beyond.search).unwrap()[0][0].ids);
    }
    assert_eq!(long[0].ids, ids[prompt.ids.len()..]);
    // A prompt that is too long by itself is its end.
    let end = teller.prompt(ids.clone(), 0, &beyond).unwrap();
    let behind = teller.generate(&[end], &beyond).unwrap();
    assert_eq!(behind[0][0].ids.len(), window + window / 2);
    // What fits is what it is without sliding; settings are looked at as ever.
    let near = GenerateOptions {
        slide: true,
        ..asked.clone()
    };
    let prompt = teller.text_prompt("Once upon a time", 0, &near).unwrap();
    assert_eq!(
        teller
            .generate(std::slice::from_ref(&prompt), &near)
            .unwrap()[0],
        story
    );
    let mut several = beyond.clone();
    several.search.n_best = 3;
    let e = teller.generate(&[teller.prompt(ids.clone(), 0, &beyond).unwrap()], &several);
    assert!(e.unwrap_err().to_string().contains("n_best"));
    beyond.slide = false;
    let refused = teller.prompt(ids, 0, &beyond).unwrap();
    let e = teller
        .generate(&[refused], &beyond)
        .unwrap_err()
        .to_string();
    assert!(e.contains("512"), "{e}");
    // A file that is cut off is no such file.
    let folder = tempfile::tempdir().unwrap();
    let cut = folder.path().join("cut.bin");
    let bytes = fs::read(&path).unwrap();
    fs::write(&cut, &bytes[..bytes.len() - 4]).unwrap();
    assert!(formats::open(&cut).is_err());
}
