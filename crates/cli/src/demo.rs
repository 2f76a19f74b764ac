//! `hexapla train --demo`: Chinese numerals ↔ English number words, made by the program itself.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use hexapla::config::{Metric, ModelTable, Recipe, ScheduleKind, TokenizerKind};
use hexapla::error::Result;
use hexapla::generate::translator::Translator;
use hexapla::text::corpus::SentencePairs;
use hexapla::text::tokenizer::{Tokenizer, Tokenizers};
use hexapla::train::data::Data;
use hexapla::train::pair_data::PairData;

use crate::console::broken;
use crate::numerals::{self, NumeralPair, NumeralPairs};

/// Numbers to learn from, to validate on, and to test on at the end. No number is in two of these.
const TRAINING: usize = 60_000;
const VALIDATION: usize = 500;
const TEST: usize = 1000;
/// There are only a thousand numbers below this, so that each stands in the training data so many times.
const SHORT: u64 = 1000;
const SHORT_TIMES: usize = 5;
/// Numbers that the tokenizer is made from: every word is in them.
const FOR_TOKENIZER: usize = 5000;

const TO_ENGLISH: &str = ">>en<<";
const TO_CHINESE: &str = ">>zh<<";

/// The demo's recipe.
pub(crate) fn recipe() -> Recipe {
    let mut recipe = Recipe {
        model: ModelTable {
            preset: Some("tiny".into()),
            layers: Some(2),
            // There is no end of data: nothing to guard against.
            dropout: Some(0.0),
            ..ModelTable::default()
        },
        ..Recipe::default()
    };
    recipe.tokenizer.kind = TokenizerKind::Bpe;
    // More than there are words and characters, so that each becomes one piece.
    recipe.tokenizer.vocab_size = 500;
    recipe.tokenizer.character_coverage = 1.0;
    recipe.tokenizer.special_tokens = vec![TO_ENGLISH.into(), TO_CHINESE.into()];
    recipe.data.remove_duplicates = false;
    let t = &mut recipe.training;
    (t.batch_tokens, t.learning_rate, t.warmup_steps) = (2048, 2e-3, 200);
    (t.schedule, t.label_smoothing) = (ScheduleKind::Cosine, 0.0);
    (t.max_steps, t.max_minutes) = (2200, Some(4.5));
    (t.valid_every, t.save_every, t.patience) = (150, 150, 0);
    (t.metric, t.goal) = (Metric::ExactMatch, Some(99.9));
    recipe
}

/// The demo's data; the tokenizer is kept in `folder`.
pub(crate) fn data(recipe: &Recipe, folder: &Path) -> Result<Data> {
    let made = numbers(recipe.training.seed)?;
    PairData::keep_tokenizers(folder, recipe.data.max_tokens, || {
        let sample = made.training.iter().take(FOR_TOKENIZER);
        // Between spaces a character joins no other: pieces of the numeral system, not of frequent numbers.
        let texts = sample.flat_map(|p| [spaced(&p.chinese), p.english.clone()]);
        Ok(Tokenizers::joint(Tokenizer::train(
            &recipe.tokenizer,
            texts.collect::<Vec<_>>().iter(),
        )?))
    })?;
    let short = made.training.iter().filter(|p| p.number < SHORT);
    let mut training: Vec<NumeralPair> = Vec::new();
    for _ in 1..SHORT_TIMES {
        training.extend(short.clone().cloned());
    }
    training.extend(made.training.iter().cloned());
    let validation = made.held_out.get(..VALIDATION).unwrap_or_default();
    let data = PairData::from_pairs(
        recipe,
        both_ways(&training),
        Some(both_ways(validation)),
        folder,
        BTreeMap::new(),
    )?;
    Ok(Data::Pairs(Box::new(data)))
}

fn numbers(seed: u64) -> Result<NumeralPairs> {
    numerals::pairs(seed, TRAINING, VALIDATION + TEST)
}

fn spaced(text: &str) -> String {
    text.chars().flat_map(|c| [c, ' ']).collect()
}

/// Each pair in both directions, one after the other.
fn both_ways(pairs: &[NumeralPair]) -> SentencePairs {
    let mut text = SentencePairs::default();
    for p in pairs {
        let (chinese, english) = (&p.chinese, &p.english);
        text.source.extend([
            format!("{TO_ENGLISH} {chinese}"),
            format!("{TO_CHINESE} {english}"),
        ]);
        text.target.extend([english.clone(), chinese.clone()]);
    }
    text
}

/// Translates the test numbers, which no one has seen, with the finished model in `folder`, and prints how many are
/// right and some examples.
pub(crate) fn test(recipe: &Recipe, folder: &Path) -> Result<()> {
    let model = Translator::open(folder)?;
    let options = model
        .options()
        .with_beam_size(1)
        .with_split_sentences(false);
    let made = numbers(recipe.training.seed)?;
    let text = both_ways(made.held_out.get(VALIDATION..).unwrap_or_default());
    let found = model.translate_with(&text.source, &options)?;
    let lines: Vec<(&str, &str, &str)> = text
        .iter()
        .zip(&found)
        .map(|((source, target), found)| {
            let found = found.first().map_or("", |f| f.text.as_str());
            (source, target, found)
        })
        .collect();
    let mut out = std::io::stdout().lock();
    for (tag, name) in [
        (TO_ENGLISH, "Chinese to English"),
        (TO_CHINESE, "English to Chinese"),
    ] {
        let here = || lines.iter().filter(|(source, ..)| source.starts_with(tag));
        let right = here().filter(|(_, target, found)| target == found).count();
        writeln!(
            out,
            "{name}: {:.2} % of {TEST} unseen numbers exactly right",
            100.0 * right as f64 / TEST as f64
        )
        .map_err(broken)?;
        for (source, target, found) in here().take(3) {
            let verdict = if target == found { "right" } else { "wrong" };
            writeln!(out, "  {source} → {found} ({verdict})").map_err(broken)?;
        }
        let wrong = here().filter(|(_, target, found)| target != found);
        for (source, target, found) in wrong.take(3) {
            writeln!(out, "  {source} → {found} (should be {target})").map_err(broken)?;
        }
    }
    out.flush().map_err(broken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_and_character_is_one_piece() {
        let folder = tempfile::tempdir().unwrap();
        let data = data(&recipe(), folder.path()).unwrap();
        let Data::Pairs(data) = data else {
            panic!("pairs")
        };
        assert!(data.train.len() > 2 * TRAINING && data.valid.len() == 2 * VALIDATION);
        let tokenizer = &data.tokenizers.source;
        for (text, pieces) in [
            (">>en<< 一千二百零九亿万", 9),
            (
                ">>zh<< one billion eleven million twelve thousand thirteen",
                8,
            ),
            ("two hundred eighty-five", 5),
        ] {
            assert_eq!(tokenizer.encode(text).unwrap().len(), pieces, "{text}");
            assert_eq!(
                tokenizer
                    .decode(&tokenizer.encode(text).unwrap())
                    .unwrap()
                    .trim(),
                text.trim_start_matches(TO_ENGLISH)
                    .trim_start_matches(TO_CHINESE)
                    .trim()
            );
        }
    }

    #[test]
    fn training_validation_and_test_share_no_number() {
        let made = numbers(1).unwrap();
        let mut all: Vec<u64> = made
            .training
            .iter()
            .chain(&made.held_out)
            .map(|p| p.number)
            .collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), TRAINING + VALIDATION + TEST);
    }
}
