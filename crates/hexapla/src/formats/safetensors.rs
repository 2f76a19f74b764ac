//! Named tensors on disk: `model.safetensors`, or several such files with `model.safetensors.index.json`.
//!
//! A file's header is read and checked (sizes, overlaps, holes, duplicates) before any tensor's memory is asked for.
//! Tensors are then read one by one, straight to f32, so that a file is never in memory as a whole.
//! Pickled files (`pytorch_model.bin`) can run any program when Python opens them; here only what builds tensors is interpreted
//! (`pickle`), and their numbers are read where they lie.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, SeekFrom, Write};
use std::path::{Path, PathBuf};

use half::slice::HalfFloatSliceExt;
use hexapla_kernels::SharedBytes;
use safetensors::tensor::{Dtype, Metadata, TensorInfo};
use serde_json::Value;

use super::gguf::BlockFormat;
use super::location::{Fault, Location, TensorPart, Zeros};
use super::{npz, pickle};
use crate::error::{Error, Result};
use crate::files::{Folder, Opened, write_atomically};

/// The weights of a model folder.
pub const WEIGHTS_FILE: &str = "model.safetensors";
/// The weights of a folder of PyTorch's.
pub(super) const PICKLED_FILE: &str = "pytorch_model.bin";
const PICKLED_INDEX: &str = "pytorch_model.bin.index.json";
/// Says in which file each tensor lies, where there are several.
pub const INDEX_FILE: &str = "model.safetensors.index.json";
const AGAIN: &str = "copy or download the file again";
const MAX_HEADER_BYTES: u64 = 16 << 20;
const READ_BYTES: usize = 1 << 20;

/// The tensors of one or several files, to read by name.
#[derive(Debug)]
pub struct TensorStore {
    folder: Folder,
    /// The only file, where it is mapped into memory.
    mapped: Option<SharedBytes>,
    path: PathBuf,
    files: Vec<String>,
    tensors: BTreeMap<String, Entry>,
}

#[derive(Debug)]
struct Entry {
    file: usize,
    location: Location,
}

impl TensorStore {
    /// The weights of a model folder.
    ///
    /// # Errors
    /// No weights, weights in a format that is refused, or a damaged header.
    pub fn open_folder(folder: impl Into<Folder>) -> Result<Self> {
        TensorStore::open_mapped(folder.into(), None)
    }

    /// As [`TensorStore::open_folder`]; `mapped` is the file of the weights where it is mapped already.
    pub(crate) fn open_mapped(folder: Folder, mapped: Option<SharedBytes>) -> Result<Self> {
        if folder.contains(WEIGHTS_FILE) {
            let mut store = TensorStore::empty(folder, WEIGHTS_FILE);
            store.mapped = mapped;
            store.add_file(WEIGHTS_FILE)?;
            return Ok(store);
        }
        if folder.contains(INDEX_FILE) {
            return TensorStore::open_index(folder, INDEX_FILE);
        }
        if folder.contains(PICKLED_FILE) {
            return TensorStore::open_in(folder, PICKLED_FILE);
        }
        if folder.contains(PICKLED_INDEX) {
            return TensorStore::open_index(folder, PICKLED_INDEX);
        }
        Err(Error::model("the model folder has no weights")
            .at(folder.path().display().to_string())
            .expected(format!("{WEIGHTS_FILE}, {INDEX_FILE} or {PICKLED_FILE}"))
            .found("none of them")
            .hint("is this the folder of a model?"))
    }

    /// The tensors of one file.
    ///
    /// # Errors
    /// A file that cannot be read, or whose header does not fit its content.
    pub fn open_file(path: &Path) -> Result<Self> {
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.ok_or_else(|| {
            Error::model("the weights cannot be read")
                .at(path.display().to_string())
                .expected("a file with a name in UTF-8")
        })?;
        TensorStore::open_in(Folder::from(path.parent().unwrap_or(Path::new(""))), name)
    }

    /// The tensors of the file `name` of `folder`.
    ///
    /// # Errors
    /// As [`TensorStore::open_file`].
    pub(crate) fn open_in(folder: Folder, name: &str) -> Result<Self> {
        let mut store = TensorStore::empty(folder, name);
        store.add_file(name)?;
        Ok(store)
    }

