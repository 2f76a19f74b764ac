//! Training a tokenizer: count words, learn pieces, write the parts of a `tokenizer.json`.

use std::collections::{HashMap, HashSet};

use serde_json::{Value, json};

use super::alphabet::{Alphabet, WordCounts, count_characters, count_words};
use super::merges::{self, MergeTask};
use super::{CONTROL, EOS, Tokenizer, UNK, codes, guarded, language_code, unigram};
use crate::config::{TokenizerKind, TokenizerTable, tagged_language};
use crate::error::{Error, Result, setting};

/// Longest piece, in characters, as in SentencePiece.
const MAX_PIECE_CHARS: usize = 16;
/// Longest piece over bytes: as many characters of three bytes.
const MAX_PIECE_BYTES: usize = 48;
/// Marks the start of a word.
const WORD_START: &str = "▁";

/// White space that NFC leaves, and the mark that stands for it in pieces.
const SPACES: &str =
    "[\u{9}-\u{d} \u{85}\u{a0}\u{1680}\u{2000}-\u{200a}\u{2028}\u{2029}\u{202f}\u{205f}\u{3000}▁]+";
/// A run of punctuation, with the word's start if there is one. Punctuation gets pieces of its own: `Haus.` is `Haus` and `.`.
/// It also keeps text that spells `<0x0A>` apart from the byte's piece.
const PUNCTUATION: &str = r"▁?[\p{P}$+<=>^`|~]+";

impl Tokenizer {
    /// Trains a tokenizer of `table.kind` on `texts` (or applies the merges of `table.codes`). The same texts give the same
    /// tokenizer, byte for byte. `table.file` and `table.joint` are for [`super::Tokenizers`].
    ///
    /// Where the data cannot fill `vocab_size`, the vocabulary is smaller and [`Tokenizer::notes`] says so. For
    /// [`TokenizerKind::Pieces`] and for `codes` the text or the file decides the size, and `vocab_size` is not used.
    ///
    /// # Errors
    /// No text; a vocabulary too small for its special tokens and bytes; a setting out of range; a broken `codes` file.
    pub fn train<S: AsRef<str>>(
        table: &TokenizerTable,
        texts: impl IntoIterator<Item = S>,
    ) -> Result<Self> {
        check(table)?;
        let mut draft = Draft::new(table);
        let empty = json!({"type": "BPE", "vocab": {}, "merges": []});
        let cutter: tokenizers::Tokenizer = guarded("cannot train the tokenizer", || {
            draft.json(empty).to_string().parse()
        })?;
        let (words, left_out) = match table.kind {
            TokenizerKind::Characters => (count_characters(texts), 0),
            _ => count_words(&cutter, texts)?,
        };
        if left_out > 0 {
            draft.notes.push(format!(
                "{left_out} words of more than 500 characters were not learned from"
            ));
        }
        if words.is_empty() {
            return Err(Error::input("cannot train the tokenizer")
                .at("tokenizer")
                .expected("text to learn from")
                .found("no word at all")
                .hint("check the files: are all of their lines empty?"));
        }
        let model = match (&table.codes, table.kind) {
            (Some(path), _) => draft.codes(&codes::read(path)?, &words),
            (None, TokenizerKind::Bpe) => draft.bpe(&words)?,
            (None, TokenizerKind::ByteBpe) => draft.byte_bpe(&words)?,
            (None, TokenizerKind::Unigram) => draft.unigram(&words)?,
            (None, TokenizerKind::Characters) => draft.characters(&words)?,
            (None, TokenizerKind::Pieces) => draft.pieces(&words),
        };
        // Through the crate once, so that the file has the field's usual form and order.
        let whole: tokenizers::Tokenizer = guarded("cannot train the tokenizer", || {
            draft.json(model).to_string().parse()
        })?;
        let json = guarded("cannot train the tokenizer", || whole.to_string(true))?;
        let mut tokenizer = Tokenizer::from_json(json)?;
        tokenizer.notes = draft.notes;
        Ok(tokenizer)
    }
}

