//! A matrix of numbers in a buffer that is used again when nobody holds it any more.

use std::sync::{Arc, Mutex};

use hexapla_kernels::{Buffer, Matrix, MatrixMut};

/// Buffers at rest, kept by size class, so that after the first step no memory is asked for.
#[derive(Debug, Clone, Default)]
pub struct Arena(Arc<Mutex<Vec<Vec<Arc<Buffer>>>>>);

/// Size classes are quarters of an octave: a buffer is at most a quarter larger than asked.
fn class(len: usize) -> usize {
    let len = len.max(64);
    let octave = len.ilog2() as usize;
    let quarter = (len - (1 << octave)).div_ceil(1 << (octave - 2));
    octave * 4 + quarter
}

/// Numbers in a buffer of this class.
fn capacity(class: usize) -> usize {
    (1 << (class / 4)) + (class % 4) * (1 << (class / 4 - 2))
}

impl Arena {
    /// A matrix of `rows × columns` whose numbers are stale: whoever asks fills them. In debug builds they are NaN, so that a test
    /// sees what nobody filled.
    pub fn tensor(&self, rows: usize, columns: usize) -> Tensor {
        let len = rows * columns;
        let class = class(len);
        let resting = {
            let mut classes = self.lock();
            // A class or two larger will do too.
            (class..class + 3).find_map(|c| classes.get_mut(c).and_then(Vec::pop))
        };
        let mut buffer = resting.unwrap_or_else(|| Arc::new(Buffer::zeros(capacity(class))));
        if let Some(buffer) = Arc::get_mut(&mut buffer) {
            buffer.resize(len);
            if cfg!(debug_assertions) {
                buffer.fill(f32::NAN);
            }
        }
        Tensor {
            rows,
            columns,
            node: None,
            buffer: Some(buffer),
            arena: self.clone(),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Vec<Arc<Buffer>>>> {
        // A panic while the lock was held cannot have left the lists half-changed.
        self.0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// A node of the tape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Node(pub(crate) u32);

/// A matrix of f32, row after row. Clones share the numbers; only an unshared tensor can be written to.
#[derive(Debug)]
pub struct Tensor {
    rows: usize,
    columns: usize,
    node: Option<Node>,
    /// `None` only while it is being dropped.
    buffer: Option<Arc<Buffer>>,
    arena: Arena,
}

impl Tensor {
    /// Number of rows (tokens, mostly).
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Its node on the tape, if one records.
    pub(crate) fn node(&self) -> Option<Node> {
        self.node
    }

    pub(crate) fn with_node(mut self, node: Option<Node>) -> Self {
        self.node = node;
        self
    }

    /// All numbers, row after row.
    pub fn data(&self) -> &[f32] {
        self.buffer.as_deref().map_or(&[], |b| b)
    }

    /// All numbers, to write.
    ///
    /// # Panics
    /// Somebody else holds the tensor too: an operation that writes to its input is a mistake in this library.
    pub fn data_mut(&mut self) -> &mut [f32] {
        let buffer = self.buffer.as_mut().and_then(Arc::get_mut);
        buffer.expect("only an unshared tensor is written to")
    }

    /// One row.
    pub fn row(&self, r: usize) -> &[f32] {
        &self.data()[r * self.columns..(r + 1) * self.columns]
    }

    /// Some rows, one after the other.
    pub fn rows_data(&self, rows: std::ops::Range<usize>) -> &[f32] {
        &self.data()[rows.start * self.columns..rows.end * self.columns]
    }

    /// The whole as a matrix.
    pub fn matrix(&self) -> Matrix<'_> {
        Matrix::new(self.data(), self.rows, self.columns, self.columns)
    }

    /// The whole as a matrix to write to.
    pub fn matrix_mut(&mut self) -> MatrixMut<'_> {
        let (rows, columns) = (self.rows, self.columns);
        MatrixMut::new(self.data_mut(), rows, columns, columns)
    }
}

impl Clone for Tensor {
    fn clone(&self) -> Self {
        Tensor {
            rows: self.rows,
            columns: self.columns,
            node: self.node,
            buffer: self.buffer.clone(),
            arena: self.arena.clone(),
        }
    }
}

impl Drop for Tensor {
    fn drop(&mut self) {
        let Some(mut buffer) = self.buffer.take() else {
            return;
        };
        if Arc::get_mut(&mut buffer).is_none() {
            return;
        }
        let class = class(buffer.capacity());
        let mut classes = self.arena.lock();
        if classes.len() <= class {
            classes.resize_with(class + 1, Vec::new);
        }
        classes[class].push(buffer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_holds_what_is_asked_and_little_more() {
        for len in (1..5000).chain([1 << 20, (1 << 20) + 1, 12_345_678]) {
            let room = capacity(class(len));
            assert!(
                room >= len && (len < 64 || room * 4 <= len * 5),
                "{len} {room}"
            );
            assert_eq!(class(room), class(len), "{len}");
        }
    }

    #[cfg(debug_assertions)]
    #[test]
    fn what_nobody_filled_is_no_number() {
        let arena = Arena::default();
        arena.tensor(3, 4).data_mut().fill(1.0);
        assert!(arena.tensor(3, 4).data().iter().all(|x| x.is_nan()));
    }

    #[test]
    fn a_buffer_comes_back() {
        let arena = Arena::default();
        let first = arena.tensor(10, 30);
        let address = first.data().as_ptr();
        let shared = first.clone();
        drop(first);
        assert_ne!(arena.tensor(10, 30).data().as_ptr(), address);
        drop(shared);
        assert_eq!(arena.tensor(10, 31).data().as_ptr(), address);
    }
}
