//! A packed weight's bytes: how they are laid out, and where they lie.

use std::ops::Deref;

use crate::shared::SharedBytes;

/// Columns of a panel.
pub(crate) const PANEL: usize = 64;
/// k in a group: what one instruction multiplies and sums.
pub(crate) const GROUP: usize = 4;
/// Columns in a line.
pub(crate) const LINE: usize = 16;
/// Lines in a panel for each group of k.
pub(crate) const LINES: usize = PANEL / LINE;

/// One cache line: for each of 16 columns the 4 weights of a group of k, the first in the lowest byte.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct Line(pub(crate) [u32; LINE]);

impl Line {
    /// Its bytes as they lie in a file.
    pub(crate) fn bytes(&self) -> [u8; 64] {
        let mut bytes = [0; 64];
        for (to, word) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(self.0) {
            *to = word.to_le_bytes();
        }
        bytes
    }
}

/// A weight's lines: its own, or those of a file that is mapped into memory.
#[derive(Debug, Clone)]
pub(crate) enum Panels {
    /// In memory of their own.
    Own(Vec<Line>),
    /// Where someone else has them. Aligned as lines are, and a whole number of them.
    Shared(SharedBytes),
}

impl Panels {
    /// The lines that `bytes` hold, in place where they are aligned and this machine's words have their order.
    ///
    /// # Panics
    /// They are no whole lines.
    pub(crate) fn from_bytes(bytes: SharedBytes) -> Self {
        assert!(bytes.len().is_multiple_of(size_of::<Line>()));
        if cfg!(target_endian = "little") && bytes.as_ptr().cast::<Line>().is_aligned() {
            return Panels::Shared(bytes);
        }
        let (lines, _) = bytes.as_chunks::<{ size_of::<Line>() }>();
        let line = |bytes: &[u8; size_of::<Line>()]| {
            let (words, _) = bytes.as_chunks::<4>();
            Line(std::array::from_fn(|i| u32::from_le_bytes(words[i])))
        };
        Panels::Own(lines.iter().map(line).collect())
    }

    /// The lines, to fill.
    ///
    /// # Panics
    /// They are someone else's.
    pub(crate) fn own(&mut self) -> &mut [Line] {
        match self {
            Panels::Own(lines) => lines,
            Panels::Shared(_) => panic!("a stored weight is not to be changed"),
        }
    }
}

impl Deref for Panels {
    type Target = [Line];
    fn deref(&self) -> &[Line] {
        match self {
            Panels::Own(lines) => lines,
            Panels::Shared(bytes) => {
                // SAFETY: every bit pattern is a `Line`, which is `repr(C)` over words without padding; `align_to`
                // itself finds the aligned part.
                let (before, lines, after) = unsafe { bytes.align_to::<Line>() };
                debug_assert!(before.is_empty() && after.is_empty());
                lines
            }
        }
    }
}