fn check(table: &TokenizerTable) -> Result<()> {
    let refuse = |key: &str, expected: &str, found: String| {
        let what = "a tokenizer setting is out of range";
        Err(setting(what, &format!("tokenizer.{key}"), expected, found))
    };
    let coverage = table.character_coverage;
    if !(coverage > 0.0 && coverage <= 1.0) {
        return refuse(
            "character_coverage",
            "above 0 and at most 1",
            coverage.to_string(),
        );
    }
    if table.vocab_size > 1 << 24 {
        return refuse(
            "vocab_size",
            "at most 16777216",
            table.vocab_size.to_string(),
        );
    }
    if table.codes.is_some() && !matches!(table.kind, TokenizerKind::Bpe) {
        return refuse("kind", "`bpe` with `codes`", format!("{:?}", table.kind));
    }
    for token in &table.special_tokens {
        if token.is_empty()
            || token.contains(char::is_whitespace)
            || token.contains(char::is_control)
        {
            return refuse(
                "special_tokens",
                "texts without white space",
                format!("{token:?}"),
            );
        }
    }
    Ok(())
}

/// What is known before the model is learned: special tokens and the parts around the model.
struct Draft<'a> {
    table: &'a TokenizerTable,
    special: Vec<String>,
    reserved: HashSet<String>,
    notes: Vec<String>,
}

impl<'a> Draft<'a> {
    fn new(table: &'a TokenizerTable) -> Self {
        let mut special: Vec<String> = CONTROL.map(str::to_string).to_vec();
        for token in &table.special_tokens {
            if !special.contains(token) {
                special.push(token.clone());
            }
        }
        let reserved = special.iter().cloned().chain(byte_pieces()).collect();
        Draft {
            table,
            special,
            reserved,
            notes: Vec::new(),
        }
    }

    /// Pieces that may be learned beside `fixed` ones.
    fn room(&self, fixed: usize) -> Result<usize> {
        let least = self.special.len() + fixed + 16;
        if self.table.vocab_size < least {
            return Err(Error::settings("the vocabulary is too small")
                .at("tokenizer.vocab_size")
                .expected(format!(
                    "at least {least}: {} special tokens, {fixed} bytes and some pieces",
                    self.special.len()
                ))
                .found(self.table.vocab_size.to_string())
                .hint("ask for more pieces; 8000 suit most data"));
        }
        Ok(self.table.vocab_size - self.special.len() - fixed)
    }

    fn bpe(&mut self, words: &WordCounts) -> Result<Value> {
        let room = self.room(256)?;
        let (alphabet, words) = self.alphabet(words, room);
        let merges = merges::learn(&MergeTask {
            words: &words,
            alphabet: &alphabet,
            room: room - alphabet.len(),
            max_chars: MAX_PIECE_CHARS,
            reserved: &self.reserved,
        });
        let tokens = self.special.iter().cloned().chain(byte_pieces());
        let tokens = tokens
            .chain(alphabet.iter().map(char::to_string))
            .chain(merges.pieces);
        let model = bpe_json(tokens, &merges.pairs, json!({"byte_fallback": true}));
        self.note_size(model["vocab"].as_object().map_or(0, |vocab| vocab.len()));
        Ok(model)
    }

    fn byte_bpe(&mut self, words: &WordCounts) -> Result<Value> {
        let room = self.room(256)?;
        let mut alphabet: Vec<char> = tokenizers::pre_tokenizers::byte_level::ByteLevel::alphabet()
            .into_iter()
            .collect();
        alphabet.sort_unstable();
        let merges = merges::learn(&MergeTask {
            words,
            alphabet: &alphabet,
            room,
            max_chars: MAX_PIECE_BYTES,
            reserved: &self.reserved,
        });
        let tokens = self.special.iter().cloned();
        let tokens = tokens
            .chain(alphabet.iter().map(char::to_string))
            .chain(merges.pieces);
        let model = bpe_json(tokens, &merges.pairs, json!({}));
        self.note_size(model["vocab"].as_object().map_or(0, |vocab| vocab.len()));
        Ok(model)
    }

    fn codes(&mut self, merges: &[(String, String)], words: &WordCounts) -> Value {
        let reserved = &self.reserved;
        let kept: Vec<(String, String)> = merges
            .iter()
            .filter(|(l, r)| !reserved.contains(&format!("{l}{r}")))
            .cloned()
            .collect();
        let tokens = self
            .special
            .iter()
            .cloned()
            .chain(codes::vocabulary(&kept, words));
        let suffix = json!({"end_of_word_suffix": codes::END_OF_WORD});
        bpe_json(tokens, &kept, suffix)
    }

