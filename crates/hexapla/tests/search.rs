//! What a search promises for any model.

mod table;

use std::ops::Range;

use hexapla::error::Result;
use hexapla::generate::{
    EarlyStopping, Hypothesis, Sampling, SearchInput, SearchOptions, StepDecoder, search,
};
use hexapla::random::SplitMix;
use hexapla_kernels::Buffer;
use proptest::prelude::*;
use table::{Histories, Logits, attention, hash, input};

const EOS: u32 = 0;
const START: u32 = 1;

/// Random logits, different for every history.
struct Hashed {
    vocab_size: usize,
    seed: u64,
}

impl Logits for Hashed {
    fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    fn fill(&self, history: &[u32], row: &mut [f32]) {
        let mut random = SplitMix(hash(history) ^ self.seed);
        row.fill_with(|| 6.0 * random.uniform() - 3.0);
        row[0] += 1.0;
    }
}

fn run(
    model: &dyn Logits,
    sources: &[u32],
    inputs: &[SearchInput],
    options: &SearchOptions,
) -> Vec<Vec<Hypothesis>> {
    search(&mut Histories::new(model, sources), inputs, options).unwrap()
}

fn any_options() -> impl Strategy<Value = SearchOptions> {
    let early = prop::sample::select(vec![
        EarlyStopping::Heuristic,
        EarlyStopping::WhenFull,
        EarlyStopping::Never,
    ]);
    let chance = prop::option::of((0.3_f32..2.0, 0_usize..9, 0.2_f32..=1.0, any::<u64>()));
    let rules = (
        0_usize..4,
        0.7_f32..1.5,
        0_usize..4,
        prop::option::of(2_u32..9),
        any::<[bool; 2]>(),
    );
    (1_usize..6, 1_usize..6, -0.5_f32..2.0, early, chance, rules).prop_map(
        |(beam, n_best, length_penalty, early_stopping, chance, rules)| {
            let sampling = chance.map(|(temperature, top_k, top_p, seed)| Sampling {
                temperature,
                top_k,
                top_p,
                seed,
                ..Sampling::default()
            });
            let (
                min_length,
                repetition_penalty,
                no_repeat_ngram_size,
                forced_bos_id,
                [end, ignore],
            ) = rules;
            SearchOptions {
                beam_size: if sampling.is_some() { 1 } else { beam },
                n_best: if sampling.is_some() {
                    n_best
                } else {
                    n_best.min(beam)
                },
                length_penalty,
                early_stopping,
                min_length,
                repetition_penalty,
                no_repeat_ngram_size,
                forced_bos_id,
                forced_eos_id: end.then_some(EOS),
                ignore_eos: ignore,
                suppressed_ids: vec![START],
                sampling,
                attention: true,
                ..SearchOptions::new(START, EOS)
            }
        },
    )
}

fn any_sentence() -> impl Strategy<Value = (u32, SearchInput)> {
    let prefix = prop::collection::vec(2_u32..9, 0..4);
    (0_u32..9, prefix, 1_usize..12, any::<u64>()).prop_map(
        |(source, prefix, length, seed_index)| {
            let max_length = length.max(prefix.len());
            (
                source,
                SearchInput {
                    prompt: Vec::new(),
                    prefix,
                    max_length,
                    seed_index,
                },
            )
        },
    )
}

