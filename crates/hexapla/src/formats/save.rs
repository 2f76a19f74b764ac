//! Writing a model folder, whole or not at all, and what of an older one stays beside it.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::Path;

use serde_json::Value;

use super::family::Family;
use super::generation::{self, GENERATION_FILE, GenerationDefaults};
use super::manifest::{MANIFEST_FILE, Manifest, ManifestFields};
use super::names::TensorNames;
use super::safetensors::{INDEX_FILE, NamedTensor, WEIGHTS_FILE, is_inner_name, write_tensors};
use crate::config::Assembly;
use crate::error::{Error, Result};
use crate::files::{recover_folder, write_atomically, write_folder_atomically};
use crate::weights::{Parameter, Weights};

/// The settings of a model folder.
pub(super) const CONFIG_FILE: &str = "config.json";
/// Names that only the model itself may have in its folder.
pub(super) const RESERVED: [&str; 5] = [
    CONFIG_FILE,
    GENERATION_FILE,
    WEIGHTS_FILE,
    INDEX_FILE,
    MANIFEST_FILE,
];
/// Files beside the model that belong to it, whoever wrote it.
pub(super) const COMPANIONS: [&str; 20] = [
    "chat_template.jinja",
    "config_sentence_transformers.json",
    "decoder.yml",
    "mapping.toml",
    "merges.txt",
    "modules.json",
    "sentence_bert_config.json",
    "sentencepiece.bpe.model",
    "spiece.model",
    "source.spm",
    "source_tokenizer.json",
    "special_tokens_map.json",
    "target.spm",
    "target_tokenizer.json",
    "target_vocab.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "vocab.json",
    "vocab.txt",
];

/// What tells people of a model.
const CARD: &str = "README.md";
/// Weights that other programs write.
const FOREIGN_WEIGHTS: [&str; 3] = [
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "model.npz",
];

/// A model to write.
#[derive(Debug, Clone)]
pub struct SaveModel<'a> {
    /// The model's parts and their settings.
    pub assembly: &'a Assembly,
    /// Whose conventions to follow where several families can say the same.
    pub family: Option<Family>,
    /// Its parameters.
    pub weights: &'a Weights,
    /// How it generates by default.
    pub generation: &'a GenerationDefaults,
    /// Further files by name, such as `tokenizer.json`.
    pub files: BTreeMap<String, Vec<u8>>,
    /// Where it comes from.
    pub manifest: ManifestFields,
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Saved {
    /// Whose conventions the folder follows.
    pub family: Family,
    /// Why it is one that transformers cannot open, if so.
    pub note: Option<String>,
}

/// Writes a model folder, whole or not at all. Files of an older folder of that name which did not belong to its model
/// stay.
///
/// # Errors
/// A configuration that does not fit together, a name of a further file that is not free, or a folder that cannot be
/// written.
pub fn save(folder: &Path, model: &SaveModel<'_>) -> Result<Saved> {
    save_beside(folder, model, strangers(folder))
}

/// As [`save`], but replaces a model of other origin; its card is removed too, since it describes that model.
///
/// # Errors
/// As [`save`].
pub fn replace(folder: &Path, model: &SaveModel<'_>) -> Result<Saved> {
    save_beside(folder, model, strangers_to_another(folder))
}

fn save_beside(
    folder: &Path,
    model: &SaveModel<'_>,
    keep: impl Fn(&OsStr) -> bool,
) -> Result<Saved> {
    model.assembly.validate()?;
    if let Some(name) = model
        .files
        .keys()
        .find(|name| !is_inner_name(name) || RESERVED.contains(&name.as_str()))
    {
        return Err(
            Error::settings("a further file of the model cannot have this name").at(name.clone()),
        );
    }
    let (family, note) = Family::for_assembly(model.assembly, model.family)?;
    write_folder_atomically(folder, keep, |new| write_files(new, family, model))?;
    Ok(Saved { family, note })
}

/// Refuses a folder that holds a model: it would be lost.
///
/// # Errors
/// `folder` holds one, whole or in part, in whatever format.
pub fn refuse_model(folder: &Path) -> Result<()> {
    let known = RESERVED.iter().chain(&COMPANIONS).chain(&FOREIGN_WEIGHTS);
    match known.into_iter().find(|name| folder.join(name).exists()) {
        None => Ok(()),
        Some(name) => Err(Error::conflict("the folder holds a model")
            .at(folder.join(name).display().to_string())
            .expected("a folder without a model, or one that this very training made")
            .found(*name)
            .hint("name another folder with --output, or give --replace to lose that model")),
    }
}