    fn unigram(&mut self, words: &WordCounts) -> Result<Value> {
        let room = self.room(256)?;
        let (_, words) = self.alphabet(words, room);
        let pieces = unigram::learn(&words, room, MAX_PIECE_CHARS, &self.reserved)?;
        let fixed = self
            .special
            .iter()
            .cloned()
            .chain(byte_pieces())
            .map(|token| (token, 0.0));
        let vocab: Vec<(String, f64)> = fixed.chain(pieces).collect();
        self.note_size(vocab.len());
        Ok(json!({"type": "Unigram", "unk_id": 3, "byte_fallback": true, "vocab": vocab}))
    }

    fn characters(&mut self, words: &WordCounts) -> Result<Value> {
        let room = self.room(0)?;
        let coverage = f64::from(self.table.character_coverage);
        let alphabet = Alphabet::of(words, coverage, room);
        if alphabet.chars.len() < alphabet.seen {
            self.notes.push(format!(
                "{} of the text's {} characters have no piece of their own: all of them have with `character_coverage = 1.0` and \
                 a vocab_size of {}",
                alphabet.seen - alphabet.chars.len(),
                alphabet.seen,
                alphabet.seen + self.special.len(),
            ));
        }
        let tokens = self.special.iter().cloned();
        let tokens = tokens.chain(alphabet.chars.iter().map(char::to_string));
        Ok(bpe_json(tokens, &[], json!({})))
    }

    fn pieces(&mut self, words: &WordCounts) -> Value {
        let mut by_count: Vec<&(String, u64)> = words
            .iter()
            .filter(|(word, _)| !self.special.contains(word))
            .collect();
        by_count.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        let tokens = self
            .special
            .iter()
            .chain(by_count.into_iter().map(|(word, _)| word));
        let vocab: HashMap<&String, usize> =
            tokens.enumerate().map(|(id, token)| (token, id)).collect();
        json!({"type": "WordLevel", "unk_token": UNK, "vocab": vocab})
    }

    /// The characters with a piece of their own, and the words as far as they consist of them.
    fn alphabet(&mut self, words: &WordCounts, room: usize) -> (Vec<char>, WordCounts) {
        // A quarter stays for longer pieces.
        let alphabet = Alphabet::of(
            words,
            f64::from(self.table.character_coverage),
            room - room / 4,
        );
        if alphabet.cut_short {
            self.notes.push(format!(
                "a vocabulary of {} has room for {} of the text's {} characters; the rarer ones are written as bytes \
                 (a larger vocab_size would hold more)",
                self.table.vocab_size,
                alphabet.chars.len(),
                alphabet.seen,
            ));
        }
        let words = alphabet.restrict(words);
        (alphabet.chars, words)
    }

    fn note_size(&mut self, size: usize) {
        if size < self.table.vocab_size {
            self.notes.push(format!(
                "the text gives a vocabulary of {size}, fewer than the {} asked for",
                self.table.vocab_size
            ));
        }
    }

    /// The whole `tokenizer.json` around `model`.
    fn json(&self, model: Value) -> Value {
        let added = self.special.iter().enumerate().map(|(id, content)| {
            // A piece of one's own is text: special tokens are left out of it.
            json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
                   "normalized": false, "special": is_control(content)})
        });
        let parts = Parts::of(self.table);
        let eos = json!({"SpecialToken": {"id": EOS, "type_id": 0}});
        let text = |id: &str| json!({"Sequence": {"id": id, "type_id": 0}});
        json!({
            "version": "1.0",
            "truncation": null,
            "padding": null,
            "added_tokens": added.collect::<Vec<_>>(),
            "normalizer": parts.normalizer,
            "pre_tokenizer": parts.pre_tokenizer,
            "post_processor": {
                "type": "TemplateProcessing",
                "single": [text("A"), eos],
                "pair": [text("A"), eos, text("B"), eos],
                "special_tokens": {EOS: {"id": EOS, "ids": [2], "tokens": [EOS]}},
            },
            "decoder": parts.decoder,
            "model": model,
        })
    }
}

/// Whether a special token is no text: a control token, or one that names a language (`>>de<<`, `<2de>`, `deu_Latn`, `__de__`).
fn is_control(token: &str) -> bool {
    CONTROL.contains(&token) || tagged_language(token).is_some() || language_code(token).is_some()
}

/// What stands around the model of each kind.
struct Parts {
    normalizer: Value,
    pre_tokenizer: Value,
    decoder: Value,
}

