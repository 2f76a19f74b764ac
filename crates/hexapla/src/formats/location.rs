//! Where a tensor's numbers lie in a file.

use safetensors::tensor::Dtype;

use super::gguf::BlockFormat;

/// What is wrong with a file: what was expected, and what was found.
pub(super) type Fault = (String, String);

/// A tensor's numbers in the file, in row order.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Location {
    pub(super) start: u64,
    pub(super) bytes: u64,
    pub(super) dtype: Dtype,
    /// Where its numbers lie in blocks, which `dtype` does not say.
    pub(super) blocks: Option<BlockFormat>,
    pub(super) shape: Vec<usize>,
    pub(super) zeros: Option<Zeros>,
}

/// Zeros that a tensor has besides the file's numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Zeros {
    /// Behind every so many of the file's numbers
    pub(super) after: usize,
    /// there are so many.
    pub(super) count: usize,
}

/// Part `number` of `of` equal parts of a tensor's rows.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct TensorPart {
    pub(super) tensor: String,
    pub(super) number: usize,
    pub(super) of: usize,
}

impl Location {
    /// Part `number` of `of` equal parts of its rows.
    pub(super) fn part(&self, number: usize, of: usize) -> Option<Location> {
        let mut shape = self.shape.clone();
        match shape.first_mut() {
            Some(rows) if rows.is_multiple_of(of) => *rows /= of,
            None if of == 1 => (),
            _ => return None,
        }
        let bytes = self.bytes / of as u64;
        Some(Location {
            start: self.start + number as u64 * bytes,
            bytes,
            dtype: self.dtype,
            blocks: self.blocks,
            shape,
            zeros: self.zeros,
        })
    }

    /// Gives a matrix a row (`axis` 0) or a column (`axis` 1) of zeros more. False where it is no matrix, or has some already.
    pub(super) fn add_zeros(&mut self, axis: usize) -> bool {
        let [rows, columns] = self.shape.as_mut_slice() else {
            return false;
        };
        let zeros = match axis {
            0 => Zeros {
                after: *rows * *columns,
                count: *columns,
            },
            _ => Zeros {
                after: *columns,
                count: 1,
            },
        };
        if zeros.after == 0 || self.zeros.is_some() || self.blocks.is_some() {
            return false;
        }
        *(if axis == 0 { rows } else { columns }) += 1;
        self.zeros = Some(zeros);
        true
    }
}
