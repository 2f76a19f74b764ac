//! The tokenizers of a model's two sides.

use std::path::Path;
use std::sync::Arc;

use super::{Tokenizer, characters, fairseq, marian, pieces, t5, vocabulary};
use crate::config::TokenizerTable;
use crate::error::{Error, Result};
use crate::files::{Folder, MappingFile, MarianFiles, write_atomically};

const JOINT: &str = "tokenizer.json";
const SOURCE: &str = "source_tokenizer.json";
const TARGET: &str = "target_tokenizer.json";

/// The source's and the target's tokenizer; one and the same where the vocabulary is joint.
#[derive(Debug, Clone)]
pub struct Tokenizers {
    /// Cuts source text.
    pub source: Arc<Tokenizer>,
    /// Cuts and writes target text.
    pub target: Arc<Tokenizer>,
}

impl Tokenizers {
    /// One tokenizer for both sides.
    pub fn joint(tokenizer: Tokenizer) -> Self {
        let source = Arc::new(tokenizer);
        Tokenizers {
            target: source.clone(),
            source,
        }
    }

    /// One for each side.
    pub fn separate(source: Tokenizer, target: Tokenizer) -> Self {
        Tokenizers {
            source: Arc::new(source),
            target: Arc::new(target),
        }
    }

    /// Whether both sides share one vocabulary.
    pub fn is_joint(&self) -> bool {
        Arc::ptr_eq(&self.source, &self.target)
    }

    /// What `table` asks for: the tokenizer of `table.file`, or one trained on both sides, or one trained on each.
    ///
    /// # Errors
    /// As [`Tokenizer::open`] and [`Tokenizer::train`].
    pub fn prepare(table: &TokenizerTable, source: &[String], target: &[String]) -> Result<Self> {
        match &table.file {
            Some(path) => Ok(Self::joint(Tokenizer::open(path)?)),
            None if table.joint => Ok(Self::joint(Tokenizer::train(
                table,
                source.iter().chain(target),
            )?)),
            None => Ok(Self::separate(
                Tokenizer::train(table, source)?,
                Tokenizer::train(table, target)?,
            )),
        }
    }

