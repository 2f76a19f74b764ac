//! Files that are written whole or not at all, read within a limit, and known by their checksum.
//!
//! A write goes to a temporary file beside its destination, is flushed and synced, and only then takes the
//! destination's name. Whatever stops it on the way (a full disk, a lost folder, the power), the old file stays whole.

use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Read, Seek, Write};
use std::path::{Path, PathBuf};

use hexapla_kernels::SharedBytes;
use rayon::prelude::*;
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

/// Files that belong together, to read: a folder of the file system, or one inside the program.
#[derive(Debug, Clone)]
pub enum Folder {
    /// On a disk.
    Disk(PathBuf),
    /// Names and contents.
    Embedded(&'static [(&'static str, &'static [u8])]),
}

/// An opened file.
pub trait Opened: Read + Seek {}
impl<F: Read + Seek> Opened for F {}

impl<P: AsRef<Path> + ?Sized> From<&P> for Folder {
    fn from(path: &P) -> Self {
        Folder::Disk(path.as_ref().to_path_buf())
    }
}

impl Folder {
    /// Whether there is such a folder.
    pub fn exists(&self) -> bool {
        match self {
            Folder::Disk(path) => path.is_dir(),
            Folder::Embedded(_) => true,
        }
    }

    /// Whether it holds a file called `name`.
    pub fn contains(&self, name: &str) -> bool {
        match self {
            Folder::Disk(path) => path.join(name).is_file(),
            Folder::Embedded(_) => self.embedded(name).is_some(),
        }
    }

    /// The folder, as errors name it.
    pub fn path(&self) -> PathBuf {
        match self {
            Folder::Disk(path) => path.clone(),
            Folder::Embedded(_) => PathBuf::from("(inside the program)"),
        }
    }

    /// The file `name`, as errors name it.
    pub fn place(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// The whole file `name`, of at most `max_bytes`.
    ///
    /// # Errors
    /// As [`read_limited`].
    pub fn read(&self, name: &str, max_bytes: u64) -> Result<Cow<'static, [u8]>> {
        match self {
            Folder::Disk(path) => read_limited(&path.join(name), max_bytes).map(Cow::Owned),
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
            Folder::Disk(path) => {
                let path = path.join(name);
                let opened = File::open(&path).and_then(|f| {
                    let length = f.metadata()?.len();
                    Ok((Box::new(f) as Box<dyn Opened>, length))
                });
                opened.map_err(|e| Error::io("cannot read the file", &path, &e))
            }
            Folder::Embedded(_) => {
                let bytes = self.embedded(name).ok_or_else(|| self.missing(name))?;
                Ok((Box::new(io::Cursor::new(bytes)), bytes.len() as u64))
            }
        }
    }

