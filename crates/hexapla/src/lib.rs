//! Hexapla trains and runs the Transformer of "Attention Is All You Need" on the CPU.
//!
//! A model folder is opened and translates ([`generate::translator`]):
//!
//! ```
//! use std::collections::BTreeMap;
//! use std::path::Path;
//!
//! use hexapla::config::ComputeType;
//! use hexapla::generate::SearchOptions;
//! use hexapla::generate::translator::{TranslateOptions, Translator};
//!
//! let model = Translator::open(Path::new("../../models/demo"), ComputeType::Int8)?;
//! let options = TranslateOptions {
//!     search: SearchOptions::for_folder(model.engine.model().config(), &model.generation),
//!     batch_tokens: 1024,
//!     max_decoding_length: None,
//!     split_sentences: true,
//!     first_line: 0,
//!     source_language: None,
//! };
//! let lines = [">>de<< I am tired. Good night.", ">>zh<< Thank you."];
//! let translations = model.translate(&lines, &BTreeMap::new(), &options)?;
//! assert_eq!(translations.len(), 2);
//! println!("{}", translations[0][0].text);
//! # Ok::<(), hexapla::error::Error>(())
//! ```
//!
//! A model of any shape is laid out from a [`config`], and its forward pass runs on ids ([`generate::engine`]):
//!
//! ```
//! use hexapla::config::{ComputeType, TransformerConfig};
//! use hexapla::generate::engine::Engine;
//! use hexapla::model::transformer::Transformer;
//! use hexapla::packed::PackedWeights;
//! use hexapla::weights::Weights;
//!
//! let mut config = TransformerConfig::preset("tiny")?;
//! (config.source_vocab_size, config.target_vocab_size) = (100, 100);
//! let model = Transformer::new(config)?;
//! let weights = Weights::random(model.index().clone(), 1); // seed 1
//! let engine = Engine::new(model, PackedWeights::new(&weights, ComputeType::Float32));
//! let logits = engine.logits(&[vec![5, 6, 7]], &[vec![1, 8]])?; // one sentence: source, target
//! assert_eq!((logits[0].len(), logits[0][1].len()), (2, 100)); // a row for each target token
//! # Ok::<(), hexapla::error::Error>(())
//! ```
//!
//! Training is [`train::session`], from a [`config::Recipe`]. `docs/architecture.md` in the repository is the map.
#![forbid(unsafe_code)]

pub mod batch;
pub mod chart;
pub mod config;
pub mod error;
pub mod files;
pub mod formats;
pub mod generate;
pub mod metrics;
pub mod model;
pub mod ops;
pub mod packed;
pub mod product;
pub mod random;
pub mod tape;
pub mod tensor;
pub mod text;
pub mod train;
pub mod weights;
