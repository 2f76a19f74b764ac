//! A whole training: data, model, loop, averaging, the finished model folder and its report.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use crate::chart::{Curve, Series};
use crate::config::{Assembly, Precision, Recipe, Task};
use crate::error::{Error, Result};
use crate::fastest;
use crate::files::{check_replaceable, remove_leftovers, write_atomically, write_error};
use crate::formats::generation::GenerationDefaults;
use crate::formats::manifest::{ManifestFields, ManifestMetric};
use crate::formats::{self, SaveModel, Saved};
use crate::model::transformer::Transformer;
use crate::train::change::Difference;
use crate::train::checkpoint;
use crate::train::data::Data;
use crate::train::evaluation::Evaluation;
use crate::train::evaluator::{Evaluator, engine};
use crate::train::lock::{self, Lock};
use crate::train::pair_data::DRAWN_FILE;
use crate::train::progress::{Sample, Validation};
use crate::train::provenance;
use crate::train::report::Report;
use crate::train::test_set::{TestResult, TestSentences};
use crate::train::trainer::{Ended, Trainer, Watcher};
use crate::weights::Weights;

const REPORT: &str = "report.html";
/// Lies in a training's folder until its model replaces one of other origin.
const REPLACES: &str = "replaces";
const TOKENIZER_FILES: [&str; 4] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "source_tokenizer.json",
    "target_tokenizer.json",
];

/// Most parameters that are trained: 32 GiB in f32, before gradients and moments.
const MAX_PARAMETERS: usize = 1 << 33;

/// What a training is to be.
#[derive(Debug, Clone)]
pub struct SessionOptions<'a> {
    /// What to train.
    pub recipe: Recipe,
    /// The model's folder.
    pub folder: &'a Path,
    /// The command, for the manifest and the report.
    pub command: &'a str,
    /// Whether a training that was begun may go on with a recipe that differs in what ends, paces, saves or judges it.
    pub change: bool,
    /// Whether a model that this training did not make may be replaced.
    pub replace: bool,
}

impl<'a> SessionOptions<'a> {
    /// The training of `recipe` in `folder`, which loses nothing.
    pub fn new(recipe: Recipe, folder: &'a Path) -> Self {
        SessionOptions {
            recipe,
            folder,
            command: "a call of the library",
            change: false,
            replace: false,
        }
    }
}

/// A training in a folder.
#[derive(Debug)]
pub struct Session {
    recipe: Recipe,
    folder: PathBuf,
    command: String,
    /// What is learned from.
    #[doc(hidden)]
    pub data: Data,
    /// The loop.
    #[doc(hidden)]
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
    #[doc(hidden)]
    pub tests: Vec<TestResult>,
}

impl Session {
    /// Prepares a training, or goes on with the one that is in the folder. Where that fails, what was made for it is gone again.
    ///
    /// # Errors
    /// The data, the recipe or the folder cannot be used; the folder holds a training of another recipe or of other data, or a
    /// model of other origin.
    pub fn open(options: SessionOptions<'_>) -> Result<Self> {
        Session::open_with(options, Data::prepare)
    }

    /// As [`Session::open`], with data that `data` reads or makes; it keeps its tokenizer in the folder that it is given.
    ///
    /// # Errors
    /// As [`Session::open`], or those of `data`.
    #[doc(hidden)]
    pub fn open_with(
        options: SessionOptions<'_>,
        data: impl FnOnce(&Recipe, &Path) -> Result<Data>,
    ) -> Result<Self> {
        let mut made = Made::default();
        let session = Self::prepare(options, data, &mut made);
        if session.is_err() {
            made.undo();
        }
        session
    }

