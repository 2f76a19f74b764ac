//! From the texts that a recipe names to documents of ids: reading, tokenizer, what is set aside.

use std::collections::BTreeMap;
use std::path::Path;

use rayon::prelude::*;

use crate::config::{DecoderConfig, Recipe};
use crate::error::{Error, Result};
use crate::text::corpus::Documents;
use crate::text::tokenizer::LanguageTokenizer;
use crate::train::provenance;

/// Texts, and what is made of them.
#[derive(Debug)]
pub struct TextData {
    /// Cuts them.
    pub tokenizer: LanguageTokenizer,
    /// Documents to learn from, with the token that stands before and behind each.
    pub train: Vec<Vec<u32>>,
    /// Those to validate on.
    pub valid: Vec<Vec<u32>>,
    /// SHA-256 of each file.
    pub hashes: BTreeMap<String, String>,
    /// Characters of both.
    characters: [usize; 2],
}

/// Most characters that are set aside: more would judge no better, and take long each time.
const MOST_ASIDE: usize = 2_000_000;

/// A text, and whether it begins where its document does, and ends there.
struct Part {
    text: String,
    begins: bool,
    ends: bool,
}

impl TextData {
    /// Reads what `recipe` names. The tokenizer is trained once and kept in `folder`.
    ///
    /// # Errors
    /// A file is missing or broken, or there is nothing to learn from.
    pub fn prepare(recipe: &Recipe, folder: &Path) -> Result<Self> {
        let table = &recipe.data;
        let end = table.document_end.as_deref();
        let all = Documents::open(&table.text, &table.json_lines, end)?;
        let named = Documents::open(&table.valid_text, &table.valid_json_lines, end)?;
        let mut hashes = all.hashes.clone();
        hashes.extend(named.hashes.clone());
        let is_named = !(table.valid_text.is_empty() && table.valid_json_lines.is_empty());
        let (train, valid) = match is_named {
            true => (whole(all), whole(named)),
            false => set_aside(all, table.valid_share),
        };
        if is_named && valid.is_empty() {
            return Err(Error::input("there is no text to validate on")
                .at("data: valid_text, valid_json_lines")
                .expected("files with text")
                .found("empty ones")
                .hint("leave these keys out: a part of the text is set aside then"));
        }
        if train.is_empty() {
            return Err(Error::input("there is no text to learn from")
                .at("data: text, json_lines")
                .expected("files with text")
                .found(match hashes.is_empty() {
                    true => "no file",
                    false => "empty ones, or one that is too short to be divided",
                })
                .hint(
                    "name files: [data] text = [\"book.txt\"], or `hexapla train --text book.txt`",
                ));
        }
        let length = recipe.model.resolve_decoder()?.max_position_embeddings;
        let tokenizer = provenance::keep_tokenizer(
            folder,
            LanguageTokenizer::open_folder,
            || {
                let texts = train.iter().map(|part| part.text.as_str());
                LanguageTokenizer::prepare(&recipe.tokenizer, texts)
            },
            |made, new| made.save_folder(new, length),
        )?;
        let characters = [&train, &valid].map(|parts| {
            let all = parts.iter().map(|part| part.text.chars().count());
            all.sum::<usize>()
        });
        let documents = |parts: Vec<Part>| -> Result<Vec<Vec<u32>>> {
            let ids = |part: Part| {
                let end = |is_there: bool| is_there.then_some(tokenizer.end());
                let mut ids: Vec<u32> = end(part.begins).into_iter().collect();
                ids.extend(tokenizer.encode(&part.text)?);
                ids.extend(end(part.ends));
                Ok(ids)
            };
            parts.into_par_iter().map(ids).collect()
        };
        Ok(TextData {
            train: documents(train)?,
            valid: documents(valid)?,
            tokenizer,
            hashes,
            characters,
        })
    }

    /// The recipe's model with the tokenizer's size and special ids.
    ///
    /// # Errors
    /// The recipe's model does not fit together.
    pub fn model_config(&self, recipe: &Recipe) -> Result<DecoderConfig> {
        let end = self.tokenizer.end();
        let config = DecoderConfig {
            vocab_size: self.tokenizer.tokenizer().vocab_size(),
            bos_token_id: Some(end),
            eos_token_ids: vec![end],
            ..recipe.model.resolve_decoder()?
        };
        config.validate()?;
        Ok(config)
    }

    /// Tokens that an epoch foresees.
    pub fn train_tokens(&self) -> usize {
        tokens(&self.train)
    }

    /// What there is, in words.
    pub fn audit(&self) -> String {
        let line = |name: &str, documents: &[Vec<u32>], characters: usize| {
            let n = documents.len();
            let kind = if n == 1 { "document" } else { "documents" };
            let tokens = tokens(documents);
            format!("{name}: {n} {kind}, {characters} characters, {tokens} tokens")
        };
        let [train, valid] = self.characters;
        let train = line("training", &self.train, train);
        format!("{train}\n{}", line("validation", &self.valid, valid))
    }
}

fn tokens(documents: &[Vec<u32>]) -> usize {
    documents.iter().map(|d| d.len().saturating_sub(1)).sum()
}

fn whole(documents: Documents) -> Vec<Part> {
    let part = |text| Part {
        text,
        begins: true,
        ends: true,
    };
    documents.texts.into_iter().map(part).collect()
}

/// The documents apart: the last characters of all, this share of them, are set aside. A document may be cut in two.
fn set_aside(documents: Documents, share: f64) -> (Vec<Part>, Vec<Part>) {
    let all = documents.characters();
    let aside = ((share * all as f64).ceil() as usize).min(MOST_ASIDE);
    let mut left = all - aside;
    let (mut train, mut valid) = (Vec::new(), Vec::new());
    for mut part in whole(documents) {
        let length = part.text.chars().count();
        if left >= length {
            left -= length;
            train.push(part);
            continue;
        }
        let at = part.text.char_indices().nth(left).map(|(at, _)| at);
        let behind = part.text.split_off(at.unwrap_or(part.text.len()));
        valid.push(Part {
            text: behind,
            begins: left == 0,
            ends: true,
        });
        if left > 0 {
            train.push(Part {
                ends: false,
                ..part
            });
        }
        left = 0;
    }
    (train, valid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_characters_are_set_aside() {
        let documents = |texts: &[&str]| Documents {
            texts: texts.iter().map(|text| text.to_string()).collect(),
            ..Documents::default()
        };
        let told = |(train, valid): (Vec<Part>, Vec<Part>)| {
            let told = |parts: Vec<Part>| -> Vec<String> {
                let mark = |there| if there { "|" } else { "" };
                parts
                    .iter()
                    .map(|p| format!("{}{}{}", mark(p.begins), p.text, mark(p.ends)))
                    .collect()
            };
            (told(train), told(valid))
        };
        let found = told(set_aside(documents(&["abcdé", "fghij"]), 0.3));
        assert_eq!(
            found,
            (
                vec!["|abcdé|".into(), "|fg".into()],
                vec!["hij|".to_string()]
            )
        );
        let found = told(set_aside(documents(&["孙子兵法", "ab"]), 0.5));
        assert_eq!(
            found,
            (
                vec!["|孙子兵".into()],
                vec!["法|".into(), "|ab|".to_string()]
            )
        );
        let found = told(set_aside(documents(&["abc"]), 0.0));
        assert_eq!(found, (vec!["|abc|".to_string()], vec![]));
    }
}
