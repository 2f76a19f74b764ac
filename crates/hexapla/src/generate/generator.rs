//! A decoder alone made ready to run: ids in, ids out, on all threads.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hexapla_kernels::RowLoss;
use rayon::ThreadPool;
use rayon::prelude::*;

use super::prefix_cache::PrefixCache;
use super::running::{Model, RunningBatch};
use super::state_decoder::StateDecoder;
use super::{Hypothesis, Progress, SearchInput, SearchOptions};
use crate::batch::{Rows, TrainingRows, batches, check_ids, in_order};
use crate::config::{ComputeType, DecoderConfig};
use crate::error::{Error, Result};
use crate::files::Folder;
use crate::formats;
use crate::model::transformer::Transformer;
use crate::ops::Run;
use crate::ops::cross_entropy::LossOptions;
use crate::ops::kv_cache::KvBlock;
use crate::packed::PackedWeights;
use crate::workers::Workers;

/// A model and its parameters, packed.
#[derive(Debug)]
pub struct Generator {
    model: Transformer,
    parameters: PackedWeights,
    workers: Workers,
    prefixes: Mutex<PrefixCache>,
}

/// A text to go on with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Prompt {
    /// Its tokens; at least one.
    pub ids: Vec<u32>,
    /// Most tokens of the output, its end included.
    pub max_new_tokens: usize,
    /// Which random stream it samples from: a number of its own in the whole input.
    pub seed_index: u64,
}

/// Looks at a chain as it grows, on any thread: the numbers of its prompt and of its sample, and what there is of it. Says whether
/// it is to go on.
pub type Watcher<'a> = dyn Fn(usize, usize, &Hypothesis) -> Result<bool> + Sync + 'a;

/// Prompt tokens of a batch.
const BATCH_TOKENS: usize = 4096;

/// Prompt tokens that are read in one pass, where prompts are shorter: what a layer makes of them should stay in the caches.
const PASS_TOKENS: usize = 512;

