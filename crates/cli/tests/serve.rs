//! `hexapla serve`: the same answers as on the command line, whoever else asks; refusals in the shape of each interface.

mod common;
#[path = "common/http.rs"]
mod http;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::{TestDir, decoder, encoder, text};
use http::{Server, read, request};
use rustix::process::Signal;
use serde_json::{Value, json};

fn serve(dir: &TestDir, args: &str) -> Server {
    Server::start(dir.command(&format!("serve --listen 127.0.0.1:0 {args}")))
}

/// What the program translates on the command line.
fn translated(dir: &TestDir, args: &str, line: &str) -> String {
    let out = dir.feed(&format!("translate {args}"), line.as_bytes());
    text(&out.stdout).trim_end_matches('\n').to_string()
}

const GERMAN: [&str; 3] = [
    "Guten Morgen, wie geht es dir heute?",
    "Ich habe zwei Bücher gekauft, und eines davon ist sehr alt.",
    "Das Wetter ist schön. Wir gehen in den Park. Kommst du mit?",
];

#[test]
fn libretranslate_is_answered_as_the_command_line_translates() {
    let dir = TestDir::new();
    let server = serve(&dir, "");
    let expected = GERMAN.map(|line| translated(&dir, "--from de --to en", line));
    let asked = |q: Value, source: &str| json!({"q": q, "source": source, "target": "en"});
    let one = server.accept("/translate", &asked(json!(GERMAN[0]), "de"));
    assert_eq!(one, json!({"translatedText": expected[0]}));
    let all = server.accept("/translate", &asked(json!(GERMAN), "de"));
    assert_eq!(all, json!({"translatedText": expected}));
    // Several lines are several lines.
    let lines = server.accept("/translate", &asked(json!(GERMAN.join("\n")), "DE"));
    assert_eq!(lines["translatedText"], expected.join("\n"));
    let mixed = json!([GERMAN[0], "Good morning, how are you today?", "😀", ""]);
    let detected = server.accept("/translate", &asked(mixed, "auto"));
    let language = |i: usize| detected["detectedLanguage"][i]["language"].clone();
    assert_eq!(
        json!([language(0), language(1), language(2)]),
        json!(["de", "en", "en"])
    );
    assert_eq!(detected["detectedLanguage"][2]["confidence"], 0.0);
    // What is in the target's language already, or no text, stays.
    assert_eq!(
        detected["translatedText"][1],
        "Good morning, how are you today?"
    );
    assert_eq!(
        json!([detected["translatedText"][0], detected["translatedText"][2]]),
        json!([expected[0], "😀"])
    );
    // A form, and a query string.
    let form = "q=Guten+Morgen%2C+wie+geht+es+dir+heute%3F&source=de&target=en&api_key=";
    let kind = "content-type: application/x-www-form-urlencoded\r\n";
    let of_form = server.ask("POST", "/translate", kind, form.as_bytes());
    assert_eq!(of_form.json()["translatedText"], expected[0]);
    let of_query = server.ask("POST", &format!("/translate?{form}"), "", b"");
    assert_eq!(of_query.json()["translatedText"], expected[0]);
    let multipart = format!(
        "--B\r\ncontent-disposition: form-data; name=\"q\"\r\n\r\n{}\r\n--B\r\ncontent-disposition: form-data; name=\"source\"\r\n\r\nde\r\n--B\r\ncontent-disposition: form-data; name=\"target\"\r\n\r\nen\r\n--B--\r\n",
        GERMAN[0]
    );
    let kind = "content-type: multipart/form-data; boundary=B\r\n";
    let of_parts = server.ask("POST", "/translate", kind, multipart.as_bytes());
    assert_eq!(
        of_parts.json()["translatedText"],
        expected[0],
        "{}",
        of_parts.body
    );
    let others = json!({"q": GERMAN[1], "source": "de", "target": "en", "alternatives": 3});
    let others = server.accept("/translate", &others);
    assert_eq!(
        others["alternatives"].as_array().unwrap().len(),
        3,
        "{others}"
    );
    let own = json!({"q": "Es kostet 1.234 Euro.", "source": "de", "target": "en",
        "hexapla": {"confidence": true, "alignments": true}});
    let own = server.accept("/translate", &own);
    let told = &own["hexapla"];
    assert!(
        told["confidence"].as_f64().unwrap() > 0.0 && told["alignments"][0]["links"].is_array(),
        "{own}"
    );
    let languages = server.get("/languages").json();
    let german = languages
        .as_array()
        .unwrap()
        .iter()
        .find(|l| l["code"] == "de")
        .unwrap();
    assert_eq!(
        *german,
        json!({"code": "de", "name": "German", "targets": ["en"]})
    );
    let detected = server.accept("/detect", &json!({"q": GERMAN[2]}));
    assert_eq!(detected[0]["language"], "de");
    assert_eq!(
        server.get("/frontend/settings").json()["keyRequired"],
        false
    );
}

