//! Sentence pairs from two files or from one with tabs.

use std::collections::BTreeMap;
use std::io::BufRead;
use std::path::Path;

use super::lines::{Lines, open_fingerprinted_lines};
use crate::config::{Corpus, DataTable};
use crate::error::{Error, Result};
use crate::files::Fingerprint;
use crate::text::clean::clean;

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
    /// Lines of tables with more columns than two, which were passed over.
    pub further_columns: usize,
    /// How often an epoch of training visits each pair; once where this is empty.
    pub copies: Vec<usize>,
    /// The body that each pair is of, a number of `names`; the first where this is empty.
    pub bodies: Vec<usize>,
    /// What each body is called: its file.
    pub names: Vec<String>,
    /// SHA-256 of each file as it was read.
    pub hashes: BTreeMap<String, String>,
}

impl SentencePairs {
    /// Reads two files, a sentence a line.
    ///
    /// # Errors
    /// A file cannot be read or is empty, the numbers of lines differ, or as [`super::read_lines`].
    pub fn from_files(source: &Path, target: &Path) -> Result<Self> {
        let mut pairs = SentencePairs::default();
        if source == target && source == Path::new("-") {
            return Err(
                Error::settings("both sides are to be read from standard input")
                    .at("source and target")
                    .expected("`-` for one of them at most")
                    .found("`-` twice")
                    .hint("write one of them to a file, or join them with a tab and name --tsv -"),
            );
        }
        for (path, target_side) in [(source, false), (target, true)] {
            let (mut lines, fingerprint) = open_fingerprinted_lines(path)?;
            let side = lines.by_ref().collect::<Result<_>>()?;
            pairs.note(&lines, path, &fingerprint);
            match target_side {
                false => pairs.source = side,
                true => pairs.target = side,
            }
        }
        pairs.names = vec![source.display().to_string()];
        for (path, side) in [(source, &pairs.source), (target, &pairs.target)] {
            if side.is_empty() {
                return Err(no_text(path));
            }
        }
        if pairs.source.len() != pairs.target.len() {
            let files = format!("{} and {}", source.display(), target.display());
            return Err(Error::input("the two sides have different numbers of lines")
                .at(files)
                .expected("as many target lines as source lines")
                .found(format!("{} and {}", pairs.source.len(), pairs.target.len()))
                .hint("lines end with LF alone; a tool that splits at other characters counts differently"));
        }
        Ok(pairs)
    }

    /// Reads one file with tabs: the first two columns are source and target (with `reverse`, target and source), further
    /// columns are counted and passed over. A blank line is a pair of two empty sides, as it is in two files.
    ///
    /// # Errors
    /// The file cannot be read or is empty, a line has one column, or as [`super::read_lines`].
    pub fn from_tsv(path: &Path, reverse: bool) -> Result<Self> {
        let mut pairs = SentencePairs::default();
        let (mut lines, fingerprint) = open_fingerprinted_lines(path)?;
        while let Some(line) = lines.next() {
            let line = line?;
            let Some((first, second, further)) = columns(&line) else {
                return Err(one_column(&lines.location()));
            };
            pairs.further_columns += usize::from(further);
            let (source, target) = if reverse {
                (second, first)
            } else {
                (first, second)
            };
            pairs.source.push(source.to_string());
            pairs.target.push(target.to_string());
        }
        pairs.note(&lines, path, &fingerprint);
        pairs.names = vec![path.display().to_string()];
        if pairs.is_empty() {
            return Err(no_text(path));
        }
        Ok(pairs)
    }

