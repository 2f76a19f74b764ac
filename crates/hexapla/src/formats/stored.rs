//! Weights stored in int8 or int4 in the very layout that products read, to be mapped into memory and used there.
//!
//! `config.json` says so under `quantization_config`, the key under which other programs look for it, so that none takes
//! these tensors for numbers. Every matrix `NAME` of a product, rows × columns, is three tensors:
//!
//! | tensor | type | shape |
//! | --- | --- | --- |
//! | `NAME` | I8 | `[⌈columns/64⌉, ⌈rows/4⌉, 64, 4]`, filled up with zeros |
//! | `NAME.scales` | F32 | `[columns]`; weight = scale · byte |
//! | `NAME.starts` | I32 | `[columns]`: −128 · Σ bytes, modulo 2³² |
//!
//! In int4 the matrix of a linear layer is one tensor, and tables are as above:
//!
//! | tensor | type | shape |
//! | --- | --- | --- |
//! | `NAME` | U8 | `[⌈columns/64⌉, ⌈rows/32⌉, 18, 64]`: for 64 columns and 32 rows, 16 lines of nibbles (for each 16 columns, for each 8 rows; a column's 4 bytes have the first four rows in their low nibbles, the others in the high ones; weight = scale · (nibble − 8)), then 64 scales in bf16 |
//!
//! A linear layer has its inputs as rows, an embedding table d_model: a row of the table is a column here. All else is F32.
//! The bytes come first in the file, and the header is as long as makes each matrix start at a multiple of 64.

use std::io::{self, Write};
use std::ops::Range;
use std::path::Path;

use hexapla_kernels::{Isa, PackedInt4, PackedInt8, StoredInt8};
use safetensors::tensor::Dtype;
use serde_json::{Value, json};

use super::family::Family;
use super::keys::Keys;
use super::names::TensorNames;
use super::safetensors::{Part, TensorStore, WEIGHTS_FILE, write_parts};
use crate::config::{Assembly, ComputeType};
use crate::error::{Error, Result};
use crate::packed::{PackedWeights, Value as PackedValue};
use crate::weights::{Kind, Parameter};

/// The key in `config.json`.
pub(super) const KEY: &str = "quantization_config";
const METHOD: &str = "hexapla";
/// The layout of the table above.
const LAYOUT: u32 = 1;

/// How a folder's numbers are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Storage {
    /// f32, f16 or bf16.
    Float,
    /// Matrices in int8, as products read them.
    Int8,
    /// Weights in int4, tables in int8.
    Int4,
}

impl Storage {
    /// Takes what `config.json` says.
    pub(super) fn read(keys: &mut Keys) -> Result<Self> {
        let Some(found) = keys.take(KEY) else {
            return Ok(Storage::Float);
        };
        let integers = [Storage::Int8, Storage::Int4];
        if let Some(storage) = integers
            .into_iter()
            .find(|s| Some(&found) == s.setting().as_ref())
        {
            return Ok(storage);
        }
        let known = integers.map(|s| s.setting().unwrap_or_default().to_string());
        let error = keys
            .error(KEY)
            .expected(format!("none, or {}", known.join(", or ")))
            .found(found.to_string().chars().take(120).collect::<String>());
        Err(match found["quant_method"].as_str() {
            Some(METHOD) => error.hint("a newer hexapla wrote this folder"),
            _ => error.hint(
                "take the model as it was before another program quantized it; `hexapla convert` makes int8 of that",
            ),
        })
    }
}

impl Storage {
    /// The one in which weights of this number type are stored.
    pub(super) fn of(compute_type: ComputeType) -> Option<Self> {
        match compute_type {
            ComputeType::Float32 => Some(Storage::Float),
            ComputeType::Int8 => Some(Storage::Int8),
            ComputeType::Int4 => Some(Storage::Int4),
            ComputeType::Default | ComputeType::Bf16 | ComputeType::Auto => None,
        }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Storage::Float => "floats",
            Storage::Int8 => "int8",
            Storage::Int4 => "int4",
        }
    }

    /// What `config.json` says of it; nothing of floats.
    pub(super) fn setting(self) -> Option<Value> {
        let setting = |name| json!({"quant_method": METHOD, "weights": name, "layout": LAYOUT});
        (self != Storage::Float).then(|| setting(self.name()))
    }
}

/// Rows and columns of the product that a matrix serves; `None` for what is stored in F32.
fn product_shape(parameter: &Parameter) -> Option<(usize, usize)> {
    match (parameter.kind, parameter.shape.as_slice()) {
        (Kind::Weight, [rows, columns]) => Some((*rows, *columns)),
        (Kind::Table(_), [columns, rows]) => Some((*rows, *columns)),
        _ => None,
    }
}