    fn prepare(
        options: SessionOptions<'_>,
        data: impl FnOnce(&Recipe, &Path) -> Result<Data>,
        made: &mut Made,
    ) -> Result<Self> {
        let SessionOptions {
            mut recipe, folder, ..
        } = options;
        let inner = &folder.join("training");
        // Before anything is tidied up: nobody else is at work here.
        let lock = inner.is_dir().then(|| Lock::take(inner)).transpose()?;
        formats::recover(folder)?;
        if !options.replace && provenance::kept_recipe(inner)?.is_none() {
            formats::refuse_model(folder)?;
        }
        remove_leftovers(folder, |of| of == REPORT);
        made.folder(inner)?;
        let lock = lock.map_or_else(|| Lock::take(inner), Ok)?;
        // Better refused now than after hours.
        check_replaceable(folder)?;
        let kept = provenance::kept_recipe(inner)?;
        // What was decided when it began stays.
        let precision = &mut recipe.training.precision;
        *precision = match (*precision, &kept) {
            (Precision::Auto, Some(kept)) => kept.training.precision,
            (asked, _) => asked,
        };
        *precision = fastest::decided(*precision);
        let differences = match &kept {
            None => Vec::new(),
            Some(kept) => {
                recipe.format_version = recipe.format_version.or(kept.format_version);
                Difference::between(kept, &recipe)
            }
        };
        // A command that ended before the first step has begun nothing that could go on. A recipe that it did not write may be
        // anybody's, and stays.
        let (kept, differences) = match kept {
            Some(kept)
                if !differences.is_empty()
                    && !Trainer::has_begun(inner)
                    && provenance::is_ours(inner, &kept)? =>
            {
                clear_preparation(inner);
                (None, Vec::new())
            }
            kept => (kept, differences),
        };
        provenance::check_differences(inner, &differences, options.change)?;
        if kept.is_none() {
            if formats::refuse_model(folder).is_err() {
                write_atomically(&inner.join(REPLACES), |_| Ok(()))?;
            }
            provenance::keep_recipe(inner, &recipe)?;
        }
        // Named wrongly, they are better refused now than after hours.
        let tests: Vec<TestSentences> = recipe
            .test
            .iter()
            .map(TestSentences::open)
            .collect::<Result<_>>()?;
        let data = data(&recipe, inner)?;
        provenance::keep_data(inner, data.hashes())?;
        // As above: a tokenizer without merges.
        data.examples(&recipe)?;
        let assembly = data.assembly(&recipe)?;
        if let (Data::Pairs(pairs), Assembly::EncoderDecoder(config)) = (&data, &assembly) {
            pairs.keep_drawn(inner)?;
            for set in &tests {
                set.sources(&pairs.tokenizers.source, config.max_position_embeddings)?;
            }
        }
        let model = Transformer::new(assembly)?;
        // Checked before the memory is asked for.
        if model.index().len() > MAX_PARAMETERS {
            return Err(Error::settings("the model is too large to train")
                .at("model: d_model, layers, feed_forward; tokenizer.vocab_size")
                .expected(format!("at most {MAX_PARAMETERS} parameters"))
                .found(model.index().len().to_string())
                .hint("choose smaller sizes"));
        }
        let mut training = recipe.training.clone();
        if !data.has_validation() {
            // Without data for it there is no validation: no progress to miss, and no goal to reach.
            (training.patience, training.goal) = (0, None);
            training.valid_every = usize::MAX;
        }
        let mut trainer = Trainer::open(inner, training, model)?;
        if !differences.is_empty() {
            trainer.change(differences)?;
            // Last: a command that is stopped before finds the same differences again.
            provenance::keep_recipe(inner, &recipe)?;
        }
        Ok(Session {
            recipe,
            folder: folder.to_path_buf(),
            command: options.command.to_string(),
            data,
            trainer,
            tests,
            _lock: lock,
        })
    }

    /// The arithmetic of its products: decided, also where the recipe says `auto`.
    pub fn precision(&self) -> Precision {
        self.recipe.training.precision
    }

    /// Trains to the end, averages, writes the model folder and `report.html`.
    ///
    /// # Errors
    /// As [`Trainer::run`] and [`formats::save`].
    pub fn run(&mut self, watcher: &mut dyn Watcher) -> Result<Outcome> {
        let signal = self.trainer.signal();
        let judge = self.data.judge(&self.recipe, &signal);
        let mut validate = |model: &Transformer, weights: &Weights| judge.validate(model, weights);
        let examples = self.data.examples(&self.recipe)?;
        let ended = self
            .trainer
            .run(examples.as_ref(), &mut validate, watcher)?;
        let stopped = |ended| Outcome {
            ended,
            saved: None,
            metrics: Vec::new(),
            tests: Vec::new(),
        };
        if matches!(ended, Ended::Signal(_)) {
            return Ok(stopped(ended));
        }
        watcher.note("averaging, and judging what is averaged");
        let model = self.trainer.train_step().model.clone();
        let metric = self.recipe.training.metric;
        let mut best: Option<(Evaluation, Weights)> = None;
        for weights in self.trainer.candidates()? {
            let judged = judge.validate(&model, &weights)?;
            let Some(judged) = judged else {
                return Ok(stopped(Ended::Signal(signal.load(Ordering::Relaxed))));
            };
            if best
                .as_ref()
                .is_none_or(|(old, _)| judged.validation.is_better(&old.validation, metric))
            {
                best = Some((judged, weights));
            }
        }
        let Some((judged, weights)) = best else {
            return Err(Error::internal("there is no model to save"));
        };
        let Evaluation {
            validation,
            metrics,
            samples,
        } = judged;
        if let Some(note) = validation.worse_than_guessing(model.vocab_size()) {
            watcher.note(&note);
        }
        if !self.tests.is_empty() {
            watcher.note("decoding the test sets");
        }
        let mut tests = Vec::new();
        if let (Data::Pairs(data), false) = (&self.data, self.tests.is_empty()) {
            let evaluator = Evaluator::new(&self.recipe, data, &signal);
            let finished = engine(&model, &weights);
            for set in &self.tests {
                let Some(result) = evaluator.test(&finished, set)? else {
                    return Ok(stopped(Ended::Signal(signal.load(Ordering::Relaxed))));
                };
                tests.push(result);
            }
        }
        let mut all = metrics.clone();
        all.extend(tests.iter().flat_map(TestResult::metrics));
        let saved = self.save(model.assembly(), &weights, &all)?;
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
        assembly: &Assembly,
        weights: &Weights,
        metrics: &[ManifestMetric],
    ) -> Result<Saved> {
        let folder = self.folder.join("training").join("tokenizer");
        let mut files = BTreeMap::new();
        for name in TOKENIZER_FILES {
            if let Ok(bytes) = std::fs::read(folder.join(name)) {
                files.insert(name.to_string(), bytes);
            }
        }
        let p = self.trainer.progress();
        let mut notes = vec![
            ("command", self.command.clone()),
            ("steps", p.step.to_string()),
            ("seconds", format!("{:.0}", p.seconds)),
            ("order_hash", format!("{:016x}", p.order_hash)),
        ];
        if !self.trainer.changes().is_empty() {
            notes.push(("changes", self.changes("; ")));
        }
        let marker = self.folder.join("training").join(REPLACES);
        let save = if marker.exists() {
            formats::replace
        } else {
            formats::save
        };
        let saved = save(
            &self.folder,
            &SaveModel {
                assembly,
                family: None,
                weights,
                generation: &match assembly {
                    Assembly::EncoderDecoder(config) => GenerationDefaults::for_training(config),
                    Assembly::Encoder(_) | Assembly::Decoder(_) => GenerationDefaults::default(),
                },
                files,
                manifest: ManifestFields {
                    seed: Some(self.recipe.training.seed),
                    data: self.data.hashes().clone(),
                    metrics: metrics.to_vec(),
                    directions: self.recipe.data.directions(),
                    alignment: None,
                    notes: notes.into_iter().map(|(k, v)| (k.to_string(), v)).collect(),
                },
            },
        )?;
        // From now on the card that lies there is this model's.
        let _ = std::fs::remove_file(marker);
        Ok(saved)
    }

