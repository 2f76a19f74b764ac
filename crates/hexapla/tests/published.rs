//! Models as they are published, beside the programs that they are for (`xtask/reference/published.py`).

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use hexapla::config::ComputeType;
use hexapla::encode::{Classifier, EmbedOptions, Encoder, Input, LongTexts, SentenceEncoder};
use hexapla::files::Folder;
use hexapla::formats::{self, ConvertModel, SaveModel};
use hexapla::generate::SearchOptions;
use hexapla::generate::generator::Generator;
use hexapla::generate::language_model::{Finish, GenerateOptions, LanguageModel};
use hexapla::text::chat::{Message, Values};
use hexapla::text::sentencepiece::SentencePiece;
use hexapla::text::tokenizer::{EncoderTokenizer, Tokenizers};
use hexapla::{Engine, Request, Translator, formats::manifest::ManifestFields};
use serde_json::{Value, json};

/// What the script prints.
fn python(arguments: &[&Path]) -> String {
    let python = std::env::var("HEXAPLA_PYTHON").expect("HEXAPLA_PYTHON names a Python");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../xtask/reference/published.py");
    let run = Command::new(python)
        .arg(script)
        .args(arguments)
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&run.stderr).into_owned();
    assert!(run.status.success(), "{told}");
    String::from_utf8(run.stdout).unwrap()
}

/// Texts in three languages, half German and English, half Chinese and English; nothing where there is no data.
fn lines(count: usize) -> Option<Vec<String>> {
    let Some(data) = std::env::var_os("HEXAPLA_DATA") else {
        eprintln!("skipped: HEXAPLA_DATA does not name the data");
        return None;
    };
    let mut lines = Vec::new();
    for name in ["tatoeba/en-de.train.tsv", "tatoeba/en-zh.train.tsv"] {
        let text = fs::read_to_string(Path::new(&data).join(name)).unwrap();
        let pairs = text
            .lines()
            .step_by(5)
            .flat_map(|line| line.split('\t').take(2));
        lines.extend(pairs.take(count / 2).map(String::from));
    }
    // One after the other of each half.
    let (first, second) = lines.split_at(count / 2);
    let both = first.iter().zip(second);
    Some(both.flat_map(|(a, b)| [a.clone(), b.clone()]).collect())
}

/// A folder with the lines in a file.
fn folder<T: serde::Serialize>(lines: &[T]) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lines.json");
    fs::write(&path, json!(lines).to_string()).unwrap();
    (folder, path)
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

#[test]
#[ignore = "needs Python with sentence-transformers: set HEXAPLA_PYTHON"]
fn vectors_are_those_of_sentence_transformers() {
    let Some(lines) = lines(10_000) else { return };
    let (out, file) = folder(&lines[..1000]);
    let told = python(&[Path::new("vectors"), &file, out.path()]);
    let model = SentenceEncoder::open(told.trim(), ComputeType::Float32).unwrap();
    let whole = model.embed(&lines, &EmbedOptions::default()).unwrap();
    let bytes = fs::read(out.path().join("vectors.f32")).unwrap();
    let (words, _) = bytes.as_chunks::<4>();
    let expected: Vec<f32> = words.iter().map(|w| f32::from_le_bytes(*w)).collect();
    let found: Vec<f32> = whole[..1000].concat();
    assert_eq!(found.len(), expected.len());
    for (f, e) in found.iter().zip(&expected) {
        assert!((f - e).abs() < 1e-5, "{f} instead of {e}");
    }
    // In any company, on any number of threads.
    let pool = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        pool.build().unwrap()
    };
    let pools = [1, 3, 2].map(pool);
    let (mut start, mut turn) = (0, 0);
    while start < lines.len() {
        let end = lines.len().min(start + [1, 7, 2, 64][turn % 4]);
        let batch = &lines[start..end];
        let pool = &pools[turn % 3];
        let some = pool.install(|| model.embed(batch, &EmbedOptions::default()).unwrap());
        assert!(some[..] == whole[start..end], "texts {start} to {end}");
        (start, turn) = (end, turn + 1);
    }
}

