//! A race: both sides checked, then in turn, and the rows that come of it.

use std::path::PathBuf;

use super::Bench;
use super::check::Agreed;
use super::pairs::Pairs;
use super::peers::{self, Side, Way};
use super::report::{Bar, Compared, Measured, Row, Work};
use crate::Result;

/// What two sides do.
pub(super) trait Contest {
    /// The peer's job, and the commands of a short run of it: the first warms, the second is timed.
    fn trial(&self) -> (PathBuf, [&str; 2]);

    /// Starts both sides on what is timed.
    ///
    /// # Errors
    /// A side does not start.
    fn start(&self, ours: &Way, peer: &Way) -> Result<(Side, Side)>;

    /// Sees that both compute the same thing.
    ///
    /// # Errors
    /// They do not.
    fn check(&self, ours: &Way, peer: &Way) -> Result<Agreed>;

    /// Warms both sides; gives the command of a run.
    ///
    /// # Errors
    /// A side fails.
    fn command(&self, ours: &mut Side, peer: &mut Side) -> Result<String>;
}

/// What is told of a race.
#[derive(Debug, Default)]
pub(super) struct Race<'a> {
    pub(super) name: &'a str,
    pub(super) peer: &'a str,
    pub(super) bar: Option<Bar>,
    /// The kind of arithmetic, and its Gop in each of our tokens.
    pub(super) limit: Option<(&'a str, f64)>,
    /// Pairs, if not as many as were asked for.
    pub(super) pairs: Option<usize>,
    /// A second row: what it is called, the answer's key, and what is aimed at.
    pub(super) memory: Option<(&'a str, &'a str, Option<Bar>)>,
}

impl Race<'_> {
    /// Runs it and adds its rows; why there is none is a row, too.
    pub(super) fn run(
        &self,
        bench: &mut Bench,
        ours: &Way,
        ways: Result<Vec<Way>>,
        contest: Result<impl Contest>,
    ) -> Result<()> {
        if !bench.wants(&format!("{}, {}", self.name, self.peer)) {
            return Ok(());
        }
        let rows = ways.and_then(|ways| self.rows(bench, ours, &ways, &contest?));
        match rows {
            Ok(rows) => rows
                .into_iter()
                .try_for_each(|row| bench.add(self.name, self.peer, row)),
            Err(reason) => bench.add(self.name, self.peer, Err(reason)),
        }
    }

    fn rows(
        &self,
        bench: &mut Bench,
        ours: &Way,
        ways: &[Way],
        contest: &impl Contest,
    ) -> Result<Vec<Result<Row>>> {
        let (job, [warm, run]) = contest.trial();
        let way = peers::best(ways, &job, warm, run)?;
        let agreed = contest.check(ours, way)?;
        let (mut a, mut b) = contest.start(ours, way)?;
        let command = contest.command(&mut a, &mut b)?;
        let count = self
            .pairs
            .map_or(bench.args.pairs, |most| most.min(bench.args.pairs));
        let pairs = Pairs::in_turn(count, || a.rate(&command), || b.rate(&command))?;
        for (name, side) in [("hexapla", &a), (self.peer, &b)] {
            bench.versions.insert(name.into(), side.version.clone());
        }
        let sides = |way: &Way| {
            [
                Measured::by("hexapla", ""),
                Measured::by(self.peer, &way.setting),
            ]
        };
        let mut row = Compared::new(
            Work::new(self.name, "tokens/s", self.bar),
            sides(way),
            &pairs,
            &agreed,
        );
        if let Some((kind, cost)) = self.limit {
            let limit = bench.machine.limit(kind, bench.args.threads);
            row = row.of_limit(kind, limit, cost);
        }
        let mut rows = vec![Ok(Row::Compared(row))];
        if let Some((memory, key, bar)) = self.memory {
            drop(b);
            rows.push((|| {
                let mib = peers::number(&a.ask(run)?, key)?;
                let (way, theirs) = peers::least(ways, &job, run, key)?;
                let work = Work::new(&format!("{}, {memory}", self.name), "MiB", bar);
                let pairs = Pairs(vec![(mib, theirs)]);
                Ok(Row::Compared(Compared::new(
                    work,
                    sides(way),
                    &pairs,
                    &agreed,
                )))
            })());
        }
        Ok(rows)
    }
}
