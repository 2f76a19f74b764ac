//! Model folders in the Hugging Face layout: `config.json`, `generation_config.json`, `model.safetensors`, whatever the
//! tokenizer needs, and our `manifest.json`.
//!
//! Encoder-decoders are read and written as `marian`, `m2m_100`, `bart`, `mbart`, `t5`, `mt5`, and as our own `hexapla` where none of these
//! can say them; encoders as `bert`, `roberta`, `camembert`, `xlm-roberta`, `distilbert`, `electra` and
//! `mpnet`; decoders as `gpt2`, `llama`, `mistral`, `qwen2`, `qwen3` and `smollm3`. Marian's own files, and weights that a `mapping.toml` describes, are read. A setting that would change what is computed and is not known here is refused, never passed over.

mod bart;
mod convert;
mod decoders;
mod encoders;
mod family;
#[doc(hidden)]
pub mod generation;
mod gguf;
mod keys;
mod labels;
mod llama2c;
mod location;
#[doc(hidden)]
pub mod m2m_100;
#[doc(hidden)]
pub mod manifest;
mod mapped;
#[doc(hidden)]
pub mod marian;
mod marian_nmt;
mod mbart;
mod names;
#[doc(hidden)]
pub mod native;
mod npz;
mod open;
mod pickle;
#[doc(hidden)]
pub mod safetensors;
mod save;
pub(crate) mod sentence;
mod stored;
mod t5;
#[cfg(test)]
mod tests;

pub use convert::{ConvertModel, convert};
pub use family::Family;
pub use manifest::ManifestMetric;
pub use open::{ModelFolder, open};
pub use save::Saved;
#[doc(hidden)]
pub use save::{SaveModel, recover, refuse_model, replace, save};
pub use sentence::Similarity;
pub use stored::Storage;