    /// The tensors of the file `name` of `folder`, which lie there.
    pub(super) fn of_locations(
        folder: Folder,
        name: &str,
        locations: BTreeMap<String, Location>,
    ) -> Self {
        let mut store = TensorStore::empty(folder, name);
        store.files.push(name.to_string());
        let entry = |(name, location)| (name, Entry { file: 0, location });
        store.tensors = locations.into_iter().map(entry).collect();
        store
    }

    fn empty(folder: Folder, name: &str) -> Self {
        TensorStore {
            path: folder.path_of(name),
            mapped: None,
            folder,
            files: Vec::new(),
            tensors: BTreeMap::new(),
        }
    }

    fn open_index(folder: Folder, index: &str) -> Result<Self> {
        let path = folder.path_of(index);
        let damaged = |found: String| {
            Error::model("the index of the weights cannot be used")
                .at(path.display().to_string())
                .expected("`weight_map`: a file of this folder for each tensor")
                .found(found)
                .hint(AGAIN)
        };
        let content: Value = serde_json::from_slice(&folder.read(index, MAX_HEADER_BYTES)?)
            .map_err(|e| damaged(e.to_string()))?;
        let map = content
            .get("weight_map")
            .and_then(Value::as_object)
            .ok_or_else(|| damaged("no `weight_map`".into()))?;
        let mut store = TensorStore::empty(folder, index);
        let mut numbers = BTreeMap::new();
        for (tensor, file) in map {
            let file = file
                .as_str()
                .filter(|name| is_plain_name(name))
                .ok_or_else(|| damaged(format!("{file} as the file of `{tensor}`")))?;
            if !numbers.contains_key(file) {
                numbers.insert(file, store.files.len());
                store.add_file(file)?;
            }
        }
        for (tensor, file) in map {
            let number = file.as_str().and_then(|name| numbers.get(name));
            if store.tensors.get(tensor).map(|entry| &entry.file) != number {
                return Err(damaged(format!("`{tensor}`, which is not in {file}")));
            }
        }
        Ok(store)
    }

