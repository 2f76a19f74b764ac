//! What opens, what is saved, and that they are the same.

use super::*;
use crate::config::{Activation, ComputeType, EarlyStopping};

#[test]
fn folders_of_transformers_open_with_their_settings() {
    let c = |name: &str| {
        open(&golden(name))
            .unwrap()
            .encoder_decoder()
            .unwrap()
            .clone()
    };
    let shared = c("marian_shared");
    assert_eq!(
        (shared.encoder_layers, shared.decoder_layers, shared.d_model),
        (3, 2, 24)
    );
    assert_eq!((shared.encoder_heads, shared.decoder_heads), (4, 3));
    assert_eq!(
        (shared.encoder_feed_forward, shared.decoder_feed_forward),
        (40, 28)
    );
    assert_eq!(
        (shared.activation, shared.norm, shared.final_norm),
        (Activation::Swish, Norm::Post, false)
    );
    assert_eq!(
        (shared.positions, shared.position_offset),
        (Positions::SinusoidalHalves, 0)
    );
    assert_eq!(
        (
            shared.pad_token_id,
            shared.eos_token_id,
            shared.decoder_start_token_id
        ),
        (40, 0, 40)
    );
    assert!(
        shared.share_embeddings
            && shared.tie_output
            && shared.output_bias
            && shared.scale_embedding
    );
    let old = c("marian_old");
    assert!(old.share_embeddings && old.tie_output && !old.scale_embedding);
    assert_eq!(
        (old.target_vocab_size, old.activation),
        (37, Activation::Relu)
    );
    let separate = c("marian_separate");
    assert_eq!(
        (separate.source_vocab_size, separate.target_vocab_size),
        (53, 44)
    );
    assert!(!separate.share_embeddings && separate.tie_output);
    let untied = c("marian_untied");
    assert!(!untied.share_embeddings && !untied.tie_output);
    let tied = c("m2m_tied");
    assert_eq!(
        (tied.norm, tied.final_norm, tied.position_offset),
        (Norm::Pre, true, 2)
    );
    assert_eq!(
        (tied.positions, tied.forced_bos_token_id),
        (Positions::SinusoidalHalvesFairseq, Some(7))
    );
    assert!(tied.share_embeddings && tied.tie_output && !tied.output_bias);
    assert_eq!(
        (
            c("m2m_odd_pad").position_offset,
            c("m2m_odd_pad").decoder_start_token_id
        ),
        (5, 9)
    );
    // Three tables, as transformers 5 saves what is not tied.
    let untied = c("m2m_untied");
    assert!(!untied.share_embeddings && !untied.tie_output);
}

#[test]
fn folders_of_transformers_open_with_their_generation_defaults() {
    let g = |name: &str| open(&golden(name)).unwrap().generation;
    let shared = g("marian_shared");
    assert_eq!(
        (
            shared.num_beams,
            shared.max_length,
            shared.renormalize_logits
        ),
        (4, Some(24), true)
    );
    assert_eq!(
        (shared.suppressed_ids, shared.forced_eos_token_id),
        (vec![40], None)
    );
    // The old folder has them in config.json.
    let old = g("marian_old");
    assert_eq!(
        (old.num_beams, old.length_limit(40), old.renormalize_logits),
        (4, 24, false)
    );
    assert_eq!(
        (old.suppressed_ids, old.forced_eos_token_id),
        (vec![36], Some(3))
    );
    assert_eq!(old.early_stopping, EarlyStopping::Heuristic);
}

#[test]
fn every_number_arrives_in_its_place() {
    for name in GOLDEN {
        let model = open(&golden(name)).unwrap();
        let weights = model.weights().unwrap();
        let get = |name: &str| weights.get(weights.index.find(name).unwrap());
        let store = TensorStore::open_folder(&golden(name)).unwrap();
        let (d, inner) = (
            model.encoder_decoder().unwrap().d_model,
            model.encoder_decoder().unwrap().decoder_feed_forward,
        );
        let ours = get("decoder.layers.0.feed_forward.inner.weight");
        let [inner_layer, norm_layer] = match name {
            "t5_first" => [
                "decoder.block.0.layer.2.DenseReluDense.wi.weight",
                "decoder.block.0.layer.1.layer_norm.weight",
            ],
            "t5_gated" | "mt5_small" => [
                "decoder.block.0.layer.2.DenseReluDense.wi_1.weight",
                "decoder.block.0.layer.1.layer_norm.weight",
            ],
            _ => [
                "model.decoder.layers.0.fc1.weight",
                "model.decoder.layers.0.encoder_attn_layer_norm.weight",
            ],
        };
        let theirs = store.read(inner_layer, &[inner, d]).unwrap();
        for row in 0..d {
            for column in 0..inner {
                assert_eq!(
                    ours[row * inner + column],
                    theirs[column * d + row],
                    "{name}"
                );
            }
        }
        let norm = get("decoder.layers.0.cross_attention_norm.weight");
        assert_eq!(norm, store.read(norm_layer, &[d]).unwrap());
        if model.encoder_decoder().unwrap().bias {
            let key = get("decoder.layers.0.cross_attention.key.bias");
            let theirs = "model.decoder.layers.0.encoder_attn.k_proj.bias";
            assert_eq!(key, store.read(theirs, &[d]).unwrap());
        }
        assert!(weights.data.iter().all(|v| v.is_finite()));
    }
}

