//! Model folders in the Hugging Face layout: `config.json`, `generation_config.json`, `model.safetensors`, whatever the
//! tokenizer needs, and our `manifest.json`.
//!
//! Three families are read and written: [`marian`], [`m2m_100`], and our own [`native`] for what neither can say. A
//! setting that would change what is computed and is not known here is refused, never passed over.

mod bart;
mod convert;
pub mod generation;
mod keys;
pub mod m2m_100;
pub mod manifest;
pub mod marian;
pub mod native;
pub mod safetensors;
mod stored;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fmt;
use std::path::Path;

use hexapla_kernels::{Matrix, PackedInt8, SharedBytes};
use rayon::prelude::*;
use serde_json::{Map, Value};

use crate::config::{ComputeType, TransformerConfig};
use crate::error::{Error, Result};
use crate::files::{Folder, recover_folder, write_atomically, write_folder_atomically};
use crate::model::transformer::Transformer;
use crate::prepared::{Prepared, Value as PreparedValue};
use crate::weights::{Kind, Parameter, ParameterIndex, Weights};
use bart::Place;
pub use convert::{ConvertModel, convert};
use generation::{GENERATION_FILE, GenerationDefaults};
use keys::Keys;
use manifest::{MANIFEST_FILE, Manifest, ManifestFields};
use safetensors::{
    INDEX_FILE, NamedTensor, TensorReader, TensorStore, WEIGHTS_FILE, is_plain_name, transpose,
    write_tensors,
};
pub use stored::Storage;
use stored::StoredMatrix;

const CONFIG_FILE: &str = "config.json";
/// Numbers of a matrix that are read and packed at a time.
const PIECE: usize = 1 << 18;
/// Names that only the model itself may have in its folder.
const RESERVED: [&str; 5] = [
    CONFIG_FILE,
    GENERATION_FILE,
    WEIGHTS_FILE,
    INDEX_FILE,
    MANIFEST_FILE,
];
/// Files beside the model that belong to it, whoever wrote it.
const COMPANIONS: [&str; 11] = [
    "merges.txt",
    "sentencepiece.bpe.model",
    "source.spm",
    "source_tokenizer.json",
    "special_tokens_map.json",
    "target.spm",
    "target_tokenizer.json",
    "target_vocab.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
];

/// What tells people of a model.
const CARD: &str = "README.md";
/// Weights that other programs write.
const FOREIGN_WEIGHTS: [&str; 3] = [
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "model.npz",
];

/// Whose names and conventions a folder follows: its `model_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// Post-norm, as in the paper; transformers opens it.
    Marian,
    /// Pre-norm; transformers opens it.
    M2m100,
    /// Everything else; only this program opens it.
    Native,
}

impl Family {
    const ALL: [Family; 3] = [Family::Marian, Family::M2m100, Family::Native];

    /// The `model_type` in `config.json`.
    pub fn model_type(self) -> &'static str {
        match self {
            Family::Marian => "marian",
            Family::M2m100 => "m2m_100",
            Family::Native => "hexapla",
        }
    }

    /// The family that can say `config`, and, where it is our own, why the others cannot.
    pub fn for_config(config: &TransformerConfig) -> (Family, Option<String>) {
        match (marian::cannot_say(config), m2m_100::cannot_say(config)) {
            (None, _) => (Family::Marian, None),
            (_, None) => (Family::M2m100, None),
            (Some(marian), Some(m2m)) => (
                Family::Native,
                Some(format!(
                    "written as `hexapla`, which transformers cannot open: {marian}, and {m2m}"
                )),
            ),
        }
    }

    fn place(
        self,
        config: &TransformerConfig,
        parameter: &Parameter,
        tensors: Option<&TensorStore>,
    ) -> Result<Place> {
        match self {
            Family::Native => Ok(native::place(parameter)),
            Family::Marian | Family::M2m100 => bart::place(config, parameter, tensors),
        }
    }

    fn without_use(self, name: &str) -> bool {
        self != Family::Native && bart::without_use(name)
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.model_type())
    }
}