#[test]
fn a_folder_that_does_not_say_its_languages_is_told_them() {
    let dir = TestDir::new();
    let golden = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../hexapla/tests/golden/marian_tied"
    );
    let line = "a b c";
    let expected = translated(&dir, &format!("--model {golden}"), line);
    let asked = json!({"q": line, "source": "de", "target": "en"});
    let server = serve(&dir, &format!("--model {golden} --from de --to en"));
    assert_eq!(
        server.accept("/translate", &asked)["translatedText"],
        expected
    );
    let other = json!({"q": line, "source": "en", "target": "de"});
    assert_eq!(server.post("/translate", &other).status, 400);
    drop(server);
    let untold = serve(&dir, &format!("--model {golden}"));
    assert_eq!(untold.post("/translate", &asked).status, 400);
}

#[test]
fn html_keeps_its_tags_and_every_other_byte() {
    let dir = TestDir::new();
    let server = serve(&dir, "");
    let translate = |html: &str| {
        let asked = json!({"q": html, "source": "de", "target": "en", "format": "html"});
        let found = server.accept("/translate", &asked);
        found["translatedText"].as_str().unwrap().to_string()
    };
    let plain = GERMAN.map(|line| translated(&dir, "--from de --to en", line));
    let page = |lines: &[String]| {
        format!(
            "<!DOCTYPE html>\n<div class='a'>\n  <h1>{}</h1>\n<pre> Das  bleibt </pre><p>{}<br>{}</p><script>var a = \"Hallo\";</script></div>\n",
            lines[0], lines[1], lines[2]
        )
    };
    assert_eq!(translate(&page(&GERMAN.map(String::from))), page(&plain));
    // A tag stands around the word that its word has become.
    let bold = translate("<p>Das Wetter ist <b class=\"x\">schön</b>.</p>");
    let whole = translated(&dir, "--from de --to en", "Das Wetter ist schön.");
    assert_eq!(
        bold.replace("<b class=\"x\">", "").replace("</b>", ""),
        format!("<p>{whole}</p>")
    );
    let inside = bold
        .split("<b class=\"x\">")
        .nth(1)
        .unwrap()
        .split("</b>")
        .next()
        .unwrap();
    assert!(
        ["nice", "beautiful", "fine", "good", "lovely"].contains(&inside),
        "{bold}"
    );
    // Also behind other sentences.
    let third =
        translate("<p>Guten Morgen. Ich habe Hunger. Das Wetter ist <b class=\"x\">schön</b>.</p>");
    let again = third.split("<b class=\"x\">").nth(1).unwrap();
    assert_eq!(again.split("</b>").next().unwrap(), inside, "{third}");
    // What was a text does not become a tag.
    assert!(!translate("<p>Das Zeichen &lt;b&gt; ist schön &amp; gut.</p>").contains("<b>"));
    let of_deepl = json!({"text": ["<p>Das Wetter ist schön.</p>"], "target_lang": "EN", "tag_handling": "html"});
    let of_deepl = server.accept("/v2/translate", &of_deepl);
    assert_eq!(
        of_deepl["translations"][0]["text"],
        format!("<p>{whole}</p>")
    );
}

#[test]
fn deepl_is_answered_in_its_shape() {
    let dir = TestDir::new();
    let server = serve(&dir, "");
    let expected = translated(&dir, "--from de --to en", GERMAN[0]);
    let asked = json!({"text": [GERMAN[0], GERMAN[0]], "target_lang": "EN-US", "show_billed_characters": true});
    let found = server.accept("/v2/translate", &asked);
    for translation in found["translations"].as_array().unwrap() {
        assert_eq!(translation["text"], expected);
        assert_eq!(translation["detected_source_language"], "DE");
        assert_eq!(translation["billed_characters"], GERMAN[0].chars().count());
    }
    let languages = server.get("/v2/languages?type=target").json();
    assert!(
        languages
            .as_array()
            .unwrap()
            .iter()
            .any(|l| l["language"] == "ZH-HANS")
    );
    assert!(server.get("/v2/usage").json()["character_limit"].is_u64());
    let refused = server.post("/v2/translate", &json!({"text": ["x"]}));
    assert_eq!(
        (refused.status, refused.json()["message"].is_string()),
        (400, true)
    );
}

/// A decoder with a chat template.
fn talker() -> TestDir {
    let dir = decoder("llama_shared");
    let template = "{% for m in messages %}{{ 'w5 ' if m.role == 'user' else 'w6 ' }}{{ m.content | trim }} {% endfor %}w6";
    dir.write("model/chat_template.jinja", template);
    dir
}

/// What `generate` writes behind a text on the command line, as JSON.
fn generated(dir: &TestDir, args: &str, prompt: &str) -> Value {
    let mut command = dir.command(&format!("generate --model model --json {args}"));
    let out = command.arg(prompt).output().unwrap();
    serde_json::from_slice(&out.stdout).unwrap_or_else(|e| panic!("{e}: {}", text(&out.stderr)))
}

