//! Model folders in the Hugging Face layout: `config.json`, `generation_config.json`, `model.safetensors`, whatever the
//! tokenizer needs, and our `manifest.json`.
//!
//! Three families are read and written: [`marian`], [`m2m_100`], and our own [`native`] for what neither can say. A
//! setting that would change what is computed and is not known here is refused, never passed over.

mod bart;
mod convert;
mod family;
pub mod generation;
mod keys;
pub mod m2m_100;
pub mod manifest;
pub mod marian;
pub mod native;
mod open;
pub mod safetensors;
mod save;
mod stored;
#[cfg(test)]
mod tests;

pub use convert::{ConvertModel, convert};
pub use family::Family;
pub use open::{ModelFolder, open};
pub use save::{SaveModel, Saved, recover, refuse_model, replace, save};
pub use stored::Storage;
