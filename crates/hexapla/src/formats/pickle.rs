//! PyTorch's files of weights (`pytorch_model.bin`): a zip archive whose `data.pkl` is a program for Python's pickle machine, and
//! whose other files are the numbers.
//!
//! No program is run here. Of the machine's instructions those are interpreted that build a dictionary of tensors, and of the
//! names that these may call, the few that tensors need: everything else is refused by name. The numbers are then read where
//! they lie in the archive, as those of a safetensors file are.

use std::collections::{BTreeMap, HashMap};
use std::io::{Read, Seek};
use std::rc::Rc;

use safetensors::tensor::Dtype;

use super::location::{Fault, Location};

/// Largest program.
const MAX_PROGRAM: u64 = 64 << 20;
/// Most dimensions of a tensor.
const MAX_RANK: usize = 8;

fn fault(expected: impl Into<String>, found: impl Into<String>) -> Fault {
    (expected.into(), found.into())
}

/// The tensors of an archive, by name.
///
/// # Errors
/// No such archive, a program that does something else than building a dictionary of tensors, or numbers that are not there.
pub(super) fn read(file: impl Read + Seek) -> Result<BTreeMap<String, Location>, Fault> {
    let archive = "a zip archive, as torch.save has written them since version 1.6";
    let broken = |e: zip::result::ZipError| fault(archive, e.to_string());
    let mut zip = zip::ZipArchive::new(file).map_err(broken)?;
    let program = {
        let mut names = zip.file_names().filter_map(|name| name.ok());
        let program = names.find(|name| name.ends_with("/data.pkl"));
        program.map(|name| name.into_owned())
    };
    let program = program.ok_or_else(|| fault(archive, "no data.pkl in it"))?;
    let prefix = program.trim_end_matches("data.pkl").to_string();
    let mut bytes = Vec::new();
    let entry = zip.by_name(&program).map_err(broken)?;
    let read = entry.take(MAX_PROGRAM + 1).read_to_end(&mut bytes);
    read.map_err(|e| fault(archive, e.to_string()))?;
    if bytes.len() as u64 > MAX_PROGRAM {
        return Err(fault(
            format!("a data.pkl of at most {MAX_PROGRAM} bytes"),
            "a longer one",
        ));
    }
    if let Ok(mut order) = zip.by_name(&format!("{prefix}byteorder")) {
        let mut text = String::new();
        let _ = order.by_ref().take(16).read_to_string(&mut text);
        if text != "little" {
            return Err(fault("numbers with their lowest byte first", text));
        }
    }
    let mut tensors = BTreeMap::new();
    for (name, tensor) in Machine::new(&bytes).run()? {
        let file = format!("{prefix}data/{}", tensor.storage.key);
        let entry = zip.by_name(&file).map_err(broken)?;
        if entry.compression() != zip::CompressionMethod::Stored {
            return Err(fault(
                "numbers that are not compressed",
                format!("{file}, compressed"),
            ));
        }
        let (start, length) = (entry.data_start(), entry.size());
        let start = start.ok_or_else(|| fault(archive, format!("no place of {file}")))?;
        let location = tensor.location(start, length);
        let location = location.ok_or_else(|| {
            let found = format!("{:?} with the steps {:?}", tensor.shape, tensor.strides);
            fault(
                format!("tensor `{name}` in row order within its {length} bytes"),
                found,
            )
        })?;
        tensors.insert(name, location);
    }
    Ok(tensors)
}

/// A file of numbers.
#[derive(Debug)]
struct Storage {
    dtype: Dtype,
    key: Rc<str>,
}

/// A view of such a file.
#[derive(Debug)]
struct Tensor {
    storage: Rc<Storage>,
    offset: usize,
    shape: Vec<usize>,
    strides: Vec<usize>,
}

impl Tensor {
    /// Where its numbers lie in a file of `length` bytes that starts at `start`; nothing where it is no part of it, or not in row
    /// order.
    fn location(&self, start: u64, length: u64) -> Option<Location> {
        let mut count = 1usize;
        for (size, stride) in self.shape.iter().zip(&self.strides).rev() {
            if *size != 1 && *stride != count {
                return None;
            }
            count = count.checked_mul(*size)?;
        }
        let width = (self.storage.dtype.bitsize() / 8) as u64;
        let first = (self.offset as u64).checked_mul(width)?;
        let bytes = (count as u64).checked_mul(width)?;
        (first.checked_add(bytes)? <= length).then(|| Location {
            start: start + first,
            bytes,
            dtype: self.storage.dtype,
            shape: self.shape.clone(),
            zeros: None,
            blocks: None,
        })
    }
}