/// The text of a stream.
fn streamed(events: &[String], choice: usize) -> (String, Option<String>) {
    let (mut all, mut finish) = (String::new(), None);
    for event in events.iter().filter(|event| *event != "[DONE]") {
        let event: Value = serde_json::from_str(event).unwrap();
        for part in event["choices"].as_array().unwrap() {
            if part["index"] != choice {
                continue;
            }
            let piece = part["text"].as_str().or(part["delta"]["content"].as_str());
            all.push_str(piece.unwrap_or_default());
            finish = part["finish_reason"].as_str().map(String::from).or(finish);
        }
    }
    (all, finish)
}

#[test]
fn openai_is_answered_as_the_command_line_generates() {
    let dir = talker();
    let server = serve(&dir, "--model small=model");
    let asked =
        json!({"model": "small", "prompt": "w9 w10 w11", "max_tokens": 12, "temperature": 0});
    let expected = generated(&dir, "--max-new-tokens 12 --temperature 0", "w9 w10 w11");
    let found = server.accept("/v1/completions", &asked);
    let choice = &found["choices"][0];
    assert_eq!(choice["text"], expected["text"], "{found}");
    assert_eq!(found["usage"]["prompt_tokens"], 3);
    assert_eq!(found["model"], "small");
    // In parts, with what was used.
    let mut in_parts = asked.clone();
    in_parts["stream"] = json!(true);
    in_parts["stream_options"] = json!({"include_usage": true});
    let answer = server.post("/v1/completions", &in_parts);
    assert!(
        answer
            .header("content-type")
            .unwrap()
            .starts_with("text/event-stream")
    );
    let events = answer.events();
    let (text, finish) = streamed(&events, 0);
    assert_eq!(json!(text), choice["text"]);
    assert_eq!(json!(finish), choice["finish_reason"]);
    assert_eq!(events.last().unwrap(), "[DONE]");
    let usage: Value = serde_json::from_str(&events[events.len() - 2]).unwrap();
    assert_eq!(usage["usage"], found["usage"]);
    assert_eq!(usage["choices"], json!([]));
    // Ids are what they stand for, and several prompts are several choices.
    let mut ids = asked.clone();
    ids["prompt"] = json!([[9, 10, 11], [12]]);
    let several = server.accept("/v1/completions", &ids);
    assert_eq!(several["choices"][0]["text"], expected["text"]);
    assert_eq!(several["choices"].as_array().unwrap().len(), 2);
    // A seed is exact, and each sample is another.
    let sampled = json!({"prompt": "w9", "max_tokens": 8, "temperature": 1.5, "seed": 7, "n": 3});
    let first = server.accept("/v1/completions", &sampled);
    assert_eq!(
        server.accept("/v1/completions", &sampled)["choices"],
        first["choices"]
    );
    let texts: Vec<&Value> = first["choices"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| &c["text"])
        .collect();
    assert!(texts.len() == 3 && texts[0] != texts[1], "{first}");
    // Probabilities: the chosen token is the likeliest.
    let mut with = asked.clone();
    with["logprobs"] = json!(2);
    with["echo"] = json!(true);
    let with = server.accept("/v1/completions", &with);
    let told = &with["choices"][0]["logprobs"];
    assert_eq!(
        told["tokens"].as_array().unwrap().len(),
        told["token_logprobs"].as_array().unwrap().len()
    );
    assert_eq!(told["token_logprobs"][0], Value::Null);
    assert_eq!(
        told["top_logprobs"].as_array().unwrap().len(),
        told["tokens"].as_array().unwrap().len()
    );
    assert!(
        with["choices"][0]["text"]
            .as_str()
            .unwrap()
            .starts_with("w9 w10 w11")
    );
    let bias =
        json!({"prompt": "w9", "max_tokens": 3, "temperature": 0, "logit_bias": {"20": 100}});
    let biased = server.accept("/v1/completions", &bias)["choices"][0]["text"].clone();
    assert_eq!(biased.as_str().unwrap().trim(), "w20 w20 w20");
    let chat = json!({"messages": [{"role": "user", "content": "w9"}], "max_completion_tokens": 6, "temperature": 0,
        "logprobs": true, "top_logprobs": 3});
    let found = server.accept("/v1/chat/completions", &chat);
    let (said, _) = dir.accept("chat --model model --max-new-tokens 6 --temperature 0 w9");
    let content = found["choices"][0]["message"]["content"].as_str().unwrap();
    assert_eq!(content, said.trim_end_matches('\n'), "{found}");
    let tokens = found["choices"][0]["logprobs"]["content"]
        .as_array()
        .unwrap();
    assert!(
        tokens
            .iter()
            .all(|t| t["top_logprobs"].as_array().unwrap().len() == 3)
    );
    assert!(
        tokens
            .iter()
            .all(|t| t["top_logprobs"][0]["token"] == t["token"]),
        "{found}"
    );
    let mut parts = chat.clone();
    parts["stream"] = json!(true);
    let events = server.post("/v1/chat/completions", &parts).events();
    assert_eq!(streamed(&events, 0).0, content);
    let first: Value = serde_json::from_str(&events[0]).unwrap();
    assert_eq!(first["choices"][0]["delta"]["role"], "assistant");
    let models = server.get("/v1/models").json();
    assert_eq!(models["data"][0]["id"], "small");
    assert_eq!(server.get("/v1/models/small").json()["object"], "model");
}

