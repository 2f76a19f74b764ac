//! Text ↔ token ids.
//!
//! A tokenizer is a Hugging Face `tokenizer.json`; what is trained here gives the same ids in Python's `tokenizers` and in
//! `transformers.PreTrainedTokenizerFast`.
//!
//! | kind | text is normalised | text is cut into | unknown characters |
//! | --- | --- | --- | --- |
//! | `bpe`, `unigram` | NFC (not the NFKC of SentencePiece, which would turn Chinese `，` into `,`), runs of white space and `▁` become one space, ends trimmed | words that start with `▁`, punctuation apart | UTF-8 bytes `<0xE4>` |
//! | `byte_bpe` | not at all | GPT-2's words, over bytes | cannot occur |
//! | `characters` | not at all | characters | `<unk>` |
//! | `pieces` | not at all | what stands between spaces | `<unk>` |
//! | `bpe` with `codes` | not at all | what stands between spaces, then subword-nmt's merges | `<unk>` |
//!
//! In every kind, [`clean`] takes invisible characters away first and folds full-width letters and digits; with `lowercase` text
//! is lower-cased besides.
//!
//! Decoding gives the normalised text back. Special tokens come first in every vocabulary trained here, at fixed ids.

mod alphabet;
mod characters;
mod codes;
mod decoder;
mod dropout;
mod encoder;
mod fairseq;
mod file;
mod language;
mod library;
mod marian;
mod merges;
mod pair;
mod pieces;
mod stats;
mod t5;
mod template;
mod train;
mod unigram;
mod vocabulary;
mod words;

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::files::write_atomically;
use crate::text::clean::clean;
pub use codes::join_pieces;
pub use decoder::{DecoderTokenizer, TextStream};
pub use dropout::BpeDropout;
pub use encoder::{EncodedText, EncoderTokenizer, TextTokens};
pub use language::LanguageTokenizer;
pub use pair::Tokenizers;
pub use stats::{Split, TokenizerStats};
use template::Template;

/// Starts a text: id 0 in every tokenizer trained here.
pub const BOS: &str = "<s>";
/// Padding: id 1 in every tokenizer trained here (M2M-100 counts its positions from here).
pub const PAD: &str = "<pad>";
/// Ends a text: id 2 in every tokenizer trained here.
pub const EOS: &str = "</s>";
/// Stands for what the vocabulary does not know: id 3 in every tokenizer trained here.
pub const UNK: &str = "<unk>";

/// The special tokens that every tokenizer trained here starts with, in the order of their ids.
pub const CONTROL: [&str; 4] = [BOS, PAD, EOS, UNK];

/// How a piece shows where words begin or end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Marker {
    /// The piece's own text says it (`▁`, `##`, or nothing at all).
    Own,
    /// GPT-2's letters for bytes; `Ġ` is a space.
    Bytes,
    /// `</w>` ends a word; shown as subword-nmt shows it, with `@@` where a word goes on.
    Suffix,
    /// The text itself carries `@@`.
    Joiner,
}

/// Cuts text into tokens and puts it together again.
///
/// ```
/// use hexapla::config::{TokenizerKind, TokenizerTable};
/// use hexapla::text::tokenizer::Tokenizer;
/// let table = TokenizerTable { kind: TokenizerKind::ByteBpe, vocab_size: 280, ..Default::default() };
/// let tokenizer = Tokenizer::train(&table, ["a man and a dog", "a man"])?;
/// let ids = tokenizer.encode("a dog, 一")?;
/// assert_eq!(tokenizer.decode(&ids)?, "a dog, 一");
/// # Ok::<(), hexapla::error::Error>(())
/// ```
#[derive(Debug)]
pub struct Tokenizer {
    inner: Inner,
    json: String,
    marker: Marker,
    vocab_size: usize,
    bos: Option<u32>,
    pad: Option<u32>,
    eos: Option<u32>,
    unk: Option<u32>,
    /// Ids that are no text: left out by `decode`.
    special: HashSet<u32>,
    /// What the file's post-processor puts around a text.
    template: Template,
    notes: Vec<String>,
}

