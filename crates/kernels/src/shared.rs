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
    /// # Errors
    /// The file cannot be mapped.
    ///
    /// # Safety
    /// Nobody may write to the file or shorten it while it is mapped: the bytes are lent as `&[u8]`, which do not change.
    pub unsafe fn map(file: &File) -> io::Result<Self> {
        // SAFETY: the map is only read, and lives as long as the `Arc`; that nobody writes the file is the caller's promise.
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

/// Maps a file of a model folder.
///
/// Model folders are never written in place: a new model is written beside the old one and takes its name, so what was mapped
/// stays as it was until its last reader is gone. Who edits a mapped file in place all the same changes numbers under way, and
/// who cuts it short may have the system end the process (SIGBUS).
///
/// # Errors
/// It is no regular file, or cannot be mapped.
pub fn open_model_file(file: &File) -> io::Result<SharedBytes> {
    if !file.metadata()?.is_file() {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    // SAFETY: all that writes model folders (this program, and every program that replaces a file by renaming) leaves the
    // mapped file as it is. No program can enforce that on its system; what lies in the file only ever serves as integers
    // and floats, whose every bit pattern is valid, and no length or index is taken from it after it was checked.
    unsafe { SharedBytes::map(file) }
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
        let mapped = open_model_file(&File::open(&path).unwrap()).unwrap();
        assert!(*mapped == std::fs::read(&path).unwrap()[..]);
        assert_eq!(mapped.as_ptr() as usize % 64, 0);
        assert!(open_model_file(&File::open(path.parent().unwrap()).unwrap()).is_err());
    }
}