#[test]
fn what_is_saved_opens_the_same() {
    for name in GOLDEN {
        let model = open(&golden(name)).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model");
        let saved = save_as(
            &path,
            model.encoder_decoder().unwrap(),
            &model.weights().unwrap(),
            &model.generation,
        );
        let expected = match name {
            "m2m_untied" => Family::Native,
            // Its numbers are T5's.
            "mt5_small" => Family::T5,
            _ => model.family,
        };
        assert_eq!(saved.family, expected, "{name}: {:?}", saved.note);
        assert_eq!(saved.note.is_some(), expected == Family::Native);
        let again = open(&path).unwrap();
        assert_eq!(
            (again.family, again.encoder_decoder().unwrap()),
            (expected, model.encoder_decoder().unwrap()),
            "{name}"
        );
        assert_eq!(again.weights().unwrap(), model.weights().unwrap(), "{name}");
        assert_eq!(again.generation, model.generation, "{name}");
        let manifest = again.manifest.unwrap();
        assert_eq!(manifest.fields.seed, Some(3));
        let files: Vec<_> = manifest.files.keys().map(String::as_str).collect();
        assert_eq!(
            files,
            [
                "config.json",
                "generation_config.json",
                "model.safetensors",
                "tokenizer.json"
            ]
        );
    }
}

#[test]
fn every_kind_of_embedding_survives_in_every_family() {
    for norm in [Norm::Post, Norm::Pre] {
        for (share, tie) in [(true, true), (true, false), (false, true), (false, false)] {
            for learned in [false, true] {
                let mut config = small(norm);
                (config.share_embeddings, config.tie_output) = (share, tie);
                if learned {
                    config.positions = Positions::Learned;
                }
                let family = match (norm, share, learned) {
                    (Norm::Post, _, false) => Family::Marian,
                    (Norm::Pre, true, false) => Family::M2m100,
                    _ => Family::Native,
                };
                let weights = Weights::random(register(&config).unwrap(), 5);
                let folder = tempfile::tempdir().unwrap();
                let generation = GenerationDefaults::for_training(&config);
                let saved = save_as(folder.path(), &config, &weights, &generation);
                let again = open(folder.path()).unwrap();
                assert_eq!((saved.family, again.family), (family, family));
                assert_eq!(
                    (again.encoder_decoder().unwrap(), &again.weights().unwrap()),
                    (&config, &weights)
                );
                assert_eq!(again.generation, generation);
            }
        }
    }
}

#[test]
fn other_mathematics_is_written_as_ours_and_says_why() {
    let why = |change: fn(&mut TransformerConfig)| {
        let mut config = small(Norm::Post);
        change(&mut config);
        let (family, note) = Family::for_config(&config);
        assert_eq!(family, Family::Native);
        note.unwrap()
    };
    assert!(why(|c| c.layer_norm_eps = 1e-6).contains("layer_norm_eps"));
    assert!(why(|c| c.final_norm = true).contains("no norm after the stacks"));
    assert!(why(|c| c.positions = Positions::SinusoidalInterleaved).contains("sinusoidal halves"));
    assert!(why(|c| c.position_offset = 2).contains("begin at 0"));
    let mut pre = small(Norm::Pre);
    pre.decoder_start_token_id = pre.pad_token_id;
    assert!(
        Family::for_config(&pre)
            .1
            .unwrap()
            .contains("cannot start with the padding token")
    );
    pre = TransformerConfig {
        output_bias: true,
        ..small(Norm::Pre)
    };
    assert!(Family::for_config(&pre).1.unwrap().contains("no bias"));
}

#[test]
fn an_untied_folder_of_an_older_transformers_shares_its_sides() {
    let config = TransformerConfig {
        tie_output: false,
        ..small(Norm::Pre)
    };
    let (folder, weights) = saved(&config);
    fs::remove_file(folder.path().join(MANIFEST_FILE)).unwrap();
    // Before version 5 only the shared table was written.
    let path = folder.path().join(WEIGHTS_FILE);
    let mut tensors = tensors_of(&path);
    tensors.retain(|tensor| !tensor.name.contains("embed_tokens"));
    write_all(&path, &tensors);
    let again = open(folder.path()).unwrap();
    assert_eq!(
        (again.encoder_decoder().unwrap(), again.weights().unwrap()),
        (&config, weights)
    );
}

