//! `hexapla explain`: files for translators and for encoders alone, and what is refused.

mod common;

use std::fs;
use std::path::Path;

use common::{TestDir, decoder, names};
use serde_json::{Value, json};

const WORDS: [&str; 9] = [
    "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "dog", "eats", "##s",
];

/// A folder with the model of a golden folder as `model`, and a tokenizer of 37 words.
fn dir(golden: &str) -> TestDir {
    let dir = TestDir::new();
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../hexapla/tests/golden/encoders");
    fs::create_dir(dir.path("model")).unwrap();
    for file in ["config.json", "model.safetensors"] {
        fs::copy(from.join(golden).join(file), dir.path("model").join(file)).unwrap();
    }
    let rest = (WORDS.len()..37).map(|i| format!("w{i}"));
    let words: Vec<String> = WORDS.map(String::from).into_iter().chain(rest).collect();
    dir.write("model/vocab.txt", words.join("\n"));
    dir
}

fn json_of(dir: &TestDir, name: &str) -> Value {
    serde_json::from_str(&dir.read(name)).unwrap()
}

#[test]
fn a_page_is_made_where_nothing_else_is_asked_for() {
    let dir = TestDir::new();
    let said = dir.command("explain").arg("我爱你。").output().unwrap();
    assert!(said.status.success());
    assert_eq!(common::text(&said.stdout), "I love you.\n");
    assert!(common::text(&said.stderr).contains("explain.html"));
    let page = dir.read("explain.html");
    assert!(page.starts_with("<!doctype html>") && page.contains("hexapla-trace"));
    // What is asked for alone comes alone.
    fs::remove_file(dir.path("explain.html")).unwrap();
    dir.accept("explain Hello. --to de --json trace.json --arrays all.safetensors");
    assert_eq!(
        names(&dir.path("")),
        ["all.safetensors", "pairs.tsv", "recipe.toml", "trace.json"]
    );
    assert_eq!(json_of(&dir, "trace.json")["text"]["source"], "Hello.");
    let (said, _) = dir.accept("explain Hello. --to de --contrast He");
    assert!(said.lines().count() > 4 && said.contains("ln p("), "{said}");
    assert!(!dir.path("explain.html").exists());
    let two = dir
        .command("explain --to de --json trace.json")
        .arg("Hello. Good night.")
        .output();
    let told = common::text(&two.unwrap().stderr);
    assert!(
        told.contains("2 sentences") && told.contains("--sentence"),
        "{told}"
    );
}

#[test]
fn an_encoder_alone_is_explained_too() {
    for (golden, rows, classes) in [
        ("bert_bare", 0, Value::Null),
        ("bert_masked", 5, Value::Null),
        ("bert_classes", 0, json!(["no", "yes", "perhaps"])),
        ("bert_tokens", 0, json!(["no", "yes", "perhaps"])),
    ] {
        let dir = dir(golden);
        let mut command = dir.command("explain --model model --json trace.json --output page.html");
        let ran = command.arg("the [MASK] eats").output().unwrap();
        assert!(
            ran.status.success(),
            "{golden}: {}",
            common::text(&ran.stderr)
        );
        let trace = json_of(&dir, "trace.json");
        assert_eq!(trace["source"], json!([2, 5, 4, 7, 3]), "{golden}");
        assert_eq!(trace["target"], json!([]));
        assert_eq!(trace["output"].as_array().unwrap().len(), rows, "{golden}");
        assert_eq!(trace["candidates"].as_array().unwrap().len(), rows);
        assert_eq!(trace["classes"]["labels"], classes, "{golden}");
        if classes != Value::Null {
            let logits = trace["classes"]["logits"].as_array().unwrap();
            let expected = if golden == "bert_tokens" { 5 } else { 1 };
            assert_eq!(logits.len(), expected, "{golden}");
        }
        assert_eq!(trace["special"]["source"], json!([2, 3]));
        assert_eq!(trace["pieces"]["source"]["7"], "eats");
        assert!(trace["arrays"]["encoder.layers.1.self_attention.weights"].is_object());
    }
}

