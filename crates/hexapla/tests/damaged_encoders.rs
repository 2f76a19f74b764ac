//! Folders of encoders damaged in random ways: an error or an answer, never a panic.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use hexapla::config::ComputeType;
use hexapla::encode::{Classifier, EmbedOptions, FillMask, LongTexts, SentenceEncoder, Tagger};
use proptest::prelude::*;
use serde_json::json;

const FILES: [&str; 8] = [
    "config.json",
    "vocab.txt",
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
    let words = [
        "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "dog", "eats", "##s", ".", "a",
    ];
    write("vocab.txt", words.join("\n"));
    write(
        "tokenizer_config.json",
        json!({"do_lower_case": true, "mask_token": "[MASK]"}).to_string(),
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
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn damaged_folders_never_panic(
        golden in prop::sample::select(vec!["bert_classes", "bert_tokens", "bert_masked", "mpnet_bare", "electra_replaced"]),
        file in prop::sample::select(FILES.to_vec()),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..5),
        cut_off in prop::option::weighted(0.2, any::<prop::sample::Index>()),
        number in prop::option::weighted(0.3, any::<prop::sample::Index>()),
    ) {
        let folder = folder(golden);
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
