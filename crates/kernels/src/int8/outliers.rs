//! The one number of a row that its scale leaves out.

use std::ops::Range;

use crate::isa::multiversion;
use crate::matrix::MatrixMut;
use crate::panels::{GROUP, LINE, LINES, Line, PANEL};

/// By what a row of activations is scaled before it is rounded to bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Int8Scales {
    /// By its largest magnitude.
    #[default]
    Largest,
    /// By its second largest, where the largest stands out. That one is multiplied in f32 (Dettmers et al. 2022,
    /// "LLM.int8()", splits whole columns off so).
    WithoutOutlier,
}

/// What a row's largest magnitude is, at least, times its second largest, to be taken out.
pub(super) const STANDS_OUT: f32 = 1.5;

/// A number of a row of activations that is no byte: its byte stands for zero.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Outlier {
    /// Its column: k of the product.
    pub(super) k: usize,
    /// The number; 0 for none.
    pub(super) value: f32,
}

multiversion! {
    /// Adds to the `columns` of each row of C, which are those of one panel, the row's outlier times its row of the panel.
    pub(super) fn add_rows(
        c: &mut MatrixMut, columns: Range<usize>, outliers: &[Outlier], panel: &[Line], scales: &[f32],
    ) -> () {
        let scales = &scales[..PANEL];
        for (r, Outlier { k, value }) in outliers.iter().enumerate() {
            if *value == 0.0 {
                continue;
            }
            let up = 24 - 8 * (k % GROUP);
            let lines = &panel[k / GROUP * LINES..][..LINES];
            // One run of words, so that the compiler sees 64 columns in a row.
            let mut words = [0; PANEL];
            for (words, line) in words.chunks_exact_mut(LINE).zip(lines) {
                words.copy_from_slice(&line.0);
            }
            let mut products = [0.0f32; PANEL];
            for ((product, word), scale) in products.iter_mut().zip(words).zip(scales) {
                let byte = (word << up) as i32 >> 24;
                *product = byte as f32 * (value * scale);
            }
            let out = &mut c.data[r * c.row_stride..][columns.clone()];
            out.iter_mut().zip(&products).for_each(|(out, product)| *out += product);
        }
    }
}
