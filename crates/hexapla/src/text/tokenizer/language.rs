//! The tokenizer of a decoder alone that is trained here: texts to documents of ids that begin and end with one token.

use std::path::Path;

use rayon::prelude::*;
use serde_json::{Value, json};

use super::{DecoderTokenizer, EOS, Tokenizer};
#[cfg(doc)]
use crate::config::TokenizerKind;
use crate::config::TokenizerTable;
use crate::error::{Error, Result};
use crate::files::{Folder, read_limited, write_atomically};

const FILE: &str = "tokenizer.json";
const SETTINGS: &str = "tokenizer_config.json";
/// Tokens that end texts in published tokenizers.
const ENDS: [&str; 4] = [EOS, "<|endoftext|>", "<|end_of_text|>", "<eos>"];
/// Bytes of a text that are cut into tokens at a time, up to the next white space.
const PART: usize = 1 << 16;

/// Cuts documents, and says where they begin and end.
#[derive(Debug)]
pub struct LanguageTokenizer {
    tokenizer: DecoderTokenizer,
    json: String,
    /// Whether a text may be cut into parts first.
    has_parts: bool,
    end: u32,
    notes: Vec<String>,
}

impl LanguageTokenizer {
    /// What `table` asks for: the tokenizer of `table.file`, or one trained on `texts`.
    ///
    /// # Errors
    /// As [`Tokenizer::train`]; or the file is broken, or knows no token that ends a text.
    pub fn prepare<'a>(
        table: &TokenizerTable,
        texts: impl Iterator<Item = &'a str>,
    ) -> Result<Self> {
        let Some(path) = &table.file else {
            let trained = Tokenizer::train(table, texts.flat_map(parts))?;
            let end = trained.token_to_id(EOS).unwrap_or_default();
            let json = beginning(trained.to_json(), EOS, end)?;
            let tokenizer = Self::from_json(json)?;
            return Ok(LanguageTokenizer {
                notes: trained.notes().to_vec(),
                ..tokenizer
            });
        };
        let located = |e: Error| e.within(path.display());
        let bytes = read_limited(path, super::file::MAX_BYTES)?;
        let json = utf8(bytes).map_err(located)?;
        let tokenizer = Self::from_json(json.clone()).map_err(located)?;
        // Prompts are cut as the texts of the training are: the end token before them, and nothing else.
        let end = tokenizer.tokenizer.id_to_token(tokenizer.end);
        let json = beginning(&json, &end.unwrap_or_default(), tokenizer.end)?;
        let tokenizer = Self::from_json(json).map_err(located)?;
        tokenizer.check(table).map_err(located)?;
        Ok(tokenizer)
    }

    /// Whether it keeps what a text is made of, and knows what `table` names.
    fn check(&self, table: &TokenizerTable) -> Result<()> {
        let wrong = |expected: String, found: String| {
            Error::settings("the tokenizer cannot be trained with")
                .expected(expected)
                .found(found)
                .hint("train one by leaving `tokenizer.file` out")
        };
        let unknown = |token: &&String| self.tokenizer.token_to_id(token).is_none();
        if let Some(token) = table.special_tokens.iter().find(unknown) {
            return Err(wrong(
                "each of `special_tokens`".into(),
                format!("no `{token}`"),
            ));
        }
        let text = "To be,\n\n  or not\tto be.\n";
        let found = self
            .tokenizer
            .decode(&self.tokenizer.encode(text, false)?)?;
        match found == text {
            true => Ok(()),
            false => Err(wrong(
                format!("one that keeps spaces and line breaks: {text:?}"),
                format!("{found:?}"),
            )),
        }
    }

    /// The tokenizer that [`LanguageTokenizer::save_folder`] wrote.
    ///
    /// # Errors
    /// There is none, or it is broken.
    pub fn open_folder(folder: &Path) -> Result<Self> {
        let read = Folder::from(folder).read(FILE, super::file::MAX_BYTES)?;
        let opened = utf8(read.into_owned()).and_then(Self::from_json);
        opened.map_err(|e| e.within(folder.join(FILE).display()))
    }

    fn from_json(json: String) -> Result<Self> {
        let tokenizer = DecoderTokenizer::from_json(&json)?.with_special_tokens_as_text();
        let known = ENDS.iter().filter_map(|token| tokenizer.token_to_id(token));
        let end = known.into_iter().find(|id| tokenizer.is_special(*id));
        let end = end.ok_or_else(|| {
            Error::model("the tokenizer has no token that ends a text")
                .expected(format!("one of {}, as a special token", ENDS.join(", ")))
                .found("none")
                .hint("train one by leaving `tokenizer.file` out")
        })?;
        Ok(LanguageTokenizer {
            tokenizer,
            has_parts: has_parts(&json),
            json,
            end,
            notes: Vec::new(),
        })
    }

    /// Writes `tokenizer.json` and the `tokenizer_config.json` of transformers.
    ///
    /// # Errors
    /// The folder is missing or cannot be written to.
    pub fn save_folder(&self, folder: &Path, max_length: usize) -> Result<()> {
        let end = self.tokenizer.id_to_token(self.end);
        let config = json!({
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": max_length,
            "clean_up_tokenization_spaces": false,
            "bos_token": end,
            "eos_token": end,
        });
        let config = format!("{config:#}\n");
        write_atomically(&folder.join(FILE), |w| w.write_all(self.json.as_bytes()))?;
        write_atomically(&folder.join(SETTINGS), |w| w.write_all(config.as_bytes()))
    }

    /// The token that stands before and behind each document.
    pub fn end(&self) -> u32 {
        self.end
    }

    /// Texts to ids and back.
    pub fn tokenizer(&self) -> &DecoderTokenizer {
        &self.tokenizer
    }

    /// What a person should be told about its training.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The tokens of `text`, on all threads.
    ///
    /// # Errors
    /// The tokenizer cannot take it.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let parts: Vec<&str> = match self.has_parts {
            true => parts(text).collect(),
            false => vec![text],
        };
        let ids: Vec<Vec<u32>> = parts
            .par_iter()
            .map(|part| self.tokenizer.encode(part, false))
            .collect::<Result<_>>()?;
        Ok(ids.concat())
    }
}

