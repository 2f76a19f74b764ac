//! What is changed in a pass, to ask what would be if it were otherwise.

use super::arrays::Array;
use crate::config::ModelConfig;
use crate::error::{Error, Result};

/// Changes of a pass. None by default.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Edits {
    /// Heads that say nothing: the attention's name, such as `encoder.layers.0.self_attention`, and the head, from 0. Their part
    /// of the concatenated heads is zero.
    pub heads_off: Vec<(String, usize)>,
    /// Source tokens that nobody looks at, in any layer of the encoder, nor of the decoder. Positions stay. Of a decoder alone:
    /// tokens of its text that no other looks at.
    pub hidden_source: Vec<usize>,
    /// No position is added to any token.
    pub without_positions: bool,
    /// Each row of the decoder sees all of them.
    pub without_mask: bool,
    /// Each sublayer's output takes the place of its input, instead of being added to it.
    pub without_residual: bool,
    /// Self-attention compares queries with queries.
    pub keys_are_queries: bool,
    /// Rows that come from elsewhere, such as the trace of another sentence.
    pub patches: Vec<Patch>,
}

/// Rows of a value that are replaced.
#[derive(Debug, Clone, PartialEq)]
pub struct Patch {
    /// The value's name.
    pub name: String,
    /// Which of its rows.
    pub rows: Vec<usize>,
    /// What they become: `[rows of the value, width]`, of which these rows are taken.
    pub from: Array,
}

impl Edits {
    /// Refuses what `model` does not have; the source, or the text of a decoder alone, has `source` tokens.
    ///
    /// # Errors
    /// A head or a token that is not there, or no source token left to look at.
    pub(super) fn check(&self, model: &ModelConfig, source: usize) -> Result<()> {
        let refuse = |expected: String, found: String| {
            Err(Error::input("a pass cannot be changed so")
                .expected(expected)
                .found(found))
        };
        for (name, head) in &self.heads_off {
            let Some(heads) = heads_of(model, name) else {
                let example = "the name of an attention, such as `encoder.layers.0.self_attention`";
                return refuse(example.into(), format!("`{name}`"));
            };
            if *head >= heads {
                return refuse(format!("heads below {heads}"), head.to_string());
            }
        }
        if let Some(token) = self.hidden_source.iter().find(|token| **token >= source) {
            return refuse(format!("source tokens below {source}"), token.to_string());
        }
        let has_encoder = model.encoder.is_some();
        if has_encoder && source > 0 && (0..source).all(|token| self.hidden_source.contains(&token))
        {
            return refuse(
                "a source token to look at".into(),
                "all of them are hidden".into(),
            );
        }
        Ok(())
    }
}

/// The heads of the attention called `name`.
fn heads_of(model: &ModelConfig, name: &str) -> Option<usize> {
    let (stack, rest) = name.split_once(".layers.")?;
    let (layer, attention) = rest.split_once('.')?;
    let stack = match stack {
        "encoder" => model.encoder.as_ref(),
        "decoder" => model.decoder.as_ref(),
        _ => None,
    }?;
    let layer = stack.layers.get(layer.parse::<usize>().ok()?)?;
    match attention {
        "self_attention" => Some(layer.self_attention.heads),
        "cross_attention" => layer.cross_attention.as_ref().map(|a| a.heads),
        _ => None,
    }
}
