//! `cargo xtask bench`: this machine, us and our peers, in turn.

mod check;
mod definition;
mod gemm;
pub(crate) mod machine;
mod pairs;
pub(crate) mod peers;
pub(crate) mod plot;
mod race;
pub(crate) mod report;
mod results;
mod startup;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

use crate::{Result, python};
use machine::Machine;
use report::Row;
use results::{Plot, Section};

/// What to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum What {
    /// Matrix products, against the machine's limits.
    Gemm,
    /// Training steps and an epoch.
    Train,
    /// Decoding.
    Translate,
    /// Vectors of texts, and scores of pairs.
    Embed,
    /// Going on with prompts.
    Generate,
    /// Process start to first word.
    Startup,
    /// Rates as work grows.
    Scaling,
    /// All of them.
    All,
    /// Nothing: draws the tables of docs/benchmarks.md and its curves from what was measured.
    Draw,
}

/// Measures a section.
type Measure = fn(&mut Bench) -> Result<()>;

/// The sections in their order, with how they are measured.
const SECTIONS: [(What, &str, Measure); 7] = [
    (What::Gemm, "gemm", gemm::measure),
    (What::Train, "train", race::measure),
    (What::Translate, "translate", race::measure),
    (What::Embed, "embed", race::measure),
    (What::Generate, "generate", race::measure),
    (What::Startup, "startup", startup::measure),
    (What::Scaling, "scaling", race::measure),
];

/// Which peers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Peers {
    /// Those that pip installs.
    Python,
    /// burn and candle, too, which take minutes to compile.
    All,
}

#[derive(Debug, clap::Args)]
pub(crate) struct BenchArgs {
    #[arg(value_enum, default_value_t = What::All)]
    what: What,
    /// Runs of each side.
    #[arg(long, default_value_t = 7)]
    pairs: usize,
    /// Threads of each side.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    #[arg(long, value_enum, default_value_t = Peers::Python)]
    peers: Peers,
    /// Only rows whose name or peer holds this, such as `tiny`, `batch 1,` or `burn`. Other rows stay as they are.
    #[arg(long)]
    only: Option<String>,
    /// Measure our programs as they were built last.
    #[arg(long)]
    no_build: bool,
    /// Print the results and do not save them.
    #[arg(long)]
    dry: bool,
    /// Measure although something else is at work on the machine.
    #[arg(long)]
    busy: bool,
}

/// What every section needs.
#[derive(Debug)]
struct Bench<'a> {
    args: &'a BenchArgs,
    section: &'static str,
    python: PathBuf,
    machine: Machine,
    versions: BTreeMap<String, String>,
    /// Those of this run.
    rows: Vec<Row>,
}

pub(crate) fn run(args: &BenchArgs) -> Result<()> {
    if args.what == What::Draw {
        return results::draw();
    }
    let python = python::with(&python::BENCH)?;
    if !args.no_build {
        peers::build(&["hexapla-bench", "hexapla-cli"], false)?;
        peers::build(&["hexapla-kernels"], true)?;
    }
    for (what, name, measure) in SECTIONS {
        if args.what != What::All && args.what != what {
            continue;
        }
        println!("{name}");
        if !args.busy {
            machine::check_idle()?;
        }
        let mut bench = Bench {
            args,
            section: name,
            python: python.clone(),
            machine: Machine::with_limits(args.threads)?,
            versions: BTreeMap::new(),
            rows: Vec::new(),
        };
        measure(&mut bench)?;
        bench.finish()?;
    }
    Ok(())
}

impl Bench<'_> {
    /// Whether a row of this name was asked for.
    fn wants(&self, name: &str) -> bool {
        self.args
            .only
            .as_ref()
            .is_none_or(|only| name.contains(only))
    }

    /// Whether all rows were asked for.
    fn whole(&self) -> bool {
        self.args.only.is_none()
    }

    /// Adds a row, or why there is none, shows it, and keeps it.
    fn add(&mut self, work: &str, peer: &str, row: Result<Row>) -> Result<()> {
        let mut row = row.unwrap_or_else(|reason| Row::refused(work, peer, &reason));
        (row.date, row.commit) = (today(), self.machine.commit.clone());
        let table = report::table([&row], &row.commit);
        println!("{}", table.lines().nth(2).unwrap_or_default());
        self.rows.push(row.clone());
        if !self.args.dry {
            let run = self.section(vec![row], Vec::new());
            results::change(self.section, &self.machine, |s| s.take(run, self.whole()))?;
        }
        Ok(())
    }

    /// What is kept of this run.
    fn section(&self, rows: Vec<Row>, plots: Vec<Plot>) -> Section {
        Section {
            rows,
            date: today(),
            command: command(self.section, self.args),
            machine: self.machine.clone(),
            versions: self.versions.clone(),
            plots,
        }
    }

    /// Draws the section's curves from all rows that are known, and adds them to the document. A dry run draws into the cache.
    fn draw(&self) -> Result<()> {
        if self.args.dry {
            return results::draw_curves(self.section, &self.machine, &self.rows, true).map(|_| ());
        }
        let kept = results::change(self.section, &self.machine, |_| ())?;
        let plots = results::draw_curves(self.section, &self.machine, &kept.rows, false)?;
        let run = self.section(Vec::new(), plots);
        results::change(self.section, &self.machine, |s| s.take(run, self.whole())).map(|_| ())
    }

    fn finish(self) -> Result<()> {
        let table = report::table(&self.rows, &self.machine.commit);
        println!("\n{}\n{table}", self.machine);
        if self.args.dry || !self.whole() {
            return Ok(());
        }
        let left_out = match self.args.peers {
            Peers::Python => &["burn", "candle"][..],
            Peers::All => &[],
        };
        results::change(self.section, &self.machine, |s| {
            s.settle(&self.rows, left_out)
        })
        .map(|_| ())
    }
}

/// The command that measures this section as it was measured.
fn command(name: &str, args: &BenchArgs) -> String {
    let peers = match args.peers {
        Peers::Python => "",
        Peers::All => " --peers all",
    };
    let busy = if args.busy { " --busy" } else { "" };
    let built = if args.no_build { " --no-build" } else { "" };
    format!(
        "cargo xtask bench {name} --pairs {} --threads {}{peers}{busy}{built}",
        args.pairs, args.threads
    )
}

/// The date as `date` prints it: the standard library has no calendar.
pub(crate) fn today() -> String {
    Command::new("date")
        .args(["-u", "+%Y-%m-%d"])
        .output()
        .map(|o| String::from_utf8_lossy(&o.stdout).trim().to_string())
        .unwrap_or_default()
}
