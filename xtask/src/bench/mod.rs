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
mod scaling;
mod startup;
mod train;
mod translate;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

use crate::{Result, python};
use machine::Machine;
use report::{Refused, Row};
use results::{Entry, Plot, Section};

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
    /// Nothing: draws the tables of docs/benchmarks.md and its curves from what was measured.
    Draw,
}

/// The sections in their order, with how they are measured.
const SECTIONS: [(What, &str, fn(&mut Bench) -> Result<()>); 5] = [
    (What::Gemm, "gemm", gemm::measure),
    (What::Train, "train", train::measure),
    (What::Translate, "translate", translate::measure),
    (What::Startup, "startup", startup::measure),
    (What::Scaling, "scaling", scaling::measure),
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
        let row = row.unwrap_or_else(|reason| {
            Row::Refused(Refused {
                work: work.into(),
                peer: peer.into(),
                reason,
            })
        });
        let table = report::table([(&row, String::new())]);
        println!("{}", table.lines().nth(2).unwrap_or_default());
        self.rows.push(row.clone());
        if !self.args.dry {
            let run = self.section(vec![row], Vec::new());
            results::change(self.section, |s| s.take(run, self.whole()))?;
        }
        Ok(())
    }

    /// What is kept of this run.
    fn section(&self, rows: Vec<Row>, plots: Vec<Plot>) -> Section {
        let date = today();
        let entry = |row| Entry {
            row,
            date: date.clone(),
            commit: self.machine.commit.clone(),
        };
        Section {
            rows: rows.into_iter().map(entry).collect(),
            command: command(self.section, self.args),
            machine: self.machine.clone(),
            versions: self.versions.clone(),
            date,
            plots,
        }
    }

    /// All rows of the section: this run's, and those that were kept before.
    fn known(&self) -> Result<Vec<Row>> {
        if self.args.dry {
            return Ok(self.rows.clone());
        }
        let kept = results::change(self.section, |_| ())?;
        Ok(kept.rows.into_iter().map(|e| e.row).collect())
    }

    /// Adds figures to the document.
    fn plot(&self, plots: Vec<Plot>) -> Result<()> {
        if !self.args.dry {
            let run = self.section(Vec::new(), plots);
            results::change(self.section, |s| s.take(run, self.whole()))?;
        }
        Ok(())
    }

    fn finish(self) -> Result<()> {
        let rows = self.rows.iter().map(|row| (row, String::new()));
        println!("\n{}\n{}", self.machine, report::table(rows));
        if self.args.dry || !self.whole() {
            return Ok(());
        }
        let left_out = match self.args.peers {
            Peers::Python => &["burn", "candle"][..],
            Peers::All => &[],
        };
        results::change(self.section, |s| s.settle(&self.rows, left_out)).map(|_| ())
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
