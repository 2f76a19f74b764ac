//! `hexapla train`

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use hexapla::config::{Metric, ModelTable, Precision, Recipe, TokenizerKind};
use hexapla::error::{Error, Result};
use hexapla::text::corpus::SentencePairs;
use hexapla::text::numerals;
use hexapla::train::data::Data;
use hexapla::train::progress::{Point, Progress, Validation};
use hexapla::train::session::{Outcome, Session};
use hexapla::train::shards::StepReport;
use hexapla::train::tensorboard::TensorBoard;
use hexapla::train::trainer::{Ended, Watcher};
use indicatif::{ProgressBar, ProgressStyle};

use crate::console::{broken, say};

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
}

impl TrainArgs {
    fn recipe(&self) -> Result<Recipe> {
        let mut recipe = match &self.config {
            Some(path) => Recipe::open(path)?,
            None if self.demo => demo_recipe(),
            None => Recipe::default(),
        };
        if self.tsv.is_some() || self.source.is_some() {
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

/// The recipe of `--demo`.
fn demo_recipe() -> Recipe {
    let mut recipe = Recipe {
        model: ModelTable {
            preset: Some("tiny".into()),
            layers: Some(2),
            dropout: Some(0.0),
            ..ModelTable::default()
        },
        ..Recipe::default()
    };
    recipe.data.max_tokens = 200;
    recipe.tokenizer.kind = TokenizerKind::Bpe;
    recipe.tokenizer.vocab_size = 400;
    recipe.tokenizer.character_coverage = 1.0;
    let t = &mut recipe.training;
    (t.batch_tokens, t.learning_rate, t.warmup_steps) = (4096, 2e-3, 400);
    (t.max_steps, t.max_minutes) = (3000, Some(4.0));
    (t.valid_every, t.save_every, t.patience) = (250, 250, 0);
    t.metric = Metric::Chrf;
    recipe
}

fn demo_data(recipe: &Recipe, folder: &Path) -> Result<Data> {
    let made = numerals::pairs(recipe.training.seed, 20_000, 500)?;
    let both = |pairs: &[numerals::NumeralPair]| {
        let mut text = SentencePairs::default();
        for p in pairs {
            text.source.extend([
                format!(">>en<< {}", p.chinese),
                format!(">>zh<< {}", p.english),
            ]);
            text.target.extend([p.english.clone(), p.chinese.clone()]);
        }
        text
    };
    Data::from_pairs(
        recipe,
        both(&made.training),
        Some(both(&made.held_out)),
        folder,
        Default::default(),
    )
}

pub(crate) fn run(args: TrainArgs) -> Result<ExitCode> {
    let mut recipe = args.recipe()?;
    if args.demo {
        recipe.tokenizer.special_tokens = vec![">>en<<".into(), ">>zh<<".into()];
    }
    let command = std::iter::once("hexapla".to_string())
        .chain(std::env::args().skip(1))
        .collect::<Vec<_>>()
        .join(" ");
    let demo = args.demo;
    let for_data = recipe.clone();
    let mut session = Session::open(recipe.clone(), &args.output, &command, |folder| {
        if demo {
            demo_data(&for_data, folder)
        } else {
            Data::prepare(&for_data, folder)
        }
    })?;
    say(format_args!(
        "{}\n{}",
        session.data.audit, session.data.filters
    ));
    let model = &session.trainer.learner().model;
    say(format_args!(
        "{} parameters, {} training pairs",
        model.index().len(),
        session.data.train.len()
    ));
    let done = session.trainer.progress().step;
    if done > 0 {
        say(format_args!("going on after step {done}"));
    }
    let mut console = Console::new(&recipe, done, &args.output)?;
    let outcome = session.run(&mut console)?;
    console.bar.finish_and_clear();
    if let Ended::Signal(signal) = outcome.ended {
        say(format_args!(
            "saved after step {}; the same command goes on from there",
            session.trainer.progress().step
        ));
        return Ok(ExitCode::from(128u8.wrapping_add(signal as u8)));
    }
    tell(&outcome, &args.output).map_err(broken)?;
    Ok(ExitCode::SUCCESS)
}

/// What was made, and how good it is.
fn tell(outcome: &Outcome, folder: &Path) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    for m in &outcome.metrics {
        writeln!(out, "{} {:.2}  {}", m.name, m.value, m.signature)?;
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

/// Shows a bar on a terminal and lines elsewhere, and writes TensorBoard's file.
struct Console {
    bar: ProgressBar,
    board: TensorBoard,
    latest: Option<Point>,
    error: Option<Error>,
}

impl Console {
    fn new(recipe: &Recipe, done: u64, folder: &Path) -> Result<Self> {
        let bar = if std::io::stderr().is_terminal() {
            ProgressBar::new(recipe.training.max_steps as u64)
        } else {
            ProgressBar::hidden()
        };
        let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {msg} {eta} left");
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
            latest: None,
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

impl Watcher for Console {
    fn step(&mut self, progress: &Progress, _report: &StepReport, rate: f32) {
        self.bar.set_position(progress.step);
        if let Some(p) = &self.latest {
            let message = format!(
                "loss {:.3} rate {rate:.1e} {:.0} tokens/s",
                p.loss, p.tokens_per_second
            );
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

    fn validation(&mut self, v: &Validation, best: bool) {
        let mark = if best { " (best)" } else { "" };
        let line = format!(
            "step {}: loss {:.4}, perplexity {:.2}, BLEU {:.2}, chrF {:.2}{mark}",
            v.step, v.loss, v.perplexity, v.bleu, v.chrf
        );
        self.note(&line);
        self.scalar("valid/loss", v.step, v.loss);
        self.scalar("valid/bleu", v.step, v.bleu);
        self.scalar("valid/chrf", v.step, v.chrf);
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
