//! What a unigram model holds, for a `tokenizer.json` that cuts by the same table.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::proto::{Kind, ModelKind, ModelProto};
use super::{SentencePiece, broken};
use crate::error::Result;

/// The table of a unigram model.
#[derive(Debug)]
pub struct UnigramTable {
    /// Each piece and the logarithm of its probability, in the order of their ids.
    pub pieces: Vec<(String, f64)>,
    /// The pieces of the user, which are never cut.
    pub user: Vec<String>,
    /// The normalizer's map, in Base64; none where it changes nothing.
    pub character_map: Option<String>,
}

impl UnigramTable {
    /// Reads a model.
    ///
    /// # Errors
    /// As [`SentencePiece::from_bytes`]; a model that is not of unigrams.
    pub fn read(bytes: &[u8]) -> Result<Self> {
        if SentencePiece::from_bytes(bytes)?.kind != ModelKind::Unigram {
            return Err(broken("a unigram model", "one of merges (BPE)"));
        }
        let proto = ModelProto::read(bytes)?;
        let is_user = |kind: i32| matches!(Kind::of(kind), Ok(Kind::User));
        let user = proto.pieces.iter().filter(|p| is_user(p.r#type()));
        let map = proto.normalizer_spec.unwrap_or_default();
        let map = map.precompiled_charsmap.filter(|map| !map.is_empty());
        Ok(UnigramTable {
            user: user.map(|p| p.piece().to_string()).collect(),
            pieces: proto
                .pieces
                .iter()
                .map(|p| (p.piece().to_string(), f64::from(p.score())))
                .collect(),
            character_map: map.map(|map| BASE64_STANDARD.encode(map)),
        })
    }
}
