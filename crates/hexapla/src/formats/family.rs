//! Whose names and conventions a model folder follows.

use std::fmt;

use serde_json::{Map, Value};

use super::decoders::{DecoderFamily, GPT2, LLAMA, MISTRAL, QWEN2, QWEN3, SMOLLM3};
use super::encoders::{
    BERT, CAMEMBERT, DISTILBERT, ELECTRA, EncoderFamily, MPNET, ROBERTA, XLM_ROBERTA,
};
use super::names::TensorNames;
use super::safetensors::TensorStore;
use super::{bart, gguf, llama2c, m2m_100, marian, marian_nmt, mbart, native, t5};
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
    /// Pre-norm with relative positions: T5, Flan-T5; transformers opens it.
    T5,
    /// As T5, in a hundred languages: mT5.
    Mt5,
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
    /// A decoder: GPT-2 and what nanoGPT trains.
    Gpt2,
    /// A decoder: Llama, SmolLM, TinyLlama.
    Llama,
    /// As Llama, where layers see a window.
    Mistral,
    /// A decoder: Qwen 2 and 2.5.
    Qwen2,
    /// A decoder: Qwen 3.
    Qwen3,
    /// A decoder: SmolLM 3.
    Smollm3,
    /// A decoder in a file of llama.cpp's; it is read, not written.
    Gguf {
        /// Whether pairs of turned numbers lie side by side in it.
        interleaved: bool,
    },
    /// A decoder in a file of llama2.c's; it is read, not written.
    Llama2c,
}

impl Family {
    /// Those of a `config.json`.
    pub(super) const ALL: [Family; 20] = [
        Family::Marian,
        Family::M2m100,
        Family::Bart,
        Family::Mbart,
        Family::T5,
        Family::Mt5,
        Family::Native,
        Family::Bert,
        Family::Roberta,
        Family::Camembert,
        Family::XlmRoberta,
        Family::Distilbert,
        Family::Electra,
        Family::Mpnet,
        Family::Gpt2,
        Family::Llama,
        Family::Mistral,
        Family::Qwen2,
        Family::Qwen3,
        Family::Smollm3,
    ];

