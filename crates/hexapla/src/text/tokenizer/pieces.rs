//! Tokenizers that cut texts with a SentencePiece model and number the pieces by a vocabulary of their own: those of Marian
//! (OPUS-MT) and M2M-100 as they are published.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::Value;

use super::file::MAX_BYTES;
use super::template::Template;
use super::{Inner, Marker, Tokenizer};
use crate::error::{Error, Result};
use crate::files::Folder;
use crate::text::sentencepiece::SentencePiece;

const VOCABULARY: &str = "vocab.json";
const TARGET_VOCABULARY: &str = "target_vocab.json";
pub(super) const SOURCE_MODEL: &str = "source.spm";
pub(super) const TARGET_MODEL: &str = "target.spm";
pub(super) const JOINT_MODEL: &str = "sentencepiece.bpe.model";
pub(super) const SETTINGS: &str = "tokenizer_config.json";
/// What tokens for gaps begin with; a number and `>` follow.
const GAP: &str = "<extra_id_";
/// Ids stay below this: the largest vocabulary that a model's configuration allows.
const MAX_IDS: u32 = 1 << 24;

/// The languages of M2M-100, whose tokens follow its vocabulary in this order.
const M2M_100: &str = "af am ar ast az ba be bg bn br bs ca ceb cs cy da de el en es et fa ff fi fr fy ga gd gl gu ha he hi hr ht hu hy id ig ilo is it ja jv ka kk km kn ko lb lg ln lo lt lv mg mk ml mn mr ms my ne nl no ns oc or pa pl ps pt ro ru sd si sk sl so sq sr ss su sv sw ta th tl tn tr uk ur uz vi wo xh yi yo zh zu";
const WMT_21: &str = "en ha is ja cs ru zh de";

/// A SentencePiece model and the ids of its pieces.
#[derive(Debug)]
pub(super) struct PieceVocabulary {
    model: Arc<SentencePiece>,
    ids: HashMap<String, u32>,
    tokens: Vec<Option<String>>,
    unknown: u32,
    /// A tag such as `>>de<<` at the beginning of a text is one token, whether it is known or not (Marian).
    has_tags: bool,
    /// Tokens such as `<extra_id_0>` stand for gaps in a text (T5).
    has_gaps: bool,
}

impl PieceVocabulary {
    pub(super) fn encode(&self, text: &str) -> Vec<u32> {
        let mut ids = Vec::new();
        let (mut start, mut from) = (0, 0);
        // T5's tokens for gaps stand by themselves.
        while let Some(at) = text[from..].find(GAP).filter(|_| self.has_gaps) {
            let at = from + at;
            from = at + GAP.len();
            let digits = text[from..].find(|c: char| !c.is_ascii_digit());
            let gap = digits.and_then(|digits| text.get(at..from + digits + 1));
            if let Some((gap, id)) = gap.and_then(|gap| Some((gap, self.token_to_id(gap)?))) {
                ids.extend(self.encode_plain(&text[start..at]));
                ids.push(id);
                start = at + gap.len();
                from = start;
            }
        }
        ids.extend(self.encode_plain(&text[start..]));
        ids
    }

    fn encode_plain(&self, text: &str) -> Vec<u32> {
        let id = |piece: &str| self.token_to_id(piece).unwrap_or(self.unknown);
        let tag = text
            .find("<<")
            .filter(|_| self.has_tags && text.starts_with(">>"));
        let (tag, rest) = text.split_at(tag.map_or(0, |end| end + 2));
        let pieces = self.model.encode(rest);
        let tag = Some(tag).filter(|tag| !tag.is_empty());
        let pieces = pieces.iter().map(|piece| id(&piece.text));
        tag.map(id).into_iter().chain(pieces).collect()
    }

    pub(super) fn decode(&self, ids: &[u32]) -> String {
        let pieces: Vec<String> = ids.iter().filter_map(|id| self.id_to_token(*id)).collect();
        self.model.decode(&pieces).trim().to_string()
    }

    pub(super) fn normalize(&self, text: &str) -> String {
        let pieces = self.model.normalize(text);
        self.model.decode(&[pieces])
    }

    pub(super) fn id_to_token(&self, id: u32) -> Option<String> {
        self.tokens.get(id as usize).cloned().flatten()
    }

    pub(super) fn token_to_id(&self, token: &str) -> Option<u32> {
        self.ids.get(token).copied()
    }
}

/// Whether `folder` holds such tokenizers.
pub(super) fn is_there(folder: &Folder) -> bool {
    folder.contains(VOCABULARY) && (folder.contains(SOURCE_MODEL) || folder.contains(JOINT_MODEL))
}

/// The tokenizers of `folder`: the source's, and the target's where that is another.
pub(super) fn open(folder: &Folder) -> Result<(Tokenizer, Option<Tokenizer>)> {
    let model = |name: &str| read_model(folder, name);
    let settings = read_settings(folder)?;
    let vocabulary = read_vocabulary(folder, VOCABULARY)?;
    if !folder.contains(SOURCE_MODEL) {
        return Ok((m2m_100(model(JOINT_MODEL)?, vocabulary, &settings)?, None));
    }
    let target = match folder.contains(TARGET_VOCABULARY) {
        true => read_vocabulary(folder, TARGET_VOCABULARY)?,
        false => vocabulary.clone(),
    };
    let source = marian(model(SOURCE_MODEL)?, vocabulary, true)?;
    let target = marian(model(TARGET_MODEL)?, target, true)?;
    Ok((source, Some(target)))
}

/// The settings of the tokenizer; nothing where `folder` has none.
pub(super) fn read_settings(folder: &Folder) -> Result<Value> {
    match folder.contains(SETTINGS) {
        true => read_json(folder, SETTINGS),
        false => Ok(Value::Null),
    }
}

