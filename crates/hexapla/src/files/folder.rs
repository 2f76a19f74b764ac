//! A folder to read, and files within a limit.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use hexapla_kernels::{SharedBytes, open_model_file};

use super::checksum::sha256;
use crate::error::{Error, Result};

/// Files that belong together, to read: a folder of the file system, or one inside the program.
///
/// A folder of the file system is opened once, and each of its files once: what was checked is what is read, whatever takes the
/// folder's name meanwhile. Clones share what is open.
#[derive(Debug, Clone)]
pub enum Folder {
    /// On a disk.
    Disk(DiskFolder),
    /// Names and contents.
    Embedded(&'static [(&'static str, &'static [u8])]),
}

/// An opened file.
pub trait Opened: Read + Seek {}
impl<F: Read + Seek> Opened for F {}

impl<P: AsRef<Path> + ?Sized> From<&P> for Folder {
    fn from(path: &P) -> Self {
        Folder::Disk(DiskFolder(Arc::new(Inner::open(path.as_ref()))))
    }
}

/// A folder of the file system that is held open.
#[derive(Debug, Clone)]
pub struct DiskFolder(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    /// The folder itself: its files are found through it even when another takes its name.
    #[cfg(unix)]
    handle: Option<File>,
    files: Mutex<BTreeMap<String, Arc<File>>>,
}

impl Inner {
    fn open(path: &Path) -> Self {
        Inner {
            path: path.to_path_buf(),
            #[cfg(unix)]
            handle: File::open(path)
                .ok()
                .filter(|file| file.metadata().is_ok_and(|m| m.is_dir())),
            files: Mutex::default(),
        }
    }

    /// Opens the file `name` anew.
    #[cfg(unix)]
    fn open_file(&self, name: &str) -> io::Result<File> {
        use rustix::fs::{Mode, OFlags, openat};
        let Some(folder) = &self.handle else {
            return File::open(self.path.join(name));
        };
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let opened = openat(folder, name, flags, Mode::empty())?;
        Ok(File::from(opened))
    }

    #[cfg(not(unix))]
    fn open_file(&self, name: &str) -> io::Result<File> {
        File::open(self.path.join(name))
    }

    /// The file `name`, opened at the first time.
    fn file(&self, name: &str) -> io::Result<Arc<File>> {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = files.get(name) {
            return Ok(file.clone());
        }
        let file = Arc::new(self.open_file(name)?);
        files.insert(name.to_string(), file.clone());
        Ok(file)
    }
}

impl DiskFolder {
    /// The path that it was opened by.
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    fn exists(&self) -> bool {
        #[cfg(unix)]
        return self.0.handle.is_some();
        #[cfg(not(unix))]
        return self.0.path.is_dir();
    }

    fn contains(&self, name: &str) -> bool {
        let file = self.0.file(name).and_then(|file| file.metadata());
        file.is_ok_and(|m| m.is_file())
    }

    fn reader(&self, name: &str) -> io::Result<(FileReader, u64)> {
        let file = self.0.file(name)?;
        let length = file.metadata()?.len();
        Ok((FileReader { file, at: 0 }, length))
    }
}

/// Reads a file that others read too: with a position of its own.
struct FileReader {
    file: Arc<File>,
    at: u64,
}

impl Read for FileReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        #[cfg(unix)]
        let count = std::os::unix::fs::FileExt::read_at(&*self.file, buffer, self.at)?;
        #[cfg(windows)]
        let count = std::os::windows::fs::FileExt::seek_read(&*self.file, buffer, self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}

impl Seek for FileReader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let from = |start: u64, by: i64| start.checked_add_signed(by);
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::Current(by) => from(self.at, by),
            SeekFrom::End(by) => from(self.file.metadata()?.len(), by),
        };
        self.at = at.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok(self.at)
    }
}

impl Folder {
    /// Whether there is such a folder.
    pub fn exists(&self) -> bool {
        match self {
            Folder::Disk(folder) => folder.exists(),
            Folder::Embedded(_) => true,
        }
    }

    /// Whether it holds a file called `name`.
    pub fn contains(&self, name: &str) -> bool {
        match self {
            Folder::Disk(folder) => folder.contains(name),
            Folder::Embedded(_) => self.embedded(name).is_some(),
        }
    }

    /// The names of its files.
    ///
    /// # Errors
    /// It cannot be listed.
    pub fn names(&self) -> Result<Vec<String>> {
        let path = match self {
            Folder::Disk(folder) => folder.path(),
            Folder::Embedded(files) => return Ok(files.iter().map(|f| f.0.to_string()).collect()),
        };
        let failed = |e| Error::io("cannot list the folder", path, &e);
        let mut names = Vec::new();
        for entry in std::fs::read_dir(path).map_err(failed)? {
            names.extend(entry.map_err(failed)?.file_name().into_string().ok());
        }
        names.sort();
        Ok(names)
    }

    /// The folder, as errors name it.
    pub fn path(&self) -> PathBuf {
        match self {
            Folder::Disk(folder) => folder.path().to_path_buf(),
            Folder::Embedded(_) => PathBuf::from("(inside the program)"),
        }
    }

    /// The folder `name` inside this one. Inside the program there is none.
    #[must_use]
    pub fn join(&self, name: &str) -> Folder {
        match self {
            Folder::Disk(folder) => Folder::from(&folder.path().join(name)),
            Folder::Embedded(_) => Folder::Embedded(&[]),
        }
    }

