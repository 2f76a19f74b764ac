//! Every number between the text and the next token: a pass that is watched, and one that is edited to ask "what if …".
//!
//! [`trace()`] runs a model over given ids and keeps each value under its name; [`Edits`] changes it on the way; [`search_edited`]
//! translates under edits. The pass is that of translating, and nobody's watching changes a bit of it.

mod arrays;
mod edited;
mod edits;
mod recorder;
mod trace;

pub use arrays::{Array, Arrays};
pub use edited::search_edited;
pub use edits::{Edits, Patch};
pub use trace::{Trace, TraceInput, trace};
