//! A whole training: data, model, loop, averaging, the finished model folder and its report.

use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::config::{ComputeType, Recipe, TokenizerKind, TransformerConfig};
use crate::error::{Error, Result};
use crate::files::{remove_leftovers, write_atomically, write_error};
use crate::formats::generation::GenerationDefaults;
use crate::formats::manifest::{ManifestFields, ManifestMetric};
use crate::formats::{self, SaveModel, Saved};
use crate::generate::SearchOptions;
use crate::generate::engine::{Engine, Request};
use crate::metrics::{Bleu, Chrf, Tokenizer as Words};
use crate::model::transformer::Transformer;
use crate::prepared::Prepared;
use crate::train::data::Data;
use crate::train::progress::Validation;
use crate::train::report::{Curve, Report, Sample, Series};
use crate::train::trainer::{Ended, Trainer, Watcher};
use crate::weights::Weights;

/// Source tokens of a batch in validation.
const BATCH_TOKENS: usize = 2048;
/// Sentences for each thread that validation decodes between two looks for a signal.
const SENTENCES: usize = 64;
const REPORT: &str = "report.html";

/// Most parameters that are trained: 32 GiB in f32, before gradients and moments.
const MAX_PARAMETERS: usize = 1 << 33;

/// A training in a folder.
#[derive(Debug)]
pub struct Session {
    recipe: Recipe,
    folder: PathBuf,
    command: String,
    /// What is learned from.
    pub data: Data,
    /// The loop.
    pub trainer: Trainer,
    _lock: Lock,
}

/// How a training ended.
#[derive(Debug)]
pub struct Outcome {
    /// Why.
    pub ended: Ended,
    /// What was written; none if a signal ended it.
    pub saved: Option<Saved>,
    /// Quality of what was written, and the metrics' signatures.
    pub metrics: Vec<ManifestMetric>,
}

impl Session {
    /// Prepares a training in `folder`, or goes on with the one that is there.
    ///
    /// # Errors
    /// The data, the recipe or the folder cannot be used, or the folder holds a training of another recipe.
    pub fn open(
        recipe: Recipe,
        folder: &Path,
        command: &str,
        data: impl FnOnce(&Path) -> Result<Data>,
    ) -> Result<Self> {
        let inner = folder.join("training");
        let made = inner
            .ancestors()
            .take_while(|path| !path.as_os_str().is_empty() && !path.exists())
            .last();
        let session = Self::prepare(recipe, folder, &inner, command, data);
        if let (Err(_), Some(made)) = (&session, made) {
            // What was refused leaves nothing behind that the corrected command would stumble over.
            let _ = std::fs::remove_dir_all(made);
        }
        session
    }

    fn prepare(
        recipe: Recipe,
        folder: &Path,
        inner: &Path,
        command: &str,
        data: impl FnOnce(&Path) -> Result<Data>,
    ) -> Result<Self> {
        // Before anything is tidied up: nobody else is at work here.
        let lock = inner.is_dir().then(|| Lock::take(inner)).transpose()?;
        formats::recover(folder)?;
        remove_leftovers(folder, |of| of == REPORT);
        std::fs::create_dir_all(inner)
            .map_err(|e| write_error("cannot make the training folder", inner, &e))?;
        let lock = lock.map_or_else(|| Lock::take(inner), Ok)?;
        let text = toml::to_string(&recipe)
            .map_err(|e| Error::new("the recipe cannot be written").found(e.to_string()))?;
        let place = inner.join("recipe.toml");
        match std::fs::read_to_string(&place) {
            Ok(old) if old != text => {
                return Err(Error::new("the folder holds a training of another recipe")
                    .at(place.display().to_string())
                    .expected("the recipe and the flags that it was started with")
                    .found("others")
                    .hint("name another folder with --output, or remove this one"));
            }
            Ok(_) => {}
            Err(_) => write_atomically(&place, |w| w.write_all(text.as_bytes()))?,
        }
        let data = data(inner)?;
        let model = Transformer::new(data.model_config(&recipe)?)?;
        // Checked before the memory is asked for.
        if model.index().len() > MAX_PARAMETERS {
            return Err(Error::new("the model is too large to train")
                .at("model: d_model, layers, feed_forward; tokenizer.vocab_size")
                .expected(format!("at most {MAX_PARAMETERS} parameters"))
                .found(model.index().len().to_string())
                .hint("choose smaller sizes"));
        }
        let trainer = Trainer::open(inner, recipe.training.clone(), model)?;
        Ok(Session {
            recipe,
            folder: folder.to_path_buf(),
            command: command.to_string(),
            data,
            trainer,
            _lock: lock,
        })
    }