    fn add_file(&mut self, name: &str) -> Result<()> {
        let path = self.folder.path_of(name);
        let number = self.files.len();
        let refuse = |hint: &'static str| {
            let path = path.display().to_string();
            move |(expected, found): Fault| {
                Error::model("the weights cannot be used")
                    .at(path)
                    .expected(expected)
                    .found(found)
                    .hint(hint)
            }
        };
        let opened = self.open(name)?;
        let locations = match name.rsplit('.').next() {
            Some("bin" | "pt" | "pth") => pickle::read(opened.0).map_err(refuse("only files that hold tensors alone are read: save the model's state_dict() anew, or as safetensors"))?,
            Some("npz") => npz::read(opened.0).map_err(refuse(AGAIN))?,
            _ => read_header(&path, opened)?,
        };
        self.files.push(name.to_string());
        for (name, location) in locations {
            let entry = Entry {
                file: number,
                location,
            };
            if self.tensors.insert(name.clone(), entry).is_some() {
                return Err(Error::model("a tensor is in two files")
                    .at(path.display().to_string())
                    .expected("each tensor in one file")
                    .found(name)
                    .hint(AGAIN));
            }
        }
        Ok(())
    }

    /// Gives the matrix called `name` a row (`axis` 0) or a column (`axis` 1) of zeros more than the file has.
    ///
    /// # Errors
    /// There is no such matrix.
    pub(super) fn add_zeros(&mut self, name: &str, axis: usize) -> Result<()> {
        let entry = self.tensors.get_mut(name);
        if entry.is_some_and(|entry| entry.location.add_zeros(axis)) {
            return Ok(());
        }
        Err(self
            .error("a tensor is missing", name)
            .expected("a matrix")
            .found(format!("{:?}", self.shape(name).unwrap_or_default())))
    }

    /// Gives tensors other names: each of `names` is a part of one. Those in `ignored` are there no more.
    ///
    /// # Errors
    /// A tensor is missing, or cannot be divided so.
    pub(super) fn rename(
        &mut self,
        names: &[(&str, TensorPart)],
        ignored: &[String],
    ) -> Result<()> {
        let mut renamed = BTreeMap::new();
        for (name, part) in names {
            let there = self.tensors.get(&part.tensor).and_then(|entry| {
                let location = entry.location.part(part.number, part.of)?;
                Some(Entry {
                    file: entry.file,
                    location,
                })
            });
            let entry = there.ok_or_else(|| {
                let shape = self.shape(&part.tensor);
                self.error("a tensor is missing", &part.tensor)
                    .expected(format!("rows in {} equal parts, for `{name}`", part.of))
                    .found(shape.map_or("no tensor of that name".into(), |s| format!("{s:?}")))
            })?;
            renamed.insert(name.to_string(), entry);
        }
        let used = |name: &String| names.iter().any(|(_, part)| part.tensor == *name);
        self.tensors
            .retain(|name, _| !used(name) && !ignored.contains(name));
        self.tensors.append(&mut renamed);
        Ok(())
    }

    /// The file that the store was opened from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The names of all tensors, in alphabetical order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Whether there is a tensor called `name`.
    pub fn contains(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// The shape of the tensor called `name`.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.tensors
            .get(name)
            .map(|entry| entry.location.shape.as_slice())
    }

    /// Refuses a tensor that is missing, has another shape or holds something else than f32, f16 or bf16.
    ///
    /// # Errors
    /// Names the tensor, what was expected and what was found.
    pub fn check(&self, name: &str, shape: &[usize]) -> Result<()> {
        self.check_as(name, shape, &[Dtype::F32, Dtype::F16, Dtype::BF16])
    }

    /// As [`TensorStore::check`], for tensors that hold one of `types`.
    pub(crate) fn check_as(&self, name: &str, shape: &[usize], types: &[Dtype]) -> Result<()> {
        let entry = self.entry(name, shape)?;
        if entry.location.shape != shape {
            return Err(self
                .error("a tensor has the wrong shape", name)
                .expected(format!("{shape:?}"))
                .found(format!("{:?}", entry.location.shape)));
        }
        let is_in_blocks = entry.location.blocks.is_some() && types.contains(&Dtype::F32);
        if !is_in_blocks && !types.contains(&entry.location.dtype) {
            let names: Vec<String> = types.iter().map(|t| format!("{t:?}")).collect();
            return Err(self
                .error("a tensor has a type that is not supported", name)
                .expected(either(&names))
                .found(format!("{:?}", entry.location.dtype)));
        }
        Ok(())
    }

    /// Reads the tensor called `name`, of this shape, as f32 in row order.
    ///
    /// # Errors
    /// As [`TensorStore::check`]; and a file that ends early.
    pub fn read(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let mut values = Vec::new();
        self.reader(name, shape)?
            .read(shape.iter().product(), &mut values)?;
        Ok(values)
    }

    /// As [`TensorStore::read`], of bytes and whole numbers too.
    ///
    /// # Errors
    /// As [`TensorStore::read`].
    pub(crate) fn read_small(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        use Dtype::{BF16, F16, F32, F64, I8, I32, I64};
        self.check_as(name, shape, &[F32, F16, BF16, F64, I8, I32, I64])?;
        let mut values = Vec::new();
        self.reader_of(name, shape)?
            .read(shape.iter().product(), &mut values)?;
        Ok(values)
    }

    /// Reads the tensor called `name`, of this shape, in row order piece by piece.
    ///
    /// # Errors
    /// As [`TensorStore::check`].
    pub fn reader(&self, name: &str, shape: &[usize]) -> Result<TensorReader> {
        self.check(name, shape)?;
        self.reader_of(name, shape)
    }

    /// Of a tensor whose shape and type were checked.
    fn reader_of(&self, name: &str, shape: &[usize]) -> Result<TensorReader> {
        let entry = self.entry(name, shape)?;
        let file = self.files.get(entry.file).map_or("", String::as_str);
        let (mut opened, _) = self.open(file)?;
        let path = self.folder.path_of(file);
        opened
            .seek(SeekFrom::Start(entry.location.start))
            .map_err(|e| Error::io("cannot read the weights", &path, &e))?;
        Ok(TensorReader {
            opened,
            dtype: entry.location.dtype,
            blocks: entry.location.blocks,
            zeros: entry.location.zeros,
            since_zeros: 0,
            name: name.to_string(),
            path,
            buffer: Vec::new(),
        })
    }

    /// The file `name` to read parts of, and its length.
    fn open(&self, name: &str) -> Result<(Box<dyn Opened>, u64)> {
        match &self.mapped {
            Some(bytes) => Ok((Box::new(io::Cursor::new(bytes.clone())), bytes.len() as u64)),
            None => self.folder.open(name),
        }
    }

    /// Maps the weights into memory, so that [`TensorStore::bytes`] can lend them.
    ///
    /// # Errors
    /// They lie in several files, or the file cannot be mapped.
    pub(crate) fn map(&mut self) -> Result<()> {
        let [file] = self.files.as_slice() else {
            return Err(Error::model("weights in int8 must be in one file")
                .at(self.path.display().to_string())
                .expected(WEIGHTS_FILE)
                .found(format!("{} files", self.files.len()))
                .hint("convert the model again with `hexapla convert`"));
        };
        if self.mapped.is_none() {
            self.mapped = Some(self.folder.map(file)?);
        }
        Ok(())
    }

    /// The bytes of the tensor called `name` where they lie in the mapped file.
    ///
    /// # Errors
    /// There is no such tensor, the file is not mapped, or it has become shorter since its header was read.
    pub(crate) fn bytes(&self, name: &str) -> Result<SharedBytes> {
        let part = self.tensors.get(name).and_then(|entry| {
            let start = usize::try_from(entry.location.start).ok()?;
            let end = start.checked_add(usize::try_from(entry.location.bytes).ok()?)?;
            self.mapped.as_ref()?.slice(start..end)
        });
        part.ok_or_else(|| {
            self.error("a tensor cannot be read", name)
                .expected("its bytes in the mapped file")
                .found("a shorter file")
        })
    }

    fn entry(&self, name: &str, shape: &[usize]) -> Result<&Entry> {
        self.tensors.get(name).ok_or_else(|| {
            self.error("a tensor is missing", name)
                .expected(format!("{shape:?}"))
                .found("no tensor of that name")
        })
    }

    fn error(&self, what: &str, name: &str) -> Error {
        Error::model(what)
            .at(format!("{}, tensor `{name}`", self.path.display()))
            .hint("does config.json belong to these weights?")
    }
}