/// What cuts texts.
#[derive(Debug)]
enum Inner {
    /// A `tokenizer.json`, by the library that it is for.
    Library(Box<tokenizers::Tokenizer>),
    /// A SentencePiece model with a vocabulary.
    Pieces(pieces::PieceVocabulary),
}

impl Tokenizer {
    /// The ids of `text`, without a start or end token, after [`clean`] took away what no model should see.
    ///
    /// A SentencePiece model cleans texts in its own way, and is left to it. User tokens such as `>>de<<` are one id wherever they stand. A text that spells `</s>` is a text: the ids of
    /// [`BOS`], [`PAD`] and [`EOS`] never come out of here.
    ///
    /// # Errors
    /// A tokenizer from elsewhere that cannot tokenise this text.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        match &self.inner {
            Inner::Library(_) => self.encode_as_it_is(&clean(text)),
            Inner::Pieces(_) => self.encode_as_it_is(text),
        }
    }

    /// As [`Tokenizer::encode`], for a text that is clean, or was taken as it is when a training began.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub(crate) fn encode_as_it_is(&self, text: &str) -> Result<Vec<u32>> {
        let library = match &self.inner {
            Inner::Library(library) => library,
            Inner::Pieces(pieces) => return Ok(pieces.encode(text)),
        };
        let encoding = guarded("cannot tokenise the text", || {
            library.encode_fast(text, false)
        })
        .map_err(|e| e.at(format!("`{}`", text.chars().take(40).collect::<String>())))?;
        Ok(encoding
            .get_ids()
            .iter()
            .map(|id| self.as_text(*id))
            .collect())
    }

    /// [`Tokenizer::encode`] for many texts, on all threads, in order.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn encode_all<S: AsRef<str> + Sync>(&self, texts: &[S]) -> Result<Vec<Vec<u32>>> {
        texts
            .par_iter()
            .map(|text| self.encode(text.as_ref()))
            .collect()
    }

    /// [`Tokenizer::encode_as_it_is`] for many texts.
    pub(crate) fn encode_all_as_they_are(&self, texts: &[String]) -> Result<Vec<Vec<u32>>> {
        let ids = texts.par_iter().map(|text| self.encode_as_it_is(text));
        ids.collect()
    }

    /// A control token that a vocabulary lookup found in plain text stands for itself no longer.
    fn as_text(&self, id: u32) -> u32 {
        let id_of = Some(id);
        if id_of == self.bos || id_of == self.pad || id_of == self.eos {
            self.unk.unwrap_or(id)
        } else {
            id
        }
    }

    /// `ids` of a source text with all that the model wants around them: what the file's post-processor says, or `eos` alone at
    /// their end where it says nothing. A token of it that names a language is replaced by `language`, if that is given.
    pub fn with_template(&self, ids: Vec<u32>, eos: u32, language: Option<u32>) -> Vec<u32> {
        let Template {
            before,
            after,
            padding,
        } = &self.template;
        let named = |id: &u32| match language {
            Some(language) if self.is_language_code(*id) => language,
            _ => *id,
        };
        let mut all: Vec<u32> = before.iter().map(named).collect();
        all.extend(ids);
        all.extend(after.iter().map(named));
        if all.last() != Some(&eos) && !after.contains(&eos) {
            all.push(eos);
        }
        if let Some((length, pad)) = *padding {
            all.resize(all.len().max(length), pad);
        }
        all
    }

    /// Whether [`Tokenizer::with_template`] adds nothing but an end token.
    pub(super) fn adds_the_end_alone(&self) -> bool {
        let Template { before, after, .. } = &self.template;
        before.is_empty() && after.iter().all(|id| Some(*id) == self.eos)
    }

    /// Whether the language of a text stands behind it, as in mBART's first version.
    pub fn has_language_behind(&self) -> bool {
        self.template
            .after
            .iter()
            .any(|id| self.is_language_code(*id))
    }

    /// Tokens that [`Tokenizer::with_template`] adds at most.
    pub fn template_len(&self) -> usize {
        self.template.before.len() + self.template.after.len().max(1)
    }

    /// The special tokens that name a language by themselves, as those of NLLB (`deu_Latn`), mBART (`de_DE`) and M2M-100
    /// (`__de__`, which is `de`), with their ids.
    pub fn language_codes(&self) -> Vec<(String, u32)> {
        let codes = self.special.iter().filter_map(|id| {
            let token = self.id_to_token(*id)?;
            Some((language_code(&token)?.to_string(), *id))
        });
        let mut codes: Vec<(String, u32)> = codes.collect();
        codes.sort_unstable_by_key(|(_, id)| *id);
        codes
    }

    fn is_language_code(&self, id: u32) -> bool {
        let token = self.id_to_token(id).filter(|_| self.special.contains(&id));
        token.is_some_and(|token| language_code(&token).is_some())
    }

    /// The text of `ids`; control tokens are left out. A piece of one's own that is never cut is text.
    ///
    /// # Errors
    /// An id beyond the vocabulary.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        if let Some(id) = ids.iter().find(|id| **id as usize >= self.vocab_size) {
            return Err(Error::input("cannot decode token ids")
                .at("token ids")
                .expected(format!("ids below {}", self.vocab_size))
                .found(id.to_string())
                .hint("use the tokenizer that made these ids"));
        }
        let text: Vec<u32> = ids
            .iter()
            .copied()
            .filter(|id| !self.special.contains(id))
            .collect();
        if text.is_empty() {
            // Some decoders of the crate count on a first token.
            return Ok(String::new());
        }
        match &self.inner {
            Inner::Library(library) => {
                guarded("cannot decode token ids", || library.decode(&text, false))
            }
            Inner::Pieces(pieces) => Ok(pieces.decode(&text)),
        }
    }

    /// `text` as the model sees it, cleaned and normalised: what `decode(encode(text))` gives back where no special token or unknown piece
    /// stands in it.
    ///
    /// # Errors
    /// A tokenizer from elsewhere that cannot normalise this text.
    pub fn normalize(&self, text: &str) -> Result<String> {
        use tokenizers::Normalizer;
        let library = match &self.inner {
            Inner::Library(library) => library,
            Inner::Pieces(pieces) => return Ok(pieces.normalize(text)),
        };
        let mut normalized = tokenizers::NormalizedString::from(&*clean(text));
        if let Some(normalizer) = library.get_normalizer() {
            guarded("cannot normalise the text", || {
                normalizer.normalize(&mut normalized)
            })?;
        }
        Ok(normalized.get().to_string())
    }

    /// The pieces of `text`, one for each id that [`Tokenizer::encode`] gives, as [`Tokenizer::piece`] writes them.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn pieces(&self, text: &str) -> Result<Vec<String>> {
        let ids = self.encode(text)?;
        Ok(ids
            .iter()
            .map(|id| self.piece(*id).unwrap_or_default())
            .collect())
    }

    /// The token with this id as people write it: the vocabulary's own form, except that subword-nmt's `brea` and
    /// `king</w>` are written `brea@@` and `king`.
    pub fn piece(&self, id: u32) -> Option<String> {
        let token = self.id_to_token(id)?;
        if self.marker != Marker::Suffix || self.special.contains(&id) {
            return Some(token);
        }
        Some(match token.strip_suffix(codes::END_OF_WORD) {
            Some(word_end) => word_end.to_string(),
            None => format!("{token}{}", codes::JOINER),
        })
    }

    /// The id of a piece written as [`Tokenizer::piece`] writes it.
    pub fn piece_to_id(&self, piece: &str) -> Option<u32> {
        if self.marker == Marker::Suffix {
            let token = match piece.strip_suffix(codes::JOINER) {
                Some(inner) => inner.to_string(),
                None => format!("{piece}{}", codes::END_OF_WORD),
            };
            if let Some(id) = self.token_to_id(&token) {
                return Some(id);
            }
        }
        self.token_to_id(piece)
    }

    /// The vocabulary's own form of an id.
    pub fn id_to_token(&self, id: u32) -> Option<String> {
        match &self.inner {
            Inner::Library(library) => library.id_to_token(id),
            Inner::Pieces(pieces) => pieces.id_to_token(id),
        }
    }

    /// The id of a token in the vocabulary's own form.
    pub fn token_to_id(&self, token: &str) -> Option<u32> {
        match &self.inner {
            Inner::Library(library) => library.token_to_id(token),
            Inner::Pieces(pieces) => pieces.token_to_id(token),
        }
    }

    /// All tokens in the vocabulary's own form, in the order of their ids.
    pub fn tokens(&self) -> impl Iterator<Item = String> {
        (0..self.vocab_size as u32).filter_map(|id| self.id_to_token(id))
    }

    /// Rows that an embedding table needs: one more than the largest id.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// Id of the token that starts a text.
    pub fn bos_id(&self) -> Option<u32> {
        self.bos
    }

    /// Id of the padding token.
    pub fn pad_id(&self) -> Option<u32> {
        self.pad
    }

    /// Id of the token that ends a text.
    pub fn eos_id(&self) -> Option<u32> {
        self.eos
    }

    /// Id of the unknown token.
    pub fn unk_id(&self) -> Option<u32> {
        self.unk
    }

    /// Whether an id is a special token, which no text contains.
    pub fn is_special(&self, id: u32) -> bool {
        self.special.contains(&id)
    }

    /// What a person should be told about the training (for example that the data gave fewer pieces than were asked for);
    /// empty for a tokenizer that was read from a file.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The `tokenizer.json`, byte for byte as it was read or as training made it; empty for a SentencePiece model.
    pub fn to_json(&self) -> &str {
        &self.json
    }

    /// The `tokenizer_config.json` with which `transformers.AutoTokenizer` opens the folder.
    pub fn config_json(&self, max_length: usize) -> String {
        let token = |id: Option<u32>| id.and_then(|id| self.id_to_token(id));
        let config = serde_json::json!({
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": max_length,
            "clean_up_tokenization_spaces": false,
            "bos_token": token(self.bos),
            "eos_token": token(self.eos),
            "pad_token": token(self.pad),
            "unk_token": token(self.unk),
        });
        format!("{config:#}\n")
    }

    /// Writes `tokenizer.json` at `path`: all of it or nothing.
    ///
    /// # Errors
    /// The folder is missing or cannot be written to.
    pub fn save(&self, path: &Path) -> Result<()> {
        write_atomically(path, |w| w.write_all(self.json.as_bytes()))
    }
}

