//! Logits and searches of folders made by transformers (`xtask/reference/folders.py`).

use std::path::Path;

use hexapla::config::ComputeType;
use hexapla::formats;
use hexapla::generate::engine::{Engine, Request};
use hexapla::generate::{EarlyStopping, SearchOptions};
use serde_json::Value;

const FOLDERS: [&str; 12] = [
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

fn ids(v: &Value) -> Vec<Vec<u32>> {
    serde_json::from_value(v.clone()).unwrap()
}

#[test]
fn logits_and_searches_are_those_of_transformers() {
    let (mut inputs, mut variants) = (0, 0);
    for name in FOLDERS {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/golden")
            .join(name);
        let golden: Value =
            serde_json::from_str(&std::fs::read_to_string(folder.join("golden.json")).unwrap())
                .unwrap();
        let opened = formats::open(&folder).unwrap();
        let engine = Engine::new(
            opened.model().clone(),
            opened.pack(ComputeType::Float32).unwrap(),
        );
        let l = &golden["logits"];
        let found = engine
            .logits(&ids(&l["input_ids"]), &ids(&l["decoder_input_ids"]))
            .unwrap();
        let expected: Vec<Vec<Vec<f32>>> = serde_json::from_value(l["logits"].clone()).unwrap();
        let mut worst = 0.0f32;
        for (f, e) in found
            .iter()
            .flatten()
            .flatten()
            .zip(expected.iter().flatten().flatten())
        {
            worst = worst.max((f - e).abs());
        }
        let largest = expected
            .iter()
            .flatten()
            .flatten()
            .fold(0.0f32, |m, v| m.max(v.abs()));
        assert!(
            worst < 1e-4 * largest,
            "{name}: off by {worst} of {largest}"
        );
        for run in golden["generate"].as_array().unwrap() {
            let s = &run["settings"];
            let g = &opened.generation;
            let number =
                |key: &str, default: usize| s[key].as_u64().map_or(default, |v| v as usize);
            let real = |key: &str, default: f32| s[key].as_f64().map_or(default, |v| v as f32);
            let c = opened.encoder_decoder().unwrap();
            let mut o = SearchOptions::for_folder(c, g);
            if let Value::Bool(renormalize) = s["renormalize_logits"] {
                o.renormalize = renormalize;
            }
            if !s["bad_words_ids"].is_null() {
                o.suppressed_ids = ids(&s["bad_words_ids"]).concat();
            }
            if let Some(id) = s["forced_bos_token_id"].as_u64() {
                o.forced_bos_id = Some(id as u32);
            }
            o.beam_size = number("num_beams", o.beam_size);
            o.n_best = number("num_return_sequences", o.n_best);
            o.length_penalty = real("length_penalty", o.length_penalty);
            o.repetition_penalty = real("repetition_penalty", o.repetition_penalty);
            o.no_repeat_ngram_size = number("no_repeat_ngram_size", o.no_repeat_ngram_size);
            o.min_length = number("min_length", o.min_length + 1).saturating_sub(1);
            o.min_length = number("min_new_tokens", o.min_length);
            o.early_stopping = match &s["early_stopping"] {
                Value::Bool(true) => EarlyStopping::WhenFull,
                Value::Bool(false) => EarlyStopping::Heuristic,
                Value::String(_) => EarlyStopping::Never,
                _ => o.early_stopping,
            };
            let limit = number("max_length", g.length_limit(c.max_position_embeddings)) - 1;
            let max_length = number("max_new_tokens", limit);
            let requests: Vec<Request> = ids(&run["inputs"])
                .into_iter()
                .map(|source| Request {
                    source,
                    prefix: Vec::new(),
                    max_length,
                    seed_index: 0,
                })
                .collect();
            let expected = ids(&run["sequences"]);
            let found = engine.generate(&requests, &o, 100).unwrap();
            let test_case = format!("{name} {}", run["name"]);
            let flat: Vec<_> = found.iter().flatten().collect();
            assert_eq!(flat.len(), expected.len(), "{test_case}");
            for (i, (f, e)) in flat.iter().zip(&expected).enumerate() {
                // transformers pads what is short; a padding token that was truly produced looks the same there.
                let padding = |ids: &[u32]| {
                    ids.iter()
                        .rev()
                        .take_while(|id| **id == c.pad_token_id)
                        .count()
                };
                let found = &f.ids[..f.ids.len() - padding(&f.ids)];
                assert_eq!(found, &e[1..], "{test_case} {i}");
                if let Some(score) = run["scores"][i].as_f64() {
                    assert!(
                        (f64::from(f.score) - score).abs() < 1e-4,
                        "{test_case} {i}: {} {score}",
                        f.score
                    );
                }
            }
            if ["greedy", "beam"].contains(&run["name"].as_str().unwrap()) {
                inputs += requests.len();
            } else {
                variants += 1;
            }
        }
    }
    assert!(
        inputs >= 400 && variants >= 50,
        "{inputs} inputs, {variants} variants"
    );
}
