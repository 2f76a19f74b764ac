//! Whose names and conventions a model folder follows.

use std::fmt;

use serde_json::{Map, Value};

use super::bart::{self, TensorNames};
use super::safetensors::TensorStore;
use super::{m2m_100, marian, native};
use crate::config::TransformerConfig;
use crate::error::Result;
use crate::weights::Parameter;

/// Whose names and conventions a folder follows: its `model_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// Post-norm, as in the paper; transformers opens it.
    Marian,
    /// Pre-norm; transformers opens it.
    M2m100,
    /// Everything else; only this program opens it.
    Native,
}

impl Family {
    pub(super) const ALL: [Family; 3] = [Family::Marian, Family::M2m100, Family::Native];

    /// The `model_type` in `config.json`.
    pub fn model_type(self) -> &'static str {
        match self {
            Family::Marian => "marian",
            Family::M2m100 => "m2m_100",
            Family::Native => "hexapla",
        }
    }

    /// The family that can say `config`, and, where it is our own, why the others cannot.
    pub fn for_config(config: &TransformerConfig) -> (Family, Option<String>) {
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

    pub(super) fn names(
        self,
        config: &TransformerConfig,
        parameter: &Parameter,
        tensors: Option<&TensorStore>,
    ) -> Result<TensorNames> {
        match self {
            Family::Native => Ok(native::names(parameter)),
            Family::Marian | Family::M2m100 => bart::names(config, parameter, tensors),
        }
    }

    pub(super) fn without_use(self, name: &str) -> bool {
        self != Family::Native && bart::without_use(name)
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.model_type())
    }
}

/// `config.json` of this family.
pub(super) fn write_config(
    family: Family,
    config: &TransformerConfig,
) -> Result<Map<String, Value>> {
    match family {
        Family::Marian => Ok(marian::write(config)),
        Family::M2m100 => Ok(m2m_100::write(config)),
        Family::Native => native::write(config),
    }
}
