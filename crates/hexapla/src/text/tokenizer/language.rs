//! The tokenizer of a decoder alone that is trained here: texts to documents of ids that begin and end with one token.

use std::path::Path;

use rayon::prelude::*;
use serde_json::{Value, json};

use super::{DecoderTokenizer, EOS, Tokenizer};
use crate::config::TokenizerTable;
use crate::error::{Error, Result};
use crate::files::{Folder, write_atomically};

const FILE: &str = "tokenizer.json";
const SETTINGS: &str = "tokenizer_config.json";
/// Tokens that end texts in published tokenizers.
const ENDS: [&str; 4] = [EOS, "<|endoftext|>", "<|end_of_text|>", "<eos>"];
/// Bytes of a text that are cut into tokens at a time, up to the end of a line.
const PART: usize = 1 << 16;

/// Cuts documents, and says where they begin and end.
#[derive(Debug)]
pub struct LanguageTokenizer {
    tokenizer: DecoderTokenizer,
    json: String,
    end: u32,
    notes: Vec<String>,
}

impl LanguageTokenizer {
    /// What `table` asks for: the tokenizer of `table.file`, or one trained on `texts`.
    ///
    /// # Errors
    /// As [`Tokenizer::train`]; or the file is broken, or knows no token that ends a text.
    pub fn prepare(table: &TokenizerTable, texts: &[String]) -> Result<Self> {
        let Some(path) = &table.file else {
            let trained = Tokenizer::train(table, texts.iter().flat_map(|text| parts(text)))?;
            let json = beginning(trained.to_json())?;
            let tokenizer = Self::from_json(json)?;
            return Ok(LanguageTokenizer {
                notes: trained.notes().to_vec(),
                ..tokenizer
            });
        };
        let json = std::fs::read_to_string(path)
            .map_err(|e| Error::io("cannot read the tokenizer", path, &e))?;
        Self::from_json(json).map_err(|e| e.within(path.display()))
    }

    /// The tokenizer that [`LanguageTokenizer::save_folder`] wrote.
    ///
    /// # Errors
    /// There is none, or it is broken.
    pub fn open_folder(folder: &Path) -> Result<Self> {
        let read = Folder::from(folder).read(FILE, super::file::MAX_BYTES)?;
        Self::from_json(String::from_utf8_lossy(&read).into_owned())
            .map_err(|e| e.within(folder.join(FILE).display()))
    }

    fn from_json(json: String) -> Result<Self> {
        let tokenizer = DecoderTokenizer::from_json(&json)?;
        let end = ENDS.iter().find_map(|token| tokenizer.token_to_id(token));
        let end = end.ok_or_else(|| {
            Error::model("the tokenizer has no token that ends a text")
                .expected(format!("one of {}", ENDS.join(", ")))
                .found("none")
                .hint("train one by leaving `tokenizer.file` out")
        })?;
        Ok(LanguageTokenizer {
            tokenizer,
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
        let parts: Vec<&str> = parts(text).collect();
        let ids: Vec<Vec<u32>> = parts
            .par_iter()
            .map(|part| self.tokenizer.encode(part, false))
            .collect::<Result<_>>()?;
        Ok(ids.concat())
    }
}

/// A text in parts that end with lines, where no other white space stands beside the line break: there no token crosses.
fn parts(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let breaks = rest.match_indices('\n').map(|(at, _)| at + 1);
        let mut ends = breaks.filter(|end| *end >= PART);
        let is_end = |end: &usize| {
            let beside = [&rest[..*end - 1], &rest[*end..]];
            !beside[0].ends_with(char::is_whitespace) && !beside[1].starts_with(char::is_whitespace)
        };
        let end = ends.find(is_end).unwrap_or(rest.len());
        let (part, behind) = rest.split_at(end);
        rest = behind;
        Some(part)
    })
}

/// `json` with the end token before each text, where it begins a document, and none behind it.
fn beginning(json: &str) -> Result<String> {
    let broken = |e: serde_json::Error| {
        Error::internal("the tokenizer cannot be written").found(e.to_string())
    };
    let mut json: Value = serde_json::from_str(json).map_err(broken)?;
    let begin = json!({"SpecialToken": {"id": EOS, "type_id": 0}});
    let text = |id: &str| json!({"Sequence": {"id": id, "type_id": 0}});
    let processor = &mut json["post_processor"];
    processor["single"] = json!([begin, text("A")]);
    processor["pair"] = json!([begin, text("A"), begin, text("B")]);
    serde_json::to_string_pretty(&json).map_err(broken)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::TokenizerKind;

    #[test]
    fn nothing_is_lost_and_parts_change_no_token() {
        let line = "To be, or not to be:\n\n  that is\tthe question —\r\n孙子曰：\n　兵者 😀\n";
        let text = line.repeat(3000);
        for kind in [TokenizerKind::ByteBpe, TokenizerKind::Characters] {
            let table = TokenizerTable {
                kind,
                vocab_size: 320,
                character_coverage: 1.0,
                ..TokenizerTable::default()
            };
            let trained = LanguageTokenizer::prepare(&table, std::slice::from_ref(&text)).unwrap();
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
