//! `hexapla train`

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use crate::demo;
use hexapla::config::{Precision, Recipe, Task, TrainingTable};
use hexapla::error::{Error, Result};
use hexapla::fastest;
use hexapla::train::data::Data;
use hexapla::train::progress::{Point, Progress, Sample, Validation, short};
use hexapla::train::session::{Outcome, Session, SessionOptions};
use hexapla::train::shards::StepReport;
use hexapla::train::tensorboard::TensorBoard;
use hexapla::train::trainer::{Ended, Watcher};
use indicatif::{HumanDuration, ProgressBar, ProgressStyle};

use crate::console::{broken, say, shown};
use crate::signals::Caught;

#[derive(Debug, clap::Args)]
#[command(allow_negative_numbers = true)]
pub(crate) struct TrainArgs {
    /// Recipe (TOML); flags below override it.
    #[arg(long, short)]
    config: Option<PathBuf>,
    /// Learn Chinese numerals ↔ English number words, made by the program itself.
    #[arg(long, conflicts_with_all = ["config", "tsv", "source", "target"])]
    demo: bool,
    /// Folder for the model and the training's state. The same command goes on where it stopped.
    #[arg(long, short)]
    output: PathBuf,
    /// Source and target, tab-separated.
    #[arg(long, conflicts_with_all = ["source", "target"])]
    tsv: Option<PathBuf>,
    /// Source sentences.
    #[arg(long, requires = "target")]
    source: Option<PathBuf>,
    /// Target sentences.
    #[arg(long, requires = "source")]
    target: Option<PathBuf>,
    /// Texts that a decoder alone learns to go on with (`task = "language"`); may be given several times.
    #[arg(long, conflicts_with_all = ["tsv", "source", "demo"])]
    text: Vec<PathBuf>,
    /// tiny, small, base or big.
    #[arg(long)]
    preset: Option<String>,
    /// Arithmetic of the large products: float32 or bf16.
    #[arg(long)]
    precision: Option<Precision>,
    /// Updates after which training ends.
    #[arg(long)]
    max_steps: Option<usize>,
    /// Minutes after which training ends.
    #[arg(long)]
    max_minutes: Option<f64>,
    /// Keys every random choice.
    #[arg(long)]
    seed: Option<u64>,
    /// Go on with a training although the recipe now differs in what ends, paces, saves or judges it.
    #[arg(long)]
    change: bool,
    /// Replace a model that lies in the folder already and was not made there.
    #[arg(long)]
    replace: bool,
}

impl TrainArgs {
    fn recipe(&self) -> Result<Recipe> {
        let mut recipe = match &self.config {
            Some(path) => Recipe::open(path)?,
            None if self.demo => demo::recipe(),
            None if !self.text.is_empty() => Recipe::of_task(Task::Language),
            None => Recipe::default(),
        };
        if !self.text.is_empty() {
            recipe.data.text.clone_from(&self.text);
            recipe.data.json_lines.clear();
        }
        if self.tsv.is_some() || self.source.is_some() {
            recipe.data.corpora.clear();
            recipe.data.tsv.clone_from(&self.tsv);
            recipe.data.source.clone_from(&self.source);
            recipe.data.target.clone_from(&self.target);
        }
        if self.preset.is_some() {
            recipe.model.preset.clone_from(&self.preset);
        }
        let t = &mut recipe.training;
        t.precision = self.precision.unwrap_or(t.precision);
        t.max_steps = self.max_steps.unwrap_or(t.max_steps);
        t.max_minutes = self.max_minutes.or(t.max_minutes);
        t.seed = self.seed.unwrap_or(t.seed);
        recipe.validate()?;
        Ok(recipe)
    }
}

