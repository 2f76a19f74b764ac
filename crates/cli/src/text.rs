//! Texts that a command is given: as arguments, in a file, or on standard input.

use std::io::Write;
use std::path::{Path, PathBuf};

use hexapla::error::{Error, Result};
use hexapla::text::corpus::{Lines, read_lines};

use crate::console::{Batches, broken};

/// Most lines taken at a time, so that output flows while input still comes.
pub(crate) const LINES: usize = 2048;

#[derive(Debug, clap::Args)]
pub(crate) struct TextArgs {
    /// Texts; without them, --input or standard input is read.
    pub(crate) text: Vec<String>,
    /// File of texts, one a line; `-` is standard input.
    #[arg(long, short, conflicts_with = "text")]
    pub(crate) input: Option<PathBuf>,
}

/// Token ids of JSON lines, an array each.
pub(crate) fn read_ids(path: &Path) -> Result<Vec<Vec<u32>>> {
    let read = |(number, line): (usize, &String)| {
        serde_json::from_str(line).map_err(|e| {
            Error::input("cannot read token ids")
                .at(format!("{}, line {}", path.display(), number + 1))
                .expected("a JSON array of ids, such as [5, 17, 0]")
                .found(e.to_string().replace("line 1 column", "column"))
                .hint("every line is one array, and none is left empty")
        })
    };
    read_lines(path)?.iter().enumerate().map(read).collect()
}

impl TextArgs {
    /// The file that is read.
    fn file(&self) -> &Path {
        self.input.as_deref().unwrap_or(Path::new("-"))
    }

    /// What is read, as errors name it.
    pub(crate) fn name(&self) -> String {
        match (self.text.is_empty(), self.file()) {
            (false, _) => "arguments".into(),
            (true, path) if path == Path::new("-") => "standard input".into(),
            (true, path) => path.display().to_string(),
        }
    }

    /// The lines of the arguments, each of which may have several, of the file or of standard input.
    pub(crate) fn open(&self) -> Result<Batches> {
        if self.text.is_empty() {
            return Batches::open(self.file());
        }
        let end = |text: &String| match text.ends_with('\n') {
            true => text.clone(),
            false => format!("{text}\n"),
        };
        let text: String = self.text.iter().map(end).collect();
        let lines = Lines::new(std::io::Cursor::new(text), "arguments");
        Ok(Batches::all(lines))
    }

    /// Prints one line for each line: what `answer` makes of some of them. Where one of these cannot be answered, those before it
    /// are, and then the error is told.
    pub(crate) fn answer(&self, answer: impl Fn(&[String]) -> Result<Vec<String>>) -> Result<()> {
        let mut out = std::io::BufWriter::new(std::io::stdout().lock());
        self.each(answer, |line| writeln!(out, "{line}").map_err(broken))?;
        out.flush().map_err(broken)
    }

    /// As [`TextArgs::answer`], to `take` instead of standard output.
    pub(crate) fn each<T>(
        &self,
        answer: impl Fn(&[String]) -> Result<Vec<T>>,
        mut take: impl FnMut(T) -> Result<()>,
    ) -> Result<()> {
        let mut batches = self.open()?;
        let mut done = 0;
        loop {
            let (lines, read) = batches.next(LINES);
            let found = answer(&lines);
            let named = |e: Error| {
                e.item_as(|item| format!("line {}", done + item + 1))
                    .within(self.name())
            };
            match found {
                Ok(answers) => answers.into_iter().try_for_each(&mut take)?,
                Err(e) => {
                    let before = e.item().and_then(|item| lines.get(..item));
                    for answer in answer(before.unwrap_or_default()).map_err(named)? {
                        take(answer)?;
                    }
                    return Err(named(e));
                }
            }
            read?;
            if lines.is_empty() {
                return Ok(());
            }
            done += lines.len();
        }
    }
}
