//! The names of what is being written, who is writing it, and what a kill left of it.
//!
//! A temporary file or folder is locked by its writer for as long as it has that name. What nobody holds is of a writer that
//! was killed, and may go.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// In the name of what is being written.
pub(super) const PARTIAL: &str = ".partial-";
/// In the name of a folder that is complete and about to change places with the one that it replaces, or has done so.
pub(super) const COMPLETE: &str = ".complete-";
/// In the name of the old folder where two renames do the exchange, between the first and the third.
pub(super) const REPLACED: &str = ".replaced-";
/// Characters that `tempfile` puts behind these.
const RANDOM: usize = 6;

/// `.name.partial-`
pub(super) fn hidden_name(path: &Path, kind: &str) -> OsString {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or(OsStr::new("hexapla")));
    name.push(kind);
    name
}

/// The path of `temporary`, which was made for `path`, under its name of another kind.
pub(super) fn renamed(temporary: &Path, path: &Path, kind: &str) -> PathBuf {
    let mut name = hidden_name(path, kind);
    let random = temporary.to_string_lossy();
    name.push(random.rsplit('-').next().unwrap_or_default());
    temporary.with_file_name(name)
}

/// An entry with a name that only this program gives.
pub(super) struct Leftover {
    pub(super) path: PathBuf,
    /// The name of what was to be written.
    pub(super) of: OsString,
    pub(super) is_folder: bool,
}

/// What a name of this kind stands for, if it is one that this program gives.
fn destination(name: &OsStr, kind: &str) -> Option<OsString> {
    // Names that are no Unicode are not cut: they are left alone.
    let (of, random) = name.to_str()?.strip_prefix('.')?.rsplit_once(kind)?;
    let ours = random.len() == RANDOM && random.bytes().all(|b| b.is_ascii_alphanumeric());
    (ours && !of.is_empty()).then(|| of.into())
}

/// The entries of `folder` that are named as [`hidden_name`] and six random characters say.
pub(super) fn leftovers(folder: &Path, kind: &str) -> Vec<Leftover> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| {
            Some(Leftover {
                of: destination(&entry.file_name(), kind)?,
                path: entry.path(),
                is_folder: entry.file_type().is_ok_and(|t| t.is_dir()),
            })
        })
        .collect()
}

/// Temporary entries with the permissions of ordinary new ones (less the umask) rather than the owner's alone.
pub(super) fn builder(prefix: &OsStr, mode: u32) -> tempfile::Builder<'_, 'static> {
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

/// How long another writer's lock on a folder is waited for; it is held while names change, never while data is written.
const PATIENCE: Duration = Duration::from_secs(30);

/// A lock on the names in a folder: held while a temporary is made and claimed, while leftovers are looked through, and while
/// folders change places. Where a folder cannot be locked (a file system without locks, Windows) there is none.
#[derive(Debug)]
pub(super) struct Names {
    _folder: Option<File>,
}

impl Names {
    pub(super) fn lock(folder: &Path) -> Self {
        // A folder that is being written has one writer, which has claimed it.
        let temporary = folder
            .file_name()
            .is_some_and(|name| destination(name, PARTIAL).is_some());
        let opened = File::open(folder).ok().filter(|_| !temporary);
        let start = Instant::now();
        let held = opened.filter(|folder| {
            loop {
                match folder.try_lock() {
                    Ok(()) => return true,
                    Err(TryLockError::WouldBlock) if start.elapsed() < PATIENCE => {
                        std::thread::sleep(Duration::from_millis(2));
                    }
                    Err(_) => return false,
                }
            }
        });
        Names { _folder: held }
    }
}

/// A temporary that this process writes: nobody takes it for a leftover.
#[derive(Debug)]
pub(super) struct Claim {
    _held: Option<File>,
}

impl Claim {
    /// Claims a file or folder that was just made, before [`Names`] are let go.
    pub(super) fn take(path: &Path) -> Self {
        let held = File::open(path).ok();
        Claim {
            _held: held.filter(|file| file.try_lock().is_ok()),
        }
    }

    /// Whether another writer has claimed `path`.
    fn is_taken(path: &Path) -> bool {
        match File::open(path) {
            // Where nothing can be locked, nobody can tell: it stays.
            Ok(file) => file.try_lock().is_err(),
            Err(e) => e.kind() != io::ErrorKind::NotFound,
        }
    }
}

/// Removes what killed writes ([`write_atomically`](super::write_atomically), [`write_folder_atomically`](super::write_folder_atomically)) left in `folder` of those destinations
/// whose name `of` accepts; what is being written at the time stays.
///
/// What cannot be removed stays: it takes room, and does no other harm.
pub fn remove_leftovers(folder: &Path, of: impl Fn(&OsStr) -> bool) {
    let _names = Names::lock(folder);
    remove_leftovers_locked(folder, of);
}

/// As [`remove_leftovers`], for who holds the folder's [`Names`].
pub(super) fn remove_leftovers_locked(folder: &Path, of: impl Fn(&OsStr) -> bool) {
    for left in leftovers(folder, PARTIAL) {
        // A symbolic link is nobody's: it is not followed.
        if of(&left.of) && (left.path.is_symlink() || !Claim::is_taken(&left.path)) {
            // A symbolic link is removed itself, never followed.
            let _ = if left.is_folder {
                fs::remove_dir_all(&left.path)
            } else {
                fs::remove_file(&left.path)
            };
        }
    }
}

pub(super) fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent.to_path_buf(),
        _ => PathBuf::from("."),
    }
}

/// Makes the names in a folder durable. Where folders cannot be opened (Windows) there is nothing to do.
pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    #[cfg(unix)]
    return File::open(folder)?.sync_all();
    #[cfg(not(unix))]
    {
        let _ = folder;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::entries;

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
    fn what_is_being_written_is_no_leftover() {
        let folder = tempfile::tempdir().unwrap();
        let (file, dir) = (
            folder.path().join(".a.partial-000000"),
            folder.path().join(".a.partial-111111"),
        );
        fs::write(&file, "").unwrap();
        fs::create_dir(&dir).unwrap();
        let claims = [Claim::take(&file), Claim::take(&dir)];
        remove_leftovers(folder.path(), |_| true);
        assert_eq!(entries(folder.path()).len(), 2);
        drop(claims);
        remove_leftovers(folder.path(), |_| true);
        assert_eq!(entries(folder.path()).len(), 0);
    }
}
