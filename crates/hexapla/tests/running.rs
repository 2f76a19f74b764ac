//! Requests that come and go while others are decoded: each gets what it gets alone, bit for bit.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hexapla::config::ComputeType;
use hexapla::formats;
use hexapla::generate::engine::{Engine, Request};
use hexapla::generate::generator::{Generator, Prompt};
use hexapla::generate::running::{Model, RunningBatch};
use hexapla::generate::{Hypothesis, Sampling, SearchOptions};

fn golden(under: &str) -> Vec<PathBuf> {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let folders = std::fs::read_dir(golden.join(under)).unwrap();
    let folders = folders.map(|e| e.unwrap().path());
    let mut folders: Vec<_> = folders.filter(|f| f.join("config.json").exists()).collect();
    folders.sort();
    folders
}

/// Greedy, by beams that are as wide as nothing else, by chance, and with penalties.
fn settings(greedy: &SearchOptions) -> Vec<Arc<SearchOptions>> {
    let greedy = SearchOptions {
        beam_size: 1,
        n_best: 1,
        sampling: None,
        ..greedy.clone()
    };
    let beams = SearchOptions {
        beam_size: 3,
        n_best: 2,
        ..greedy.clone()
    };
    let by_chance = SearchOptions {
        sampling: Some(Sampling::default()),
        n_best: 4,
        ..greedy.clone()
    };
    let penalized = SearchOptions {
        repetition_penalty: 1.7,
        ignore_eos: true,
        ..greedy.clone()
    };
    [greedy, beams, by_chance, penalized].map(Arc::new).to_vec()
}

/// Lets requests come, one or two before a step, and every fifth go, at once or after it has been there for two steps. The others
/// must get what `alone` gives.
fn one_after_the_other<M: Model>(
    mut batch: RunningBatch<M>,
    requests: &[M::Request],
    settings: &[Arc<SearchOptions>],
    alone: impl Fn(&M::Request, &SearchOptions) -> Vec<Hypothesis>,
) {
    let options = |i: usize| &settings[i % settings.len()];
    let mut found = BTreeMap::new();
    let (mut most, mut next) = (0, 0);
    for step in 0.. {
        for request in requests.iter().skip(next).take(1 + step % 2) {
            assert_eq!(batch.add(request, options(next)).unwrap(), next);
            if next == 8 {
                assert!(batch.remove(8), "before its first step");
            }
            next += 1;
        }
        if batch.is_empty() && next == requests.len() {
            break;
        }
        most = most.max(batch.len());
        for (number, outputs) in batch.step(None).unwrap() {
            assert!(found.insert(number, outputs.unwrap()).is_none());
        }
        for number in (3..next.saturating_sub(2)).step_by(5) {
            batch.remove(number);
            assert!(!batch.remove(number));
        }
    }
    assert!(most > 2, "they were together");
    for (i, request) in requests.iter().enumerate() {
        match found.get(&i) {
            Some(outputs) => assert_eq!(*outputs, alone(request, options(i)), "request {i}"),
            None => assert_eq!(i % 5, 3, "request {i} was not taken away"),
        }
    }
    assert!(!found.contains_key(&8) && found.len() > requests.len() / 2);
}

#[test]
fn prompts_come_and_go() {
    let folders = golden("decoders");
    assert!(folders.len() > 9);
    for folder in folders {
        for compute_type in [ComputeType::Float32, ComputeType::Int8, ComputeType::Int4] {
            let opened = formats::open(folder.as_path()).unwrap();
            let config = opened.decoder().unwrap();
            let greedy = SearchOptions::for_decoder(config, &opened.generation);
            let generator = Generator::open(folder.as_path(), compute_type).unwrap();
            // A block of the cache and more, where the model takes as many.
            let room = config.max_position_embeddings;
            let token = |i: usize| ((i * i * 7 + i * 3 + 5) % (config.vocab_size - 3) + 3) as u32;
            let prompt = |i: usize| {
                let len = (i * 11 % 45).clamp(1, room - 8);
                Prompt {
                    ids: (0..len).map(|k| token(i % 3 + k)).collect(),
                    max_new_tokens: 2 + i % 7,
                    seed_index: i as u64,
                }
            };
            let prompts: Vec<Prompt> = (0..17).map(prompt).collect();
            let alone = |prompt: &Prompt, options: &SearchOptions| {
                let found = generator.generate(std::slice::from_ref(prompt), options);
                found.unwrap().remove(0)
            };
            let settings = settings(&greedy);
            one_after_the_other(generator.running(), &prompts, &settings, alone);
        }
    }
}

