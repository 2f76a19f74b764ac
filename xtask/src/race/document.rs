//! `docs/race.md` and its plots, drawn from the record.

use std::fmt::Write as _;

use super::curve::Point;
use super::record::{Entrant, Record};
use crate::bench::plot::{Line, plot};
use crate::bench::report::{amount, markdown};
use crate::{Result, root, write_whole};

/// Figures, relative to `docs/`.
const UPDATES: &str = "benchmarks/race-updates.svg";
const MINUTES: &str = "benchmarks/race-minutes.svg";

/// Writes the document and draws its plots.
///
/// # Errors
/// A file cannot be written.
pub(super) fn draw(record: &Record) -> Result<()> {
    let docs = root().join("docs");
    let draw = |file: &str, x: &str, of: fn(&Point) -> f64| {
        let axes = [x, "validation loss (−ln p a token)"];
        plot(
            &docs.join(file),
            "German → English, Tatoeba",
            axes,
            false,
            lines(record, of),
        )
    };
    draw(UPDATES, "updates", |p| p.update)?;
    draw(MINUTES, "minutes of training", minutes)?;
    write_whole(&docs.join("race.md"), &render(record))
}

fn minutes(point: &Point) -> f64 {
    point.seconds / 60.0
}

/// A line for each side.
fn lines(record: &Record, of: fn(&Point) -> f64) -> Vec<Line> {
    let line = |e: &Entrant| (e.called(), e.curve.drawn(of));
    record.entrants.iter().map(line).collect()
}

impl Entrant {
    /// Its name, and of PyTorch's runs their batches.
    fn called(&self) -> String {
        match self.setting.split_once(", ") {
            Some((batches, _)) => format!("{} ({batches})", self.name),
            None => self.name.clone(),
        }
    }
}

/// The result: a column for each side.
pub(super) fn table(record: &Record) -> String {
    let entrants = &record.entrants;
    let row = |name: String, of: &dyn Fn(&Entrant) -> Option<String>| -> Vec<String> {
        let cells = entrants.iter().map(|e| of(e).unwrap_or_default());
        [name].into_iter().chain(cells).collect()
    };
    let loss = |loss: f64| format!("{loss:.4}");
    let mut rows = vec![
        row("updates made".into(), &|e| {
            Some(format!("{:.0}", e.curve.last().update))
        }),
        row("target tokens a second".into(), &|e| {
            Some(amount(e.curve.rate()))
        }),
        row("validation loss before any update".into(), &|e| {
            e.curve.points.first().map(|p| loss(p.loss))
        }),
    ];
    for third in 1..=3 {
        let at = record.minutes * f64::from(third) / 3.0;
        rows.push(row(format!("… after {} minutes", short(at)), &|e| {
            e.curve.loss_near(minutes, at).map(loss)
        }));
    }
    for at in common_updates(record) {
        rows.push(row(format!("… after {at:.0} updates"), &|e| {
            e.curve.loss_at(|p| p.update, at).map(loss)
        }));
    }
    for peer in entrants.iter().skip(1) {
        let goal = peer.curve.last().loss;
        let name = format!("minutes to the last loss of {}", peer.called());
        rows.push(row(name, &|e| {
            e.curve.seconds_to(goal).map(|s| format!("{:.1}", s / 60.0))
        }));
    }
    for i in 0..entrants.first().map_or(0, |e| e.scores.len()) {
        let name = entrants.first().and_then(|e| e.scores.get(i));
        let name = name.map_or(String::new(), |s| format!("{}, test", s.metric));
        rows.push(row(name, &|e| {
            e.scores.get(i).map(|s| format!("{:.2}", s.value))
        }));
    }
    let names: Vec<String> = entrants.iter().map(Entrant::called).collect();
    let heads: Vec<&str> = [""]
        .into_iter()
        .chain(names.iter().map(String::as_str))
        .collect();
    markdown(&heads, rows)
}

