//! What both sides of a race start from, and model folders of what they end with (`cargo xtask race`).

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use hexapla::batch::Pair;
use hexapla::config::{
    ComputeType, OptimizerKind, Recipe, ScheduleKind, TrainingTable, TransformerConfig,
};
use hexapla::error::{Error, Result};
use hexapla::formats::generation::GenerationDefaults;
use hexapla::formats::manifest::ManifestFields;
use hexapla::formats::{self, SaveModel};
use hexapla::generate::engine::Engine;
use hexapla::model::transformer::Transformer;
use hexapla::packed::PackedWeights;
use hexapla::train::pair_data::PairData;
use hexapla::train::test_set::TestSentences;
use hexapla::train::trainer::Trainer;
use hexapla::weights::Weights;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{protocol, weights};

/// Rows of the peer's table of positions.
const POSITIONS: usize = 1024;

/// What [`begin`] and [`end`] are told.
#[derive(Debug, Deserialize)]
pub(crate) struct Job {
    recipe: PathBuf,
    /// The folder `training` of our own run, which keeps the tokenizer and in the end the weights.
    training: PathBuf,
    /// Where to write.
    output: PathBuf,
    threads: usize,
    /// The weights that a peer ended with; ours where absent.
    weights: Option<PathBuf>,
}

/// What a peer is told to train. Sentences are ids without special tokens.
#[derive(Debug, Serialize)]
struct PeerJob<'a> {
    d_model: usize,
    heads: usize,
    feed_forward: usize,
    layers: usize,
    vocabulary: usize,
    dropout: f32,
    attention_dropout: f32,
    activation_dropout: f32,
    /// What the decoder starts with.
    start: u32,
    /// What ends a sentence, on both sides.
    end: u32,
    /// [`TrainingTable`]: its keys are those of a recipe.
    training: &'a TrainingTable,
    threads: usize,
    weights: PathBuf,
    pairs: PathBuf,
}

