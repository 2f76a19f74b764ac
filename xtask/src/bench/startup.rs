//! From the start of the process to the first word of a translation, or the first vector.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use serde::Deserialize;
use serde_json::{Value, json};

use super::check::{self, Agreed};
use super::pairs::Pairs;
use super::report::{Bar, Row};
use super::{Bench, definition, peers, race};
use crate::{Result, root, said, succeed};

/// Two engines of 8 bits round in their own ways.
const LEAST_COSINE: f64 = 0.99;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Startup {
    words: usize,
    race: Vec<StartupRace>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct StartupRace {
    answer: Answer,
    compute_type: String,
    peer: String,
    script: String,
    at_most: Option<f64>,
}

/// What the first line is.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Answer {
    Word,
    Vector,
}

pub(super) fn measure(bench: &mut Bench) -> Result<()> {
    let startup: Startup = definition::read("startup")?;
    for race in &startup.race {
        let model = match race.answer {
            Answer::Word => "base",
            Answer::Vector => "embed",
        };
        let name = format!("{model} {}", race.compute_type);
        if bench.wants(&name) {
            let row = run(bench, startup.words, race, &name);
            bench.add(&name, &race.peer, row)?;
        }
    }
    Ok(())
}

fn run(bench: &mut Bench, words: usize, race: &StartupRace, name: &str) -> Result<Row> {
    let program = |name: &str| Command::new(root().join("target/release").join(name));
    let model = match race.answer {
        Answer::Word => race::model(&bench.python)?,
        Answer::Vector => race::made(&bench.python, "make_encoder.py", "encoder")?.join("embed"),
    };
    let mut own = model.clone();
    if race.compute_type == "int8" {
        own.push("hexapla-int8");
        let mut convert = program("hexapla");
        convert.arg("convert").arg("--replace").arg(&model);
        succeed(convert.arg("--output").arg(&own))?;
    }
    let (mut ours, text) = (program("hexapla"), text(race.answer, words)?);
    match race.answer {
        Answer::Word => ours
            .args(["translate", "--no-split", "--beam-size", "1"])
            .args(["--min-decoding-length", "1", "--max-decoding-length", "1"]),
        Answer::Vector => ours.arg("embed"),
    };
    ours.args(["--compute-type", &race.compute_type, "--model"]);
    ours.arg(own).arg(&text);
    let script = peers::script(&bench.python, &race.script);
    let mut peer = Command::new(&script[0]);
    peer.args(&script[1..]).arg(model).arg(&race.compute_type);
    peer.arg(&text);
    // The first run of each warms the file cache.
    let (first, other) = (first_line(&mut ours)?.1, first_line(&mut peer)?.1);
    let agreed = match race.answer {
        Answer::Word => the_same_word(&first, &other),
        Answer::Vector => check::vectors(vector(&first)?, vector(&other)?, LEAST_COSINE),
    }?;
    let pairs = Pairs::in_turn(
        bench.args.pairs,
        || Ok(first_line(&mut ours)?.0),
        || Ok(first_line(&mut peer)?.0),
    )?;
    bench
        .versions
        .insert("hexapla".into(), env!("CARGO_PKG_VERSION").into());
    let row = Row::compared([name, "s"], [&race.peer, ""], &pairs, &agreed);
    Ok(row.with_bar(race.at_most.map(Bar::AtMost)))
}

/// The line that is answered.
fn text(answer: Answer, words: usize) -> Result<String> {
    if let Answer::Vector = answer {
        return Ok("The weather is nice today.".into());
    }
    let spec = peers::write("spec.json", &json!({ "words": words }))?;
    let mut ours = Command::new(root().join("target/release/hexapla-bench"));
    let text = said(ours.arg("words").arg(spec))?;
    let value: Value = serde_json::from_str(&text).map_err(|e| format!("{text:?}: {e}"))?;
    let words: Vec<String> = peers::part(&value, "words")?;
    Ok(words.join(" "))
}

/// Seconds from the start of a process to its first line, and the line.
fn first_line(command: &mut Command) -> Result<(f64, String)> {
    let program = Path::new(command.get_program());
    // Without its folder: reasons go into a document.
    let program = program
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let start = Instant::now();
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| format!("cannot run {program}: {e}"))?;
    let stdout = child.stdout.take().ok_or("a child without pipes")?;
    let mut line = String::new();
    let read = BufReader::new(stdout).read_line(&mut line);
    let seconds = start.elapsed().as_secs_f64();
    let output = child.wait_with_output().map_err(|e| e.to_string())?;
    if !output.status.success() || !read.is_ok_and(|bytes| bytes > 0) {
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.lines().next().unwrap_or("nothing").to_string();
        return Err(format!("{program} failed: {said}"));
    }
    Ok((seconds, line.trim().to_string()))
}

fn vector(line: &str) -> Result<Vec<Vec<f32>>> {
    let vector = serde_json::from_str(line).map_err(|e| format!("no vector: {e}"))?;
    Ok(vec![vector])
}

fn the_same_word(ours: &str, peer: &str) -> Result<Agreed> {
    let number = |word: &str| -> Vec<Vec<u32>> {
        let digits = word.strip_prefix('w').and_then(|w| w.parse().ok());
        digits.map(|id| vec![vec![id]]).unwrap_or_default()
    };
    check::outputs(&number(ours), &number(peer), 1.0)
        .map_err(|_| format!("ours says {ours:?}, the peer {peer:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_word_or_none_is_refused() {
        assert!(the_same_word("w17", "w17").is_ok());
        assert!(the_same_word("w17", "w18").unwrap_err().contains("w18"));
        assert!(the_same_word("", "").is_err());
        assert!(vector("[1, 0.5]").is_ok() && vector("w17").is_err());
    }
}
