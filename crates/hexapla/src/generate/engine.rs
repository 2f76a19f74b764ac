//! A model made ready to run: ids in, ids out, on all threads.

use hexapla_kernels::RowLoss;
use rayon::ThreadPool;
use rayon::prelude::*;
use std::sync::Arc;

use super::running::{Model, RunningBatch};
use super::state_decoder::StateDecoder;
use super::{Hypothesis, SearchInput, SearchOptions};
use crate::batch::{Pair, Rows, TrainingRows, batches, check_ids, check_length, in_order};
use crate::config::{ComputeType, TransformerConfig};
use crate::error::{Error, Result};
use crate::files::Folder;
use crate::formats;
use crate::model::transformer::Transformer;
use crate::ops::Run;
use crate::ops::cross_entropy::LossOptions;
use crate::packed::PackedWeights;
use crate::tensor::{Arena, Tensor};
use crate::workers::Workers;

/// Source tokens that pass through the encoder together: enough for its products to be fast, few enough to stay in the
/// second cache.
const ENCODED_AT_ONCE: usize = 256;
/// Target or source tokens whose loss is computed at once; a longer pair is alone.
const LOSS_TOKENS: usize = 2048;

/// No line has room for as many sentences as two to this power.
const LINE_SHIFT: u32 = 20;

/// A model and its parameters, packed.
#[derive(Debug)]
pub struct Engine {
    model: Transformer,
    parameters: PackedWeights,
    pub(super) workers: Workers,
}

/// One sentence to decode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Source ids, end token included.
    pub source: Vec<u32>,
    /// Target ids that the output starts with.
    pub prefix: Vec<u32>,
    /// Longest output in tokens, end token included.
    pub max_length: usize,
    /// Which random stream it samples from: a number of its own in the whole text.
    pub seed_index: u64,
}

impl Request {
    /// A sentence whose translation has at most three times its tokens and ten.
    pub fn new(source: Vec<u32>) -> Self {
        Request {
            max_length: source.len() * 3 + 10,
            source,
            prefix: Vec::new(),
            seed_index: 0,
        }
    }

    /// The line that [`Request::at_line`] gave it, from 0.
    pub fn line(&self) -> u64 {
        self.seed_index >> LINE_SHIFT
    }

    /// The same with the random stream of a sentence of a line, both counted from 0.
    #[must_use]
    pub fn at_line(self, line: u64, sentence: u64) -> Self {
        Request {
            seed_index: line << LINE_SHIFT | sentence,
            ..self
        }
    }
}

