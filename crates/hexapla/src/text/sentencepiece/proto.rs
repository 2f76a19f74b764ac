//! The file's messages, as far as they are read (`sentencepiece_model.proto` of that program).

use prost::Message;

use super::broken;
use crate::error::Result;

#[derive(Clone, PartialEq, Message)]
pub(super) struct ModelProto {
    #[prost(message, repeated, tag = "1")]
    pub(super) pieces: Vec<PieceProto>,
    #[prost(message, optional, tag = "2")]
    pub(super) trainer_spec: Option<TrainerSpec>,
    #[prost(message, optional, tag = "3")]
    pub(super) normalizer_spec: Option<NormalizerSpec>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct PieceProto {
    #[prost(string, optional, tag = "1")]
    pub(super) piece: Option<String>,
    #[prost(float, optional, tag = "2")]
    pub(super) score: Option<f32>,
    #[prost(int32, optional, tag = "3", default = "1")]
    pub(super) r#type: Option<i32>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct TrainerSpec {
    #[prost(int32, optional, tag = "3", default = "1")]
    pub(super) model_type: Option<i32>,
    #[prost(bool, optional, tag = "24")]
    pub(super) treat_whitespace_as_suffix: Option<bool>,
    #[prost(bool, optional, tag = "35")]
    pub(super) byte_fallback: Option<bool>,
    #[prost(string, optional, tag = "44", default = " \u{2047} ")]
    pub(super) unk_surface: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct NormalizerSpec {
    #[prost(bytes = "vec", optional, tag = "2")]
    pub(super) precompiled_charsmap: Option<Vec<u8>>,
    #[prost(bool, optional, tag = "3", default = "true")]
    pub(super) add_dummy_prefix: Option<bool>,
    #[prost(bool, optional, tag = "4", default = "true")]
    pub(super) remove_extra_whitespaces: Option<bool>,
    #[prost(bool, optional, tag = "5", default = "true")]
    pub(super) escape_whitespaces: Option<bool>,
}

impl ModelProto {
    pub(super) fn read(bytes: &[u8]) -> Result<Self> {
        ModelProto::decode(bytes).map_err(|e| broken("a file of SentencePiece", e.to_string()))
    }

    pub(super) fn of_bpe(
        pieces: impl Iterator<Item = (String, f32, i32)>,
        space_before: bool,
    ) -> Self {
        let piece = |(piece, score, kind)| PieceProto {
            piece: Some(piece),
            score: Some(score),
            r#type: Some(kind),
        };
        ModelProto {
            pieces: pieces.map(piece).collect(),
            trainer_spec: Some(TrainerSpec {
                model_type: Some(2),
                byte_fallback: Some(true),
                ..TrainerSpec::default()
            }),
            normalizer_spec: Some(NormalizerSpec {
                add_dummy_prefix: Some(space_before),
                remove_extra_whitespaces: Some(false),
                ..NormalizerSpec::default()
            }),
        }
    }
}

/// How texts are cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ModelKind {
    Unigram,
    Bpe,
}

impl ModelKind {
    pub(super) fn of(number: i32) -> Result<Self> {
        match number {
            1 => Ok(ModelKind::Unigram),
            2 => Ok(ModelKind::Bpe),
            3 => Err(broken("a unigram or BPE model", "one of words")),
            4 => Err(broken("a unigram or BPE model", "one of characters")),
            other => Err(broken("a unigram or BPE model", format!("kind {other}"))),
        }
    }
}

/// What a piece is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Normal,
    Unknown,
    Control,
    User,
    Unused,
    Byte,
}

impl Kind {
    pub(super) fn of(number: i32) -> Result<Self> {
        Ok(match number {
            1 => Kind::Normal,
            2 => Kind::Unknown,
            3 => Kind::Control,
            4 => Kind::User,
            5 => Kind::Unused,
            6 => Kind::Byte,
            other => return Err(broken("kinds of pieces from 1 to 6", other.to_string())),
        })
    }
}