/// What the machine's instructions put on its stack.
#[derive(Debug, Clone)]
enum Value {
    None,
    Bool,
    Number(i64),
    Real,
    Text(Rc<str>),
    /// Its items, and how deep tuples lie in it.
    Tuple(Rc<Vec<Value>>, usize),
    /// A list or dictionary, by its number.
    Container(usize),
    Callable(Callable),
    Storage(Rc<Storage>),
    Tensor(Rc<Tensor>),
}

/// What a program may call.
#[derive(Debug, Clone, Copy)]
enum Callable {
    OrderedDict,
    Tensor,
    Parameter,
    Storage(Dtype),
}

impl Callable {
    fn named(module: &str, name: &str) -> Option<Self> {
        Some(match (module, name) {
            ("collections", "OrderedDict") => Callable::OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2") => Callable::Tensor,
            ("torch._utils", "_rebuild_parameter") => Callable::Parameter,
            ("torch", name) => Callable::Storage(match name {
                "FloatStorage" => Dtype::F32,
                "HalfStorage" => Dtype::F16,
                "BFloat16Storage" => Dtype::BF16,
                "DoubleStorage" => Dtype::F64,
                "LongStorage" => Dtype::I64,
                "IntStorage" => Dtype::I32,
                "ShortStorage" => Dtype::I16,
                "CharStorage" => Dtype::I8,
                "ByteStorage" => Dtype::U8,
                "BoolStorage" => Dtype::BOOL,
                _ => return None,
            }),
            _ => return None,
        })
    }
}

/// The pickle machine, as far as tensors need it.
struct Machine<'a> {
    program: &'a [u8],
    at: usize,
    stack: Vec<Value>,
    /// Where the open marks stand in the stack.
    marks: Vec<usize>,
    memory: HashMap<u32, Value>,
    /// Lists and dictionaries; of the latter keys and values in turn.
    containers: Vec<Vec<Value>>,
}

impl<'a> Machine<'a> {
    fn new(program: &'a [u8]) -> Self {
        Machine {
            program,
            at: 0,
            stack: Vec::new(),
            marks: Vec::new(),
            memory: HashMap::new(),
            containers: Vec::new(),
        }
    }

    /// The dictionary that the program makes.
    fn run(mut self) -> Result<Vec<(String, Rc<Tensor>)>, Fault> {
        while self.step()? {}
        let expected = "a dictionary of tensors";
        let Some(Value::Container(number)) = self.stack.pop() else {
            return Err(fault(expected, "something else"));
        };
        let (pairs, rest) = self.containers[number].as_chunks::<2>();
        let pair = |[name, value]: &[Value; 2]| match (name, value) {
            (Value::Text(name), Value::Tensor(tensor)) => Ok((name.to_string(), tensor.clone())),
            (Value::Text(name), _) => Err(fault(expected, format!("`{name}`, which is none"))),
            _ => Err(fault(expected, "a name that is no text")),
        };
        match rest {
            [] => pairs.iter().map(pair).collect(),
            _ => Err(fault(expected, "a list")),
        }
    }

