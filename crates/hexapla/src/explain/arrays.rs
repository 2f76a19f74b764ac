//! Named arrays of numbers.

use std::collections::BTreeMap;

/// Numbers in row order.
#[derive(Debug, Clone, PartialEq)]
pub struct Array {
    /// Sizes, the outermost first.
    pub shape: Vec<usize>,
    /// As many numbers as the sizes' product.
    pub data: Vec<f32>,
}

/// Arrays by name, in the order of their names.
pub type Arrays = BTreeMap<String, Array>;

impl Array {
    /// The numbers at `indices` of all but the last size.
    ///
    /// # Panics
    /// There are another number of indices, or one is out of range.
    pub fn row(&self, indices: &[usize]) -> &[f32] {
        let (last, outer) = self.shape.split_last().expect("an array with a size");
        assert_eq!(indices.len(), outer.len(), "an index for each size");
        let mut row = 0;
        for (index, size) in indices.iter().zip(outer) {
            assert!(index < size, "{index} of {size}");
            row = row * size + index;
        }
        &self.data[row * last..(row + 1) * last]
    }
}