#[test]
fn a_model_that_translates_answers_as_openai_does() {
    let dir = TestDir::new();
    let server = serve(&dir, "");
    let expected = translated(&dir, "--from de --to en", GERMAN[0]);
    let own = json!({"from": "de", "to": "en"});
    let asked = json!({"prompt": [GERMAN[0], GERMAN[1]], "hexapla": own});
    let found = server.accept("/v1/completions", &asked);
    assert_eq!(found["choices"][0]["text"], expected);
    let lines = format!("{}\n{}", GERMAN[0], GERMAN[1]);
    let chat = json!({"messages": [{"role": "system", "content": "x"}, {"role": "user", "content": lines}],
        "hexapla": own});
    let whole = server.accept("/v1/chat/completions", &chat);
    let content = whole["choices"][0]["message"]["content"].as_str().unwrap();
    assert_eq!(content.lines().next().unwrap(), expected);
    let mut parts = chat;
    parts["stream"] = json!(true);
    let events = server.post("/v1/chat/completions", &parts).events();
    assert_eq!(
        streamed(&events, 0),
        (content.to_string(), Some("stop".to_string()))
    );
}

#[test]
fn vectors_ranks_and_classes_are_those_of_the_command_line() {
    let dir = encoder("bert_bare");
    let server = serve(&dir, "--model vectors=model");
    let (said, _) = dir.accept("embed --model model --input lines.txt");
    let expected: Vec<Vec<f32>> = said
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let texts = json!(["the dog eats", "A man sleeps well.", ""]);
    let floats = server.accept(
        "/v1/embeddings",
        &json!({"input": texts, "model": "vectors"}),
    );
    let vector = |value: &Value| -> Vec<f32> { serde_json::from_value(value.clone()).unwrap() };
    for (i, expected) in expected.iter().enumerate() {
        assert_eq!(vector(&floats["data"][i]["embedding"]), *expected);
        assert_eq!(floats["data"][i]["index"], i);
    }
    let packed = server.accept(
        "/v1/embeddings",
        &json!({"input": texts, "encoding_format": "base64"}),
    );
    for (i, expected) in expected.iter().enumerate() {
        let bytes: Vec<u8> = expected.iter().flat_map(|x| x.to_le_bytes()).collect();
        assert_eq!(packed["data"][i]["embedding"], base64(&bytes));
    }
    let tei = server.accept("/embed", &json!({"inputs": texts, "normalize": false}));
    assert_eq!(vector(&tei[1]), expected[1]);
    let root = server.accept(
        "/",
        &json!({"inputs": "the dog eats", "parameters": {"normalize": false}}),
    );
    assert_eq!(vector(&root[0]), expected[0]);
    let alike = json!({"inputs": {"source_sentence": "the dog eats", "sentences": ["the dog eats", "rain"]}});
    let alike = server.accept("/similarity", &alike);
    assert!((alike[0].as_f64().unwrap() - 1.0).abs() < 1e-5 && alike[1].as_f64().unwrap() < 1.0);
    let tokens = server.accept("/tokenize", &json!({"inputs": "the dog"}));
    assert_eq!(tokens[0].as_array().unwrap().len(), 4, "{tokens}");
    assert_eq!(tokens[0][1]["text"], "the");
    let ids: Vec<&Value> = tokens[0]
        .as_array()
        .unwrap()
        .iter()
        .map(|t| &t["id"])
        .collect();
    assert_eq!(
        server.accept("/decode", &json!({"ids": ids})),
        json!(["the dog"])
    );
    assert_eq!(server.get("/info").json()["auto_truncate"], false);
    // Other tokenizers' ids are not taken for this one's.
    let ids = server.post("/v1/embeddings", &json!({"input": [[1, 2, 3]]}));
    assert_eq!(
        (ids.status, ids.json()["error"]["param"].clone()),
        (400, json!("input"))
    );
    let long = json!({"inputs": "the ".repeat(5000)});
    assert_eq!(server.post("/embed", &long).status, 400);
    let cut = json!({"inputs": "the ".repeat(5000), "truncate": true});
    assert_eq!(server.post("/embed", &cut).status, 200);
    drop(server);
    let dir = encoder("bert_reranker");
    let server = serve(&dir, "--model ranks=model");
    let asked = json!({"query": "the man", "texts": ["a dog", "the man eats", "rain"], "return_text": true});
    let ranked = server.accept("/rerank", &asked);
    let scores: Vec<f64> = ranked
        .as_array()
        .unwrap()
        .iter()
        .map(|r| r["score"].as_f64().unwrap())
        .collect();
    assert!(
        scores.len() == 3 && scores.is_sorted_by(|a, b| a >= b),
        "{ranked}"
    );
    drop(server);
    let dir = encoder("bert_classes");
    let server = serve(&dir, "--model classes=model");
    let one = server.accept("/predict", &json!({"inputs": "the dog eats"}));
    let all = [["the dog eats"], ["rain"]];
    let all = server.accept("/predict", &json!({"inputs": all}));
    assert_eq!(all[0], one);
    let of_one = server.accept("/predict", &json!({"inputs": ["the dog eats"]}));
    assert_eq!(of_one, one);
    // Two texts in a list are a pair.
    let pair = server.post("/predict", &json!({"inputs": ["the dog eats", "rain"]}));
    assert_eq!(pair.status, 400);
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let group = |three: &[u8]| {
        let bits = three.iter().enumerate().fold(0_u32, |all, (i, byte)| {
            all | u32::from(*byte) << (16 - 8 * i)
        });
        let letter = move |i: usize| match i <= three.len() {
            true => char::from(LETTERS[(bits >> (18 - 6 * i) & 63) as usize]),
            false => '=',
        };
        (0..4).map(letter).collect::<String>()
    };
    bytes.chunks(3).map(group).collect()
}

