//! Sentence pairs from two files or from one with tabs.

use std::path::Path;

use super::lines::{Lines, open_lines};
use crate::config::DataTable;
use crate::error::{Error, Result};

/// Sentences and their translations: `source[i]` belongs to `target[i]`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SentencePairs {
    /// Source sentences.
    pub source: Vec<String>,
    /// Target sentences, as many.
    pub target: Vec<String>,
    /// Byte order marks that were taken away.
    pub byte_order_marks: usize,
    /// Lines whose CR before the LF was taken away.
    pub carriage_returns: usize,
}

impl SentencePairs {
    /// Reads two files, a sentence a line.
    ///
    /// # Errors
    /// A file cannot be read or is empty, the numbers of lines differ, or as [`super::read_lines`].
    pub fn from_files(source: &Path, target: &Path) -> Result<Self> {
        let mut pairs = SentencePairs::default();
        let mut lines = open_lines(source)?;
        pairs.source = lines.by_ref().collect::<Result<_>>()?;
        pairs.note(&lines);
        let mut lines = open_lines(target)?;
        pairs.target = lines.by_ref().collect::<Result<_>>()?;
        pairs.note(&lines);
        for (path, side) in [(source, &pairs.source), (target, &pairs.target)] {
            if side.is_empty() {
                return Err(empty(path));
            }
        }
        if pairs.source.len() != pairs.target.len() {
            let files = format!("{} and {}", source.display(), target.display());
            return Err(Error::new("the two sides have different numbers of lines")
                .at(files)
                .expected("as many target lines as source lines")
                .found(format!("{} and {}", pairs.source.len(), pairs.target.len()))
                .hint("lines end with LF alone; a tool that splits at other characters counts differently"));
        }
        Ok(pairs)
    }

    /// Reads one file with tabs: the first two columns are source and target (with `reverse`, target and source), further
    /// columns are ignored.
    ///
    /// # Errors
    /// The file cannot be read or is empty, a line has one column, or as [`super::read_lines`].
    pub fn from_tsv(path: &Path, reverse: bool) -> Result<Self> {
        let mut pairs = SentencePairs::default();
        let mut lines = open_lines(path)?;
        while let Some(line) = lines.next() {
            let line = line?;
            let mut columns = line.split('\t');
            let (Some(first), Some(second)) = (columns.next(), columns.next()) else {
                return Err(Error::new("a line is not a sentence pair")
                    .at(lines.place())
                    .expected("2 columns with a tab between them")
                    .found("1 column")
                    .hint("separate source and target with one tab"));
            };
            let (source, target) = if reverse {
                (second, first)
            } else {
                (first, second)
            };
            pairs.source.push(source.to_string());
            pairs.target.push(target.to_string());
        }
        pairs.note(&lines);
        if pairs.is_empty() {
            return Err(empty(path));
        }
        Ok(pairs)
    }

    /// Reads the training pairs that `table` names.
    ///
    /// # Errors
    /// `table` names none, or both forms; or as [`SentencePairs::from_files`] and [`SentencePairs::from_tsv`].
    pub fn open(table: &DataTable) -> Result<Self> {
        let files = (table.source.as_deref(), table.target.as_deref());
        Self::from_either(
            files,
            table.tsv.as_deref(),
            table.reverse,
            ["source", "target", "tsv"],
        )?
        .ok_or_else(|| {
            Error::new("no training data is named")
                .at("data")
                .expected("`tsv`, or `source` and `target`")
                .found("none of them")
                .hint("name the data in the recipe, or with --tsv, or with --source and --target")
        })
    }

    /// Reads the validation pairs that `table` names, if it names any.
    ///
    /// # Errors
    /// As [`SentencePairs::open`].
    pub fn open_valid(table: &DataTable) -> Result<Option<Self>> {
        let files = (table.valid_source.as_deref(), table.valid_target.as_deref());
        let names = ["valid_source", "valid_target", "valid_tsv"];
        Self::from_either(files, table.valid_tsv.as_deref(), table.reverse, names)
    }

    fn from_either(
        files: (Option<&Path>, Option<&Path>),
        tsv: Option<&Path>,
        reverse: bool,
        names: [&str; 3],
    ) -> Result<Option<Self>> {
        let [source, target, both] = names;
        match (files, tsv) {
            ((None, None), None) => Ok(None),
            ((None, None), Some(path)) => Self::from_tsv(path, reverse).map(Some),
            ((Some(source), Some(target)), None) => Self::from_files(source, target).map(Some),
            (_, Some(_)) => Err(Error::new("the data is named twice")
                .at(format!("data.{both}"))
                .expected(format!("`{both}`, or `{source}` and `{target}`"))
                .found("both")
                .hint("leave one of them out")),
            ((one, _), None) => {
                let (found, missing) = if one.is_some() {
                    (source, target)
                } else {
                    (target, source)
                };
                Err(Error::new("one side of the data is not named")
                    .at(format!("data.{missing}"))
                    .expected(format!("`{source}` and `{target}`"))
                    .found(format!("only `{found}`"))
                    .hint("name the file with the other side's sentences"))
            }
        }
    }

