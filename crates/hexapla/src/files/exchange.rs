//! A folder, whole or not at all: the new one and the old one change places.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::Path;

use super::atomic::write_error;
use super::temporary::{
    COMPLETE, Claim, Names, PARTIAL, REPLACED, builder, folder_of, hidden_name, leftovers,
    remove_leftovers_locked, renamed, sync_folder,
};
use crate::error::{Error, Result};

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
        return Err(Error::conflict("cannot write the folder")
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
    let names = Names::lock(&parent);
    let temporary = builder(&hidden_name(path, PARTIAL), 0o777)
        .tempdir_in(&parent)
        .map_err(failed)?;
    let _claim = Claim::take(temporary.path());
    drop(names);
    write(temporary.path())?;
    sync_folder(temporary.path()).map_err(failed)?;
    // Two writers of one folder change it one after the other.
    let names = Names::lock(&parent);
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
    let rubbish = renamed(&old, path, PARTIAL);
    move_kept(&old, path, keep)
        .and_then(|()| fs::rename(&old, &rubbish))
        .and_then(|()| {
            // To remove it takes long, and its name says by now that anybody may.
            drop(names);
            match fs::remove_dir_all(&rubbish) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
                _ => Ok(()),
            }
        })
        .map_err(|e| {
            write_error(
                "the new folder is complete, but files of the old one could not be moved over",
                &old,
                &e,
            )
        })
}

/// Whether [`write_folder_atomically`] will be able to replace the folder `path`, which exists.
///
/// # Errors
/// It is a mount point or the folder in which the process runs, or its parent cannot be written to.
pub fn check_replaceable(path: &Path) -> Result<()> {
    let refused = |found: &str| {
        Error::conflict("the folder cannot be replaced by the finished one")
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
/// What another process is writing at the time stays.
///
/// # Errors
/// The old folder's entries cannot be moved.
pub fn recover_folder(path: &Path, keep: impl Fn(&Path, &OsStr) -> bool) -> Result<()> {
    let path = &fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    let parent = folder_of(path);
    let _names = Names::lock(&parent);
    remove_leftovers_locked(&parent, |of| Some(of) == path.file_name());
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::entries;

    use crate::files::write_atomically;

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
                Err(Error::input("stop"))
            },
        );
        assert_eq!(e.unwrap_err(), Error::input("stop"));
        assert_eq!(fs::read(path.join("weights")).unwrap(), b"2");
        assert_eq!(entries(folder.path()), ["model"]);
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
    fn many_writers_and_menders_of_one_folder_lose_nothing() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("m");
        std::thread::scope(|scope| {
            for writer in 0..4 {
                let path = &path;
                scope.spawn(move || {
                    for round in 0..25 {
                        let text = format!("{writer} {round}");
                        recover_folder(path, |_, _| true).unwrap();
                        write_folder_atomically(
                            path,
                            |name| name != "a" && name != "b",
                            |new| {
                                for name in ["a", "b"] {
                                    write_atomically(&new.join(name), |w| {
                                        w.write_all(text.as_bytes())
                                    })?;
                                }
                                Ok(())
                            },
                        )
                        .unwrap();
                    }
                });
            }
        });
        let read = |name: &str| fs::read_to_string(path.join(name)).unwrap();
        assert_eq!(read("a"), read("b"));
        assert_eq!(entries(parent.path()), ["m"]);
        assert_eq!(entries(&path), ["a", "b"]);
    }
}
