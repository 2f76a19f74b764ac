//! One error type for the whole library: what failed, where, what was expected, what was found, and a hint.

use std::fmt;
use std::io;
use std::path::Path;

/// The library's result.
pub type Result<T> = std::result::Result<T, Error>;

/// Something that went wrong, told so that the reader can mend it.
///
/// ```
/// use hexapla::{Error, ErrorKind};
/// let e = Error::input("cannot read parallel text")
///     .at("train.tsv, line 7")
///     .expected("2 tab-separated columns")
///     .found("1")
///     .hint("separate source and target with one tab");
/// assert!(e.to_string().contains("line 7"));
/// assert_eq!(e.kind(), ErrorKind::Input);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error(Box<Parts>);

/// Who can mend an [`Error`]: what a program that calls the library decides by, as a server does on its answer's status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The text, the ids or the pairs that were handed in cannot be worked on.
    Input,
    /// An option, a flag or a recipe's key has a value that does not fit.
    Settings,
    /// A model folder, a tokenizer or a checkpoint is damaged, or is of a kind that is not known.
    Model,
    /// Something is there already that would be lost, or that another process uses.
    Conflict,
    /// The operating system refused a file or a folder.
    Io,
    /// None of the caller's doing.
    Internal,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Parts {
    kind: ErrorKind,
    what: String,
    /// Which of several inputs, from 0.
    item: Option<usize>,
    location: Option<String>,
    expected: Option<String>,
    found: Option<String>,
    hint: Option<String>,
}

impl Error {
    /// A new error; `what` says what could not be done.
    pub fn new(kind: ErrorKind, what: impl Into<String>) -> Self {
        Error(Box::new(Parts {
            kind,
            what: what.into(),
            item: None,
            location: None,
            expected: None,
            found: None,
            hint: None,
        }))
    }

    /// An error of [`ErrorKind::Input`].
    pub fn input(what: impl Into<String>) -> Self {
        Error::new(ErrorKind::Input, what)
    }

    /// An error of [`ErrorKind::Settings`].
    pub fn settings(what: impl Into<String>) -> Self {
        Error::new(ErrorKind::Settings, what)
    }

    /// An error of [`ErrorKind::Model`].
    pub fn model(what: impl Into<String>) -> Self {
        Error::new(ErrorKind::Model, what)
    }

    /// An error of [`ErrorKind::Conflict`].
    pub fn conflict(what: impl Into<String>) -> Self {
        Error::new(ErrorKind::Conflict, what)
    }

    /// An error of [`ErrorKind::Internal`].
    pub fn internal(what: impl Into<String>) -> Self {
        Error::new(ErrorKind::Internal, what)
    }

    /// The same of [`ErrorKind::Model`], unless the operating system refused: what is wrong in a model's files is the model's.
    #[must_use]
    pub(crate) fn of_model(mut self) -> Self {
        if self.0.kind != ErrorKind::Io {
            self.0.kind = ErrorKind::Model;
        }
        self
    }

    /// Who can mend it.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// An error from the operating system about the file or folder `path`, with what usually helps.
    pub fn io(what: impl Into<String>, path: &Path, error: &io::Error) -> Self {
        let (expected, hint) = match error.kind() {
            io::ErrorKind::NotFound => (
                "a file or folder of this name",
                "check the spelling, and the folder that you are in",
            ),
            io::ErrorKind::IsADirectory => ("a file", "name a file inside of this folder"),
            io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => (
                "folders on the whole way to it",
                "a part of this path is a file; choose another path",
            ),
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => (
                "a path that this user may use",
                "change its permissions, or choose another path",
            ),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => (
                "room on the disk",
                "free some space on this disk and try again",
            ),
            io::ErrorKind::InvalidData => (
                "a whole file",
                "it is damaged, or made in a way that is not read: copy or make it again",
            ),
            io::ErrorKind::UnexpectedEof => {
                ("a longer file", "it ends early: copy or download it again")
            }
            _ => (
                "a file or folder that can be used",
                "the operating system refused; check the disk and the path",
            ),
        };
        // Without the name of the temporary file that stood for `path`.
        let found = error.to_string();
        let cause = found.split(" at path \"").next().unwrap_or_default();
        Error::new(ErrorKind::Io, what)
            .at(path.display().to_string())
            .expected(expected)
            .found(cause)
            .hint(hint)
    }

