//! An encoder made ready to run: ids in, vectors or logits out, on all threads.

use std::sync::Arc;

use rayon::ThreadPool;
use rayon::prelude::*;

use crate::batch::{Rows, batches, check_ids, check_length, in_order};
use crate::config::{ComputeType, EncoderConfig};
use crate::error::{Error, Result};
use crate::files::Folder;
use crate::formats;
use crate::model::transformer::Transformer;
use crate::ops::Run;
use crate::packed::PackedWeights;
use crate::tensor::Tensor;
use crate::workers::Workers;

/// Tokens that pass through the layers together: enough for products to be fast, few enough to stay in the second cache.
const ROWS_AT_ONCE: usize = 256;

/// A model and its parameters, packed.
#[derive(Debug)]
pub struct Encoder {
    model: Transformer,
    parameters: PackedWeights,
    workers: Workers,
}

/// The tokens of a text, or of a pair of texts, with all that the model wants around them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Input {
    /// Token ids.
    pub ids: Vec<u32>,
    /// Each token's segment (`token_type_ids`); those beyond its end are in the first one.
    pub segments: Vec<u32>,
}

impl Encoder {
    /// A model with its parameters.
    ///
    /// # Panics
    /// The parameters are those of another model.
    #[doc(hidden)]
    pub fn new(model: Transformer, parameters: PackedWeights) -> Self {
        assert!(
            model.index() == parameters.index(),
            "parameters of another model"
        );
        Encoder {
            model,
            parameters,
            workers: Workers::default(),
        }
    }

    /// The encoder in `folder`, with its matrices in `compute_type`.
    ///
    /// # Errors
    /// As [`formats::open`]; or the model is no encoder alone.
    pub fn open(folder: impl Into<Folder>, compute_type: ComputeType) -> Result<Self> {
        let opened = formats::open(folder)?;
        opened.encoder()?;
        let packed = opened.pack(compute_type)?;
        Ok(Encoder::new(opened.model().clone(), packed))
    }

    /// The same on the threads of `pool` instead of rayon's own. The results are the same.
    #[must_use]
    pub fn with_thread_pool(self, pool: Arc<ThreadPool>) -> Self {
        Encoder {
            workers: self.workers.with_thread_pool(pool),
            ..self
        }
    }

    /// Frees the memory that calls before this one left behind for those to come.
    pub fn trim(&self) {
        self.workers.trim();
    }

    /// The model's shape and mathematics.
    pub fn config(&self) -> &EncoderConfig {
        self.model.encoder_config()
    }

    /// Longest text in tokens.
    pub fn max_tokens(&self) -> usize {
        self.config().max_position_embeddings
    }

    /// The vectors of all tokens: for each text `[tokens][d_model]`.
    ///
    /// # Errors
    /// An id, a segment or a length out of range. [`Error::item`] says in which text.
    pub fn hidden(&self, inputs: &[Input]) -> Result<Vec<Vec<Vec<f32>>>> {
        self.each(inputs, |_, hidden, rows| Ok(by_rows(hidden, rows)))
    }

    /// What the head says: for each text `[tokens][classes]`, or `[1][classes]` where it speaks once for each. Without a head
    /// these are the vectors of all tokens.
    ///
    /// # Errors
    /// As [`Encoder::hidden`].
    pub fn logits(&self, inputs: &[Input]) -> Result<Vec<Vec<Vec<f32>>>> {
        self.each(inputs, |run, hidden, rows| {
            let answer = self.model.answer(run, hidden, rows);
            Ok(match answer.rows() == rows.len() && !self.speaks_once() {
                true => by_rows(&answer, rows),
                false => (0..answer.rows())
                    .map(|text| vec![answer.row(text).to_vec()])
                    .collect(),
            })
        })
    }

    /// Whether the head says one thing of each text.
    pub fn speaks_once(&self) -> bool {
        self.model
            .assembly()
            .model()
            .head
            .is_some_and(|head| head.first_row)
    }

    /// The model.
    pub(super) fn model(&self) -> &Transformer {
        &self.model
    }

    /// What `of` makes of batches of `inputs`: of the encoding `[rows, d_model]` of each, one answer for each of its texts. The
    /// answers stand in the order of the inputs.
    pub(super) fn each<T: Send>(
        &self,
        inputs: &[Input],
        of: impl Fn(&mut Run, &Tensor, &Rows) -> Result<Vec<T>> + Sync,
    ) -> Result<Vec<T>> {
        for (i, input) in inputs.iter().enumerate() {
            self.check(input).map_err(|e| e.in_item(i))?;
        }
        self.workers.on_threads(|| {
            let lengths = || inputs.iter().map(|input| input.ids.len());
            let share = lengths()
                .sum::<usize>()
                .div_ceil(rayon::current_num_threads());
            let batches = batches(lengths(), ROWS_AT_ONCE.min(share));
            let alone = batches.len() < rayon::current_num_threads();
            let answers = batches.par_iter().map(|batch| {
                let mut rows = Rows::default();
                for i in batch {
                    rows.push_with_segments(&inputs[*i].ids, &inputs[*i].segments);
                }
                self.workers.with_arena(|arena| {
                    let mut run = Run::inference(arena, &self.parameters).alone(alone);
                    let hidden = self.model.encode(&mut run, &rows);
                    of(&mut run, &hidden, &rows)
                })
            });
            let answers: Vec<Result<Vec<T>>> = answers.collect();
            let answers = answers.into_iter().collect::<Result<_>>()?;
            Ok(in_order(inputs.len(), &batches, answers))
        })
    }

    /// Refuses what the model has no row for.
    fn check(&self, input: &Input) -> Result<()> {
        let config = self.config();
        check_length(input.ids.len(), self.max_tokens()).map_err(|e| e.at("input_ids"))?;
        check_ids(&input.ids, config.vocab_size).map_err(|e| e.at("input_ids"))?;
        let most = config.segments.max(1);
        let beyond = input.segments.iter().find(|s| **s as usize >= most);
        if input.segments.len() > input.ids.len() || beyond.is_some() {
            return Err(Error::input("the segments do not fit")
                .at("token_type_ids")
                .expected(format!(
                    "at most {} numbers below {most}, one for each token",
                    input.ids.len()
                ))
                .found(match beyond {
                    Some(segment) => segment.to_string(),
                    None => format!("{} numbers", input.segments.len()),
                })
                .hint("leave them out for texts that are no pairs"));
        }
        Ok(())
    }
}

/// The rows of each text.
fn by_rows(x: &Tensor, rows: &Rows) -> Vec<Vec<Vec<f32>>> {
    let row = |r: usize| x.row(r).to_vec();
    let spans = rows.spans.iter();
    spans
        .map(|span| (span.start..span.start + span.len).map(row).collect())
        .collect()
}