    /// The file `name`, as errors name it.
    pub fn path_of(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// The whole file `name`, of at most `max_bytes`.
    ///
    /// # Errors
    /// As [`read_limited`].
    pub fn read(&self, name: &str, max_bytes: u64) -> Result<Cow<'static, [u8]>> {
        match self {
            Folder::Disk(folder) => {
                let path = self.path_of(name);
                let (mut reader, length) = folder
                    .reader(name)
                    .map_err(|e| Error::io("cannot read the file", &path, &e))?;
                read_all(&mut reader, length, &path, max_bytes).map(Cow::Owned)
            }
            Folder::Embedded(_) => self
                .embedded(name)
                .map(Cow::Borrowed)
                .ok_or_else(|| self.missing(name)),
        }
    }

    /// Opens the file `name` to read parts of it; gives its length too.
    ///
    /// # Errors
    /// A file that is missing or cannot be opened.
    pub fn open(&self, name: &str) -> Result<(Box<dyn Opened>, u64)> {
        match self {
            Folder::Disk(folder) => {
                let opened = folder.reader(name);
                let (reader, length) = opened
                    .map_err(|e| Error::io("cannot read the file", &self.path_of(name), &e))?;
                Ok((Box::new(reader), length))
            }
            Folder::Embedded(_) => {
                let bytes = self.embedded(name).ok_or_else(|| self.missing(name))?;
                Ok((Box::new(io::Cursor::new(bytes)), bytes.len() as u64))
            }
        }
    }

    /// The SHA-256 of the file `name` in hexadecimal digits.
    ///
    /// # Errors
    /// A file that is missing or cannot be read.
    pub fn sha256(&self, name: &str) -> Result<String> {
        let (mut reader, _) = self.open(name)?;
        sha256(&mut reader).map_err(|e| Error::io("cannot read the file", &self.path_of(name), &e))
    }

    /// The file `name` mapped into memory, or where it lies in the program. See [`open_model_file`] for what is asked of a
    /// mapped file.
    ///
    /// # Errors
    /// A file that is missing or cannot be mapped.
    pub fn map(&self, name: &str) -> Result<SharedBytes> {
        match self {
            Folder::Disk(folder) => {
                let mapped = folder.0.file(name).and_then(|file| open_model_file(&file));
                mapped.map_err(|e| {
                    Error::io("cannot map the file into memory", &self.path_of(name), &e)
                })
            }
            Folder::Embedded(_) => {
                let bytes = self.embedded(name).ok_or_else(|| self.missing(name))?;
                Ok(bytes.into())
            }
        }
    }

    fn embedded(&self, name: &str) -> Option<&'static [u8]> {
        let Folder::Embedded(files) = self else {
            return None;
        };
        files.iter().find(|file| file.0 == name).map(|file| file.1)
    }

    fn missing(&self, name: &str) -> Error {
        Error::input("cannot read the file")
            .at(self.path_of(name).display().to_string())
            .found("no such file")
    }
}

/// Reads a whole file of at most `max_bytes`; a larger one is refused before any memory is asked for.
///
/// # Errors
/// A file that cannot be read, or is too large.
pub fn read_limited(path: &Path, max_bytes: u64) -> Result<Vec<u8>> {
    let failed = |e: io::Error| Error::io("cannot read the file", path, &e);
    let mut file = File::open(path).map_err(failed)?;
    let length = file.metadata().map_err(failed)?.len();
    read_all(&mut file, length, path, max_bytes)
}

fn read_all(file: &mut dyn Read, length: u64, path: &Path, max_bytes: u64) -> Result<Vec<u8>> {
    let too_large = |found: String| {
        Error::input("the file is too large")
            .at(path.display().to_string())
            .expected(format!("at most {max_bytes} bytes"))
            .found(found)
            .hint("is this the file that you mean?")
    };
    if length > max_bytes {
        return Err(too_large(format!("{length} bytes")));
    }
    // A pipe or a growing file may say less than it holds.
    let mut bytes = Vec::new();
    file.take(max_bytes.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(|e| Error::io("cannot read the file", path, &e))?;
    if bytes.len() as u64 > max_bytes {
        return Err(too_large("more".into()));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[cfg(unix)]
    #[test]
    fn what_was_opened_stays_what_it_was() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("m");
        fs::create_dir(&path).unwrap();
        for name in ["a", "b"] {
            fs::write(path.join(name), format!("old {name}")).unwrap();
        }
        let folder = Folder::from(&path);
        assert_eq!(&*folder.read("a", 9).unwrap(), b"old a");
        let sum = folder.sha256("a").unwrap();
        fs::rename(&path, parent.path().join("aside")).unwrap();
        fs::create_dir(&path).unwrap();
        for name in ["a", "b", "c"] {
            fs::write(path.join(name), "new").unwrap();
        }
        assert_eq!(folder.sha256("a").unwrap(), sum);
        assert_eq!(&*folder.read("b", 9).unwrap(), b"old b");
        assert!(!folder.contains("c") && Folder::from(&path).contains("c"));
        let mut text = String::new();
        let (mut opened, length) = folder.open("a").unwrap();
        opened.seek(SeekFrom::End(-1)).unwrap();
        opened.read_to_string(&mut text).unwrap();
        assert_eq!((text.as_str(), length), ("a", 5));
    }

    #[test]
    fn the_limit_holds() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        fs::write(&path, "12345").unwrap();
        assert_eq!(read_limited(&path, 5).unwrap(), b"12345");
        let e = read_limited(&path, 4).unwrap_err().to_string();
        assert!(
            e.contains("at most 4 bytes") && e.contains("5 bytes"),
            "{e}"
        );
    }
}
