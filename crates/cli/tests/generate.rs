//! `hexapla generate`: what it writes, and what is refused.

mod common;

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Stdio;

use common::{decoder as dir, names, text};
use serde_json::{Value, json};

/// Prompts of a golden folder's first search, and what becomes of them.
fn golden(name: &str) -> (Vec<Vec<u32>>, Vec<Vec<u32>>) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../hexapla/tests/golden/decoders");
    let file = fs::read(path.join(name).join("golden.json")).unwrap();
    let golden: Value = serde_json::from_slice(&file).unwrap();
    let of = |key: &str| serde_json::from_value(golden["generate"][0][key].clone()).unwrap();
    (of("prompts"), of("outputs"))
}

fn words(ids: &[u32]) -> String {
    let words: Vec<String> = ids.iter().map(|id| format!("w{id}")).collect();
    words.join(" ")
}

fn json_lines(told: &str) -> Vec<Value> {
    let line = |line: &str| serde_json::from_str(line).unwrap();
    told.lines().map(line).collect()
}

#[test]
fn texts_and_ids_go_on_alike() {
    let dir = dir("llama_shared");
    let (prompts, outputs) = golden("llama_shared");
    let ids: Vec<String> = prompts.iter().map(|ids| json!(ids).to_string()).collect();
    dir.write("ids.jsonl", ids.join("\n") + "\n");
    let asked = "--model model --max-new-tokens 12";
    let (told, _) = dir.accept(&format!("generate {asked} --input-ids ids.jsonl"));
    let expected: Vec<String> = outputs.iter().map(|ids| json!(ids).to_string()).collect();
    assert_eq!(told, expected.join("\n") + "\n");
    // The same as texts, in JSON lines.
    let lines: Vec<String> = prompts
        .iter()
        .enumerate()
        .map(|(i, ids)| match i % 2 {
            0 => json!(words(ids)).to_string(),
            _ => json!({"prompt": words(ids)}).to_string(),
        })
        .collect();
    dir.write("prompts.jsonl", lines.join("\n") + "\n");
    let command = format!("generate {asked} --json-lines prompts.jsonl --log-probs");
    let (told, _) = dir.accept(&command);
    let answers = json_lines(&told);
    assert_eq!(answers.len(), outputs.len());
    for (i, (answer, ids)) in answers.iter().zip(&outputs).enumerate() {
        let ended = ids.last() == Some(&2);
        let text = &ids[..ids.len() - usize::from(ended)];
        assert_eq!(answer["index"], i);
        // What separates it from the text before it is a part of it.
        let between = if text.is_empty() { "" } else { " " };
        assert_eq!(answer["text"], between.to_string() + &words(text));
        assert_eq!(answer["finish"], if ended { "end" } else { "length" });
        assert_eq!(answer["new_tokens"], ids.len());
        let tokens = answer["tokens"].as_array().unwrap();
        let found: Vec<&Value> = tokens.iter().map(|token| &token["id"]).collect();
        assert_eq!(json!(found), json!(ids));
        let sum: f64 = tokens.iter().map(|t| t["log_prob"].as_f64().unwrap()).sum();
        assert!((sum - answer["log_prob"].as_f64().unwrap()).abs() < 1e-4);
    }
    // An argument, a file and standard input are one text each, and answered as it comes.
    let prompt = words(&prompts[0]);
    let expected = answers[0]["text"].as_str().unwrap().to_string() + "\n";
    let said = dir
        .command(&format!("generate {asked}"))
        .arg(&prompt)
        .output()
        .unwrap();
    assert_eq!(text(&said.stdout), expected);
    dir.write("text.txt", &prompt);
    assert_eq!(
        dir.accept(&format!("generate {asked} --input text.txt")).0,
        expected
    );
    let mut child = dir
        .command(&format!("generate {asked}"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(prompt.as_bytes())
        .unwrap();
    assert_eq!(text(&child.wait_with_output().unwrap().stdout), expected);
    // A stop string ends it in the middle of a word.
    let whole = answers[0]["text"].as_str().unwrap();
    let words: Vec<&str> = whole.split(' ').collect();
    let stop = format!("{} {}", words[2], &words[3][..1]);
    let said = dir
        .command(&format!("generate {asked} --json --stop"))
        .args([&stop, &prompt])
        .output()
        .unwrap();
    let answer = &json_lines(&text(&said.stdout))[0];
    assert_eq!(answer["finish"], "stop");
    assert_eq!(answer["text"], whole[..whole.find(&stop).unwrap()]);
}

#[test]
fn chance_repeats_itself() {
    let dir = dir("qwen3_odd");
    let sampled = |flags: &str| {
        let command = format!("generate w5 --model model --max-new-tokens 10 {flags}");
        dir.accept(&command).0
    };
    let one = sampled("--temperature 1.5 --seed 3 --n 4");
    assert_eq!(one.lines().count(), 4);
    assert_eq!(one, sampled("--temperature 1.5 --seed 3 --n 4 --threads 1"));
    assert_ne!(one, sampled("--temperature 1.5 --seed 4 --n 4"));
    // The first of four is the only one of one.
    let first = one.lines().next().unwrap();
    assert_eq!(sampled("--temperature 1.5 --seed 3").trim_end(), first);
    // The likeliest token, whichever way it is asked for.
    let greedy = sampled("--temperature 0");
    for flags in [
        "",
        "--beam-size 1",
        "--top-k 1",
        "--min-p 1",
        "--temperature 1 --top-p 1e-6",
    ] {
        assert_eq!(sampled(flags), greedy, "{flags}");
    }
    assert_ne!(sampled("--frequency-penalty 5"), greedy);
    assert!(sampled("--beam-size 3 --n 3").lines().count() == 3);
}

#[test]
fn what_cannot_be_generated_is_refused() {
    let dir = dir("mistral_window");
    dir.write("broken.jsonl", "\"w3\"\n{\"prompt\": 5}\n");
    dir.write(
        "unknown.jsonl",
        "{\"prompt\": \"w3\", \"temperature\": 1}\n",
    );
    dir.write("ids.jsonl", "[3, 4]\n[3, 99]\n");
    fs::write(dir.path("bytes.txt"), b"w3 \xff").unwrap();
    let long = vec!["w7"; 70].join(" ");
    dir.write("long.txt", &long);
    let before = names(&dir.path(""));
    for (args, said) in [
        ("w3 --model nowhere", "no model folder"),
        ("w3 --model ids.jsonl", "model folder"),
        ("w3 --model model --max-new-tokens 0", "--max-new-tokens"),
        ("w3 --model model --max-new-tokens 60", "max_new_tokens"),
        ("w3 --model model --temperature -1", "temperature"),
        ("w3 --model model --temperature NaN", "temperature"),
        ("w3 --model model --top-p 2", "top_p"),
        ("w3 --model model --min-p inf", "min_p"),
        (
            "w3 --model model --repetition-penalty 0",
            "repetition_penalty",
        ),
        (
            "w3 --model model --presence-penalty nan",
            "presence_penalty",
        ),
        ("w3 --model model --n 0", "n_best"),
        (
            "w3 --model model --temperature 1 --beam-size 3",
            "beam_size",
        ),
        ("--model model --input long.txt", "text 1, prompt"),
        ("--model model --input nowhere.txt", "nowhere.txt"),
        ("--model model --input bytes.txt", "UTF-8"),
        ("--model model --json-lines broken.jsonl", "line 2"),
        ("--model model --json-lines unknown.jsonl", "`temperature`"),
        (
            "--model model --input-ids ids.jsonl --max-new-tokens 3",
            "line 2",
        ),
    ] {
        let told = dir.refuse(&format!("generate {args}"));
        assert!(told.contains(said), "{args}: {told}");
        assert_eq!(names(&dir.path("")), before, "{args}");
    }
    let empty = dir
        .command("generate --model model --stop")
        .args(["", "w3"])
        .output();
    assert!(text(&empty.unwrap().stderr).contains("--stop"));
    // An empty text is the token that begins one.
    let said = dir
        .command("generate --model model --max-new-tokens 2 --json")
        .arg("")
        .output();
    assert_eq!(json_lines(&text(&said.unwrap().stdout))[0]["new_tokens"], 2);
    // Other commands tell what this model does.
    for command in ["translate w3 --model model", "embed w3 --model model"] {
        let told = dir.refuse(command);
        assert!(told.contains("generate"), "{command}: {told}");
    }
    // And this one, what theirs do.
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/demo");
    let told = dir.refuse(&format!("generate w3 --model {}", demo.display()));
    assert!(told.contains("`hexapla translate --model`"), "{told}");
    let (told, _) = dir.accept("inspect model");
    assert!(
        told.contains("decoder: goes on with texts") && told.contains("window"),
        "{told}"
    );
}

#[test]
fn what_is_damaged_is_refused() {
    let dir = dir("qwen2_window");
    let config = dir.read("model/config.json");
    for (key, value, said) in [
        (
            "rope_parameters",
            json!({"rope_type": "dynamic", "factor": 2.0}),
            "rope_type",
        ),
        (
            "rope_parameters",
            json!({"rope_type": "default", "new": 1}),
            "new",
        ),
        ("layer_types", json!(["full_attention"]), "layer_types"),
        ("num_key_value_heads", json!(3), "kv_heads"),
        ("num_key_value_heads", json!(0), "kv_heads"),
        ("num_attention_heads", json!(0), "heads"),
        ("hidden_act", json!("swiglu"), "hidden_act"),
        ("vocab_size", json!(38), "embed_tokens"),
        ("sliding_window", json!(0), "window"),
        (
            "attn_logit_softcapping",
            json!(50.0),
            "attn_logit_softcapping",
        ),
        ("eos_token_id", json!(99), "eos_token_ids"),
        ("model_type", json!("gemma9"), "gemma9"),
    ] {
        let mut changed: Value = serde_json::from_str(&config).unwrap();
        changed[key] = value;
        if key == "eos_token_id" {
            let _ = fs::remove_file(dir.path("model/generation_config.json"));
        }
        dir.write("model/config.json", changed.to_string());
        let told = dir.refuse("generate w3 --model model");
        assert!(told.contains(said), "{key}: {told}");
    }
}

#[test]
fn a_text_has_a_perplexity() {
    let dir = dir("llama_linear");
    let text = vec!["w5 w9 w30"; 50].join(" ");
    dir.write("text.txt", &text);
    let score = |flags: &str| {
        let (told, _) = dir.accept(&format!("score --model model --text text.txt {flags}"));
        let mut words = told.split(' ');
        let perplexity: f64 = words.nth(1).unwrap().parse().unwrap();
        (perplexity, words.nth(1).unwrap().to_string())
    };
    // Every token but the first counts, whatever the stride; those with more before them are foreseen otherwise.
    let (half, tokens) = score("");
    assert_eq!(tokens, "149");
    let (whole, tokens) = score("--stride 60");
    assert_eq!(tokens, "149");
    assert_eq!(score("--stride 30").0, half);
    assert!(half > 1.0 && whole > 1.0 && half != whole, "{half} {whole}");
    dir.write("empty.txt", "");
    for (args, said) in [
        ("--model model --text nowhere.txt", "nowhere.txt"),
        ("--model model --text empty.txt", "empty.txt"),
        ("--model model --text text.txt --stride 0", "1 to 60"),
        ("--model model --text text.txt --stride 61", "1 to 60"),
        ("--model model --tsv pairs.tsv", "generate"),
    ] {
        let told = dir.refuse(&format!("score {args}"));
        assert!(told.contains(said), "{args}: {told}");
    }
    assert_eq!(dir.run("score --text text.txt").status.code(), Some(2));
}