    /// One instruction; false at the end.
    fn step(&mut self) -> Result<bool, Fault> {
        let at = self.at;
        match self.byte()? {
            // Protocol, frame, end.
            0x80 => drop(self.take(1)?),
            0x95 => drop(self.take(8)?),
            b'.' => return Ok(false),
            // Constants.
            b'N' => self.stack.push(Value::None),
            0x88 | 0x89 => self.stack.push(Value::Bool),
            b'K' => {
                let number = i64::from(self.byte()?);
                self.stack.push(Value::Number(number));
            }
            b'M' => {
                let number = u16::from_le_bytes(self.array()?);
                self.stack.push(Value::Number(number.into()));
            }
            b'J' => {
                let number = i32::from_le_bytes(self.array()?);
                self.stack.push(Value::Number(number.into()));
            }
            0x8a => {
                let count = self.byte()?.into();
                let bytes = self.take(count)?;
                let mut word = [0; 8];
                let Some(low) = word.get_mut(..count) else {
                    return Err(fault(
                        "numbers of at most 64 bits",
                        format!("{} bits", 8 * count),
                    ));
                };
                low.copy_from_slice(bytes);
                let shift = 64 - 8 * count as u32;
                let number = i64::from_le_bytes(word)
                    .checked_shl(shift)
                    .map_or(0, |n| n >> shift);
                self.stack.push(Value::Number(number));
            }
            b'G' => {
                self.take(8)?;
                self.stack.push(Value::Real);
            }
            b'X' => {
                let count = u32::from_le_bytes(self.array()?);
                self.text(count as usize)?;
            }
            0x8c => {
                let count = self.byte()?;
                self.text(count.into())?;
            }
            // Containers.
            b'(' => self.marks.push(self.stack.len()),
            b')' => self.tuple(Vec::new())?,
            b'}' | b']' => {
                self.containers.push(Vec::new());
                self.stack.push(Value::Container(self.containers.len() - 1));
            }
            b't' => {
                let items = self.since_mark()?;
                self.tuple(items)?;
            }
            code @ 0x85..=0x87 => {
                let count = usize::from(code - 0x84);
                let first = self.stack.len().checked_sub(count).ok_or_else(too_short)?;
                let items = self.stack.split_off(first);
                self.tuple(items)?;
            }
            b'a' => {
                let item = self.pop()?;
                self.add(vec![item])?;
            }
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.add(vec![key, value])?;
            }
            b'e' | b'u' => {
                let items = self.since_mark()?;
                self.add(items)?;
            }
            // Memory.
            b'q' => {
                let number = self.byte()?;
                self.remember(number.into())?;
            }
            b'r' => {
                let number = u32::from_le_bytes(self.array()?);
                self.remember(number)?;
            }
            0x94 => self.remember(self.memory.len() as u32)?,
            b'h' => {
                let number = self.byte()?;
                self.recall(number.into())?;
            }
            b'j' => {
                let number = u32::from_le_bytes(self.array()?);
                self.recall(number)?;
            }
            // Names and calls.
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.global(&module, &name)?;
            }
            0x93 => {
                let (Value::Text(name), Value::Text(module)) = (self.pop()?, self.pop()?) else {
                    return Err(fault("a module and a name", "something else"));
                };
                self.global(&module, &name)?;
            }
            b'Q' => {
                let storage = self.storage()?;
                self.stack.push(Value::Storage(storage));
            }
            b'R' => self.call()?,
            // What is set on a dictionary beside its content has no use here.
            b'b' => {
                self.pop()?;
                match self.stack.last() {
                    Some(Value::Container(_)) => (),
                    _ => return Err(fault("a state of a dictionary alone", "of something else")),
                }
            }
            other => {
                return Err(fault(
                    "instructions that build tensors, and no others",
                    format!("instruction {other:#04x} at byte {at} of data.pkl"),
                ));
            }
        }
        Ok(true)
    }

    fn byte(&mut self) -> Result<u8, Fault> {
        self.array().map(|[byte]| byte)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let bytes = self.take(N)?.first_chunk();
        bytes.copied().ok_or_else(too_short)
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], Fault> {
        let rest = self.program.get(self.at..).unwrap_or_default();
        let bytes = rest.get(..count).ok_or_else(too_short)?;
        self.at += count;
        Ok(bytes)
    }

    fn line(&mut self) -> Result<String, Fault> {
        let rest = self.program.get(self.at..).unwrap_or_default();
        let end = rest
            .iter()
            .position(|byte| *byte == b'\n')
            .ok_or_else(too_short)?;
        let line = self.take(end)?;
        self.at += 1;
        Ok(String::from_utf8_lossy(line).into_owned())
    }

    fn text(&mut self, count: usize) -> Result<(), Fault> {
        let text = std::str::from_utf8(self.take(count)?);
        let text = text.map_err(|e| fault("text in UTF-8", e.to_string()))?;
        self.stack.push(Value::Text(text.into()));
        Ok(())
    }

    /// No deeper than a tensor's arguments are: what is deep would be left by as many calls as it is deep.
    fn tuple(&mut self, items: Vec<Value>) -> Result<(), Fault> {
        let depths = items.iter().map(|item| match item {
            Value::Tuple(_, depth) => depth + 1,
            _ => 0,
        });
        let depth = depths.max().unwrap_or(0);
        if depth > MAX_RANK {
            return Err(fault("the arguments of a tensor", "tuples within tuples"));
        }
        self.stack.push(Value::Tuple(items.into(), depth));
        Ok(())
    }

    fn pop(&mut self) -> Result<Value, Fault> {
        self.stack.pop().ok_or_else(too_short)
    }

    fn since_mark(&mut self) -> Result<Vec<Value>, Fault> {
        let mark = self.marks.pop().filter(|mark| *mark <= self.stack.len());
        Ok(self.stack.split_off(mark.ok_or_else(too_short)?))
    }

    /// Adds to the list or dictionary on top of the stack.
    fn add(&mut self, items: Vec<Value>) -> Result<(), Fault> {
        let Some(Value::Container(number)) = self.stack.last() else {
            return Err(fault("a list or a dictionary", "something else"));
        };
        self.containers[*number].extend(items);
        Ok(())
    }

    fn remember(&mut self, number: u32) -> Result<(), Fault> {
        let top = self.stack.last().ok_or_else(too_short)?;
        self.memory.insert(number, top.clone());
        Ok(())
    }

    fn recall(&mut self, number: u32) -> Result<(), Fault> {
        let value = self.memory.get(&number).ok_or_else(too_short)?;
        self.stack.push(value.clone());
        Ok(())
    }

    fn global(&mut self, module: &str, name: &str) -> Result<(), Fault> {
        let known = Callable::named(module, name).ok_or_else(|| {
            let found = format!("{module}.{name}")
                .chars()
                .take(80)
                .collect::<String>();
            fault("names that tensors need, and no others", found)
        })?;
        self.stack.push(Value::Callable(known));
        Ok(())
    }

    /// `("storage", type, key, location, count)`.
    fn storage(&mut self) -> Result<Rc<Storage>, Fault> {
        let wrong = || fault("a file of numbers", "something else");
        let Value::Tuple(parts, _) = self.pop()? else {
            return Err(wrong());
        };
        match parts.as_slice() {
            [
                Value::Text(kind),
                Value::Callable(Callable::Storage(dtype)),
                Value::Text(key),
                ..,
            ] if &**kind == "storage" => Ok(Rc::new(Storage {
                dtype: *dtype,
                key: key.clone(),
            })),
            _ => Err(wrong()),
        }
    }

    fn call(&mut self) -> Result<(), Fault> {
        let wrong = || fault("the arguments of a tensor", "others");
        let (arguments, called) = (self.pop()?, self.pop()?);
        let (Value::Tuple(arguments, _), Value::Callable(called)) = (arguments, called) else {
            return Err(wrong());
        };
        let value = match (called, arguments.as_slice()) {
            (Callable::OrderedDict, []) => {
                self.containers.push(Vec::new());
                Value::Container(self.containers.len() - 1)
            }
            (Callable::Parameter, [tensor @ Value::Tensor(_), ..]) => tensor.clone(),
            (
                Callable::Tensor,
                [
                    Value::Storage(storage),
                    Value::Number(offset),
                    Value::Tuple(shape, _),
                    Value::Tuple(strides, _),
                    ..,
                ],
            ) => {
                let sizes = |list: &[Value]| -> Option<Vec<usize>> {
                    let size = |value: &Value| match value {
                        Value::Number(n) => usize::try_from(*n).ok(),
                        _ => None,
                    };
                    list.iter().map(size).collect()
                };
                let (shape, strides) = (sizes(shape), sizes(strides));
                let (shape, strides) = (shape.ok_or_else(wrong)?, strides.ok_or_else(wrong)?);
                if shape.len() != strides.len() || shape.len() > MAX_RANK {
                    return Err(wrong());
                }
                Value::Tensor(Rc::new(Tensor {
                    storage: storage.clone(),
                    offset: usize::try_from(*offset).map_err(|_| wrong())?,
                    shape,
                    strides,
                }))
            }
            _ => return Err(wrong()),
        };
        self.stack.push(value);
        Ok(())
    }
}