/// The language that a special token names: `deu_Latn`, `de_DE`, or `de` of `__de__`.
fn language_code(token: &str) -> Option<&str> {
    let lower = |s: &str| (2..=3).contains(&s.len()) && s.bytes().all(|b| b.is_ascii_lowercase());
    if let Some(code) = token
        .strip_prefix("__")
        .and_then(|rest| rest.strip_suffix("__"))
    {
        return Some(code).filter(|code| lower(code));
    }
    let (language, script) = token.split_once('_')?;
    let named = match script.as_bytes() {
        [first, rest @ ..] if rest.len() == 3 => {
            first.is_ascii_uppercase() && rest.iter().all(u8::is_ascii_lowercase)
        }
        region => region.len() == 2 && region.iter().all(u8::is_ascii_uppercase),
    };
    (named && lower(language)).then_some(token)
}

/// Runs the `tokenizers` crate and turns a panic inside it into an error.
///
/// What can be checked beforehand is checked when a file is read. What cannot: the crate's own parsers panic on some broken
/// parts that only they understand (a `Precompiled` character map is a double array whose offsets are followed unchecked;
/// added tokens that strip spaces can overlap; an added token's normalisation is unwrapped). To foresee these would mean to
/// write those parsers again. A panic leaves no broken state behind: the crate's only mutable state is a cache whose lock is
/// tried, never waited for.
fn guarded<T>(what: &str, run: impl FnOnce() -> tokenizers::Result<T>) -> Result<T> {
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(Error::model(what)
            .expected("a tokenizer.json of the `tokenizers` library")
            .found(error.to_string())
            .hint("check where this tokenizer.json comes from")),
        Err(_) => Err(Error::model(what)
            .expected("a tokenizer.json of the `tokenizers` library")
            .found("a tokenizer whose parts contradict each other")
            .hint("check where this tokenizer.json comes from, or train one with `hexapla tokenizer train`")),
    }
}

#[cfg(test)]
mod tests;
