//! SentencePiece models (Kudo and Richardson 2018): the file of that program, and its pieces of a text, the same as it finds.
//!
//! A text is normalized (`normalizer`), then cut into the pieces of the most probable path (`unigram`) or by merging pairs
//! (`bpe`). Nothing in the file is trusted: whatever its parts say, a text gives pieces or an error.

mod bpe;
mod normalizer;
mod proto;
mod table;
mod trie;
mod unigram;

use std::collections::HashMap;

use prost::Message;

use crate::error::{Error, Result};
use normalizer::Normalizer;
use proto::{Kind, ModelKind, ModelProto};
pub use table::UnigramTable;
use trie::Prefixes;

/// Stands for a space in a piece.
pub const SPACE: &str = "\u{2581}";
/// Most pieces of a model.
const MAX_PIECES: usize = 1 << 24;

/// A model: cuts texts into pieces and puts these together again.
#[derive(Debug)]
pub struct SentencePiece {
    vocabulary: Vocabulary,
    normalizer: Normalizer,
    kind: ModelKind,
    byte_fallback: bool,
    space_behind: bool,
    unknown_surface: String,
}

/// A piece of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// As it stands in the normalized text; several unknown characters are one piece.
    pub text: String,
    /// The model's own number of it.
    pub id: u32,
}

/// The pieces of a model.
#[derive(Debug)]
struct Vocabulary {
    pieces: Vec<Entry>,
    ids: HashMap<String, u32>,
    /// Those that texts are cut into.
    prefixes: Prefixes,
    /// Those of the user, which are found before a text is normalized.
    user: Prefixes,
    unknown: u32,
    smallest: f32,
    greatest: f32,
}

#[derive(Debug)]
struct Entry {
    text: String,
    score: f32,
    kind: Kind,
}

fn broken(expected: &str, found: impl Into<String>) -> Error {
    Error::model("the SentencePiece model cannot be used")
        .expected(expected)
        .found(found)
        .hint("copy or download the file again")
}

