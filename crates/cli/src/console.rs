//! Lines in and lines out. Whoever reads what is written here may go at any time (`| head -1`).

use std::fmt::Display;
use std::io::{self, Write};
use std::iter::Peekable;
use std::path::Path;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use hexapla::error::{Error, Result};
use hexapla::text::corpus::open_lines;

/// A line on standard error, if anybody reads there.
pub(crate) fn say(line: impl Display) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// An error of writing to standard output. Where its reader has gone, nothing is wrong and nothing is left to do: the
/// program ends.
pub(crate) fn broken(e: io::Error) -> Error {
    if e.kind() == io::ErrorKind::BrokenPipe {
        std::process::exit(0);
    }
    Error::io("cannot write the output", Path::new("standard output"), &e)
}

/// Lines on standard output.
pub(crate) fn print(lines: &[String]) -> Result<()> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    lines
        .iter()
        .try_for_each(|line| writeln!(out, "{line}"))
        .and_then(|()| out.flush())
        .map_err(broken)
}

/// A piece as part of a line: what would end the line or its column is written out.
pub(crate) fn shown(piece: &str) -> String {
    piece
        .replace('\n', "\\n")
        .replace('\r', "\\r")
        .replace('\t', "\\t")
}

/// Lines that are taken some at a time: as many as there are, up to a limit, and never fewer than one. Of a pipe or a terminal no
/// more is awaited than the first, so that whoever writes a line and waits gets an answer.
pub(crate) enum Batches {
    /// From a file or an argument: the next line is always there.
    All(Peekable<Box<dyn Iterator<Item = Result<String>>>>),
    /// From a pipe or a terminal, by a thread that reads on meanwhile.
    Arriving(Receiver<Result<String>>),
}

/// How long a batch of a pipe waits for further lines: what was written together arrives together.
const TOGETHER: Duration = Duration::from_millis(5);

impl Batches {
    /// Lines of which none is waited for.
    pub(crate) fn all(lines: impl Iterator<Item = Result<String>> + 'static) -> Self {
        let lines: Box<dyn Iterator<Item = Result<String>>> = Box::new(lines);
        Batches::All(lines.peekable())
    }

    /// Whether it is known that no line is left.
    pub(crate) fn is_at_end(&mut self) -> bool {
        match self {
            Batches::All(lines) => lines.peek().is_none(),
            Batches::Arriving(_) => false,
        }
    }

    /// The lines of the file `path`, or of standard input for `-`.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let is_file = std::fs::metadata(path).is_ok_and(|m| m.is_file());
        if path != Path::new("-") && is_file {
            return Ok(Batches::all(open_lines(path)?));
        }
        // Room for what comes while a batch is worked on.
        let (sender, receiver) = std::sync::mpsc::sync_channel(1 << 14);
        let path = path.to_path_buf();
        std::thread::spawn(move || {
            let lines: Box<dyn Iterator<Item = Result<String>>> = match open_lines(&path) {
                Ok(lines) => Box::new(lines),
                Err(e) => Box::new(std::iter::once(Err(e))),
            };
            for line in lines {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Batches::Arriving(receiver))
    }

    /// The next lines, at most `most`; none at the end. An error comes after the lines before it.
    pub(crate) fn next(&mut self, most: usize) -> (Vec<String>, Result<()>) {
        let mut batch = Vec::new();
        let mut until = None;
        while batch.len() < most {
            let line = match (&mut *self, until) {
                (Batches::All(lines), _) => lines.next(),
                (Batches::Arriving(lines), None) => lines.recv().ok(),
                (Batches::Arriving(lines), Some(until)) => {
                    let rest: Duration = Instant::saturating_duration_since(&until, Instant::now());
                    lines.recv_timeout(rest).ok()
                }
            };
            match line {
                None => break,
                Some(Ok(line)) => batch.push(line),
                Some(Err(e)) => return (batch, Err(e)),
            }
            until.get_or_insert_with(|| Instant::now() + TOGETHER);
        }
        (batch, Ok(()))
    }
}