/// A model folder whose settings are read and whose tensors are known to fit; their numbers are read on demand.
#[derive(Debug)]
pub struct ModelFolder {
    /// Whose conventions it follows.
    pub family: Family,
    /// The model's shape and mathematics.
    pub config: TransformerConfig,
    /// How it generates by default.
    pub generation: GenerationDefaults,
    /// Where it comes from, if it says so.
    pub manifest: Option<Manifest>,
    /// How its numbers are stored.
    pub storage: Storage,
    folder: Folder,
    model: Transformer,
    places: Vec<Place>,
    tensors: TensorStore,
}

impl ModelFolder {
    /// The folder, with its files held open: a tokenizer read through it belongs to this model.
    pub fn folder(&self) -> &Folder {
        &self.folder
    }

    /// Compares the checksums that opening the folder passed over to be quick: those of weights that are used where they lie.
    ///
    /// # Errors
    /// As [`Manifest::verify`].
    pub fn verify(&self) -> Result<()> {
        match (&self.manifest, &self.folder, self.storage) {
            (Some(manifest), Folder::Disk(_), Storage::Int8) => manifest.verify(&self.folder),
            _ => Ok(()),
        }
    }

    /// The model's shape.
    pub fn model(&self) -> &Transformer {
        &self.model
    }

    /// Its parameters, as training wants them. Those of a folder in int8 are what its bytes stand for.
    ///
    /// # Errors
    /// A file cannot be read, or copies of one table differ.
    pub fn weights(&self) -> Result<Weights> {
        let index = self.model.index();
        let mut weights = Weights::zeros(index.clone());
        for (parameter, place) in index.iter().zip(&self.places) {
            let values = match self.stored(parameter, place) {
                Some(matrix) => {
                    let matrix = matrix.open()?;
                    let values = stored::columns(&matrix, 0..matrix.columns());
                    match parameter.kind {
                        // Lies as the columns do.
                        Kind::Table(_) => values,
                        _ => transpose(&values, matrix.columns(), matrix.rows()),
                    }
                }
                None => self.read_as_ours(place)?,
            };
            if let Some(slot) = weights.data.get_mut(parameter.range.clone()) {
                slot.copy_from_slice(&values);
            }
        }
        Ok(weights)
    }

    /// The matrix where the folder holds it in int8.
    fn stored<'a>(&'a self, parameter: &Parameter, place: &'a Place) -> Option<StoredMatrix<'a>> {
        match self.storage {
            Storage::Float => None,
            Storage::Int8 => StoredMatrix::find(parameter, place, &self.tensors),
        }
    }

    fn read_as_ours(&self, place: &Place) -> Result<Vec<f32>> {
        let values = read_place(place, &self.tensors)?;
        Ok(match (place.transposed, place.shape.as_slice()) {
            (true, [rows, columns]) => transpose(&values, *rows, *columns),
            _ => values,
        })
    }

    /// Its parameters, as inference wants them. Matrices are read and packed piece by piece, on all threads, so that no
    /// part of the model lies in memory twice. Those that are stored in int8 and wanted so are used where they lie.
    ///
    /// # Errors
    /// As [`ModelFolder::weights`].
    pub fn prepare(&self, compute_type: ComputeType) -> Result<Prepared> {
        let compute_type = match (compute_type, self.storage) {
            (ComputeType::Default, Storage::Int8) => ComputeType::Int8,
            (ComputeType::Default, Storage::Float) => ComputeType::Float32,
            (asked, _) => asked,
        };
        let index = self.model.index();
        let parameters: Vec<_> = index.iter().zip(&self.places).collect();
        let values = parameters
            .par_iter()
            .map(|(parameter, place)| self.prepare_one(parameter, place, compute_type))
            .collect::<Result<_>>()?;
        Ok(Prepared::from_values(index.clone(), values, compute_type))
    }