#[test]
#[ignore = "needs Python with sentencepiece: set HEXAPLA_PYTHON"]
fn pieces_are_those_of_sentencepiece() {
    let Some(lines) = lines(16_000) else { return };
    let (out, file) = folder(&lines);
    python(&[Path::new("pieces"), &file, out.path()]);
    let texts: Vec<String> = serde_json::from_value(read(&out.path().join("texts.json"))).unwrap();
    assert_eq!(texts.len(), 10_000);
    for name in ["unigram", "bpe", "bytes", "plain", "behind", "bare"] {
        let model = fs::read(out.path().join(format!("{name}.model"))).unwrap();
        let model = SentencePiece::from_bytes(&model).unwrap();
        let expected = read(&out.path().join(format!("{name}.json")));
        for (text, expected) in texts.iter().zip(expected.as_array().unwrap()) {
            let found = model.encode(text);
            let pieces: Vec<&str> = found.iter().map(|piece| piece.text.as_str()).collect();
            let ids: Vec<u32> = found.iter().map(|piece| piece.id).collect();
            let found = json!([pieces, ids, model.decode(&pieces)]);
            assert_eq!(found, *expected, "{name}: {text:?}");
        }
    }
}

/// Every line of `expected` comes out as there, at beams 1 and 4, as one sentence of at most 39 tokens and behind what `expected` says.
fn translates_as(model: &Translator, expected: &Value, name: &str) {
    let lines: Vec<String> = serde_json::from_value(expected["lines"].clone()).unwrap();
    for beams in [1, 4] {
        let options = model.options().with_beam_size(beams);
        let mut options = options.with_split_sentences(false);
        options.source_prefix = expected["prefix"].as_str().map(String::from);
        options.max_decoding_length = Some(39);
        let found = model.translate_with(&lines, &options).unwrap();
        let texts = expected[beams.to_string()].as_array().unwrap();
        assert_eq!(found.len(), texts.len());
        let pairs = lines.iter().zip(&found).zip(texts);
        let other = pairs.filter(|((_, found), text)| json!(found[0].text) != **text);
        let other: Vec<_> = other.map(|((line, _), _)| line).collect();
        assert!(other.is_empty(), "{name}, beam {beams}: {other:?}");
    }
}

#[test]
#[ignore = "needs Python with transformers and sentencepiece: set HEXAPLA_PYTHON"]
fn text_is_translated_as_by_marian() {
    let Some(lines) = lines(16_000) else { return };
    let (out, file) = folder(&lines);
    python(&[Path::new("marian"), &file, out.path()]);
    let expected = read(&out.path().join("marian.json"));
    let model = out.path().join("marian");
    let tokenizers = Tokenizers::open_folder(&model).unwrap();
    let texts: Vec<String> = serde_json::from_value(expected["texts"].clone()).unwrap();
    for (text, ids) in texts.iter().zip(expected["ids"].as_array().unwrap()) {
        let found = tokenizers.source.encode(text).unwrap();
        let found = tokenizers.source.with_template(found, 0, None);
        assert_eq!(json!(found), *ids, "{text:?}");
    }
    let lines: Vec<String> = serde_json::from_value(expected["lines"].clone()).unwrap();
    assert_eq!(lines.len(), 500);
    let model = Translator::open(&model).unwrap();
    translates_as(&model, &expected, "marian");
}

