//! Bytes that are read where they lie: a file mapped into memory, or bytes of the program itself.

use std::fs::File;
use std::io;
use std::ops::{Deref, Range};
use std::sync::Arc;

use memmap2::Mmap;

/// A run of bytes with many readers and no writer. A copy shares it.
#[derive(Debug, Clone)]
pub struct SharedBytes {
    source: Source,
    range: Range<usize>,
}

#[derive(Debug, Clone)]
enum Source {
    Program(&'static [u8]),
    Mapped(Arc<Mmap>),
}

impl Source {
    fn bytes(&self) -> &[u8] {
        match self {
            Source::Program(bytes) => bytes,
            Source::Mapped(map) => map,
        }
    }
}

impl SharedBytes {
    /// Maps the whole of `file`. Its pages are read when they are first touched, and are the system's own copy of the
    /// file: all processes that map it share them.
    ///
    /// The file must not be written or shortened while it is mapped. Model folders keep to that: a new model is written
    /// beside the old one and takes its name, so what was mapped stays as it was until its last reader is gone. Where
    /// someone edits a mapped file in place all the same, numbers may change under way, and where it is cut short the
    /// system may end the process (SIGBUS); readers here take any bytes for numbers, and for nothing else.
    ///
    /// # Errors
    /// The file cannot be mapped.
    pub fn map(file: &File) -> io::Result<Self> {
        // SAFETY: the map is only read, and lives as long as the `Arc`. That nobody writes the file meanwhile no program
        // can enforce on its system; it is asked for above. The bytes only ever serve as integers and floats, whose
        // every bit pattern is valid, and no length or index is taken from them after it was checked.
        let map = unsafe { Mmap::map(file)? };
        Ok(SharedBytes {
            range: 0..map.len(),
            source: Source::Mapped(Arc::new(map)),
        })
    }

    /// The part `range`; `None` where it reaches beyond the end.
    pub fn slice(&self, range: Range<usize>) -> Option<Self> {
        self.get(range.clone())?;
        Some(SharedBytes {
            source: self.source.clone(),
            range: self.range.start + range.start..self.range.start + range.end,
        })
    }
}

impl From<&'static [u8]> for SharedBytes {
    fn from(bytes: &'static [u8]) -> Self {
        SharedBytes {
            source: Source::Program(bytes),
            range: 0..bytes.len(),
        }
    }
}

impl Deref for SharedBytes {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.source.bytes()[self.range.clone()]
    }
}

impl AsRef<[u8]> for SharedBytes {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_parts_and_nothing_beyond_the_end() {
        let whole = SharedBytes::from(&b"abcdef"[..]);
        let part = whole.slice(2..5).unwrap();
        assert_eq!(&*part, b"cde");
        assert_eq!(&*part.slice(1..3).unwrap(), b"de");
        assert!(part.slice(1..4).is_none() && whole.slice(0..7).is_none());
        #[allow(clippy::reversed_empty_ranges)]
        let backwards = whole.slice(3..2);
        assert!(backwards.is_none());
    }

    #[test]
    fn a_mapped_file_is_its_bytes() {
        let path = std::env::current_exe().unwrap();
        let mapped = SharedBytes::map(&File::open(&path).unwrap()).unwrap();
        assert!(*mapped == std::fs::read(&path).unwrap()[..]);
        assert_eq!(mapped.as_ptr() as usize % 64, 0);
    }
}