impl Generator {
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
        Generator {
            model,
            parameters,
            workers: Workers::default(),
            prefixes: Mutex::default(),
        }
    }

    /// The decoder in `folder`, with its matrices in `compute_type`.
    ///
    /// # Errors
    /// As [`formats::open`]; or the model is no decoder alone.
    pub fn open(folder: impl Into<Folder>, compute_type: ComputeType) -> Result<Self> {
        let opened = formats::open(folder)?;
        opened.decoder()?;
        let packed = opened.pack(compute_type)?;
        Ok(Generator::new(opened.model().clone(), packed))
    }

    /// The same on the threads of `pool` instead of rayon's own. The results are the same.
    #[must_use]
    pub fn with_thread_pool(self, pool: Arc<ThreadPool>) -> Self {
        Generator {
            workers: self.workers.with_thread_pool(pool),
            ..self
        }
    }

    /// The same, keeping the keys and values of prompts in at most so many bytes: a prompt that begins as an earlier one did is read
    /// from where they part. The results are the same, bit for bit.
    #[must_use]
    pub fn with_prefix_cache(self, bytes: usize) -> Self {
        Generator {
            prefixes: Mutex::new(PrefixCache::new(bytes)),
            ..self
        }
    }

    /// Frees the memory that calls before this one left behind for those to come.
    pub fn trim(&self) {
        self.workers.trim();
        self.prefixes().clear();
    }

    /// Tokens at the beginning of `ids` that need not be read again.
    #[doc(hidden)]
    pub fn known_prefix(&self, ids: &[u32]) -> usize {
        self.prefixes().find(ids).len() * KvBlock::TOKENS
    }

    fn prefixes(&self) -> MutexGuard<'_, PrefixCache> {
        self.prefixes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The model's shape and mathematics.
    pub fn config(&self) -> &DecoderConfig {
        self.model.decoder_config()
    }

    /// The model.
    #[doc(hidden)]
    pub fn model(&self) -> &Transformer {
        &self.model
    }

    /// Its parameters.
    #[doc(hidden)]
    pub fn parameters(&self) -> &PackedWeights {
        &self.parameters
    }

    /// Longest text in tokens, prompt and output together.
    pub fn max_tokens(&self) -> usize {
        self.config().max_position_embeddings
    }

    /// Goes on with all prompts, on rayon's threads. The results stand in their order and do not depend on the batches or the
    /// threads.
    ///
    /// # Errors
    /// An id or a length out of range, settings that do not fit, or output that is not a number. [`Error::item`] says in which
    /// prompt.
    pub fn generate(
        &self,
        prompts: &[Prompt],
        options: &SearchOptions,
    ) -> Result<Vec<Vec<Hypothesis>>> {
        self.generate_watched(prompts, options, None)
    }

    /// As [`Generator::generate`]. After each step `progress` sees every chain that has grown, by the numbers of its prompt and of
    /// its sample, and says whether it is to go on; in beam search it sees nothing.
    ///
    /// # Errors
    /// As [`Generator::generate`], or that of `progress`.
    pub fn generate_watched(
        &self,
        prompts: &[Prompt],
        options: &SearchOptions,
        progress: Option<&Watcher>,
    ) -> Result<Vec<Vec<Hypothesis>>> {
        for (i, prompt) in prompts.iter().enumerate() {
            Model::check(self, prompt).map_err(|e| e.in_item(i))?;
        }
        options.validate(self.config().vocab_size)?;
        self.workers.on_threads(|| {
            let lengths = || prompts.iter().map(|prompt| prompt.ids.len());
            let share = lengths()
                .sum::<usize>()
                .div_ceil(rayon::current_num_threads());
            let batches = batches(lengths(), BATCH_TOKENS.min(share));
            let alone = batches.len() < rayon::current_num_threads();
            let decoded = batches.par_iter().map(|batch| {
                let found = self.generate_batch(prompts, batch, (options, progress), alone);
                found.map_err(|e| match e.item().and_then(|i| batch.get(i)) {
                    Some(prompt) => e.in_item(*prompt),
                    None => e,
                })
            });
            let decoded: Vec<Result<Vec<Vec<Hypothesis>>>> = decoded.collect();
            let decoded: Vec<Vec<Vec<Hypothesis>>> = decoded.into_iter().collect::<Result<_>>()?;
            Ok(in_order(prompts.len(), &batches, decoded))
        })
    }

    fn generate_batch(
        &self,
        prompts: &[Prompt],
        batch: &[usize],
        (options, progress): (&SearchOptions, Option<&Watcher>),
        alone: bool,
    ) -> Result<Vec<Vec<Hypothesis>>> {
        self.workers.with_arena(|arena| {
            let mut running = RunningBatch::in_arena(self, arena, alone);
            let options = Arc::new(options.clone());
            let prompts: Vec<_> = batch
                .iter()
                .map(|i| (&prompts[*i], options.clone()))
                .collect();
            running.add_all(&prompts)?;
            let mut watch = progress.map(|progress| {
                move |index: usize, sample: usize, chain: &Hypothesis| {
                    progress(batch[index], sample, chain)
                }
            });
            running.finish(watch.as_mut().map(|watch| watch as &mut Progress))
        })
    }

    /// A batch of prompts under way, none yet, on all threads.
    pub fn running(&self) -> RunningBatch<'_, Generator> {
        RunningBatch::new(self)
    }

    /// Logits of the token behind each token: for each text `[tokens][vocab]`.
    ///
    /// # Errors
    /// An id or a length out of range.
    pub fn logits(&self, texts: &[Vec<u32>]) -> Result<Vec<Vec<Vec<f32>>>> {
        for (i, ids) in texts.iter().enumerate() {
            self.check_text(ids).map_err(|e| e.in_item(i))?;
        }
        let logits = |ids: &Vec<u32>| {
            self.workers.with_arena(|arena| {
                let mut run = Run::inference(arena, &self.parameters).alone(true);
                let x = self.model.go_on(&mut run, &[ids].into_iter().collect());
                let logits = self.model.logits(&mut run, &x);
                (0..ids.len()).map(|r| logits.row(r).to_vec()).collect()
            })
        };
        Ok(self
            .workers
            .on_threads(|| texts.iter().map(logits).collect()))
    }

    /// −ln p of each token of a text but the first `given`, which are at least one.
    ///
    /// # Errors
    /// As [`Generator::logits`].
    pub fn losses(&self, ids: &[u32], given: usize) -> Result<Vec<f32>> {
        self.check_text(ids)?;
        let options = LossOptions {
            label_smoothing: 0.0,
            scale: 1.0,
            r_drop: 0.0,
        };
        let mut rows = TrainingRows::default();
        rows.push_text(ids);
        Ok(self.workers.on_threads(|| {
            self.workers.with_arena(|arena| {
                let mut run = Run::inference(arena, &self.parameters).alone(true);
                let losses = self.model.loss(&mut run, &rows, options);
                let of = |loss: RowLoss| loss.negative_log_likelihood;
                losses.iter().skip(given.max(1) - 1).map(of).collect()
            })
        }))
    }

    /// Label-smoothed loss and −ln p, summed over each of `parts`, on all threads.
    ///
    /// # Errors
    /// An id or a length out of range.
    pub fn loss(&self, parts: &[TrainingRows], label_smoothing: f32) -> Result<Vec<(f64, f64)>> {
        parts.iter().try_for_each(|rows| self.model.check(rows))?;
        let options = LossOptions {
            label_smoothing,
            scale: 1.0,
            r_drop: 0.0,
        };
        let sums = |rows: &TrainingRows| {
            self.workers.with_arena(|arena| {
                let mut run = Run::inference(arena, &self.parameters);
                let losses = self.model.loss(&mut run, rows, options);
                let sum =
                    |of: fn(&RowLoss) -> f32| losses.iter().map(|row| f64::from(of(&row))).sum();
                (
                    sum(|row| row.smoothed),
                    sum(|row| row.negative_log_likelihood),
                )
            })
        };
        Ok(self
            .workers
            .on_threads(|| parts.par_iter().map(sums).collect()))
    }

    /// Reads `texts` together, into one hypothesis more for each.
    fn read_pass(&self, decoder: &mut StateDecoder, texts: &[&[u32]]) {
        let find = |ids: &&[u32]| self.prefixes().find(ids);
        let known: Vec<_> = texts.iter().map(find).collect();
        let mut rows = Rows::default();
        for (ids, known) in texts.iter().zip(&known) {
            rows.push_behind(known.len() * KvBlock::TOKENS, ids);
        }
        let first = decoder.len();
        decoder.read(&rows, &known);
        if !self.prefixes().is_off() {
            for (hypothesis, ids) in texts.iter().enumerate() {
                let block = |number| decoder.block(first + hypothesis, number);
                self.prefixes().keep(ids, block);
            }
        }
    }

    fn check_text(&self, ids: &[u32]) -> Result<()> {
        crate::batch::check_length(ids.len(), self.max_tokens())?;
        check_ids(ids, self.config().vocab_size)
    }
}