#[test]
#[ignore = "needs Python with transformers and sentencepiece: set HEXAPLA_PYTHON"]
fn multilingual_models_translate_as_in_transformers() {
    let Some(lines) = lines(16_000) else { return };
    let (out, file) = folder(&lines);
    python(&[Path::new("multilingual"), &file, out.path()]);
    for (name, languages) in [("m2m", 100), ("nllb", 202), ("mbart", 25), ("mbart50", 52)] {
        let expected = read(&out.path().join(format!("{name}.json")));
        let tokenizers = Tokenizers::open_folder(&out.path().join(name)).unwrap();
        let tokenizer = tokenizers.source;
        let codes: BTreeMap<String, u32> = tokenizer.language_codes().into_iter().collect();
        assert_eq!(codes.len(), languages, "{name}");
        let [from, to] = ["from", "to"].map(|key| expected[key].as_str().unwrap());
        let texts: Vec<String> = serde_json::from_value(expected["texts"].clone()).unwrap();
        let rows = expected["ids"].as_array().unwrap();
        let again = expected["again"].as_array().unwrap();
        for ((text, ids), again) in texts.iter().zip(rows).zip(again) {
            let found = tokenizer.encode(text).unwrap();
            let found = tokenizer.with_template(found, 2, Some(codes[from]));
            assert_eq!(json!(found), *ids, "{name}: {text:?}");
            // A piece that the vocabulary does not have is shown by the one, and left out by the other.
            if !found.contains(&3) {
                let text = tokenizer.decode(&found).unwrap();
                assert_eq!(json!(text), *again, "{name}: {text:?}");
            }
        }
        let lines: Vec<String> = serde_json::from_value(expected["lines"].clone()).unwrap();
        assert_eq!(lines.len(), 300);
        let builder = Translator::builder().from(from).to(to);
        let model = builder.open(&out.path().join(name)).unwrap();
        translates_as(&model, &expected, name);
    }
}

#[test]
#[ignore = "needs Python with transformers and sentencepiece: set HEXAPLA_PYTHON"]
fn t5_answers_as_in_transformers() {
    let Some(lines) = lines(16_000) else { return };
    let (out, file) = folder(&lines);
    python(&[Path::new("t5"), &file, out.path()]);
    let expected = read(&out.path().join("t5.json"));
    let texts: Vec<String> = serde_json::from_value(expected["texts"].clone()).unwrap();
    let lines: Vec<String> = serde_json::from_value(expected["lines"].clone()).unwrap();
    assert_eq!((texts.len(), lines.len()), (10_000, 200));
    for name in ["t5", "fast"] {
        let model = out.path().join(name);
        let tokenizer = Tokenizers::open_folder(&model).unwrap().source;
        let rows = texts.iter().zip(expected["ids"].as_array().unwrap());
        // A tokenizer.json has other spaces than SentencePiece in odd texts, and transformers' normalizer.
        for (text, ids) in rows.take(if name == "t5" { 10_000 } else { 0 }) {
            let found = tokenizer.with_template(tokenizer.encode(text).unwrap(), 1, None);
            assert_eq!(json!(found), *ids, "{text:?}");
        }
        let gaps = expected["gaps"].as_array().unwrap();
        for (text, ids) in gaps.iter().zip(expected["gap_ids"].as_array().unwrap()) {
            let found = tokenizer.encode(text.as_str().unwrap()).unwrap();
            let found = tokenizer.with_template(found, 1, None);
            assert_eq!(json!(found), *ids, "{name}: {text}");
        }
        let model = Translator::open(&model).unwrap();
        translates_as(&model, &expected, name);
    }
}

#[test]
#[ignore = "needs Python with transformers and sentencepiece: set HEXAPLA_PYTHON"]
fn vocabularies_of_encoders_cut_as_in_transformers() {
    let Some(lines) = lines(16_000) else { return };
    let (out, file) = folder(&lines);
    python(&[Path::new("vocabularies"), &file, out.path()]);
    for name in ["bert", "cased", "mpnet", "roberta", "xlm", "camembert"] {
        let expected = read(&out.path().join(format!("{name}.json")));
        let tokenizer =
            EncoderTokenizer::open_folder(&Folder::from(&*out.path().join(name))).unwrap();
        let ids = |text: &str, second: Option<&str>| {
            let tokens = |text| tokenizer.tokens(text).unwrap();
            let encoded = tokenizer.finish(tokens(text), second.map(tokens));
            json!(encoded.unwrap().ids)
        };
        let texts: Vec<String> = serde_json::from_value(expected["texts"].clone()).unwrap();
        assert_eq!(texts.len(), 10_000);
        for (text, row) in texts.iter().zip(expected["ids"].as_array().unwrap()) {
            assert_eq!(ids(text, None), *row, "{name}: {text:?}");
        }
        let pairs: Vec<[String; 2]> = serde_json::from_value(expected["pairs"].clone()).unwrap();
        for ([a, b], row) in pairs.iter().zip(expected["pair_ids"].as_array().unwrap()) {
            assert_eq!(ids(a, Some(b)), *row, "{name}: {a:?}, {b:?}");
        }
        assert!(tokenizer.mask_token().is_some() && tokenizer.unknown_id().is_some());
        if name == "roberta" {
            // The same files, for a model that writes text too.
            let tokenizer = Tokenizers::open_folder(&out.path().join(name)).unwrap();
            let tokenizer = tokenizer.source;
            for (text, row) in texts.iter().zip(expected["ids"].as_array().unwrap()) {
                if tokenizer.normalize(text).unwrap() == *text {
                    let ids = tokenizer.encode(text).unwrap();
                    assert_eq!(json!(tokenizer.with_template(ids.clone(), 2, None)), *row);
                    assert_eq!(tokenizer.decode(&ids).unwrap(), *text);
                }
            }
        }
    }
}

