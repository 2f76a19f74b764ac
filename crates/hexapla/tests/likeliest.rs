//! Biases of logits, and the likeliest tokens in the place of each that was chosen.

use std::fs;
use std::path::Path;

use hexapla::config::ComputeType;
use hexapla::formats;
use hexapla::generate::generator::{Generator, Prompt};
use hexapla::generate::{Hypothesis, Sampling, SearchOptions};

/// Each golden decoder with a prompt, and its own search.
fn each(mut check: impl FnMut(&dyn Fn(&SearchOptions) -> Vec<Hypothesis>, SearchOptions, u32)) {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/decoders");
    let mut models = 0;
    for folder in fs::read_dir(golden).unwrap() {
        let folder = folder.unwrap().path();
        let opened = formats::open(folder.as_path()).unwrap();
        let config = opened.decoder().unwrap();
        let options = SearchOptions::for_decoder(config, &opened.generation);
        let generator = Generator::open(folder.as_path(), ComputeType::Float32).unwrap();
        let prompt = Prompt {
            ids: vec![5, 9, 7],
            max_new_tokens: 12,
            seed_index: 3,
        };
        let search = |options: &SearchOptions| {
            let found = generator.generate(std::slice::from_ref(&prompt), options);
            found.unwrap().remove(0)
        };
        check(&search, options, config.vocab_size as u32);
        models += 1;
    }
    assert!(models > 9);
}

#[test]
fn the_likeliest_tokens_stand_beside_each_that_was_chosen() {
    each(|search, greedy, vocab_size| {
        let sampled = SearchOptions {
            sampling: Some(Sampling::default()),
            n_best: 3,
            ..greedy.clone()
        };
        for options in [greedy, sampled] {
            let plain = search(&options);
            let all = search(&SearchOptions {
                likeliest: vocab_size as usize,
                ..options.clone()
            });
            let some = search(&SearchOptions {
                likeliest: 3,
                ..options.clone()
            });
            for ((plain, all), some) in plain.iter().zip(&all).zip(&some) {
                assert!(plain.likeliest.is_empty());
                assert_eq!(
                    (&plain.ids, &plain.token_log_probs),
                    (&all.ids, &all.token_log_probs)
                );
                assert_eq!(
                    (all.likeliest.len(), some.likeliest.len()),
                    (plain.ids.len(), plain.ids.len())
                );
                for (i, likeliest) in all.likeliest.iter().enumerate() {
                    assert!(likeliest.is_sorted_by(|a, b| a.1 >= b.1));
                    let sum: f32 = likeliest.iter().map(|(_, p)| p.exp()).sum();
                    assert!((sum - 1.0).abs() < 1e-4, "{sum}");
                    let chosen = likeliest.iter().find(|(id, _)| *id == plain.ids[i]);
                    assert_eq!(chosen.unwrap().1, plain.token_log_probs[i]);
                    assert_eq!(some.likeliest[i], likeliest[..3]);
                    if options.sampling.is_none() {
                        assert_eq!(likeliest[0].0, plain.ids[i]);
                    }
                }
            }
        }
    });
}

#[test]
fn biases_make_tokens_likelier_or_impossible() {
    each(|search, options, vocab_size| {
        let with = |logit_bias: Vec<(u32, f32)>| {
            search(&SearchOptions {
                logit_bias,
                ..options.clone()
            })
        };
        let plain = search(&options);
        assert_eq!(with(vec![(4, 0.0)]), plain);
        let wanted = (3..vocab_size).find(|id| !options.is_end(*id)).unwrap();
        let forced = with(vec![(wanted, 1e6)]).remove(0);
        // Where nothing else forbids it.
        if options.no_repeat_ngram_size == 0 && !options.suppressed_ids.contains(&wanted) {
            assert!(forced.ids.iter().all(|id| *id == wanted), "{forced:?}");
        }
        let first = plain[0].ids[0];
        if !options.is_end(first) && options.repetition_penalty == 1.0 {
            let without = with(vec![(first, -1e6)]);
            let suppressed = search(&SearchOptions {
                suppressed_ids: options
                    .suppressed_ids
                    .iter()
                    .copied()
                    .chain([first])
                    .collect(),
                ..options.clone()
            });
            assert_eq!(without[0].ids, suppressed[0].ids);
        }
        for logit_bias in [vec![(vocab_size, 1.0)], vec![(1, f32::NAN)]] {
            let options = SearchOptions {
                logit_bias,
                ..options.clone()
            };
            assert!(options.validate(vocab_size as usize).is_err());
        }
    });
}
