//! Every number between the text and the next token: a pass that is watched, and one that is edited to ask "what if …".
//!
//! [`trace()`] runs a model over given ids and keeps each value under its name; [`Edits`] changes it on the way; [`search_edited`]
//! translates under edits. The pass is that of translating, and nobody's watching changes a bit of it.

mod arrays;
mod block;
mod continuation;
mod detail;
mod document;
mod edited;
mod edits;
mod encoding;
mod explained;
mod explanation;
mod export;
mod flow;
mod heads;
mod influence;
mod lens;
mod likeliest;
mod neighbours;
mod page;
mod pieces;
mod recorder;
mod trace;
mod translation;
mod tree;
mod vocabulary;

pub use arrays::{Array, Arrays};
pub use continuation::explain_continuation;
pub use detail::Detail;
pub use document::{DOCUMENT_BYTES, document};
pub use edited::search_edited;
pub use edits::{Edits, Patch};
pub use encoding::explain_encoding;
pub use explained::Explained;
pub use explanation::{
    Candidates, Classes, Contrast, Explanation, FORMAT, ModelDescription, OutputToken, Sides,
    TextDescription, VERSION,
};
pub use export::{ArrayNames, write_arrays};
pub use heads::{HeadStatistics, head_statistics};
pub use influence::{HeadInfluence, Influence};
pub use lens::LensRow;
pub use neighbours::Neighbours;
pub use page::{Language, live_page, page};
pub use trace::{Trace, TraceInput, trace};
pub use translation::{ExplainOptions, TextPatch, explain_translation};
pub use tree::{FinishedNode, SearchTree, TreeNode};
pub use vocabulary::VocabularyUse;
