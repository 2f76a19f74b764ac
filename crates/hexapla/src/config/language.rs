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

/// The language that a token such as `>>de<<` asks for, if it is a tag.
pub fn tagged_language(token: &str) -> Option<&str> {
    token.strip_prefix(">>")?.strip_suffix("<<")
}