/// A tensor being read.
pub struct TensorReader {
    opened: Box<dyn Opened>,
    dtype: Dtype,
    blocks: Option<BlockFormat>,
    zeros: Option<Zeros>,
    /// Numbers since the last zeros that are not in the file.
    since_zeros: usize,
    name: String,
    path: PathBuf,
    buffer: Vec<u8>,
}

impl TensorReader {
    /// Puts the next `count` numbers in `values`, in place of what it holds. The caller asks for no more than there are, and for whole
    /// blocks where they lie in blocks.
    ///
    /// # Errors
    /// A file that ends early or cannot be read.
    pub fn read(&mut self, count: usize, values: &mut Vec<f32>) -> Result<()> {
        values.clear();
        values.reserve(count);
        if let Some(blocks) = self.blocks {
            return self.read_blocks(blocks, count, values);
        }
        let width = self.dtype.bitsize() / 8;
        while values.len() < count {
            let mut wanted = (READ_BYTES / width).min(count - values.len());
            if let Some(zeros) = self.zeros {
                if self.since_zeros >= zeros.after {
                    let left = zeros.after + zeros.count - self.since_zeros;
                    let now = left.min(count - values.len());
                    values.resize(values.len() + now, 0.0);
                    self.since_zeros = if now == left {
                        0
                    } else {
                        self.since_zeros + now
                    };
                    continue;
                }
                wanted = wanted.min(zeros.after - self.since_zeros);
                self.since_zeros += wanted;
            }
            let bytes = wanted * width;
            self.buffer.resize(bytes, 0);
            self.opened.read_exact(&mut self.buffer).map_err(|e| {
                let what = format!("cannot read the tensor `{}`", self.name);
                Error::io(what, &self.path, &e)
            })?;
            append_f32(&self.buffer, self.dtype, values);
        }
        Ok(())
    }

    fn read_blocks(
        &mut self,
        blocks: BlockFormat,
        count: usize,
        values: &mut Vec<f32>,
    ) -> Result<()> {
        let mut left = count / blocks.numbers();
        while left > 0 {
            let now = left.min(READ_BYTES / blocks.bytes());
            self.buffer.resize(now * blocks.bytes(), 0);
            self.opened.read_exact(&mut self.buffer).map_err(|e| {
                let what = format!("cannot read the tensor `{}`", self.name);
                Error::io(what, &self.path, &e)
            })?;
            blocks.append(&self.buffer, values);
            left -= now;
        }
        Ok(())
    }
}

