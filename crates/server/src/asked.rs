//! What the page asks for, as JSON.

use hexapla::error::{Error, Result};
use hexapla::explain::{Edits, ExplainOptions, TextPatch};
use hexapla::generate::TranslateOptions;
use hexapla::generate::translator::Translator;
use serde::{Deserialize, Serialize};

/// A text to explain, and what is changed.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Asked {
    /// One line.
    pub(crate) text: String,
    /// Languages; where absent as the server was started.
    from: Option<String>,
    to: Option<String>,
    /// Hypotheses that are followed at a time.
    beam_size: Option<usize>,
    /// Which sentence of the text, from 0.
    #[serde(default)]
    sentence: usize,
    /// Target tokens that the output starts with.
    #[serde(default)]
    prefix: Vec<u32>,
    #[serde(default)]
    edits: AskedEdits,
    patch: Option<AskedPatch>,
}

/// As [`Edits`].
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct AskedEdits {
    heads_off: Vec<(String, usize)>,
    hidden_source: Vec<usize>,
    without_positions: bool,
    without_mask: bool,
    without_residual: bool,
    keys_are_queries: bool,
}

/// As [`TextPatch`].
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct AskedPatch {
    text: String,
    name: String,
    rows: Vec<usize>,
}

/// Widest beam: the page draws each hypothesis.
const BEAM: usize = 16;

impl Asked {
    /// Reads what was sent.
    ///
    /// # Errors
    /// It is no JSON, or asks for what there is not.
    pub(crate) fn read(body: &[u8]) -> Result<Self> {
        let asked: Asked = serde_json::from_slice(body).map_err(|e| {
            Error::input("the request cannot be read")
                .at("the request")
                .expected("a JSON object with `text`")
                .found(e.to_string())
                .hint("docs/explain.md describes it")
        })?;
        if asked.text.contains(['\r', '\n']) {
            return Err(Error::input("a text to explain is one line")
                .at("text")
                .expected("no line break")
                .found(format!("{} lines", asked.text.lines().count()))
                .hint("explain one line at a time"));
        }
        Ok(asked)
    }

    /// A text, and nothing else.
    pub(crate) fn about(text: &str) -> Self {
        Asked {
            text: text.to_string(),
            ..Asked::default()
        }
    }

    /// Whether the model is changed, which takes time in the square of the length.
    pub(crate) fn changes_the_model(&self) -> bool {
        let e = &self.edits;
        let switched =
            e.without_positions || e.without_mask || e.without_residual || e.keys_are_queries;
        switched || self.patch.is_some() || !e.heads_off.is_empty() || !e.hidden_source.is_empty()
    }

    /// How to translate and what to explain; `defaults` are the server's.
    ///
    /// # Errors
    /// A language that the model does not have, or a beam out of range.
    pub(crate) fn options(
        self,
        model: &Translator,
        defaults: &TranslateOptions,
    ) -> Result<(TranslateOptions, ExplainOptions)> {
        let mut translate = defaults.clone();
        if self.from.is_some() || self.to.is_some() {
            let direction = model.direction(self.from.as_deref(), self.to.as_deref())?;
            translate.direction = Some(direction);
        }
        if let Some(beam_size) = self.beam_size {
            if !(1..=BEAM).contains(&beam_size) {
                return Err(Error::input("a number is out of range")
                    .at("beam_size")
                    .expected(format!("1 to {BEAM}"))
                    .found(beam_size.to_string())
                    .hint("leave it out for the model's own"));
            }
            translate.search.beam_size = beam_size;
            translate.search.n_best = 1;
        }
        let influence = !self.changes_the_model();
        let e = self.edits;
        let explain = ExplainOptions {
            sentence: self.sentence,
            contrast: None,
            influence,
            prefix: self.prefix,
            edits: Edits {
                heads_off: e.heads_off,
                hidden_source: e.hidden_source,
                without_positions: e.without_positions,
                without_mask: e.without_mask,
                without_residual: e.without_residual,
                keys_are_queries: e.keys_are_queries,
                patches: Vec::new(),
            },
            patch: self.patch.map(|patch| TextPatch {
                text: patch.text,
                name: patch.name,
                rows: patch.rows,
            }),
        };
        Ok((translate, explain))
    }
}

/// An error as the page gets it.
#[derive(Debug, Serialize)]
pub(crate) struct Refused {
    error: String,
}

impl Refused {
    pub(crate) fn new(error: &Error) -> Self {
        Refused {
            error: error.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_is_read_strictly() {
        let read = |text: &str| Asked::read(text.as_bytes());
        let asked = read(
            r#"{"text": "Hello.", "edits": {"heads_off": [["encoder.layers.0.self_attention", 1]]}}"#,
        );
        assert!(asked.unwrap().changes_the_model());
        assert!(
            !read(r#"{"text": "Hello.", "prefix": [5]}"#)
                .unwrap()
                .changes_the_model()
        );
        for text in [
            "",
            "[]",
            "{}",
            r#"{"text": 5}"#,
            r#"{"text": "a\nb"}"#,
            r#"{"text": "a", "txt": "b"}"#,
            r#"{"text": "a", "beam_size": -1}"#,
            r#"{"text": "a", "beam_size": 1e308}"#,
            r#"{"text": "a", "prefix": [4294967296]}"#,
            r#"{"text": "\ud800"}"#,
            &format!("{{\"text\": {}", "[".repeat(100_000)),
        ] {
            assert!(read(text).is_err(), "{}", &text[..text.len().min(80)]);
        }
    }
}
