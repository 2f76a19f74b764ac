//! Opening a model folder: its settings, its tensors, and its numbers as training or inference wants them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use hexapla_kernels::{Int8Scales, Matrix, PackedInt8, SharedBytes};
use rayon::prelude::*;

use super::family::Family;
use super::generation::{self, GenerationDefaults};
use super::keys::Keys;
use super::manifest::Manifest;
use super::names::{TensorNames, half_split};
use super::safetensors::{TensorReader, TensorStore, WEIGHTS_FILE, transpose};
use super::save::CONFIG_FILE;
use super::stored::{self, Storage, StoredMatrix};
use super::{gguf, llama2c, m2m_100, mapped, marian, marian_nmt, mbart, native, t5};
use crate::config::{Assembly, ComputeType, DecoderConfig, EncoderConfig, TransformerConfig};
use crate::error::{Error, Result};
use crate::fastest;
use crate::files::{Folder, MappingFile, MarianFiles};
use crate::model::transformer::Transformer;
use crate::packed::{PackedWeights, Value as PackedValue};
use crate::weights::{Kind, Parameter, ParameterIndex, Weights};

/// Numbers of a matrix that are read and packed at a time.
const PIECE: usize = 1 << 18;

/// A model folder whose settings are read and whose tensors are known to fit; their numbers are read on demand.
#[derive(Debug)]
pub struct ModelFolder {
    /// Whose conventions it follows.
    pub family: Family,
    /// The parts that it has, and their settings.
    pub assembly: Assembly,
    /// How it generates by default, if it generates.
    #[doc(hidden)]
    pub generation: GenerationDefaults,
    /// Where it comes from, if it says so.
    #[doc(hidden)]
    pub manifest: Option<Manifest>,
    /// How its numbers are stored.
    pub storage: Storage,
    /// Files that would lie beside the model, where it is a file with all in it.
    #[doc(hidden)]
    pub files: BTreeMap<String, Vec<u8>>,
    folder: Folder,
    model: Transformer,
    names: Vec<TensorNames>,
    tensors: TensorStore,
}

impl ModelFolder {
    /// The settings of a model that translates.
    ///
    /// # Errors
    /// It is another kind of model.
    pub fn encoder_decoder(&self) -> Result<&TransformerConfig> {
        match &self.assembly {
            Assembly::EncoderDecoder(config) => Ok(config),
            Assembly::Encoder(_) => Err(self.other_assembly("an encoder and a decoder").hint(
                "an encoder analyses texts: `hexapla embed`, `classify`, `tag`, `fill`, `rerank`",
            )),
            Assembly::Decoder(_) => Err(self
                .other_assembly("an encoder and a decoder")
                .hint("a decoder goes on with texts: `hexapla generate`")),
        }
    }

    /// The settings of an encoder alone.
    ///
    /// # Errors
    /// It is another kind of model.
    pub fn encoder(&self) -> Result<&EncoderConfig> {
        match &self.assembly {
            Assembly::Encoder(config) => Ok(config),
            Assembly::EncoderDecoder(_) => Err(self
                .other_assembly("an encoder alone, such as `bert`")
                .hint("this model translates: `hexapla translate --model`")),
            Assembly::Decoder(_) => Err(self
                .other_assembly("an encoder alone, such as `bert`")
                .hint("a decoder goes on with texts: `hexapla generate`")),
        }
    }

    /// The settings of a decoder alone.
    ///
    /// # Errors
    /// It is another kind of model.
    pub fn decoder(&self) -> Result<&DecoderConfig> {
        match &self.assembly {
            Assembly::Decoder(config) => Ok(config),
            Assembly::EncoderDecoder(_) => Err(self
                .other_assembly("a decoder alone, such as `llama`")
                .hint("this model translates: `hexapla translate --model`")),
            Assembly::Encoder(_) => Err(self
                .other_assembly("a decoder alone, such as `llama`")
                .hint("an encoder analyses texts: `hexapla embed`, `classify`, `tag`, `fill`, `rerank`")),
        }
    }

