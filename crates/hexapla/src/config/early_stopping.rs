//! When a beam search ends.

use crate::error::{Error, Result, unknown_name};

/// When a sentence's beam search may stop although hypotheses are still open (`early_stopping` in transformers).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EarlyStopping {
    /// Once as many are finished as the beam is wide, and the best open one, scored as if it ended now, is no
    /// better than the worst of them (`false`).
    #[default]
    Heuristic,
    /// As soon as that many are finished (`true`).
    WhenFull,
    /// Only once no open one could still get better: like the heuristic, but under a positive length penalty the
    /// open one is scored as if it had the longest length (`"never"`).
    Never,
    /// Each finished one leaves the beam narrower, and the last one ends it (Marian's search; `"shrinking"`).
    Shrinking,
}

impl std::str::FromStr for EarlyStopping {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "false" => Ok(EarlyStopping::Heuristic),
            "true" => Ok(EarlyStopping::WhenFull),
            "never" => Ok(EarlyStopping::Never),
            "shrinking" => Ok(EarlyStopping::Shrinking),
            _ => Err(unknown_name(
                "early stopping",
                name,
                &["false", "true", "never", "shrinking"],
            )),
        }
    }
}