impl Engine {
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
        Engine {
            model,
            parameters,
            workers: Workers::default(),
        }
    }

    /// The model in `folder`, with its matrices in `compute_type`.
    ///
    /// # Errors
    /// As [`formats::open`].
    pub fn open(folder: impl Into<Folder>, compute_type: ComputeType) -> Result<Self> {
        let opened = formats::open(folder)?;
        opened.encoder_decoder()?;
        Ok(Engine::new(
            opened.model().clone(),
            opened.pack(compute_type)?,
        ))
    }

    /// The same on the threads of `pool` instead of rayon's own. The results are the same.
    #[must_use]
    pub fn with_thread_pool(self, pool: Arc<ThreadPool>) -> Self {
        Engine {
            workers: self.workers.with_thread_pool(pool),
            ..self
        }
    }

    /// Frees the memory that calls before this one left behind for those to come.
    pub fn trim(&self) {
        self.workers.trim();
    }

    /// The model's shape and mathematics.
    pub fn config(&self) -> &TransformerConfig {
        self.model.config()
    }

    /// The model.
    #[doc(hidden)]
    pub fn model(&self) -> &Transformer {
        &self.model
    }

    /// The model's numbers.
    #[doc(hidden)]
    pub fn parameters(&self) -> &PackedWeights {
        &self.parameters
    }

    /// Longest sentence in tokens, on either side.
    pub fn max_tokens(&self) -> usize {
        self.config().max_position_embeddings
    }

    /// Decodes all requests, in batches of about `batch_tokens` source tokens, on rayon's threads. The results stand in
    /// the order of the requests and do not depend on the batches or the threads.
    ///
    /// # Errors
    /// An id or a length out of range, settings that do not fit, or output that is not a number. [`Error::item`] says in which
    /// request: the first of those with an error.
    pub fn generate(
        &self,
        requests: &[Request],
        options: &SearchOptions,
        batch_tokens: usize,
    ) -> Result<Vec<Vec<Hypothesis>>> {
        for (i, request) in requests.iter().enumerate() {
            Model::check(self, request).map_err(|e| e.in_item(i))?;
        }
        self.workers
            .on_threads(|| self.generate_on_threads(requests, options, batch_tokens))
    }

    fn generate_on_threads(
        &self,
        requests: &[Request],
        options: &SearchOptions,
        batch_tokens: usize,
    ) -> Result<Vec<Vec<Hypothesis>>> {
        // Every thread gets something to do.
        let tokens: usize = requests.iter().map(|r| r.source.len()).sum();
        let share = tokens.div_ceil(rayon::current_num_threads());
        let lengths = requests.iter().map(|r| r.source.len());
        let batches = batches(lengths, batch_tokens.min(share));
        // With fewer batches than threads some of these would have nothing to do.
        let alone = batches.len() < rayon::current_num_threads();
        let decoded: Vec<Result<Vec<Vec<Hypothesis>>>> = batches
            .par_iter()
            .map(|batch| {
                let decoded = self.generate_batch(requests, batch, options, alone);
                decoded.map_err(|e| match e.item().and_then(|i| batch.get(i)) {
                    Some(request) => e.in_item(*request),
                    None => e,
                })
            })
            .collect();
        let first_error = decoded
            .iter()
            .filter_map(|batch| batch.as_ref().err())
            .min_by_key(|e| e.item());
        if let Some(e) = first_error {
            return Err(e.clone());
        }
        let decoded = decoded.into_iter().flatten().collect();
        Ok(in_order(requests.len(), &batches, decoded))
    }

    fn generate_batch(
        &self,
        requests: &[Request],
        batch: &[usize],
        options: &SearchOptions,
        alone: bool,
    ) -> Result<Vec<Vec<Hypothesis>>> {
        self.workers.with_arena(|arena| {
            let mut running = RunningBatch::in_arena(self, arena, alone);
            let options = Arc::new(options.clone());
            let requests: Vec<_> = batch
                .iter()
                .map(|i| (&requests[*i], options.clone()))
                .collect();
            running.add_all(&requests)?;
            running.finish(None)
        })
    }

    /// A batch of requests under way, none yet, on all threads.
    pub fn running(&self) -> RunningBatch<'_, Engine> {
        RunningBatch::new(self)
    }

    /// The encoder's output, some sentences at a time: its inner rows need not all be there at once.
    fn encode(&self, run: &mut Run, source: &Rows) -> Tensor {
        if source.len() <= ENCODED_AT_ONCE {
            return self.model.encode(run, source);
        }
        let mut memory = run.tensor(source.len(), self.config().d_model);
        let mut rest = memory.data_mut();
        for group in source.groups(ENCODED_AT_ONCE) {
            let encoded = self.model.encode(run, &group);
            let (these, others) = rest.split_at_mut(encoded.data().len());
            these.copy_from_slice(encoded.data());
            rest = others;
        }
        memory
    }

    /// Sums over all target tokens of `pairs`: label-smoothed loss, −ln p, and their number. Pairs that are longer than
    /// the model's positions are left out.
    ///
    /// # Errors
    /// An id out of range.
    pub fn loss(&self, pairs: &[Pair], label_smoothing: f32) -> Result<(f64, f64, usize)> {
        let c = self.config();
        for (i, pair) in pairs.iter().enumerate() {
            self.check(i, "source", &pair.source, c.source_vocab_size)?;
            self.check(i, "target", &pair.target, c.target_vocab_size)?;
        }
        let options = LossOptions {
            label_smoothing,
            scale: 1.0,
            r_drop: 0.0,
        };
        let usable: Vec<&Pair> = pairs
            .iter()
            .filter(|p| p.tokens() <= c.max_position_embeddings)
            .collect();
        // Of a size that does not depend on the threads, and so neither do the sums.
        let batches = batches(usable.iter().map(|p| p.tokens()), LOSS_TOKENS);
        let of_batch = |batch: &Vec<usize>| {
            let pairs: Vec<&Pair> = batch.iter().map(|i| usable[*i]).collect();
            self.workers
                .with_arena(|arena| self.loss_of(arena, &pairs, options))
        };
        let sums: Vec<(f64, f64, usize)> = self
            .workers
            .on_threads(|| batches.par_iter().map(of_batch).collect());
        let sum = sums.iter().fold((0.0, 0.0, 0), |a: (f64, f64, usize), b| {
            (a.0 + b.0, a.1 + b.1, a.2 + b.2)
        });
        Ok(sum)
    }

    fn loss_of(&self, arena: &Arena, pairs: &[&Pair], options: LossOptions) -> (f64, f64, usize) {
        let c = self.config();
        let mut rows = TrainingRows::default();
        for p in pairs {
            rows.push(
                &p.source,
                &p.target,
                c.decoder_start_token_id,
                c.eos_token_id,
            );
        }
        let mut run = Run::inference(arena, &self.parameters);
        let losses = self.model.loss(&mut run, &rows, options);
        let sum = |f: fn(RowLoss) -> f32| losses.iter().map(|l| f64::from(f(l))).sum::<f64>();
        (
            sum(|l| l.smoothed),
            sum(|l| l.negative_log_likelihood),
            losses.iter().len(),
        )
    }

    /// Logits of given decoder inputs: for each sentence `[decoder tokens][vocab]`.
    ///
    /// # Errors
    /// An id or a length out of range.
    pub fn logits(&self, source: &[Vec<u32>], target: &[Vec<u32>]) -> Result<Vec<Vec<Vec<f32>>>> {
        let mut all = Vec::with_capacity(source.len());
        self.each_logits(source, target, |logits| {
            all.push(logits);
            Ok(())
        })?;
        Ok(all)
    }

    /// [`Engine::logits`], a sentence at a time: `each` takes `[decoder tokens][vocab]`. All sentences are checked before
    /// the first is computed.
    ///
    /// # Errors
    /// As [`Engine::logits`], or that of `each`.
    pub fn each_logits(
        &self,
        source: &[Vec<u32>],
        target: &[Vec<u32>],
        mut each: impl FnMut(Vec<Vec<f32>>) -> Result<()>,
    ) -> Result<()> {
        let c = self.config();
        if source.len() != target.len() {
            return Err(Error::input("source and target do not pair up")
                .at("decoder_input_ids")
                .expected(format!("{}, one for each of input_ids", source.len()))
                .found(target.len().to_string())
                .hint("each sentence has one list in both"));
        }
        for (i, (source, target)) in source.iter().zip(target).enumerate() {
            for (side, ids, vocab_size) in [
                ("input_ids", source, c.source_vocab_size),
                ("decoder_input_ids", target, c.target_vocab_size),
            ] {
                self.check(i, side, ids, vocab_size)?;
                self.check_length(i, side, ids.len())?;
            }
        }
        for (source, target) in source.iter().zip(target) {
            let (source, target): (Rows, Rows) = (
                [source].into_iter().collect(),
                [target].into_iter().collect(),
            );
            let logits = |arena: &Arena| {
                let mut run = Run::inference(arena, &self.parameters).alone(true);
                let memory = self.model.encode(&mut run, &source);
                let x = self.model.decode(&mut run, &target, &memory, &source);
                let logits = self.model.logits(&mut run, &x);
                (0..target.len()).map(|r| logits.row(r).to_vec()).collect()
            };
            each(self.workers.on_threads(|| self.workers.with_arena(logits)))?;
        }
        Ok(())
    }

    /// Refuses ids that the model has no row for.
    pub(super) fn check(&self, number: usize, side: &str, ids: &[u32], vocab: usize) -> Result<()> {
        check_ids(ids, vocab).map_err(|e| e.at(side).in_item(number))
    }

    /// Refuses sentences that are empty or longer than the model's positions.
    pub(super) fn check_length(&self, number: usize, side: &str, tokens: usize) -> Result<()> {
        check_length(tokens, self.max_tokens()).map_err(|e| e.at(side).in_item(number))
    }
}

impl Model for Engine {
    type Request = Request;

    fn transformer(&self) -> &Transformer {
        &self.model
    }

    fn parameters(&self) -> &PackedWeights {
        &self.parameters
    }

    fn workers(&self) -> &Workers {
        &self.workers
    }

    fn check(&self, request: &Request) -> Result<()> {
        let c = self.config();
        for (side, ids, vocab_size) in [
            ("source", &request.source, c.source_vocab_size),
            ("prefix", &request.prefix, c.target_vocab_size),
        ] {
            check_ids(ids, vocab_size).map_err(|e| e.at(side))?;
        }
        check_length(request.source.len(), self.max_tokens()).map_err(|e| e.at("source"))
    }

    fn input(&self, request: &Request) -> SearchInput {
        SearchInput {
            prompt: Vec::new(),
            prefix: request.prefix.clone(),
            max_length: request.max_length.clamp(1, self.max_tokens()),
            seed_index: request.seed_index,
        }
    }

    fn read(&self, decoder: &mut StateDecoder, requests: &[&Request], attention: bool) {
        let source: Rows = requests.iter().map(|request| &request.source).collect();
        let memory = self.encode(decoder.run(), &source);
        decoder.add_sources(&source, memory, attention);
    }
}