/// Thirds of what all sides reached, as multiples of the updates between validations; what is below one is left out.
fn common_updates(record: &Record) -> Vec<f64> {
    let every = (record.setup.valid_every as f64).max(1.0);
    let ends = record.entrants.iter().map(|e| e.curve.last().update);
    let least = ends.fold(f64::INFINITY, f64::min);
    let mut updates: Vec<f64> = (1..=3)
        .map(|third| (least * f64::from(third) / 3.0 / every).floor() * every)
        .filter(|at| *at > 0.0 && at.is_finite())
        .collect();
    updates.dedup();
    updates
}

/// Without a needless fraction.
fn short(value: f64) -> String {
    format!("{}", (value * 100.0).round() / 100.0)
}

/// The document.
fn render(record: &Record) -> String {
    let Record { setup, machine, .. } = record;
    let versions: Vec<String> = record
        .versions
        .iter()
        .map(|(program, version)| format!("{program} {version}"))
        .collect();
    let mut text = format!(
        "{INTRODUCTION}\n`{}`, {}; {}. {machine}\n\n{}",
        record.command,
        record.date,
        versions.join(", "),
        table(record)
    );
    // Writing to a string does not fail.
    for score in record.entrants.first().map_or(&[][..], |e| &e.scores) {
        let _ = write!(text, "\n{}: `{}`", score.metric, score.signature);
    }
    let _ = write!(
        text,
        "\n\n![Validation loss by updates]({UPDATES})\n\n![Validation loss by minutes]({MINUTES})\n\n## Settings\n\n"
    );
    for e in &record.entrants {
        let command = e.command.as_ref();
        let command = command.map_or(String::new(), |c| format!(": `{c}`"));
        let busy = e.busy_cores.map_or(String::new(), |cores| {
            format!("; others kept {cores:.2} cores at work")
        });
        let _ = writeln!(text, "- {}, {}{command}{busy}", e.name, e.setting);
    }
    let _ = write!(
        text,
        "\n{} threads each, {} parameters; {} training pairs, {} validation pairs, {} test pairs ({}), beam {}.\n\n{SAME}",
        record.threads,
        setup.parameters,
        setup.train_pairs,
        setup.valid_pairs,
        setup.test_pairs,
        setup.test,
        setup.beam_size,
    );
    text
}

const INTRODUCTION: &str = "\
# Training beside PyTorch

Drawn by `cargo xtask race` from `bench/race.json`; do not edit.

One model, trained by `hexapla train --config recipes/race.toml` and by PyTorch (`xtask/bench/race_torch.py`), from the same
weights on the same sentence pairs for the same time, one after the other on the same machine. By updates the curves of
like batches show whether both learn the same from as many tokens; by minutes, what the time is worth. One run of each, with one seed: what
chance does to such a curve was not measured.
";

const SAME: &str = "\
## What is the same

- The architecture, the initial weights and the token ids of all pairs: our program writes them for both. Before the race
  each side computes the validation loss of the initial weights, and where they differ by more than 0.001 of it there is no race.
- Tokens of a batch, counted without padding on the longer side of each pair; Adam and its settings; warm-up and the decay of
  the rate; label smoothing; the norm at which gradients are clipped; the positions and rates of dropout.
- The clock: updates alone, with the making of their batches. Validations, checkpoints and the start of the program do not
  count. A side ends with the first update behind its time.
- Validation: −ln p a token of the same pairs in f32, without dropout, after as many updates. Between two validations the
  table takes a straight line.
- The test: the last weights of each side, not averaged, decoded by `hexapla evaluate` with the same beam. Before that our
  program finds, within 0.001, the validation loss in PyTorch's weights that PyTorch found.

## What is not

- The random numbers: which pairs share a batch, in which order they come, what dropout takes.
- Batches. Ours are random draws without padding. PyTorch pads, so it has sentences of like length in a batch, as is usual
  there: sorted by source and then by target length within pools of 16,384 pairs, the batches then shuffled. Such batches
  are faster but teach less: in a trial of ours (Multi30k, 800 updates) they gave a validation loss of 4.44 where random draws gave
  4.00. So PyTorch runs with random draws too: slower, but what ours is to be compared with by updates.