#[test]
fn answers_do_not_depend_on_the_company() {
    let dir = talker();
    let server = serve(&dir, "--model small=model --model demo=");
    let asked: Vec<(&str, Value)> = (0..48)
        .map(|i| match i % 4 {
            0 => ("/translate", json!({"q": GERMAN[i / 4 % 3], "source": "de", "target": "en"})),
            1 => ("/v1/completions", json!({"model": "small", "prompt": format!("w9 w{}", i % 30 + 3), "max_tokens": 3 + i % 9, "seed": i, "temperature": 1.2, "n": 1 + i % 3})),
            2 => ("/v1/completions", json!({"model": "small", "prompt": format!("w9 w{}", i % 30 + 3), "max_tokens": 20, "temperature": 0, "stop": "w1", "stream": true})),
            _ => ("/v1/chat/completions", json!({"model": "small", "messages": [{"role": "user", "content": format!("w{}", i % 30 + 3)}], "max_tokens": 9, "seed": i})),
        })
        .collect();
    // Without what is another each time.
    let stable = |path: &str, body: &Value| {
        let answer = server.post(path, body);
        assert_eq!(answer.status, 200, "{}", answer.body);
        match answer.body.starts_with("data: ") {
            true => format!("{:?}", streamed(&answer.events(), 0)),
            false => {
                let mut answer = answer.json();
                for key in ["id", "created"] {
                    answer.as_object_mut().unwrap().remove(key);
                }
                answer.to_string()
            }
        }
    };
    let alone: Vec<String> = asked
        .iter()
        .map(|(path, body)| stable(path, body))
        .collect();
    for _ in 0..3 {
        let together: Vec<String> = thread::scope(|scope| {
            let stable = &stable;
            let all: Vec<_> = asked
                .iter()
                .map(|(path, body)| scope.spawn(move || stable(path, body)))
                .collect();
            all.into_iter().map(|one| one.join().unwrap()).collect()
        });
        for (i, (alone, together)) in alone.iter().zip(&together).enumerate() {
            assert_eq!(alone, together, "{i}");
        }
    }
}

