//! How good a decoder alone is: how well it foresees the text that is set aside, and how it goes on with it.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::evaluation::{Evaluation, Judge};
use crate::config::{ComputeType, Recipe};
use crate::error::Result;
use crate::formats::manifest::ManifestMetric;
use crate::generate::generator::{Generator, Prompt};
use crate::generate::{Sampling, SearchOptions};
use crate::model::transformer::Transformer;
use crate::packed::PackedWeights;
use crate::train::contexts::Contexts;
use crate::train::progress::{Sample, Validation};
use crate::train::text_data::TextData;
use crate::weights::Weights;

/// Contexts for each thread between two looks for a signal.
const CONTEXTS: usize = 64;
/// Places of the text that is set aside which the model goes on from.
const SAMPLES: usize = 4;
/// Tokens that it is given, and that it writes, where a context has room for them.
const GIVEN: usize = 48;
const WRITTEN: usize = 160;
const TEMPERATURE: f32 = 0.8;

/// Judges on the texts that are set aside.
pub(super) struct TextEvaluator<'a> {
    recipe: &'a Recipe,
    data: &'a TextData,
    signal: &'a AtomicUsize,
}

impl<'a> TextEvaluator<'a> {
    pub(super) fn new(recipe: &'a Recipe, data: &'a TextData, signal: &'a AtomicUsize) -> Self {
        TextEvaluator {
            recipe,
            data,
            signal,
        }
    }

    fn is_stopped(&self) -> bool {
        self.signal.load(Ordering::Relaxed) != 0
    }

    /// What the model writes behind some places of the text that is set aside, by chance.
    fn samples(&self, generator: &Generator) -> Result<Vec<Sample>> {
        let tokenizer = self.data.tokenizer.tokenizer();
        let config = generator.config();
        let most = config.max_position_embeddings;
        let given = GIVEN.min(most / 2).max(1);
        let written = WRITTEN.min(most - given);
        let mut places = Vec::new();
        for document in &self.data.valid {
            let last = document.len().saturating_sub(given + written);
            let each = self.data.valid.len().min(SAMPLES);
            let of_document = SAMPLES.div_ceil(each);
            for i in 0..of_document {
                let start = last * i / of_document;
                places.push(&document[start..]);
            }
        }
        // Evenly from all.
        let step = places.len().div_ceil(SAMPLES).max(1);
        let places = places.into_iter().step_by(step);
        let places: Vec<&[u32]> = places.filter(|place| !place.is_empty()).collect();
        if written == 0 {
            return Ok(Vec::new());
        }
        let ids = |place: &[u32], from: usize, len: usize| -> Vec<u32> {
            let end = place.len().min(from + len);
            place.get(from..end).unwrap_or_default().to_vec()
        };
        let prompts: Vec<Prompt> = places
            .iter()
            .enumerate()
            .map(|(number, place)| Prompt {
                ids: ids(place, 0, given),
                max_new_tokens: written,
                seed_index: number as u64,
            })
            .collect();
        let options = SearchOptions {
            sampling: Some(Sampling {
                temperature: TEMPERATURE,
                seed: self.recipe.training.seed,
                ..Sampling::default()
            }),
            ..SearchOptions::for_decoder(config, &Default::default())
        };
        let found = generator.generate(&prompts, &options)?;
        let sample = |((prompt, place), found): ((&Prompt, &&[u32]), &Vec<_>)| {
            let new: &[u32] = found
                .first()
                .map_or(&[], |h: &crate::generate::Hypothesis| &h.ids);
            Ok(Sample {
                source: tokenizer.decode(&prompt.ids)?,
                reference: tokenizer.decode(&ids(place, given, written))?,
                hypothesis: tokenizer.decode(new)?,
            })
        };
        let all = prompts.iter().zip(&places).zip(&found);
        all.map(sample).collect()
    }
}

impl Judge for TextEvaluator<'_> {
    fn validate(&self, model: &Transformer, weights: &Weights) -> Result<Option<Evaluation>> {
        let parameters = PackedWeights::new(weights, ComputeType::Float32);
        let generator = Generator::new(model.clone(), parameters);
        let context = generator.max_tokens();
        let contexts = Contexts::new(&self.data.valid, context, None);
        let numbers: Vec<usize> = (0..contexts.count()).collect();
        let smoothing = self.recipe.training.label_smoothing;
        let (mut smoothed, mut plain, mut tokens) = (0.0, 0.0, 0);
        for numbers in numbers.chunks(CONTEXTS * rayon::current_num_threads()) {
            if self.is_stopped() {
                return Ok(None);
            }
            let rows: Vec<_> = numbers.iter().map(|i| contexts.rows(*i)).collect();
            for (sums, rows) in generator.loss(&rows, smoothing)?.iter().zip(&rows) {
                smoothed += sums.0;
                plain += sums.1;
                tokens += rows.labels.len();
            }
        }
        let validation = Validation::of_sums(smoothed, plain, tokens);
        // Weights that went astray have nothing to say.
        let samples = match tokens == 0 || validation.loss == f64::MAX {
            true => Vec::new(),
            false => self.samples(&generator)?,
        };
        let metrics = match tokens {
            0 => Vec::new(),
            _ => vec![ManifestMetric {
                name: "perplexity".into(),
                value: validation.perplexity,
                signature: format!("{tokens} tokens set aside, in contexts of {context}"),
            }],
        };
        Ok(Some(Evaluation {
            validation,
            metrics,
            samples,
        }))
    }
}
