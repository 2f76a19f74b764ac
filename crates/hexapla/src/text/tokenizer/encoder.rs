//! The tokenizers of encoders, used as these models' own programs use them: a special token that stands in a text is one
//! (`[MASK]`), no character is taken away beforehand, and a pair of texts has segments.

use std::ops::Range;

use serde_json::{Map, Value, json};
use tokenizers::{Encoding, PostProcessor};

use super::file::{MAX_BYTES, check, prepare_settings};
use super::guarded;
use crate::error::{Error, Result};
use crate::files::Folder;

const FILE: &str = "tokenizer.json";
const WORDS_FILE: &str = "vocab.txt";
const SETTINGS_FILE: &str = "tokenizer_config.json";

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
    /// Reads `tokenizer.json`, or BERT's `vocab.txt`, from a model's folder.
    ///
    /// # Errors
    /// The folder holds neither, or a file is broken.
    pub fn open_folder(folder: &Folder) -> Result<Self> {
        let settings = match folder.contains(SETTINGS_FILE) {
            true => {
                serde_json::from_slice(&folder.read(SETTINGS_FILE, MAX_BYTES)?).map_err(|e| {
                    broken()
                        .at(folder.path_of(SETTINGS_FILE).display().to_string())
                        .found(e.to_string())
                })?
            }
            false => Value::Null,
        };
        let (name, json) = if folder.contains(FILE) {
            let bytes = folder.read(FILE, MAX_BYTES)?;
            let json: Value = serde_json::from_slice(&bytes).map_err(|e| {
                broken()
                    .at(folder.path_of(FILE).display().to_string())
                    .found(e.to_string())
            })?;
            (FILE, json)
        } else if folder.contains(WORDS_FILE) {
            let bytes = folder.read(WORDS_FILE, MAX_BYTES)?;
            (
                WORDS_FILE,
                word_pieces(&String::from_utf8_lossy(&bytes), &settings),
            )
        } else {
            return Err(Error::model("the folder has no tokenizer")
                .at(folder.path().display().to_string())
                .expected(format!("{FILE}, or {WORDS_FILE}"))
                .found("neither")
                .hint("put the model's tokenizer there, or work with ids: `hexapla logits`"));
        };
        Self::from_value(json, &settings).map_err(|e| e.within(folder.path_of(name).display()))
    }

    /// `settings` are those of `tokenizer_config.json`.
    fn from_value(mut json: Value, settings: &Value) -> Result<Self> {
        check(&json)?;
        prepare_settings(&mut json);
        let text = json.to_string();
        let inner: tokenizers::Tokenizer = guarded("cannot read the tokenizer", || text.parse())?;
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

    /// The text of one token.
    ///
    /// # Errors
    /// The file's decoder cannot take it.
    pub fn text_of(&self, id: u32) -> Result<String> {
        guarded("cannot decode a token", || self.inner.decode(&[id], false))
    }
}

fn broken() -> Error {
    Error::model("the tokenizer cannot be used").hint("copy or download the folder again")
}

/// The `tokenizer.json` of BERT's word pieces, one a line, with the settings of `tokenizer_config.json`.
fn word_pieces(lines: &str, settings: &Value) -> Value {
    let mut vocab = Map::new();
    for (number, line) in lines.lines().enumerate() {
        vocab.insert(line.trim_end_matches('\r').to_string(), json!(number));
    }
    let flag = |key: &str, absent: bool| settings[key].as_bool().unwrap_or(absent);
    let special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];
    let added: Vec<Value> = special
        .iter()
        .filter_map(|token| {
            Some(json!({"id": vocab.get(*token)?, "content": token, "single_word": false, "lstrip": false,
                "rstrip": false, "normalized": false, "special": true}))
        })
        .collect();
    let id = |token: &str| vocab.get(token).cloned().unwrap_or(json!(0));
    let part =
        |token: &str, segment: u32| json!({"SpecialToken": {"id": token, "type_id": segment}});
    let text = |name: &str, segment: u32| json!({"Sequence": {"id": name, "type_id": segment}});
    let known = |token: &str| json!({"id": token, "ids": [id(token)], "tokens": [token]});
    json!({
        "version": "1.0",
        "added_tokens": added,
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": true,
            "handle_chinese_chars": flag("tokenize_chinese_chars", true),
            "strip_accents": settings["strip_accents"].as_bool(),
            "lowercase": flag("do_lower_case", true),
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [part("[CLS]", 0), text("A", 0), part("[SEP]", 0)],
            "pair": [part("[CLS]", 0), text("A", 0), part("[SEP]", 0), text("B", 1), part("[SEP]", 1)],
            "special_tokens": {"[CLS]": known("[CLS]"), "[SEP]": known("[SEP]")},
        },
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true},
        "model": {
            "type": "WordPiece",
            "unk_token": "[UNK]",
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": vocab,
        },
    })
}
