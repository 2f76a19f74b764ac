//! What is refused, and in which words.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::random::SplitMix;

#[test]
fn settings_that_change_the_mathematics_are_refused_by_name() {
    for (family, key, value, found) in [
        ("marian_shared", "normalize_before", json!(true), "true"),
        (
            "marian_shared",
            "normalise_before",
            json!(true),
            "not known here",
        ),
        (
            "marian_shared",
            "static_position_embeddings",
            json!(false),
            "false",
        ),
        (
            "marian_shared",
            "activation_function",
            json!("laplace"),
            "laplace",
        ),
        ("marian_shared", "is_encoder_decoder", json!(false), "false"),
        ("marian_shared", "pruned_heads", json!({"0": [1]}), "[1]"),
        (
            "marian_shared",
            "quantization_config",
            json!({"bits": 4}),
            "bits",
        ),
        (
            "marian_shared",
            "num_hidden_layers",
            json!(7),
            "expected: 3",
        ),
        ("marian_shared", "decoder_vocab_size", json!(40), "shared"),
        (
            "marian_shared",
            "architectures",
            json!(["MarianForCausalLM"]),
            "MarianForCausalLM",
        ),
        (
            "marian_shared",
            "model_type",
            json!("prophetnet"),
            "`prophetnet`",
        ),
        (
            "t5_gated",
            "feed_forward_proj",
            json!("gated-laplace"),
            "laplace",
        ),
        ("t5_first", "dense_act_fn", json!("gelu"), "expected: relu"),
        (
            "t5_first",
            "relative_attention_num_buckets",
            json!(6),
            "multiple of 4",
        ),
        (
            "t5_first",
            "relative_attention_max_distance",
            json!(4),
            "from 5 on",
        ),
        ("t5_first", "d_kv", json!(0), "1 to 4096"),
        ("t5_first", "d_kv", json!(1_u64 << 40), "1 to 4096"),
        ("t5_first", "is_decoder", json!(true), "true"),
        (
            "mt5_small",
            "layer_norm_epsilon",
            json!(0),
            "between 0 and 1",
        ),
        ("marian_shared", "d_model", json!("24"), "whole number"),
        ("marian_shared", "d_model", json!(48), "[41, 48]"),
        (
            "marian_shared",
            "pad_token_id",
            json!(41),
            "below target_vocab_size",
        ),
        ("m2m_tied", "normalize_before", json!(false), "false"),
        ("m2m_tied", "tie_encoder_decoder", json!(true), "true"),
        ("m2m_tied", "rope_theta", json!(1e4), "not known here"),
    ] {
        let folder = copy(family);
        change(folder.path(), "config.json", |map| {
            map.insert(key.into(), value.clone());
        });
        let e = refusal(folder.path());
        assert!(
            e.contains(found) && (e.contains(key) || key == "d_model"),
            "{key}: {e}"
        );
    }
    for (key, value) in [
        ("encoder_no_repeat_ngram_size", json!(2)),
        ("num_beam_groups", json!(2)),
        ("stop_strings", json!(["x"])),
        ("bad_words_ids", json!([[1, 2]])),
        ("eos_token_id", json!(["x"])),
        ("length_penalti", json!(1.0)),
    ] {
        let folder = copy("marian_shared");
        change(folder.path(), "generation_config.json", |map| {
            map.insert(key.into(), value.clone());
        });
        let e = refusal(folder.path());
        assert!(
            e.contains(key) && e.contains("generation_config.json"),
            "{key}: {e}"
        );
    }
    let folder = copy("m2m_tied");
    change(folder.path(), "generation_config.json", |map| {
        map.insert("decoder_start_token_id".into(), json!(1));
    });
    assert!(refusal(folder.path()).contains("another token than `pad_token_id`"));
}

#[test]
fn our_own_settings_are_complete_and_known() {
    let config = TransformerConfig {
        layer_norm_eps: 1e-6,
        ..small(Norm::Post)
    };
    let damaged = |damage: fn(&mut serde_json::Map<String, Value>)| {
        let (folder, _) = saved(&config);
        fs::remove_file(folder.path().join(MANIFEST_FILE)).unwrap();
        change(folder.path(), "config.json", damage);
        refusal(folder.path())
    };
    let e = damaged(|map| drop(map.insert("moe_experts".into(), json!(4))));
    assert!(e.contains("moe_experts"), "{e}");
    let e = damaged(|map| drop(map.remove("norm")));
    assert!(e.contains("`norm`") && e.contains("found: none"), "{e}");
    let e = damaged(|map| drop(map.insert("norm".into(), json!("middle"))));
    assert!(e.contains("middle"), "{e}");
}