#[test]
#[ignore = "needs Python with sentence-transformers: set HEXAPLA_PYTHON"]
fn passages_are_ranked_as_by_sentence_transformers() {
    let Some(lines) = lines(1000) else { return };
    let (out, file) = folder(&lines);
    python(&[Path::new("rerank"), &file, out.path()]);
    for name in ["sigmoid", "identity"] {
        let expected = read(&out.path().join(format!("{name}.json")));
        let model = Classifier::open(&out.path().join(name), ComputeType::Float32).unwrap();
        let pairs: Vec<[String; 2]> = serde_json::from_value(expected["pairs"].clone()).unwrap();
        let scores: Vec<f32> = serde_json::from_value(expected["scores"].clone()).unwrap();
        for first in 0..10 {
            let of_query = || pairs.iter().skip(first).step_by(10);
            let passages: Vec<&str> = of_query().map(|[_, passage]| passage.as_str()).collect();
            let query = &pairs[first][0];
            let found = model.rank(query, &passages, LongTexts::Refuse).unwrap();
            assert_eq!(found.len(), passages.len());
            for (found, expected) in found.iter().zip(scores.iter().skip(first).step_by(10)) {
                let bound = 1e-5 * expected.abs().max(1.0);
                assert!(
                    (found - expected).abs() < bound,
                    "{name}: {found}, {expected}"
                );
            }
        }
    }
}

#[test]
#[ignore = "needs Python with transformers: set HEXAPLA_PYTHON"]
fn words_become_phonemes_as_in_transformers() {
    let Some(lines) = lines(16_000) else { return };
    let data = PathBuf::from(std::env::var_os("HEXAPLA_DATA").unwrap());
    let model = data.join("../models/bart-g2p-us");
    let config = read(&model.join("config.json"));
    let letters: Vec<char> = config["grapheme_chars"].as_str().unwrap().chars().collect();
    let words = lines
        .iter()
        .flat_map(|line| line.split(|c: char| !c.is_ascii_alphabetic()));
    let words: BTreeSet<&str> = words.filter(|word| !word.is_empty()).collect();
    let words: Vec<&str> = words.into_iter().take(5000).collect();
    assert_eq!(words.len(), 5000);
    let ids = |word: &&str| {
        let letter = |c| letters.iter().position(|letter| *letter == c).unwrap_or(3) as u32;
        let word = word.chars().map(letter);
        [1].into_iter().chain(word).chain([2]).collect::<Vec<u32>>()
    };
    let ids: Vec<Vec<u32>> = words.iter().map(ids).collect();
    let (out, job) = folder::<String>(&[]);
    fs::write(&job, json!({"folder": model, "ids": ids}).to_string()).unwrap();
    python(&[Path::new("bart"), &job, out.path()]);
    let expected = read(&out.path().join("bart.json"));
    let opened = formats::open(&model).unwrap();
    let packed = opened.pack(ComputeType::Float32).unwrap();
    let engine = Engine::new(opened.model().clone(), packed);
    let request = |source: &Vec<u32>| Request {
        source: source.clone(),
        prefix: Vec::new(),
        max_length: 49,
        seed_index: 0,
    };
    let requests: Vec<Request> = ids.iter().map(request).collect();
    let config = opened.encoder_decoder().unwrap();
    for beam_size in [1, 4] {
        let options = SearchOptions {
            beam_size,
            ..SearchOptions::for_folder(config, &opened.generation)
        };
        let found = engine.generate(&requests, &options, 1000).unwrap();
        let expected = expected[beam_size.to_string()].as_array().unwrap();
        for ((word, found), expected) in words.iter().zip(&found).zip(expected) {
            assert_eq!(
                json!(found[0].ids),
                *expected,
                "{word}, beam of {beam_size}"
            );
        }
    }
}