#[test]
fn refusals_have_the_shape_of_each_interface() {
    let dir = talker();
    let config = "max_body_bytes = 20000\n[[models]]\nname = \"small\"\nfolder = \"model\"\nmax_tokens = 300\n[[models]]\nname = \"demo\"\n";
    dir.write("serve.toml", config);
    let server = serve(&dir, "--config serve.toml");
    let shape = |path: &str, answer: &http::Answer| {
        let told = answer.json();
        let message = match path {
            path if path.starts_with("/v1") => &told["error"]["message"],
            path if path.starts_with("/v2") => &told["message"],
            _ => &told["error"],
        };
        assert!(
            message.as_str().is_some_and(|m| !m.is_empty()),
            "{path}: {}",
            answer.body
        );
        assert_eq!(answer.header("content-type"), Some("application/json"));
        answer.status
    };
    let paths = [
        "/translate",
        "/detect",
        "/v1/completions",
        "/v1/chat/completions",
        "/v1/embeddings",
        "/embed",
        "/rerank",
        "/v2/translate",
    ];
    for path in paths {
        assert_eq!(shape(path, &server.get(path)), 405, "{path}");
        assert_eq!(shape(path, &server.post(path, &json!([]))), 400, "{path}");
        let large = server.post(path, &json!({"q": "x".repeat(30_000)}));
        assert_eq!(shape(path, &large), 413, "{path}");
        let kind = "content-type: application/json\r\n";
        for body in [
            "",
            "{",
            "nonsense",
            "{\"q\": \"\\ud800\"}",
            &"[".repeat(10_000),
        ] {
            let refused = server.ask("POST", path, kind, body.as_bytes());
            assert_eq!(shape(path, &refused), 400, "{path} {body}");
        }
    }
    for path in ["/v1/nothing", "/v2/nothing", "/nothing", "/embed/nothing"] {
        assert_eq!(shape(path, &server.get(path)), 404, "{path}");
    }
    // Numbers out of range, in every field that has one.
    for number in ["-1", "1e308", "1000000000", "NaN", "\"5\"", "[1]", "{}"] {
        for (path, body, fields) in [
            (
                "/v1/completions",
                "\"prompt\": \"w9\"",
                &[
                    "max_tokens",
                    "temperature",
                    "top_p",
                    "n",
                    "best_of",
                    "logprobs",
                    "presence_penalty",
                    "frequency_penalty",
                    "logit_bias",
                    "top_k",
                    "min_p",
                ][..],
            ),
            (
                "/v1/chat/completions",
                "\"messages\": [{\"role\": \"user\", \"content\": \"w9\"}]",
                &[
                    "max_completion_tokens",
                    "temperature",
                    "top_p",
                    "n",
                    "top_logprobs",
                    "presence_penalty",
                ],
            ),
            (
                "/translate",
                "\"q\": \"Hallo\", \"source\": \"de\", \"target\": \"en\"",
                &["alternatives"],
            ),
        ] {
            for field in fields {
                // What would be in range.
                let is_fine = matches!(
                    (number, *field),
                    ("-1", "presence_penalty" | "frequency_penalty")
                        | ("1000000000", "top_k")
                        | ("{}", "logit_bias")
                );
                if is_fine {
                    continue;
                }
                let body = format!("{{{body}, \"{field}\": {number}}}");
                let refused = server.ask(
                    "POST",
                    path,
                    "content-type: application/json\r\n",
                    body.as_bytes(),
                );
                assert_eq!(shape(path, &refused), 400, "{body}: {}", refused.body);
            }
        }
    }
    let unknown = server.post("/v1/completions", &json!({"prompt": "w9", "tools": []}));
    assert_eq!(
        (unknown.status, unknown.json()["error"]["param"].clone()),
        (400, json!("tools"))
    );
    // Longer than the model: both numbers are told. Larger than what is taken at a time: at once.
    let long = server.post(
        "/v1/completions",
        &json!({"model": "small", "prompt": "w9 ".repeat(100), "max_tokens": 5}),
    );
    assert_eq!(long.status, 400);
    assert!(long.body.contains("100"), "{}", long.body);
    let never = server.post(
        "/v1/completions",
        &json!({"model": "small", "prompt": "w9", "max_tokens": 20, "n": 16, "temperature": 1}),
    );
    assert_eq!(never.status, 413, "{}", never.body);
    let none = server.post(
        "/v1/completions",
        &json!({"model": "large", "prompt": "w9"}),
    );
    assert_eq!(
        (none.status, none.json()["error"]["code"].clone()),
        (404, json!("model_not_found"))
    );
    let languages = server.post(
        "/translate",
        &json!({"q": "Hallo", "source": "de", "target": "xx"}),
    );
    assert_eq!(shape("/translate", &languages), 400);
    // And it still answers.
    assert_eq!(
        server
            .post(
                "/translate",
                &json!({"q": "Hallo", "source": "de", "target": "en"})
            )
            .status,
        200
    );
}

#[test]
fn keys_are_needed_everywhere_but_for_probes() {
    let dir = TestDir::new();
    let (said, _) = dir.accept("serve --new-key");
    let (key, settings) = said.split_once('\n').unwrap();
    let settings = settings.replace(
        "\"somebody\"",
        "\"me\"\nallowance = { requests_per_minute = 12 }",
    );
    dir.write("serve.toml", settings);
    let server = serve(&dir, "--config serve.toml");
    for route in [
        "POST /translate",
        "POST /detect",
        "GET /languages",
        "GET /frontend/settings",
        "POST /v1/completions",
        "GET /v1/models",
        "GET /v1/models/demo",
        "POST /embed",
        "POST /tokenize",
        "GET /info",
        "POST /",
        "POST /v2/translate",
        "GET /v2/usage",
        "GET /metrics",
        "GET /models",
        "POST /models/load",
        "POST /models/unload",
    ] {
        let (method, path) = route.split_once(' ').unwrap();
        for headers in ["", "authorization: Bearer hx-wrong\r\n", "x-api-key: \r\n"] {
            let refused = server.ask(method, path, headers, b"{}");
            let is_refused = match refused.status {
                400 => refused.body.contains("API key"),
                status => [401, 403].contains(&status),
            };
            assert!(is_refused, "{route}: {}", refused.body);
        }
    }
    for path in ["/health", "/health/live", "/health/ready"] {
        assert_eq!(server.get(path).status, 200, "{path}");
    }
    let body = json!({"q": "Hallo", "source": "de", "target": "en"}).to_string();
    for headers in [
        format!("authorization: Bearer {key}"),
        format!("authorization: DeepL-Auth-Key {key}"),
        format!("x-api-key: {key}"),
    ] {
        let headers = format!("{headers}\r\ncontent-type: application/json\r\n");
        assert_eq!(
            server
                .ask("POST", "/translate", &headers, body.as_bytes())
                .status,
            200
        );
    }
    let inside = json!({"q": "Hallo", "source": "de", "target": "en", "api_key": key});
    assert_eq!(server.post("/translate", &inside).status, 200);
    let missing = server.post(
        "/translate",
        &json!({"q": "x", "source": "de", "target": "en"}),
    );
    assert_eq!(missing.status, 400);
    // It is no administrator's, and some requests a minute are all that it may.
    let headers = format!("authorization: Bearer {key}\r\n");
    assert_eq!(server.ask("GET", "/metrics", &headers, b"").status, 403);
    let many: Vec<_> = (0..12)
        .map(|_| server.ask("GET", "/v1/models", &headers, b""))
        .collect();
    let last = many.last().unwrap();
    assert_eq!(last.status, 429);
    assert!(last.header("retry-after").unwrap().parse::<u64>().unwrap() >= 1);
    assert_eq!(last.json()["error"]["type"], "rate_limit_error");
}

