//! Encoders at work: one answer for each line, in order, and nothing cut in silence.

mod common;

use std::fs;

use common::{TestDir, encoder as dir, text};
use serde_json::{Value, json};

fn lines(said: &str) -> Vec<Value> {
    said.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Modules of sentence-transformers beside the encoder.
fn add_modules(dir: &TestDir) {
    let module = |n: usize, path: &str, kind: &str| json!({"idx": n, "name": n.to_string(), "path": path, "type": format!("sentence_transformers.models.{kind}")});
    let modules = json!([
        module(0, "", "Transformer"),
        module(1, "1_Pooling", "Pooling"),
        module(2, "2_Normalize", "Normalize"),
    ]);
    dir.write("model/modules.json", modules.to_string());
    fs::create_dir(dir.path("model/1_Pooling")).unwrap();
    dir.write(
        "model/1_Pooling/config.json",
        json!({"pooling_mode": ["cls", "mean"], "include_prompt": false}).to_string(),
    );
    dir.write(
        "model/config_sentence_transformers.json",
        json!({"prompts": {"query": "the day , "}, "similarity_fn_name": "dot"}).to_string(),
    );
}

#[test]
fn a_model_in_a_folder_of_its_own_is_converted_with_what_is_around_it() {
    let dir = dir("bert_bare");
    add_modules(&dir);
    let (top, _) = dir.accept("embed --model model --prompt query --input lines.txt");
    // As older versions of sentence-transformers write it.
    fs::create_dir(dir.path("model/0_Transformer")).unwrap();
    for file in ["config.json", "model.safetensors", "vocab.txt"] {
        let to = dir.path("model/0_Transformer").join(file);
        fs::rename(dir.path("model").join(file), to).unwrap();
    }
    let modules = fs::read_to_string(dir.path("model/modules.json")).unwrap();
    let modules = modules.replacen("\"path\":\"\"", "\"path\":\"0_Transformer\"", 1);
    dir.write("model/modules.json", modules);
    let (inner, _) = dir.accept("embed --model model --prompt query --input lines.txt");
    assert_eq!(inner, top);
    dir.accept("convert model --output floats --compute-type float32");
    let (floats, _) = dir.accept("embed --model floats --prompt query --input lines.txt");
    assert_eq!(floats, top);
    dir.accept("convert model --output int8");
    let (int8, _) = dir.accept("embed --model int8 --prompt query --input lines.txt");
    assert_eq!(int8.lines().count(), top.lines().count());
    assert_ne!(int8, top);
    // A tokenizer may stay at the top.
    fs::rename(
        dir.path("model/0_Transformer/vocab.txt"),
        dir.path("model/vocab.txt"),
    )
    .unwrap();
    let (inner, _) = dir.accept("embed --model model --prompt query --input lines.txt");
    assert_eq!(inner, top);
    dir.accept("convert model --output again --compute-type float32");
    let (floats, _) = dir.accept("embed --model again --prompt query --input lines.txt");
    assert_eq!(floats, top);
    // A broken one beside the model is not passed over.
    dir.write("model/0_Transformer/tokenizer.json", "{");
    let told = dir.refuse("embed --model model a");
    assert!(told.contains("tokenizer.json"), "{told}");
}

#[test]
fn vectors_come_line_by_line() {
    let dir = dir("bert_bare");
    let (said, told) = dir.accept("embed --model model --input lines.txt");
    let vectors = lines(&said);
    assert_eq!(vectors.len(), 3);
    assert!(vectors.iter().all(|v| v.as_array().unwrap().len() == 12));
    assert!(told.contains("their mean is taken"), "{told}");
    let (alone, _) = dir.accept("embed --model model --threads 1 --input lines.txt");
    assert_eq!(alone, said);
    dir.accept("embed --model model --input lines.txt --output out.npy");
    let array = fs::read(dir.path("out.npy")).unwrap();
    assert_eq!(array.len(), 128 + 3 * 12 * 4);
    let number = f32::from_le_bytes(array[128..132].try_into().unwrap());
    assert_eq!(json!(number), json!(vectors[0][0].as_f64().unwrap() as f32));
    let (short, _) = dir.accept("embed --model model --dimensions 5 --normalize --input lines.txt");
    for vector in lines(&short) {
        let vector: Vec<f64> = serde_json::from_value(vector).unwrap();
        assert_eq!(vector.len(), 5);
        assert!((vector.iter().map(|x| x * x).sum::<f64>() - 1.0).abs() < 1e-5);
    }
    let told = dir.refuse("embed --model model --dimensions 13 a");
    assert!(told.contains("1 to 12"), "{told}");
    let told = dir.refuse("embed --model model --prompt query a");
    assert!(told.contains("names no prompts"), "{told}");
    let told = dir.refuse("translate --model model a");
    assert!(told.contains("hexapla embed"), "{told}");
}

#[test]
fn modules_are_followed_and_kept() {
    let dir = dir("bert_bare");
    add_modules(&dir);
    let (said, _) = dir.accept("embed --model model --input lines.txt");
    assert!(
        lines(&said)
            .iter()
            .all(|v| v.as_array().unwrap().len() == 24)
    );
    let (asked, _) = dir.accept("embed --model model --prompt query --input lines.txt");
    assert_ne!(asked, said);
    let told = dir.refuse("embed --model model --prompt passage a");
    assert!(told.contains("one of query"), "{told}");
    let (shown, _) = dir.accept("inspect model");
    for part in [
        "bert",
        "encoder alone",
        "pooling First + Mean without the prompt, normalize",
        "Dot",
        "query",
        "vocab.txt",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    // Stored in int8, with all that belongs to it.
    dir.accept("convert model --output int8");
    let (stored, _) = dir.accept("embed --model int8 --input lines.txt");
    let (rounded, _) = dir.accept("embed --model model --compute-type int8 --input lines.txt");
    assert_eq!(stored, rounded);
    dir.accept("convert int8 --output back --compute-type float32");
    dir.accept("embed --model back a");
    dir.write("pairs.tsv", "the dog\tthe dog\nthe dog\ta red house\n");
    let (alike, _) = dir.accept("similarity --model model --input pairs.tsv");
    assert_eq!(alike.lines().next(), Some("1.000000"), "{alike}");
    let told = dir.refuse("similarity --model model dog");
    assert!(
        told.contains("arguments, line 1") && told.contains("a tab"),
        "{told}"
    );
    for (file, content, place) in [
        (
            "model/1_Pooling/config.json",
            json!({"pooling_mode": "median"}),
            "pooling_mode",
        ),
        (
            "model/modules.json",
            json!([{"path": "", "type": "a.Transformer"}, {"path": "x", "type": "a.CNN"}]),
            "[1].type",
        ),
        (
            "model/modules.json",
            json!([{"path": "../x", "type": "a.Transformer"}]),
            "[0].path",
        ),
        ("model/modules.json", json!({}), "modules.json"),
    ] {
        dir.write(file, content.to_string());
        let told = dir.refuse("embed --model model a");
        assert!(told.contains(place), "{told}");
    }
}

#[test]
fn a_text_that_is_too_long_is_told_after_those_before_it() {
    let dir = dir("bert_bare");
    let long = vec!["sun"; 60].join(" ");
    dir.write("long.txt", format!("the dog\n{long}\na man\n"));
    let out = dir.run("embed --model model --input long.txt");
    let told = text(&out.stderr);
    assert_eq!(out.status.code(), Some(1));
    assert_eq!(text(&out.stdout).lines().count(), 1, "{told}");
    for part in [
        "long.txt, line 2",
        "at most 24 tokens",
        "62 tokens",
        "--long windows",
    ] {
        assert!(told.contains(part), "{told}");
    }
    for long in ["windows", "cut"] {
        let (said, _) = dir.accept(&format!(
            "embed --model model --long {long} --input long.txt"
        ));
        assert_eq!(said.lines().count(), 3);
    }
    let (cut, _) = dir.accept("embed --model model --long cut --input long.txt");
    let (windows, _) = dir.accept("embed --model model --long windows --input long.txt");
    assert_ne!(cut.lines().nth(1), windows.lines().nth(1));
    assert_eq!(cut.lines().nth(2), windows.lines().nth(2));
}

#[test]
fn each_head_has_its_command() {
    let classes = dir("bert_classes");
    let (said, _) = classes.accept("classify --model model --all --input lines.txt");
    for line in lines(&said) {
        let scores = line.as_array().unwrap().iter();
        let sum: f64 = scores.map(|class| class["score"].as_f64().unwrap()).sum();
        assert!((sum - 1.0).abs() < 1e-5);
    }
    let (best, _) = classes.accept("classify --model model --input lines.txt");
    assert_eq!(lines(&best)[1], lines(&said)[1][0]);
    let reranker = dir("bert_reranker");
    let (said, _) = reranker.accept("rerank --model model --query dog --input lines.txt");
    assert_eq!(said.lines().count(), 3);
    assert!(
        said.lines()
            .nth(1)
            .unwrap()
            .ends_with("\tA man sleeps well."),
        "{said}"
    );
    let (sorted, _) =
        reranker.accept("rerank --model model --query dog --sort --top 2 --input lines.txt");
    let score = |line: &str| line.split('\t').next().unwrap().parse::<f64>().unwrap();
    let scores: Vec<f64> = sorted.lines().map(score).collect();
    assert!(scores.len() == 2 && scores[0] >= scores[1]);
    let tokens = dir("bert_tokens");
    let (said, _) = tokens.accept("tag --model model --input lines.txt");
    let tagged = lines(&said);
    assert_eq!(tagged[1][1]["word"], "man");
    assert_eq!(
        (&tagged[1][1]["start"], &tagged[1][1]["end"]),
        (&json!(2), &json!(5))
    );
    assert_eq!(tagged[2], json!([]));
    let masked = dir("bert_masked");
    masked.write("gaps.txt", "the [MASK] eats\n[MASK] [MASK]\n");
    let (said, _) = masked.accept("fill --model model --top 3 --input gaps.txt");
    let filled = lines(&said);
    assert_eq!(
        (
            filled[0].as_array().unwrap().len(),
            filled[1].as_array().unwrap().len()
        ),
        (1, 2)
    );
    assert_eq!(filled[0][0].as_array().unwrap().len(), 3);
    let told = masked.refuse("fill --model model dog");
    assert!(told.contains("[MASK]"), "{told}");
    for (dir, command, hint) in [
        (&classes, "fill --model model [MASK]", "classify"),
        (&classes, "tag --model model dog", "classify"),
        (&tokens, "classify --model model dog", "tag"),
        (&masked, "rerank --model model --query a dog", "fill"),
    ] {
        let told = dir.refuse(command);
        assert!(told.contains(hint), "{told}");
    }
}

#[test]
fn logits_have_the_shape_of_the_head() {
    let input =
        br#"{"input_ids": [[2, 5, 6, 3], [2, 3]], "token_type_ids": [[0, 0, 1, 1], [0, 0]]}"#;
    for (golden, key, shape) in [
        ("bert_bare", "hidden", vec![2, 4, 12]),
        ("bert_masked", "logits", vec![2, 4, 37]),
        ("bert_classes", "logits", vec![2, 3]),
        ("bert_tokens", "logits", vec![2, 4, 3]),
    ] {
        let dir = dir(golden);
        let out = dir.feed("logits model --input -", input);
        let value: Value = serde_json::from_slice(&out.stdout).unwrap();
        let mut part = &value[key];
        for size in shape {
            assert_eq!(part.as_array().unwrap().len(), size, "{golden}");
            part = &part[0];
        }
    }
    let dir = dir("bert_bare");
    for (input, place) in [
        (r#"{"input_ids": [[37]]}"#, "below 37"),
        (
            r#"{"input_ids": [[1]], "token_type_ids": [[2]]}"#,
            "token_type_ids",
        ),
        (
            r#"{"input_ids": [[1], [2]], "token_type_ids": [[0]]}"#,
            "token_type_ids",
        ),
        (r#"{"input_ids": [[]]}"#, "1 to 24 tokens"),
        (r#"{}"#, "no `input_ids`"),
    ] {
        let out = dir.feed("logits model --input -", input.as_bytes());
        let told = text(&out.stderr);
        assert!(
            out.status.code() == Some(1) && told.contains(place),
            "{input}: {told}"
        );
    }
}
