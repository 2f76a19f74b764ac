//! Whose names and conventions a model folder follows.

use std::fmt;

use serde_json::{Map, Value};

use super::encoders::{
    BERT, CAMEMBERT, DISTILBERT, ELECTRA, EncoderFamily, MPNET, ROBERTA, XLM_ROBERTA,
};
use super::names::TensorNames;
use super::safetensors::TensorStore;
use super::{bart, m2m_100, marian, marian_nmt, mbart, native};
use crate::config::{Assembly, TransformerConfig};
use crate::error::{Error, Result};
use crate::files::LinearLayout;
use crate::weights::Parameter;

/// Whose names and conventions a folder follows: its `model_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// Post-norm, as in the paper; transformers opens it.
    Marian,
    /// Marian NMT's own files, which have no `model_type`; they are read, not written.
    MarianNmt,
    /// Another encoder-decoder, described by `mapping.toml`; it is read, not written.
    Mapped(LinearLayout),
    /// Pre-norm; transformers opens it.
    M2m100,
    /// Post-norm with trained positions; transformers opens it.
    Bart,
    /// Pre-norm with trained positions; transformers opens it.
    Mbart,
    /// Encoder and decoder in any other way; only this program opens it.
    Native,
    /// An encoder: BERT, MiniLM, BGE, E5, GTE.
    Bert,
    /// An encoder with RoBERTa's positions and heads.
    Roberta,
    /// RoBERTa in French.
    Camembert,
    /// RoBERTa in a hundred languages.
    XlmRoberta,
    /// A smaller BERT.
    Distilbert,
    /// An encoder trained to find replaced words.
    Electra,
    /// An encoder with relative positions.
    Mpnet,
}

impl Family {
    /// Those of a `config.json`.
    pub(super) const ALL: [Family; 12] = [
        Family::Marian,
        Family::M2m100,
        Family::Bart,
        Family::Mbart,
        Family::Native,
        Family::Bert,
        Family::Roberta,
        Family::Camembert,
        Family::XlmRoberta,
        Family::Distilbert,
        Family::Electra,
        Family::Mpnet,
    ];

    /// The `model_type` in `config.json`.
    pub fn model_type(self) -> &'static str {
        match (self, self.encoder()) {
            (_, Some(encoder)) => encoder.model_type,
            (Family::Marian, _) => "marian",
            (Family::MarianNmt, _) => "marian-nmt",
            (Family::Mapped(_), _) => "mapped",
            (Family::M2m100, _) => "m2m_100",
            (Family::Bart, _) => "bart",
            (Family::Mbart, _) => "mbart",
            _ => "hexapla",
        }
    }

    /// The tables of a family of encoders.
    pub(super) fn encoder(self) -> Option<&'static EncoderFamily> {
        Some(match self {
            Family::Marian
            | Family::MarianNmt
            | Family::Mapped(_)
            | Family::M2m100
            | Family::Bart
            | Family::Mbart
            | Family::Native => return None,
            Family::Bert => &BERT,
            Family::Roberta => &ROBERTA,
            Family::Camembert => &CAMEMBERT,
            Family::XlmRoberta => &XLM_ROBERTA,
            Family::Distilbert => &DISTILBERT,
            Family::Electra => &ELECTRA,
            Family::Mpnet => &MPNET,
        })
    }

    /// The family that can say `config`, and, where it is our own, why the others cannot.
    pub fn for_config(config: &TransformerConfig) -> (Family, Option<String>) {
        for (kind, family) in [(mbart::BART, Family::Bart), (mbart::MBART, Family::Mbart)] {
            if kind.cannot_say(config).is_none() {
                return (family, None);
            }
        }
        match (marian::cannot_say(config), m2m_100::cannot_say(config)) {
            (None, _) => (Family::Marian, None),
            (_, None) => (Family::M2m100, None),
            (Some(marian), Some(m2m)) => (
                Family::Native,
                Some(format!(
                    "written as `hexapla`, which transformers cannot open: {marian}, and {m2m}"
                )),
            ),
        }
    }

    /// As [`Family::for_config`]. Of encoders, several families may have the same mathematics: `own` is preferred.
    ///
    /// # Errors
    /// No family of encoders can say the configuration.
    pub(super) fn for_assembly(
        assembly: &Assembly,
        own: Option<Family>,
    ) -> Result<(Family, Option<String>)> {
        let config = match assembly {
            Assembly::EncoderDecoder(config) => return Ok(Family::for_config(config)),
            Assembly::Encoder(config) => config,
        };
        let mut why = String::new();
        for family in own.into_iter().chain(Family::ALL) {
            let Some(encoder) = family.encoder() else {
                continue;
            };
            match encoder.cannot_say(config) {
                None => return Ok((family, None)),
                Some(reason) => why.push_str(&format!("{}: {reason}; ", family.model_type())),
            }
        }
        Err(
            Error::settings("no family of encoders can say this configuration")
                .found(why.trim_end_matches("; ").to_string()),
        )
    }

    pub(super) fn names(
        self,
        assembly: &Assembly,
        parameter: &Parameter,
        tensors: Option<&TensorStore>,
    ) -> Result<TensorNames> {
        match (assembly, self.encoder()) {
            (Assembly::Encoder(config), Some(encoder)) => encoder.names(config, parameter),
            (Assembly::EncoderDecoder(config), None) => match self {
                Family::Native => Ok(native::names(parameter)),
                Family::Mapped(LinearLayout::InOut) => Ok(native::names(parameter)),
                Family::Mapped(LinearLayout::OutIn) => {
                    let name = vec![parameter.name.clone()];
                    Ok(TensorNames::of_pytorch(parameter, name.clone(), name))
                }
                Family::MarianNmt => marian_nmt::names(config, parameter, tensors),
                _ => bart::names(config, parameter, tensors),
            },
            _ => Err(other_assembly(self)),
        }
    }

    pub(super) fn without_use(self, name: &str) -> bool {
        match (self, self.encoder()) {
            (_, Some(encoder)) => encoder.without_use(name),
            (Family::Native | Family::Mapped(_), _) => false,
            (Family::MarianNmt, _) => name.starts_with("special:"),
            _ => bart::without_use(name),
        }
    }

    /// `config.json` of this family.
    pub(super) fn write_config(self, assembly: &Assembly) -> Result<Map<String, Value>> {
        match (assembly, self.encoder()) {
            (Assembly::Encoder(config), Some(encoder)) => encoder.write(config),
            (Assembly::EncoderDecoder(config), None) => match self {
                Family::Marian => Ok(marian::write(config)),
                Family::M2m100 => Ok(m2m_100::write(config)),
                Family::Bart => Ok(mbart::BART.write(config)),
                Family::Mbart => Ok(mbart::MBART.write(config)),
                _ => native::write(config),
            },
            _ => Err(other_assembly(self)),
        }
    }
}

fn other_assembly(family: Family) -> Error {
    Error::internal("a family of models was asked for another assembly").at(family.model_type())
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.model_type())
    }
}