#[test]
fn who_goes_away_frees_the_place_and_harms_nobody() {
    let dir = talker();
    let config = "[[models]]\nname = \"small\"\nfolder = \"model\"\n[[models]]\nname = \"demo\"\n";
    dir.write("serve.toml", config);
    let server = serve(&dir, "--config serve.toml");
    let long = "Ich habe zwei Bücher gekauft. ".repeat(200);
    let asked = json!({"q": vec![long; 20], "source": "de", "target": "en"}).to_string();
    let kind = "content-type: application/json\r\n";
    let expected = translated(&dir, "--from de --to en", GERMAN[2]);
    for _ in 0..5 {
        let gone = server.connect(&request("POST", "/translate", kind, asked.as_bytes()));
        server.wait("it is under way", |server| {
            server.metric("hexapla_batch_tokens") > 0.0
        });
        drop(gone);
        server.wait("its place is free", |server| {
            server.metric("hexapla_batch_tokens") + server.metric("hexapla_queue_tokens") == 0.0
        });
        let other = json!({"q": GERMAN[2], "source": "de", "target": "en"});
        assert_eq!(
            server.accept("/translate", &other)["translatedText"],
            expected
        );
    }
    assert!(server.metric("hexapla_cancelled_total") >= 5.0);
}

#[test]
fn what_was_accepted_is_answered_before_the_end() {
    let dir = TestDir::new();
    dir.write("serve.toml", "drain_delay_seconds = 2\n");
    let mut server = serve(&dir, "--config serve.toml");
    let expected = translated(&dir, "--from de --to en", GERMAN[1]);
    let long = json!({"q": vec![GERMAN[1]; 100], "source": "de", "target": "en"}).to_string();
    let kind = "content-type: application/json\r\n";
    let mut open: Vec<_> = (0..12)
        .map(|_| server.connect(&request("POST", "/translate", kind, long.as_bytes())))
        .collect();
    server.wait("all are under way", |server| {
        // The one that asks for this is one of them.
        server.metric("hexapla_running_requests") >= 13.0
    });
    server.signal(Signal::TERM);
    server.wait("it is not ready", |server| {
        server.get("/health/ready").status == 503
    });
    assert_eq!(server.get("/health/live").status, 200);
    // Who is still sent here is answered.
    let short = json!({"q": GERMAN[1], "source": "de", "target": "en"});
    let found = server.accept("/translate", &short);
    assert_eq!(found["translatedText"], expected);
    for stream in &mut open {
        let answer = read(stream);
        assert_eq!(answer.status, 200, "{}", answer.body);
        let texts = answer.json()["translatedText"].clone();
        assert!(
            texts
                .as_array()
                .unwrap()
                .iter()
                .all(|text| *text == expected)
        );
    }
    let start = Instant::now();
    let status = loop {
        if let Some(status) = server.child.try_wait().unwrap() {
            break status;
        }
        assert!(start.elapsed() < Duration::from_secs(60));
        thread::sleep(Duration::from_millis(10));
    };
    assert!(status.success(), "{status}");
    assert!(std::net::TcpStream::connect(&server.address).is_err());
}

#[test]
fn pages_and_strangers_change_nothing() {
    let dir = TestDir::new();
    let server = serve(&dir, "");
    let of_this_machine = |headers: &str, method: &str, path: &str| {
        server.ask(method, path, headers, b"{\"name\": \"demo\"}")
    };
    assert_eq!(of_this_machine("", "GET", "/metrics").status, 200);
    for headers in [
        "origin: http://evil.example\r\n",
        "x-forwarded-for: 10.0.0.1\r\n",
        "forwarded: for=10.0.0.1\r\n",
        "via: 1.1 proxy\r\n",
    ] {
        for route in ["GET /metrics", "GET /models", "POST /models/unload"] {
            let (method, path) = route.split_once(' ').unwrap();
            let refused = of_this_machine(headers, method, path);
            assert_eq!(refused.status, 403, "{route} {headers}");
        }
    }
    let of_another = b"GET /metrics HTTP/1.1\r\nhost: evil.example\r\nconnection: close\r\n\r\n";
    assert_eq!(read(&mut server.connect(of_another)).status, 403);
    // No page is told that it may read.
    let asked = of_this_machine("origin: http://evil.example\r\n", "GET", "/languages");
    assert_eq!(
        (asked.status, asked.header("access-control-allow-origin")),
        (200, None)
    );
}

