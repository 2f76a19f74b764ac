//! `cargo xtask bench`: this machine, us and our peers, in turn.

mod check;
mod gemm;
mod machine;
mod pairs;
mod peers;
mod plot;
mod report;
mod scaling;
mod startup;
mod train;
mod translate;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

use crate::{Result, python};
use machine::Machine;
use pairs::Pairs;
use peers::Side;
use report::{Plot, Refused, Row, Section};

/// What to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum What {
    /// Matrix products, against the machine's limits.
    Gemm,
    /// Training steps and an epoch.
    Train,
    /// Decoding.
    Translate,
    /// Process start to first word.
    Startup,
    /// Rates as work grows.
    Scaling,
    /// All of them.
    All,
}

impl What {
    /// The section's name.
    fn name(self) -> &'static str {
        match self {
            What::Gemm => "gemm",
            What::Train => "train",
            What::Translate => "translate",
            What::Startup => "startup",
            What::Scaling => "scaling",
            What::All => "all",
        }
    }

    fn measure(self, bench: &mut Bench) -> Result<()> {
        match self {
            What::Gemm => gemm::measure(bench),
            What::Train => train::measure(bench),
            What::Translate => translate::measure(bench),
            What::Startup => startup::measure(bench),
            What::Scaling => scaling::measure(bench),
            What::All => Ok(()),
        }
    }
}

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
    /// Only rows whose name holds this, such as `tiny` or `batch 1,`. The results then are printed and not saved.
    #[arg(long)]
    only: Option<String>,
    /// Measure our programs as they were built last.
    #[arg(long)]
    no_build: bool,
    /// Print the results and do not save them.
    #[arg(long)]
    dry: bool,
}

/// What every section needs.
#[derive(Debug)]
struct Bench<'a> {
    args: &'a BenchArgs,
    python: PathBuf,
    machine: Machine,
    versions: BTreeMap<String, String>,
    rows: Vec<Row>,
    plots: Vec<Plot>,
}

pub(crate) fn run(args: &BenchArgs) -> Result<()> {
    let python = python::with(&python::BENCH)?;
    if !args.no_build {
        peers::build(&["hexapla-bench", "hexapla-cli"], false)?;
        peers::build(&["hexapla-kernels"], true)?;
    }
    for what in [
        What::Gemm,
        What::Train,
        What::Translate,
        What::Startup,
        What::Scaling,
    ] {
        if args.what != What::All && args.what != what {
            continue;
        }
        let name = what.name();
        println!("{name}");
        let mut bench = Bench {
            args,
            python: python.clone(),
            machine: Machine::here(args.threads)?,
            versions: BTreeMap::new(),
            rows: Vec::new(),
            plots: Vec::new(),
        };
        what.measure(&mut bench)?;
        bench.finish(name)?;
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

    /// Adds a row, or why there is none, and shows it.
    fn add(&mut self, work: &str, peer: &str, row: Result<Row>) {
        let row = row.unwrap_or_else(|reason| {
            Row::Refused(Refused {
                work: work.into(),
                peer: peer.into(),
                reason,
            })
        });
        let table = report::table(std::slice::from_ref(&row));
        print!("{}", table.lines().nth(2).unwrap_or_default());
        println!();
        self.rows.push(row);
    }

    /// Remembers what versions are measured.
    fn met(&mut self, name: &str, side: &Side) {
        self.versions.insert(name.into(), side.version.clone());
    }

    /// As many runs of both sides in turn as were asked for.
    fn in_turn(&self, ours: &mut Side, peer: &mut Side, command: &str) -> Result<Pairs> {
        Pairs::in_turn(
            self.args.pairs,
            || ours.rate(command),
            || peer.rate(command),
        )
    }

    fn finish(self, name: &str) -> Result<()> {
        println!("\n{}\n{}", self.machine, report::table(&self.rows));
        if self.args.dry || self.args.only.is_some() {
            return Ok(());
        }
        report::save(
            name,
            Section {
                date: today(),
                command: command(name, self.args),
                machine: self.machine,
                versions: self.versions,
                rows: self.rows,
                plots: self.plots,
            },
        )
    }
}

/// The command that measures this section as it was measured.
fn command(name: &str, args: &BenchArgs) -> String {
    let peers = match args.peers {
        Peers::Python => "",
        Peers::All => " --peers all",
    };
    format!(
        "cargo xtask bench {name} --pairs {} --threads {}{peers}",
        args.pairs, args.threads
    )
}

/// The date as `date` prints it: the standard library has no calendar.
fn today() -> String {
    Command::new("date")
        .args(["-u", "+%Y-%m-%d"])
        .output()
        .map(|o| String::from_utf8_lossy(&o.stdout).trim().to_string())
        .unwrap_or_default()
}