/// `F32, F16 or BF16`
fn either(names: &[String]) -> String {
    match names {
        [first @ .., last] if !first.is_empty() => format!("{} or {last}", first.join(", ")),
        _ => names.concat(),
    }
}

/// Where the tensors lie, by the checked header.
fn read_header(
    path: &Path,
    (mut file, length): (Box<dyn Opened>, u64),
) -> Result<BTreeMap<String, Location>> {
    let damaged = |expected: String, found: String| {
        Error::model("the weights are damaged")
            .at(path.display().to_string())
            .expected(expected)
            .found(found)
            .hint(AGAIN)
    };
    let failed = |e: io::Error| Error::io("cannot read the weights", path, &e);
    let mut size = [0; 8];
    if length < 8 {
        return Err(damaged(
            "a safetensors file".into(),
            format!("a file of {length} bytes"),
        ));
    }
    file.read_exact(&mut size).map_err(failed)?;
    let size = u64::from_le_bytes(size);
    if size > MAX_HEADER_BYTES || size > length - 8 {
        return Err(damaged(
            format!(
                "a header of at most {} bytes",
                MAX_HEADER_BYTES.min(length - 8)
            ),
            format!("{size}"),
        ));
    }
    let mut header = vec![0; size as usize];
    file.read_exact(&mut header).map_err(failed)?;
    // Parsing checks that the tensors lie end to end and that each one's length fits its shape and type.
    let header: Metadata = serde_json::from_slice(&header)
        .map_err(|e| damaged("a safetensors header".into(), e.to_string()))?;
    let expected = (8 + size).saturating_add(header.data_len() as u64);
    if expected != length {
        return Err(damaged(
            format!("{expected} bytes"),
            format!("{length} bytes"),
        ));
    }
    let tensors = header.tensors().into_iter().map(|(name, info)| {
        let location = Location {
            start: 8 + size + info.data_offsets.0 as u64,
            bytes: (info.data_offsets.1 - info.data_offsets.0) as u64,
            dtype: info.dtype,
            shape: info.shape.clone(),
            zeros: None,
            blocks: None,
        };
        (name, location)
    });
    Ok(tensors.collect())
}

fn append_f32(bytes: &[u8], dtype: Dtype, values: &mut Vec<f32>) {
    let (words, _) = bytes.as_chunks::<2>();
    let start = values.len();
    match dtype {
        Dtype::F16 => {
            let halves: Vec<half::f16> =
                words.iter().map(|w| half::f16::from_le_bytes(*w)).collect();
            values.resize(start + halves.len(), 0.0);
            halves.convert_to_f32_slice(values.get_mut(start..).unwrap_or_default());
        }
        Dtype::I8 => values.extend(bytes.iter().map(|b| f32::from(*b as i8))),
        Dtype::I32 => {
            let (words, _) = bytes.as_chunks::<4>();
            values.extend(words.iter().map(|w| i32::from_le_bytes(*w) as f32));
        }
        Dtype::I64 => {
            let (words, _) = bytes.as_chunks::<8>();
            values.extend(words.iter().map(|w| i64::from_le_bytes(*w) as f32));
        }
        Dtype::F64 => {
            let (words, _) = bytes.as_chunks::<8>();
            values.extend(words.iter().map(|w| f64::from_le_bytes(*w) as f32));
        }
        Dtype::BF16 => values.extend(words.iter().map(|w| half::bf16::from_le_bytes(*w).to_f32())),
        _ => values.extend(
            bytes
                .as_chunks::<4>()
                .0
                .iter()
                .map(|w| f32::from_le_bytes(*w)),
        ),
    }
}

/// A tensor to write.
#[derive(Debug, Clone)]
pub struct NamedTensor<'a> {
    /// Its name in the file.
    pub name: String,
    /// Its shape in the file.
    pub shape: Vec<usize>,
    /// Its numbers in row order; with `transposed`, those of the transposed matrix.
    pub data: &'a [f32],
    /// The file holds the transpose of `data`.
    pub transposed: bool,
}