    fn note<R: std::io::BufRead>(&mut self, lines: &Lines<R>) {
        self.byte_order_marks += usize::from(lines.had_bom());
        self.carriage_returns += lines.carriage_returns();
    }

    /// Number of pairs.
    pub fn len(&self) -> usize {
        self.source.len()
    }

    /// Whether there is no pair.
    pub fn is_empty(&self) -> bool {
        self.source.is_empty()
    }

    /// All pairs in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.source
            .iter()
            .zip(&self.target)
            .map(|(source, target)| (source.as_str(), target.as_str()))
    }

    /// Only the pairs with these numbers, in this order (numbers beyond the end are passed over).
    #[must_use]
    pub fn keep(mut self, numbers: &[usize]) -> Self {
        let take = |side: &mut Vec<String>| {
            numbers
                .iter()
                .filter_map(|i| side.get_mut(*i).map(std::mem::take))
                .collect()
        };
        self.source = take(&mut self.source);
        self.target = take(&mut self.target);
        self
    }

    /// Sets the last `count` pairs aside (at most half of all) and returns them: validation data where none is named.
    pub fn split_off(&mut self, count: usize) -> Self {
        let at = self.len() - count.min(self.len() / 2);
        SentencePairs {
            source: self.source.split_off(at),
            target: self.target.split_off(at),
            ..Default::default()
        }
    }
}

fn empty(path: &Path) -> Error {
    Error::new("the file is empty")
        .at(path.display().to_string())
        .expected("at least one line")
        .found("0 bytes of text")
        .hint("is this the file that you mean?")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(folder: &tempfile::TempDir, name: &str, bytes: &[u8]) -> std::path::PathBuf {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    #[test]
    fn two_files_and_a_tsv_give_the_same_pairs() {
        let folder = tempfile::tempdir().unwrap();
        let a = file(&folder, "a", b"\xEF\xBB\xBFone\r\ntwo\xE2\x80\xA8x\n");
        let b = file(&folder, "b", "一\n二\n".as_bytes());
        let tsv = file(&folder, "c", "one\t一\tcredit\ntwo\u{2028}x\t二".as_bytes());
        let pairs = SentencePairs::from_files(&a, &b).unwrap();
        assert_eq!((pairs.byte_order_marks, pairs.carriage_returns), (1, 1));
        let other = SentencePairs::from_tsv(&tsv, false).unwrap();
        assert_eq!(
            (&pairs.source, &pairs.target),
            (&other.source, &other.target)
        );
        let reversed = SentencePairs::from_tsv(&tsv, true).unwrap();
        assert_eq!(
            (&pairs.source, &pairs.target),
            (&reversed.target, &reversed.source)
        );
        assert_eq!(
            pairs.keep(&[1, 9]).iter().collect::<Vec<_>>(),
            [("two\u{2028}x", "二")]
        );
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let one = file(&folder, "one", b"a\n");
        let two = file(&folder, "two", b"a\nb\n");
        let none = file(&folder, "none", b"");
        let e = SentencePairs::from_files(&one, &two)
            .unwrap_err()
            .to_string();
        assert!(e.contains("1 and 2"), "{e}");
        assert!(
            SentencePairs::from_files(&one, &none)
                .unwrap_err()
                .to_string()
                .contains("empty")
        );
        assert!(
            SentencePairs::from_tsv(&none, false)
                .unwrap_err()
                .to_string()
                .contains("empty")
        );
        let e = SentencePairs::from_tsv(&two, false)
            .unwrap_err()
            .to_string();
        assert!(e.contains("two, line 1") && e.contains("1 column"), "{e}");
        assert!(SentencePairs::from_files(&one, &folder.path().join("gone")).is_err());
        assert!(
            SentencePairs::from_files(&one, folder.path())
                .unwrap_err()
                .to_string()
                .contains("a folder")
        );
        let e = SentencePairs::open(&DataTable {
            source: Some(one),
            ..Default::default()
        });
        assert!(e.unwrap_err().to_string().contains("data.target"));
    }

    #[test]
    fn validation_pairs_are_split_off() {
        let side: Vec<String> = (0..10).map(|i| i.to_string()).collect();
        let mut pairs = SentencePairs {
            source: side.clone(),
            target: side,
            ..Default::default()
        };
        assert_eq!(pairs.split_off(3).source, ["7", "8", "9"]);
        assert_eq!((pairs.split_off(100).len(), pairs.len()), (3, 4));
    }
}