pub(crate) fn run(args: TrainArgs) -> Result<ExitCode> {
    let recipe = args.recipe()?;
    let command = std::iter::once("hexapla".to_string())
        .chain(
            std::env::args_os()
                .skip(1)
                .map(|a| a.to_string_lossy().into_owned()),
        )
        .collect::<Vec<_>>()
        .join(" ");
    let demo = args.demo;
    let options = SessionOptions {
        command: &command,
        change: args.change,
        replace: args.replace,
        ..SessionOptions::new(recipe.clone(), &args.output)
    };
    let prepare = if demo { demo::data } else { Data::prepare };
    let mut session = Session::open_with(options, prepare)?;
    say(session.data.audit());
    if !session.data.filters().is_empty() {
        say(session.data.filters());
    }
    session.data.notes().iter().for_each(say);
    let model = &session.trainer.train_step().model;
    say(format_args!(
        "{} parameters, {}",
        model.index().len(),
        session.data.amount()
    ));
    let done = session.trainer.progress().step;
    if recipe.training.precision == Precision::Auto {
        let precision = session.precision();
        match fastest::precision() {
            measured if measured.chosen == precision => say(format_args!("precision: {measured}")),
            _ => say(format_args!("precision: {precision}, as it began")),
        }
    }
    if done > 0 {
        say(format_args!("going on after step {done}"));
    }
    for change in session.trainer.changes() {
        say(format_args!("changed {change}"));
    }
    let mut console = Console::new(&recipe, done, &args.output)?;
    let caught = Caught::new(&session.trainer.signal())?;
    let outcome = session.run(&mut console)?;
    drop(caught);
    console.bar.finish_and_clear();
    if let Ended::Signal(signal) = outcome.ended {
        say(format_args!(
            "saved after step {}; the same command goes on from there",
            session.trainer.progress().step
        ));
        return Ok(ExitCode::from(128u8.wrapping_add(signal as u8)));
    }
    tell(&outcome, &args.output).map_err(broken)?;
    if demo && outcome.saved.is_some() {
        demo::test(&recipe, &args.output)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What was made, and how good it is.
fn tell(outcome: &Outcome, folder: &Path) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    for m in &outcome.metrics {
        writeln!(out, "{} {:.2}  {}", m.name, m.value, m.signature)?;
    }
    for t in &outcome.tests {
        writeln!(out, "test {}\n{}", t.name, t.scores)?;
    }
    if let Some(saved) = &outcome.saved {
        let (family, folder) = (saved.family, folder.display());
        writeln!(out, "model ({family}) and report.html written to {folder}")?;
        if let Some(note) = &saved.note {
            writeln!(out, "note: {note}")?;
        }
    }
    out.flush()
}

/// Characters of a sample in a line.
const SHOWN: usize = 100;
/// Seconds between two lines about the steps where there is no bar.
const LINE_EVERY: u64 = 60;

/// Shows a bar on a terminal and a few lines elsewhere, and writes TensorBoard's file.
struct Console {
    bar: ProgressBar,
    board: TensorBoard,
    task: Task,
    training: TrainingTable,
    latest: Option<Point>,
    last_line: Instant,
    error: Option<Error>,
}

impl Console {
    fn new(recipe: &Recipe, done: u64, folder: &Path) -> Result<Self> {
        let bar = if std::io::stderr().is_terminal() {
            ProgressBar::new(recipe.training.max_steps as u64)
        } else {
            ProgressBar::hidden()
        };
        let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.set_position(done);
        let folder = folder.join("training").join("tensorboard");
        let board = if done == 0 {
            TensorBoard::create(&folder)?
        } else {
            TensorBoard::resume(&folder, done + 1)?
        };
        Ok(Console {
            bar,
            board,
            task: recipe.task,
            training: recipe.training.clone(),
            latest: None,
            last_line: Instant::now(),
            error: None,
        })
    }

    fn scalar(&mut self, tag: &str, step: u64, value: f64) {
        if let Err(e) = self.board.scalar(tag, step, value as f32) {
            // The first failure is told; training matters more than its plot.
            if self.error.is_none() {
                self.note(&format!("TensorBoard: {e}"));
                self.error = Some(e);
            }
        }
    }
}

/// Seconds until the steps or the minutes are used up, whichever comes first. Early stopping may come before.
fn seconds_left(t: &TrainingTable, progress: &Progress) -> f64 {
    let steps = (t.max_steps as f64 - progress.step as f64).max(0.0);
    let by_steps = progress.seconds / (progress.step as f64).max(1.0) * steps;
    let by_time = t
        .max_minutes
        .map(|m| (m * 60.0 - progress.counted_seconds(t)).max(0.0));
    by_time.map_or(by_steps, |by_time| by_steps.min(by_time))
}

impl Watcher for Console {
    fn step(&mut self, progress: &Progress, _report: &StepReport, rate: f32) {
        self.bar.set_position(progress.step);
        let line_is_due = self.bar.is_hidden() && self.last_line.elapsed().as_secs() >= LINE_EVERY;
        let Some(p) = self.latest.filter(|_| line_is_due || !self.bar.is_hidden()) else {
            return;
        };
        let left = Duration::try_from_secs_f64(seconds_left(&self.training, progress));
        let message = format!(
            "loss {} rate {rate:.1e} {:.0} target tokens/s, {} left",
            short(p.loss, 3),
            p.tokens_per_second,
            HumanDuration(left.unwrap_or_default())
        );
        if line_is_due {
            let (step, most) = (progress.step, self.training.max_steps);
            self.note(&format!("step {step} of {most}: {message}"));
            self.last_line = Instant::now();
        } else {
            self.bar.set_message(message);
        }
    }

    fn point(&mut self, p: &Point) {
        self.latest = Some(*p);
        self.scalar("train/loss", p.step, p.loss);
        self.scalar("train/learning_rate", p.step, p.learning_rate);
        self.scalar("train/gradient_norm", p.step, p.gradient_norm);
        self.scalar("train/tokens_per_second", p.step, p.tokens_per_second);
    }

    fn validation(&mut self, v: &Validation, best: bool, samples: &[Sample]) {
        let mark = if best { " (best)" } else { "" };
        let (loss, perplexity) = (short(v.loss, 4), short(v.perplexity, 2));
        let scores = match self.task {
            Task::Translation => format!(
                ", BLEU {:.2}, chrF {:.2}, exact match {:.2} %",
                v.bleu, v.chrf, v.exact_match
            ),
            Task::Language => String::new(),
        };
        let step = v.step;
        self.note(&format!(
            "step {step}: loss {loss}, perplexity {perplexity}{scores}{mark}"
        ));
        if let (Task::Language, Some(sample)) = (self.task, samples.first()) {
            let visible = |c: &char| !c.is_control() || *c == '\n';
            let text = sample.hypothesis.chars().filter(visible);
            let text: String = text.take(SHOWN).collect();
            self.note(&format!("  … {}", shown(&text)));
        }
        self.last_line = Instant::now();
        self.scalar("valid/loss", v.step, v.loss);
        if self.task == Task::Language {
            let _ = self.board.flush();
            return;
        }
        self.scalar("valid/bleu", v.step, v.bleu);
        self.scalar("valid/chrf", v.step, v.chrf);
        self.scalar("valid/exact_match", v.step, v.exact_match);
        let _ = self.board.flush();
    }

    fn note(&mut self, line: &str) {
        if self.bar.is_hidden() {
            say(line);
        } else {
            self.bar.println(line);
        }
    }
}