    /// The file `name` mapped into memory, or where it lies in the program. See [`SharedBytes::map`] for what is asked of a
    /// mapped file.
    ///
    /// # Errors
    /// A file that is missing or cannot be mapped.
    pub fn map(&self, name: &str) -> Result<SharedBytes> {
        match self {
            Folder::Disk(path) => {
                let path = path.join(name);
                let mapped = File::open(&path).and_then(|file| SharedBytes::map(&file));
                mapped.map_err(|e| Error::io("cannot map the file into memory", &path, &e))
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
        Error::new("cannot read the file")
            .at(self.place(name).display().to_string())
            .found("no such file")
    }
}

/// Writes `path` through `write`: whole, or not at all.
///
/// ```
/// # use std::io::Write;
/// let folder = tempfile::tempdir().unwrap();
/// let path = folder.path().join("note.txt");
/// hexapla::files::write_atomically(&path, |w| w.write_all(b"kept")).unwrap();
/// hexapla::files::write_atomically(&path, |_| Err(std::io::Error::other("no"))).unwrap_err();
/// assert_eq!(std::fs::read(&path).unwrap(), b"kept");
/// ```
///
/// # Errors
/// Names the file, the cause and a hint. The old file is untouched and the temporary one removed.
pub fn write_atomically(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<()> {
    let attempt = || -> io::Result<()> {
        // A symbolic link keeps naming its file.
        let path = &fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
        if fs::metadata(path).is_ok_and(|m| !m.is_file() && !m.is_dir()) {
            // A pipe, a terminal, /dev/null: there is nothing to keep, and its name is not ours to give away.
            let mut writer = BufWriter::new(OpenOptions::new().write(true).open(path)?);
            write(&mut writer)?;
            return writer.flush();
        }
        let folder = folder_of(path);
        let temporary = builder(&hidden_name(path, PARTIAL), 0o666).tempfile_in(&folder)?;
        let mut writer = BufWriter::with_capacity(1 << 20, temporary.as_file());
        write(&mut writer)?;
        writer.flush()?;
        drop(writer);
        temporary.as_file().sync_all()?;
        temporary.persist(path).map_err(|e| e.error)?;
        sync_folder(&folder)
    };
    attempt().map_err(|e| write_error("cannot write the file", path, &e))
}

/// Writes the folder `path` through `write`, which fills an empty folder beside it: whole, or not at all.
///
/// On Linux the new folder and the old one change places in one step. Entries of the old folder that the new one
/// lacks and for which `keep` is true move over; the rest of the old folder is removed.
///
/// # Errors
/// Names the folder, the cause and a hint. Until the exchange the old folder is untouched.
pub fn write_folder_atomically(
    path: &Path,
    keep: impl Fn(&OsStr) -> bool,
    write: impl FnOnce(&Path) -> Result<()>,
) -> Result<()> {
    let failed = |e: io::Error| write_error("cannot write the folder", path, &e);
    if path.exists() && !path.is_dir() {
        return Err(Error::new("cannot write the folder")
            .at(path.display().to_string())
            .expected("a folder, or nothing")
            .found("a file")
            .hint("name another folder"));
    }
    // Resolved first: `.` and symbolic links have no name that a rename could give away.
    let path = &match fs::canonicalize(path) {
        Ok(whole) => whole,
        Err(e) if e.kind() == io::ErrorKind::NotFound => path.to_path_buf(),
        Err(e) => return Err(failed(e)),
    };
    let parent = folder_of(path);
    fs::create_dir_all(&parent).map_err(failed)?;
    let temporary = builder(&hidden_name(path, PARTIAL), 0o777)
        .tempdir_in(&parent)
        .map_err(failed)?;
    write(temporary.path())?;
    sync_folder(temporary.path()).map_err(failed)?;
    if !path.exists() {
        fs::rename(temporary.path(), path).map_err(failed)?;
        let _ = temporary.keep(); // It bears its final name now.
        return sync_folder(&parent).map_err(failed);
    }
    // The name says that the folder is complete: from here on it is never rubbish, see `recover_folder`.
    let complete = renamed(temporary.path(), path, COMPLETE);
    fs::rename(temporary.path(), &complete).map_err(failed)?;
    let _ = temporary.keep();
    if let Err(e) = exchange(&complete, path, &renamed(&complete, path, REPLACED)) {
        if path.exists() {
            // Nothing was moved; what cannot be put in place need not stay.
            let _ = fs::remove_dir_all(&complete);
        }
        return Err(failed(e));
    }
    sync_folder(&parent).map_err(failed)?;
    let old = complete;
    move_kept(&old, path, keep)
        .and_then(|()| fs::remove_dir_all(&old))
        .map_err(|e| {
            write_error(
                "the new folder is complete, but files of the old one could not be moved over",
                &old,
                &e,
            )
        })
}

/// Whether [`write_folder_atomically`] will be able to put another folder in the place of `path`, which exists.
///
/// # Errors
/// It is a mount point or the folder in which the process runs, or its parent cannot be written to.
pub fn check_replaceable(path: &Path) -> Result<()> {
    let refused = |found: &str| {
        Error::new("the folder cannot be replaced by the finished one")
            .at(path.display().to_string())
            .expected("a folder that is put in its place in one step")
            .found(found)
            .hint("name a folder inside of it")
    };
    let failed = |e: io::Error| write_error("cannot write beside the folder", path, &e);
    let path = &fs::canonicalize(path).map_err(failed)?;
    if std::env::current_dir().is_ok_and(|here| here.starts_with(path)) {
        return Err(refused("the folder in which the command runs"));
    }
    let parent = folder_of(path);
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let device = |of: &Path| fs::metadata(of).map(|m| m.dev());
        if device(path).map_err(failed)? != device(&parent).map_err(failed)? {
            return Err(refused("a mount point"));
        }
    }
    // Tried, and gone again.
    builder(&hidden_name(path, PARTIAL), 0o777)
        .tempdir_in(&parent)
        .map(|_| ())
        .map_err(failed)
}

/// Puts right what a killed [`write_folder_atomically`] left of the folder `path`: entries of the old folder that had not
/// moved yet move over, as `keep` says for each (given where it lies and its name); unfinished folders are removed.
///
/// Nobody else may be writing the folder at that time.
///
/// # Errors
/// The old folder's entries cannot be moved.
pub fn recover_folder(path: &Path, keep: impl Fn(&Path, &OsStr) -> bool) -> Result<()> {
    let path = &fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    let parent = folder_of(path);
    remove_leftovers(&parent, |of| Some(of) == path.file_name());
    let attempt = || -> io::Result<()> {
        for left in [REPLACED, COMPLETE]
            .iter()
            .flat_map(|kind| leftovers(&parent, kind))
            .filter(|left| left.is_folder && Some(left.of.as_os_str()) == path.file_name())
        {
            if path.exists() {
                move_kept(&left.path, path, |name| keep(&left.path, name))?;
                fs::remove_dir_all(&left.path)?;
            } else {
                fs::rename(&left.path, path)?;
            }
        }
        Ok(())
    };
    attempt().map_err(|e| write_error("cannot mend the folder after a stop", path, &e))
}

/// Removes what killed writes ([`write_atomically`], [`write_folder_atomically`]) left in `folder` of those destinations
/// whose name `of` accepts. Nobody else may be writing them at that time.
///
/// What cannot be removed stays: it takes room, and does no other harm.
pub fn remove_leftovers(folder: &Path, of: impl Fn(&OsStr) -> bool) {
    for left in leftovers(folder, PARTIAL) {
        if of(&left.of) {
            // A symbolic link is removed itself, never followed.
            let _ = if left.is_folder {
                fs::remove_dir_all(&left.path)
            } else {
                fs::remove_file(&left.path)
            };
        }
    }
}

/// The SHA-256 of a file's content in hexadecimal digits.
///
/// # Errors
/// A file that cannot be read.
pub fn sha256_file(path: &Path) -> Result<String> {
    let attempt = || -> io::Result<String> {
        let mut file = File::open(path)?;
        let mut hash = Sha256::new();
        let mut buffer = vec![0; 1 << 20];
        loop {
            match file.read(&mut buffer)? {
                0 => return Ok(hexadecimal(&hash.finalize())),
                n => hash.update(buffer.get(..n).unwrap_or_default()),
            }
        }
    };
    attempt().map_err(|e| Error::io("cannot read the file", path, &e))
}

/// The SHA-256 of `bytes` in hexadecimal digits.
pub fn sha256_bytes(bytes: &[u8]) -> String {
    hexadecimal(&Sha256::digest(bytes))
}

/// The CRC-32 (that of gzip) of `bytes` in hexadecimal digits, computed on all threads: as fast as memory, and enough
/// against damage, though not against forgery.
pub fn crc32(bytes: &[u8]) -> String {
    const PIECE: usize = 1 << 20;
    let of = |piece: &[u8]| {
        let mut hash = crc32fast::Hasher::new();
        hash.update(piece);
        hash
    };
    let pieces: Vec<crc32fast::Hasher> = bytes.par_chunks(PIECE).map(of).collect();
    let mut whole = crc32fast::Hasher::new();
    for piece in &pieces {
        whole.combine(piece);
    }
    format!("{:08x}", whole.finalize())
}

/// Reads a whole file of at most `max_bytes`; a larger one is refused before any memory is asked for.
///
/// # Errors
/// A file that cannot be read, or is too large.
pub fn read_limited(path: &Path, max_bytes: u64) -> Result<Vec<u8>> {
    let failed = |e: io::Error| Error::io("cannot read the file", path, &e);
    let too_large = |found: String| {
        Error::new("the file is too large")
            .at(path.display().to_string())
            .expected(format!("at most {max_bytes} bytes"))
            .found(found)
            .hint("is this the file that you mean?")
    };
    let file = File::open(path).map_err(failed)?;
    let length = file.metadata().map_err(failed)?.len();
    if length > max_bytes {
        return Err(too_large(format!("{length} bytes")));
    }
    // A pipe or a growing file may say less than it holds.
    let mut bytes = Vec::new();
    file.take(max_bytes.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() as u64 > max_bytes {
        return Err(too_large("more".into()));
    }
    Ok(bytes)
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent.to_path_buf(),
        _ => PathBuf::from("."),
    }
}

/// In the name of what is being written.
const PARTIAL: &str = ".partial-";
/// In the name of a folder that is complete and about to change places with the one that it replaces, or has done so.
const COMPLETE: &str = ".complete-";
/// In the name of the old folder where two renames do the exchange, between the first and the third.
const REPLACED: &str = ".replaced-";
/// Characters that `tempfile` puts behind these.
const RANDOM: usize = 6;

/// `.name.partial-`
fn hidden_name(path: &Path, kind: &str) -> OsString {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or(OsStr::new("hexapla")));
    name.push(kind);
    name
}

/// The place of `temporary`, which was made for `path`, under its name of another kind.
fn renamed(temporary: &Path, path: &Path, kind: &str) -> PathBuf {
    let mut name = hidden_name(path, kind);
    let random = temporary.to_string_lossy();
    name.push(random.rsplit('-').next().unwrap_or_default());
    temporary.with_file_name(name)
}

/// An entry with a name that only this program gives.
struct Leftover {
    path: PathBuf,
    /// The name of what was to be written.
    of: OsString,
    is_folder: bool,
}

/// The entries of `folder` that are named as [`hidden_name`] and six random characters say.
fn leftovers(folder: &Path, kind: &str) -> Vec<Leftover> {
    let destination = |name: &OsStr| -> Option<OsString> {
        // Names that are no Unicode are not cut: they are left alone.
        let (of, random) = name.to_str()?.strip_prefix('.')?.rsplit_once(kind)?;
        let ours = random.len() == RANDOM && random.bytes().all(|b| b.is_ascii_alphanumeric());
        (ours && !of.is_empty()).then(|| of.into())
    };
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| {
            Some(Leftover {
                of: destination(&entry.file_name())?,
                path: entry.path(),
                is_folder: entry.file_type().is_ok_and(|t| t.is_dir()),
            })
        })
        .collect()
}

/// Temporary entries with the permissions of ordinary new ones (less the umask) rather than the owner's alone.
fn builder(prefix: &OsStr, mode: u32) -> tempfile::Builder<'_, 'static> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(prefix);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(fs::Permissions::from_mode(mode));
    }
    #[cfg(not(unix))]
    let _ = mode;
    builder
}

