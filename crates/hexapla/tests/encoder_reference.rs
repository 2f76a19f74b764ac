//! Logits of encoder folders made by transformers (`xtask/reference/encoders.py`), of every family and head.

use std::fs;
use std::path::{Path, PathBuf};

use hexapla::config::ComputeType;
use hexapla::encode::{Encoder, Input};
use serde_json::Value;

fn folders() -> Vec<PathBuf> {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/encoders");
    let folders = fs::read_dir(golden).unwrap().map(|e| e.unwrap().path());
    let mut folders: Vec<PathBuf> = folders.collect();
    folders.sort();
    folders
}

fn golden(folder: &Path) -> (Vec<Input>, Vec<Vec<Vec<f32>>>) {
    let text = fs::read_to_string(folder.join("golden.json")).unwrap();
    let golden: Value = serde_json::from_str(&text).unwrap();
    let ids: Vec<Vec<u32>> = serde_json::from_value(golden["input_ids"].clone()).unwrap();
    let segments: Option<Vec<Vec<u32>>> =
        serde_json::from_value(golden["token_type_ids"].clone()).unwrap();
    let segments = segments.unwrap_or_else(|| vec![Vec::new(); ids.len()]);
    let inputs = ids.into_iter().zip(segments);
    let inputs = inputs.map(|(ids, segments)| Input { ids, segments });
    let expected = match &golden["logits"] {
        Value::Null => serde_json::from_value(golden["hidden"].clone()).unwrap(),
        logits if logits[0][0].is_array() => serde_json::from_value(logits.clone()).unwrap(),
        logits => {
            let texts: Vec<Vec<f32>> = serde_json::from_value(logits.clone()).unwrap();
            texts.into_iter().map(|classes| vec![classes]).collect()
        }
    };
    (inputs.collect(), expected)
}

#[test]
fn logits_are_those_of_transformers() {
    let folders = folders();
    assert!(folders.len() >= 26);
    for folder in folders {
        let (inputs, expected) = golden(&folder);
        let encoder = Encoder::open(&folder, ComputeType::Float32).unwrap();
        let found = match fs::read_to_string(folder.join("golden.json"))
            .unwrap()
            .contains("\"hidden\"")
        {
            true => encoder.hidden(&inputs).unwrap(),
            false => encoder.logits(&inputs).unwrap(),
        };
        let shape = |x: &[Vec<Vec<f32>>]| -> Vec<(usize, usize)> {
            x.iter().map(|text| (text.len(), text[0].len())).collect()
        };
        assert_eq!(shape(&found), shape(&expected), "{}", folder.display());
        let numbers = |x: &[Vec<Vec<f32>>]| x.concat().concat();
        let largest = numbers(&expected)
            .iter()
            .fold(0.0f32, |m, v| m.max(v.abs()));
        for (f, e) in numbers(&found).iter().zip(numbers(&expected)) {
            assert!(
                (f - e).abs() < 1e-4 * largest,
                "{}: {f} instead of {e}, of {largest}",
                folder.display()
            );
        }
    }
}
