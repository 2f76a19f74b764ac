//! The tokenizer of T5 and mT5 as it is published without a `tokenizer.json`: a SentencePiece model whose numbers are the ids, and
//! behind them the tokens for gaps in a text, counted backwards.

use super::{Tokenizer, pieces};
use crate::error::{Error, Result};
use crate::files::Folder;

const MODEL: &str = "spiece.model";
/// Tokens for gaps, where no setting says how many.
const GAPS: u32 = 100;
const MOST_GAPS: u32 = 1 << 16;

/// Whether `folder` holds such a tokenizer.
pub(super) fn is_there(folder: &Folder) -> bool {
    folder.contains(MODEL)
}

/// The tokenizer of `folder`.
///
/// # Errors
/// A damaged model or settings.
pub(super) fn open(folder: &Folder) -> Result<Tokenizer> {
    let settings = pieces::read_settings(folder)?;
    let model = pieces::read_model(folder, MODEL)?;
    let count = match &settings["extra_ids"] {
        serde_json::Value::Null => GAPS,
        other => other
            .as_u64()
            .and_then(|n| u32::try_from(n).ok())
            .filter(|n| *n <= MOST_GAPS)
            .ok_or_else(|| {
                Error::model("the tokenizer cannot be used")
                    .at(format!(
                        "{}: extra_ids",
                        folder.path_of(pieces::SETTINGS).display()
                    ))
                    .expected(format!("a number up to {MOST_GAPS}"))
                    .found(other.to_string())
            })?,
    };
    pieces::t5(model, count)
}
