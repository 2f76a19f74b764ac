//! `manifest.json`: where a model comes from, and a checksum for each of its files.
//!
//! transformers ignores it. Where it is present, every file that it lists is checked before anything is read from it. That is
//! by SHA-256, but for weights that are mapped into memory and used there: to read them through SHA-256 would take longer
//! than all else from the start to the first word, so these have a CRC-32 too, which is as fast as memory. Both find damage;
//! against forgery neither helps, for who can change the weights can change the manifest.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use hexapla_kernels::SharedBytes;
use serde::{Deserialize, Serialize};

use super::generation::GENERATION_FILE;
use super::safetensors::{INDEX_FILE, WEIGHTS_FILE, is_inner_name};
use crate::config::{AlignmentReading, LanguagePair};
use crate::error::{Error, Result};
use crate::files::{Folder, crc32, sha256_file, write_atomically};

/// The file's name.
pub const MANIFEST_FILE: &str = "manifest.json";
/// The newest layout of the file that this program knows.
pub const FORMAT_VERSION: u32 = 1;
const MAX_BYTES: u64 = 16 << 20;
/// What a model's tokenizers are read from.
const TOKENIZER_FILES: [&str; 3] = [
    "tokenizer.json",
    "source_tokenizer.json",
    "target_tokenizer.json",
];
const HINT: &str =
    "copy the folder again; if you changed the file on purpose, delete manifest.json";

/// One measured quality of a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ManifestMetric {
    /// For example `BLEU`.
    pub name: String,
    /// Its value.
    pub value: f64,
    /// How it was computed, and on what.
    pub signature: String,
}

/// What a maker tells about a model.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ManifestFields {
    /// The seed of its training.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// SHA-256 of each file that it was trained on, by name.
    #[serde(default)]
    pub data: BTreeMap<String, String>,
    /// Its measured quality.
    #[serde(default)]
    pub metrics: Vec<ManifestMetric>,
    /// Source and target language of each direction that it was trained on; nothing where that is not known.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub directions: BTreeSet<LanguagePair>,
    /// Where alignments are read, if that was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alignment: Option<AlignmentReading>,
    /// Anything else: the command, the number of steps, the licence.
    #[serde(default)]
    pub notes: BTreeMap<String, String>,
}

/// The content of `manifest.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Layout of this file.
    pub format_version: u32,
    /// Program and version that wrote the folder.
    pub created_by: String,
    /// What the maker tells.
    #[serde(flatten)]
    pub fields: ManifestFields,
    /// SHA-256 of each file of the folder, by name.
    pub files: BTreeMap<String, String>,
    /// CRC-32 of files that are mapped into memory, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub crc32: BTreeMap<String, String>,
}

impl Manifest {
    /// A manifest of this program for the files of `folder`, this file itself left out.
    pub(crate) fn of_folder(folder: &Path, fields: ManifestFields) -> Result<Self> {
        let mut files = BTreeMap::new();
        add_files(folder, "", &mut files)?;
        files.remove(MANIFEST_FILE);
        Ok(Manifest {
            format_version: FORMAT_VERSION,
            created_by: format!("hexapla {}", env!("CARGO_PKG_VERSION")),
            fields,
            files,
            crc32: BTreeMap::new(),
        })
    }

    /// Whether it lists `name`, or a file in the folder `name`.
    pub(crate) fn holds(&self, name: &str) -> bool {
        let inside = |file: &String| file.split('/').next() == Some(name);
        self.files.keys().any(inside)
    }

    /// Adds the CRC-32 of the file `name` of `folder`.
    pub(crate) fn add_crc32(&mut self, folder: &Path, name: &str) -> Result<()> {
        let bytes = Folder::from(folder).map(name)?;
        self.crc32.insert(name.to_string(), crc32(&bytes));
        Ok(())
    }

    /// Whether opening the folder compares the CRC-32 of the file `name` alone.
    fn has_crc32(&self, name: &str) -> bool {
        name == WEIGHTS_FILE && self.crc32.contains_key(name)
    }

    /// The weights mapped into memory and compared with their CRC-32, if they have one.
    ///
    /// # Errors
    /// They cannot be mapped, or differ.
    pub(crate) fn map_weights(&self, folder: &Folder) -> Result<Option<SharedBytes>> {
        let Some(expected) = self.crc32.get(WEIGHTS_FILE) else {
            return Ok(None);
        };
        let bytes = folder.map(WEIGHTS_FILE)?;
        let found = crc32(&bytes);
        if !found.eq_ignore_ascii_case(expected) {
            return Err(Error::model("a file of the model is not what was written")
                .at(folder.path_of(WEIGHTS_FILE).display().to_string())
                .expected(format!("CRC-32:{expected}"))
                .found(format!("CRC-32:{found}"))
                .hint(HINT));
        }
        Ok(Some(bytes))
    }

