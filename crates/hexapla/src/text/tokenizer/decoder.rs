//! The tokenizers of decoders alone, used as these models' own programs use them: a special token that stands in a text is one
//! (`<|im_start|>`), and no character is taken away.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::file::{MAX_BYTES, check, prepare_settings};
use super::library::TokenizerFile;
use super::{guarded, pieces, vocabulary};
use crate::error::{Error, Result};
use crate::files::Folder;
use crate::text::sentencepiece::SentencePiece;

const FILE: &str = "tokenizer.json";
/// SentencePiece's, of Llama 1 and 2 and of Mistral.
const MODEL: &str = "tokenizer.model";

/// Cuts texts for a decoder, and puts its output together.
#[derive(Debug)]
pub struct DecoderTokenizer(Inner);

#[derive(Debug)]
enum Inner {
    Library(Box<tokenizers::Tokenizer>),
    SentencePiece {
        model: Box<SentencePiece>,
        /// What begins a text.
        begin: Option<u32>,
        /// Special tokens, by their texts, the longest first.
        special: Vec<(String, u32)>,
    },
}

/// Text as its tokens come.
#[derive(Debug, Clone)]
pub struct TextStream {
    tokenizer: Arc<DecoderTokenizer>,
    /// Tokens whose text is not told, and some before them, on which it may depend.
    ids: Vec<u32>,
    /// The text of `ids` that is told.
    before: String,
}

