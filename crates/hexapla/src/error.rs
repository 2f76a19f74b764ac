//! One error type for the whole library: what failed, where, what was expected, what was found, and a hint.

use std::fmt;
use std::io::ErrorKind;
use std::path::Path;

/// The library's result.
pub type Result<T> = std::result::Result<T, Error>;

/// Something that went wrong, told so that the reader can mend it.
///
/// ```
/// use hexapla::error::Error;
/// let e = Error::new("cannot read parallel text")
///     .at("train.tsv, line 7")
///     .expected("2 tab-separated columns")
///     .found("1")
///     .hint("separate source and target with one tab");
/// assert!(e.to_string().contains("line 7"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error(Box<Parts>);

#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Parts {
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
    pub fn new(what: impl Into<String>) -> Self {
        Error(Box::new(Parts {
            what: what.into(),
            ..Parts::default()
        }))
    }

    /// An error from the operating system about the file or folder `path`, with what usually helps.
    pub fn io(what: impl Into<String>, path: &Path, error: &std::io::Error) -> Self {
        let (expected, hint) = match error.kind() {
            ErrorKind::NotFound => (
                "a file or folder of this name",
                "check the spelling, and the folder that you are in",
            ),
            ErrorKind::IsADirectory => ("a file", "name a file inside of this folder"),
            ErrorKind::NotADirectory | ErrorKind::AlreadyExists => (
                "folders on the whole way to it",
                "a part of this path is a file; choose another path",
            ),
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => (
                "a path that this user may use",
                "change its permissions, or choose another path",
            ),
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => (
                "room on the disk",
                "free some space on this disk and try again",
            ),
            ErrorKind::InvalidData => (
                "a whole file",
                "it is damaged, or made in a way that is not read: copy or make it again",
            ),
            ErrorKind::UnexpectedEof => {
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
        Error::new(what)
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
    Error::new(what)
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
    let error = Error::new(format!("unknown {what}"))
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
        let e = Error::new("no")
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
        let e = Error::new("no").at("source").in_item(6);
        assert!(e.to_string().contains("where: sentence 7, source"), "{e}");
        let e = e.item_as(|n| format!("line {}", n + 1)).within("a.txt");
        assert!(
            e.to_string().contains("where: a.txt, line 7, source"),
            "{e}"
        );
        let e = Error::new("no").in_item(0);
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