#[test]
fn more_prompts_than_a_pass_reads_are_as_each_alone() {
    let one_thread = rayon::ThreadPoolBuilder::new().num_threads(1).build();
    let one_thread = Arc::new(one_thread.unwrap());
    for folder in golden("decoders") {
        let opened = formats::open(folder.as_path()).unwrap();
        let config = opened.decoder().unwrap();
        let options = SearchOptions::for_decoder(config, &opened.generation);
        let len = 45.min(config.max_position_embeddings - 3);
        let token = |i: usize| ((i * i * 7 + i * 3 + 5) % (config.vocab_size - 3) + 3) as u32;
        let prompt = |i: usize| Prompt {
            ids: (0..len).map(|k| token(i % 5 + k)).collect(),
            max_new_tokens: 3,
            seed_index: i as u64,
        };
        // All in one batch, for there is one thread, and some passes, the last of which is not full.
        let prompts: Vec<Prompt> = (0..1500 / len).map(prompt).collect();
        let generator = Generator::open(folder.as_path(), ComputeType::Int8).unwrap();
        let generator = generator.with_thread_pool(one_thread.clone());
        let alone = |prompt: &Prompt| {
            let found = generator.generate(std::slice::from_ref(prompt), &options);
            found.unwrap().remove(0)
        };
        let expected: Vec<_> = prompts.iter().map(alone).collect();
        let found = generator.generate(&prompts, &options).unwrap();
        assert!(found == expected, "{}", folder.display());
        let cached = generator.with_prefix_cache(1 << 20);
        let found = cached.generate(&prompts, &options).unwrap();
        assert!(found == expected, "{}", folder.display());
    }
}

#[test]
fn sentences_come_and_go() {
    let mut models = 0;
    for folder in golden("") {
        for compute_type in [ComputeType::Float32, ComputeType::Int8] {
            let opened = formats::open(folder.as_path()).unwrap();
            let Ok(config) = opened.encoder_decoder() else {
                continue;
            };
            let mut settings = settings(&SearchOptions::for_model(config));
            settings.push(Arc::new(SearchOptions {
                attention: true,
                ..(*settings[1]).clone()
            }));
            models += 1;
            let (vocab, end) = (config.source_vocab_size, config.eos_token_id);
            let engine = Engine::open(folder.as_path(), compute_type).unwrap();
            let request = |i: usize| {
                let len = (i * 5 % 12).min(engine.max_tokens() - 1);
                let words = (0..len).map(|k| ((i * 13 + k * k * 3 + 4) % vocab) as u32);
                Request {
                    max_length: 2 + i % 7,
                    seed_index: i as u64,
                    ..Request::new(words.chain([end]).collect())
                }
            };
            let requests: Vec<Request> = (0..17).map(request).collect();
            let alone = |request: &Request, options: &SearchOptions| {
                let found = engine.generate(std::slice::from_ref(request), options, 100);
                found.unwrap().remove(0)
            };
            one_after_the_other(engine.running(), &requests, &settings, alone);
        }
    }
    assert!(models > 10);
}

#[test]
fn what_does_not_fit_is_refused_and_the_others_go_on() {
    let folder = &golden("decoders")[0];
    let generator = Generator::open(folder.as_path(), ComputeType::Float32).unwrap();
    let options = Arc::new(SearchOptions {
        ignore_eos: true,
        ..SearchOptions::new(1, 0)
    });
    let prompt = |token: u32| Prompt {
        ids: vec![token],
        max_new_tokens: 3,
        seed_index: 0,
    };
    let mut batch = generator.running();
    assert!(batch.is_empty() && batch.step(None).unwrap().is_empty());
    batch.add(&prompt(5), &options).unwrap();
    assert!(batch.add(&prompt(9_999_999), &options).is_err());
    let bad = SearchOptions {
        beam_size: 0,
        ..(*options).clone()
    };
    assert!(batch.add(&prompt(5), &Arc::new(bad)).is_err());
    let attentive = SearchOptions {
        attention: true,
        ..(*options).clone()
    };
    let refused = batch.add(&prompt(5), &Arc::new(attentive)).unwrap_err();
    assert!(refused.to_string().contains("no attention"), "{refused}");
    assert_eq!(batch.add(&prompt(6), &options).unwrap(), 1);
    // Whoever looks at one of them wants no more, and cannot take the other.
    let mut seen = 0;
    let mut watch = |number: usize, _: usize, _: &Hypothesis| match number {
        0 => Ok(false),
        _ => {
            seen += 1;
            match seen {
                2 => Err(hexapla::Error::input("gone")),
                _ => Ok(true),
            }
        }
    };
    let first = batch.step(Some(&mut watch)).unwrap();
    assert_eq!((first.len(), first[0].0), (1, 0));
    assert_eq!(first[0].1.as_ref().unwrap()[0].ids.len(), 1);
    let second = batch.step(Some(&mut watch)).unwrap();
    assert!(second[0].0 == 1 && second[0].1.is_err() && batch.is_empty());
}