impl DecoderTokenizer {
    /// Reads `tokenizer.json` from a model's folder; or the byte-level BPE that GPT-2 was published with, `vocab.json` and
    /// `merges.txt`; or SentencePiece's `tokenizer.model`.
    ///
    /// # Errors
    /// The folder holds none of them, or a file is broken.
    pub fn open_folder(folder: &Folder) -> Result<Self> {
        let settings = pieces::read_settings(folder)?;
        if !folder.contains(FILE) && !vocabulary::has_bytes(folder) && folder.contains(MODEL) {
            let bytes = folder.read(MODEL, MAX_BYTES)?;
            let tokenizer = Self::from_sentencepiece(&bytes, &settings);
            return tokenizer.map_err(|e| e.within(folder.path_of(MODEL).display()));
        }
        let (name, json) = match folder.contains(FILE) {
            true => (FILE, pieces::read_text(folder, FILE)?),
            false if vocabulary::has_bytes(folder) => {
                let (name, json) = vocabulary::read(folder, &settings)?;
                (name, of_gpt2(json).to_string())
            }
            false => {
                return Err(Error::model("the folder has no tokenizer")
                    .at(folder.path().display().to_string())
                    .expected(format!("{FILE}; or vocab.json and merges.txt; or {MODEL}"))
                    .found("none")
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
        Ok(DecoderTokenizer(Inner::Library(Box::new(file.build()?))))
    }

    /// The same, to which special tokens that stand in a text are text.
    pub(super) fn with_special_tokens_as_text(mut self) -> Self {
        if let Inner::Library(inner) = &mut self.0 {
            inner.set_encode_special_tokens(true);
        }
        self
    }

    /// The tokenizer among the files that would lie beside a model; nothing where there is none.
    ///
    /// # Errors
    /// It is broken.
    pub(crate) fn from_files(files: &BTreeMap<String, Vec<u8>>) -> Result<Option<Self>> {
        if let Some(json) = files.get(FILE) {
            return Self::from_json(&String::from_utf8_lossy(json)).map(Some);
        }
        let Some(model) = files.get(MODEL) else {
            return Ok(None);
        };
        let settings = files.get("tokenizer_config.json");
        let settings = settings.and_then(|bytes| serde_json::from_slice(bytes).ok());
        Self::from_sentencepiece(model, &settings.unwrap_or_default()).map(Some)
    }

    /// A file of SentencePiece. `settings` are those of `tokenizer_config.json`.
    fn from_sentencepiece(bytes: &[u8], settings: &Value) -> Result<Self> {
        let begins = settings["add_bos_token"].as_bool().unwrap_or(true);
        let model = SentencePiece::from_bytes(bytes)?;
        let numbered = (0..).zip(model.pieces());
        let special = numbered.filter(|(id, _)| model.is_control(*id));
        let mut special: Vec<(String, u32)> =
            special.map(|(id, piece)| (piece.to_string(), id)).collect();
        special.sort_by_key(|(piece, _)| std::cmp::Reverse(piece.len()));
        Ok(DecoderTokenizer(Inner::SentencePiece {
            begin: model.id("<s>").filter(|_| begins),
            model: Box::new(model),
            special,
        }))
    }

    /// The tokens of `text`, with what the tokenizer puts around a text (such as a token that begins it) or without.
    ///
    /// # Errors
    /// The tokenizer cannot take the text.
    pub fn encode(&self, text: &str, around: bool) -> Result<Vec<u32>> {
        let shown = || format!("`{}`", text.chars().take(40).collect::<String>());
        match &self.0 {
            Inner::Library(inner) => {
                let encoding = guarded("cannot tokenise the text", || {
                    inner.encode_fast(text, around)
                });
                Ok(encoding.map_err(|e| e.at(shown()))?.get_ids().to_vec())
            }
            Inner::SentencePiece {
                model,
                begin,
                special,
            } => {
                let mut ids: Vec<u32> = begin.filter(|_| around).into_iter().collect();
                let mut rest = text;
                while !rest.is_empty() {
                    let found = special.iter().filter_map(|(piece, id)| {
                        let at = rest.find(piece.as_str())?;
                        Some((at, piece.len(), *id))
                    });
                    // The longest of those that come first: the list has it before the others.
                    let first = found.min_by_key(|(at, ..)| *at);
                    let (plain, next) = match first {
                        Some((at, len, id)) => (&rest[..at], Some((at + len, id))),
                        None => (rest, None),
                    };
                    if !plain.is_empty() {
                        ids.extend(model.encode(plain).iter().map(|piece| piece.id));
                    }
                    match next {
                        Some((end, id)) => {
                            ids.push(id);
                            rest = &rest[end..];
                        }
                        None => rest = "",
                    }
                }
                Ok(ids)
            }
        }
    }

    /// The text of `ids`, without special tokens.
    ///
    /// # Errors
    /// The tokenizer's decoder cannot take them.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        match &self.0 {
            Inner::Library(inner) => guarded("cannot decode tokens", || inner.decode(ids, true)),
            Inner::SentencePiece { model, .. } => {
                let all: Vec<&str> = ids
                    .iter()
                    .filter(|id| !model.is_control(**id))
                    .filter_map(|id| model.piece(*id))
                    .collect();
                Ok(model.decode(&all))
            }
        }
    }

    /// Text of tokens that come one by one behind those of `before`, without special tokens.
    ///
    /// # Errors
    /// The tokenizer's decoder cannot take those before.
    pub fn stream(self: &Arc<Self>, before: &[u32]) -> Result<TextStream> {
        let ids = before[before.len().saturating_sub(KEPT)..].to_vec();
        Ok(TextStream {
            before: self.decode(&ids)?,
            tokenizer: self.clone(),
            ids,
        })
    }

    /// The vocabulary's own form of an id.
    pub fn id_to_token(&self, id: u32) -> Option<String> {
        match &self.0 {
            Inner::Library(inner) => inner.id_to_token(id),
            Inner::SentencePiece { model, .. } => model.piece(id).map(str::to_string),
        }
    }

    /// Whether `id` is a special token, which is no text.
    pub fn is_special(&self, id: u32) -> bool {
        match &self.0 {
            Inner::Library(inner) => {
                let added = inner.get_added_vocabulary();
                let token = inner.id_to_token(id);
                token.is_some_and(|token| added.is_special_token(&token))
            }
            Inner::SentencePiece { model, .. } => model.is_control(id),
        }
    }

    /// The id of a token.
    pub fn token_to_id(&self, token: &str) -> Option<u32> {
        match &self.0 {
            Inner::Library(inner) => inner.token_to_id(token),
            Inner::SentencePiece { model, .. } => model.id(token),
        }
    }

    /// One more than the largest id.
    pub fn vocab_size(&self) -> usize {
        match &self.0 {
            Inner::Library(inner) => {
                let ids = inner.get_vocab(true).into_values();
                ids.max().map_or(0, |id| id as usize + 1)
            }
            Inner::SentencePiece { model, .. } => model.len(),
        }
    }
}

/// Tokens that are kept before those whose text is not told.
const KEPT: usize = 8;

impl TextStream {
    /// What text another token makes certain; nothing while a character is not whole.
    ///
    /// # Errors
    /// The tokenizer's decoder cannot take it.
    pub fn push(&mut self, id: u32) -> Result<String> {
        self.ids.push(id);
        let whole = self.tokenizer.decode(&self.ids)?;
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
        let whole = self.tokenizer.decode(&self.ids)?;
        self.tell(whole)
    }

