//! The `[data]` table.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::language::{LanguagePair, tagged_language};
use super::task::Task;

/// The `[data]` table: where the sentence pairs are and which are kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DataTable {
    /// Source sentences, one a line (with `target`).
    pub source: Option<PathBuf>,
    /// Target sentences, one a line (with `source`).
    pub target: Option<PathBuf>,
    /// Or one file: source, tab, target; further columns are ignored.
    pub tsv: Option<PathBuf>,
    /// Swap the two sides of `tsv`.
    pub reverse: bool,
    /// Validation pairs, as above.
    pub valid_source: Option<PathBuf>,
    /// Validation pairs, as above.
    pub valid_target: Option<PathBuf>,
    /// Validation pairs, as above.
    pub valid_tsv: Option<PathBuf>,
    /// Where no validation file is named: this many pairs are set aside from training.
    pub valid_pairs: usize,
    /// Longest side of a training pair, in tokens.
    pub max_tokens: usize,
    /// Largest ratio of the two sides' lengths in tokens (pairs of up to 10 tokens pass).
    pub max_ratio: f32,
    /// Remove pairs that stand in the data more than once.
    pub remove_duplicates: bool,
    /// Or several bodies of pairs, in place of `source`, `target` and `tsv`: `[[data.corpora]]`.
    pub corpora: Vec<Corpus>,
    /// Validation pairs of the same kind, in place of `valid_…`.
    pub valid_corpora: Vec<Corpus>,
    /// With `task = "language"`: files of text. Each is a document, or several with `document_end` between them.
    pub text: Vec<PathBuf>,
    /// With `task = "language"`: files of JSON lines, a document each: a text, or an object with `text`.
    pub json_lines: Vec<PathBuf>,
    /// Texts to validate on, as `text`.
    pub valid_text: Vec<PathBuf>,
    /// Texts to validate on, as `json_lines`.
    pub valid_json_lines: Vec<PathBuf>,
    /// What stands between documents in files of text, such as `<|endoftext|>`.
    pub document_end: Option<String>,
    /// Where no texts to validate on are named: this share of the characters, the last ones, is set aside from training.
    pub valid_share: f64,
}

/// One body of sentence pairs among several.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Corpus {
    /// Source sentences, one a line (with `target`).
    pub source: Option<PathBuf>,
    /// Target sentences, one a line (with `source`).
    pub target: Option<PathBuf>,
    /// Or one file: source, tab, target; further columns are ignored.
    pub tsv: Option<PathBuf>,
    /// Swap the two sides of `tsv`.
    pub reverse: bool,
    /// Put before each source, with a space: the target language of a multilingual model, such as `>>de<<`.
    pub tag: Option<String>,
    /// Language of the sources, such as `en`. Where every body has one and a tag, the model knows its directions.
    pub source_language: Option<String>,
    /// How often an epoch visits each pair.
    pub repeat: usize,
    /// At most this many pairs, taken evenly from the whole.
    pub max_pairs: Option<usize>,
}

impl Default for Corpus {
    fn default() -> Self {
        Corpus {
            source: None,
            target: None,
            tsv: None,
            reverse: false,
            tag: None,
            source_language: None,
            repeat: 1,
            max_pairs: None,
        }
    }
}

impl Default for DataTable {
    fn default() -> Self {
        DataTable {
            source: None,
            target: None,
            tsv: None,
            reverse: false,
            valid_source: None,
            valid_target: None,
            valid_tsv: None,
            valid_pairs: 500,
            max_tokens: 256,
            max_ratio: 4.0,
            remove_duplicates: true,
            corpora: Vec::new(),
            valid_corpora: Vec::new(),
            text: Vec::new(),
            json_lines: Vec::new(),
            valid_text: Vec::new(),
            valid_json_lines: Vec::new(),
            document_end: None,
            valid_share: 0.1,
        }
    }
}

impl DataTable {
    /// The tags that are put before sources.
    pub fn tags(&self) -> impl Iterator<Item = &str> {
        let corpora = self.corpora.iter().chain(&self.valid_corpora);
        corpora.filter_map(|corpus| corpus.tag.as_deref())
    }

    /// Each pair of a source and a target language that is trained on, once; nothing where a body does not say its own.
    pub fn directions(&self) -> BTreeSet<LanguagePair> {
        let direction = |corpus: &Corpus| {
            Some(LanguagePair {
                source: corpus.source_language.clone()?,
                target: tagged_language(corpus.tag.as_deref()?)?.to_string(),
            })
        };
        let all: Option<_> = self.corpora.iter().map(direction).collect();
        all.unwrap_or_default()
    }

    /// The first key that is of another task than `task`.
    pub(super) fn of_another_task(&self, task: Task) -> Option<&'static str> {
        let pairs = [
            ("source", self.source.is_some()),
            ("target", self.target.is_some()),
            ("tsv", self.tsv.is_some()),
            ("valid_source", self.valid_source.is_some()),
            ("valid_target", self.valid_target.is_some()),
            ("valid_tsv", self.valid_tsv.is_some()),
            ("corpora", !self.corpora.is_empty()),
            ("valid_corpora", !self.valid_corpora.is_empty()),
        ];
        let texts = [
            ("text", !self.text.is_empty()),
            ("json_lines", !self.json_lines.is_empty()),
            ("valid_text", !self.valid_text.is_empty()),
            ("valid_json_lines", !self.valid_json_lines.is_empty()),
            ("document_end", self.document_end.is_some()),
        ];
        let others: &[(&str, bool)] = match task {
            Task::Translation => &texts,
            Task::Language => &pairs,
        };
        others.iter().find_map(|(key, set)| set.then_some(*key))
    }

    /// Every file that is named, once.
    pub fn files(&self) -> BTreeSet<&Path> {
        let single = [
            &self.source,
            &self.target,
            &self.tsv,
            &self.valid_source,
            &self.valid_target,
            &self.valid_tsv,
        ];
        let corpora = self.corpora.iter().chain(&self.valid_corpora);
        let several = corpora.flat_map(|c| [&c.source, &c.target, &c.tsv]);
        let named = single.into_iter().chain(several);
        let texts = [
            &self.text,
            &self.json_lines,
            &self.valid_text,
            &self.valid_json_lines,
        ];
        let texts = texts.into_iter().flatten().map(PathBuf::as_path);
        named
            .filter_map(|path| path.as_deref())
            .chain(texts)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directions_are_known_only_where_every_body_says_its_own() {
        let corpus = |from: Option<&str>, tag: Option<&str>| Corpus {
            source_language: from.map(String::from),
            tag: tag.map(String::from),
            ..Corpus::default()
        };
        let directions = |corpora: &[Corpus]| {
            let table = DataTable {
                corpora: corpora.to_vec(),
                ..DataTable::default()
            };
            let found = table.directions();
            found.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let (there, back) = (
            corpus(Some("en"), Some(">>de<<")),
            corpus(Some("de"), Some(">>en<<")),
        );
        assert_eq!(
            directions(&[there.clone(), back.clone(), there.clone()]),
            ["de-en", "en-de"]
        );
        for other in [
            corpus(None, Some(">>zh<<")),
            corpus(Some("en"), None),
            corpus(Some("en"), Some("zh")),
        ] {
            assert!(directions(&[there.clone(), other]).is_empty());
        }
        assert!(directions(&[]).is_empty());
    }
}