    /// Trains to the end, averages, writes the model folder and `report.html`.
    ///
    /// # Errors
    /// As [`Trainer::run`] and [`formats::save`].
    pub fn run(&mut self, watcher: &mut dyn Watcher) -> Result<Outcome> {
        let signal = self.trainer.signal();
        let judge = Judge::new(&self.recipe, &self.data, &signal);
        self.trainer.catch_signals()?;
        let mut validate = |model: &Transformer, weights: &Weights| {
            let judged = judge.validate(&engine(model, weights))?;
            Ok(judged.map(|(validation, ..)| validation))
        };
        let ended = self.trainer.run(&self.data.train, &mut validate, watcher)?;
        let stopped = |ended| Outcome {
            ended,
            saved: None,
            metrics: Vec::new(),
        };
        if matches!(ended, Ended::Signal(_)) {
            return Ok(stopped(ended));
        }
        watcher.note("averaging, and decoding the validation set");
        let model = self.trainer.learner().model.clone();
        let metric = self.recipe.training.metric;
        let mut best: Option<(Judged, Weights)> = None;
        for weights in [
            self.trainer.averaged()?,
            self.trainer.learner().weights.clone(),
        ] {
            let judged = judge.validate(&engine(&model, &weights))?;
            let Some(judged) = judged else {
                return Ok(stopped(Ended::Signal(signal.load(Ordering::Relaxed))));
            };
            if best
                .as_ref()
                .is_none_or(|(old, _)| judged.0.rank(metric) > old.0.rank(metric))
            {
                best = Some((judged, weights));
            }
        }
        let Some(((validation, metrics, samples), weights)) = best else {
            return Err(Error::new("there is no model to save"));
        };
        let saved = self.save(model.config(), &weights, &metrics)?;
        let report = self.report(&validation, &metrics, samples);
        let path = self.folder.join(REPORT);
        write_atomically(&path, |w| w.write_all(report.to_html().as_bytes()))?;
        Ok(Outcome {
            ended,
            saved: Some(saved),
            metrics,
        })
    }

    fn save(
        &self,
        config: &TransformerConfig,
        weights: &Weights,
        metrics: &[ManifestMetric],
    ) -> Result<Saved> {
        let folder = self.folder.join("training").join("tokenizer");
        let mut files = BTreeMap::new();
        for name in [
            "tokenizer.json",
            "tokenizer_config.json",
            "source_tokenizer.json",
            "target_tokenizer.json",
        ] {
            if let Ok(bytes) = std::fs::read(folder.join(name)) {
                files.insert(name.to_string(), bytes);
            }
        }
        let p = self.trainer.progress();
        let notes = [
            ("command", self.command.clone()),
            ("steps", p.step.to_string()),
            ("seconds", format!("{:.0}", p.seconds)),
            ("order_hash", format!("{:016x}", p.order_hash)),
        ];
        formats::save(
            &self.folder,
            &SaveModel {
                config,
                weights,
                generation: &GenerationDefaults::for_training(config),
                files,
                manifest: ManifestFields {
                    seed: Some(self.recipe.training.seed),
                    data: self.data.hashes.clone(),
                    metrics: metrics.to_vec(),
                    notes: notes.into_iter().map(|(k, v)| (k.to_string(), v)).collect(),
                },
            },
        )
    }

    fn report(
        &self,
        validation: &Validation,
        metrics: &[ManifestMetric],
        samples: Vec<Sample>,
    ) -> Report {
        let p = self.trainer.progress();
        let points = |f: fn(&crate::train::progress::Point) -> f64| {
            p.points.iter().map(|x| (x.step as f64, f(x))).collect()
        };
        let valid = |f: fn(&Validation) -> f64| {
            p.validations
                .iter()
                .map(|x| (x.step as f64, f(x)))
                .collect()
        };
        let curve = |title: &str, y: &str, series: Vec<(&str, Vec<(f64, f64)>)>| Curve {
            title: title.into(),
            x_label: "update".into(),
            y_label: y.into(),
            series: series
                .into_iter()
                .map(|(name, points)| Series {
                    name: name.into(),
                    points,
                })
                .collect(),
        };
        let mut summary: Vec<(String, String)> = metrics
            .iter()
            .map(|m| (m.name.clone(), format!("{:.2}\n{}", m.value, m.signature)))
            .collect();
        let seconds = p.seconds.max(1e-9);
        summary.extend([
            ("validation loss".into(), format!("{:.4}", validation.loss)),
            (
                "parameters".into(),
                self.trainer.learner().model.index().len().to_string(),
            ),
            ("updates".into(), p.updates.to_string()),
            ("epochs".into(), p.epoch.to_string()),
            ("skipped steps".into(), p.skipped.to_string()),
            ("minutes".into(), format!("{:.1}", p.seconds / 60.0)),
            (
                "target tokens a second".into(),
                format!("{:.0}", p.target_tokens as f64 / seconds),
            ),
        ]);
        Report {
            title: self
                .folder
                .file_name()
                .map_or("model".into(), |n| n.to_string_lossy().into_owned()),
            command: self.command.clone(),
            config_toml: toml::to_string(&self.recipe).unwrap_or_default(),
            audit: self.data.audit.to_string(),
            filters: self.data.filters.to_string(),
            summary,
            curves: vec![
                curve(
                    "Loss",
                    "loss",
                    vec![
                        ("training", points(|x| x.loss)),
                        ("validation", valid(|v| v.loss)),
                    ],
                ),
                curve(
                    "BLEU and chrF",
                    "score",
                    vec![("BLEU", valid(|v| v.bleu)), ("chrF", valid(|v| v.chrf))],
                ),
                curve(
                    "Learning rate",
                    "rate",
                    vec![("learning rate", points(|x| x.learning_rate))],
                ),
                curve(
                    "Gradient norm",
                    "norm",
                    vec![("before clipping", points(|x| x.gradient_norm))],
                ),
                curve(
                    "Speed",
                    "tokens/s",
                    vec![("source + target", points(|x| x.tokens_per_second))],
                ),
            ],
            samples,
            versions: Vec::new(),
        }
    }
}

