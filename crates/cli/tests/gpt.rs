//! `hexapla train` with `task = "language"`, on the real binary.

mod common;

use std::fs;

use common::{TestDir, names, text};
use serde_json::json;

const RECIPE: &str = r#"
task = "language"
[model]
d_model = 32
layers = 2
heads = 2
max_position_embeddings = 32
[data]
text = ["text.txt"]
[tokenizer]
kind = "characters"
character_coverage = 1.0
[training]
batch_tokens = 256
learning_rate = 0.01
warmup_steps = 10
max_steps = 60
save_every = 20
valid_every = 20
average_checkpoints = 1
"#;

fn dir() -> TestDir {
    let dir = TestDir::new();
    let verse = "The cat sat on the mat;\n\n  the dog, on the log. 猫在垫子上。\n";
    dir.write("text.txt", verse.repeat(80));
    dir.write("gpt.toml", RECIPE);
    dir
}

fn weights(dir: &TestDir, model: &str) -> Vec<u8> {
    fs::read(dir.path(model).join("model.safetensors")).unwrap()
}

#[test]
fn a_text_is_learned_judged_and_gone_on_with() {
    let dir = dir();
    let (told, said) = dir.accept("train --config gpt.toml --output gpt --threads 1");
    assert!(
        told.contains("perplexity") && told.contains("(gpt2)"),
        "{told}"
    );
    for part in [
        "training: 1 document",
        "validation: 1 document",
        "step 60: loss",
        "  … ",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(!said.contains("BLEU") && !said.contains("note:"), "{said}");
    let report = dir.read("gpt/report.html");
    assert!(report.contains("What the model writes") && !report.contains("BLEU"));
    // The same on any number of threads, and after an interruption.
    dir.accept("train --config gpt.toml --output twice --threads 2 --max-steps 40");
    dir.accept("train --config gpt.toml --output twice --threads 2 --change");
    assert_eq!(weights(&dir, "gpt"), weights(&dir, "twice"));
    // What it learned: every character of the text comes back.
    let (told, _) = dir.accept("generate The --model gpt --max-new-tokens 20");
    assert!(told.chars().count() > 10, "{told}");
    let (told, _) = dir.accept("score --model gpt --text text.txt");
    let perplexity: f64 = told.split(' ').nth(1).unwrap().parse().unwrap();
    assert!(perplexity < 6.0, "{told}");
    assert!(dir.accept("inspect gpt").0.contains("decoder"));
}

#[test]
fn documents_keep_their_ends() {
    let dir = dir();
    let lines: Vec<String> = (0..200)
        .map(|i| json!({"text": format!("number {} is done", i % 10)}).to_string())
        .collect();
    dir.write("lines.jsonl", lines.join("\n"));
    dir.write("valid.txt", "number 3 is done\n<end>\nnumber 4 is done\n");
    let recipe = RECIPE
        .replace("text = [\"text.txt\"]", "json_lines = [\"lines.jsonl\"]\nvalid_text = [\"valid.txt\"]\ndocument_end = \"<end>\"")
        .replace("max_steps = 60", "max_steps = 120");
    dir.write("gpt.toml", recipe);
    let (_, said) = dir.accept("train --config gpt.toml --output gpt");
    assert!(said.contains("training: 200 documents"), "{said}");
    assert!(said.contains("validation: 2 documents"), "{said}");
    // From nothing, a whole document, and then its end.
    let said = dir
        .command("generate --model gpt --max-new-tokens 30 --json")
        .arg("")
        .output()
        .unwrap();
    let said = text(&said.stdout);
    assert!(
        said.contains("is done") && said.contains("\"finish\":\"end\""),
        "{said}"
    );
}

#[test]
fn a_command_needs_no_recipe() {
    let dir = dir();
    let (told, said) = dir.accept("train --text text.txt --preset tiny --max-steps 2 --output gpt");
    assert!(told.contains("(gpt2)"), "{told}");
    assert!(said.contains("training tokens"), "{said}");
}

#[test]
fn what_cannot_be_learned_from_is_refused() {
    let dir = dir();
    dir.write("empty.txt", "\n \n");
    dir.write("bytes.txt", b"abc\xff\n");
    let before = names(&dir.path(""));
    for (from, to, said) in [
        ("text.txt", "nowhere.txt", "nowhere.txt"),
        ("text.txt", "empty.txt", "no text to learn from"),
        ("text.txt", "bytes.txt", "bytes.txt, line 1"),
        ("[data]", "[data]\ntsv = \"pairs.tsv\"", "data.tsv"),
        ("[data]", "[data]\nvalid_share = 0.9", "valid_share"),
        (
            "heads = 2",
            "heads = 2\nencoder_layers = 2",
            "model.encoder_layers",
        ),
        ("heads = 2", "heads = 3", "heads"),
        ("heads = 2", "heads = 0", "heads"),
        ("heads = 2", "heads = 2\nkv_heads = 3", "kv_heads"),
        ("\"characters\"", "\"unigram\"", "tokenizer.kind"),
        ("warmup", "metric = \"bleu\"\nwarmup", "training.metric"),
        ("warmup", "r_drop = 1.0\nwarmup", "training.r_drop"),
        (
            "warmup",
            "bpe_dropout = 0.1\nwarmup",
            "training.bpe_dropout",
        ),
        ("\"language\"", "\"languages\"", "`language`"),
        ("task = \"language\"", "", "data.text"),
        (
            "[training]",
            "[[test]]\nname = \"t\"\npairs = { tsv = \"pairs.tsv\" }\n[training]",
            "test",
        ),
        (
            "= 32\nlayers",
            "= 32\nrotary = true\nhead_width = 7\nlayers",
            "rotary",
        ),
    ] {
        assert!(RECIPE.contains(from), "{from}");
        dir.write("gpt.toml", RECIPE.replacen(from, to, 1));
        let told = dir.refuse("train --config gpt.toml --output gpt");
        assert!(told.contains(said), "{to}: {told}");
        assert_eq!(names(&dir.path("")), before, "{to}");
    }
    let told = dir.refuse("train --text nowhere.txt --output gpt");
    assert!(told.contains("nowhere.txt"), "{told}");
}
