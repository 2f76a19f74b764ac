//! What a model is trained to do.

use serde::{Deserialize, Serialize};

/// What a model is trained to do: which parts of the figure it has, and what it learns from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// To write the target of a source: both halves, on sentence pairs.
    #[default]
    Translation,
    /// To go on with a text: a decoder alone, on texts.
    Language,
}

impl Task {
    /// As a recipe writes it.
    pub fn name(self) -> &'static str {
        match self {
            Task::Translation => "translation",
            Task::Language => "language",
        }
    }
}