impl Parts {
    fn of(table: &TokenizerTable) -> Self {
        let mut parts = Self::of_kind(table);
        if table.lowercase {
            let lowercase = json!({"type": "Lowercase"});
            parts.normalizer = match parts.normalizer {
                Value::Null => lowercase,
                other => json!({"type": "Sequence", "normalizers": [other, lowercase]}),
            };
        }
        parts
    }

    fn of_kind(table: &TokenizerTable) -> Self {
        // What stands on both sides of a piece that is never cut is normalised apart: with such pieces the spaces there are kept,
        // and only the text's first word gets one that it has not.
        let own_pieces = table.special_tokens.iter().any(|token| !is_control(token));
        let prepend = if own_pieces { "first" } else { "always" };
        let nfc = json!({"type": "NFC"});
        let spaces = json!({"type": "Replace", "pattern": {"Regex": SPACES}, "content": " "});
        let at_spaces = json!({"type": "Split", "pattern": {"String": " "}, "behavior": "Removed", "invert": false});
        match (&table.codes, table.kind) {
            (Some(_), _) => Parts {
                normalizer: Value::Null,
                pre_tokenizer: at_spaces,
                decoder: json!({"type": "BPEDecoder", "suffix": codes::END_OF_WORD}),
            },
            (None, TokenizerKind::Pieces) => Parts {
                normalizer: Value::Null,
                pre_tokenizer: at_spaces,
                // The prefix is what no piece can start with: so a space comes before every piece but the first.
                decoder: json!({"type": "Sequence", "decoders": [
                    {"type": "WordPiece", "prefix": " ", "cleanup": false},
                    {"type": "Fuse"},
                    {"type": "Replace", "pattern": {"Regex": "@@(?: |$)"}, "content": ""},
                ]}),
            },
            (None, TokenizerKind::Characters) => Parts {
                normalizer: Value::Null,
                // Lines are looked at one by one.
                pre_tokenizer: json!({"type": "Split", "pattern": {"String": "\n"}, "behavior": "Isolated", "invert": false}),
                decoder: json!({"type": "Fuse"}),
            },
            (None, TokenizerKind::ByteBpe) => {
                let bytes = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": true});
                Parts {
                    normalizer: Value::Null,
                    pre_tokenizer: bytes.clone(),
                    decoder: bytes,
                }
            }
            (None, TokenizerKind::Bpe | TokenizerKind::Unigram) => Parts {
                normalizer: json!({"type": "Sequence", "normalizers": match own_pieces {
                    true => json!([nfc, spaces]),
                    false => json!([nfc, spaces, {"type": "Strip", "strip_left": true, "strip_right": true}]),
                }}),
                pre_tokenizer: json!({"type": "Sequence", "pretokenizers": [
                    {"type": "Metaspace", "replacement": WORD_START, "prepend_scheme": prepend, "split": true},
                    {"type": "Split", "pattern": {"Regex": PUNCTUATION}, "behavior": "Isolated", "invert": false},
                ]}),
                decoder: json!({"type": "Sequence", "decoders": [
                    {"type": "Replace", "pattern": {"String": WORD_START}, "content": " "},
                    {"type": "ByteFallback"},
                    {"type": "Fuse"},
                    {"type": "Strip", "content": " ", "start": 1, "stop": 0},
                ]}),
            },
        }
    }
}

/// A BPE model of `tokens` in the order of their ids; `more` overrides its settings.
fn bpe_json(
    tokens: impl Iterator<Item = String>,
    merges: &[(String, String)],
    more: Value,
) -> Value {
    let vocab: HashMap<String, usize> = tokens.enumerate().map(|(id, token)| (token, id)).collect();
    let mut model = json!({
        "type": "BPE",
        "dropout": null,
        "unk_token": UNK,
        "continuing_subword_prefix": null,
        "end_of_word_suffix": null,
        "fuse_unk": false,
        "byte_fallback": false,
        "ignore_merges": false,
        "vocab": vocab,
        "merges": merges,
    });
    for (key, value) in more.as_object().into_iter().flatten() {
        model[key] = value.clone();
    }
    model
}

/// `<0x00>` to `<0xFF>`.
fn byte_pieces() -> impl Iterator<Item = String> {
    (0..=255u8).map(|byte| format!("<0x{byte:02X}>"))
}
