//! What a training learns from.

use crate::batch::TrainingRows;

/// Examples, pass by pass.
pub trait Examples {
    /// Those of one pass over the data, the same for each number of a pass.
    fn of_epoch(&self, number: u64) -> Box<dyn EpochExamples + '_>;
}

/// The examples of one pass.
pub trait EpochExamples {
    /// Tokens that each of them counts for in a batch.
    fn lengths(&self) -> Vec<usize>;

    /// Adds one of them, by its number, to a part of a batch.
    fn push(&self, number: usize, rows: &mut TrainingRows);
}