/// The SentencePiece model `name` of `folder`.
pub(super) fn read_model(folder: &Folder, name: &str) -> Result<Arc<SentencePiece>> {
    let bytes = folder.read(name, MAX_BYTES)?;
    let model = SentencePiece::from_bytes(&bytes);
    model
        .map(Arc::new)
        .map_err(|e| e.within(folder.path_of(name).display()))
}

/// A tokenizer of Marian's; where it `has_tags`, one such as `>>de<<` may begin a text.
pub(super) fn marian(
    model: Arc<SentencePiece>,
    ids: HashMap<String, u32>,
    has_tags: bool,
) -> Result<Tokenizer> {
    let mut tokenizer = tokenizer(model, ids, Vec::new(), Vec::new())?;
    if let Inner::Pieces(pieces) = &mut tokenizer.inner {
        pieces.has_tags = has_tags;
    }
    Ok(tokenizer)
}

/// T5's: behind the model's own pieces come tokens for gaps, counted backwards.
pub(super) fn t5(model: Arc<SentencePiece>, gaps: u32) -> Result<Tokenizer> {
    let mut ids: HashMap<String, u32> = model.pieces().map(str::to_string).zip(0..).collect();
    let gaps: Vec<String> = (0..gaps).rev().map(|i| format!("{GAP}{i}>")).collect();
    for (gap, id) in gaps.iter().zip(model.len() as u32..) {
        ids.entry(gap.clone()).or_insert(id);
    }
    let mut tokenizer = tokenizer(model, ids, gaps, Vec::new())?;
    if let Inner::Pieces(pieces) = &mut tokenizer.inner {
        pieces.has_gaps = true;
    }
    Ok(tokenizer)
}

/// Behind the vocabulary come the languages; a text begins with its own.
fn m2m_100(
    model: Arc<SentencePiece>,
    mut vocabulary: HashMap<String, u32>,
    settings: &Value,
) -> Result<Tokenizer> {
    let languages = match settings["language_codes"].as_str() {
        Some("wmt21") => WMT_21,
        _ => M2M_100,
    };
    let tokens: Vec<String> = languages
        .split(' ')
        .map(|code| format!("__{code}__"))
        .collect();
    for (id, token) in (vocabulary.len() as u32..).zip(&tokens) {
        vocabulary.entry(token.clone()).or_insert(id);
    }
    let own = settings["src_lang"].as_str().unwrap_or("en");
    let before = vocabulary.get(&format!("__{own}__")).copied();
    tokenizer(model, vocabulary, tokens, before.into_iter().collect())
}

/// `codes` are the tokens of languages; `before` is what stands before a text.
pub(super) fn tokenizer(
    model: Arc<SentencePiece>,
    ids: HashMap<String, u32>,
    codes: Vec<String>,
    before: Vec<u32>,
) -> Result<Tokenizer> {
    let id = |token: &str| ids.get(token).copied();
    let wrong = |expected: &str, found: String| {
        Error::model("the vocabulary cannot be used")
            .expected(expected)
            .found(found)
            .hint("copy or download the folder again")
    };
    let (Some(eos), Some(unknown)) = (id("</s>"), id("<unk>")) else {
        return Err(wrong(
            "the tokens `</s>` and `<unk>`",
            format!("{} others", ids.len()),
        ));
    };
    let largest = ids.values().copied().max().unwrap_or(0);
    if largest >= MAX_IDS || largest as usize >= 2 * ids.len() {
        return Err(wrong(
            "ids without gaps",
            format!("{} tokens, ids up to {largest}", ids.len()),
        ));
    }
    let mut tokens = vec![None; largest as usize + 1];
    for (token, id) in &ids {
        if tokens[*id as usize].replace(token.clone()).is_some() {
            return Err(wrong(
                "an id for each token",
                format!("two tokens of id {id}"),
            ));
        }
    }
    let control = ["<s>", "</s>", "<unk>", "<pad>"];
    let special = codes.iter().map(String::as_str).chain(control);
    Ok(Tokenizer {
        json: String::new(),
        marker: Marker::Own,
        vocab_size: tokens.len(),
        bos: id("<s>"),
        pad: id("<pad>"),
        eos: Some(eos),
        unk: Some(unknown),
        special: special.filter_map(id).collect(),
        template: Template {
            before,
            after: vec![eos],
            padding: None,
        },
        notes: Vec::new(),
        inner: Inner::Pieces(PieceVocabulary {
            model,
            tokens,
            unknown,
            has_tags: false,
            has_gaps: false,
            ids,
        }),
    })
}

fn read_vocabulary(folder: &Folder, name: &str) -> Result<HashMap<String, u32>> {
    let value = read_json(folder, name)?;
    serde_json::from_value(value)
        .map_err(|e| damaged(folder, name, e).expected("a JSON object: an id for each token"))
}

/// The JSON file `name` of `folder`.
pub(super) fn read_json(folder: &Folder, name: &str) -> Result<Value> {
    let text = read_text(folder, name)?;
    serde_json::from_str(&text).map_err(|e| damaged(folder, name, e).expected("JSON"))
}

/// The text file `name` of `folder`.
pub(super) fn read_text(folder: &Folder, name: &str) -> Result<String> {
    String::from_utf8(folder.read(name, MAX_BYTES)?.into_owned())
        .map_err(|e| damaged(folder, name, e).expected("UTF-8"))
}

fn damaged(folder: &Folder, name: &str, found: impl ToString) -> Error {
    Error::model("the tokenizer cannot be used")
        .at(folder.path_of(name).display().to_string())
        .found(found.to_string())
        .hint("copy or download the folder again")
}
