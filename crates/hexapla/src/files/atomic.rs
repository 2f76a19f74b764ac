//! A file, whole or not at all.

use std::fs::{self, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::Path;

use super::temporary::{Claim, Names, PARTIAL, builder, folder_of, hidden_name, sync_folder};
use crate::error::{Error, Result};

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
        let names = Names::lock(&folder);
        let temporary = builder(&hidden_name(path, PARTIAL), 0o666).tempfile_in(&folder)?;
        let _claim = Claim::take(temporary.path());
        drop(names);
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
    use crate::files::entries;

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
}