#[test]
#[ignore = "needs Python with ruaccent-predictor: set HEXAPLA_PYTHON"]
fn a_mapping_opens_a_model_of_somebodys_own() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/ruaccent");
    let out = tempfile::tempdir().unwrap();
    let told = python(&[Path::new("package"), Path::new("ruaccent"), out.path()]);
    let package = Path::new(told.trim()).join("model");
    for name in ["acc_model.pt", "vocab.json"] {
        fs::copy(package.join(name), out.path().join(name)).unwrap();
    }
    fs::copy(golden.join("mapping.toml"), out.path().join("mapping.toml")).unwrap();
    let pairs: Vec<(String, String)> =
        serde_json::from_value(read(&golden.join("golden.json"))).unwrap();
    assert_eq!(pairs.len(), 500);
    let (texts, expected): (Vec<String>, Vec<String>) = pairs.into_iter().unzip();
    let model = Translator::open(out.path()).unwrap();
    let mut options = model.options();
    options.split_sentences = false;
    let found = model.translate_with(&texts, &options).unwrap();
    for ((text, found), expected) in texts.iter().zip(&found).zip(&expected) {
        assert_eq!(found[0].text, *expected, "{text}");
    }
}

/// The golden folders of a kind, their names, and where they are written by us and are to be written by Python.
fn written_again(kind: &str, out: &Path) -> (PathBuf, Vec<OsString>, [PathBuf; 2]) {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(kind);
    let names = fs::read_dir(&golden).unwrap();
    let names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
    let [ours, again] = ["ours", "again"].map(|name| out.join(name));
    for name in &names {
        let (from, to) = (golden.join(name), ours.join(name));
        let model = formats::open(&from).unwrap();
        let save = SaveModel {
            assembly: &model.assembly,
            family: Some(model.family),
            weights: &model.weights().unwrap(),
            generation: &model.generation,
            files: BTreeMap::new(),
            manifest: ManifestFields::default(),
        };
        formats::save(&to, &save).unwrap();
        fs::copy(from.join("golden.json"), to.join("golden.json")).unwrap();
    }
    (golden, names, [ours, again])
}

/// Ours, then transformers', then ours again: the same weights, and nearly the same logits.
#[test]
#[ignore = "needs Python with transformers: set HEXAPLA_PYTHON"]
fn encoders_go_to_transformers_and_back() {
    let out = tempfile::tempdir().unwrap();
    let (golden, names, [ours, again]) = written_again("encoders", out.path());
    let told = python(&[Path::new("encoders"), &ours, &again]);
    let logits: BTreeMap<String, Vec<Vec<f32>>> = serde_json::from_str(&told).unwrap();
    for name in &names {
        let folder = golden.join(name);
        let name = name.to_str().unwrap();
        let (model, back) = (formats::open(&folder), formats::open(&again.join(name)));
        let (model, back) = (model.unwrap(), back.unwrap());
        assert_eq!(
            (back.family, &back.assembly),
            (model.family, &model.assembly),
            "{name}"
        );
        assert!(
            back.weights().unwrap() == model.weights().unwrap(),
            "{name}"
        );
        let pickled = formats::open(&again.join("pickled").join(name)).unwrap();
        assert!(
            pickled.weights().unwrap() == model.weights().unwrap(),
            "{name}"
        );
        let golden = read(&folder.join("golden.json"));
        let ids: Vec<Vec<u32>> = serde_json::from_value(golden["input_ids"].clone()).unwrap();
        let segments: Option<Vec<Vec<u32>>> =
            serde_json::from_value(golden["token_type_ids"].clone()).unwrap();
        let segments = segments.unwrap_or_else(|| vec![Vec::new(); ids.len()]);
        let inputs = ids.into_iter().zip(segments);
        let inputs: Vec<Input> = inputs
            .map(|(ids, segments)| Input { ids, segments })
            .collect();
        let encoder = Encoder::open(&folder, ComputeType::Float32).unwrap();
        let found = match golden["hidden"].is_null() {
            true => encoder.logits(&inputs).unwrap(),
            false => encoder.hidden(&inputs).unwrap(),
        };
        for (found, expected) in found.iter().zip(&logits[name]) {
            let largest = expected.iter().fold(1.0f32, |m, v| m.max(v.abs()));
            for (f, e) in found.concat().iter().zip(expected) {
                assert!((f - e).abs() < 1e-4 * largest, "{name}: {f} instead of {e}");
            }
        }
    }
}

