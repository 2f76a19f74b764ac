//! The error about a setting of the search.

use crate::error::{Error, setting};

/// `key` is out of range.
pub(super) fn refuse(key: &str, expected: &str, found: impl ToString) -> Error {
    setting("a search setting is out of range", key, expected, found)
}
