//! Keeps a second training out of a folder.

use std::fs::{File, TryLockError};
use std::path::Path;

use crate::error::{Error, Result};
use crate::files::write_error;

/// The file that is locked.
pub(super) const FILE: &str = "lock";

/// Held for as long as this lives. The system lets go of it when the process ends, however that happens.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    pub(super) fn take(folder: &Path) -> Result<Self> {
        let path = folder.join(FILE);
        let file = File::create(&path)
            .map_err(|e| write_error("cannot make the training's lock", &path, &e))?;
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => {
                Err(Error::conflict("another process trains in this folder")
                    .at(folder.display().to_string())
                    .hint("wait for its end, or name another folder with --output"))
            }
            // A file system without locks: nothing to hold.
            Ok(()) | Err(TryLockError::Error(_)) => Ok(Lock { _file: file }),
        }
    }
}