    /// Reads the manifest of a folder; nothing where there is none.
    ///
    /// # Errors
    /// A file that cannot be read or was written by a newer program.
    pub fn read(folder: &Folder) -> Result<Option<Self>> {
        if !folder.contains(MANIFEST_FILE) {
            return Ok(None);
        }
        let damaged = |found: String| {
            Error::model("the manifest cannot be used")
                .at(folder.path_of(MANIFEST_FILE).display().to_string())
                .expected("the manifest that hexapla wrote")
                .found(found)
                .hint(HINT)
        };
        let manifest: Manifest = serde_json::from_slice(&folder.read(MANIFEST_FILE, MAX_BYTES)?)
            .map_err(|e| damaged(e.to_string()))?;
        if manifest.format_version != FORMAT_VERSION {
            return Err(
                damaged(format!("format_version {}", manifest.format_version))
                    .expected(format!("format_version {FORMAT_VERSION}"))
                    .hint("a newer hexapla wrote this folder"),
            );
        }
        Ok(Some(manifest))
    }

    /// Writes it to its place in `folder`, whole or not at all.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, folder: &Path) -> Result<()> {
        write_atomically(&folder.join(MANIFEST_FILE), |writer| {
            serde_json::to_writer_pretty(&mut *writer, self)?;
            writer.write_all(b"\n")
        })
    }

    /// Compares every SHA-256 with the folder.
    ///
    /// # Errors
    /// Names the first file that is missing, differs, or is used without being listed.
    pub fn verify(&self, folder: &Folder) -> Result<()> {
        self.verify_files(folder, |_| true)
    }

    /// As [`Manifest::verify`], but for the weights that [`Manifest::map_weights`] checks.
    pub(crate) fn verify_quickly(&self, folder: &Folder) -> Result<()> {
        self.verify_files(folder, |name| !self.has_crc32(name))
    }

    fn verify_files(&self, folder: &Folder, wanted: impl Fn(&str) -> bool) -> Result<()> {
        let location = |name: &str| folder.path_of(name).display().to_string();
        for (name, expected) in &self.files {
            if !is_inner_name(name) {
                return Err(
                    Error::model("the manifest names a file outside of its folder")
                        .at(location(MANIFEST_FILE))
                        .expected("names of files beside it")
                        .found(name)
                        .hint(HINT),
                );
            }
            if !folder.contains(name) {
                return Err(Error::model("a file of the model is missing")
                    .at(location(name))
                    .expected("a file, as manifest.json says")
                    .found("none")
                    .hint(HINT));
            }
            if !wanted(name) {
                continue;
            }
            let found = folder.sha256(name)?;
            if !found.eq_ignore_ascii_case(expected) {
                return Err(Error::model("a file of the model is not what was written")
                    .at(location(name))
                    .expected(format!("SHA-256 {expected}"))
                    .found(found)
                    .hint(HINT));
            }
        }
        // A tokenizer may be put beside a model that came without one.
        let tokenizers = match TOKENIZER_FILES.iter().any(|f| self.files.contains_key(*f)) {
            true => &TOKENIZER_FILES[..],
            false => &[],
        };
        let model = ["config.json", GENERATION_FILE, WEIGHTS_FILE, INDEX_FILE];
        for name in model.iter().chain(tokenizers).copied() {
            if folder.contains(name) && !self.files.contains_key(name) {
                return Err(Error::model("a file of the model has no checksum")
                    .at(location(name))
                    .expected("a line for it in manifest.json")
                    .found("none")
                    .hint(HINT));
            }
        }
        Ok(())
    }
}

/// The SHA-256 of each file of `folder`, whose name begins with `prefix`, and of the folders inside it.
fn add_files(folder: &Path, prefix: &str, files: &mut BTreeMap<String, String>) -> Result<()> {
    let failed = |e: std::io::Error| Error::io("cannot read the folder", folder, &e);
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        match entry.file_type().map_err(failed)?.is_dir() && prefix.is_empty() {
            true => add_files(&entry.path(), &format!("{name}/"), files)?,
            false => {
                files.insert(name, sha256_file(&entry.path())?);
            }
        }
    }
    Ok(())
}