    /// What was changed on the way.
    fn changes(&self, between: &str) -> String {
        let changes = self.trainer.changes().iter();
        changes
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(between)
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
            logarithmic: false,
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
        if self.data.has_validation() {
            summary.push(("validation loss".into(), format!("{:.4}", validation.loss)));
        }
        if !self.trainer.changes().is_empty() {
            summary.push(("changes on the way".into(), self.changes("\n")));
        }
        summary.extend([
            (
                "parameters".into(),
                self.trainer.train_step().model.index().len().to_string(),
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
        let scores = match self.recipe.task {
            Task::Translation => vec![("BLEU", valid(|v| v.bleu)), ("chrF", valid(|v| v.chrf))],
            Task::Language => Vec::new(),
        };
        Report {
            task: self.recipe.task,
            title: self
                .folder
                .file_name()
                .map_or("model".into(), |n| n.to_string_lossy().into_owned()),
            command: self.command.clone(),
            config_toml: toml::to_string(&self.recipe).unwrap_or_default(),
            audit: self.data.audit(),
            filters: self.data.filters(),
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
                curve("BLEU and chrF", "score", scores),
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

/// Removes what was prepared in a training's folder before the first step, file by file.
fn clear_preparation(inner: &Path) {
    let tokenizer = inner.join("tokenizer");
    for name in TOKENIZER_FILES {
        let _ = std::fs::remove_file(tokenizer.join(name));
    }
    let _ = std::fs::remove_dir(tokenizer);
    for name in [provenance::RECIPE, provenance::DATA, DRAWN_FILE] {
        let _ = std::fs::remove_file(inner.join(name));
    }
}

/// What one command made on its way to a training.
#[derive(Debug, Default)]
struct Made {
    /// Folders, outermost first.
    folders: Vec<PathBuf>,
}

impl Made {
    /// Makes `folder` and what lacks above it.
    fn folder(&mut self, folder: &Path) -> Result<()> {
        match std::fs::create_dir(folder) {
            Ok(()) => {
                self.folders.push(folder.to_path_buf());
                Ok(())
            }
            Err(e) if e.kind() == ErrorKind::AlreadyExists && folder.is_dir() => Ok(()),
            Err(e) => match folder.parent().filter(|p| !p.as_os_str().is_empty()) {
                Some(parent) if e.kind() == ErrorKind::NotFound => {
                    self.folder(parent)?;
                    self.folder(folder)
                }
                _ => Err(write_error("cannot make the training folder", folder, &e)),
            },
        }
    }

    /// Removes what was made: known files of a new training folder by their names, then the folders that are empty. Whatever
    /// else lies there by now is somebody's, and stays. What was refused so leaves nothing behind that the corrected command
    /// would stumble over.
    fn undo(self) {
        let Some(inner) = self.folders.last().filter(|f| f.ends_with("training")) else {
            return;
        };
        // Another command may have begun here since: then the folder is its.
        let Ok(_lock) = Lock::take(inner) else {
            return;
        };
        if checkpoint::state_file(inner).exists() {
            return;
        }
        clear_preparation(inner);
        for name in [REPLACES, lock::FILE] {
            let _ = std::fs::remove_file(inner.join(name));
        }
        for folder in self.folders.iter().rev() {
            if std::fs::remove_dir(folder).is_err() {
                return;
            }
        }
    }
}
