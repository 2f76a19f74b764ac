//! Files that are written whole or not at all, read within a limit, and known by their checksum.
//!
//! A write goes to a temporary file beside its destination, is flushed and synced, and only then takes the
//! destination's name. Whatever stops it on the way (a full disk, a lost folder, the power), the old file stays whole.
//! Folders are read through one handle for each of their files, so that what is checked is what is read.

mod atomic;
mod checksum;
mod exchange;
mod folder;
mod input;
mod mapping;
mod marian;
mod npy;
mod temporary;
mod yaml;

pub use atomic::write_atomically;
pub(crate) use atomic::write_error;
pub use checksum::{crc32, sha256_bytes, sha256_file};
pub use exchange::{check_replaceable, recover_folder, write_folder_atomically};
pub use folder::{Folder, Opened, read_limited};
pub use input::{Fingerprint, Input, open_fingerprinted, open_input};
pub use mapping::{CharacterTokenizer, LinearLayout, MappingFile};
pub use marian::MarianFiles;
pub use npy::write_npy;
pub(crate) use npy::{NpyHeader, read_npy_header};
pub use temporary::remove_leftovers;
pub(crate) use yaml::read_yaml;

/// The names in a folder.
#[cfg(test)]
fn entries(folder: &std::path::Path) -> Vec<std::ffi::OsString> {
    let mut names: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    names.sort();
    names
}
