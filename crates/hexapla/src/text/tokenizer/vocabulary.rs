//! The vocabularies that encoders are published with where they have no `tokenizer.json`, as what such a file would say: BERT's
//! word pieces (`vocab.txt`), RoBERTa's byte-level BPE (`vocab.json`, `merges.txt`), and the SentencePiece models of XLM-RoBERTa
//! and CamemBERT (`sentencepiece.bpe.model`).

use serde_json::{Map, Value, json};

use super::file::MAX_BYTES;
use super::library::broken;
use super::{Tokenizer, fairseq, pieces};
use crate::error::{Error, Result};
use crate::files::Folder;
use crate::text::sentencepiece::UnigramTable;

const WORDS: &str = "vocab.txt";
const BYTES: &str = "vocab.json";
const MERGES: &str = "merges.txt";

/// The tokens that are no text.
struct SpecialTokens {
    /// Begins a text.
    cls: String,
    /// Ends a text, and stands between two.
    sep: String,
    pad: String,
    unk: String,
    mask: String,
}

impl SpecialTokens {
    /// Those that `settings` name, and the usual ones: `[cls, sep, pad, unk, mask]`.
    fn new(settings: &Value, usual: [&str; 5]) -> Self {
        let [cls, sep, pad, unk, mask] = usual;
        let token = |key: &str, usual: &str| {
            let own = &settings[key];
            let own = own.as_str().or(own["content"].as_str());
            own.unwrap_or(usual).to_string()
        };
        SpecialTokens {
            cls: token("cls_token", cls),
            sep: token("sep_token", sep),
            pad: token("pad_token", pad),
            unk: token("unk_token", unk),
            mask: token("mask_token", mask),
        }
    }

    /// As a file lists them; `id` says which of them a vocabulary has. Except in BERT a mask takes the spaces before it.
    fn added(&self, id: impl Fn(&str) -> Option<u64>, mask_takes_spaces: bool) -> Vec<Value> {
        let tokens = [&self.cls, &self.pad, &self.sep, &self.unk, &self.mask];
        let known = tokens.iter().filter_map(|token| Some((token, id(token)?)));
        let added = known.map(|(token, id)| {
            let strips = mask_takes_spaces && **token == self.mask;
            added_token(id, token, strips, true)
        });
        added.collect()
    }
}

fn added_token(id: u64, content: &str, lstrip: bool, special: bool) -> Value {
    json!({"id": id, "content": content, "single_word": false, "lstrip": lstrip, "rstrip": false, "normalized": false,
        "special": special})
}

/// Whether `folder` has any of the files.
pub(super) fn is_there(folder: &Folder) -> bool {
    [WORDS, BYTES, fairseq::MODEL]
        .iter()
        .any(|name| folder.contains(name))
}

/// Whether `folder` has the vocabulary and the merges of byte-level BPE.
pub(super) fn has_bytes(folder: &Folder) -> bool {
    folder.contains(BYTES) && folder.contains(MERGES)
}

/// The tokenizer of `folder` where that is the input of a decoder too (BART).
///
/// # Errors
/// As [`read`].
pub(super) fn open(folder: &Folder) -> Result<Tokenizer> {
    let settings = pieces::read_settings(folder)?;
    let (name, json) = read(folder, &settings)?;
    let tokenizer = Tokenizer::from_json(json.to_string());
    tokenizer.map_err(|e| e.within(folder.path_of(name).display()))
}

/// What `tokenizer.json` would say, and the file that it comes from.
///
/// # Errors
/// `folder` has no such vocabulary, or one that is broken.
pub(super) fn read(folder: &Folder, settings: &Value) -> Result<(&'static str, Value)> {
    if folder.contains(WORDS) {
        let lines = pieces::read_text(folder, WORDS)?;
        return Ok((WORDS, words(&lines, settings)));
    }
    if has_bytes(folder) {
        let merges = read_merges(&pieces::read_text(folder, MERGES)?)
            .map_err(|e| e.within(folder.path_of(MERGES).display()))?;
        return Ok((
            BYTES,
            bytes(pieces::read_json(folder, BYTES)?, merges, settings),
        ));
    }
    if let Some(class) = fairseq::encoder_class(folder, settings)? {
        let model = folder.read(fairseq::MODEL, MAX_BYTES)?;
        let table = UnigramTable::read(&model);
        let table = table.map_err(|e| e.within(folder.path_of(fairseq::MODEL).display()))?;
        return Ok((fairseq::MODEL, unigrams(table, class, settings)));
    }
    Err(Error::model("the folder has no tokenizer")
        .at(folder.path().display().to_string())
        .expected(format!(
            "tokenizer.json; or {WORDS}; or {BYTES} and {MERGES}; or {} of XLM-RoBERTa or CamemBERT",
            fairseq::MODEL
        ))
        .found("none")
        .hint("put the model's tokenizer there, or work with ids: `hexapla logits`"))
}

/// Word pieces, one a line. MPNet's have the control tokens of RoBERTa.
fn words(lines: &str, settings: &Value) -> Value {
    let mut vocab = Map::new();
    for (number, line) in lines.lines().enumerate() {
        vocab.insert(line.trim_end_matches('\r').to_string(), json!(number));
    }
    let is_mpnet = !vocab.contains_key("[CLS]") && vocab.contains_key("<s>");
    let tokens = match is_mpnet {
        true => SpecialTokens::new(settings, ["<s>", "</s>", "<pad>", "[UNK]", "<mask>"]),
        false => SpecialTokens::new(settings, ["[CLS]", "[SEP]", "[PAD]", "[UNK]", "[MASK]"]),
    };
    let id = |token: &str| vocab.get(token).and_then(Value::as_u64);
    let flag = |key: &str, absent: bool| settings[key].as_bool().unwrap_or(absent);
    json!({
        "version": "1.0",
        "added_tokens": tokens.added(id, is_mpnet),
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": true,
            "handle_chinese_chars": flag("tokenize_chinese_chars", true),
            "strip_accents": settings["strip_accents"].as_bool(),
            "lowercase": flag("do_lower_case", true),
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": match is_mpnet {
            true => roberta_processing(&tokens, id, false),
            false => template(&tokens, id, [0, 1], 1),
        },
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true},
        "model": {
            "type": "WordPiece",
            "unk_token": tokens.unk,
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": vocab,
        },
    })
}

