//! The training loop: batches, updates, validations, checkpoints, and a clean end whatever happens.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use hexapla_kernels::Buffer;

use crate::batch::TrainingRows;
use crate::config::{Metric, TrainingTable};
use crate::error::{Error, Result};
use crate::files::{remove_leftovers, write_atomically, write_error};
use crate::model::transformer::Transformer;
use crate::train::batches::{self, shard};
use crate::train::change::{self, Change, Difference};
use crate::train::checkpoint;
use crate::train::evaluation::Evaluation;
use crate::train::examples::{EpochExamples, Examples};
use crate::train::initial;
use crate::train::progress::{Point, Progress, Sample, Validation};
use crate::train::schedule::learning_rate;
use crate::train::shards::{StepReport, TrainStep};
use crate::weights::Weights;

/// A line a step.
const LOG: &str = "log.jsonl";
/// Steps between points of the curve.
const POINT_EVERY: u64 = 20;

/// What the loop tells while it runs.
pub trait Watcher {
    /// After each step.
    fn step(&mut self, _progress: &Progress, _report: &StepReport, _learning_rate: f32) {}
    /// After each point of the curve.
    fn point(&mut self, _point: &Point) {}
    /// After each validation; `best` if none before was better. `samples` show what the model makes of some inputs.
    fn validation(&mut self, _validation: &Validation, _best: bool, _samples: &[Sample]) {}
    /// Anything else worth a line.
    fn note(&mut self, _line: &str) {}
}

/// Nobody watches.
impl Watcher for () {}

/// One pass over the data: its examples, their lengths, and their numbers batch by batch.
struct Epoch<'a> {
    examples: Box<dyn EpochExamples + 'a>,
    lengths: Vec<usize>,
    batches: Vec<Vec<usize>>,
}

/// Judges the weights at hand; none if a signal cut it short.
pub type Validate<'a> = dyn FnMut(&Transformer, &Weights) -> Result<Option<Evaluation>> + 'a;

/// Why the loop ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Steps, epochs or minutes are used up.
    Complete,
    /// No progress for `patience` validations, or the metric reached its `goal`.
    EarlyStop,
    /// A signal asked for it; the number is the signal's. Everything is saved.
    Signal(usize),
}

/// A training run in a folder.
#[doc(hidden)]
#[derive(Debug)]
pub struct Trainer {
    folder: PathBuf,
    settings: TrainingTable,
    train_step: TrainStep,
    progress: Progress,
    /// What was changed on the way.
    changes: Vec<Change>,
    /// The step of the state that the disk has.
    saved: Option<u64>,
    signal: Arc<AtomicUsize>,
}

impl Trainer {
    /// Begins a run in `folder`, or goes on with the one that is there.
    ///
    /// # Errors
    /// The folder cannot be written, or holds a checkpoint that is damaged or of another model.
    pub fn open(folder: &Path, settings: TrainingTable, model: Transformer) -> Result<Self> {
        std::fs::create_dir_all(folder)
            .map_err(|e| Error::io("cannot make the training folder", folder, &e))?;
        let initial = settings.initial_weights;
        let weights = initial::weights(model.index().clone(), settings.seed, initial);
        let n = weights.data.len();
        let mut train_step = TrainStep::new(model, weights, &settings);
        let mut progress = Progress::default();
        let mut changes = change::read(folder)?;
        let (state, astray) = (
            checkpoint::state_file(folder),
            checkpoint::astray_file(folder),
        );
        let lengths = vec![n; 3 + usize::from(settings.ema_decay > 0.0)];
        if astray.exists() && !state.exists() {
            let (lost, _) = checkpoint::load::<Progress>(&astray, &lengths)?;
            if let Some(best) = lost.best {
                let path = checkpoint::weights_file(folder, best);
                let (_, mut weights) = checkpoint::load::<u64>(&path, &[n])?;
                if let Some(data) = weights.pop() {
                    let index = train_step.weights.index.clone();
                    train_step.set_weights(Weights { index, data });
                    progress = lost.back_to(best);
                    train_step
                        .optimizer
                        .restart(&train_step.weights.data, progress.updates);
                    for change in changes.iter_mut().filter(|c| c.step > best) {
                        change.step = best;
                    }
                    change::write(folder, &changes)?;
                }
            }
        }
        if state.exists() {
            let (loaded, buffers) = checkpoint::load::<Progress>(&state, &lengths)?;
            progress = loaded;
            let mut buffers = buffers.into_iter();
            let mut next = || buffers.next().unwrap_or_else(|| Buffer::zeros(n));
            let index = train_step.weights.index.clone();
            train_step.set_weights(Weights {
                index,
                data: next(),
            });
            train_step.optimizer.first = next();
            train_step.optimizer.second = next();
            if train_step.optimizer.average.is_some() {
                train_step.optimizer.average = Some(next());
            }
            train_step.optimizer.updates = progress.updates;
            train_step.optimizer.restarted = progress.restarted;
        }
        let saved = progress.step;
        let trainer = Trainer {
            folder: folder.to_path_buf(),
            settings,
            train_step,
            progress,
            changes,
            saved: state.exists().then_some(saved),
            signal: Arc::default(),
        };
        remove_leftovers(folder, |_| true);
        trainer.remove_unnamed();
        trainer.cut_log()?;
        Ok(trainer)
    }