    fn prepare_one(
        &self,
        parameter: &Parameter,
        place: &Place,
        compute_type: ComputeType,
    ) -> Result<PreparedValue> {
        if let Some(matrix) = self.stored(parameter, place) {
            return prepare_stored(matrix.open()?, compute_type);
        }
        // A row of the file is a column of the product, for tables and in transformers for weights too.
        let by_columns = place.transposed || matches!(parameter.kind, Kind::Table(_));
        let &[columns, rows] = place.shape.as_slice() else {
            let numbers = read_place(place, &self.tensors)?;
            return Ok(PreparedValue::new(parameter, &numbers, compute_type));
        };
        if !by_columns {
            let numbers = read_place(place, &self.tensors)?;
            return Ok(PreparedValue::new(parameter, &numbers, compute_type));
        }
        let mut value = PreparedValue::zeros(rows, columns, compute_type);
        let most = (PIECE / rows.max(1)).next_multiple_of(PackedInt8::PANEL);
        let mut pieces = Pieces::open(place, &self.tensors)?;
        for start in (0..columns).step_by(most) {
            let count = most.min(columns - start);
            let numbers = pieces.next(count * rows)?;
            let piece = Matrix::new(numbers, count, rows, rows).transposed();
            value.set_columns(start, piece);
        }
        Ok(value)
    }
}

/// A matrix in int8, or what its bytes stand for.
fn prepare_stored(matrix: PackedInt8, compute_type: ComputeType) -> Result<PreparedValue> {
    if matches!(compute_type, ComputeType::Int8 | ComputeType::Auto) {
        return Ok(PreparedValue::Int8(matrix));
    }
    let (rows, columns) = (matrix.rows(), matrix.columns());
    let mut value = PreparedValue::zeros(rows, columns, compute_type);
    let most = (PIECE / rows.max(1)).next_multiple_of(PackedInt8::PANEL);
    for start in (0..columns).step_by(most) {
        let count = most.min(columns - start);
        let numbers = stored::columns(&matrix, start..start + count);
        let piece = Matrix::new(&numbers, count, rows, rows).transposed();
        value.set_columns(start, piece);
    }
    Ok(value)
}

/// Reads a model folder.
///
/// # Errors
/// Names the file and the setting or tensor that is missing, damaged, of the wrong shape or not known, what was
/// expected and what was found. No memory is asked for before the shapes of all tensors are known to fit.
pub fn open(folder: impl Into<Folder>) -> Result<ModelFolder> {
    let folder = &folder.into();
    if !folder.exists() {
        return Err(Error::new("there is no model folder")
            .at(folder.path().display().to_string())
            .expected("a folder")
            .found(if folder.path().exists() {
                "a file"
            } else {
                "nothing"
            })
            .hint("name a folder that holds config.json and model.safetensors"));
    }
    let manifest = Manifest::read(folder)?;
    // What is inside the program is as it was built.
    let mapped = match (&manifest, folder) {
        (Some(manifest), Folder::Disk(_)) => {
            manifest.verify_quickly(folder)?;
            manifest.map_weights(folder)?
        }
        _ => None,
    };
    let Settings {
        family,
        config,
        generation,
        storage,
        tensors,
    } = read_settings(folder, mapped)?;
    let model = Transformer::new(config.clone())?;
    let places = find_places((family, storage), &config, model.index(), &tensors)?;
    Ok(ModelFolder {
        family,
        config,
        generation,
        manifest,
        storage,
        folder: folder.clone(),
        model,
        places,
        tensors,
    })
}

/// What a folder says of itself.
struct Settings {
    family: Family,
    config: TransformerConfig,
    generation: GenerationDefaults,
    storage: Storage,
    tensors: TensorStore,
}

