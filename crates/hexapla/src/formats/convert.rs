//! One model folder from another: the same model, its numbers stored in another way.

use std::collections::BTreeMap;
use std::path::Path;

use super::family::Family;
use super::manifest::{MANIFEST_FILE, Manifest, ManifestFields};
use super::open::ModelFolder;
use super::safetensors::{WEIGHTS_FILE, is_inner_name};
use super::save::{
    COMPANIONS, RESERVED, SaveModel, Saved, refuse_model, replace, strangers_to_another,
    write_files_of, write_json, write_settings,
};
use super::sentence;
use super::stored::{self, Storage};
use crate::config::ComputeType;
use crate::error::{Error, Result};
use crate::files::{Folder, MappingFile, MarianFiles, check_replaceable, write_folder_atomically};

const MAX_FILE_BYTES: u64 = 512 << 20;

/// What to convert, and to what.
#[derive(Debug, Clone)]
pub struct ConvertModel<'a> {
    /// The model.
    pub model: &'a ModelFolder,
    /// The folder of sentence-transformers in which the model has a folder of its own, if so. What is written has it at the top.
    pub around: Option<&'a Folder>,
    /// `Int8`, `Int4` or `Float32`.
    pub compute_type: ComputeType,
    /// Whether a model that lies in the folder to write may be lost.
    pub replace: bool,
}

/// Writes the model to the folder `to`, whole or not at all, with its weights stored in another number type: int8 or int4 in the
/// layout that is used in place, or f32. Tokenizers, generation settings and what the manifest tells go with it.
///
/// # Errors
/// A number type that is not stored; a folder that would be written over itself or cannot be replaced; a weight that is not
/// finite; files that cannot be read or written.
pub fn convert(job: &ConvertModel<'_>, to: &Path) -> Result<Saved> {
    let model = job.model;
    let from = model.folder();
    if let (Folder::Disk(from), Ok(whole)) = (from, to.canonicalize())
        && from.path().canonicalize().is_ok_and(|from| from == whole)
    {
        return Err(
            Error::conflict("a model cannot be converted into its own folder")
                .at(to.display().to_string())
                .expected("another folder")
                .found("the folder that the model is read from")
                .hint("what is rounded cannot be turned back, so the model that it is made from stays"),
        );
    }
    super::save::recover(to)?;
    if !job.replace {
        refuse_model(to)?;
    }
    if to.is_dir() {
        check_replaceable(to)?;
    }
    let mut files = companions(model.manifest.as_ref(), from)?;
    files.extend(model.files.clone());
    if let Some(around) = job.around {
        for name in COMPANIONS.into_iter().filter(|name| around.contains(name)) {
            if !files.contains_key(name) {
                let bytes = around.read(name, MAX_FILE_BYTES)?.into_owned();
                files.insert(name.to_string(), bytes);
            }
        }
        files.extend(sentence::files_around(around)?);
    }
    let manifest = manifest_fields(job);
    match job.compute_type {
        ComputeType::Float32 => {
            let weights = &model.weights()?;
            for parameter in weights.index.iter() {
                stored::refuse_infinite(&parameter.name, &weights.data[parameter.range.clone()])?;
            }
            replace(
                to,
                &SaveModel {
                    assembly: &model.assembly,
                    family: Some(model.family),
                    weights,
                    generation: &model.generation,
                    files,
                    manifest,
                },
            )
        }
        ComputeType::Int8 | ComputeType::Int4 => {
            let (family, note) = Family::for_assembly(&model.assembly, Some(model.family))?;
            write_folder_atomically(to, strangers_to_another(to), |new| {
                write_integers(new, family, model, job.compute_type)?;
                write_files_of(new, &files)?;
                let mut manifest = Manifest::of_folder(new, manifest)?;
                manifest.add_crc32(new, WEIGHTS_FILE)?;
                write_json(&new.join(MANIFEST_FILE), &manifest)
            })?;
            Ok(Saved { family, note })
        }
        other => Err(
            Error::settings("weights are not stored in this number type")
                .at("compute type")
                .expected("int8, int4 or float32")
                .found(format!("{other:?}").to_lowercase())
                .hint("`translate --compute-type bf16` rounds while it opens a model"),
        ),
    }
}

fn write_integers(
    folder: &Path,
    family: Family,
    model: &ModelFolder,
    compute_type: ComputeType,
) -> Result<()> {
    let setting = Storage::of(compute_type).and_then(Storage::setting);
    let setting = setting.map(|setting| (stored::KEY, setting));
    write_settings(folder, family, &model.assembly, &model.generation, setting)?;
    let packed = model.pack(compute_type)?;
    stored::write(folder, (family, &model.assembly), &packed)
}

/// The files that go with the model.
fn companions(manifest: Option<&Manifest>, from: &Folder) -> Result<BTreeMap<String, Vec<u8>>> {
    let listed = manifest.iter().flat_map(|m| m.files.keys());
    let modules = sentence::module_files(from)?;
    let marian = MarianFiles::find(from)?;
    let characters = MappingFile::find(from)?.and_then(|file| file.tokenizer);
    let characters = characters.map(|table| table.characters);
    let names = listed.map(String::as_str).chain(COMPANIONS);
    let names = names.chain(marian.iter().flat_map(MarianFiles::tokenizer_files));
    let names = names.chain(characters.as_deref());
    let names = names.chain(modules.iter().map(String::as_str));
    names
        .filter(|name| is_inner_name(name) && !RESERVED.contains(name) && from.contains(name))
        .map(|name| {
            Ok((
                name.to_string(),
                from.read(name, MAX_FILE_BYTES)?.into_owned(),
            ))
        })
        .collect()
}

fn manifest_fields(job: &ConvertModel<'_>) -> ManifestFields {
    let manifest = job.model.manifest.as_ref();
    let mut fields = manifest.map(|m| m.fields.clone()).unwrap_or_default();
    let (now, before) = (job.compute_type, job.model.storage.name());
    let mut note = format!("{now}, converted from {before}");
    // Whole by itself: which weights these were made of.
    if let Some(sum) = manifest.and_then(|m| m.files.get(WEIGHTS_FILE)) {
        note.push_str(&format!(" of SHA-256 {sum}"));
    }
    fields.notes.insert("weights".into(), note);
    fields
}