/// Writes f32 tensors to `path`, whole or not at all, in the order and alignment that safetensors prescribes.
///
/// # Errors
/// A tensor whose shape does not fit its data, two of one name, or a file that cannot be written.
pub fn write_tensors(path: &Path, mut tensors: Vec<NamedTensor<'_>>) -> Result<()> {
    tensors.sort_by(|a, b| a.name.cmp(&b.name));
    let misfit = |t: &&NamedTensor<'_>| t.shape.iter().product::<usize>() != t.data.len();
    if let Some(tensor) = tensors.iter().find(misfit) {
        return Err(Error::internal("the tensors cannot be written")
            .at(format!("{}, tensor `{}`", path.display(), tensor.name))
            .expected(format!("{:?} numbers", tensor.shape))
            .found(tensor.data.len().to_string()));
    }
    let parts = tensors.iter().map(|tensor| Part {
        name: tensor.name.clone(),
        dtype: Dtype::F32,
        shape: tensor.shape.clone(),
        write: Box::new(|writer| write_values(writer, tensor)),
    });
    // transformers opens a file only where it names a framework.
    write_parts(path, "pt", parts.collect())
}

type WriteBytes<'a> = Box<dyn Fn(&mut dyn Write) -> io::Result<()> + 'a>;

/// A tensor of any type to write.
pub(crate) struct Part<'a> {
    pub(crate) name: String,
    pub(crate) dtype: Dtype,
    pub(crate) shape: Vec<usize>,
    /// Writes as many bytes as type and shape say.
    pub(crate) write: WriteBytes<'a>,
}

/// Writes `parts` to `path` in this order, whole or not at all; the first one's bytes start at a multiple of 64. `format`
/// is told in the header.
///
/// # Errors
/// As [`write_tensors`].
pub(crate) fn write_parts(path: &Path, format: &str, parts: Vec<Part<'_>>) -> Result<()> {
    let refused = |found: String| {
        Error::internal("the tensors cannot be written")
            .at(path.display().to_string())
            .found(found)
    };
    let mut infos = Vec::with_capacity(parts.len());
    let mut names = BTreeSet::new();
    let mut end = 0;
    for part in &parts {
        let start = end;
        end += part.shape.iter().product::<usize>() * part.dtype.bitsize() / 8;
        let info = TensorInfo {
            dtype: part.dtype,
            shape: part.shape.clone(),
            data_offsets: (start, end),
        };
        if !names.insert(&part.name) {
            return Err(refused(format!("two tensors called `{}`", part.name)));
        }
        infos.push((part.name.clone(), info));
    }
    let format = [("format".to_string(), format.to_string())].into();
    let header = Metadata::new(Some(format), infos).map_err(|e| refused(e.to_string()))?;
    let mut header = serde_json::to_vec(&header).map_err(|e| refused(e.to_string()))?;
    header.resize((header.len() + 8).next_multiple_of(64) - 8, b' ');
    write_atomically(path, |writer| {
        writer.write_all(&(header.len() as u64).to_le_bytes())?;
        writer.write_all(&header)?;
        parts.iter().try_for_each(|part| (part.write)(writer))
    })
}

fn write_values(writer: &mut dyn Write, tensor: &NamedTensor<'_>) -> io::Result<()> {
    let mut put = |values: &[f32]| {
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        writer.write_all(&bytes)
    };
    match (tensor.transposed, tensor.shape.as_slice()) {
        (true, [rows, columns]) => put(&transpose(tensor.data, *columns, *rows)),
        _ => tensor.data.chunks(READ_BYTES / 4).try_for_each(put),
    }
}

/// The transpose `[columns, rows]` of a matrix `[rows, columns]` in row order.
pub fn transpose(matrix: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    debug_assert_eq!(matrix.len(), rows * columns);
    let mut turned = Vec::with_capacity(matrix.len());
    for column in 0..columns {
        turned.extend(matrix.iter().skip(column).step_by(columns));
    }
    turned
}

/// Whether `name` names a file in this folder, or in one inside it.
pub(crate) fn is_inner_name(name: &str) -> bool {
    match name.split_once('/') {
        Some((folder, file)) => is_plain_name(folder) && is_plain_name(file),
        None => is_plain_name(name),
    }
}

/// Whether `name` names a file in this very folder: no separator, no parent, not hidden.
pub(crate) fn is_plain_name(name: &str) -> bool {
    !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\\', '\0'])
}