#[test]
fn weights_that_do_not_fit_are_refused_by_name() {
    let name = "model.encoder.layers.1.fc1.weight";
    let damaged = |damage: fn(&mut Vec<Tensor>)| {
        let folder = copy("marian_shared");
        let path = folder.path().join(WEIGHTS_FILE);
        let mut tensors = tensors_of(&path);
        damage(&mut tensors);
        write_all(&path, &tensors);
        refusal(folder.path())
    };
    let e = damaged(|t| t.retain(|t| t.name != "model.encoder.layers.1.fc1.weight"));
    assert!(
        e.contains("missing") && e.contains(name) && e.contains("[40, 24]"),
        "{e}"
    );
    let e = damaged(|t| {
        t.iter_mut()
            .filter(|t| t.shape == [40, 24])
            .for_each(|t| t.shape.reverse())
    });
    assert!(
        e.contains("expected: [40, 24]") && e.contains("found: [24, 40]"),
        "{e}"
    );
    let stranger = "model.encoder.layer_norm.weight";
    let e = damaged(|t| {
        t.push(Tensor {
            name: "model.encoder.layer_norm.weight".into(),
            shape: vec![1],
            data: vec![0.0],
        });
    });
    assert!(e.contains("does not know") && e.contains(stranger), "{e}");
    // An alias with other values: the settings say that the output is tied.
    let e = damaged(|t| {
        t.push(Tensor {
            name: "lm_head.weight".into(),
            shape: vec![41, 24],
            data: vec![0.5; 41 * 24],
        });
    });
    assert!(
        e.contains("lm_head.weight") && e.contains("tie_word_embeddings"),
        "{e}"
    );
}

#[test]
fn huge_settings_ask_for_no_memory() {
    let folder = copy("marian_shared");
    change(folder.path(), "config.json", |map| {
        for (key, value) in [
            ("vocab_size", 1 << 24),
            ("decoder_vocab_size", 1 << 24),
            ("d_model", 1 << 16),
        ] {
            map.insert(key.into(), json!(value));
        }
        map.insert("decoder_attention_heads".into(), json!(4));
    });
    let e = refusal(folder.path());
    assert!(
        e.contains("expected: [16777216, 65536]") && e.contains("found: [41, 24]"),
        "{e}"
    );
}

#[test]
fn checksums_are_checked() {
    let model = open(&golden("marian_shared")).unwrap();
    let damaged = |damage: fn(&Path)| {
        let folder = tempfile::tempdir().unwrap();
        save_as(
            folder.path(),
            model.encoder_decoder().unwrap(),
            &model.weights().unwrap(),
            &model.generation,
        );
        damage(folder.path());
        refusal(folder.path())
    };
    let e = damaged(|f| {
        let path = f.join(WEIGHTS_FILE);
        let mut bytes = fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&path, bytes).unwrap();
    });
    assert!(
        e.contains("model.safetensors") && e.contains("SHA-256"),
        "{e}"
    );
    let e = damaged(|f| fs::remove_file(f.join("tokenizer.json")).unwrap());
    assert!(e.contains("tokenizer.json") && e.contains("missing"), "{e}");
    let e = damaged(|f| {
        change(f, MANIFEST_FILE, |map| {
            map["files"].as_object_mut().unwrap().remove(WEIGHTS_FILE);
        });
    });
    assert!(e.contains("no checksum"), "{e}");
    let e = damaged(|f| {
        change(f, MANIFEST_FILE, |map| {
            map["files"]["../../etc/passwd"] = json!("00");
        });
    });
    assert!(e.contains("outside of its folder"), "{e}");
    let e = damaged(|f| {
        change(f, MANIFEST_FILE, |map| {
            drop(map.insert("format_version".into(), json!(2)))
        })
    });
    assert!(e.contains("newer hexapla"), "{e}");
}

#[test]
fn folders_without_usable_weights_are_refused() {
    let folder = copy("marian_shared");
    fs::rename(
        folder.path().join(WEIGHTS_FILE),
        folder.path().join("pytorch_model.bin"),
    )
    .unwrap();
    let e = refusal(folder.path());
    assert!(e.contains("pytorch_model.bin") && e.contains("hint"), "{e}");
    fs::remove_file(folder.path().join("pytorch_model.bin")).unwrap();
    assert!(refusal(folder.path()).contains("no weights"));
    fs::write(folder.path().join("config.json"), "[1]").unwrap();
    assert!(refusal(folder.path()).contains("JSON object"));
    fs::remove_file(folder.path().join("config.json")).unwrap();
    assert!(refusal(folder.path()).contains("config.json"));
    assert!(refusal(&folder.path().join("none")).contains("no model folder"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever happens to a folder's bytes: an error or a model, never a panic.
    #[test]
    fn damaged_folders_never_panic(seed: u64, cut in 0usize..200, file in 0usize..3) {
        let folder = copy("marian_old");
        let name = ["config.json", WEIGHTS_FILE, "generation_config.json"][file];
        let path = folder.path().join(name);
        fs::write(folder.path().join("generation_config.json"), r#"{"max_length": 9, "bad_words_ids": [[1]]}"#).unwrap();
        let mut bytes = fs::read(&path).unwrap();
        let mut random = SplitMix(seed);
        for _ in 0..=random.below(4) {
            let offset = random.below(bytes.len().min(4000));
            bytes[offset] = random.next_u64() as u8;
        }
        if cut < 100 {
            bytes.truncate(random.below(bytes.len()));
        }
        fs::write(&path, bytes).unwrap();
        let _ = open(folder.path());
    }
}
