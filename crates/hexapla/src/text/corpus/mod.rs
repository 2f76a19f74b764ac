//! Parallel text: reading it strictly, filtering it, and looking at it before training.

mod audit;
mod filter;
mod lines;
mod pairs;

pub use audit::{Audit, SideAudit};
pub use filter::{FilterReport, TokenLengths, learnable, select};
pub use lines::{Lines, MAX_LINE_BYTES, open_lines, read_lines};
pub use pairs::{SentencePairs, columns, no_text, one_column};
