//! Hexapla trains and runs the Transformer of "Attention Is All You Need" on the CPU.
//!
//! A model folder translates:
//!
//! ```
//! let model = hexapla::Translator::open("../../models/demo")?;
//! let text = model.translate(">>de<< I am tired. Good night.")?;
//! println!("{text}");
//! # Ok::<(), hexapla::Error>(())
//! ```
//!
//! [`Translator::builder`] chooses languages, number type and threads, [`TranslateOptions`] the search, and
//! [`Translator::stream`] answers lines as they come. [`Engine`] is the same on token ids: it decodes, scores and gives logits.
//! [`generate::search()`] is the search alone, over any [`generate::StepDecoder`].
//!
//! An encoder alone analyses: [`encode::SentenceEncoder`] makes a vector of each text, and beside it stand classifiers, taggers,
//! rerankers and masked words ([`encode`]).
//!
//! A [`Recipe`] is trained by a [`Session`]:
//!
//! ```no_run
//! use std::path::Path;
//!
//! use hexapla::{Recipe, Session, SessionOptions};
//!
//! let recipe = Recipe::open(Path::new("recipe.toml"))?;
//! let mut session = Session::open(SessionOptions::new(recipe, Path::new("model")))?;
//! let outcome = session.run(&mut ())?; // nobody watches
//! println!("{:?}", outcome.metrics);
//! # Ok::<(), hexapla::Error>(())
//! ```
//!
//! The folder `examples` has a program for each of these. An [`Error`] says what failed, where, what was expected and what was
//! found; its [`ErrorKind`] says who can mend it.
//!
//! Modules that are not listed here are inner ones: they may change in any version. `docs/architecture.md` in the repository is
//! their map.
#![forbid(unsafe_code)]

#[doc(hidden)]
pub mod batch;
#[doc(hidden)]
pub mod chart;
pub mod config;
pub mod encode;
pub mod error;
#[doc(hidden)]
pub mod explain;
#[doc(hidden)]
pub mod fastest;
#[doc(hidden)]
pub mod files;
pub mod formats;
pub mod generate;
pub mod metrics;
#[doc(hidden)]
pub mod model;
#[doc(hidden)]
pub mod ops;
#[doc(hidden)]
pub mod packed;
#[doc(hidden)]
pub mod product;
#[doc(hidden)]
pub mod random;
#[doc(hidden)]
pub mod tape;
#[doc(hidden)]
pub mod tensor;
pub mod text;
pub mod train;
#[doc(hidden)]
pub mod weights;
#[doc(hidden)]
pub mod workers;

pub use config::{ComputeType, Recipe, TransformerConfig};
pub use error::{Error, ErrorKind, Result};
pub use files::Folder;
pub use generate::engine::{Engine, Request};
pub use generate::translator::{Translation, Translator, TranslatorBuilder};
pub use generate::{Hypothesis, Sampling, SearchOptions, TranslateOptions};
pub use train::session::{Outcome, Session, SessionOptions};
pub use train::trainer::Watcher;
