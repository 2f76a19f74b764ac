//! How good a translator is: loss, and real decoding scored against references.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::config::{ComputeType, Recipe, TokenizerKind};
use crate::error::Result;
use crate::formats::manifest::ManifestMetric;
use crate::generate::engine::{Engine, Request};
use crate::generate::{EarlyStopping, SearchOptions};
use crate::metrics::{Scores, Tokenizer as Words};
use crate::model::transformer::Transformer;
use crate::packed::PackedWeights;
use crate::text::tokenizer::join_pieces;
use crate::train::evaluation::{Evaluation, Judge};
use crate::train::pair_data::PairData;
use crate::train::progress::{Sample, Validation};
use crate::train::test_set::{TestResult, TestSentences};
use crate::weights::Weights;

/// Source tokens of a batch.
const BATCH_TOKENS: usize = 2048;
/// Sentences for each thread that are decoded between two looks for a signal.
const SENTENCES: usize = 64;

/// The model made ready to decode, in f32.
pub(super) fn engine(model: &Transformer, weights: &Weights) -> Engine {
    let parameters = PackedWeights::new(weights, ComputeType::Float32);
    Engine::new(model.clone(), parameters)
}

/// Decodes and scores the validation set, and in the end the test sets.
pub(super) struct Evaluator<'a> {
    recipe: &'a Recipe,
    data: &'a PairData,
    words: Words,
    signal: &'a AtomicUsize,
}

impl<'a> Evaluator<'a> {
    pub(super) fn new(recipe: &'a Recipe, data: &'a PairData, signal: &'a AtomicUsize) -> Self {
        let words = match recipe.tokenizer.kind {
            TokenizerKind::Pieces => Words::None,
            _ => Words::fitting(&data.valid_text.target),
        };
        Evaluator {
            recipe,
            data,
            words,
            signal,
        }
    }

    fn judged(&self, engine: &Engine) -> Result<Option<Evaluation>> {
        let t = &self.recipe.training;
        let c = engine.config();
        if self.is_stopped() {
            return Ok(None);
        }
        let (smoothed, nll, tokens) = engine.loss(&self.data.valid, t.label_smoothing)?;
        let references = self.references(&self.data.valid_text.target);
        let mut validation = Validation::of_sums(smoothed, nll, tokens);
        // Weights that went astray have nothing to decode; that they did is told elsewhere.
        if references.is_empty() || validation.loss == f64::MAX {
            return Ok(Some(validation.into()));
        }
        let options = SearchOptions {
            beam_size: t.valid_beam_size,
            ..SearchOptions::for_model(c)
        };
        let sources = self.data.valid.iter().map(|p| p.source.as_slice());
        let Some(hypotheses) = self.decode(engine, sources, &options)? else {
            return Ok(None);
        };
        let streams = [&references[..]];
        let lowercase = self.recipe.tokenizer.lowercase;
        let Scores { bleu, chrf } = Scores::corpus(self.words, lowercase, &hypotheses, &streams)?;
        let exact = hypotheses
            .iter()
            .zip(&references)
            .filter(|(h, r)| h == r)
            .count() as f64;
        validation.bleu = bleu.score;
        validation.chrf = chrf.score;
        validation.exact_match = 100.0 * exact / hypotheses.len() as f64;
        let metric = |name: &str, value: f64, signature: &str| ManifestMetric {
            name: name.into(),
            value,
            signature: signature.into(),
        };
        let metrics = vec![
            metric("BLEU", bleu.score, bleu.signature()),
            metric(chrf.name(), chrf.score, chrf.signature()),
            metric(
                "exact match %",
                validation.exact_match,
                "whole lines, validation set",
            ),
        ];
        let samples = self
            .data
            .valid_text
            .source
            .iter()
            .zip(&references)
            .zip(hypotheses)
            .take(20)
            .map(|((s, r), hypothesis)| Sample {
                source: s.clone(),
                reference: r.clone(),
                hypothesis,
            })
            .collect();
        Ok(Some(Evaluation {
            validation,
            metrics,
            samples,
        }))
    }

    /// Translates and scores a test set. None if a signal came before the end.
    ///
    /// # Errors
    /// The tokenizer refuses a text, or as the search.
    pub(super) fn test(&self, engine: &Engine, test: &TestSentences) -> Result<Option<TestResult>> {
        let c = engine.config();
        let tokenizer = &self.data.tokenizers.source;
        let sources = test.sources(tokenizer, c.max_position_embeddings)?;
        let options = SearchOptions {
            beam_size: test.set.beam_size,
            length_penalty: test.set.length_penalty,
            early_stopping: match test.set.early_stopping {
                true => EarlyStopping::WhenFull,
                false => EarlyStopping::Heuristic,
            },
            ..SearchOptions::for_model(c)
        };
        let sources = sources.iter().map(Vec::as_slice);
        let Some(hypotheses) = self.decode(engine, sources, &options)? else {
            return Ok(None);
        };
        let references = self.references(&test.pairs.target);
        test.score(hypotheses, &references).map(Some)
    }

    /// The text of what is found for each of `sources`, token ids without their end.
    fn decode<'s>(
        &self,
        engine: &Engine,
        sources: impl Iterator<Item = &'s [u32]>,
        options: &SearchOptions,
    ) -> Result<Option<Vec<String>>> {
        let eos = engine.config().eos_token_id;
        let requests: Vec<Request> = sources
            .map(|source| Request::new(source.iter().copied().chain([eos]).collect()))
            .collect();
        let target = &self.data.tokenizers.target;
        let mut hypotheses = Vec::with_capacity(requests.len());
        for requests in requests.chunks(SENTENCES * rayon::current_num_threads()) {
            if self.is_stopped() {
                return Ok(None);
            }
            for h in engine.generate(requests, options, BATCH_TOKENS)? {
                hypotheses.push(match h.first() {
                    Some(h) => target.decode(h.tokens())?,
                    None => String::new(),
                });
            }
        }
        Ok(Some(hypotheses))
    }

    /// `lines` as translations are compared with them: where the text is in pieces, these are joined.
    fn references(&self, lines: &[String]) -> Vec<String> {
        let table = &self.recipe.tokenizer;
        let reference = |line: &String| {
            let text = match table.kind {
                TokenizerKind::Pieces => join_pieces(line),
                _ => line.clone(),
            };
            if table.lowercase {
                text.to_lowercase()
            } else {
                text
            }
        };
        lines.iter().map(reference).collect()
    }

    fn is_stopped(&self) -> bool {
        self.signal.load(Ordering::Relaxed) != 0
    }
}

impl Judge for Evaluator<'_> {
    fn validate(&self, model: &Transformer, weights: &Weights) -> Result<Option<Evaluation>> {
        self.judged(&engine(model, weights))
    }
}
