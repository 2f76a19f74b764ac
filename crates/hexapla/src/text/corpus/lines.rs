//! Lines of text, read strictly: they end at LF alone, are UTF-8, hold no NUL and have a limit.

use std::io::{BufRead, Read};
use std::path::Path;

use crate::error::{Error, Result};
use crate::files::{Fingerprint, Input, open_fingerprinted, open_input};

/// Longest line, in bytes: more is no sentence, and would fill the memory unseen.
pub const MAX_LINE_BYTES: usize = 1 << 20;
/// A line that has not ended by then is no longer read to tell how long it is: it may have no end.
const GIVE_UP: u64 = 64 << 20;

const BOM: &[u8] = b"\xEF\xBB\xBF";

/// The lines of a reader. A CR before the LF is taken away, and a byte order mark at the start.
#[derive(Debug)]
pub struct Lines<R> {
    reader: R,
    name: String,
    number: usize,
    /// Bytes before the line that is read next.
    offset: u64,
    failed: bool,
    bom: bool,
    carriage_returns: usize,
    /// Longest line, in bytes.
    longest: usize,
}

impl<R: BufRead> Lines<R> {
    /// Reads from `reader`; `name` stands for it in errors.
    pub fn new(reader: R, name: impl Into<String>) -> Self {
        Lines {
            reader,
            name: name.into(),
            number: 0,
            offset: 0,
            failed: false,
            bom: false,
            carriage_returns: 0,
            longest: MAX_LINE_BYTES,
        }
    }

    /// The same with lines of so many bytes at most, in place of [`MAX_LINE_BYTES`].
    pub(super) fn with_longest(self, longest: usize) -> Self {
        Lines { longest, ..self }
    }

    /// Whether a byte order mark stood at the start.
    pub fn had_bom(&self) -> bool {
        self.bom
    }

    /// Lines so far that ended with CR LF.
    pub fn carriage_returns(&self) -> usize {
        self.carriage_returns
    }

    /// Name and number of the line read last, as errors write it.
    pub fn location(&self) -> String {
        format!("{}, line {}", self.name, self.number)
    }

    fn read(&mut self) -> Result<Option<String>> {
        let mut line = Vec::new();
        // Room for the limit, a byte order mark and the line's end.
        let limit = (self.longest + 5) as u64;
        let read = self
            .reader
            .by_ref()
            .take(limit)
            .read_until(b'\n', &mut line);
        self.number += 1;
        if read.map_err(|e| self.cannot_read(&e))? == 0 {
            self.number -= 1;
            return Ok(None);
        }
        let start = self.offset;
        self.offset += line.len() as u64;
        let mut skipped = 0;
        if self.number == 1 && line.starts_with(BOM) {
            self.bom = true;
            skipped = BOM.len();
            line.drain(..skipped);
        }
        let ended = line.last() == Some(&b'\n');
        if ended {
            line.pop();
            if line.last() == Some(&b'\r') {
                line.pop();
                self.carriage_returns += 1;
            }
        }
        if self.number == 1 && !ended && only_carriage_returns(&line) {
            return Err(Error::input("the lines end with CR alone")
                .at(&self.name)
                .expected("lines that end with LF")
                .found("a CR between lines, and no LF")
                .hint("convert the file, for example with `tr '\\r' '\\n'`"));
        }
        if line.len() > self.longest {
            let rest = if ended { Some(0) } else { self.skip_line()? };
            let found = match rest {
                Some(rest) => format!("{} bytes", line.len() as u64 + rest),
                None => format!("more than {GIVE_UP} bytes"),
            };
            return Err(self.refuse("a line is too long", found));
        }
        if let Some(at) = line.iter().position(|byte| *byte == 0) {
            return Err(Error::input("the text holds a NUL byte")
                .at(format!("{}, byte {}", self.location(), at + 1))
                .expected("text")
                .found("0x00")
                .hint("is this a text file in UTF-8? (UTF-16 has such bytes)"));
        }
        match String::from_utf8(line) {
            Ok(text) => Ok(Some(text)),
            Err(error) => {
                let at = error.utf8_error().valid_up_to();
                let byte = error.as_bytes().get(at).copied().unwrap_or_default();
                Err(Error::input("the text is not UTF-8")
                    .at(format!(
                        "{}, byte {} (byte {} of the file)",
                        self.location(),
                        at + 1,
                        start + (skipped + at) as u64 + 1
                    ))
                    .expected("UTF-8")
                    .found(format!("0x{byte:02X}"))
                    .hint("convert the file, for example with `iconv -f LATIN1 -t UTF-8`"))
            }
        }
    }

    fn refuse(&self, what: &str, found: String) -> Error {
        Error::input(what)
            .at(self.location())
            .expected(format!("at most {} bytes", self.longest))
            .found(found)
            .hint("put one sentence or paragraph on a line; lines end with LF")
    }

    fn cannot_read(&self, error: &std::io::Error) -> Error {
        Error::io("cannot read the text", Path::new(&self.location()), error)
    }

