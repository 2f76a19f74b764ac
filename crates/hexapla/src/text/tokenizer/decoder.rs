//! The tokenizers of decoders alone, used as these models' own programs use them: a special token that stands in a text is one
//! (`<|im_start|>`), and no character is taken away.

use serde_json::{Value, json};

use super::file::{check, prepare_settings};
use super::library::TokenizerFile;
use super::{guarded, pieces, vocabulary};
use crate::error::{Error, Result};
use crate::files::Folder;

const FILE: &str = "tokenizer.json";

/// Cuts texts for a decoder, and puts its output together.
#[derive(Debug)]
pub struct DecoderTokenizer {
    inner: tokenizers::Tokenizer,
}

/// Text as its tokens come.
pub struct TextStream<'a> {
    inner: &'a tokenizers::Tokenizer,
    /// Tokens whose text is not told, and some before them, on which it may depend.
    ids: Vec<u32>,
    /// The text of `ids` that is told.
    before: String,
}

impl DecoderTokenizer {
    /// Reads `tokenizer.json` from a model's folder, or the byte-level BPE that GPT-2 was published with: `vocab.json` and
    /// `merges.txt`.
    ///
    /// # Errors
    /// The folder holds neither, or a file is broken.
    pub fn open_folder(folder: &Folder) -> Result<Self> {
        let (name, json) = match folder.contains(FILE) {
            true => (FILE, pieces::read_text(folder, FILE)?),
            false if vocabulary::has_bytes(folder) => {
                let settings = pieces::read_settings(folder)?;
                let (name, json) = vocabulary::read(folder, &settings)?;
                (name, of_gpt2(json).to_string())
            }
            false => {
                return Err(Error::model("the folder has no tokenizer")
                    .at(folder.path().display().to_string())
                    .expected("tokenizer.json; or vocab.json and merges.txt")
                    .found("neither")
                    .hint("put the model's tokenizer there, or work with ids: `--input-ids`"));
            }
        };
        Self::from_json(&json).map_err(|e| e.within(folder.path_of(name).display()))
    }

    /// A `tokenizer.json`.
    ///
    /// # Errors
    /// It is broken.
    pub fn from_json(json: &str) -> Result<Self> {
        let mut file = TokenizerFile::read(json)?;
        check(&file)?;
        prepare_settings(&mut file.parts);
        Ok(DecoderTokenizer {
            inner: file.build()?,
        })
    }

    /// The tokens of `text`, with what the tokenizer puts around a text (such as a token that begins it) or without.
    ///
    /// # Errors
    /// The tokenizer cannot take the text.
    pub fn encode(&self, text: &str, around: bool) -> Result<Vec<u32>> {
        let encoding = guarded("cannot tokenise the text", || {
            self.inner.encode_fast(text, around)
        });
        let shown = || format!("`{}`", text.chars().take(40).collect::<String>());
        Ok(encoding.map_err(|e| e.at(shown()))?.get_ids().to_vec())
    }

    /// The text of `ids`, without special tokens.
    ///
    /// # Errors
    /// The tokenizer's decoder cannot take them.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        guarded("cannot decode tokens", || self.inner.decode(ids, true))
    }

    /// Text of tokens that come one by one, without special tokens.
    pub fn stream(&self) -> TextStream<'_> {
        TextStream {
            inner: &self.inner,
            ids: Vec::new(),
            before: String::new(),
        }
    }

    /// The vocabulary's own form of an id.
    pub fn id_to_token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// The id of a token.
    pub fn token_to_id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// One more than the largest id.
    pub fn vocab_size(&self) -> usize {
        let ids = self.inner.get_vocab(true).into_values();
        ids.max().map_or(0, |id| id as usize + 1)
    }
}

/// Tokens that are kept before those whose text is not told.
const KEPT: usize = 8;

impl TextStream<'_> {
    /// What text another token makes certain; nothing while a character is not whole.
    ///
    /// # Errors
    /// The tokenizer's decoder cannot take it.
    pub fn push(&mut self, id: u32) -> Result<String> {
        self.ids.push(id);
        let whole = self.decode(&self.ids)?;
        if whole.ends_with('\u{FFFD}') {
            return Ok(String::new());
        }
        self.tell(whole)
    }

    /// What is left when no token follows.
    ///
    /// # Errors
    /// As [`TextStream::push`].
    pub fn finish(&mut self) -> Result<String> {
        let whole = self.decode(&self.ids)?;
        self.tell(whole)
    }

    fn tell(&mut self, whole: String) -> Result<String> {
        let new = whole.get(self.before.len()..).unwrap_or_default();
        let new = new.to_string();
        self.before = whole;
        let surplus = self.ids.len().saturating_sub(KEPT);
        if surplus >= KEPT {
            self.ids.drain(..surplus);
            self.before = self.decode(&self.ids)?;
        }
        Ok(new)
    }

    fn decode(&self, ids: &[u32]) -> Result<String> {
        guarded("cannot decode tokens", || self.inner.decode(ids, true))
    }
}

/// Of what RoBERTa's files say, what GPT-2's say: no token stands around a text.
fn of_gpt2(mut json: Value) -> Value {
    json["post_processor"] = json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": false, "use_regex": true});
    let end = json["model"]["vocab"]["<|endoftext|>"].clone();
    json["added_tokens"] = match end.is_u64() {
        true => {
            json!([{"id": end, "content": "<|endoftext|>", "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true}])
        }
        false => json!([]),
    };
    json
}