    /// Whether these, made or opened, are what `table` says, and know each of `tags`.
    ///
    /// # Errors
    /// They are not, or do not.
    pub fn check<'a>(
        &self,
        table: &'a TokenizerTable,
        tags: impl Iterator<Item = &'a str>,
    ) -> Result<()> {
        let refuse =
            |key: &str, expected: String, found: &str| {
                Err(Error::settings("the tokenizer is another than the recipe says")
                .at(key)
                .expected(expected)
                .found(found)
                .hint("leave the key out, or train a tokenizer by leaving `tokenizer.file` out"))
            };
        for (key, tokens) in [
            ("data.corpora: tag", tags.collect::<Vec<_>>()),
            (
                "tokenizer.special_tokens",
                table.special_tokens.iter().map(String::as_str).collect(),
            ),
        ] {
            if let Some(token) = tokens
                .iter()
                .find(|token| self.source.token_to_id(token).is_none())
            {
                return Err(Error::settings("the tokenizer has no such token")
                    .at(key)
                    .expected("pieces that the tokenizer never cuts")
                    .found(format!("`{token}`"))
                    .hint("add it to `special_tokens`, with which a tokenizer is trained"));
            }
        }
        if table.file.is_none() {
            return Ok(());
        }
        if table.codes.is_some() {
            return refuse("tokenizer.codes", "none beside a file".into(), "both");
        }
        if !table.joint {
            return refuse("tokenizer.joint", "true".into(), "one file for both sides");
        }
        if !self.source.adds_the_end_alone() {
            return refuse(
                "tokenizer.file",
                "a post-processor that adds the end token alone".into(),
                "one that puts more around a text, which training does not",
            );
        }
        if table.lowercase && self.source.encode("A")? != self.source.encode("a")? {
            return refuse(
                "tokenizer.lowercase",
                "false".into(),
                "a file that tells A from a",
            );
        }
        Ok(())
    }

    /// Reads `tokenizer.json`, or `source_tokenizer.json` and `target_tokenizer.json`, from a model's folder; or, as OPUS-MT and
    /// M2M-100 are published, `vocab.json` with `source.spm` and `target.spm` or with `sentencepiece.bpe.model`; or, as BART,
    /// with `merges.txt`; or T5's `spiece.model`; or the vocabularies of Marian's own files; or the characters of a `mapping.toml`.
    ///
    /// # Errors
    /// The folder holds neither, or a file is broken.
    pub fn open_folder(folder: impl Into<Folder>) -> Result<Self> {
        let folder = &folder.into();
        if folder.contains(SOURCE) && folder.contains(TARGET) {
            return Ok(Self::separate(
                Tokenizer::open_in(folder, SOURCE).map_err(Error::of_model)?,
                Tokenizer::open_in(folder, TARGET).map_err(Error::of_model)?,
            ));
        }
        if folder.contains(JOINT) {
            let tokenizer = Tokenizer::open_in(folder, JOINT).map_err(Error::of_model)?;
            return Ok(Self::joint(tokenizer));
        }
        let opened = if pieces::is_there(folder) {
            Some(pieces::open(folder))
        } else if vocabulary::has_bytes(folder) {
            Some(vocabulary::open(folder).map(|joint| (joint, None)))
        } else if fairseq::is_there(folder) {
            Some(fairseq::open(folder).map(|joint| (joint, None)))
        } else if t5::is_there(folder) {
            Some(t5::open(folder).map(|joint| (joint, None)))
        } else {
            MarianFiles::find(folder)?.map(|files| marian::open(folder, &files))
        };
        if let Some(opened) = opened {
            let (source, target) = opened.map_err(Error::of_model)?;
            return Ok(match target {
                Some(target) => Self::separate(source, target),
                None => Self::joint(source),
            });
        }
        if let Some(table) = MappingFile::find(folder)?.and_then(|file| file.tokenizer) {
            let tokenizer = characters::open(folder, &table).map_err(Error::of_model)?;
            return Ok(Self::joint(tokenizer));
        }
        Err(Error::model("the folder has no tokenizer")
            .at(folder.path().display().to_string())
            .expected(format!(
                "`{JOINT}`, `{SOURCE}` and `{TARGET}`, `vocab.json` with SentencePiece models or `merges.txt`, `spiece.model`, or Marian's `decoder.yml`"
            ))
            .found(if folder.exists() {
                "none of them"
            } else {
                "no such folder"
            })
            .hint("put the model's tokenizer there, or work with ids: `hexapla translate --input-ids`"))
    }

    /// What a person should be told about their training.
    pub fn notes(&self) -> impl Iterator<Item = &String> {
        let target = (!self.is_joint()).then_some(&self.target);
        [&self.source]
            .into_iter()
            .chain(target)
            .flat_map(|side| side.notes())
    }

    /// Writes the files that [`Tokenizers::open_folder`] reads, and for a joint vocabulary the `tokenizer_config.json` of
    /// `transformers`. Returns the files' names. Files of the other form that lie there are removed.
    ///
    /// # Errors
    /// The folder is missing or cannot be written to.
    pub fn save_folder(&self, folder: &Path, max_length: usize) -> Result<Vec<&'static str>> {
        const CONFIG: &str = "tokenizer_config.json";
        let stale: &[&str] = if self.is_joint() {
            self.source.save(&folder.join(JOINT))?;
            let config = self.source.config_json(max_length);
            write_atomically(&folder.join(CONFIG), |w| w.write_all(config.as_bytes()))?;
            &[SOURCE, TARGET]
        } else {
            self.source.save(&folder.join(SOURCE))?;
            self.target.save(&folder.join(TARGET))?;
            &[JOINT, CONFIG]
        };
        for name in stale {
            let path = folder.join(name);
            if path.exists() {
                std::fs::remove_file(&path)
                    .map_err(|e| Error::io("cannot remove the former tokenizer", &path, &e))?;
            }
        }
        Ok(if self.is_joint() {
            vec![JOINT, CONFIG]
        } else {
            vec![SOURCE, TARGET]
        })
    }
}