    fn other_assembly(&self, expected: &str) -> Error {
        Error::model("this kind of model cannot do that")
            .at(self.folder.path().display().to_string())
            .expected(expected)
            .found(format!("`{}`", self.family))
    }

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
            (Some(manifest), Folder::Disk(_), Storage::Int8 | Storage::Int4) => {
                manifest.verify(&self.folder)
            }
            _ => Ok(()),
        }
    }

    /// The model's shape.
    #[doc(hidden)]
    pub fn model(&self) -> &Transformer {
        &self.model
    }

    /// Its parameters, as training wants them. Those of a folder in int8 are what its bytes stand for.
    ///
    /// # Errors
    /// A file cannot be read, or copies of one table differ.
    #[doc(hidden)]
    pub fn weights(&self) -> Result<Weights> {
        let index = self.model.index();
        let mut weights = Weights::zeros(index.clone());
        for (parameter, names) in index.iter().zip(&self.names) {
            let values = match self.stored(parameter, names) {
                Some(matrix) => {
                    let (rows, columns) = matrix.shape();
                    let values = stored::columns(&matrix.open()?, rows, 0..columns);
                    match parameter.kind {
                        // Lies as the columns do.
                        Kind::Table(_) => values,
                        _ => transpose(&values, columns, rows),
                    }
                }
                None => self.read_as_ours(names)?,
            };
            if let Some(slot) = weights.data.get_mut(parameter.range.clone()) {
                slot.copy_from_slice(&values);
            }
        }
        Ok(weights)
    }

    /// The matrix where the folder holds it in integers.
    fn stored<'a>(
        &'a self,
        parameter: &Parameter,
        names: &'a TensorNames,
    ) -> Option<StoredMatrix<'a>> {
        StoredMatrix::find(self.storage, parameter, names, &self.tensors)
    }

    fn read_as_ours(&self, names: &TensorNames) -> Result<Vec<f32>> {
        let values = read_tensor(names, &self.tensors)?;
        Ok(match (names.transposed, names.shape.as_slice()) {
            (true, [rows, columns]) => transpose(&values, *rows, *columns),
            _ => values,
        })
    }

    /// Its parameters, as inference wants them. Matrices are read and packed piece by piece, on all threads, so that no
    /// part of the model lies in memory twice. Those that are stored in int8 and wanted so are used where they lie.
    ///
    /// # Errors
    /// As [`ModelFolder::weights`].
    #[doc(hidden)]
    pub fn pack(&self, compute_type: ComputeType) -> Result<PackedWeights> {
        let compute_type = match (compute_type, self.storage) {
            (ComputeType::Default, Storage::Int8) => ComputeType::Int8,
            (ComputeType::Default, Storage::Int4) => ComputeType::Int4,
            (ComputeType::Default, Storage::Float) => ComputeType::Float32,
            (asked, _) => fastest::decided_compute_type(asked),
        };
        let index = self.model.index();
        let parameters: Vec<_> = index.iter().zip(&self.names).collect();
        let values = parameters
            .par_iter()
            .map(|(parameter, names)| {
                self.pack_one(parameter, names, (compute_type, index.int8_scales))
            })
            .collect::<Result<_>>()?;
        Ok(PackedWeights::from_values(
            index.clone(),
            values,
            compute_type,
        ))
    }

    fn pack_one(
        &self,
        parameter: &Parameter,
        names: &TensorNames,
        number_type: (ComputeType, Int8Scales),
    ) -> Result<PackedValue> {
        let number_type = PackedValue::number_type(parameter, number_type);
        if let Some(matrix) = self.stored(parameter, names) {
            return prepare_stored(&matrix, number_type);
        }
        let is_table = matches!(parameter.kind, Kind::Table(_));
        if is_table && names.transposed {
            let numbers = self.read_as_ours(names)?;
            return Ok(PackedValue::new(parameter, &numbers, number_type));
        }
        // A row of the file is a column of the product, for tables and in transformers for weights too.
        let by_columns = names.transposed || is_table;
        let &[columns, rows] = names.shape.as_slice() else {
            let numbers = read_tensor(names, &self.tensors)?;
            return Ok(PackedValue::new(parameter, &numbers, number_type));
        };
        if !by_columns {
            let numbers = read_tensor(names, &self.tensors)?;
            return Ok(PackedValue::new(parameter, &numbers, number_type));
        }
        let is_whole = PackedValue::is_equalized(number_type) || names.interleaved.is_some();
        if parameter.kind == Kind::Weight && is_whole {
            // All of its columns are looked at before the first is packed.
            let numbers = read_tensor(names, &self.tensors)?;
            let matrix = Matrix::new(&numbers, columns, rows, rows).transposed();
            return Ok(PackedValue::weight(matrix, number_type));
        }
        let mut value = PackedValue::zeros(rows, columns, number_type);
        let most = (PIECE / rows.max(1)).next_multiple_of(PackedInt8::PANEL);
        let mut pieces = Pieces::open(names, &self.tensors)?;
        for start in (0..columns).step_by(most) {
            let count = most.min(columns - start);
            let numbers = pieces.next(count * rows)?;
            let piece = Matrix::new(numbers, count, rows, rows).transposed();
            value.set_columns(start, piece);
        }
        Ok(value)
    }
}