    /// Counts the bytes up to the line's end without keeping them; `None` where it does not come.
    fn skip_line(&mut self) -> Result<Option<u64>> {
        let mut count = 0;
        loop {
            let buffer = match self.reader.fill_buf() {
                Ok(buffer) => buffer,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(self.cannot_read(&e)),
            };
            let end = buffer.iter().position(|byte| *byte == b'\n');
            let used = end.unwrap_or(buffer.len());
            count += used as u64;
            let finished = end.is_some() || buffer.is_empty();
            self.reader.consume(used);
            if finished || count > GIVE_UP {
                return Ok(finished.then_some(count));
            }
        }
    }
}

impl<R: BufRead> Iterator for Lines<R> {
    type Item = Result<String>;

    /// The next line; after an error, nothing more.
    fn next(&mut self) -> Option<Result<String>> {
        if self.failed {
            return None;
        }
        let line = self.read();
        self.failed = line.is_err();
        line.transpose()
    }
}

/// Whether the one line of a text is several to its maker: the end of a line on old Macs.
fn only_carriage_returns(line: &[u8]) -> bool {
    let at = line.iter().position(|byte| *byte == b'\r');
    at.is_some_and(|at| at + 1 < line.len())
}

/// Opens the text file `path`, or standard input for `-`; gzip and zstd are decompressed on the way ([`open_input`]).
///
/// # Errors
/// There is no such file, it is a folder, or it is no text.
pub fn open_lines(path: &Path) -> Result<Lines<Input>> {
    let (reader, name) = open_input(path)?;
    Ok(Lines::new(reader, name))
}

/// As [`open_lines`], with the file's fingerprint.
///
/// # Errors
/// As [`open_lines`].
pub(super) fn open_fingerprinted_lines(path: &Path) -> Result<(Lines<Input>, Fingerprint)> {
    let (reader, name, fingerprint) = open_fingerprinted(path)?;
    Ok((Lines::new(reader, name), fingerprint))
}

/// All lines of the file `path`; an empty file has none.
///
/// # Errors
/// The file cannot be read, or a line is not UTF-8, holds NUL or is longer than [`MAX_LINE_BYTES`]: file and line are named.
pub fn read_lines(path: &Path) -> Result<Vec<String>> {
    open_lines(path)?.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<Vec<String>> {
        Lines::new(bytes, "t").collect()
    }

    #[test]
    fn lines_end_at_lf_alone() {
        let text = "a\u{2028}b\u{85}c\rd\x0Be\r\nf\n\ng";
        assert_eq!(
            read(text.as_bytes()).unwrap(),
            ["a\u{2028}b\u{85}c\rd\x0Be", "f", "", "g"]
        );
        assert_eq!(read(b"").unwrap(), Vec::<String>::new());
        assert_eq!(read(b"a\n").unwrap(), ["a"]);
        assert_eq!(read(b"a\r").unwrap(), ["a\r"]);
        let e = read(b"a\tb\rc\td\r").unwrap_err().to_string();
        assert!(e.contains("CR alone"), "{e}");
    }

    #[test]
    fn a_byte_order_mark_is_taken_away_at_the_start_only() {
        let mut lines = Lines::new(&b"\xEF\xBB\xBFa\n\xEF\xBB\xBFb\r\n"[..], "t");
        let read: Vec<String> = lines.by_ref().map(Result::unwrap).collect();
        assert_eq!(read, ["a", "\u{feff}b"]);
        assert!(lines.had_bom());
        assert_eq!(lines.carriage_returns(), 1);
    }

    #[test]
    fn broken_text_is_refused_with_its_place() {
        let e = read(b"ok\nab\xFFc\n").unwrap_err().to_string();
        assert!(
            e.contains("t, line 2, byte 3 (byte 6 of the file)") && e.contains("0xFF"),
            "{e}"
        );
        let e = read(b"\xEF\xBB\xBFa\xFF\n").unwrap_err().to_string();
        assert!(e.contains("t, line 1, byte 2 (byte 5 of the file)"), "{e}");
        let e = read(b"a\nb\nc\0\n").unwrap_err().to_string();
        assert!(e.contains("t, line 3, byte 2"), "{e}");
    }

    #[test]
    fn the_limit_is_exact_and_the_length_is_told() {
        let mut text = vec![b'x'; MAX_LINE_BYTES];
        text.extend(b"\r\ny\n");
        assert_eq!(read(&text).unwrap().len(), 2);
        let mut text = b"a\n".to_vec();
        text.extend(vec![b'x'; 3 * MAX_LINE_BYTES]);
        text.extend(b"\nb\n");
        let e = read(&text).unwrap_err().to_string();
        assert!(
            e.contains("t, line 2") && e.contains(&format!("found: {} bytes", 3 * MAX_LINE_BYTES)),
            "{e}"
        );
        assert!(read(&vec![b'x'; MAX_LINE_BYTES + 1]).is_err());
    }
}