#[test]
#[ignore = "needs Python with transformers: set HEXAPLA_PYTHON"]
fn decoders_of_ours_are_opened_by_transformers_and_come_back() {
    let out = tempfile::tempdir().unwrap();
    let (golden, names, [ours, again]) = written_again("decoders", out.path());
    let told = python(&[Path::new("decoders"), &ours, &again]);
    let logits: BTreeMap<String, Vec<Vec<f32>>> = serde_json::from_str(&told).unwrap();
    for name in &names {
        let name = name.to_str().unwrap();
        let model = formats::open(&golden.join(name)).unwrap();
        for folder in [&ours, &again] {
            let back = formats::open(&folder.join(name)).unwrap();
            assert_eq!(back.family, model.family, "{name}");
            assert_eq!(back.assembly, model.assembly, "{name}");
            let same = back.weights().unwrap() == model.weights().unwrap();
            assert!(same, "{name}");
        }
        let ids = read(&golden.join(name).join("golden.json"))["input_ids"].clone();
        let ids: Vec<Vec<u32>> = serde_json::from_value(ids).unwrap();
        let found = Generator::open(&golden.join(name), ComputeType::Float32).unwrap();
        let found = found.logits(&ids).unwrap();
        for (found, expected) in found.iter().zip(&logits[name]) {
            let largest = expected.iter().fold(1.0f32, |m, v| m.max(v.abs()));
            for (f, e) in found.concat().iter().zip(expected) {
                assert!((f - e).abs() < 1e-4 * largest, "{name}: {f} instead of {e}");
            }
        }
    }
}

/// Beginnings of texts, some of them conversations.
const PROMPTS: [&str; 10] = [
    "The capital of France is",
    "Once upon a time, there was a little girl",
    "def fibonacci(n):\n    ",
    "Q: What is 12 + 30?\nA:",
    "今天天气很好。",
    "Der schnelle braune Fuchs",
    "  Indented\ttext\n\nwith 1234567 and 😀 and naïve café",
    "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n",
    "<|im_start|>system\nYou are brief.<|im_end|>\n<|im_start|>user\nName three colours.<|im_end|>\n<|im_start|>assistant\n",
    "<|im_start|>user\n你好！<|im_end|>\n<|im_start|>assistant\n",
];

/// Conversations that wait for an answer: with and without a system text, of one message and of several.
fn conversations() -> Vec<Vec<Message>> {
    let roles = ["user", "assistant"];
    let turns = |texts: &[&str]| -> Vec<Message> {
        let roles = roles.iter().cycle();
        let turns = roles.zip(texts);
        turns
            .map(|(role, text)| Message::new(role, *text))
            .collect()
    };
    let system = |text: &str, texts: &[&str]| {
        let first = [Message::new("system", text)];
        first.into_iter().chain(turns(texts)).collect()
    };
    vec![
        turns(&["What is the capital of France?"]),
        turns(&["My name is Ada.", "Hello, Ada!", "What is my name?"]),
        system(
            "You answer in one word.",
            &["Which colour has the sky?", "Blue.", "And grass?"],
        ),
        system("", &["你好！", "  Hi.\n", "<|im_end|> is no text. 😀"]),
    ]
}