fn too_short() -> Fault {
    fault(
        "a whole data.pkl",
        "one that ends early, or takes more than there is",
    )
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Write};

    use proptest::prelude::*;

    use super::*;

    /// `{"w": a tensor of 2 × 3 f32 from the second on}`, as torch.save writes it.
    fn program() -> Vec<u8> {
        let mut p =
            b"\x80\x02}q\x00X\x01\x00\x00\x00wctorch._utils\n_rebuild_tensor_v2\nq\x01(".to_vec();
        p.extend(b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x08tQ");
        p.extend(b"K\x01K\x02K\x03\x86K\x03K\x01\x86\x89ccollections\nOrderedDict\n)RtRs.");
        p
    }

    fn archive(program: &[u8], numbers: &[u8]) -> Vec<u8> {
        let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
        let options = zip::write::SimpleFileOptions::default()
            .compression_method(zip::CompressionMethod::Stored);
        for (name, bytes) in [("model/data.pkl", program), ("model/data/0", numbers)] {
            zip.start_file(name, options).unwrap();
            zip.write_all(bytes).unwrap();
        }
        zip.finish().unwrap().into_inner()
    }

    #[test]
    fn tensors_are_found_where_they_lie() {
        let numbers: Vec<u8> = (0..32).collect();
        let file = archive(&program(), &numbers);
        let tensors = read(Cursor::new(&file)).unwrap();
        let tensor = &tensors["w"];
        assert_eq!(
            (tensor.dtype, tensor.shape.as_slice()),
            (Dtype::F32, &[2, 3][..])
        );
        let bytes = &file[tensor.start as usize..][..tensor.bytes as usize];
        assert_eq!(bytes, &numbers[4..28]);
    }

    #[test]
    fn programs_that_do_anything_else_are_refused() {
        let refused = |program: &[u8]| {
            let (expected, found) = read(Cursor::new(archive(program, &[0; 32]))).unwrap_err();
            format!("{expected}; {found}")
        };
        let replaced = |from: &[u8], to: &[u8]| {
            let text: Vec<u8> = program();
            let at = text.windows(from.len()).position(|w| w == from).unwrap();
            [&text[..at], to, &text[at + from.len()..]].concat()
        };
        for (program, found) in [
            (
                b"cos\nsystem\nX\x02\x00\x00\x00ls\x85R.".to_vec(),
                "os.system",
            ),
            (b"c__builtin__\neval\n.".to_vec(), "__builtin__.eval"),
            (
                replaced(b"torch._utils\n_rebuild_tensor_v2", b"builtins\nexec"),
                "builtins.exec",
            ),
            (
                replaced(b"FloatStorage", b"QInt8Storage"),
                "torch.QInt8Storage",
            ),
            (b"i__main__\nA\n.".to_vec(), "instruction 0x69"),
            (b"\x80\x04\x81.".to_vec(), "instruction 0x81"),
            (b"K\x01.".to_vec(), "something else"),
            (b"}X\x01\x00\x00\x00aK\x01s.".to_vec(), "`a`, which is none"),
            (b"}".to_vec(), "ends early"),
            // Steps of a transposed matrix, and numbers beyond the file.
            (
                replaced(b"K\x03K\x01\x86", b"K\x01K\x02\x86"),
                "[2, 3] with the steps",
            ),
            (
                [b")".to_vec(), vec![0x85; 100_000], b".".to_vec()].concat(),
                "tuples within tuples",
            ),
        ] {
            let told = refused(&program);
            assert!(told.contains(found), "{told}");
        }
        let (_, found) = read(Cursor::new(archive(&program(), &[0; 27]))).unwrap_err();
        assert!(found.contains("[2, 3]"), "{found}");
        assert!(read(Cursor::new(b"\x80\x02\x8a\nl\xfc\x9cF".to_vec())).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(5000))]

        #[test]
        fn damaged_programs_never_panic(
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
            tail in prop::collection::vec(any::<u8>(), 0..40),
        ) {
            let mut program = program();
            for (at, byte) in changes {
                let at = at.index(program.len());
                program[at] = byte;
            }
            program.pop();
            program.extend(tail);
            program.push(b'.');
            let _ = read(Cursor::new(archive(&program, &[0; 32])));
        }
    }
}