#[test]
fn texts_without_reason_are_answered_in_time() {
    let dir = encoder("bert_bare");
    let server = serve(&dir, "--model vectors=model --model demo=");
    let deep = format!("{}Hallo{}", "<b>".repeat(50_000), "</b>".repeat(50_000));
    let html = json!({"q": deep, "source": "de", "target": "en", "format": "html"});
    let found = server.accept("/translate", &html);
    let tags = found["translatedText"].as_str().unwrap().matches("<b>");
    assert_eq!(tags.count(), 50_000);
    let numbers: String = (0..2_000).map(|i| format!("{{a{i}}} {i} ")).collect();
    let numbers = json!({"q": numbers, "source": "en", "target": "de"});
    assert_eq!(server.post("/translate", &numbers).status, 200);
    let tokens = json!({"inputs": "a ".repeat(300_000), "truncate": true});
    // It is longer than the model, which a tokenizer does not mind.
    let tokens = server.accept("/tokenize", &json!({"inputs": tokens["inputs"]}));
    let last = tokens[0].as_array().unwrap().iter().rev().nth(1).unwrap();
    assert_eq!(
        (&last["start"], &last["stop"]),
        (&json!(599_998), &json!(599_999))
    );
    assert_eq!(server.get("/health/live").status, 200);
}

#[test]
fn models_are_swapped_under_load_and_no_request_is_lost() {
    let dir = talker();
    let other = decoder("llama_wide");
    let server = serve(&dir, "--model small=model");
    let body = json!({"model": "small", "prompt": "w9 w10", "max_tokens": 8, "temperature": 0});
    let answer = |server: &Server| {
        let answer = server.post("/v1/completions", &body);
        assert_eq!(answer.status, 200, "{}", answer.body);
        let model = answer.header("x-hexapla-model").unwrap().to_string();
        (
            model,
            answer.json()["choices"][0]["text"]
                .as_str()
                .unwrap()
                .to_string(),
        )
    };
    let load = |folder: &std::path::Path| {
        let asked = json!({"name": "small", "folder": folder});
        assert_eq!(server.post("/models/load", &asked).status, 200);
    };
    let first = answer(&server);
    load(&other.path("model"));
    let second = answer(&server);
    assert_ne!(first.0, second.0);
    let done = AtomicBool::new(false);
    let count = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !done.load(Ordering::SeqCst) {
                    let found = answer(&server);
                    assert!(found == first || found == second, "{found:?}");
                    count.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        for round in 0..50 {
            let folder = if round % 2 == 0 {
                dir.path("model")
            } else {
                other.path("model")
            };
            load(&folder);
        }
        done.store(true, Ordering::SeqCst);
    });
    assert!(count.load(Ordering::SeqCst) > 50);
    // What cannot be opened changes nothing.
    let bad = server.post(
        "/models/load",
        &json!({"name": "small", "folder": "nowhere"}),
    );
    assert!(bad.status >= 400 && bad.json()["error"].is_string());
    assert_eq!(answer(&server), second);
    server.signal(Signal::HUP);
    server.wait("it is read anew", |server| {
        server.metric("hexapla_model_loads_total") >= 53.0
    });
    assert_eq!(answer(&server), second);
    assert_eq!(
        server
            .post("/models/unload", &json!({"name": "small"}))
            .status,
        200
    );
    assert_eq!(server.post("/v1/completions", &body).status, 404);
}

#[test]
fn slow_and_false_connections_do_not_keep_others_waiting() {
    let dir = TestDir::new();
    dir.write(
        "serve.toml",
        "head_timeout_seconds = 1\nbody_timeout_seconds = 1\n",
    );
    let server = serve(&dir, "--config serve.toml");
    let silent: Vec<_> = (0..200).map(|_| server.connect(b"")).collect();
    let half: Vec<_> = (0..200)
        .map(|_| server.connect(b"POST /translate HTTP/1.1\r\nhost: x\r\n"))
        .collect();
    let asked = json!({"q": "Hallo", "source": "de", "target": "en"});
    assert_eq!(server.post("/translate", &asked).status, 200);
    // All of them are closed in time.
    for mut stream in silent.into_iter().chain(half) {
        let start = Instant::now();
        read(&mut stream);
        assert!(start.elapsed() < Duration::from_secs(20));
    }
    let mut slow =
        server.connect(b"POST /translate HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{");
    assert_eq!(read(&mut slow).status, 408);
    let mut large = server
        .connect(b"POST /translate HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000000\r\n\r\n{");
    assert_eq!(read(&mut large).status, 413);
    let head = format!(
        "GET / HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n",
        "y".repeat(1 << 20)
    );
    let mut wide = server.connect(head.as_bytes());
    assert!([431, 0].contains(&read(&mut wide).status));
    assert_eq!(server.post("/translate", &asked).status, 200);
}