    /// Whether steps were made in `folder`: a training that another recipe would spoil.
    pub fn has_begun(folder: &Path) -> bool {
        checkpoint::state_file(folder).exists()
            || checkpoint::astray_file(folder).exists()
            || folder.join(LOG).exists()
    }

    /// Where whoever handles signals puts the number of the one that came, 0 before: the loop then ends cleanly.
    pub fn signal(&self) -> Arc<AtomicUsize> {
        self.signal.clone()
    }

    /// Where the run stands.
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// What was changed on the way.
    pub fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// Notes that the settings differ from here on from those that the run had. Where that changes which pairs a batch has, an
    /// epoch begins.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn change(&mut self, differences: Vec<Difference>) -> Result<()> {
        let step = self.progress.step;
        let cuts_batches = differences.iter().any(Difference::cuts_batches);
        for difference in differences {
            change::note(&mut self.changes, step, difference);
        }
        change::write(&self.folder, &self.changes)?;
        // Judged anew by what may be another metric.
        let metric = self.settings.metric;
        let validations = &self.progress.validations;
        let best = best(validations, metric).map_or(0, |best| best + 1);
        self.progress.without_progress = validations.len() - best;
        if cuts_batches && self.progress.batch > 0 {
            self.progress.epoch += 1;
            self.progress.epochs_cut_short += 1;
            self.progress.batch = 0;
        }
        if checkpoint::state_file(&self.folder).exists() {
            self.save()?;
        }
        Ok(())
    }

    /// The model and its numbers.
    pub fn train_step(&self) -> &TrainStep {
        &self.train_step
    }

    /// Trains on `examples` until the settings, early stopping or a signal end it. The state is saved then.
    ///
    /// # Errors
    /// A checkpoint cannot be written (the last one stays whole), validation fails, or the gradient was not finite too
    /// often in a row.
    pub fn run(
        &mut self,
        examples: &dyn Examples,
        validate: &mut Validate,
        watcher: &mut dyn Watcher,
    ) -> Result<Ended> {
        let mut log = self.open_log()?;
        let mut epoch = self.epoch(examples);
        if epoch.batches.is_empty() {
            return Err(Error::input("there is nothing to train on")
                .expected("at least one example")
                .found("none"));
        }
        if self.progress.batch >= epoch.batches.len() {
            return Err(
                Error::conflict("the data is not what the training was started with")
                    .at("examples")
                    .expected(format!(
                        "more than {} batches an epoch",
                        self.progress.batch
                    ))
                    .found(epoch.batches.len().to_string())
                    .hint("give what it was started with"),
            );
        }
        loop {
            // What is due after a step is done here, at the beginning of the next, so that a run which was stopped in
            // between does it when it goes on.
            if self.is_due(self.settings.valid_every, self.validated()) {
                self.validate(validate, watcher)?;
            }
            // What led to a gradient that is not finite is not worth a checkpoint: from the one before, another rate may do.
            if self.is_due(self.settings.save_every, self.progress.kept.last().copied())
                && self.progress.skipped_in_a_row == 0
            {
                self.keep_weights()?;
                self.sync(&mut log)?;
                self.save()?;
            }
            if let Some(ended) = self.ended() {
                let by_signal = matches!(ended, Ended::Signal(_));
                self.progress.finished = !by_signal;
                if !(by_signal && self.progress.skipped_in_a_row > 0) {
                    self.sync(&mut log)?;
                    self.save()?;
                }
                return Ok(ended);
            }
            self.step(examples, &mut epoch, &mut log, watcher)?;
        }
    }

    fn step<'a>(
        &mut self,
        examples: &'a dyn Examples,
        epoch: &mut Epoch<'a>,
        log: &mut File,
        watcher: &mut dyn Watcher,
    ) -> Result<()> {
        let start = Instant::now();
        let rate = learning_rate(&self.settings, self.progress.updates + 1);
        let parts = self.next_parts(examples, epoch);
        let step = self.progress.step + 1;
        let report = self.train_step.run(&self.settings, step, rate, &parts)?;
        self.count(&report, start.elapsed().as_secs_f64());
        watcher.step(&self.progress, &report, rate);
        let line = format!(
            "{{\"step\":{step},\"loss\":{},\"learning_rate\":{rate},\"gradient_norm\":{},\"target_tokens\":{}{}}}\n",
            json(report.loss),
            json(report.gradient_norm),
            report.target_tokens,
            self.changed_before(step)
        );
        log.write_all(line.as_bytes())
            .map_err(|e| self.log_error(&e))?;
        if !report.gradient_norm.is_finite() {
            watcher.note(&format!(
                "step {step}: the gradient is not finite; no update"
            ));
            self.check_skipped()?;
        }
        if step.is_multiple_of(POINT_EVERY)
            && let Some(point) = self.progress.end_point(rate)
        {
            watcher.point(&point);
        }
        Ok(())
    }

    /// What was changed before `step`, as the log has it.
    fn changed_before(&self, step: u64) -> String {
        let here = self.changes.iter().filter(|c| c.step + 1 == step);
        let changed: Vec<&Difference> = here.map(|c| &c.difference).collect();
        match serde_json::to_string(&changed) {
            Ok(text) if !changed.is_empty() => format!(",\"changed\":{text}"),
            _ => String::new(),
        }
    }

    /// Whether what happens `every` so many steps, and `last` happened after that one, is to happen now.
    fn is_due(&self, every: usize, last: Option<u64>) -> bool {
        let step = self.progress.step;
        step > 0 && step.is_multiple_of(every as u64) && last != Some(step)
    }

    fn validated(&self) -> Option<u64> {
        self.progress.validations.last().map(|v| v.step)
    }

    /// The mean of the last kept weights (paper, section 6.1), or the moving average where one is kept.
    ///
    /// # Errors
    /// A kept file cannot be read.
    pub fn averaged(&self) -> Result<Weights> {
        let index = self.train_step.weights.index.clone();
        if let Some(average) = &self.train_step.optimizer.average {
            return Ok(Weights {
                index,
                data: average.clone(),
            });
        }
        let kept = &self.progress.kept;
        if kept.is_empty() {
            return Ok(self.train_step.weights.clone());
        }
        let mut sum = vec![0.0f64; index.len()];
        for step in kept {
            let path = checkpoint::weights_file(&self.folder, *step);
            let (_, buffers) = checkpoint::load::<u64>(&path, &[index.len()])?;
            for (sum, v) in sum.iter_mut().zip(buffers.iter().flat_map(|b| b.iter())) {
                *sum += f64::from(*v);
            }
        }
        let mut weights = Weights::zeros(index);
        for (w, sum) in weights.data.iter_mut().zip(sum) {
            *w = (sum / kept.len() as f64) as f32;
        }
        Ok(weights)
    }

    /// The weights that may be the finished model: the average, the last, and those of the best validation.
    ///
    /// # Errors
    /// A kept file cannot be read.
    pub fn candidates(&self) -> Result<Vec<Weights>> {
        let mut candidates = vec![self.averaged()?, self.train_step.weights.clone()];
        if let Some(best) = self
            .progress
            .best
            .filter(|step| *step != self.progress.step)
        {
            let index = self.train_step.weights.index.clone();
            let path = checkpoint::weights_file(&self.folder, best);
            let (_, buffers) = checkpoint::load::<u64>(&path, &[index.len()])?;
            candidates.extend(buffers.into_iter().map(|data| Weights {
                index: index.clone(),
                data,
            }));
        }
        Ok(candidates)
    }

    fn ended(&self) -> Option<Ended> {
        let (t, p) = (&self.settings, &self.progress);
        let signal = self.signal.load(Ordering::Relaxed);
        if signal != 0 {
            return Some(Ended::Signal(signal));
        }
        let enough = p.validations.last().zip(t.goal).is_some_and(|(v, goal)| {
            // Less is better for the loss alone.
            let sign = if t.metric == Metric::Loss { -1.0 } else { 1.0 };
            v.rank(t.metric) >= sign * goal
        });
        if enough || t.patience > 0 && p.without_progress >= t.patience {
            return Some(Ended::EarlyStop);
        }
        let passed = p.epoch - p.epochs_cut_short;
        let epochs = t.max_epochs.is_some_and(|most| passed >= most as u64);
        let seconds = p.counted_seconds(t);
        let minutes = t.max_minutes.is_some_and(|most| seconds >= most * 60.0);
        (p.step >= t.max_steps as u64 || epochs || minutes).then_some(Ended::Complete)
    }

    /// The pass over the data that is due.
    fn epoch<'a>(&self, examples: &'a dyn Examples) -> Epoch<'a> {
        let (number, t) = (self.progress.epoch, &self.settings);
        let examples = examples.of_epoch(number);
        let lengths = examples.lengths();
        Epoch {
            batches: batches::epoch(&lengths, t.batch_tokens, t.seed, number),
            examples,
            lengths,
        }
    }

    /// The next `accumulate` batches, cut into shards.
    fn next_parts<'a>(
        &mut self,
        examples: &'a dyn Examples,
        epoch: &mut Epoch<'a>,
    ) -> Vec<Vec<TrainingRows>> {
        let mut parts = Vec::with_capacity(self.settings.accumulate);
        for _ in 0..self.settings.accumulate {
            let batch = &epoch.batches[self.progress.batch];
            self.progress.add_batch(batch);
            let cut = (self.settings.shards, self.settings.passes());
            parts.push(shard((&*epoch.examples, &epoch.lengths), batch, cut));
            self.progress.batch += 1;
            if self.progress.batch == epoch.batches.len() {
                self.progress.batch = 0;
                self.progress.epoch += 1;
                *epoch = self.epoch(examples);
            }
        }
        parts
    }

    fn count(&mut self, report: &StepReport, seconds: f64) {
        let p = &mut self.progress;
        p.step += 1;
        p.updates = self.train_step.optimizer.updates;
        p.seconds += seconds;
        p.target_tokens += report.target_tokens as u64;
        p.source_tokens += report.source_tokens as u64;
        let finite = report.gradient_norm.is_finite();
        p.skipped += u64::from(!finite);
        p.skipped_in_a_row = if finite { 0 } else { p.skipped_in_a_row + 1 };
        if finite {
            let tokens = report.target_tokens as f64;
            p.since.loss += report.loss * tokens;
            p.since.negative_log_likelihood += report.negative_log_likelihood * tokens;
            p.since.gradient_norm += report.gradient_norm;
            p.since.target_tokens += report.target_tokens as u64;
            p.since.steps += 1;
            p.since.seconds += seconds;
        }
    }

    fn check_skipped(&self) -> Result<()> {
        let (p, limit) = (&self.progress, self.settings.max_skipped_steps);
        if p.skipped_in_a_row < limit {
            return Ok(());
        }
        // The state that the disk has may be the very one that makes no finite gradient: no rate would mend it.
        let state = checkpoint::state_file(&self.folder);
        let last_good = p.step - p.skipped_in_a_row as u64;
        if self.saved.is_some_and(|saved| saved >= last_good) {
            let aside = checkpoint::astray_file(&self.folder);
            std::fs::rename(&state, &aside)
                .map_err(|e| write_error("cannot put the checkpoint aside", &state, &e))?;
        }
        Err(Error::model("training does not go on: the gradient was not finite too often in a row")
            .at(format!("step {}", self.progress.step))
            .expected(format!("fewer than {limit} such steps in a row"))
            .found(self.progress.skipped_in_a_row.to_string())
            .hint("lower `learning_rate`, lengthen `warmup_steps`, or set `clip_norm`, and give the command again with --change: it goes on from before the first of these steps"))
    }

    fn validate(&mut self, validate: &mut Validate, watcher: &mut dyn Watcher) -> Result<()> {
        let metric = self.settings.metric;
        let start = Instant::now();
        let judged = validate(&self.train_step.model, &self.train_step.weights)?;
        let Some(Evaluation {
            mut validation,
            samples,
            ..
        }) = judged
        else {
            return Ok(());
        };
        let p = &mut self.progress;
        validation.step = p.step;
        validation.seconds = p.step_seconds();
        validation.target_tokens = p.target_tokens;
        let seconds = start.elapsed().as_secs_f64();
        p.seconds += seconds;
        p.validation_seconds += seconds;
        let old = best(&p.validations, metric).map(|best| p.validations[best]);
        let better = old.is_none_or(|old| validation.is_better(&old, metric));
        p.without_progress = if better { 0 } else { p.without_progress + 1 };
        p.validations.push(validation);
        if better && validation.loss < f64::MAX {
            let step = p.step;
            self.write_weights(step)?;
            self.progress.best = Some(step);
        }
        watcher.validation(&validation, better, &samples);
        let vocab_size = self.train_step.model.vocab_size();
        if let Some(note) = validation.worse_than_guessing(vocab_size) {
            watcher.note(&note);
        }
        Ok(())
    }

    /// Writes this step's weights to a file of their own.
    fn keep_weights(&mut self) -> Result<()> {
        let step = self.progress.step;
        if self.progress.best != Some(step) {
            self.write_weights(step)?;
        }
        self.progress.kept.push(step);
        Ok(())
    }

    fn write_weights(&self, step: u64) -> Result<()> {
        let path = checkpoint::weights_file(&self.folder, step);
        checkpoint::save(&path, &step, &[&self.train_step.weights.data])
    }

    /// The log is on the disk before the state that it leads to.
    fn sync(&self, log: &mut File) -> Result<()> {
        log.sync_data().map_err(|e| self.log_error(&e))
    }

    fn save(&mut self) -> Result<()> {
        if !self.progress.validations.is_empty() {
            write_atomically(&self.folder.join("validations.jsonl"), |w| {
                self.progress.validations.iter().try_for_each(|v| {
                    serde_json::to_writer(&mut *w, v)?;
                    w.write_all(b"\n")
                })
            })?;
        }
        let surplus = self
            .progress
            .kept
            .len()
            .saturating_sub(self.settings.average_checkpoints);
        self.progress.kept.drain(..surplus);
        let o = &self.train_step.optimizer;
        let mut buffers = vec![&self.train_step.weights.data, &o.first, &o.second];
        buffers.extend(&o.average);
        checkpoint::save(
            &checkpoint::state_file(&self.folder),
            &self.progress,
            &buffers,
        )?;
        self.saved = Some(self.progress.step);
        let _ = std::fs::remove_file(checkpoint::astray_file(&self.folder));
        // Only now does no state name them.
        self.remove_unnamed();
        Ok(())
    }

    fn log_file(&self) -> PathBuf {
        self.folder.join(LOG)
    }

    fn open_log(&self) -> Result<File> {
        let path = self.log_file();
        let opened = OpenOptions::new().create(true).append(true).open(&path);
        opened.map_err(|e| self.log_error(&e))
    }

    fn log_error(&self, error: &std::io::Error) -> Error {
        write_error("cannot write the log", &self.log_file(), error)
    }

    /// Removes kept weights that the state on the disk does not name: they are older, or a kill came between the writing of
    /// weights and of the state, or between the writing of the state and their removal.
    fn remove_unnamed(&self) {
        let named = |path: &Path| {
            let name = path.file_name()?.to_str()?;
            let step = name.strip_prefix("weights-")?.strip_suffix(".checkpoint")?;
            step.parse::<u64>().ok()
        };
        for entry in std::fs::read_dir(&self.folder)
            .into_iter()
            .flatten()
            .flatten()
        {
            let path = entry.path();
            if let Some(step) = named(&path)
                && path == checkpoint::weights_file(&self.folder, step)
                && !self.progress.kept.contains(&step)
                && self.progress.best != Some(step)
            {
                let _ = std::fs::remove_file(path);
            }
        }
    }

    /// Drops the log's lines behind the checkpoint: those steps are taken again.
    fn cut_log(&self) -> Result<()> {
        let path = self.log_file();
        let Ok(file) = File::open(&path) else {
            return Ok(());
        };
        let mut lines = BufReader::new(file).split(b'\n');
        write_atomically(&path, |w| {
            lines
                .by_ref()
                .take(self.progress.step as usize)
                .try_for_each(|line| w.write_all(&[&line?[..], b"\n"].concat()))
        })
    }
}

/// The number of the best of `validations`.
fn best(validations: &[Validation], metric: Metric) -> Option<usize> {
    (0..validations.len()).reduce(|best, i| {
        match validations[i].is_better(&validations[best], metric) {
            true => i,
            false => best,
        }
    })
}

/// A number as JSON has it: what is not finite becomes null.
fn json(x: f64) -> String {
    if x.is_finite() {
        x.to_string()
    } else {
        "null".into()
    }
}