    /// The `model_type` in `config.json`.
    pub fn model_type(self) -> &'static str {
        if let Some(encoder) = self.encoder() {
            return encoder.model_type;
        }
        if let Some(decoder) = self.decoder() {
            return decoder.model_type;
        }
        match self {
            Family::Marian => "marian",
            Family::MarianNmt => "marian-nmt",
            Family::Mapped(_) => "mapped",
            Family::M2m100 => "m2m_100",
            Family::Bart => "bart",
            Family::Mbart => "mbart",
            Family::T5 => "t5",
            Family::Mt5 => "mt5",
            Family::Gguf { .. } => "gguf",
            Family::Llama2c => "llama2.c",
            _ => "hexapla",
        }
    }

    /// The tables of a family of decoders.
    pub(super) fn decoder(self) -> Option<&'static DecoderFamily> {
        Some(match self {
            Family::Gpt2 => &GPT2,
            Family::Llama => &LLAMA,
            Family::Mistral => &MISTRAL,
            Family::Qwen2 => &QWEN2,
            Family::Qwen3 => &QWEN3,
            Family::Smollm3 => &SMOLLM3,
            _ => return None,
        })
    }

    /// The tables of a family of encoders.
    pub(super) fn encoder(self) -> Option<&'static EncoderFamily> {
        Some(match self {
            Family::Bert => &BERT,
            Family::Roberta => &ROBERTA,
            Family::Camembert => &CAMEMBERT,
            Family::XlmRoberta => &XLM_ROBERTA,
            Family::Distilbert => &DISTILBERT,
            Family::Electra => &ELECTRA,
            Family::Mpnet => &MPNET,
            _ => return None,
        })
    }

    /// The family that can say `config`, and, where it is our own, why the others cannot.
    pub fn for_config(config: &TransformerConfig) -> (Family, Option<String>) {
        if config.is_of_t5() {
            let why = match t5::T5.cannot_say(config) {
                None => return (Family::T5, None),
                Some(why) => why,
            };
            let note =
                format!("written as `hexapla`, which transformers cannot open: of t5, {why}");
            return (Family::Native, Some(note));
        }
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

    /// As [`Family::for_config`]. Of encoders or decoders, several families may have the same mathematics: `own` is preferred.
    ///
    /// # Errors
    /// No family of encoders, or of decoders, can say the configuration.
    pub(super) fn for_assembly(
        assembly: &Assembly,
        own: Option<Family>,
    ) -> Result<(Family, Option<String>)> {
        if let Assembly::EncoderDecoder(config) = assembly {
            let is_mt5 = own == Some(Family::Mt5) && t5::MT5.cannot_say(config).is_none();
            return Ok(match is_mt5 {
                true => (Family::Mt5, None),
                false => Family::for_config(config),
            });
        }
        let mut why = String::new();
        for family in own.into_iter().chain(Family::ALL) {
            let reason = match (assembly, family.encoder(), family.decoder()) {
                (Assembly::Encoder(config), Some(encoder), _) => encoder.cannot_say(config),
                (Assembly::Decoder(config), _, Some(decoder)) => decoder.cannot_say(config),
                _ => continue,
            };
            match reason {
                None => return Ok((family, None)),
                Some(reason) => why.push_str(&format!("{}: {reason}; ", family.model_type())),
            }
        }
        let why = why.trim_end_matches("; ");
        match assembly {
            Assembly::Decoder(_) => {
                let note = format!("written as `hexapla`, which transformers cannot open: {why}");
                Ok((Family::Native, Some(note)))
            }
            _ => Err(Error::settings("no family of models can say this configuration").found(why)),
        }
    }

    pub(super) fn names(
        self,
        assembly: &Assembly,
        parameter: &Parameter,
        tensors: Option<&TensorStore>,
    ) -> Result<TensorNames> {
        let own_name = || vec![parameter.name.clone()];
        match self {
            Family::Native | Family::Mapped(LinearLayout::InOut) => {
                return Ok(native::names(parameter));
            }
            Family::Mapped(LinearLayout::OutIn) => {
                return Ok(TensorNames::of_pytorch(parameter, own_name(), own_name()));
            }
            _ => (),
        }
        match (assembly, self.encoder(), self.decoder()) {
            (Assembly::Encoder(config), Some(encoder), _) => encoder.names(config, parameter),
            (Assembly::Decoder(config), _, Some(decoder)) => decoder.names(config, parameter),
            (Assembly::Decoder(config), _, None) => match self {
                Family::Gguf { interleaved } => gguf::names(config, parameter, interleaved),
                Family::Llama2c => llama2c::names(config, parameter),
                _ => Err(other_assembly(self)),
            },
            (Assembly::EncoderDecoder(config), None, None) => match self {
                Family::MarianNmt => marian_nmt::names(config, parameter, tensors),
                Family::T5 | Family::Mt5 => t5::names(config, parameter),
                _ => bart::names(config, parameter, tensors),
            },
            _ => Err(other_assembly(self)),
        }
    }

    pub(super) fn without_use(self, name: &str) -> bool {
        match (self, self.encoder(), self.decoder()) {
            (_, Some(encoder), _) => encoder.without_use(name),
            (_, _, Some(decoder)) => decoder.without_use(name),
            (Family::Native | Family::Mapped(_) | Family::Gguf { .. } | Family::Llama2c, ..) => {
                false
            }
            (Family::T5 | Family::Mt5, ..) => t5::without_use(name),
            (Family::MarianNmt, ..) => name.starts_with("special:"),
            _ => bart::without_use(name),
        }
    }

    /// `config.json` of this family.
    pub(super) fn write_config(self, assembly: &Assembly) -> Result<Map<String, Value>> {
        match (assembly, self.encoder(), self.decoder()) {
            (Assembly::Encoder(config), Some(encoder), _) => encoder.write(config),
            (Assembly::Decoder(config), _, Some(decoder)) => Ok(decoder.write(config)),
            (Assembly::EncoderDecoder(config), None, None) => match self {
                Family::Marian => Ok(marian::write(config)),
                Family::M2m100 => Ok(m2m_100::write(config)),
                Family::Bart => Ok(mbart::BART.write(config)),
                Family::Mbart => Ok(mbart::MBART.write(config)),
                Family::T5 => Ok(t5::T5.write(config)),
                Family::Mt5 => Ok(t5::MT5.write(config)),
                _ => native::write(assembly),
            },
            (Assembly::Decoder(_), None, None) => native::write(assembly),
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
