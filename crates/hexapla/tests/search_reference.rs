//! The search against transformers' `generate()`: same ids, same scores.

mod table;

use hexapla::generate::{EarlyStopping, SearchOptions, search};
use serde_json::Value;
use table::{Histories, Logits, input};

/// Logits that depend on the last two tokens.
struct Table {
    vocab_size: usize,
    values: Vec<f32>,
}

impl Logits for Table {
    fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    fn fill(&self, history: &[u32], row: &mut [f32]) {
        let [.., before, last] = history else {
            panic!("a history has at least the source and the start token");
        };
        let start = (*before as usize * self.vocab_size + *last as usize) * self.vocab_size;
        row.copy_from_slice(&self.values[start..start + self.vocab_size]);
    }
}

fn integer(value: &Value) -> usize {
    value.as_u64().unwrap() as usize
}

fn id(value: &Value) -> Option<u32> {
    value.as_u64().map(|id| id as u32)
}

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().filter_map(id).collect()
}

fn float(value: &Value) -> f32 {
    value.as_f64().unwrap() as f32
}

fn options(golden: &Value, case: &Value) -> SearchOptions {
    SearchOptions {
        beam_size: integer(&case["beam_size"]),
        n_best: integer(&case["n_best"]),
        min_length: integer(&case["min_length"]),
        length_penalty: float(&case["length_penalty"]),
        early_stopping: match case["early_stopping"].as_str().unwrap() {
            "false" => EarlyStopping::Heuristic,
            "true" => EarlyStopping::WhenFull,
            "never" => EarlyStopping::Never,
            other => panic!("{other}"),
        },
        repetition_penalty: float(&case["repetition_penalty"]),
        no_repeat_ngram_size: integer(&case["no_repeat_ngram_size"]),
        suppressed_ids: ids(&case["suppressed"]),
        forced_bos_id: id(&case["forced_bos"]),
        forced_eos_id: id(&case["forced_eos"]),
        ..SearchOptions::new(id(&golden["start"]).unwrap(), id(&golden["eos"]).unwrap())
    }
}

#[test]
fn ids_and_scores_equal_the_reference() {
    let golden: Value = serde_json::from_str(include_str!("golden/search.json")).unwrap();
    let scale = float(&golden["scale"]);
    let values = golden["table"].as_array().unwrap();
    let model = Table {
        vocab_size: integer(&golden["vocab"]),
        values: values.iter().map(|x| float(x) / scale).collect(),
    };
    let mut compared = 0;
    for case in golden["cases"].as_array().unwrap() {
        let results = case["results"].as_array().unwrap();
        let options = options(&golden, &case["options"]);
        let sources: Vec<u32> = results.iter().filter_map(|r| id(&r["source"])).collect();
        let max_length = integer(&case["options"]["max_length"]);
        let inputs = vec![input(max_length, 0); sources.len()];
        let mut decoder = Histories::new(&model, &sources);
        let found = search(&mut decoder, &inputs, &options).unwrap();
        for (found, result) in found.iter().zip(results) {
            let expected = result["hypotheses"].as_array().unwrap();
            let test_case = format!("{options:?}, source {}", result["source"]);
            assert_eq!(found.len(), expected.len(), "{test_case}");
            for (found, expected) in found.iter().zip(expected) {
                assert_eq!(found.ids, ids(&expected["ids"]), "{test_case}");
                assert_eq!(found.finished, found.ids.last() == options.eos_ids.first());
                if !expected["score"].is_null() {
                    let score = float(&expected["score"]);
                    assert!(
                        (found.score - score).abs() < 1e-5,
                        "{test_case}: {} {score}",
                        found.score
                    );
                }
                let theirs = expected["token_log_probs"].as_array().unwrap();
                assert_eq!(found.token_log_probs.len(), theirs.len());
                for (ours, theirs) in found.token_log_probs.iter().zip(theirs) {
                    assert!(
                        (ours - float(theirs)).abs() < 1e-5,
                        "{test_case}: {ours} {theirs}"
                    );
                }
                compared += 1;
            }
        }
    }
    assert!(compared > 1000, "{compared}");
}
