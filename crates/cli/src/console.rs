//! Lines in and lines out. Whoever reads what is written here may go at any time (`| head -1`).

use std::fmt::Display;
use std::io::{self, BufRead, Write};
use std::path::Path;

use hexapla::error::{Error, Result};
use hexapla::text::corpus::{Lines, open_lines};

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

/// A piece as part of a line: what would end the line or its column is written out.
pub(crate) fn shown(piece: &str) -> String {
    piece
        .replace('\n', "\\n")
        .replace('\r', "\\r")
        .replace('\t', "\\t")
}

/// The lines of a file, or of standard input for `-`.
pub(crate) fn input(path: &Path) -> Result<Lines<Box<dyn BufRead>>> {
    if path == Path::new("-") {
        let reader: Box<dyn BufRead> = Box::new(io::stdin().lock());
        return Ok(Lines::new(reader, "standard input"));
    }
    open_lines(path).map(Lines::boxed)
}