impl SentencePiece {
    /// Reads a model.
    ///
    /// # Errors
    /// A file that is no such model, or of a kind that is not known; parts that contradict each other.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let proto = ModelProto::read(bytes)?;
        let trainer = proto.trainer_spec.unwrap_or_default();
        let kind = ModelKind::of(trainer.model_type())?;
        let vocabulary = Vocabulary::new(proto.pieces)?;
        if trainer.byte_fallback() {
            let missing = (0..=255u8).find(|b| vocabulary.byte(*b).is_none());
            if let Some(byte) = missing {
                return Err(broken(
                    "a piece for each byte",
                    format!("none for {byte:#04x}"),
                ));
            }
        }
        Ok(SentencePiece {
            normalizer: Normalizer::new(proto.normalizer_spec.unwrap_or_default())?,
            vocabulary,
            kind,
            byte_fallback: trainer.byte_fallback(),
            space_behind: trainer.treat_whitespace_as_suffix(),
            unknown_surface: trainer.unk_surface().to_string(),
        })
    }

    /// The file of a BPE model of these pieces (their texts, scores and kinds, by that program's numbers) that spells what it does not
    /// know by bytes, and puts a space before a text where `space_before` says so.
    pub(crate) fn file_of_bpe(
        pieces: impl Iterator<Item = (String, f32, i32)>,
        space_before: bool,
    ) -> Vec<u8> {
        ModelProto::of_bpe(pieces, space_before).encode_to_vec()
    }

    /// Number of pieces.
    pub fn len(&self) -> usize {
        self.vocabulary.pieces.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The pieces by their numbers.
    pub fn pieces(&self) -> impl ExactSizeIterator<Item = &str> {
        self.vocabulary
            .pieces
            .iter()
            .map(|piece| piece.text.as_str())
    }

    /// The piece of a number.
    pub fn piece(&self, id: u32) -> Option<&str> {
        let entry = self.vocabulary.pieces.get(id as usize);
        entry.map(|entry| entry.text.as_str())
    }

    /// The number of a piece.
    pub fn id(&self, piece: &str) -> Option<u32> {
        self.vocabulary.ids.get(piece).copied()
    }

    /// The number of the piece that stands for what is not known.
    pub fn unknown_id(&self) -> u32 {
        self.vocabulary.unknown
    }

    /// Whether a piece is no text: one that starts or ends a text, or the unknown one.
    pub fn is_control(&self, id: u32) -> bool {
        let kind = self
            .vocabulary
            .pieces
            .get(id as usize)
            .map(|piece| piece.kind);
        matches!(kind, Some(Kind::Control | Kind::Unknown))
    }

    /// `text` as the pieces spell it, with [`SPACE`] for spaces.
    pub fn normalize(&self, text: &str) -> String {
        self.normalizer
            .normalize(text, &self.vocabulary.user, self.space_behind)
    }

    /// The pieces of `text`.
    pub fn encode(&self, text: &str) -> Vec<Piece> {
        let normalized = self.normalize(text);
        let cut = match self.kind {
            ModelKind::Unigram => unigram::cut(&self.vocabulary, &normalized),
            ModelKind::Bpe => bpe::cut(&self.vocabulary, &normalized),
        };
        let unknown = self.vocabulary.unknown;
        let mut pieces: Vec<Piece> = Vec::with_capacity(cut.len());
        let mut last_unknown = false;
        for (text, id) in cut {
            let is_unknown = id == unknown;
            if is_unknown && self.byte_fallback {
                let bytes = text
                    .bytes()
                    .filter_map(|b| Some((b, self.vocabulary.byte(b)?)));
                pieces.extend(bytes.map(|(b, id)| Piece {
                    text: byte_name(b),
                    id,
                }));
            } else if let Some(piece) = pieces.last_mut().filter(|_| is_unknown && last_unknown) {
                piece.text.push_str(text);
            } else {
                pieces.push(Piece {
                    text: text.to_string(),
                    id,
                });
            }
            last_unknown = is_unknown;
        }
        pieces
    }

    /// The text of pieces. Those that the model does not have stand for themselves.
    pub fn decode<S: AsRef<str>>(&self, pieces: &[S]) -> String {
        let mut bytes: Vec<u8> = Vec::new();
        // Whether a space would be the one that was put before the text.
        let mut at_start = self.normalizer.adds_space() || self.normalizer.joins_spaces();
        for piece in pieces {
            let piece = piece.as_ref();
            let id = self.id(piece);
            let entry = id.and_then(|id| self.vocabulary.pieces.get(id as usize));
            match entry.map(|entry| entry.kind) {
                Some(Kind::Control) => (),
                Some(Kind::Unknown) => bytes.extend(self.unknown_surface.bytes()),
                Some(Kind::Byte) => bytes.extend(byte_of(piece)),
                _ => {
                    let without = piece.strip_prefix(SPACE).filter(|_| at_start);
                    let text = without.unwrap_or(piece);
                    bytes.extend(text.replace(SPACE, " ").bytes());
                    at_start &= without.is_none() || self.normalizer.joins_spaces();
                }
            }
            at_start &= bytes.is_empty();
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl Vocabulary {
    fn new(protos: Vec<proto::PieceProto>) -> Result<Self> {
        if protos.is_empty() || protos.len() > MAX_PIECES {
            return Err(broken("1 to 16777216 pieces", protos.len().to_string()));
        }
        let (mut pieces, mut ids) = (Vec::with_capacity(protos.len()), HashMap::new());
        let mut unknown = None;
        for (id, proto) in (0..).zip(protos) {
            let text = proto.piece().to_string();
            let (kind, score) = (Kind::of(proto.r#type())?, proto.score());
            if text.is_empty() || !score.is_finite() {
                return Err(broken(
                    "pieces with a text and a finite score",
                    format!("piece {id}: `{text}`, {score}"),
                ));
            }
            if kind == Kind::Unknown && unknown.replace(id).is_some() {
                return Err(broken("one unknown piece", "two"));
            }
            if ids.insert(text.clone(), id).is_some() {
                return Err(broken("each piece once", format!("`{text}` twice")));
            }
            pieces.push(Entry { text, score, kind });
        }
        let unknown = unknown.ok_or_else(|| broken("an unknown piece", "none"))?;
        let of = |wanted: &dyn Fn(Kind) -> bool| {
            let texts = (0..).zip(&pieces).filter(|(_, piece)| wanted(piece.kind));
            Prefixes::new(
                texts
                    .map(|(id, piece)| (piece.text.as_bytes(), id))
                    .collect(),
            )
        };
        let normal = || {
            pieces
                .iter()
                .filter(|piece| piece.kind == Kind::Normal)
                .map(|piece| piece.score)
        };
        Ok(Vocabulary {
            prefixes: of(&|kind| matches!(kind, Kind::Normal | Kind::User | Kind::Unused)),
            user: of(&|kind| kind == Kind::User),
            smallest: normal().fold(f32::MAX, f32::min),
            greatest: normal().fold(f32::MIN, f32::max),
            unknown,
            pieces,
            ids,
        })
    }

    fn byte(&self, byte: u8) -> Option<u32> {
        let id = self.ids.get(&byte_name(byte)).copied()?;
        (self.entry(id).kind == Kind::Byte).then_some(id)
    }

    /// The piece `id`, which is one of its own.
    fn entry(&self, id: u32) -> &Entry {
        &self.pieces[id as usize]
    }
}

fn byte_name(byte: u8) -> String {
    format!("<0x{byte:02X}>")
}

fn byte_of(piece: &str) -> Option<u8> {
    let digits = piece.strip_prefix("<0x")?.strip_suffix('>')?;
    u8::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests;