/// A text in parts that end where no token of [`TokenizerKind::ByteBpe`] or [`TokenizerKind::Characters`] goes on: before the last
/// white space that stands before a letter. GPT-2's pattern, too, cuts it off from what is before it.
fn parts(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let mut spaces = rest.match_indices(char::is_whitespace);
        let end = spaces.find_map(|(at, space)| {
            let behind = rest[at + space.len()..].chars().next();
            let is_last = behind.is_some_and(|c| !c.is_whitespace());
            (at >= PART && is_last).then_some(at)
        });
        let (part, behind) = rest.split_at(end.unwrap_or(rest.len()));
        rest = behind;
        Some(part)
    })
}

/// Whether a tokenizer cuts texts as those do which are trained here, so that [`parts`] change nothing.
fn has_parts(json: &str) -> bool {
    let json: Value = serde_json::from_str(json).unwrap_or_default();
    let pre = &json["pre_tokenizer"];
    let by_bytes = pre["type"] == "ByteLevel" && pre["use_regex"] != false;
    let by_lines = pre["type"] == "Split" && pre["pattern"]["String"] == "\n";
    json["normalizer"].is_null() && (by_bytes || by_lines)
}

fn utf8(bytes: Vec<u8>) -> Result<String> {
    String::from_utf8(bytes).map_err(|e| {
        Error::model("the tokenizer cannot be read")
            .expected("UTF-8")
            .found(e.to_string())
            .hint("is this a tokenizer.json?")
    })
}

