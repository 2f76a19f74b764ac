//! Texts of any length, as a decoder alone learns from them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::lines::open_fingerprinted_lines;
use crate::error::{Error, Result};

/// Longest line, in bytes: a book is less.
const MAX_BYTES: usize = 1 << 28;

/// Documents, whole.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Documents {
    /// Their texts; none is empty.
    pub texts: Vec<String>,
    /// SHA-256 of each file as it was read.
    pub hashes: BTreeMap<String, String>,
}

impl Documents {
    /// Reads files of plain text, each a document, or several with `end` between them; and files of JSON lines, a document each: a
    /// text, or an object with `text`. What is empty is passed over. Lines end with LF in what is read; line breaks beside an `end`
    /// are part of it.
    ///
    /// # Errors
    /// A file cannot be read, or as [`super::read_lines`]; a line is no such JSON. File and line are named.
    pub fn open(text: &[PathBuf], json_lines: &[PathBuf], end: Option<&str>) -> Result<Self> {
        let mut documents = Documents::default();
        for path in text {
            let mut whole = String::new();
            documents.each_line(path, |line, _| {
                whole.push_str(&line);
                whole.push('\n');
                Ok(())
            })?;
            match end.filter(|end| !end.is_empty()) {
                None => documents.push(whole),
                Some(end) => whole
                    .split(end)
                    .for_each(|text| documents.push(text.trim_matches('\n').to_string())),
            }
        }
        for path in json_lines {
            let mut texts = Vec::new();
            documents.each_line(path, |line, location| {
                if !line.trim().is_empty() {
                    texts.push(document(&line).map_err(|e| e.at(location()))?);
                }
                Ok(())
            })?;
            texts.into_iter().for_each(|text| documents.push(text));
        }
        Ok(documents)
    }

    fn push(&mut self, text: String) {
        let text = match text.contains("\r\n") {
            true => text.replace("\r\n", "\n"),
            false => text,
        };
        if !text.trim().is_empty() {
            self.texts.push(text);
        }
    }

    fn each_line(
        &mut self,
        path: &Path,
        mut each: impl FnMut(String, &dyn Fn() -> String) -> Result<()>,
    ) -> Result<()> {
        let (lines, fingerprint) = open_fingerprinted_lines(path)?;
        let mut lines = lines.with_longest(MAX_BYTES);
        while let Some(line) = lines.next() {
            each(line?, &|| lines.location())?;
        }
        let name = path.display().to_string();
        self.hashes.insert(name, fingerprint.sha256());
        Ok(())
    }

    /// Characters of all texts.
    pub fn characters(&self) -> usize {
        self.texts.iter().map(|text| text.chars().count()).sum()
    }
}

/// The text of a JSON line.
fn document(line: &str) -> Result<String> {
    let wrong = |found: String| {
        Error::input("a document cannot be read")
            .expected("a JSON text, or an object with `text`")
            .found(found)
            .hint("every line is one document; plain text belongs into `data.text`")
    };
    let value: Value = serde_json::from_str(line).map_err(|e| wrong(e.to_string()))?;
    match &value {
        Value::String(text) => Ok(text.clone()),
        Value::Object(map) => match map.get("text") {
            Some(Value::String(text)) => Ok(text.clone()),
            Some(_) => Err(wrong("a `text` that is none".into())),
            None => Err(wrong("no `text`".into())),
        },
        _ => Err(wrong("something else".into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(folder: &Path, name: &str, content: &str) -> PathBuf {
        std::fs::write(folder.join(name), content).unwrap();
        folder.join(name)
    }

    #[test]
    fn files_are_documents_or_have_several() {
        let folder = tempfile::tempdir().unwrap();
        let plain = file(folder.path(), "a.txt", "\u{FEFF}one\r\n\n two\n");
        let several = file(
            folder.path(),
            "b.txt",
            "three\n<end>\nfour\nfive<end>\n\n<end>",
        );
        let lines = file(
            folder.path(),
            "c.jsonl",
            "\"six\\r\\nseven\"\n\n{\"text\": \"eight\", \"id\": 9}\n\" \"\n",
        );
        let read = Documents::open(
            &[plain.clone(), several.clone()],
            std::slice::from_ref(&lines),
            Some("<end>"),
        )
        .unwrap();
        let expected = ["one\n\n two", "three", "four\nfive", "six\nseven", "eight"];
        assert_eq!(read.texts, expected);
        assert_eq!(read.hashes.len(), 3);
        let whole = Documents::open(&[plain], &[], None).unwrap();
        assert_eq!(whole.texts, ["one\n\n two\n"]);
        assert_eq!(whole.characters(), 10);
    }

    #[test]
    fn what_is_no_document_is_named_by_its_line() {
        let folder = tempfile::tempdir().unwrap();
        for content in [
            "\"a\"\nplain\n",
            "\"a\"\n[1]\n",
            "\"a\"\n{\"txt\": \"b\"}\n",
        ] {
            let lines = file(folder.path(), "c.jsonl", content);
            let told = Documents::open(&[], &[lines], None)
                .unwrap_err()
                .to_string();
            assert!(told.contains("c.jsonl, line 2"), "{told}");
        }
        assert!(Documents::open(&[folder.path().join("no")], &[], None).is_err());
    }
}