    /// Where: a file and line, a configuration key, a tensor's name. Replaces an earlier location.
    #[must_use]
    pub fn at(mut self, location: impl Into<String>) -> Self {
        self.0.location = Some(location.into());
        self
    }

    /// Puts `outer`, such as a file, before the location that is named already.
    #[must_use]
    pub fn within(mut self, outer: impl fmt::Display) -> Self {
        if let Some(number) = self.0.item.take() {
            self = self.within(numbered(number));
        }
        self.0.location = Some(match self.0.location.take() {
            Some(inner) => format!("{outer}, {inner}"),
            None => outer.to_string(),
        });
        self
    }

    /// Which of several inputs it is about, counted from 0. Who knows what that one is to the user says so with
    /// [`Error::item_as`], before [`Error::within`] makes `sentence 1` of it.
    #[must_use]
    pub fn in_item(mut self, number: usize) -> Self {
        self.0.item = Some(number);
        self
    }

    /// Which of several inputs it is about, if it is about one.
    pub fn item(&self) -> Option<usize> {
        self.0.item
    }

    /// Says where the input is that it is about: `name` turns its number into a location.
    #[must_use]
    pub fn item_as(mut self, name: impl Fn(usize) -> String) -> Self {
        match self.0.item.take() {
            Some(number) => self.within(name(number)),
            None => self,
        }
    }

    /// What would have been right.
    #[must_use]
    pub fn expected(mut self, expected: impl Into<String>) -> Self {
        self.0.expected = Some(expected.into());
        self
    }

    /// What was there instead.
    #[must_use]
    pub fn found(mut self, found: impl Into<String>) -> Self {
        self.0.found = Some(found.into());
        self
    }

    /// One thing to try.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }
}

fn numbered(item: usize) -> String {
    format!("sentence {}", item + 1)
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Parts {
            kind: _,
            what,
            item,
            location,
            expected,
            found,
            hint,
        } = &*self.0;
        write!(f, "{what}")?;
        let numbered = item.map(numbered);
        let location: Vec<&str> = numbered
            .iter()
            .chain(location)
            .map(String::as_str)
            .collect();
        let location = &Some(location.join(", ")).filter(|location| !location.is_empty());
        for (label, part) in [
            ("where", location),
            ("expected", expected),
            ("found", found),
            ("hint", hint),
        ] {
            if let Some(text) = part {
                write!(f, "\n  {label}: {text}")?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

/// An error about the setting `key`: `what` says whose.
pub fn setting(what: &str, key: &str, expected: &str, found: impl ToString) -> Error {
    Error::settings(what)
        .at(key)
        .expected(expected)
        .found(found.to_string())
        .hint("leave the setting out for its default")
}

/// `what` with the entry of `known` nearest to `wrong` as a hint (or the whole list where none is near).
pub fn unknown_name(what: &str, wrong: &str, known: &[&str]) -> Error {
    let nearest = known
        .iter()
        .map(|name| (strsim::damerau_levenshtein(wrong, name), *name))
        .min()
        .filter(|(distance, name)| *distance <= 2.max(name.len() / 3));
    let error = Error::settings(format!("unknown {what}"))
        .expected(format!("one of {}", known.join(", ")))
        .found(format!("`{wrong}`"));
    match nearest {
        Some((_, name)) => error.hint(format!("did you mean `{name}`?")),
        None => error.hint("check the spelling"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_is_shown_in_order() {
        let e = Error::input("no")
            .at("here")
            .expected("a")
            .found("b")
            .hint("c");
        assert_eq!(
            e.to_string(),
            "no\n  where: here\n  expected: a\n  found: b\n  hint: c"
        );
    }

    #[test]
    fn an_input_is_named_as_the_user_knows_it() {
        let e = Error::input("no").at("source").in_item(6);
        assert!(e.to_string().contains("where: sentence 7, source"), "{e}");
        let e = e.item_as(|n| format!("line {}", n + 1)).within("a.txt");
        assert!(
            e.to_string().contains("where: a.txt, line 7, source"),
            "{e}"
        );
        let e = Error::input("no").in_item(0);
        assert!(e.to_string().contains("where: sentence 1"), "{e}");
    }

    #[test]
    fn the_nearest_name_is_offered() {
        let e = unknown_name("key", "d_modle", &["d_model", "dropout"]);
        assert!(e.to_string().contains("`d_model`"));
        let e = unknown_name("key", "zzzzzzzz", &["d_model", "dropout"]);
        assert!(e.to_string().contains("one of d_model, dropout"));
    }
}