fn read_settings(folder: &Folder, mapped: Option<SharedBytes>) -> Result<Settings> {
    if !folder.contains(CONFIG_FILE) {
        return Err(Error::new("the folder holds no model")
            .at(folder.path().display().to_string())
            .expected(format!("{CONFIG_FILE} and {WEIGHTS_FILE}"))
            .found(format!("no {CONFIG_FILE}"))
            .hint("name the folder of a trained model"));
    }
    let mut keys = Keys::read(folder, CONFIG_FILE)?;
    let found = keys.text("model_type")?.unwrap_or_default();
    let family = Family::ALL
        .into_iter()
        .find(|family| family.model_type() == found)
        .ok_or_else(|| {
            let known = Family::ALL.map(Family::model_type).join(", ");
            keys.error("model_type")
                .expected(format!("one of {known}"))
                .found(format!("`{found}`"))
        })?;
    let storage = Storage::read(&mut keys)?;
    let mut tensors = TensorStore::open_mapped(folder.clone(), mapped)?;
    if storage == Storage::Int8 {
        tensors.map()?;
    }
    let (generation, ids) = generation::read(folder, &mut keys)?;
    let config = match family {
        Family::Marian => marian::read(keys, ids, &tensors)?,
        Family::M2m100 => m2m_100::read(keys, ids, &tensors)?,
        Family::Native => native::read(keys, ids)?,
    };
    config
        .validate()
        .map_err(|e| e.hint(format!("see {}", folder.place(CONFIG_FILE).display())))?;
    Ok(Settings {
        family,
        config,
        generation,
        storage,
        tensors,
    })
}

/// Where each parameter lies, once every tensor is known to fit.
fn find_places(
    (family, storage): (Family, Storage),
    config: &TransformerConfig,
    index: &ParameterIndex,
    tensors: &TensorStore,
) -> Result<Vec<Place>> {
    let places: Vec<Place> = index
        .iter()
        .map(|p| family.place(config, p, Some(tensors)))
        .collect::<Result<_>>()?;
    let mut known: BTreeSet<String> = BTreeSet::new();
    for (parameter, place) in index.iter().zip(&places) {
        let matrix = match storage {
            Storage::Float => None,
            Storage::Int8 => StoredMatrix::find(parameter, place, tensors),
        };
        match matrix {
            Some(matrix) => {
                matrix.check()?;
                known.extend(matrix.names());
            }
            None => {
                check_place(place, tensors)?;
                known.extend(place.read.iter().cloned());
            }
        }
    }
    if let Some(name) = tensors
        .names()
        .find(|name| !known.contains(*name) && !family.without_use(name))
    {
        return Err(
            Error::new("the weights hold a tensor that the configuration does not know")
                .at(format!("{}, tensor `{name}`", tensors.place().display()))
                .expected("only the tensors of the configured layers")
                .found(format!("{:?}", tensors.shape(name).unwrap_or_default()))
                .hint("does config.json belong to these weights?"),
        );
    }
    Ok(places)
}

/// The names of a place that are in the file; the first name where none is, so that an error names it.
fn present<'a>(place: &'a Place, tensors: &TensorStore) -> Vec<&'a str> {
    let names: Vec<&str> = place.read.iter().map(String::as_str).collect();
    let there: Vec<&str> = names
        .iter()
        .copied()
        .filter(|name| tensors.contains(name))
        .collect();
    if there.is_empty() {
        names.into_iter().take(1).collect()
    } else {
        there
    }
}

fn check_place(place: &Place, tensors: &TensorStore) -> Result<()> {
    present(place, tensors)
        .into_iter()
        .try_for_each(|name| tensors.check(name, &place.shape))
}

/// The numbers of a parameter as they lie in the file.
fn read_place(place: &Place, tensors: &TensorStore) -> Result<Vec<f32>> {
    let mut pieces = Pieces::open(place, tensors)?;
    pieces.next(place.shape.iter().product())?;
    Ok(pieces.first)
}

/// A parameter being read piece by piece. Copies of one table must agree bit by bit.
struct Pieces<'a> {
    place: &'a Place,
    readers: Vec<(&'a str, TensorReader)>,
    weights: &'a Path,
    first: Vec<f32>,
    other: Vec<f32>,
}

