//! Recipes of several corpora and of test sets, on the real binary.

use std::fs;
use std::process::Command;

const RECIPE: &str = r#"
[model]
preset = "tiny"
d_model = 16
heads = 2
feed_forward = 32
layers = 1

[[data.corpora]]
tsv = "pairs.tsv"
tag = ">>de<<"
source_language = "en"

[[data.corpora]]
tsv = "pairs.tsv"
reverse = true
tag = ">>en<<"
source_language = "de"
repeat = 3
max_pairs = 2

[[data.valid_corpora]]
tsv = "pairs.tsv"
tag = ">>de<<"

[tokenizer]
kind = "bpe"
vocab_size = 320
special_tokens = [">>de<<", ">>en<<"]

[training]
batch_tokens = 100
max_steps = 3
warmup_steps = 1

[[test]]
name = "forth"
tokenize = "char"
lowercase = true
pairs = { tsv = "pairs.tsv", tag = ">>de<<" }

[[test]]
name = "back"
early_stopping = true
beam_size = 1
pairs = { tsv = "pairs.tsv", reverse = true, tag = ">>en<<", max_pairs = 3 }
"#;

#[test]
fn every_corpus_is_learned_from_and_every_test_set_scored() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("recipe.toml"), RECIPE).unwrap();
    let pairs = "the house is red\tdas Haus ist rot\nthe book is red\tdas Buch ist rot\n\
        the house is old\tdas Haus ist alt\nthe book is old\tdas Buch ist alt\n";
    fs::write(folder.path().join("pairs.tsv"), pairs).unwrap();
    let out = Command::new(env!("CARGO_BIN_EXE_hexapla"))
        .args(["train", "--config", "recipe.toml", "--output", "model"])
        .current_dir(folder.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&out.stdout);
    let errors = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{errors}");
    // Four pairs, and two that count three times.
    assert!(errors.contains("10 training pairs"), "{errors}");
    for line in [
        "test forth\nBLEU = ",
        "nrefs:1|case:lc|eff:no|tok:char|smooth:exp",
        "test back\nBLEU = ",
        "nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp",
    ] {
        assert!(said.contains(line), "{line}: {said}");
    }
    let manifest = fs::read(folder.path().join("model/manifest.json")).unwrap();
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    let metrics = manifest["metrics"].as_array().unwrap();
    let names: Vec<&str> = metrics.iter().filter_map(|m| m["name"].as_str()).collect();
    assert!(
        names.contains(&"BLEU, forth") && names.contains(&"chrF2, back"),
        "{names:?}"
    );
    // The one file of all corpora is hashed once.
    assert_eq!(manifest["data"].as_object().unwrap().len(), 1);
    assert_eq!(
        manifest["directions"],
        serde_json::json!([{"source": "de", "target": "en"}, {"source": "en", "target": "de"}])
    );
    let report = fs::read_to_string(folder.path().join("model/report.html")).unwrap();
    assert!(report.contains("forth") && report.contains("ref_len"));
}