/// A matrix as it is stored, or what its bytes stand for.
fn prepare_stored(
    matrix: &StoredMatrix,
    number_type: (ComputeType, Int8Scales),
) -> Result<PackedValue> {
    let (rows, columns) = matrix.shape();
    let matrix = match (matrix.open()?, number_type) {
        (PackedValue::Int8(matrix), (ComputeType::Int8, scales)) => {
            return Ok(PackedValue::Int8(matrix.scaled_by(scales)));
        }
        (matrix @ PackedValue::Int4(_), (ComputeType::Int4, _)) => return Ok(matrix),
        (matrix, _) => matrix,
    };
    let mut value = PackedValue::zeros(rows, columns, number_type);
    let most = (PIECE / rows.max(1)).next_multiple_of(PackedInt8::PANEL);
    for start in (0..columns).step_by(most) {
        let count = most.min(columns - start);
        let numbers = stored::columns(&matrix, rows, start..start + count);
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
    let folder = folder.into();
    let path = folder.path();
    let opened = match &folder {
        Folder::Disk(_) if gguf::is_file(&path) => open_gguf(&path),
        Folder::Disk(_) if llama2c::is_file(&path) => open_llama2c(&path),
        _ => open_folder(&folder),
    };
    opened.map_err(Error::of_model)
}

/// Reads a GGUF file.
fn open_gguf(path: &Path) -> Result<ModelFolder> {
    let gguf::GgufModel {
        config,
        generation,
        tensors,
        files,
        interleaved,
    } = gguf::read(path)?;
    let settings = Settings {
        family: Family::Gguf { interleaved },
        assembly: Assembly::Decoder(config),
        generation,
        storage: Storage::Float,
        tensors,
    };
    of_file(path, settings, files)
}

/// Reads a checkpoint of llama2.c's.
fn open_llama2c(path: &Path) -> Result<ModelFolder> {
    let llama2c::Llama2cModel {
        config,
        tensors,
        files,
    } = llama2c::read(path)?;
    let settings = Settings {
        family: Family::Llama2c,
        assembly: Assembly::Decoder(config),
        generation: GenerationDefaults::default(),
        storage: Storage::Float,
        tensors,
    };
    of_file(path, settings, files)
}

/// A model that is one file.
fn of_file(
    path: &Path,
    settings: Settings,
    files: BTreeMap<String, Vec<u8>>,
) -> Result<ModelFolder> {
    let valid = settings.assembly.validate();
    valid.map_err(|e| e.hint(format!("see {}", path.display())))?;
    of_settings(settings, files, None, &Folder::from(path))
}

fn open_folder(folder: &Folder) -> Result<ModelFolder> {
    if !folder.exists() {
        return Err(Error::model("there is no model folder")
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
    let settings = read_settings(folder, mapped)?;
    of_settings(settings, BTreeMap::new(), manifest, folder)
}

/// The model, once its tensors are known to fit.
fn of_settings(
    settings: Settings,
    files: BTreeMap<String, Vec<u8>>,
    manifest: Option<Manifest>,
    folder: &Folder,
) -> Result<ModelFolder> {
    let Settings {
        family,
        assembly,
        generation,
        storage,
        tensors,
    } = settings;
    let model = Transformer::new(assembly.clone())?;
    let names = find_names((family, storage), &assembly, model.index(), &tensors)?;
    Ok(ModelFolder {
        family,
        assembly,
        generation,
        manifest,
        storage,
        files,
        folder: folder.clone(),
        model,
        names,
        tensors,
    })
}

/// What a folder says of itself.
struct Settings {
    family: Family,
    assembly: Assembly,
    generation: GenerationDefaults,
    storage: Storage,
    tensors: TensorStore,
}

fn read_settings(folder: &Folder, mapped: Option<SharedBytes>) -> Result<Settings> {
    if !folder.contains(CONFIG_FILE) {
        if let Some(files) = MarianFiles::find(folder)? {
            let model = marian_nmt::read(folder, &files)?;
            model.config.validate()?;
            return Ok(Settings {
                family: Family::MarianNmt,
                assembly: Assembly::EncoderDecoder(model.config),
                generation: model.generation,
                storage: Storage::Float,
                tensors: model.tensors,
            });
        }
        if let Some(file) = MappingFile::find(folder)? {
            let model = mapped::read(folder, &file)?;
            return Ok(Settings {
                family: Family::Mapped(file.linear),
                assembly: model.assembly,
                generation: model.generation,
                storage: Storage::Float,
                tensors: model.tensors,
            });
        }
        return Err(Error::model("the folder holds no model")
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
    if storage != Storage::Float {
        tensors.map()?;
    }
    let (assembly, generation) = match (family.encoder(), family.decoder()) {
        (Some(encoder), _) => {
            let config = encoder.read(keys, |name| tensors.contains(name))?;
            (Assembly::Encoder(config), GenerationDefaults::default())
        }
        (None, Some(decoder)) => {
            // A setting that is null is not one that is absent.
            let endless = keys.is_null("eos_token_id");
            let (generation, ids) = generation::read(folder, &mut keys)?;
            let config = decoder.read(keys, (ids.eos, endless), &generation)?;
            (Assembly::Decoder(config), generation)
        }
        (None, None) => {
            let (generation, ids) = generation::read(folder, &mut keys)?;
            let assembly = match family {
                Family::Marian => marian::read(keys, ids, &tensors)?.into(),
                Family::M2m100 => m2m_100::read(keys, ids, &tensors)?.into(),
                Family::Bart => mbart::BART.read(keys, ids, &tensors)?.into(),
                Family::Mbart => mbart::MBART.read(keys, ids, &tensors)?.into(),
                Family::T5 => t5::T5.read(keys, ids, &tensors)?.into(),
                Family::Mt5 => t5::MT5.read(keys, ids, &tensors)?.into(),
                _ => native::read(keys, ids, &generation)?,
            };
            (assembly, generation)
        }
    };
    assembly
        .validate()
        .map_err(|e| e.hint(format!("see {}", folder.path_of(CONFIG_FILE).display())))?;
    Ok(Settings {
        family,
        assembly,
        generation,
        storage,
        tensors,
    })
}

/// Where each parameter lies, once every tensor is known to fit.
fn find_names(
    (family, storage): (Family, Storage),
    assembly: &Assembly,
    index: &ParameterIndex,
    tensors: &TensorStore,
) -> Result<Vec<TensorNames>> {
    let names: Vec<TensorNames> = index
        .iter()
        .map(|p| {
            let names = family.names(assembly, p, Some(tensors))?;
            Ok(match storage {
                Storage::Int8 | Storage::Int4 => names.in_integers(p),
                Storage::Float => names,
            })
        })
        .collect::<Result<_>>()?;
    let mut known: BTreeSet<String> = BTreeSet::new();
    let mut wrong = Vec::new();
    for (parameter, names) in index.iter().zip(&names) {
        let checked = match StoredMatrix::find(storage, parameter, names, tensors) {
            Some(matrix) => {
                known.extend(matrix.names());
                matrix.check()
            }
            None => {
                known.extend(names.read.iter().cloned());
                check_tensors(names, tensors)
            }
        };
        wrong.extend(checked.err().map(|e| (e, parameter.name.as_str())));
    }
    let others: Vec<&str> = wrong.iter().skip(1).map(|(_, name)| *name).collect();
    if let Some((first, _)) = wrong.into_iter().next() {
        return Err(match others.len() {
            0 => first,
            count => first.hint(format!(
                "does config.json belong to these weights? Further tensors that do not fit ({count}): {}",
                few(&others)
            )),
        });
    }
    if let Some(name) = tensors
        .names()
        .find(|name| !known.contains(*name) && !family.without_use(name))
    {
        return Err(
            Error::model("the weights hold a tensor that the configuration does not know")
                .at(format!("{}, tensor `{name}`", tensors.path().display()))
                .expected("only the tensors of the configured layers")
                .found(format!("{:?}", tensors.shape(name).unwrap_or_default()))
                .hint("does config.json belong to these weights?"),
        );
    }
    Ok(names)
}

/// The first of many names.
fn few(names: &[&str]) -> String {
    const SHOWN: usize = 5;
    let more = if names.len() > SHOWN { ", …" } else { "" };
    format!("{}{more}", names[..names.len().min(SHOWN)].join(", "))
}

/// Those of `names` that are in the file; the first name where none is, so that an error names it.
fn present<'a>(names: &'a TensorNames, tensors: &TensorStore) -> Vec<&'a str> {
    let names: Vec<&str> = names.read.iter().map(String::as_str).collect();
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

fn check_tensors(names: &TensorNames, tensors: &TensorStore) -> Result<()> {
    present(names, tensors)
        .into_iter()
        .try_for_each(|name| tensors.check(name, &names.shape))
}

/// The numbers of a parameter as they lie in the file.
fn read_tensor(names: &TensorNames, tensors: &TensorStore) -> Result<Vec<f32>> {
    let mut pieces = Pieces::open(names, tensors)?;
    pieces.next(names.shape.iter().product())?;
    let numbers = match names.part {
        Some(part) => part.of(&pieces.first, &names.shape),
        None => pieces.first,
    };
    Ok(match (names.interleaved, names.shape.as_slice()) {
        (Some(head_width), [_, width]) => half_split(&numbers, *width, head_width),
        (Some(head_width), _) => half_split(&numbers, 1, head_width),
        (None, _) => numbers,
    })
}

/// A parameter being read piece by piece. Copies of one table must agree bit by bit.
struct Pieces<'a> {
    names: &'a TensorNames,
    readers: Vec<(&'a str, TensorReader)>,
    weights: &'a Path,
    first: Vec<f32>,
    other: Vec<f32>,
}

impl<'a> Pieces<'a> {
    fn open(names: &'a TensorNames, tensors: &'a TensorStore) -> Result<Self> {
        let readers = present(names, tensors)
            .into_iter()
            .map(|name| Ok((name, tensors.reader(name, &names.shape)?)))
            .collect::<Result<_>>()?;
        Ok(Pieces {
            names,
            readers,
            weights: tensors.path(),
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
                let first = self.names.read.first().map_or("", String::as_str);
                return Err(Error::model("two tensors that should be one and the same differ")
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