    /// Reads one body of pairs, with its tag, its share and its copies.
    ///
    /// # Errors
    /// It names no file, or both forms; or as [`SentencePairs::from_files`] and [`SentencePairs::from_tsv`].
    pub fn from_corpus(corpus: &Corpus) -> Result<Self> {
        let files = (corpus.source.as_deref(), corpus.target.as_deref());
        let names = ["source", "target", "tsv"];
        let pairs = Self::from_either(files, corpus.tsv.as_deref(), corpus.reverse, names)?;
        let mut pairs = pairs.ok_or_else(|| not_named("`tsv`, or `source` and `target`"))?;
        if let Some(most) = corpus.max_pairs.filter(|most| *most < pairs.len()) {
            let n = pairs.len();
            let spread: Vec<usize> = (0..most).map(|i| i * n / most).collect();
            pairs = pairs.keep(&spread);
        }
        if let Some(tag) = &corpus.tag {
            for source in &mut pairs.source {
                *source = format!("{tag} {source}");
            }
        }
        pairs.copies = vec![corpus.repeat; pairs.len()];
        Ok(pairs)
    }

    /// Reads the training pairs that `table` names.
    ///
    /// # Errors
    /// `table` names none, or more than one form; or as [`SentencePairs::from_corpus`].
    pub fn open(table: &DataTable) -> Result<Self> {
        let files = (table.source.as_deref(), table.target.as_deref());
        let names = ["source", "target", "tsv"];
        let pairs = Self::from_either(files, table.tsv.as_deref(), table.reverse, names)?;
        let forms = "`tsv`, or `source` and `target`, or `[[data.corpora]]`";
        Self::or_corpora(pairs, &table.corpora, "corpora")?
            .ok_or_else(|| not_named(forms).at("data"))
    }

    /// Reads the validation pairs that `table` names, if it names any.
    ///
    /// # Errors
    /// As [`SentencePairs::open`].
    pub fn open_valid(table: &DataTable) -> Result<Option<Self>> {
        let files = (table.valid_source.as_deref(), table.valid_target.as_deref());
        let names = ["valid_source", "valid_target", "valid_tsv"];
        let pairs = Self::from_either(files, table.valid_tsv.as_deref(), table.reverse, names)?;
        Self::or_corpora(pairs, &table.valid_corpora, "valid_corpora")
    }

    /// `pairs`, or those of `corpora` one after another. Not both.
    fn or_corpora(pairs: Option<Self>, corpora: &[Corpus], key: &str) -> Result<Option<Self>> {
        if corpora.is_empty() {
            return Ok(pairs);
        }
        if pairs.is_some() {
            return Err(Error::settings("the data is named twice")
                .at(format!("data.{key}"))
                .expected(format!("`[[data.{key}]]` alone, or single files alone"))
                .found("both")
                .hint("leave one of them out"));
        }
        let mut all = SentencePairs::default();
        for (number, corpus) in corpora.iter().enumerate() {
            let pairs = Self::from_corpus(corpus)
                .map_err(|e| e.within(format!("data.{key}, number {}", number + 1)))?;
            all.bodies
                .extend(std::iter::repeat_n(number, pairs.source.len()));
            all.names.extend(pairs.names);
            all.source.extend(pairs.source);
            all.target.extend(pairs.target);
            all.copies.extend(pairs.copies);
            all.further_columns += pairs.further_columns;
            all.hashes.extend(pairs.hashes);
            all.byte_order_marks += pairs.byte_order_marks;
            all.carriage_returns += pairs.carriage_returns;
        }
        Ok(Some(all))
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
            (_, Some(_)) => Err(Error::settings("the data is named twice")
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
                Err(Error::settings("one side of the data is not named")
                    .at(format!("data.{missing}"))
                    .expected(format!("`{source}` and `{target}`"))
                    .found(format!("only `{found}`"))
                    .hint("name the file with the other side's sentences"))
            }
        }
    }

    fn note<R: BufRead>(&mut self, lines: &Lines<R>, path: &Path, fingerprint: &Fingerprint) {
        let name = path.display().to_string();
        self.hashes.insert(name, fingerprint.sha256());
        self.byte_order_marks += usize::from(lines.had_bom());
        self.carriage_returns += lines.carriage_returns();
    }

    /// How often an epoch of training visits pair `number`.
    pub fn copies(&self, number: usize) -> usize {
        self.copies.get(number).copied().unwrap_or(1)
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
        let choose = |of: &[usize]| {
            let chosen = numbers.iter().filter_map(|i| of.get(*i).copied());
            chosen.collect()
        };
        self.copies = choose(&self.copies);
        self.bodies = choose(&self.bodies);
        self
    }

    /// The number of the body that pair `i` is of.
    pub fn body(&self, i: usize) -> usize {
        self.bodies.get(i).copied().unwrap_or(0)
    }

    /// Both sides of each pair as [`clean`] leaves them, without white space around them.
    #[must_use]
    pub fn cleaned(mut self) -> Self {
        for text in self.source.iter_mut().chain(&mut self.target) {
            let clean = clean(text);
            if clean.trim() != text {
                *text = clean.trim().to_string();
            }
        }
        self
    }

    /// Sets the last `count` pairs aside (at most half of all) and returns them: validation data where none is named.
    pub fn split_off(&mut self, count: usize) -> Self {
        let at = self.len() - count.min(self.len() / 2);
        SentencePairs {
            source: self.source.split_off(at),
            target: self.target.split_off(at),
            copies: self.copies.split_off(at.min(self.copies.len())),
            bodies: self.bodies.split_off(at.min(self.bodies.len())),
            names: self.names.clone(),
            ..Default::default()
        }
    }
}