#[test]
fn a_decoder_alone_is_explained_too() {
    for golden in ["gpt2_odd", "qwen3_odd", "smollm3_gaps", "mistral_window"] {
        let dir = decoder(golden);
        let text = ["w5 w9", "w12"].join("\n");
        let explain = "explain --model model --json trace.json --output page.html";
        let flags = "--max-decoding-length 6 --arrays all.safetensors";
        let ran = dir
            .command(&format!("{explain} {flags}"))
            .arg(&text)
            .output();
        let ran = ran.unwrap();
        assert!(
            ran.status.success(),
            "{golden}: {}",
            common::text(&ran.stderr)
        );
        let trace = json_of(&dir, "trace.json");
        assert_eq!(trace["source"], json!([]), "{golden}");
        assert_eq!(trace["prompt"], 3);
        assert_eq!(trace["text"]["source"], text);
        let output = trace["output"].as_array().unwrap();
        // It is what `generate` writes.
        let generated = dir
            .command("generate --model model --json --log-probs --max-new-tokens 6 --n 1")
            .arg(&text)
            .output()
            .unwrap();
        let generated: Value = serde_json::from_slice(&generated.stdout).unwrap();
        assert_eq!(trace["text"]["output"], generated["text"], "{golden}");
        let tokens = generated["tokens"].as_array().unwrap();
        assert_eq!(output.len(), 2 + tokens.len(), "{golden}");
        for (row, token) in output[2..].iter().zip(tokens) {
            assert_eq!(row["id"], token["id"]);
            let apart = row["log_prob"].as_f64().unwrap() - token["log_prob"].as_f64().unwrap();
            assert!(apart.abs() < 1e-3);
        }
        // What was given follows too, as likely as the model found it.
        assert_eq!(output[0]["id"], 9);
        for (row, candidates) in output.iter().zip(trace["candidates"].as_array().unwrap()) {
            let own = candidates["tokens"].as_array().unwrap();
            if let Some(own) = own.iter().find(|own| own[0] == row["id"]) {
                assert_eq!(own[1], row["log_prob"]);
            }
        }
        let influence = &trace["influence"];
        assert_eq!(influence["source"].as_array().unwrap().len(), output.len());
        assert!(!influence["heads"].as_array().unwrap().is_empty());
        assert_eq!(trace["search"]["sampled"], false);
        let turned = trace["arrays"]["decoder.rotary.frequencies"].is_object();
        assert_eq!(turned, golden != "gpt2_odd");
        let gated = trace["arrays"]["decoder.layers.0.feed_forward.gated"].is_object();
        assert_eq!(gated, golden != "gpt2_odd");
        let chosen = generated["tokens"][0]["id"].as_u64().unwrap();
        let other = trace["candidates"][2]["tokens"][1][0].as_u64().unwrap();
        assert_ne!(chosen, other);
        let asked = format!("explain --model model --max-decoding-length 1 --contrast w{other}");
        let told = dir.command(&asked).arg(&text).output().unwrap();
        let told = common::text(&told.stdout);
        assert!(
            told.contains("at output token 1") && told.lines().count() == 5,
            "{told}"
        );
    }
}

#[test]
fn what_a_decoder_alone_cannot_explain_is_refused() {
    let dir = decoder("llama_shared");
    let before = names(&dir.path(""));
    for (args, said) in [
        ("explain w5 --model model --serve", "--serve"),
        ("explain w5 --model model --to de", "--to"),
        ("explain w5 --model model --sentence 2", "--sentence"),
        ("explain w5 --model model --no-split", "--no-split"),
        ("explain w5 --model model --contrast zzzz", "--contrast"),
        ("explain w5 --model model --beam-size 0", "beam"),
        (
            "explain w5 --model model --max-decoding-length 0",
            "--max-decoding-length",
        ),
        (
            "explain w5 --model model --max-decoding-length 60",
            "max_new_tokens",
        ),
        ("explain w5 --model model --output none/page.html", "none"),
    ] {
        let told = dir.refuse(args);
        assert!(told.contains(said), "{args}: {told}");
        assert_eq!(names(&dir.path("")), before, "{args}");
    }
    for text in ["", " \n ", &"w5 ".repeat(100)] {
        let ran = dir.command("explain --model model").arg(text).output();
        let ran = ran.unwrap();
        assert_eq!(ran.status.code(), Some(1), "`{text}`");
        assert!(common::text(&ran.stderr).contains("hint"), "`{text}`");
        assert_eq!(names(&dir.path("")), before);
    }
}

