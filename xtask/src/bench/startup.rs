//! From the start of the process to the first translated word.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use super::check::{self, Agreed};
use super::pairs::Pairs;
use super::report::{Bar, Compared, Measured, Row, Work};
use super::{Bench, translate};
use crate::{Result, root};

const PEER: &str = "CTranslate2 from Python";

pub(super) fn measure(bench: &mut Bench) -> Result<()> {
    let model = translate::model(&bench.python)?;
    for compute_type in ["int8", "float32"] {
        let name = format!("base {compute_type}");
        if bench.wants(&name) {
            let row = race(bench, &model, compute_type, &name);
            bench.add(&name, PEER, row)?;
        }
    }
    Ok(())
}

fn race(bench: &mut Bench, model: &Path, compute_type: &str, name: &str) -> Result<Row> {
    // A handful of words: what counts is the way to them, not the reading of them.
    let words: Vec<String> = translate::sources(1, 6)[0][..6]
        .iter()
        .map(|id| format!("w{id}"))
        .collect();
    let mut ours = Command::new(root().join("target/release/hexapla"));
    ours.args(["translate", "--no-split", "--beam-size", "1"])
        .args(["--min-decoding-length", "1", "--max-decoding-length", "1"])
        .args(["--compute-type", compute_type])
        .arg("--model")
        .arg(translate::ours(model, compute_type)?);
    ours.arg(words.join(" "));
    let mut peer = Command::new(&bench.python);
    peer.arg(root().join("xtask/bench/startup_ct2.py"))
        .arg(model)
        .arg(compute_type)
        .args(&words);
    // The first run of each warms the file cache.
    let agreed = agree(&first_line(&mut ours)?.1, &first_line(&mut peer)?.1)?;
    let pairs = Pairs::in_turn(
        bench.args.pairs,
        || Ok(first_line(&mut ours)?.0),
        || Ok(first_line(&mut peer)?.0),
    )?;
    bench
        .versions
        .insert("hexapla".into(), env!("CARGO_PKG_VERSION").into());
    let work = Work {
        name: name.into(),
        unit: "s".into(),
        bar: (compute_type == "int8").then_some(Bar::AtMost(0.3)),
    };
    let sides = [Measured::by("hexapla", ""), Measured::by(PEER, "")];
    Ok(Row::Compared(Compared::new(work, sides, &pairs, &agreed)))
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

/// The same word.
fn agree(ours: &str, peer: &str) -> Result<Agreed> {
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
        assert!(agree("w17", "w17").is_ok());
        assert!(agree("w17", "w18").unwrap_err().contains("w18"));
        assert!(agree("", "").is_err());
    }
}
