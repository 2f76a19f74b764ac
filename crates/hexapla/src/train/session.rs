//! A whole training: data, model, loop, averaging, the finished model folder and its report.

use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use crate::chart::{Curve, Series};
use crate::config::{Recipe, TransformerConfig};
use crate::error::{Error, Result};
use crate::files::{check_replaceable, remove_leftovers, write_atomically, write_error};
use crate::formats::generation::GenerationDefaults;
use crate::formats::manifest::{ManifestFields, ManifestMetric};
use crate::formats::{self, SaveModel, Saved};
use crate::model::transformer::Transformer;
use crate::train::data::Data;
use crate::train::judge::{Judge, Judged, engine};
use crate::train::pairs::TrainingPairs;
use crate::train::progress::Validation;
use crate::train::provenance;
use crate::train::report::{Report, Sample};
use crate::train::test_set::{TestResult, TestSentences};
use crate::train::trainer::{Ended, Trainer, Watcher};
use crate::weights::Weights;

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
    tests: Vec<TestSentences>,
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
    /// What the recipe's `[[test]]` sets gave.
    pub tests: Vec<TestResult>,
}

impl Session {
    /// Prepares a training in `folder`, or goes on with the one that is there.
    ///
    /// # Errors
    /// The data, the recipe or the folder cannot be used, or the folder holds a training of another recipe or of
    /// other data.
    pub fn open(
        recipe: Recipe,
        folder: &Path,
        command: &str,
        data: impl FnOnce(&Path) -> Result<Data>,
    ) -> Result<Self> {
        let inner = folder.join("training");
        let made = inner
            .ancestors()
            .take_while(|path| !path.as_os_str().is_empty() && path.symlink_metadata().is_err())
            .last();
        let session = Self::prepare(recipe, folder, &inner, command, data);
        if let (Err(_), Some(made)) = (&session, made)
            && Lock::take(&inner).is_ok()
        {
            // What was refused leaves nothing behind that the corrected command would stumble over. Where another process
            // holds the lock, the folder is its.
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
        // Better refused now than after hours.
        check_replaceable(folder)?;
        provenance::keep_recipe(inner, &recipe)?;
        // Named wrongly, they are better refused now than after hours.
        let tests: Vec<TestSentences> = recipe
            .test
            .iter()
            .map(TestSentences::open)
            .collect::<Result<_>>()?;
        let data = data(inner)?;
        provenance::keep_data(inner, &data.hashes)?;
        // As above: a tokenizer without merges.
        training_pairs(&recipe, &data)?;
        let config = data.model_config(&recipe)?;
        for set in &tests {
            set.sources(&data.tokenizers.source, config.max_position_embeddings)?;
        }
        let model = Transformer::new(config)?;
        // Checked before the memory is asked for.
        if model.index().len() > MAX_PARAMETERS {
            return Err(Error::new("the model is too large to train")
                .at("model: d_model, layers, feed_forward; tokenizer.vocab_size")
                .expected(format!("at most {MAX_PARAMETERS} parameters"))
                .found(model.index().len().to_string())
                .hint("choose smaller sizes"));
        }
        let mut training = recipe.training.clone();
        if data.valid.is_empty() {
            // Without pairs there is no validation: no progress to miss, and no goal to reach.
            (training.patience, training.goal) = (0, None);
            training.valid_every = usize::MAX;
        }
        let trainer = Trainer::open(inner, training, model)?;
        Ok(Session {
            recipe,
            folder: folder.to_path_buf(),
            command: command.to_string(),
            data,
            trainer,
            tests,
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
        let pairs = training_pairs(&self.recipe, &self.data)?;
        let ended = self.trainer.run(&pairs, &mut validate, watcher)?;
        let stopped = |ended| Outcome {
            ended,
            saved: None,
            metrics: Vec::new(),
            tests: Vec::new(),
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
        if !self.tests.is_empty() {
            watcher.note("decoding the test sets");
        }
        let finished = engine(&model, &weights);
        let mut tests = Vec::new();
        for set in &self.tests {
            let Some(result) = judge.test(&finished, set)? else {
                return Ok(stopped(Ended::Signal(signal.load(Ordering::Relaxed))));
            };
            tests.push(result);
        }
        let mut all = metrics.clone();
        all.extend(tests.iter().flat_map(TestResult::metrics));
        let saved = self.save(model.config(), &weights, &all)?;
        let mut report = self.report(&validation, &metrics, samples);
        let tested = tests.iter().map(|t| (t.name.clone(), t.scores.to_string()));
        report.summary.extend(tested);
        let path = self.folder.join(REPORT);
        write_atomically(&path, |w| w.write_all(report.to_html().as_bytes()))?;
        Ok(Outcome {
            ended,
            saved: Some(saved),
            metrics,
            tests,
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
                    directions: self.recipe.data.directions(),
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
        if !self.data.valid.is_empty() {
            summary.push(("validation loss".into(), format!("{:.4}", validation.loss)));
        }
        summary.extend([
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
                format!("{:.0}", p.target_tokens as f64 / p.step_seconds().max(1e-9)),
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
                    "target tokens/s",
                    vec![("training", points(|x| x.tokens_per_second))],
                ),
            ]
            .into_iter()
            .filter(|curve| curve.series.iter().any(|series| !series.points.is_empty()))
            .collect(),
            samples,
            versions: Vec::new(),
        }
    }
}

/// What an epoch is made of.
fn training_pairs<'a>(recipe: &Recipe, data: &'a Data) -> Result<TrainingPairs<'a>> {
    let t = &recipe.training;
    TrainingPairs::with_bpe_dropout(&data.train, &data.tokenizers, t.bpe_dropout, t.seed)
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