#[test]
#[ignore = "needs Python with transformers: set HEXAPLA_PYTHON"]
fn a_gguf_file_goes_on_as_in_transformers() {
    let conversations = conversations();
    let texts = PROMPTS.iter().map(|text| json!(text));
    let asked: Vec<Value> = texts
        .chain(conversations.iter().map(|messages| json!(messages)))
        .collect();
    let (out, file) = folder(&asked);
    let path = python(&[Path::new("gguf"), &file, out.path()]);
    let expected = read(&out.path().join("gguf.json"));
    let (expected, answers) = expected.as_array().unwrap().split_at(PROMPTS.len());
    let model = LanguageModel::open(path.trim(), ComputeType::Float32).unwrap();
    let options = GenerateOptions {
        max_new_tokens: Some(24),
        ..model.options()
    };
    let prompts = model.prompts(&PROMPTS, &options).unwrap();
    let found = model.generate(&prompts, &options).unwrap();
    for ((prompt, found), expected) in PROMPTS.iter().zip(&found).zip(expected) {
        let ids = model.tokenizer().encode(prompt, true).unwrap();
        assert_eq!(json!(ids), expected["ids"], "{prompt}");
        assert_eq!(json!(found[0].ids), expected["new"], "{prompt}");
        assert_eq!(
            found[0].text,
            expected["text"].as_str().unwrap(),
            "{prompt}"
        );
        let losses = model.losses(prompt, 100).unwrap();
        let mean = losses.iter().sum::<f32>() / losses.len() as f32;
        let theirs = expected["loss"].as_f64().unwrap() as f32;
        assert!(
            (mean - theirs).abs() < 1e-4 * theirs,
            "{prompt}: {mean} {theirs}"
        );
    }
    // Text that comes bit by bit is the same text.
    for (prompt, found) in prompts.iter().zip(&found).skip(4) {
        let mut told = String::new();
        let each = |_, text: &str| {
            told.push_str(text);
            Ok(true)
        };
        let streamed = model.stream(prompt, &options, each).unwrap();
        assert_eq!((&told, &streamed[0]), (&found[0].text, &found[0]));
    }
    // Conversations are put down, and answered, as by transformers.
    let template = model.chat_template().unwrap();
    for (messages, expected) in conversations.iter().zip(answers) {
        let said = (messages.as_slice(), &Values::new());
        let prompt = model.conversation(&template, said, 0, &options).unwrap();
        assert_eq!(json!(prompt.ids), expected["ids"], "{messages:?}");
        let found = model.generate(&[prompt], &options).unwrap();
        assert_eq!(json!(found[0][0].ids), expected["new"], "{messages:?}");
        assert_eq!(json!(found[0][0].text), expected["text"], "{messages:?}");
    }
    // A stop string, which lies across tokens, ends it there.
    let whole = &found[1][0].text;
    let middle: String = whole.chars().skip(20).take(7).collect();
    let stopped = GenerateOptions {
        stop: vec!["never".into(), middle.clone()],
        ..options.clone()
    };
    let found = model.generate(&prompts[1..2], &stopped).unwrap();
    assert_eq!(found[0][0].text, whole[..whole.find(&middle).unwrap()]);
    assert_eq!(found[0][0].finish, Finish::Stop);
    assert!(found[0][0].ids.len() < 24);
    // As a folder of our own: the file's tokenizer goes with it, and integers foresee a text nearly as well.
    let opened = formats::open(path.trim()).unwrap();
    let text: String = include_str!("../../../docs/training.md")
        .chars()
        .take(3000)
        .collect();
    let loss = |model: &LanguageModel| model.losses(&text, 512).unwrap().iter().sum::<f32>();
    let exact = loss(&model);
    for (compute_type, name, off) in [
        (ComputeType::Float32, "plain", 1e-5),
        (ComputeType::Int8, "int8", 0.03),
        (ComputeType::Int4, "int4", 0.1),
    ] {
        let job = ConvertModel {
            model: &opened,
            around: None,
            compute_type,
            replace: false,
        };
        let to = out.path().join(name);
        formats::convert(&job, &to).unwrap();
        let again = LanguageModel::open(&to, ComputeType::Default).unwrap();
        let found = loss(&again);
        assert!((found / exact - 1.0).abs() < off, "{name}: {found} {exact}");
        let again = again.generate(&prompts[7..8], &options).unwrap();
        let answer = &again[0][0].text;
        assert!(
            answer.starts_with("The capital of France is Paris"),
            "{name}: {answer}"
        );
    }
}
