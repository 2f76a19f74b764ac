//! Folders of encoders damaged in random ways: an error or an answer, never a panic.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use hexapla::config::ComputeType;
use hexapla::encode::{Classifier, EmbedOptions, FillMask, LongTexts, SentenceEncoder, Tagger};
use proptest::prelude::*;
use serde_json::json;

const GOLDEN: [&str; 8] = [
    "bert_classes",
    "bert_tokens",
    "bert_masked",
    "mpnet_bare",
    "electra_replaced",
    "roberta_masked",
    "xlm_roberta_classes",
    "camembert_masked",
];
/// Files beside the vocabulary.
const FILES: [&str; 7] = [
    "config.json",
    "tokenizer_config.json",
    "modules.json",
    "1_Pooling/config.json",
    "sentence_bert_config.json",
    "config_sentence_transformers.json",
    "model.safetensors",
];

/// A folder with all that is read beside an encoder.
fn folder(golden: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let from = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden/encoders")
        .join(golden);
    for file in ["config.json", "model.safetensors"] {
        fs::copy(from.join(file), folder.path().join(file)).unwrap();
    }
    let write = |name: &str, text: String| fs::write(folder.path().join(name), text).unwrap();
    for (name, bytes) in vocabulary(golden) {
        fs::write(folder.path().join(name), bytes).unwrap();
    }
    write(
        "tokenizer_config.json",
        json!({"do_lower_case": true}).to_string(),
    );
    let module = |path: &str, kind: &str| json!({"path": path, "type": format!("sentence_transformers.models.{kind}")});
    let modules = [
        module("", "Transformer"),
        module("1_Pooling", "Pooling"),
        module("2_Normalize", "Normalize"),
    ];
    write("modules.json", json!(modules).to_string());
    fs::create_dir(folder.path().join("1_Pooling")).unwrap();
    let pooling = json!({"word_embedding_dimension": 12, "pooling_mode_mean_tokens": true, "pooling_mode_max_tokens": true});
    write("1_Pooling/config.json", pooling.to_string());
    write(
        "sentence_bert_config.json",
        json!({"max_seq_length": 16, "do_lower_case": false}).to_string(),
    );
    let prompts = json!({"prompts": {"query": "the "}, "default_prompt_name": "query", "similarity_fn_name": "cosine"});
    write("config_sentence_transformers.json", prompts.to_string());
    folder
}

/// The files of a vocabulary of at most 37 tokens, of the kind that the family is published with.
fn vocabulary(golden: &str) -> Vec<(&'static str, Vec<u8>)> {
    let words = ["the", "dog", "eats", "a"];
    if golden.starts_with("roberta") {
        let control = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"];
        let bytes = [
            "t", "h", "e", "d", "o", "g", "a", "s", ".", "Ġ", "th", "the", "Ġd", "do", "Ġa",
        ];
        let ids = control.iter().chain(&bytes).zip(0..);
        let ids: serde_json::Map<String, _> = ids
            .map(|(token, id)| (token.to_string(), json!(id)))
            .collect();
        let merges = "#version: 0.2\nt h\nth e\nĠ d\nd o\nĠ a\n";
        return vec![
            ("vocab.json", json!(ids).to_string().into_bytes()),
            ("merges.txt", merges.into()),
        ];
    }
    if golden.starts_with("xlm") || golden.starts_with("camembert") {
        let letters = ["▁", "t", "h", "e", "d", "o", "g", "s", ".", "▁the", "▁dog"];
        let control = [("<unk>", 2u8), ("<s>", 3), ("</s>", 3)];
        let pieces = control.into_iter().chain(letters.map(|piece| (piece, 1)));
        let mut model = Vec::new();
        for (number, (piece, kind)) in pieces.enumerate() {
            // A message of text, score and kind.
            let mut message = vec![0x0a, piece.len() as u8];
            message.extend(piece.bytes());
            message.push(0x15);
            message.extend((-(number as f32)).to_le_bytes());
            message.extend([0x18, kind]);
            model.extend([0x0a, message.len() as u8]);
            model.extend(message);
        }
        // Of unigrams.
        model.extend([0x12, 2, 0x18, 1]);
        return vec![("sentencepiece.bpe.model", model)];
    }
    let special = match golden.starts_with("mpnet") {
        true => ["<pad>", "[UNK]", "<s>", "</s>", "<mask>"],
        false => ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"],
    };
    let words = special.into_iter().chain(words).chain(["##s", "."]);
    let words: Vec<&str> = words.collect();
    vec![("vocab.txt", words.join("\n").into_bytes())]
}

/// All that a folder may be asked for.
fn use_all(folder: &Path) {
    let texts = [
        "The dogs eat [MASK].",
        "",
        "a b c d e f g h i j k l m n o p q r s t u v w x y z",
    ];
    let type_of = ComputeType::Float32;
    if let Ok(model) = SentenceEncoder::open(folder, type_of) {
        for long in [LongTexts::Refuse, LongTexts::Cut, LongTexts::Windows] {
            let options = EmbedOptions {
                long,
                ..EmbedOptions::default()
            };
            if let Ok(vectors) = model.embed(&texts, &options) {
                assert!(vectors.iter().all(|vector| vector.len() == model.width()));
            }
        }
    }
    if let Ok(model) = Classifier::open(folder, type_of) {
        let _ = model.classify(&texts, LongTexts::Windows);
        let _ = model.rank("dog", &texts, LongTexts::Windows);
    }
    if let Ok(model) = Tagger::open(folder, type_of) {
        let _ = model.tag(&texts, LongTexts::Windows);
    }
    if let Ok(model) = FillMask::open(folder, type_of) {
        let _ = model.fill(&texts[..1], 3);
        let _ = model.fill(&["The dogs eat <mask>."], 3);
    }
}

#[test]
fn whole_folders_are_used() {
    for golden in GOLDEN {
        let folder = folder(golden);
        let model = SentenceEncoder::open(folder.path(), ComputeType::Float32).unwrap();
        let vectors = model.embed(&["the dog"], &EmbedOptions::default()).unwrap();
        assert_eq!(vectors[0].len(), model.width(), "{golden}");
        use_all(folder.path());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn damaged_folders_never_panic(
        golden in prop::sample::select(GOLDEN.to_vec()),
        of_vocabulary in prop::option::weighted(0.4, any::<prop::sample::Index>()),
        file in prop::sample::select(FILES.to_vec()),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..5),
        cut_off in prop::option::weighted(0.2, any::<prop::sample::Index>()),
        number in prop::option::weighted(0.3, any::<prop::sample::Index>()),
    ) {
        let folder = folder(golden);
        let own = vocabulary(golden);
        let file = of_vocabulary.map_or(file, |which| own[which.index(own.len())].0);
        let path = folder.path().join(file);
        let mut bytes = fs::read(&path).unwrap();
        match number {
            // Another number in the place of one: a file that can still be read.
            Some(which) if file.ends_with("json") => {
                let digits: Vec<usize> = (0..bytes.len()).filter(|i| bytes[*i].is_ascii_digit()).collect();
                if !digits.is_empty() {
                    bytes[digits[which.index(digits.len())]] = b'0' + changes[0].1 % 10;
                }
            }
            _ => for (at, byte) in &changes {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
            },
        }
        if let Some(cut_off) = cut_off {
            bytes.truncate(cut_off.index(bytes.len()));
        }
        fs::write(&path, bytes).unwrap();
        let done = catch_unwind(AssertUnwindSafe(|| use_all(folder.path())));
        prop_assert!(done.is_ok(), "{golden}, {file}");
    }
}