/// `json` with the token `end` before each text, where it begins a document, and nothing else around it.
fn beginning(json: &str, end: &str, id: u32) -> Result<String> {
    let broken = |e: serde_json::Error| {
        Error::internal("the tokenizer cannot be written").found(e.to_string())
    };
    let mut json: Value = serde_json::from_str(json).map_err(broken)?;
    let begin = json!({"SpecialToken": {"id": end, "type_id": 0}});
    let text = |id: &str| json!({"Sequence": {"id": id, "type_id": 0}});
    json["post_processor"] = json!({
        "type": "TemplateProcessing",
        "single": [begin, text("A")],
        "pair": [begin, text("A"), begin, text("B")],
        "special_tokens": {end: {"id": end, "ids": [id], "tokens": [end]}},
    });
    serde_json::to_string_pretty(&json).map_err(broken)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::TokenizerKind;

    #[test]
    fn a_file_is_taken_if_it_loses_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.json");
        let text = "To be, or not to be: that is the question.\n".repeat(40);
        for (kind, is_taken) in [
            (TokenizerKind::ByteBpe, true),
            (TokenizerKind::Characters, true),
            (TokenizerKind::Unigram, false),
            (TokenizerKind::Bpe, false),
        ] {
            let table = TokenizerTable {
                kind,
                vocab_size: 330,
                character_coverage: 1.0,
                ..TokenizerTable::default()
            };
            let alphabet = "\t\n\n  T";
            let trained = Tokenizer::train(&table, [text.as_str(), alphabet]).unwrap();
            trained.save(&path).unwrap();
            let table = TokenizerTable {
                file: Some(path.clone()),
                ..TokenizerTable::default()
            };
            let read = LanguageTokenizer::prepare(&table, std::iter::empty());
            assert_eq!(read.is_ok(), is_taken, "{kind:?}");
            // Prompts get the end token before them, and none behind.
            if let Ok(read) = read {
                let ids = read.tokenizer().encode("be", true).unwrap();
                assert_eq!(ids[0], read.end());
                assert_ne!(ids[ids.len() - 1], read.end());
            }
            let unknown = TokenizerTable {
                special_tokens: vec!["<ph>".into()],
                ..table
            };
            assert!(LanguageTokenizer::prepare(&unknown, std::iter::empty()).is_err());
        }
        std::fs::write(&path, b"{\"a\": \"\xff\"}").unwrap();
        let table = TokenizerTable {
            file: Some(path),
            ..TokenizerTable::default()
        };
        assert!(LanguageTokenizer::prepare(&table, std::iter::empty()).is_err());
    }

    #[test]
    fn nothing_is_lost_and_parts_change_no_token() {
        let line =
            "To be, or </s> not <unk> to be:\n\n  that is\tthe question —\r\n孙子曰：\n　兵者 😀\n";
        let text = line.repeat(3000);
        for kind in [TokenizerKind::ByteBpe, TokenizerKind::Characters] {
            let table = TokenizerTable {
                kind,
                vocab_size: 320,
                character_coverage: 1.0,
                ..TokenizerTable::default()
            };
            let trained = LanguageTokenizer::prepare(&table, [text.as_str()].into_iter()).unwrap();
            assert!(parts(&text).count() > 2 && parts(&text).collect::<String>() == text);
            let ids = trained.encode(&text).unwrap();
            let tokenizer = trained.tokenizer();
            assert!(ids == tokenizer.encode(&text, false).unwrap());
            assert!(tokenizer.decode(&ids).unwrap() == text);
            assert_eq!(tokenizer.encode("be", true).unwrap()[0], trained.end());
            let folder = tempfile::tempdir().unwrap();
            trained.save_folder(folder.path(), 64).unwrap();
            let again = LanguageTokenizer::open_folder(folder.path()).unwrap();
            assert!(again.encode(&text).unwrap() == ids && again.end() == trained.end());
        }
        assert_eq!(parts("").count(), 0);
    }
}