/// Puts right what a killed [`save`] left of `folder`: what is not the model's lies in it again. Nobody else may be
/// saving there at that time.
///
/// # Errors
/// As [`recover_folder`].
pub fn recover(folder: &Path) -> Result<()> {
    recover_folder(folder, |old, name| strangers(old)(name))
}

/// Whether an entry of a model's folder is no part of the model: what [`save`] leaves as it is.
fn strangers(folder: &Path) -> impl Fn(&OsStr) -> bool + use<> {
    // A damaged manifest of an older model is no reason to lose the new one.
    let manifest = Manifest::read(&folder.into()).ok().flatten();
    move |name| match name.to_str() {
        Some(name) => {
            // A tokenizer that stayed would be taken for the new model's.
            !RESERVED.contains(&name)
                && !COMPANIONS.contains(&name)
                && !manifest.as_ref().is_some_and(|m| m.holds(name))
        }
        None => true,
    }
}

/// As [`strangers`], where a model of other origin takes the folder: the card of the old one, if one lies there, is none.
pub(super) fn strangers_to_another(folder: &Path) -> impl Fn(&OsStr) -> bool + use<> {
    let strangers = strangers(folder);
    let is_card = refuse_model(folder).is_err();
    move |name| strangers(name) && !(is_card && name == CARD)
}

fn write_files(folder: &Path, family: Family, model: &SaveModel<'_>) -> Result<()> {
    write_settings(folder, family, model.assembly, model.generation, None)?;
    let mut tensors = Vec::new();
    let named = |parameter| Ok((parameter, family.names(model.assembly, parameter, None)?));
    let named: Vec<(&Parameter, TensorNames)> = model
        .weights
        .index
        .iter()
        .map(named)
        .collect::<Result<_>>()?;
    let numbers = |parameter: &Parameter| &model.weights.data[parameter.range.clone()];
    let mut wholes: BTreeMap<&str, (&[usize], Vec<f32>)> = BTreeMap::new();
    for (parameter, names) in &named {
        if let Some(part) = names.part {
            let new = || (&*names.shape, vec![0.0; names.shape.iter().product()]);
            let (shape, whole) = wholes.entry(&names.write[0]).or_insert_with(new);
            part.put(whole, shape, numbers(parameter));
        }
    }
    tensors.extend(wholes.iter().map(|(name, (shape, data))| NamedTensor {
        name: name.to_string(),
        shape: shape.to_vec(),
        data,
        transposed: false,
    }));
    for (parameter, names) in named.iter().filter(|(_, names)| names.part.is_none()) {
        let data = numbers(parameter);
        tensors.extend(names.write.iter().map(|name| NamedTensor {
            name: name.clone(),
            shape: names.shape.clone(),
            data,
            transposed: names.transposed,
        }));
    }
    write_tensors(&folder.join(WEIGHTS_FILE), tensors)?;
    write_files_of(folder, &model.files)?;
    let manifest = Manifest::of_folder(folder, model.manifest.clone())?;
    write_json(&folder.join(MANIFEST_FILE), &manifest)
}

/// Further files of a model, some of which may lie in folders inside its own.
pub(super) fn write_files_of(folder: &Path, files: &BTreeMap<String, Vec<u8>>) -> Result<()> {
    for (name, bytes) in files {
        let path = folder.join(name);
        if let Some(inner) = path.parent() {
            std::fs::create_dir_all(inner)
                .map_err(|e| Error::io("cannot make the folder", inner, &e))?;
        }
        write_atomically(&path, |w| w.write_all(bytes))?;
    }
    Ok(())
}

/// `config.json`, with what else is to stand in it, and `generation_config.json` of a model that generates.
pub(super) fn write_settings(
    folder: &Path,
    family: Family,
    assembly: &Assembly,
    defaults: &GenerationDefaults,
    also: Option<(&str, Value)>,
) -> Result<()> {
    let mut config = family.write_config(assembly)?;
    config.extend(also.map(|(key, value)| (key.to_string(), value)));
    write_json(&folder.join(CONFIG_FILE), &Value::Object(config))?;
    match assembly {
        Assembly::EncoderDecoder(config) => {
            let settings = generation::write(defaults, &config.into());
            write_json(&folder.join(GENERATION_FILE), &settings)
        }
        Assembly::Decoder(config) => {
            let settings = generation::write(defaults, &config.into());
            write_json(&folder.join(GENERATION_FILE), &settings)
        }
        Assembly::Encoder(_) => Ok(()),
    }
}

pub(super) fn write_json(path: &Path, value: &impl serde::Serialize) -> Result<()> {
    write_atomically(path, |writer| {
        serde_json::to_writer_pretty(&mut *writer, value)?;
        writer.write_all(b"\n")
    })
}