fn scales_name(name: &str) -> String {
    format!("{name}.scales")
}

fn row_scales_name(name: &str) -> String {
    format!("{name}.row_scales")
}

fn starts_name(name: &str) -> String {
    format!("{name}.starts")
}

/// A matrix of the file.
pub(super) struct StoredMatrix<'a> {
    tensors: &'a TensorStore,
    name: &'a str,
    /// Whether it is in int4.
    nibbles: bool,
    rows: usize,
    columns: usize,
}

impl<'a> StoredMatrix<'a> {
    /// `parameter` as it stands in `tensors`; `None` where it is no matrix of integers.
    pub(super) fn find(
        storage: Storage,
        parameter: &Parameter,
        names: &'a TensorNames,
        tensors: &'a TensorStore,
    ) -> Option<Self> {
        let (rows, columns) = product_shape(parameter).filter(|_| storage != Storage::Float)?;
        let there = names.read.iter().find(|name| tensors.contains(name));
        Some(StoredMatrix {
            tensors,
            name: there.or(names.read.first())?,
            nibbles: storage == Storage::Int4 && parameter.kind == Kind::Weight,
            rows,
            columns,
        })
    }

    /// Rows and columns of its product.
    pub(super) fn shape(&self) -> (usize, usize) {
        (self.rows, self.columns)
    }

    /// The names of its tensors: one in int4, in int8 all, the last of which need not be there.
    pub(super) fn names(&self) -> [String; 4] {
        [
            self.name.to_string(),
            scales_name(self.name),
            starts_name(self.name),
            row_scales_name(self.name),
        ]
    }

    /// Refuses tensors that are missing or of another shape or type.
    pub(super) fn check(&self) -> Result<()> {
        let [bytes, scales, starts, row_scales] = self.names();
        if self.nibbles {
            let shape = PackedInt4::stored_shape(self.rows, self.columns);
            return self.tensors.check_as(&bytes, &shape, &[Dtype::U8]);
        }
        let shape = PackedInt8::stored_shape(self.rows, self.columns);
        let columns = &[self.columns];
        self.tensors.check_as(&bytes, &shape, &[Dtype::I8])?;
        self.tensors.check_as(&scales, columns, &[Dtype::F32])?;
        self.tensors.check_as(&starts, columns, &[Dtype::I32])?;
        match self.tensors.contains(&row_scales) {
            true => self
                .tensors
                .check_as(&row_scales, &[self.rows], &[Dtype::F32]),
            false => Ok(()),
        }
    }

    /// The matrix, its bytes where they lie.
    pub(super) fn open(&self) -> Result<PackedValue> {
        let [bytes, scales, starts, row_scales] = self.names();
        if self.nibbles {
            let (rows, columns) = self.shape();
            let stored = self.tensors.bytes(&bytes)?;
            let matrix = PackedInt4::from_stored(Isa::best(), rows, columns, stored);
            return matrix
                .map(PackedValue::Int4)
                .ok_or_else(|| self.unusable(&bytes));
        }
        let scales = self.scales(&scales)?;
        let row_scales = match self.tensors.contains(&row_scales) {
            true => self.scales(&row_scales)?,
            false => Vec::new(),
        };
        let starts: Vec<i32> = self.words(&starts)?.map(i32::from_le_bytes).collect();
        let stored = StoredInt8 {
            rows: self.rows,
            columns: self.columns,
            bytes: self.tensors.bytes(&bytes)?,
            scales: &scales,
            starts: &starts,
            row_scales: &row_scales,
        };
        let matrix = PackedInt8::from_stored(Isa::best(), stored);
        matrix
            .map(PackedValue::Int8)
            .ok_or_else(|| self.unusable(&bytes))
    }

    fn unusable(&self, name: &str) -> Error {
        Error::model("the weights cannot be used")
            .at(self.location(name))
            .expected("a matrix of at most 131072 rows")
            .found(format!("{} × {}", self.rows, self.columns))
            .hint("does config.json belong to these weights?")
    }

    fn scales(&self, name: &str) -> Result<Vec<f32>> {
        let scales: Vec<f32> = self.words(name)?.map(f32::from_le_bytes).collect();
        match scales.iter().find(|s| !s.is_finite() || **s < 0.0) {
            None => Ok(scales),
            Some(bad) => Err(Error::model("the weights are damaged")
                .at(self.location(name))
                .expected("scales that are finite and not negative")
                .found(bad.to_string())
                .hint("copy the folder again, or convert the model again")),
        }
    }

