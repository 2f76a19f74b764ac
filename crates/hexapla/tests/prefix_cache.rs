//! Prompts that begin as earlier ones did: read from where they part, with the same results, bit for bit.

use std::fs;
use std::path::{Path, PathBuf};

use hexapla::config::ComputeType;
use hexapla::formats;
use hexapla::generate::generator::{Generator, Prompt};
use hexapla::generate::{Sampling, SearchOptions};
use hexapla::model::transformer::Transformer;
use hexapla::packed::PackedWeights;
use hexapla::weights::Weights;

fn folders() -> Vec<PathBuf> {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/decoders");
    let folders = fs::read_dir(golden).unwrap().map(|e| e.unwrap().path());
    folders.collect()
}

/// Prompts that share 40 tokens, 32 of them, fewer, and all.
fn prompts(vocab_size: usize, room: usize) -> Vec<Prompt> {
    let token = |i: usize| ((i * i * 7 + i * 3 + 5) % (vocab_size - 3) + 3) as u32;
    let shared: Vec<u32> = (0..40).map(token).collect();
    let behind = |known: usize, own: usize, first: usize| -> Vec<u32> {
        let own = (0..own).map(|i| token(first + i));
        shared[..known].iter().copied().chain(own).collect()
    };
    let texts = [
        behind(40, 4, 100),
        behind(40, 5, 200),
        behind(32, 1, 300),
        behind(33, 0, 0),
        behind(31, 6, 400),
        behind(40, 4, 100),
        behind(3, 2, 500),
    ];
    let prompt = |(i, ids): (usize, &Vec<u32>)| Prompt {
        max_new_tokens: (room - ids.len()).min(6),
        ids: ids.clone(),
        seed_index: i as u64,
    };
    texts.iter().enumerate().map(prompt).collect()
}

#[test]
fn what_is_read_from_where_it_parts_gives_the_same_bits() {
    let (mut known, mut models) = (0, 0);
    for folder in folders() {
        for compute_type in [ComputeType::Float32, ComputeType::Bf16, ComputeType::Int8] {
            let opened = formats::open(folder.as_path()).unwrap();
            let config = opened.decoder().unwrap();
            // One of them takes fewer tokens than a block and what is behind it.
            if config.max_position_embeddings < 50 {
                continue;
            }
            models += 1;
            let prompts = prompts(config.vocab_size, config.max_position_embeddings);
            let greedy = SearchOptions::for_decoder(config, &opened.generation);
            let by_chance = SearchOptions {
                sampling: Some(Sampling::default()),
                n_best: 3,
                ..greedy.clone()
            };
            let beams = SearchOptions {
                beam_size: 3,
                n_best: 2,
                ..greedy.clone()
            };
            let plain = Generator::open(folder.as_path(), compute_type).unwrap();
            for options in [greedy, by_chance, beams] {
                let expected = plain.generate(&prompts, &options).unwrap();
                let cached = Generator::open(folder.as_path(), compute_type).unwrap();
                let cached = cached.with_prefix_cache(1 << 20);
                // One after the other, then all at once.
                for (prompt, expected) in prompts.iter().zip(&expected) {
                    let found = cached.generate(std::slice::from_ref(prompt), &options);
                    assert_eq!(found.unwrap()[0], *expected, "{}", folder.display());
                }
                assert_eq!(cached.generate(&prompts, &options).unwrap(), expected);
                known += cached.known_prefix(&prompts[1].ids);
                assert_eq!(cached.known_prefix(&prompts[6].ids), 0);
                cached.trim();
                assert_eq!(cached.known_prefix(&prompts[1].ids), 0);
            }
        }
    }
    assert!(models >= 30, "{models}");
    assert_eq!(known, models * 3 * 32);
}

#[test]
fn long_texts_are_as_exact() {
    // Texts of more than 64 tokens, whose products of attention are rounded in int8.
    let mut models = 0;
    for folder in folders() {
        let opened = formats::open(folder.as_path()).unwrap();
        let mut config = opened.decoder().unwrap().clone();
        if config.max_position_embeddings < 50 {
            continue;
        }
        config.max_position_embeddings = 200;
        let Ok(model) = Transformer::new(config) else {
            continue;
        };
        models += 1;
        let weights = Weights::random(model.index().clone(), 3);
        let vocab_size = model.vocab_size();
        let generator = |bytes| {
            let packed = PackedWeights::new(&weights, ComputeType::Int8);
            Generator::new(model.clone(), packed).with_prefix_cache(bytes)
        };
        let (plain, cached) = (generator(0), generator(1 << 22));
        let options = SearchOptions {
            ignore_eos: true,
            ..SearchOptions::new(0, 0)
        };
        let prompt = |len: usize, own: usize| Prompt {
            ids: (0..len)
                .map(|i| ((i * i * 5 + i + own * (i / 100)) % vocab_size) as u32)
                .collect(),
            max_new_tokens: 8,
            seed_index: 0,
        };
        // Short ones first: what is kept of them serves longer ones, and the other way round.
        let lengths = [50, 120, 64, 65, 101, 150, 170, 97, 40];
        for (own, length) in lengths.into_iter().enumerate() {
            let prompt = prompt(length, own);
            let prompt = std::slice::from_ref(&prompt);
            let expected = plain.generate(prompt, &options).unwrap();
            assert_eq!(cached.generate(prompt, &options).unwrap(), expected);
        }
        assert_eq!(cached.known_prefix(&prompt(140, 9).ids), 96);
    }
    assert!(models > 5, "{models}");
}