impl Model for Generator {
    type Request = Prompt;

    fn transformer(&self) -> &Transformer {
        &self.model
    }

    fn parameters(&self) -> &PackedWeights {
        &self.parameters
    }

    fn workers(&self) -> &Workers {
        &self.workers
    }

    fn check(&self, prompt: &Prompt) -> Result<()> {
        self.check_text(&prompt.ids).map_err(|e| e.at("prompt"))?;
        let room = self.max_tokens() - prompt.ids.len();
        if !(1..=room).contains(&prompt.max_new_tokens) {
            return Err(Error::input("there is no room for the output")
                .at("max_new_tokens")
                .expected(match room {
                    0 => format!("a prompt of fewer than {} tokens", self.max_tokens()),
                    _ => format!(
                        "1 to {room}: the model takes {} tokens, the prompt has {}",
                        self.max_tokens(),
                        prompt.ids.len()
                    ),
                })
                .found(prompt.max_new_tokens.to_string())
                .hint("shorten the prompt, or ask for fewer tokens"));
        }
        Ok(())
    }

    fn input(&self, prompt: &Prompt) -> SearchInput {
        SearchInput {
            prompt: prompt.ids.clone(),
            prefix: Vec::new(),
            max_length: prompt.max_new_tokens,
            seed_index: prompt.seed_index,
        }
    }

    /// All but the last token of each prompt: that one is of the search's first step.
    fn read(&self, decoder: &mut StateDecoder, prompts: &[&Prompt], _: bool) {
        let ids = prompts.iter().map(|prompt| prompt.ids.as_slice());
        let texts: Vec<&[u32]> = ids.map(|ids| &ids[..ids.len() - 1]).collect();
        let mut left = &texts[..];
        while !left.is_empty() {
            let (pass, others) = left.split_at(first_pass(left));
            self.read_pass(decoder, pass);
            left = others;
        }
    }
}

/// How many of `texts` the next pass reads: one at least.
fn first_pass(texts: &[&[u32]]) -> usize {
    let tokens = texts.iter().scan(0, |tokens, ids| {
        *tokens += ids.len();
        Some(*tokens)
    });
    tokens
        .take_while(|tokens| *tokens <= PASS_TOKENS)
        .count()
        .max(1)
}
