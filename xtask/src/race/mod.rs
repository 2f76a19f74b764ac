//! `cargo xtask race`: a training of ours and PyTorch's, from the same weights on the same data for the same time, one
//! after the other.

mod contest;
mod curve;
mod document;
mod record;

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::bench::machine::{self, Machine};
use crate::bench::{peers, today};
use crate::{Result, python};
use contest::Contest;
use record::Record;

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum What {
    /// The race.
    Run,
    /// Nothing: draws docs/race.md from the last one.
    Draw,
}

/// Which sentences share a batch of PyTorch's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Batches {
    /// Those of like length, which saves padding.
    Lengths,
    /// Any, as in ours.
    Drawn,
}

impl Batches {
    /// For `race_torch.py`.
    fn option(self) -> &'static str {
        match self {
            Batches::Lengths => "lengths",
            Batches::Drawn => "drawn",
        }
    }

    fn words(self) -> &'static str {
        match self {
            Batches::Lengths => "batches of like lengths",
            Batches::Drawn => "drawn batches",
        }
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct RaceArgs {
    #[arg(value_enum, default_value_t = What::Run)]
    what: What,
    /// Minutes of updates for each side; validations come on top.
    #[arg(long, default_value_t = 30.0)]
    minutes: f64,
    /// Threads of each side.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Batches of PyTorch's: like lengths, as is usual there, or drawn as ours, which shows best what an update is worth.
    /// Each of them is a run.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Batches::Lengths, Batches::Drawn])]
    batches: Vec<Batches>,
    /// Race our programs as they were built last.
    #[arg(long)]
    no_build: bool,
    /// Print the result; save and draw nothing.
    #[arg(long)]
    dry: bool,
    /// Race although something else is at work on the machine.
    #[arg(long)]
    busy: bool,
}

pub(crate) fn run(args: &RaceArgs) -> Result<()> {
    if args.what == What::Draw {
        return document::draw(&Record::read()?);
    }
    if !(args.minutes > 0.0 && args.minutes.is_finite()) {
        return Err(format!("--minutes: above 0, not {}", args.minutes));
    }
    let python = python::with(&python::BENCH)?;
    if !args.no_build {
        peers::build(&["hexapla-bench", "hexapla-cli"], false)?;
    }
    if !args.busy {
        machine::check_idle()?;
    }
    let record = race(args, python)?;
    // Before anything is printed: nobody may be reading any more.
    if !args.dry {
        record.write()?;
        document::draw(&record)?;
    }
    println!("\n{}", document::table(&record));
    Ok(())
}

fn race(args: &RaceArgs, python: PathBuf) -> Result<Record> {
    // What is changed or committed meanwhile does not race.
    let machine = Machine::here();
    let contest = Contest::prepare(args.minutes, args.threads, python)?;
    let ours = ("hexapla".to_string(), env!("CARGO_PKG_VERSION").to_string());
    let mut versions = BTreeMap::from([ours]);
    let mut peers = Vec::new();
    // Before the first long run: is there anything to compare?
    for batches in &args.batches {
        let peer = contest.peer(*batches)?;
        println!("PyTorch: {}", peer.way.setting);
        versions.insert("PyTorch".into(), peer.version.clone());
        peers.push(peer);
    }
    let mut record = Record {
        date: today(),
        command: command(args),
        machine,
        versions,
        minutes: args.minutes,
        threads: args.threads,
        setup: contest.setup.clone(),
        entrants: Vec::new(),
    };
    record.add(|| contest.ours())?;
    for peer in &peers {
        record.add(|| contest.peers(peer))?;
    }
    Ok(record)
}

/// The command that races as it was raced.
fn command(args: &RaceArgs) -> String {
    let batches: Vec<&str> = args.batches.iter().map(|b| b.option()).collect();
    format!(
        "cargo xtask race --minutes {} --threads {} --batches {}",
        args.minutes,
        args.threads,
        batches.join(",")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: RaceArgs,
    }

    #[test]
    fn the_command_says_what_was_raced() {
        for line in [
            "cargo xtask race --minutes 30 --threads 2 --batches lengths",
            "cargo xtask race --minutes 0.5 --threads 1 --batches lengths,drawn",
        ] {
            // The first word stands for the program's name.
            let words = line.split(' ').skip(2);
            assert_eq!(command(&Line::parse_from(words).args), line);
        }
        assert_eq!(Line::parse_from(["race", "draw"]).args.what, What::Draw);
    }
}