fn engine(model: &Transformer, weights: &Weights) -> Engine {
    let parameters = Prepared::new(weights, ComputeType::Float32);
    Engine::new(model.clone(), parameters)
}

/// A validation, its metrics with signatures, and samples.
type Judged = (Validation, Vec<ManifestMetric>, Vec<Sample>);

/// Decodes and scores the validation set.
struct Judge<'a> {
    recipe: &'a Recipe,
    data: &'a Data,
    words: Words,
    signal: &'a AtomicUsize,
}

impl<'a> Judge<'a> {
    fn new(recipe: &'a Recipe, data: &'a Data, signal: &'a AtomicUsize) -> Self {
        let han = |c: &char| ('\u{4e00}'..='\u{9fff}').contains(c);
        let text = || {
            data.valid_text
                .target
                .iter()
                .flat_map(|t| t.chars())
                .filter(|c| c.is_alphabetic())
        };
        let words = if recipe.tokenizer.kind == TokenizerKind::Pieces {
            Words::None
        } else if text().filter(han).count() * 2 > text().count() {
            Words::Chinese
        } else {
            Words::Mteval13a
        };
        Judge {
            recipe,
            data,
            words,
            signal,
        }
    }

    /// None if a signal came before the end.
    fn validate(&self, engine: &Engine) -> Result<Option<Judged>> {
        let t = &self.recipe.training;
        let c = engine.model().config();
        let stopped = || self.signal.load(Ordering::Relaxed) != 0;
        if stopped() {
            return Ok(None);
        }
        let (smoothed, nll, tokens) = engine.loss(&self.data.valid, t.label_smoothing);
        let n = tokens.max(1) as f64;
        let options = SearchOptions {
            beam_size: t.valid_beam_size,
            ..SearchOptions::for_model(c)
        };
        let requests: Vec<Request> = self
            .data
            .valid
            .iter()
            .map(|p| Request {
                source: p
                    .source
                    .iter()
                    .copied()
                    .chain([c.eos_token_id])
                    .take(c.max_position_embeddings)
                    .collect(),
                prefix: Vec::new(),
                max_length: p.source.len() * 2 + 10,
            })
            .collect();
        let target = &self.data.tokenizers.target;
        let mut hypotheses = Vec::with_capacity(requests.len());
        for requests in requests.chunks(SENTENCES * rayon::current_num_threads()) {
            if stopped() {
                return Ok(None);
            }
            for h in engine.generate(requests, &options, BATCH_TOKENS)? {
                hypotheses.push(match h.first() {
                    Some(h) => target.decode(h.tokens())?,
                    None => String::new(),
                });
            }
        }
        // References pass through the tokenizer too where the text is in pieces (`@@ ` is joined).
        let references: Vec<String> = match self.recipe.tokenizer.kind {
            TokenizerKind::Pieces => self
                .data
                .valid
                .iter()
                .map(|p| target.decode(&p.target))
                .collect::<Result<_>>()?,
            _ => self.data.valid_text.target.clone(),
        };
        let mut validation = Validation {
            step: 0,
            loss: smoothed / n,
            perplexity: (nll / n).exp(),
            bleu: 0.0,
            chrf: 0.0,
            exact_match: 0.0,
        };
        if references.is_empty() {
            return Ok(Some((validation, Vec::new(), Vec::new())));
        }
        let bleu = Bleu {
            tokenizer: self.words,
            ..Bleu::default()
        }
        .corpus(&hypotheses, &[&references[..]])?;
        let chrf = Chrf::default().corpus(&hypotheses, &[&references[..]])?;
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
        Ok(Some((validation, metrics, samples)))
    }
}

/// Keeps a second training out of the folder. The system lets go of it when the process ends, however that happens.
#[derive(Debug)]
struct Lock {
    _file: File,
}

impl Lock {
    fn take(folder: &Path) -> Result<Self> {
        let path = folder.join("lock");
        let file = File::create(&path)
            .map_err(|e| write_error("cannot make the training's lock", &path, &e))?;
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => {
                Err(Error::new("another process trains in this folder")
                    .at(folder.display().to_string())
                    .hint("wait for its end, or name another folder with --output"))
            }
            // A file system without locks: nothing to hold.
            Ok(()) | Err(TryLockError::Error(_)) => Ok(Lock { _file: file }),
        }
    }
}