/// What must hold of every hypothesis, whatever the model.
fn check(hypothesis: &Hypothesis, source: u32, input: &SearchInput, options: &SearchOptions) {
    let length = hypothesis.ids.len();
    assert!(length <= input.max_length);
    assert!(hypothesis.ids.starts_with(&input.prefix));
    assert_eq!(hypothesis.finished, hypothesis.ids.last() == Some(&EOS));
    assert!(!hypothesis.tokens().contains(&EOS));
    assert_eq!(hypothesis.token_log_probs.len(), length);
    let sum: f32 = hypothesis.token_log_probs.iter().sum();
    assert!((sum - hypothesis.log_prob).abs() < 1e-4);
    let score = hypothesis.log_prob / (length.max(1) as f32).powf(options.length_penalty);
    assert!((score - hypothesis.score).abs() < 1e-4 * score.abs().max(1.0));
    assert!(
        hypothesis.token_log_probs[..input.prefix.len()]
            .iter()
            .all(|p| *p == 0.0)
    );
    let rows = hypothesis.attention.as_ref().unwrap();
    assert_eq!(rows.len(), length);
    let mut history = vec![source, START];
    for (row, token) in rows.iter().zip(&hypothesis.ids) {
        assert_eq!(*row, attention(&history));
        history.push(*token);
    }
    if options.no_repeat_ngram_size == 2 && options.forced_eos_id.is_none() {
        let free = &hypothesis.ids[input.prefix.len()..];
        let pairs: Vec<_> = free.windows(2).collect();
        assert!((1..pairs.len()).all(|i| !pairs[..i].contains(&pairs[i])));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_sentence_does_not_depend_on_its_companions(
        options in any_options(),
        sentences in prop::collection::vec(any_sentence(), 1..7),
        seed in any::<u64>(),
    ) {
        let model = Hashed { vocab_size: 9, seed };
        let (sources, inputs): (Vec<u32>, Vec<SearchInput>) = sentences.into_iter().unzip();
        let together = run(&model, &sources, &inputs, &options);
        prop_assert_eq!(together.len(), inputs.len());
        for (index, found) in together.iter().enumerate() {
            let alone = run(&model, &sources[index..=index], &inputs[index..=index], &options);
            prop_assert_eq!(found, &alone[0]);
            prop_assert!(!found.is_empty() && found.len() <= options.n_best);
            for hypothesis in found {
                check(hypothesis, sources[index], &inputs[index], &options);
            }
            if options.sampling.is_none() {
                prop_assert!(found.is_sorted_by(|a, b| a.score >= b.score));
            } else {
                prop_assert_eq!(found.len(), options.n_best);
            }
        }
    }
}

#[test]
fn threads_change_nothing() {
    let model = Hashed {
        vocab_size: 8000,
        seed: 3,
    };
    let sources: Vec<u32> = (0..24).collect();
    let inputs: Vec<SearchInput> = (0..24).map(|i| input(6, i)).collect();
    let beam = SearchOptions {
        beam_size: 4,
        n_best: 4,
        ..SearchOptions::new(START, EOS)
    };
    let sampling = Some(Sampling {
        top_p: 0.9,
        ..Sampling::default()
    });
    let sampled = SearchOptions {
        n_best: 3,
        sampling,
        ..SearchOptions::new(START, EOS)
    };
    for options in [beam, sampled] {
        let with_threads = |threads| {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap();
            pool.install(|| run(&model, &sources, &inputs, &options))
        };
        assert_eq!(with_threads(1), with_threads(3));
    }
}

/// Every output of at most `left` more tokens, with its log-probability.
fn enumerate(
    model: &dyn Logits,
    history: &[u32],
    left: usize,
    log_prob: f64,
    all: &mut Vec<(Vec<u32>, f64)>,
) {
    let mut row = vec![0.0; model.vocab_size()];
    model.fill(history, &mut row);
    let sum: f64 = row.iter().map(|x| f64::from(*x).exp()).sum();
    for (token, logit) in row.iter().enumerate() {
        let longer: Vec<u32> = history.iter().copied().chain([token as u32]).collect();
        let log_prob = log_prob + f64::from(*logit) - sum.ln();
        if token as u32 == EOS || left == 1 {
            all.push((longer[2..].to_vec(), log_prob));
        } else {
            enumerate(model, &longer, left - 1, log_prob, all);
        }
    }
}

#[test]
fn a_wide_beam_finds_the_best_of_all() {
    for seed in 0..40 {
        let model = Hashed {
            vocab_size: 4,
            seed,
        };
        let options = SearchOptions {
            beam_size: 64,
            n_best: 5,
            early_stopping: EarlyStopping::Never,
            ..SearchOptions::new(START, EOS)
        };
        let found = run(&model, &[2], &[input(3, 0)], &options).remove(0);
        let mut all = Vec::new();
        enumerate(&model, &[2, START], 3, 0.0, &mut all);
        let score = |(ids, log_prob): &(Vec<u32>, f64)| log_prob / ids.len() as f64;
        all.sort_by(|a, b| score(b).total_cmp(&score(a)));
        for (found, best) in found.iter().zip(&all) {
            assert_eq!(found.ids, best.0);
            assert!((f64::from(found.score) - score(best)).abs() < 1e-5);
        }
    }
}

#[test]
fn finished_sentences_leave_the_batch_at_once() {
    let model = Hashed {
        vocab_size: 20,
        seed: 1,
    };
    let options = SearchOptions {
        beam_size: 3,
        ignore_eos: true,
        ..SearchOptions::new(START, EOS)
    };
    let inputs: Vec<SearchInput> = [1, 4, 2].iter().map(|length| input(*length, 0)).collect();
    let mut decoder = Histories::new(&model, &[2, 3, 4]);
    let found = search(&mut decoder, &inputs, &options).unwrap();
    assert_eq!(decoder.steps, [3, 6, 3, 3]);
    let lengths: Vec<usize> = found.iter().map(|n_best| n_best[0].ids.len()).collect();
    assert_eq!(lengths, [1, 4, 2]);
    assert!(found.iter().all(|n_best| !n_best[0].finished));
}

#[test]
fn a_prefix_is_fed_in_one_row() {
    let model = Hashed {
        vocab_size: 20,
        seed: 1,
    };
    let mut options = SearchOptions {
        beam_size: 3,
        ignore_eos: true,
        ..SearchOptions::new(START, EOS)
    };
    let prefix = vec![5, 6, 7];
    let inputs = [SearchInput {
        prompt: Vec::new(),
        prefix,
        max_length: 5,
        seed_index: 0,
    }];
    let mut decoder = Histories::new(&model, &[2]);
    let found = search(&mut decoder, &inputs, &options).unwrap();
    assert_eq!(decoder.steps, [1, 1, 1, 1, 3]);
    assert_eq!(found[0][0].ids[..3], [5, 6, 7]);
    options = SearchOptions {
        sampling: Some(Sampling::default()),
        beam_size: 1,
        n_best: 4,
        ..options
    };
    let mut decoder = Histories::new(&model, &[2]);
    search(&mut decoder, &inputs, &options).unwrap();
    assert_eq!(decoder.steps, [1, 1, 1, 1, 4]);
}

#[test]
fn greedy_decoding_never_moves_its_rows() {
    let model = Hashed {
        vocab_size: 20,
        seed: 1,
    };
    let options = SearchOptions {
        ignore_eos: true,
        ..SearchOptions::new(START, EOS)
    };
    let mut decoder = Histories::new(&model, &[2, 3]);
    search(&mut decoder, &vec![input(6, 0); 2], &options).unwrap();
    // Once, when none is left.
    assert_eq!((decoder.reorders, decoder.steps.len()), (1, 6));
}

#[test]
fn samples_have_their_own_streams() {
    let model = Hashed {
        vocab_size: 50,
        seed: 9,
    };
    let options = |n_best, seed| SearchOptions {
        n_best,
        sampling: Some(Sampling {
            seed,
            ..Sampling::default()
        }),
        ..SearchOptions::new(START, EOS)
    };
    let sample = |n_best, seed, index| {
        run(&model, &[2], &[input(8, index)], &options(n_best, seed)).remove(0)
    };
    let five = sample(5, 1, 0);
    assert_eq!(five[..2], sample(2, 1, 0));
    assert_eq!(five, sample(5, 1, 0));
    assert_ne!(five[0].ids, five[1].ids);
    assert_ne!(five, sample(5, 2, 0));
    assert_ne!(five, sample(5, 1, 1));
    let one = SearchOptions {
        sampling: Some(Sampling {
            top_k: 1,
            ..Sampling::default()
        }),
        ..SearchOptions::new(START, EOS)
    };
    let greedy = SearchOptions::new(START, EOS);
    let inputs = [input(8, 0)];
    assert_eq!(
        run(&model, &[2], &inputs, &one),
        run(&model, &[2], &inputs, &greedy)
    );
}

/// Logits that are all the same.
struct Flat;

impl Logits for Flat {
    fn vocab_size(&self) -> usize {
        1000
    }

    fn fill(&self, _: &[u32], row: &mut [f32]) {
        row.fill(0.5);
    }
}

#[test]
fn every_token_of_every_sample_is_drawn_anew() {
    let options = SearchOptions {
        n_best: 4,
        ignore_eos: true,
        sampling: Some(Sampling::default()),
        ..SearchOptions::new(START, EOS)
    };
    let found = run(&Flat, &[2, 3], &[input(5, 0), input(5, 1)], &options).concat();
    let mut ids: Vec<u32> = found.iter().flat_map(|sample| sample.ids.clone()).collect();
    assert_eq!(ids.len(), 40);
    ids.sort_unstable();
    ids.dedup();
    // Of 40 independent draws from 999 tokens, 0.8 on average repeat another.
    assert!(ids.len() >= 35, "{ids:?}");
}

#[test]
fn without_any_next_token_a_sentence_ends_unfinished() {
    let model = Hashed {
        vocab_size: 5,
        seed: 2,
    };
    for (beam_size, renormalize) in [(1, false), (3, false), (3, true)] {
        let options = SearchOptions {
            beam_size,
            renormalize,
            no_repeat_ngram_size: 1,
            ignore_eos: true,
            ..SearchOptions::new(START, EOS)
        };
        let found = run(&model, &[2], &[input(50, 0)], &options).remove(0);
        let mut ids = found[0].ids.clone();
        ids.sort_unstable();
        assert_eq!(ids, [2, 3, 4]);
        assert!(!found[0].finished);
        let none = SearchOptions {
            suppressed_ids: vec![1, 2, 3, 4],
            ..options
        };
        let found = run(&model, &[2], &[input(50, 0)], &none).remove(0);
        assert!(found[0].ids.is_empty() && !found[0].finished && found[0].score == 0.0);
    }
}

/// Fails in its own way at the third step.
struct Broken {
    wrong: f32,
    extra: usize,
    rows: usize,
    steps: usize,
}

impl StepDecoder for Broken {
    fn vocab_size(&self) -> usize {
        5
    }

    fn step(&mut self, tokens: &[u32]) -> Result<()> {
        self.steps += 1;
        self.rows = tokens.len();
        Ok(())
    }

    fn logits(&mut self, rows: Range<usize>, logits: &mut Buffer) -> Result<()> {
        let extra = if self.steps == 3 { self.extra } else { 0 };
        logits.resize(5 * rows.len() + extra);
        for (i, logit) in logits.iter_mut().enumerate() {
            *logit = (i % 7) as f32;
        }
        if self.steps == 3 {
            logits[5 * rows.len() - 1] = self.wrong;
        }
        Ok(())
    }

    fn reorder(&mut self, _: &[usize]) {}

    fn attention(&self) -> Option<Vec<Vec<f32>>> {
        None
    }
}

fn broken(wrong: f32, extra: usize, options: &SearchOptions) -> String {
    let mut decoder = Broken {
        wrong,
        extra,
        rows: 0,
        steps: 0,
    };
    let result = search(&mut decoder, &vec![input(9, 0); 2], options);
    result.map_or_else(|e| e.to_string(), |_| String::new())
}

#[test]
fn a_broken_model_is_an_error() {
    let greedy = SearchOptions {
        ignore_eos: true,
        ..SearchOptions::new(START, EOS)
    };
    let beam = SearchOptions {
        beam_size: 2,
        ..greedy.clone()
    };
    let sampled = SearchOptions {
        sampling: Some(Sampling {
            top_k: 2,
            ..Sampling::default()
        }),
        ..greedy.clone()
    };
    for options in [&greedy, &beam, &sampled] {
        for wrong in [f32::NAN, f32::INFINITY] {
            let message = broken(wrong, 0, options);
            assert!(
                message.contains("not a number") && message.contains("sentence 2"),
                "{message}"
            );
        }
        assert!(broken(0.0, 1, options).contains("wrong shape"));
        assert_eq!(broken(f32::NEG_INFINITY, 0, options), "");
        let asked = SearchOptions {
            attention: true,
            ..options.clone()
        };
        assert!(broken(0.0, 0, &asked).contains("no attention"));
    }
}

#[test]
fn nothing_to_do_is_done() {
    let model = Hashed {
        vocab_size: 5,
        seed: 2,
    };
    let options = SearchOptions::new(START, EOS);
    assert!(run(&model, &[], &[], &options).is_empty());
    let bad = search(&mut Histories::new(&model, &[2]), &[input(0, 0)], &options);
    assert!(bad.is_err());
}