    fn words(&self, name: &str) -> Result<impl Iterator<Item = [u8; 4]>> {
        let bytes = self.tensors.bytes(name)?;
        Ok((0..bytes.len() / 4).filter_map(move |i| bytes.get(4 * i..)?.first_chunk().copied()))
    }

    fn location(&self, name: &str) -> String {
        format!("{}, tensor `{name}`", self.tensors.path().display())
    }
}

/// Writes the weights of `packed`, whose matrices are in integers, to the file of `folder`.
///
/// # Errors
/// A weight that is not finite, or a file that cannot be written.
pub(super) fn write(
    folder: &Path,
    (family, assembly): (Family, &Assembly),
    packed: &PackedWeights,
) -> Result<()> {
    let (mut parts, mut small) = (Vec::new(), Vec::new());
    for (parameter, value) in packed.parameters() {
        let names = family.names(assembly, parameter, None)?;
        let names = names.in_integers(parameter);
        let Some(name) = names.write.first() else {
            continue;
        };
        match value {
            PackedValue::Int8(matrix) => {
                refuse_infinite(name, matrix.scales())?;
                let shape = PackedInt8::stored_shape(matrix.rows(), matrix.columns());
                parts.push(Part {
                    name: name.clone(),
                    dtype: Dtype::I8,
                    shape: shape.to_vec(),
                    write: Box::new(|writer| write_all(writer, matrix.stored_bytes())),
                });
                let words = |name, dtype, words: Vec<[u8; 4]>| Part {
                    name,
                    dtype,
                    shape: vec![words.len()],
                    write: Box::new(move |writer| write_all(writer, words.iter().copied())),
                };
                let scales = matrix.scales().iter().map(|s| s.to_le_bytes()).collect();
                let starts = matrix.starts().iter().map(|s| s.to_le_bytes()).collect();
                small.push(words(scales_name(name), Dtype::F32, scales));
                small.push(words(starts_name(name), Dtype::I32, starts));
                if !matrix.row_scales().is_empty() {
                    let scales = matrix.row_scales().iter().map(|s| s.to_le_bytes());
                    let name = row_scales_name(name);
                    small.push(words(name, Dtype::F32, scales.collect()));
                }
            }
            PackedValue::Int4(matrix) => {
                refuse_infinite(name, &matrix.scales())?;
                let shape = PackedInt4::stored_shape(matrix.rows(), matrix.columns());
                parts.push(Part {
                    name: name.clone(),
                    dtype: Dtype::U8,
                    shape: shape.to_vec(),
                    write: Box::new(|writer| write_all(writer, matrix.stored_bytes())),
                });
            }
            PackedValue::Plain(numbers) => {
                refuse_infinite(name, numbers)?;
                small.push(Part {
                    name: name.clone(),
                    dtype: Dtype::F32,
                    shape: names.shape.clone(),
                    write: Box::new(|writer| {
                        write_all(writer, numbers.iter().map(|v| v.to_le_bytes()))
                    }),
                });
            }
            PackedValue::Float(_) => {
                return Err(Error::model("the weights are not in integers").at(name.clone()));
            }
        }
    }
    parts.append(&mut small);
    // Not `pt`: transformers opens only what names a framework, and these are not numbers as it knows them.
    let format = format!("hexapla-{}", packed.compute_type());
    write_parts(&folder.join(WEIGHTS_FILE), &format, parts)
}

fn write_all<const N: usize>(
    writer: &mut dyn Write,
    words: impl Iterator<Item = [u8; N]>,
) -> io::Result<()> {
    words
        .into_iter()
        .try_for_each(|word| writer.write_all(&word))
}

/// Refuses what no model has: the numbers of a tensor, or the scales of a matrix, one for each of its outputs.
pub(super) fn refuse_infinite(name: &str, numbers: &[f32]) -> Result<()> {
    match numbers.iter().position(|x| !x.is_finite()) {
        None => Ok(()),
        Some(number) => Err(Error::model("the model is not worth storing")
            .at(format!("tensor `{name}`, number {number}"))
            .expected("finite weights")
            .found("an infinity or NaN")
            .hint("the model is damaged, or its training went astray")),
    }
}

/// The numbers of the columns `range` of a packed matrix of so many rows, one column after the other.
pub(super) fn columns(matrix: &PackedValue, rows: usize, range: Range<usize>) -> Vec<f32> {
    let mut numbers = vec![0.0; rows * range.len()];
    for (j, column) in range.zip(numbers.chunks_exact_mut(rows.max(1))) {
        matrix.column(j, column);
    }
    numbers
}
