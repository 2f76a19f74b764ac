//! Languages as recipes, manifests and tags name them.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The direction of a translation. Shown as `de-en`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LanguagePair {
    /// Source language, such as `de`.
    pub source: String,
    /// Target language, such as `en`.
    pub target: String,
}

impl fmt::Display for LanguagePair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.source, self.target)
    }
}

/// The language that a token such as `>>de<<` (Marian) or `<2de>` (MADLAD-400) asks for, if it is a tag.
pub fn tagged_language(token: &str) -> Option<&str> {
    if let Some(rest) = token.strip_prefix(">>") {
        return rest.strip_suffix("<<");
    }
    let code = token.strip_prefix("<2")?.strip_suffix('>')?;
    let is_language = code.starts_with(char::is_alphabetic)
        && code
            .chars()
            .all(|c| c.is_alphanumeric() || "_-".contains(c));
    is_language.then_some(code)
}