#[test]
fn saving_again_replaces_the_model_and_keeps_strangers() {
    let config = small(Norm::Post);
    let weights = Weights::random(register(&config).unwrap(), 5);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model");
    save_as(&path, &config, &weights, &GenerationDefaults::default());
    fs::write(path.join("README.md"), "mine").unwrap();
    fs::write(path.join(INDEX_FILE), "{}").unwrap();
    let other = Weights::random(weights.index.clone(), 6);
    let model = SaveModel {
        assembly: &config.clone().into(),
        family: None,
        weights: &other,
        generation: &GenerationDefaults::default(),
        files: BTreeMap::new(),
        manifest: ManifestFields::default(),
    };
    save(&path, &model).unwrap();
    assert_eq!(open(&path).unwrap().weights().unwrap(), other);
    assert_eq!(fs::read(path.join("README.md")).unwrap(), b"mine");
    assert!(!path.join("tokenizer.json").exists() && !path.join(INDEX_FILE).exists());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);

    let reserved = SaveModel {
        files: BTreeMap::from([("../x".into(), Vec::new())]),
        ..model.clone()
    };
    assert!(
        save(&path, &reserved)
            .unwrap_err()
            .to_string()
            .contains("../x")
    );
    let reserved = SaveModel {
        files: BTreeMap::from([("config.json".into(), Vec::new())]),
        ..model
    };
    assert!(save(&path, &reserved).is_err());
    assert_eq!(open(&path).unwrap().weights().unwrap(), other);
}

#[test]
fn t5_s_own_combinations_open_the_same() {
    let model = open(&golden("t5_first")).unwrap();
    let weights = model.weights().unwrap();
    let plain = model.encoder_decoder().unwrap();
    // One table whose logits are not scaled (mT5, as version 5 of transformers saves it).
    let unscaled = TransformerConfig {
        scale_output: false,
        ..plain.clone()
    };
    let exact = TransformerConfig {
        activation: Activation::Gelu,
        ..plain.clone()
    };
    let dropout = TransformerConfig {
        attention_dropout: 0.0,
        ..plain.clone()
    };
    let short = TransformerConfig {
        max_position_embeddings: 512,
        ..plain.clone()
    };
    for (config, family) in [
        (unscaled, Family::T5),
        (exact, Family::T5),
        (dropout, Family::Native),
        (short, Family::Native),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model");
        let saved = save_as(&path, &config, &weights, &model.generation);
        assert_eq!(saved.family, family);
        let again = open(&path).unwrap();
        assert_eq!(again.encoder_decoder().unwrap(), &config);
        assert_eq!(again.weights().unwrap(), weights);
    }
    // GELU with a gate is two functions there; ours is the exact one.
    let gated = open(&golden("t5_gated")).unwrap();
    let exact = TransformerConfig {
        activation: Activation::Gelu,
        ..gated.encoder_decoder().unwrap().clone()
    };
    let folder = tempfile::tempdir().unwrap();
    save_as(
        folder.path(),
        &exact,
        &gated.weights().unwrap(),
        &gated.generation,
    );
    let again = open(folder.path()).unwrap();
    assert_eq!(again.encoder_decoder().unwrap(), &exact);
}

#[test]
fn every_generation_default_is_saved() {
    let config = TransformerConfig {
        forced_bos_token_id: Some(4),
        ..small(Norm::Pre)
    };
    let weights = Weights::random(register(&config).unwrap(), 5);
    let generation = GenerationDefaults {
        num_beams: 3,
        max_length: Some(30),
        max_new_tokens: Some(7),
        min_length: 2,
        min_new_tokens: 3,
        early_stopping: EarlyStopping::Never,
        length_penalty: 0.6,
        repetition_penalty: 1.3,
        no_repeat_ngram_size: 2,
        suppressed_ids: vec![0, 5],
        first_suppressed_ids: vec![1, 6],
        more_eos_token_ids: vec![7, 9],
        forced_eos_token_id: Some(1),
        renormalize_logits: true,
        do_sample: true,
        temperature: 0.7,
        top_k: 9,
        top_p: 0.9,
        min_p: 0.05,
        num_return_sequences: 2,
    };
    assert_eq!(
        (generation.length_limit(32), generation.minimum_length()),
        (8, 4)
    );
    let folder = tempfile::tempdir().unwrap();
    save_as(folder.path(), &config, &weights, &generation);
    let again = open(folder.path()).unwrap();
    assert_eq!(
        (again.encoder_decoder().unwrap(), &again.generation),
        (&config, &generation)
    );
    let plain = GenerationDefaults::default();
    assert_eq!(
        (
            plain.length_limit(512),
            plain.length_limit(12),
            plain.minimum_length()
        ),
        (21, 12, 0)
    );
}

/// Another model takes the folder's name while it is open: its numbers are still those that were checked.
#[test]
fn an_opened_folder_is_what_was_opened() {
    let config = small(Norm::Post);
    let weights = |seed| Weights::random(register(&config).unwrap(), seed);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m");
    let generation = GenerationDefaults::default();
    for compute_type in [ComputeType::Float32, ComputeType::Int8] {
        save_as(&path, &config, &weights(1), &generation);
        let opened = open(&path).unwrap();
        save_as(&path, &config, &weights(2), &generation);
        assert!(opened.weights().unwrap() == weights(1));
        opened.pack(compute_type).unwrap();
        assert_eq!(
            opened.folder().sha256(WEIGHTS_FILE).unwrap(),
            opened.manifest.as_ref().unwrap().files[WEIGHTS_FILE]
        );
        assert!(open(&path).unwrap().weights().unwrap() == weights(2));
    }
}