/// Makes the names in a folder durable. Where folders cannot be opened (Windows) there is nothing to do.
fn sync_folder(folder: &Path) -> io::Result<()> {
    #[cfg(unix)]
    return File::open(folder)?.sync_all();
    #[cfg(not(unix))]
    {
        let _ = folder;
        Ok(())
    }
}

/// Swaps two folders, in one step where the system and the file system can; else `old` is `aside` for a moment.
fn exchange(new: &Path, old: &Path, aside: &Path) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        if renameat_with(CWD, new, CWD, old, RenameFlags::EXCHANGE).is_ok() {
            return Ok(());
        }
    }
    fs::rename(old, aside)?;
    if let Err(e) = fs::rename(new, old) {
        fs::rename(aside, old)?;
        return Err(e);
    }
    fs::rename(aside, new)
}

fn move_kept(from: &Path, to: &Path, keep: impl Fn(&OsStr) -> bool) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let name = entry?.file_name();
        if keep(&name) && !to.join(&name).exists() {
            fs::rename(from.join(&name), to.join(&name))?;
        }
    }
    sync_folder(to)
}

/// An error of writing, with what to do about it.
pub(crate) fn write_error(what: &str, path: &Path, error: &io::Error) -> Error {
    let hint = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "free some space on this disk and try again; what was there before is untouched"
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            "choose a folder that you may write to"
        }
        io::ErrorKind::NotFound => "create the folder first",
        io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => {
            "a part of this path is a file; choose another path"
        }
        io::ErrorKind::IsADirectory => "a folder has this name; choose another one",
        _ => "what was there before is untouched",
    };
    Error::io(what, path, error).hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(folder: &Path) -> Vec<OsString> {
        let mut names: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_failed_write_leaves_the_old_file_and_no_temporary() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        write_atomically(&path, |w| w.write_all(b"old")).unwrap();
        let full = |w: &mut dyn Write| {
            w.write_all(&[0; 3 << 20])?;
            Err(io::Error::from(io::ErrorKind::StorageFull))
        };
        let e = write_atomically(&path, full).unwrap_err().to_string();
        assert!(
            e.contains("free some space") && e.contains(path.to_str().unwrap()),
            "{e}"
        );
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(entries(folder.path()), ["a"]);
    }

    #[cfg(unix)]
    #[test]
    fn links_and_devices_stay_what_they_are() {
        use std::os::unix::fs::{FileTypeExt, symlink};
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        write_atomically(&at("file"), |w| w.write_all(b"old")).unwrap();
        symlink("file", at("link")).unwrap();
        write_atomically(&at("link"), |w| w.write_all(b"new")).unwrap();
        assert_eq!(fs::read(at("file")).unwrap(), b"new");
        assert!(at("link").is_symlink());
        symlink("/dev/null", at("nothing")).unwrap();
        write_atomically(&at("nothing"), |w| w.write_all(b"gone")).unwrap();
        assert!(
            fs::metadata("/dev/null")
                .unwrap()
                .file_type()
                .is_char_device()
        );
        assert_eq!(entries(folder.path()), ["file", "link", "nothing"]);
    }

    #[test]
    fn a_missing_folder_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let e = write_atomically(&folder.path().join("none/a"), |_| Ok(()))
            .unwrap_err()
            .to_string();
        assert!(
            e.contains("none/a") && e.contains("create the folder"),
            "{e}"
        );
    }

    #[cfg(unix)]
    #[test]
    fn new_files_are_readable_as_the_umask_says() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let (ours, plain) = (folder.path().join("a"), folder.path().join("b"));
        write_atomically(&ours, |w| w.write_all(b"1")).unwrap();
        fs::write(&plain, b"1").unwrap();
        let mode = |p: &Path| fs::metadata(p).unwrap().permissions().mode();
        assert_eq!(mode(&ours), mode(&plain));
    }

    #[test]
    fn a_folder_is_replaced_whole_and_strangers_move_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model");
        let put = |name: &'static str, text: &'static str| {
            move |f: &Path| write_atomically(&f.join(name), |w| w.write_all(text.as_bytes()))
        };
        write_folder_atomically(&path, |_| true, put("weights", "1")).unwrap();
        fs::write(path.join("notes"), "mine").unwrap();
        fs::write(path.join("stale"), "x").unwrap();
        write_folder_atomically(&path, |name| name != "stale", put("weights", "2")).unwrap();
        assert_eq!(entries(&path), ["notes", "weights"]);
        assert_eq!(fs::read(path.join("weights")).unwrap(), b"2");

        let e = write_folder_atomically(
            &path,
            |_| true,
            |f| {
                put("weights", "3")(f)?;
                Err(Error::new("stop"))
            },
        );
        assert_eq!(e.unwrap_err(), Error::new("stop"));
        assert_eq!(fs::read(path.join("weights")).unwrap(), b"2");
        assert_eq!(entries(folder.path()), ["model"]);
    }

    #[test]
    fn leftovers_are_removed_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let strangers = [
            ".a.partial-12 456",
            ".a.partial-12345",
            ".a.partial-1234567",
            ".a.swp",
            ".b.partial-abc123",
            ".partial-abc123",
            "a",
            "a.partial-abc123",
        ];
        for name in strangers {
            fs::write(folder.path().join(name), "").unwrap();
        }
        fs::write(folder.path().join(".a.partial-aB3xYz"), "").unwrap();
        fs::create_dir(folder.path().join(".a.partial-000000")).unwrap();
        fs::write(folder.path().join(".a.partial-000000/file"), "").unwrap();
        remove_leftovers(folder.path(), |of| of == "a");
        assert_eq!(entries(folder.path()), strangers);
    }

    #[test]
    fn a_folder_whose_exchange_was_cut_short_is_put_right() {
        // Where the kill falls: before the exchange, after it, and twice within the one of two renames.
        for (folders, wanted) in [
            (vec![("m", "old"), (".m.complete-abcdef", "new")], "old"),
            (vec![("m", "new"), (".m.complete-abcdef", "old")], "new"),
            (
                vec![(".m.complete-abcdef", "new"), (".m.replaced-abcdef", "old")],
                "old",
            ),
            (vec![("m", "new"), (".m.replaced-abcdef", "old")], "new"),
        ] {
            let parent = tempfile::tempdir().unwrap();
            let path = parent.path().join("m");
            for (name, age) in &folders {
                let folder = parent.path().join(name);
                fs::create_dir(&folder).unwrap();
                fs::write(folder.join("weights"), age).unwrap();
                if *age == "old" {
                    fs::create_dir(folder.join("training")).unwrap();
                    fs::write(folder.join("training/state"), "state").unwrap();
                }
            }
            fs::create_dir(parent.path().join(".m.partial-abcdef")).unwrap();
            recover_folder(&path, |_, name| name != "weights").unwrap();
            assert_eq!(entries(parent.path()), ["m"], "{folders:?}");
            assert_eq!(fs::read(path.join("training/state")).unwrap(), b"state");
            assert_eq!(fs::read(path.join("weights")).unwrap(), wanted.as_bytes());
        }
    }

    #[test]
    fn a_file_in_the_place_of_a_folder_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model");
        fs::write(&path, "text").unwrap();
        let e = write_folder_atomically(&path, |_| true, |_| Ok(()))
            .unwrap_err()
            .to_string();
        assert!(e.contains("found: a file"), "{e}");
        assert_eq!(fs::read(&path).unwrap(), b"text");
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

    #[test]
    fn checksums_are_the_standards() {
        // FIPS 180-2, appendix B.1.
        // The check value of CRC-32/ISO-HDLC.
        assert_eq!(crc32(b"123456789"), "cbf43926");
        let long: Vec<u8> = (0..3_000_000u32)
            .map(|i| (i.wrapping_mul(i) >> 3) as u8)
            .collect();
        assert_eq!(
            crc32(&long),
            format!("{:08x}", crc32fast::hash(&long)),
            "pieces make the whole"
        );
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(sha256_bytes(b"abc"), abc);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("abc");
        fs::write(&path, "abc").unwrap();
        assert_eq!(sha256_file(&path).unwrap(), abc);
    }
}