- Arithmetic. Products of ours are in the recipe's precision. PyTorch may choose between f32 and its autocast to bf16,
  fused attention and separate products, a plain malloc and a tuned one: the fastest in a short run, warm, is raced. Its layers
  are `nn.TransformerEncoderLayer` and `nn.TransformerDecoderLayer`, its Adam is the fused one, and its output layer sees real
  tokens alone. `torch.compile` was not tried: lengths change with every batch.
";

#[cfg(test)]
mod tests {
    use super::super::curve::tests::curve;
    use super::super::record::{Score, Setup};
    use super::*;
    use crate::bench::machine::Machine;

    /// Figures of no race.
    fn record() -> Record {
        let entrant = |name: &str, seconds, losses: &[f64], bleu| Entrant {
            name: name.into(),
            setting: "some batches, bf16".into(),
            command: None,
            busy_cores: Some(0.25),
            curve: curve(seconds, losses),
            scores: vec![Score {
                metric: "BLEU".into(),
                value: bleu,
                signature: "tok:13a".into(),
            }],
        };
        Record {
            date: "2000-01-02".into(),
            command: "cargo xtask race --minutes 3".into(),
            machine: Machine::default(),
            versions: [("PyTorch".to_string(), "1.0".to_string())].into(),
            minutes: 3.0,
            threads: 2,
            setup: Setup {
                valid_every: 100,
                ..Setup::default()
            },
            entrants: vec![
                entrant("ours", 45.0, &[9.0, 5.0, 4.0, 3.0, 2.0], 12.345),
                entrant("PyTorch", 90.0, &[9.0, 5.0, 4.0], 10.0),
            ],
        }
    }

    #[test]
    fn the_table_compares_by_minutes_and_by_updates() {
        let table = table(&record());
        for line in [
            "|  | ours (some batches) | PyTorch (some batches) |",
            "| updates made | 400 | 200 |",
            "| target tokens a second | 88.9 | 44.4 |",
            "| validation loss before any update | 9.0000 | 9.0000 |",
            "| … after 1 minutes | 4.6667 | 6.3333 |",
            "| … after 3 minutes | 2.0000 | 4.0000 |",
            "| … after 100 updates | 5.0000 | 5.0000 |",
            "| … after 200 updates | 4.0000 | 4.0000 |",
            "| minutes to the last loss of PyTorch (some batches) | 1.5 | 3.0 |",
            "| BLEU, test | 12.35 | 10.00 |",
        ] {
            assert!(table.lines().any(|l| l == line), "{line}\n{table}");
        }
    }

    #[test]
    fn a_run_that_ended_before_its_first_validation_has_no_equal_updates() {
        let mut record = record();
        record.entrants[1].curve = curve(1.0, &[9.0]);
        assert!(common_updates(&record).is_empty());
        assert!(!table(&record).contains("100 updates"));
    }

    #[test]
    fn the_document_says_where_its_figures_come_from() {
        let text = render(&record());
        for part in [
            "`cargo xtask race --minutes 3`, 2000-01-02; PyTorch 1.0.",
            "some batches, bf16; others kept 0.25 cores at work",
            "BLEU: `tok:13a`",
            "(benchmarks/race-minutes.svg)",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
    }

    #[test]
    fn a_plot_has_a_line_for_each_side() {
        let lines = lines(&record(), minutes);
        assert_eq!(
            lines[1],
            (
                "PyTorch (some batches)".to_string(),
                vec![(1.5, 5.0), (3.0, 4.0)]
            )
        );
        assert_eq!(lines[0].1.len(), 4);
    }

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let record = record();
        let text = serde_json::to_string(&record).unwrap();
        assert_eq!(serde_json::from_str::<Record>(&text).unwrap(), record);
    }
}