/// Source and target of each pair.
#[derive(Debug, Serialize)]
struct PairsFile<'a> {
    train: Vec<[&'a [u32]; 2]>,
    valid: Vec<[&'a [u32]; 2]>,
}

/// A recipe with its data and its model.
struct Opened {
    recipe: Recipe,
    data: PairData,
    model: Transformer,
}

impl Opened {
    fn open(job: &Job) -> Result<Self> {
        // Nobody may have started it before.
        let _ = rayon::ThreadPoolBuilder::new()
            .num_threads(job.threads)
            .build_global();
        let recipe = Recipe::open(&job.recipe)?;
        let data = PairData::prepare(&recipe, &job.training)?;
        let model = Transformer::new(data.model_config(&recipe)?)?;
        Ok(Opened {
            recipe,
            data,
            model,
        })
    }

    /// −ln p for each target token of the validation pairs, in f32.
    fn loss(&self, weights: &Weights) -> Result<f64> {
        let parameters = PackedWeights::new(weights, ComputeType::Float32);
        let engine = Engine::new(self.model.clone(), parameters);
        let smoothing = self.recipe.training.label_smoothing;
        let (_, sum, tokens) = engine.loss(&self.data.valid, smoothing)?;
        Ok(sum / tokens.max(1) as f64)
    }
}

/// Writes initial weights, pairs, the peer's job, and the sides of the test; tells what they are.
///
/// # Errors
/// The recipe's data cannot be used, a peer cannot train its model as it says, or a file cannot be written.
pub(crate) fn begin(job: &Job) -> Result<()> {
    let opened = Opened::open(job)?;
    let Opened {
        recipe,
        data,
        model,
    } = &opened;
    let (c, t) = (model.config(), &recipe.training);
    if let Some(reason) = cannot_race(c, t)? {
        return Err(Error::settings("a peer cannot train this recipe")
            .at(job.recipe.display().to_string())
            .found(reason));
    }
    let [test] = &recipe.test[..] else {
        return Err(Error::settings("a race wants one test")
            .at(job.recipe.display().to_string())
            .expected("one table [[test]]")
            .found(recipe.test.len().to_string()));
    };
    let test = TestSentences::open(test)?;
    let start = Weights::random(model.index().clone(), t.seed);
    let path = |name: &str| job.output.join(name);
    weights::write(&path("start.safetensors"), &start)?;
    write_json(
        &path("pairs.json"),
        &PairsFile {
            train: sides(&data.train),
            valid: sides(&data.valid),
        },
    )?;
    write_json(
        &path("peer.json"),
        &PeerJob {
            d_model: c.d_model,
            heads: c.encoder_heads,
            feed_forward: c.encoder_feed_forward,
            layers: c.encoder_layers,
            vocabulary: c.target_vocab_size,
            dropout: c.dropout,
            attention_dropout: c.attention_dropout,
            activation_dropout: c.activation_dropout,
            start: c.decoder_start_token_id,
            end: c.eos_token_id,
            training: t,
            threads: job.threads,
            weights: path("start.safetensors"),
            pairs: path("pairs.json"),
        },
    )?;
    write_lines(&path("test.source"), &test.pairs.source)?;
    write_lines(&path("test.reference"), &test.pairs.target)?;
    protocol::say(&json!({
        "loss": opened.loss(&start)?,
        "parameters": model.index().len(),
        "train_pairs": data.train.len(),
        "valid_pairs": data.valid.len(),
        "test_pairs": test.pairs.len(),
        "test": test.set.name,
        "beam_size": test.set.beam_size,
        "valid_every": t.valid_every,
        "precision": t.precision,
    }));
    Ok(())
}

/// Makes a model folder of the weights that a side ended with, ours as the checkpoint has them, not averaged; tells their
/// validation loss, and of our side the curve.
///
/// # Errors
/// A file cannot be read or written, or the weights are those of another model.
pub(crate) fn end(job: &Job) -> Result<()> {
    let opened = Opened::open(job)?;
    let t = opened.recipe.training.clone();
    let trainer = Trainer::open(&job.training, t, opened.model.clone())?;
    let weights = match &job.weights {
        Some(path) => weights::read(path, opened.model.index())?,
        None => trainer.train_step().weights.clone(),
    };
    let config = opened.model.config();
    let tokenizer = job.training.join("tokenizer");
    let mut files = BTreeMap::new();
    for name in ["tokenizer.json", "tokenizer_config.json"] {
        let path = tokenizer.join(name);
        let bytes =
            std::fs::read(&path).map_err(|e| Error::io("cannot read the tokenizer", &path, &e))?;
        files.insert(name.to_string(), bytes);
    }
    formats::save(
        &job.output,
        &SaveModel {
            assembly: opened.model.assembly(),
            family: None,
            weights: &weights,
            generation: &GenerationDefaults::for_training(config),
            files,
            manifest: ManifestFields::default(),
        },
    )?;
    let p = trainer.progress();
    protocol::say(&json!({
        "loss": opened.loss(&weights)?,
        "updates": p.updates,
        "seconds": p.step_seconds(),
        "tokens": p.target_tokens,
        "validations": p.validations,
    }));
    Ok(())
}

/// Why a peer's program (`xtask/bench/race_torch.py`) cannot train such a model in such a way; nothing where it can.
fn cannot_race(c: &TransformerConfig, t: &TrainingTable) -> Result<Option<&'static str>> {
    let theirs = TransformerConfig {
        source_vocab_size: c.source_vocab_size,
        target_vocab_size: c.source_vocab_size,
        d_model: c.d_model,
        encoder_layers: c.encoder_layers,
        decoder_layers: c.encoder_layers,
        encoder_heads: c.encoder_heads,
        decoder_heads: c.encoder_heads,
        encoder_feed_forward: c.encoder_feed_forward,
        decoder_feed_forward: c.encoder_feed_forward,
        dropout: c.dropout,
        attention_dropout: c.attention_dropout,
        activation_dropout: c.activation_dropout,
        max_position_embeddings: c.max_position_embeddings,
        pad_token_id: c.pad_token_id,
        eos_token_id: c.eos_token_id,
        decoder_start_token_id: c.decoder_start_token_id,
        ..TransformerConfig::preset("base")?
    };
    let reasons = [
        (
            *c != theirs,
            "a model that is not the paper's (post-norm, ReLU, one table, equal stacks)",
        ),
        (
            c.max_position_embeddings > POSITIONS,
            "sentences longer than its positions",
        ),
        (
            t.optimizer != OptimizerKind::Adam,
            "an optimizer that is not Adam",
        ),
        (
            t.schedule != ScheduleKind::InverseSqrt,
            "a schedule that is not inverse_sqrt",
        ),
        (t.accumulate != 1, "accumulated batches"),
        (t.clip_norm <= 0.0, "gradients that are not clipped"),
        (t.r_drop > 0.0, "R-Drop"),
        (
            c.attention_dropout > 0.0,
            "dropout of attention, which its fused kernel has not",
        ),
        (
            t.count_validations,
            "a clock that counts validations (count_validations = false is wanted)",
        ),
        (
            t.patience > 0 || t.goal.is_some() || t.max_epochs.is_some(),
            "an end by patience, goal or max_epochs",
        ),
    ];
    Ok(reasons
        .into_iter()
        .find_map(|(wrong, why)| wrong.then_some(why)))
}

fn sides(pairs: &[Pair]) -> Vec<[&[u32]; 2]> {
    let sides = pairs.iter().map(|p| [p.source.as_slice(), &p.target]);
    sides.collect()
}

fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let write = || -> std::io::Result<()> {
        let mut out = BufWriter::new(File::create(path)?);
        serde_json::to_writer(&mut out, value)?;
        out.flush()
    };
    write().map_err(|e| Error::io("cannot write", path, &e))
}

fn write_lines(path: &Path, lines: &[String]) -> Result<()> {
    let text: String = lines.iter().flat_map(|l| [l.as_str(), "\n"]).collect();
    std::fs::write(path, text).map_err(|e| Error::io("cannot write", path, &e))
}