    fn tell(&mut self, whole: String) -> Result<String> {
        let new = whole.get(self.before.len()..).unwrap_or_default();
        let new = new.to_string();
        self.before = whole;
        let surplus = self.ids.len().saturating_sub(KEPT);
        if surplus >= KEPT {
            self.ids.drain(..surplus);
            self.before = self.tokenizer.decode(&self.ids)?;
        }
        Ok(new)
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Letters, some pieces of several, bytes, and three special tokens.
    fn sentencepiece(settings: &Value) -> DecoderTokenizer {
        let bytes = (0..256).map(|b| (format!("<0x{b:02X}>"), 0.0, 6));
        let special = [("<unk>", 2), ("<s>", 3), ("</s>", 3)];
        let special = special.map(|(piece, kind)| (piece.to_string(), 0.0, kind));
        let words = ["▁", "a", "b", "c", "ab", "▁ab", "▁abc", "▁c"];
        let words = words.iter().zip(0..);
        let words = words.map(|(piece, i)| (piece.to_string(), i as f32 - 9.0, 1));
        let pieces = special.into_iter().chain(bytes).chain(words);
        let file = SentencePiece::file_of_bpe(pieces, true);
        DecoderTokenizer::from_sentencepiece(&file, settings).unwrap()
    }

    #[test]
    fn sentencepiece_cuts_and_puts_together() {
        let tokenizer = sentencepiece(&Value::Null);
        let tokens = |text: &str| -> Vec<String> {
            let ids = tokenizer.encode(text, true).unwrap();
            let token = |id: &u32| tokenizer.id_to_token(*id).unwrap();
            ids.iter().map(token).collect()
        };
        assert_eq!(tokens("abc  c"), ["<s>", "▁abc", "▁", "▁c"]);
        assert_eq!(tokens(""), ["<s>"]);
        assert_eq!(tokens("aé"), ["<s>", "▁", "a", "<0xC3>", "<0xA9>"]);
        assert_eq!(tokens("ab</s>c<s>"), ["<s>", "▁ab", "</s>", "▁c", "<s>"]);
        for text in ["abc  c", "é ab ü", "  a", ""] {
            let ids = tokenizer.encode(text, true).unwrap();
            assert_eq!(tokenizer.decode(&ids).unwrap(), text);
        }
        assert_eq!(tokenizer.vocab_size(), 3 + 256 + 8);
        let bare = sentencepiece(&json!({"add_bos_token": false}));
        assert_eq!(
            bare.encode("c", true).unwrap(),
            bare.encode("c", false).unwrap()
        );
    }

    #[test]
    fn text_that_comes_token_by_token_is_the_whole_text() {
        let tokenizer = Arc::new(sentencepiece(&Value::Null));
        let text = "abc é c  ab üab".repeat(5);
        let ids = tokenizer.encode(&text, true).unwrap();
        for given in [1, 2, 5, 9, 20, ids.len() - 1] {
            let (before, behind) = ids.split_at(given);
            let mut stream = tokenizer.stream(before).unwrap();
            let mut told = String::new();
            for id in behind {
                let new = stream.push(*id).unwrap();
                assert!(!new.contains('\u{FFFD}'));
                told.push_str(&new);
            }
            told.push_str(&stream.finish().unwrap());
            // What is between two bytes of a character is lost on both sides.
            if let Ok(before) = tokenizer.decode(before)
                && !before.ends_with('\u{FFFD}')
            {
                assert_eq!(before + &told, text, "{given}");
            }
        }
    }
}
