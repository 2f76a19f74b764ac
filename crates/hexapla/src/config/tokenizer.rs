//! The `[tokenizer]` table.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// How a tokenizer cuts text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenizerKind {
    /// Byte-pair encoding with byte fallback.
    Bpe,
    /// Byte-pair encoding over bytes, as in GPT-2.
    ByteBpe,
    /// Unigram language model, as in SentencePiece, with byte fallback.
    Unigram,
    /// Each character is a piece.
    Characters,
    /// The text is cut already: pieces separated by spaces, `@@` marking pieces that join the next.
    Pieces,
}

/// The `[tokenizer]` table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TokenizerTable {
    /// A `tokenizer.json` to use instead of training one.
    pub file: Option<PathBuf>,
    /// subword-nmt merges to use instead of training (`kind = "bpe"`).
    pub codes: Option<PathBuf>,
    /// Kind of cut; with `task = "language"` `byte_bpe` where absent, or `characters`, which lose nothing.
    pub kind: TokenizerKind,
    /// Number of pieces, special ones included.
    pub vocab_size: usize,
    /// One vocabulary for both sides.
    pub joint: bool,
    /// Pieces that are never cut, such as `>>de<<`.
    pub special_tokens: Vec<String>,
    /// Share of the characters in the data that get a piece of their own; the rarest fall back to bytes.
    pub character_coverage: f32,
    /// Upper case is made lower before the text is cut: the model neither sees nor writes it.
    pub lowercase: bool,
}

impl Default for TokenizerTable {
    fn default() -> Self {
        TokenizerTable {
            file: None,
            codes: None,
            kind: TokenizerKind::Unigram,
            vocab_size: 8000,
            joint: true,
            special_tokens: Vec::new(),
            character_coverage: 0.9995,
            lowercase: false,
        }
    }
}
