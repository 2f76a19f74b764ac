//! Parallel text, and text alone: reading it strictly, filtering it, and looking at it before training.

mod audit;
mod documents;
mod filter;
mod lines;
mod pairs;

pub use audit::{Audit, SideAudit};
pub use documents::Documents;
pub use filter::{FilterReport, TokenLengths, learnable, select};
pub use lines::{Lines, MAX_LINE_BYTES, open_lines, read_lines};
pub use pairs::{SentencePairs, columns, no_text, one_column};
