//! Matrices inside slices, to read and to write.

use std::ops::Range;

/// Whether `rows × columns` numbers with rows `row_stride` apart lie in `len` numbers. Where they do, no index inside them
/// overflows.
fn fits(len: usize, rows: usize, columns: usize, row_stride: usize) -> bool {
    rows == 0
        || columns == 0
        || (rows - 1)
            .checked_mul(row_stride)
            .and_then(|last| last.checked_add(columns))
            .is_some_and(|end| end <= len)
}

/// A view of a matrix inside a slice: element (r, c) stands at `r * row_stride + c * column_stride`.
#[derive(Debug, Clone, Copy)]
pub struct Matrix<'a> {
    pub(crate) data: &'a [f32],
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    pub(crate) row_stride: usize,
    pub(crate) column_stride: usize,
}

impl<'a> Matrix<'a> {
    /// `rows × columns`, row after row, rows `row_stride` apart.
    ///
    /// # Panics
    /// The slice is too short.
    pub fn new(data: &'a [f32], rows: usize, columns: usize, row_stride: usize) -> Self {
        assert!(
            fits(data.len(), rows, columns, row_stride),
            "a {rows}×{columns} matrix with stride {row_stride} does not fit in {} numbers",
            data.len()
        );
        Matrix {
            data,
            rows,
            columns,
            row_stride,
            column_stride: 1,
        }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// The rows `rows` alone.
    ///
    /// # Panics
    /// Some of them are not there.
    #[must_use]
    pub fn row_range(self, rows: Range<usize>) -> Self {
        assert!(
            rows.start <= rows.end && rows.end <= self.rows,
            "rows of the matrix"
        );
        // No rows may begin behind the last number.
        let start = (rows.start * self.row_stride).min(self.data.len());
        Matrix {
            data: &self.data[start..],
            rows: rows.len(),
            ..self
        }
    }

    /// The same numbers with rows and columns exchanged.
    #[must_use]
    pub fn transposed(self) -> Self {
        Matrix {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }
}

/// A view of a matrix to write to, row after row.
#[derive(Debug)]
pub struct MatrixMut<'a> {
    pub(crate) data: &'a mut [f32],
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    pub(crate) row_stride: usize,
}

impl<'a> MatrixMut<'a> {
    /// `rows × columns`, rows `row_stride` apart.
    ///
    /// # Panics
    /// The slice is too short, or rows overlap.
    pub fn new(data: &'a mut [f32], rows: usize, columns: usize, row_stride: usize) -> Self {
        assert!(
            fits(data.len(), rows, columns, row_stride),
            "a {rows}×{columns} matrix with stride {row_stride} does not fit in {} numbers",
            data.len()
        );
        assert!(rows <= 1 || row_stride >= columns, "rows overlap");
        MatrixMut {
            data,
            rows,
            columns,
            row_stride,
        }
    }
}

impl<'a> MatrixMut<'a> {
    /// The same matrix in blocks of `rows` rows, the last perhaps of fewer.
    ///
    /// # Panics
    /// `rows` is 0.
    pub fn row_blocks(self, rows: usize) -> impl Iterator<Item = MatrixMut<'a>> {
        let MatrixMut {
            data,
            rows: all,
            columns,
            row_stride,
        } = self;
        let count = all.div_ceil(rows);
        let blocks = data.chunks_mut((rows * row_stride).max(1)).take(count);
        blocks.enumerate().map(move |(i, data)| {
            let rows = rows.min(all - i * rows);
            MatrixMut::new(data, rows, columns, row_stride)
        })
    }
}

impl MatrixMut<'_> {
    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Row `r`.
    ///
    /// # Panics
    /// There is no such row.
    pub fn row_mut(&mut self, r: usize) -> &mut [f32] {
        assert!(r < self.rows);
        &mut self.data[r * self.row_stride..][..self.columns]
    }
}

/// What a product is added to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Plus<'a> {
    /// Nothing: C's numbers are replaced.
    Nothing,
    /// The numbers that are in C: each chain starts from them.
    C,
    /// A bias, one number for each column, added at the end of each chain; C's numbers are replaced.
    Bias(&'a [f32]),
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The inverse of 7 modulo 2⁶⁴: seven times it wraps to 1.
    const WRAPS: usize = 0x6DB6_DB6D_B6DB_6DB7_u64 as usize;

    #[test]
    fn blocks_of_rows_are_the_matrix_in_its_order() {
        // Rows of 3 numbers, 4 apart; the last has nothing behind it.
        let mut data: Vec<f32> = (0..27).map(|i| i as f32).collect();
        let a = data.clone();
        let a = Matrix::new(&a, 7, 3, 4);
        for block in [1, 2, 3, 7, 9] {
            let mut first = 0;
            for mut part in MatrixMut::new(&mut data, 7, 3, 4).row_blocks(block) {
                let view = a.row_range(first..first + part.rows());
                for r in 0..part.rows() {
                    let row = &view.data[r * view.row_stride..][..3];
                    assert_eq!(part.row_mut(r), row);
                }
                first += part.rows();
            }
            assert_eq!(first, 7);
        }
        assert_eq!(a.row_range(7..7).rows(), 0);
        assert_eq!(MatrixMut::new(&mut [], 0, 3, 4).row_blocks(2).count(), 0);
    }

    #[test]
    #[should_panic(expected = "does not fit")]
    fn a_stride_that_wraps_is_refused() {
        let _ = Matrix::new(&[0.0; 2], 8, 1, WRAPS);
    }

    #[test]
    #[should_panic(expected = "does not fit")]
    fn a_stride_that_wraps_is_refused_for_writing() {
        let _ = MatrixMut::new(&mut [0.0; 2], 8, 1, WRAPS);
    }
}
