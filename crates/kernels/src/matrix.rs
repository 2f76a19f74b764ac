//! Matrices inside slices, to read and to write.

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