/// The first two columns of a line, and whether there are further ones. A blank line has two empty columns; a line of text without
/// a tab is no pair.
pub fn columns(line: &str) -> Option<(&str, &str, bool)> {
    let mut columns = line.split('\t');
    let first = columns.next().unwrap_or_default();
    match columns.next() {
        Some(second) => Some((first, second, columns.next().is_some())),
        None => first.trim().is_empty().then_some(("", "", false)),
    }
}

/// The error for a line without a tab.
pub fn one_column(location: &str) -> Error {
    Error::input("a line is not a sentence pair")
        .at(location)
        .expected("2 columns with a tab between them")
        .found("1 column")
        .hint("separate source and target with one tab")
}

fn not_named(forms: &str) -> Error {
    Error::settings("no sentence pairs are named")
        .expected(forms)
        .found("none of them")
        .hint("name the data in the recipe, or with --tsv, or with --source and --target")
}

/// The error for a file without a line.
pub fn no_text(path: &Path) -> Error {
    Error::input("the file is empty")
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
    fn corpora_follow_one_another_with_their_tags_and_copies() {
        let folder = tempfile::tempdir().unwrap();
        let lines: String = (0..10).map(|i| format!("s{i}\tt{i}\n")).collect();
        let tsv = Some(file(&folder, "a.tsv", lines.as_bytes()));
        let table = DataTable {
            corpora: vec![
                Corpus {
                    tsv: tsv.clone(),
                    max_pairs: Some(3),
                    tag: Some(">>xx<<".into()),
                    ..Corpus::default()
                },
                Corpus {
                    tsv: tsv.clone(),
                    reverse: true,
                    max_pairs: Some(2),
                    repeat: 4,
                    ..Corpus::default()
                },
            ],
            ..DataTable::default()
        };
        let mut pairs = SentencePairs::open(&table).unwrap();
        assert_eq!(
            pairs.iter().collect::<Vec<_>>(),
            [
                (">>xx<< s0", "t0"),
                (">>xx<< s3", "t3"),
                (">>xx<< s6", "t6"),
                ("t0", "s0"),
                ("t5", "s5")
            ]
        );
        assert_eq!(pairs.copies, [1, 1, 1, 4, 4]);
        assert_eq!(pairs.split_off(1).copies(0), 4);
        assert_eq!(pairs.keep(&[3, 1]).copies, [4, 1]);

        let both = DataTable { tsv, ..table };
        let e = SentencePairs::open(&both).unwrap_err().to_string();
        assert!(e.contains("named twice"), "{e}");
        let nothing = DataTable {
            valid_corpora: vec![Corpus::default()],
            ..DataTable::default()
        };
        let e = SentencePairs::open_valid(&nothing).unwrap_err().to_string();
        assert!(e.contains("data.valid_corpora, number 1"), "{e}");
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