#[test]
fn what_cannot_be_explained_is_refused_and_nothing_is_written() {
    let dir = dir("bert_bare");
    fs::create_dir(dir.path("folder")).unwrap();
    let before = names(&dir.path(""));
    for (args, said) in [
        ("explain Hello. --model nowhere", "no model folder"),
        ("explain Hello. --model pairs.tsv", "folder"),
        ("explain Hello. --sentence 0", "--sentence"),
        ("explain Hello. --sentence 3", "1 to 1"),
        ("explain Hello. --to xx", "xx"),
        ("explain Hello. --to de --contrast zzzz", "--contrast"),
        ("explain Hello. --output folder", "folder"),
        ("explain Hello. --output none/page.html", "none"),
        ("explain Hello. --json none/trace.json", "none"),
        ("explain Hello. --arrays none/all.safetensors", "none"),
        ("explain Hello. --beam-size 0", "beam"),
        ("explain the --model model --contrast dog", "--contrast"),
        ("explain the --model model --to de", "--to"),
        ("explain the --model model --sentence 2", "--sentence"),
        ("explain --serve --listen 0.0.0.0:0", "--listen"),
        ("explain the --model model --serve", "--serve"),
    ] {
        let told = dir.refuse(args);
        assert!(told.contains(said), "{args}: {told}");
        assert_eq!(names(&dir.path("")), before, "{args}");
    }
    let long = "dog ".repeat(40);
    for (text, model, said) in [
        ("", "", "no text"),
        (" \t ", "", "no text"),
        ("one\ntwo", "", "one line"),
        ("", "--model model", "no text"),
        (long.trim(), "--model model", "at most 24 tokens"),
    ] {
        let ran = dir
            .command(&format!("explain {model}"))
            .arg(text)
            .output()
            .unwrap();
        let told = common::text(&ran.stderr);
        assert_eq!(ran.status.code(), Some(1), "`{text}`: {told}");
        assert!(
            told.contains(said) && told.contains("hint"),
            "`{text}`: {told}"
        );
        assert_eq!(names(&dir.path("")), before);
    }
    for args in [
        "explain",
        "explain a b",
        "explain a --ui fr",
        "explain a --names transformerlens",
        "explain a --names bertviz --arrays x",
        "explain a --listen 127.0.0.1:0",
        "explain a --serve --output x",
        "explain --serve --listen localhost",
    ] {
        assert_eq!(dir.run(args).status.code(), Some(2), "{args}");
    }
}

#[test]
fn what_was_there_stays_where_writing_fails() {
    let dir = TestDir::new();
    dir.write("page.html", "old");
    let said = dir.refuse("explain Hello. --to xx --output page.html");
    assert!(said.contains("xx"));
    assert_eq!(dir.read("page.html"), "old");
    dir.accept("explain Hello. --to de --output page.html");
    assert!(dir.read("page.html").len() > 1_000_000);
}

#[test]
fn heads_are_told_as_a_table_and_as_json() {
    let dir = TestDir::new();
    dir.write(
        "few.tsv",
        "Tom has three cats.\tTom hat drei Katzen.\nGood morning.\tGuten Morgen.\nIs it cold?\tIst es kalt?\n",
    );
    let (said, _) = dir.accept("heads --tsv few.tsv --to de --json heads.json");
    let lines: Vec<Vec<&str>> = said
        .lines()
        .map(|line| line.split('\t').collect())
        .collect();
    assert_eq!(lines.len(), 1 + 6 * 4 + 2 * 8);
    assert!(lines.iter().all(|line| line.len() == 8), "{said}");
    let heads = json_of(&dir, "heads.json");
    let heads = heads.as_array().unwrap();
    assert_eq!(heads.len(), 40);
    for (line, head) in lines[1..].iter().zip(heads) {
        assert_eq!(line[0], head["attention"]);
        let is_self = line[0].ends_with("self_attention");
        assert_eq!(line[2] != "-", is_self, "{line:?}");
        let share = |name: &str| head[name].as_f64().unwrap_or(0.0);
        let sum = share("previous") + share("own") + share("next");
        assert!((0.0..=1.0001).contains(&sum), "{head}");
        assert!((0.0..=1.0001).contains(&share("special")) && share("entropy") >= 0.0);
    }
    // The first layer of the embedded model has a head that looks at one neighbour, and some head matters.
    let most = |name: &str| {
        heads
            .iter()
            .filter_map(|h| h[name].as_f64())
            .fold(0.0, f64::max)
    };
    assert!(most("previous").max(most("next")) > 0.3);
    assert!(most("loss") > 0.01);
    // Causal: no decoder looks ahead.
    for head in heads
        .iter()
        .filter(|h| h["attention"].as_str().unwrap().starts_with("decoder."))
    {
        assert!(head["next"].as_f64().unwrap_or(0.0) == 0.0, "{head}");
    }
    for (args, said) in [
        ("heads --tsv few.tsv --pairs 0", "--pairs"),
        ("heads --tsv none.tsv", "none.tsv"),
        ("heads --tsv few.tsv --to xx", "xx"),
        ("heads --tsv few.tsv --json none/heads.json", "none"),
    ] {
        assert!(dir.refuse(args).contains(said), "{args}");
    }
}