/// The pairs of pieces that are joined, in their order.
fn read_merges(text: &str) -> Result<Vec<Value>> {
    let lines = text.lines().enumerate();
    let lines = lines.filter(|(i, line)| !line.is_empty() && (*i > 0 || !line.starts_with('#')));
    let pairs = lines.map(|(i, line)| match line.split_once(' ') {
        Some((left, right)) if !right.contains(' ') => Ok(json!([left, right])),
        _ => Err(broken()
            .at(format!("line {}", i + 1))
            .expected("two pieces with a space between them")
            .found(format!("`{line}`"))),
    });
    pairs.collect()
}

/// Byte-level BPE.
fn bytes(vocab: Value, merges: Vec<Value>, settings: &Value) -> Value {
    let tokens = SpecialTokens::new(settings, ["<s>", "</s>", "<pad>", "<unk>", "<mask>"]);
    let id = |token: &str| vocab[token].as_u64();
    let space_before = settings["add_prefix_space"].as_bool().unwrap_or(false);
    json!({
        "version": "1.0",
        "added_tokens": tokens.added(id, true),
        "normalizer": null,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": space_before, "trim_offsets": true, "use_regex": true},
        "post_processor": roberta_processing(&tokens, id, space_before),
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {
            "type": "BPE",
            "dropout": null,
            "unk_token": null,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "",
            "fuse_unk": false,
            "byte_fallback": false,
            "vocab": vocab,
            "merges": merges,
        },
    })
}

/// A SentencePiece model whose pieces are numbered as fairseq does.
fn unigrams(table: UnigramTable, class: fairseq::EncoderClass, settings: &Value) -> Value {
    let tokens = SpecialTokens::new(settings, ["<s>", "</s>", "<pad>", "<unk>", "<mask>"]);
    let control = |token: &str, score: f64| (token.to_string(), score);
    let (first, left_out) = match class {
        fairseq::EncoderClass::XlmRoberta => {
            let names = [&tokens.cls, &tokens.pad, &tokens.sep, &tokens.unk];
            (names.map(|name| control(name, 0.0)).to_vec(), 3)
        }
        fairseq::EncoderClass::Camembert => (
            vec![
                control("<s>NOTUSED", 0.0),
                control(&tokens.pad, 0.0),
                control("</s>NOTUSED", 0.0),
                control(&tokens.unk, 0.0),
                control("<unk>NOTUSED", -100.0),
            ],
            1,
        ),
    };
    let own = table.pieces.into_iter().skip(left_out);
    let vocab: Vec<(String, f64)> = first
        .into_iter()
        .chain(own)
        .chain([control(&tokens.mask, 0.0)])
        .collect();
    let id = |token: &str| {
        vocab
            .iter()
            .position(|(piece, _)| piece == token)
            .map(|id| id as u64)
    };
    let mut added = tokens.added(id, true);
    let user = table
        .user
        .iter()
        .filter_map(|piece| Some((id(piece)?, piece)));
    added.extend(user.map(|(id, piece)| added_token(id, piece, false, false)));
    let spaces =
        json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true});
    json!({
        "version": "1.0",
        "added_tokens": added,
        "normalizer": table.character_map.map(|map| json!({"type": "Precompiled", "precompiled_charsmap": map})),
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, spaces]},
        "post_processor": template(&tokens, id, [0, 0], 2),
        "decoder": spaces,
        "model": {"type": "Unigram", "unk_id": 3, "byte_fallback": false, "vocab": vocab},
    })
}

/// `<s> A </s>` and `<s> A </s></s> B </s>`.
fn roberta_processing(
    tokens: &SpecialTokens,
    id: impl Fn(&str) -> Option<u64>,
    add_prefix_space: bool,
) -> Value {
    let part = |token: &str| json!([token, id(token).unwrap_or(0)]);
    json!({"type": "RobertaProcessing", "sep": part(&tokens.sep), "cls": part(&tokens.cls), "trim_offsets": true,
        "add_prefix_space": add_prefix_space})
}

/// `[CLS] A [SEP]` and `[CLS] A [SEP] B [SEP]`, with the two texts' segments and the number of separators between them.
fn template(
    tokens: &SpecialTokens,
    id: impl Fn(&str) -> Option<u64>,
    segments: [u32; 2],
    between: usize,
) -> Value {
    let SpecialTokens { cls, sep, .. } = tokens;
    let part =
        |token: &str, segment: u32| json!({"SpecialToken": {"id": token, "type_id": segment}});
    let text = |name: &str, segment: u32| json!({"Sequence": {"id": name, "type_id": segment}});
    let known =
        |token: &str| json!({"id": token, "ids": [id(token).unwrap_or(0)], "tokens": [token]});
    let [a, b] = segments;
    let mut pair = vec![part(cls, a), text("A", a)];
    pair.extend(std::iter::repeat_n(part(sep, a), between));
    pair.extend([text("B", b), part(sep, b)]);
    json!({
        "type": "TemplateProcessing",
        "single": [part(cls, a), text("A", a), part(sep, a)],
        "pair": pair,
        "special_tokens": {cls: known(cls), sep: known(sep)},
    })
}