impl<'a> Pieces<'a> {
    fn open(place: &'a Place, tensors: &'a TensorStore) -> Result<Self> {
        let readers = present(place, tensors)
            .into_iter()
            .map(|name| Ok((name, tensors.reader(name, &place.shape)?)))
            .collect::<Result<_>>()?;
        Ok(Pieces {
            place,
            readers,
            weights: tensors.place(),
            first: Vec::new(),
            other: Vec::new(),
        })
    }

    /// The next `count` numbers.
    fn next(&mut self, count: usize) -> Result<&[f32]> {
        let mut readers = self.readers.iter_mut();
        if let Some((_, reader)) = readers.next() {
            reader.read(count, &mut self.first)?;
        }
        for (name, reader) in readers {
            reader.read(count, &mut self.other)?;
            if !same_bits(&self.first, &self.other) {
                let first = self.place.read.first().map_or("", String::as_str);
                return Err(Error::new("two tensors that should be one and the same differ")
                    .at(format!("{}, tensor `{name}`", self.weights.display()))
                    .expected(format!("the values of `{first}`"))
                    .found("other values")
                    .hint("if the output layer has its own table, config.json must say `tie_word_embeddings: false`"));
            }
        }
        Ok(&self.first)
    }
}

fn same_bits(a: &[f32], b: &[f32]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits())
}

/// A model to write.
#[derive(Debug, Clone)]
pub struct SaveModel<'a> {
    /// The model's shape and mathematics.
    pub config: &'a TransformerConfig,
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

/// As [`save`], in the place of a model of other origin: its card goes too, which would tell of another model than lies there.
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
    model.config.validate()?;
    if let Some(name) = model
        .files
        .keys()
        .find(|name| !is_plain_name(name) || RESERVED.contains(&name.as_str()))
    {
        return Err(
            Error::new("a further file of the model cannot have this name").at(name.clone()),
        );
    }
    let (family, note) = Family::for_config(model.config);
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
        Some(name) => Err(Error::new("the folder holds a model")
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
                && !manifest
                    .as_ref()
                    .is_some_and(|m| m.files.contains_key(name))
        }
        None => true,
    }
}

/// As [`strangers`], where a model of other origin takes the folder: the card of the old one is none.
fn strangers_to_another(folder: &Path) -> impl Fn(&OsStr) -> bool + use<> {
    let strangers = strangers(folder);
    move |name| strangers(name) && name != CARD
}

fn write_files(folder: &Path, family: Family, model: &SaveModel<'_>) -> Result<()> {
    let config = write_config(family, model.config)?;
    write_json(&folder.join(CONFIG_FILE), &Value::Object(config))?;
    write_json(
        &folder.join(GENERATION_FILE),
        &generation::write(model.generation, model.config),
    )?;
    let mut tensors = Vec::new();
    for parameter in model.weights.index.iter() {
        let place = family.place(model.config, parameter, None)?;
        let data = model
            .weights
            .data
            .get(parameter.range.clone())
            .unwrap_or_default();
        tensors.extend(place.write.iter().map(|name| NamedTensor {
            name: name.clone(),
            shape: place.shape.clone(),
            data,
            transposed: place.transposed,
        }));
    }
    write_tensors(&folder.join(WEIGHTS_FILE), tensors)?;
    for (name, bytes) in &model.files {
        write_atomically(&folder.join(name), |w| w.write_all(bytes))?;
    }
    let manifest = Manifest::of_folder(folder, model.manifest.clone())?;
    write_json(&folder.join(MANIFEST_FILE), &manifest)
}

fn write_config(family: Family, config: &TransformerConfig) -> Result<Map<String, Value>> {
    match family {
        Family::Marian => Ok(marian::write(config)),
        Family::M2m100 => Ok(m2m_100::write(config)),
        Family::Native => native::write(config),
    }
}

fn write_json(path: &Path, value: &impl serde::Serialize) -> Result<()> {
    write_atomically(path, |writer| {
        serde_json::to_writer_pretty(&mut *writer, value)?;
        writer.write_all(b"\n")
    })
}
