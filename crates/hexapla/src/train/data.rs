//! What a training learns from, whichever its task.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::AtomicUsize;

use crate::config::{Assembly, Recipe, Task};
use crate::error::Result;
use crate::train::contexts::Contexts;
use crate::train::evaluation::Judge;
use crate::train::evaluator::Evaluator;
use crate::train::examples::Examples;
use crate::train::pair_data::PairData;
use crate::train::pairs::{Marks, TrainingPairs};
use crate::train::text_data::TextData;
use crate::train::text_evaluator::TextEvaluator;

/// Everything that a training reads.
#[derive(Debug)]
pub enum Data {
    /// Sentence pairs: [`Task::Translation`].
    Pairs(Box<PairData>),
    /// Texts: [`Task::Language`].
    Texts(Box<TextData>),
}

impl Data {
    /// Reads what `recipe` names. The tokenizer is trained once and kept in `folder`.
    ///
    /// # Errors
    /// As [`PairData::prepare`] and [`TextData::prepare`].
    pub fn prepare(recipe: &Recipe, folder: &Path) -> Result<Self> {
        Ok(match recipe.task {
            Task::Translation => Data::Pairs(Box::new(PairData::prepare(recipe, folder)?)),
            Task::Language => Data::Texts(Box::new(TextData::prepare(recipe, folder)?)),
        })
    }

    /// SHA-256 of each file.
    pub fn hashes(&self) -> &BTreeMap<String, String> {
        match self {
            Data::Pairs(data) => &data.hashes,
            Data::Texts(data) => &data.hashes,
        }
    }

    /// The recipe's model with the tokenizer's sizes and special ids.
    ///
    /// # Errors
    /// The recipe's model does not fit together, or the tokenizer lacks an end token.
    pub fn assembly(&self, recipe: &Recipe) -> Result<Assembly> {
        Ok(match self {
            Data::Pairs(data) => data.model_config(recipe)?.into(),
            Data::Texts(data) => data.model_config(recipe)?.into(),
        })
    }

    /// What an epoch is made of.
    ///
    /// # Errors
    /// BPE-dropout of a tokenizer that has no merges.
    pub fn examples(&self, recipe: &Recipe) -> Result<Box<dyn Examples + '_>> {
        let t = &recipe.training;
        Ok(match self {
            Data::Pairs(data) => {
                let config = data.model_config(recipe)?;
                let marks = Marks {
                    start: config.decoder_start_token_id,
                    end: config.eos_token_id,
                };
                let dropout = (t.bpe_dropout, t.seed);
                let pairs = &data.train;
                Box::new(TrainingPairs::with_bpe_dropout(
                    pairs,
                    marks,
                    &data.tokenizers,
                    dropout,
                )?)
            }
            Data::Texts(data) => {
                let context = data.model_config(recipe)?.max_position_embeddings;
                Box::new(Contexts::new(&data.train, context, Some(t.seed)))
            }
        })
    }

    /// Whether there is something to validate on.
    pub fn has_validation(&self) -> bool {
        match self {
            Data::Pairs(data) => !data.valid.is_empty(),
            Data::Texts(data) => !data.valid.is_empty(),
        }
    }

    /// What judges the weights; a number other than 0 in `signal` ends its work.
    pub(super) fn judge<'a>(
        &'a self,
        recipe: &'a Recipe,
        signal: &'a AtomicUsize,
    ) -> Box<dyn Judge + 'a> {
        match self {
            Data::Pairs(data) => Box::new(Evaluator::new(recipe, data, signal)),
            Data::Texts(data) => Box::new(TextEvaluator::new(recipe, data, signal)),
        }
    }

    /// What the data looks like.
    pub fn audit(&self) -> String {
        match self {
            Data::Pairs(data) => data.audit.to_string(),
            Data::Texts(data) => data.audit(),
        }
    }

    /// What was left out of training, where something may be.
    pub fn filters(&self) -> String {
        match self {
            Data::Pairs(data) => data.filters.to_string(),
            Data::Texts(_) => String::new(),
        }
    }

    /// What else a person should know before it is learned from, a line each.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        let of_tokenizer: Vec<String> = match self {
            Data::Pairs(data) => {
                if data.valid_too_long > 0 {
                    notes.push(format!(
                        "note: {} validation pairs are longer than max_tokens and left out",
                        data.valid_too_long
                    ));
                }
                for drawn in &data.drawn {
                    let body = match drawn.body.as_str() {
                        "" => "the data",
                        body => body,
                    };
                    notes.push(format!(
                        "validation: {} of {} pairs drawn from {body}",
                        drawn.drawn, drawn.of
                    ));
                }
                data.tokenizers.notes().cloned().collect()
            }
            Data::Texts(data) => data.tokenizer.notes().to_vec(),
        };
        notes.extend(of_tokenizer.iter().map(|note| format!("note: {note}")));
        notes
    }

    /// How much there is to learn from, in words.
    pub fn amount(&self) -> String {
        match self {
            Data::Pairs(data) => format!("{} training pairs", data.train.len()),
            Data::Texts(data) => format!("{} training tokens", data.train_tokens()),
        }
    }
}
