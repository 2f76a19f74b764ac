//! The tokenizers of encoders, used as these models' own programs use them: a special token that stands in a text is one
//! (`[MASK]`), no character is taken away beforehand, and a pair of texts has segments.

use std::ops::Range;

use serde_json::{Value, json};
use tokenizers::{Encoding, PostProcessor};

use super::file::{check, prepare_settings};
use super::library::TokenizerFile;
use super::{guarded, pieces, vocabulary};
use crate::error::Result;
use crate::files::Folder;

const FILE: &str = "tokenizer.json";

/// Cuts texts for an encoder.
#[derive(Debug)]
pub struct EncoderTokenizer {
    inner: tokenizers::Tokenizer,
    /// Whether its model is told which tokens are of a pair's second text.
    has_segments: bool,
    mask: Option<(String, u32)>,
    unknown: Option<u32>,
}

/// The tokens of a text, without what is put around it.
#[derive(Debug, Clone)]
pub struct TextTokens(Encoding);

/// The tokens of a text or of a pair of texts, with what is put around them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EncodedText {
    /// Token ids.
    pub ids: Vec<u32>,
    /// Each token's segment.
    pub segments: Vec<u32>,
    /// Each token's place in its text, in bytes; empty for what was put around.
    pub bytes: Vec<Range<usize>>,
    /// The number of each token's word in its text; none for what was put around.
    pub words: Vec<Option<u32>>,
}

impl TextTokens {
    /// Number of tokens.
    pub fn len(&self) -> usize {
        self.0.get_ids().len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Their ids.
    pub fn ids(&self) -> &[u32] {
        self.0.get_ids()
    }

    /// Consecutive parts of at most `most` tokens.
    pub fn windows(&self, most: usize) -> Vec<TextTokens> {
        let mut first = self.0.clone();
        first.truncate(most.max(1), 0, tokenizers::TruncationDirection::Right);
        let rest = first.take_overflowing();
        std::iter::once(first).chain(rest).map(TextTokens).collect()
    }
}

impl EncoderTokenizer {
    /// Whether `folder` holds such a tokenizer, whole or broken.
    pub fn is_in(folder: &Folder) -> bool {
        folder.contains(FILE) || vocabulary::is_there(folder)
    }

    /// Reads `tokenizer.json` from a model's folder, or the vocabulary that it was published with before there was such a file:
    /// `vocab.txt`, `vocab.json` with `merges.txt`, or a SentencePiece model.
    ///
    /// # Errors
    /// The folder holds none of them, or a file is broken.
    pub fn open_folder(folder: &Folder) -> Result<Self> {
        let settings = pieces::read_settings(folder)?;
        let (name, json) = match folder.contains(FILE) {
            true => (FILE, pieces::read_text(folder, FILE)?),
            false => {
                let (name, json) = vocabulary::read(folder, &settings)?;
                (name, json.to_string())
            }
        };
        Self::from_json(&json, &settings).map_err(|e| e.within(folder.path_of(name).display()))
    }

    /// `settings` are those of `tokenizer_config.json`.
    fn from_json(json: &str, settings: &Value) -> Result<Self> {
        let mut file = TokenizerFile::read(json)?;
        check(&file)?;
        prepare_settings(&mut file.parts);
        let inner = file.build()?;
        let named = settings["model_input_names"].as_array();
        let token = |key: &str, usual: &[&str]| {
            let own = &settings[key];
            let own = own.as_str().or(own["content"].as_str());
            let names = own.into_iter().chain(usual.iter().copied());
            let known = names.filter_map(|name| Some((name.to_string(), inner.token_to_id(name)?)));
            known.into_iter().next()
        };
        Ok(EncoderTokenizer {
            has_segments: named.is_none_or(|names| names.contains(&json!("token_type_ids"))),
            mask: token("mask_token", &["[MASK]", "<mask>"]),
            unknown: token("unk_token", &["[UNK]", "<unk>"]).map(|(_, id)| id),
            inner,
        })
    }

    /// The tokens of `text`.
    ///
    /// # Errors
    /// The tokenizer cannot take the text.
    pub fn tokens(&self, text: &str) -> Result<TextTokens> {
        guarded("cannot tokenise the text", || {
            self.inner.encode(text, false)
        })
        .map(TextTokens)
        .map_err(|e| e.at(format!("`{}`", text.chars().take(40).collect::<String>())))
    }

    /// With what the model wants around a text, or around both texts of a pair.
    ///
    /// # Errors
    /// The file's template cannot be followed.
    pub fn finish(&self, text: TextTokens, second: Option<TextTokens>) -> Result<EncodedText> {
        let encoding = guarded("cannot put its template around a text", || {
            self.inner.post_process(text.0, second.map(|s| s.0), true)
        })?;
        let special = encoding.get_special_tokens_mask();
        let is_text = |i: usize| special.get(i) == Some(&0);
        let bytes = encoding.get_offsets().iter().enumerate();
        let words = encoding.get_word_ids().iter().enumerate();
        Ok(EncodedText {
            ids: encoding.get_ids().to_vec(),
            segments: match self.has_segments {
                true => encoding.get_type_ids().to_vec(),
                false => Vec::new(),
            },
            bytes: bytes
                .map(|(i, (start, end))| if is_text(i) { *start..*end } else { 0..0 })
                .collect(),
            words: words.map(|(i, word)| word.filter(|_| is_text(i))).collect(),
        })
    }

    /// Tokens that are put around a text, or around both of a pair.
    pub fn added_tokens(&self, is_pair: bool) -> usize {
        let processor = self.inner.get_post_processor();
        processor.map_or(0, |processor| processor.added_tokens(is_pair))
    }

    /// The token that stands for a masked word, and its id.
    pub fn mask_token(&self) -> Option<(&str, u32)> {
        self.mask.as_ref().map(|(token, id)| (token.as_str(), *id))
    }

    /// Id of the unknown token.
    pub fn unknown_id(&self) -> Option<u32> {
        self.unknown
    }

    /// The vocabulary's own form of an id.
    pub fn id_to_token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// The text of tokens, with or without the special ones.
    ///
    /// # Errors
    /// The file's decoder cannot take them.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> Result<String> {
        guarded("cannot decode tokens", || {
            self.inner.decode(ids, skip_special)
        })
    }

    /// One more than the largest id.
    pub fn vocab_size(&self) -> usize {
        let ids = self.inner.get_vocab(true).into_values();
        ids.max().map_or(0, |id| id as usize + 1)
    }

    /// The text of one token.
    ///
    /// # Errors
    /// The file's decoder cannot take it.
    pub fn text_of(&self, id: u32) -> Result<String> {
        guarded("cannot decode a token", || self.inner.decode(&[id], false))
    }
}
