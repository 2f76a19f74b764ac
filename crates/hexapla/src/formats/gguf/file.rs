//! The header of a GGUF file: what it says of the model, and where its tensors lie. Nothing in it is trusted: counts, lengths and
//! offsets are compared with what the file has left before any memory is asked for.

use std::collections::BTreeMap;
use std::io::{BufReader, Read};

use safetensors::tensor::Dtype;

use super::blocks::BlockFormat;
use crate::formats::location::{Fault, Location};

/// A value of the metadata.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Whole(i128),
    Real(f64),
    Flag(bool),
    Text(String),
    Wholes(Vec<i64>),
    Reals(Vec<f32>),
    Texts(Vec<String>),
}

/// A file's header.
#[derive(Debug)]
pub(super) struct Header {
    pub(super) metadata: BTreeMap<String, Value>,
    pub(super) tensors: BTreeMap<String, Location>,
}

/// The type of a value, by its number.
const TEXT: u32 = 8;
const ARRAY: u32 = 9;
/// Most dimensions of a tensor.
const MOST_AXES: u32 = 4;
/// Most bytes of a text, and most values of a list: the largest vocabularies have some 300,000 tokens.
const MOST_TEXT: u64 = 64 << 20;
const MOST_VALUES: u64 = 1 << 24;

/// Reads the header of `file`, which has so many bytes.
///
/// # Errors
/// It is no such file, of another version, or damaged.
pub(super) fn read(file: impl Read, length: u64) -> Result<Header, Fault> {
    let mut bytes = Bytes {
        file: BufReader::new(file),
        position: 0,
        length,
    };
    if bytes.take::<4>()? != *b"GGUF" {
        return Err(("a file that begins with `GGUF`".into(), "another".into()));
    }
    let version = bytes.u32()?;
    if !(2..=3).contains(&version) {
        return Err(("version 2 or 3".into(), format!("version {version}")));
    }
    let (tensors, pairs) = (bytes.u64()?, bytes.u64()?);
    // The shortest: a name, its axes, its type and its offset; a key, a type and a value.
    bytes.room_for(tensors, 8 + 4 + 4 + 8, "tensors")?;
    bytes.room_for(pairs, 8 + 4 + 1, "settings")?;
    let mut metadata = BTreeMap::new();
    for _ in 0..pairs {
        let key = bytes.text()?;
        let kind = bytes.u32()?;
        let value = bytes.value(kind)?;
        if metadata.insert(key.clone(), value).is_some() {
            return Err(("each setting once".into(), format!("`{key}` twice")));
        }
    }
    let alignment = match metadata.get("general.alignment") {
        None => 32,
        Some(Value::Whole(n)) if *n > 0 && *n <= 1 << 20 => *n as u64,
        Some(other) => return Err(("an alignment".into(), format!("{other:?}"))),
    };
    let mut infos = Vec::new();
    for _ in 0..tensors {
        let name = bytes.text()?;
        let axes = bytes.u32()?;
        if axes > MOST_AXES {
            let found = format!("{axes} for `{name}`");
            return Err((format!("at most {MOST_AXES} axes"), found));
        }
        let mut shape = Vec::new();
        for _ in 0..axes {
            shape.push(bytes.u64()?);
        }
        // The file counts from the axis that runs fastest.
        shape.reverse();
        infos.push((name, shape, bytes.u32()?, bytes.u64()?));
    }
    let start = bytes.position.next_multiple_of(alignment);
    let mut tensors = BTreeMap::new();
    for (name, shape, kind, offset) in infos {
        let location = locate(&shape, kind, (start, offset), length);
        let location = location
            .map_err(|(expected, found)| (format!("tensor `{name}`: {expected}"), found))?;
        if tensors.insert(name.clone(), location).is_some() {
            return Err(("each tensor once".into(), format!("`{name}` twice")));
        }
    }
    Ok(Header { metadata, tensors })
}

/// Where a tensor's numbers lie.
fn locate(
    shape: &[u64],
    kind: u32,
    (start, offset): (u64, u64),
    length: u64,
) -> Result<Location, Fault> {
    let (dtype, blocks) = match kind {
        0 => (Dtype::F32, None),
        1 => (Dtype::F16, None),
        30 => (Dtype::BF16, None),
        2 => (Dtype::U8, Some(BlockFormat::Q4_0)),
        3 => (Dtype::U8, Some(BlockFormat::Q4_1)),
        6 => (Dtype::U8, Some(BlockFormat::Q5_0)),
        7 => (Dtype::U8, Some(BlockFormat::Q5_1)),
        8 => (Dtype::U8, Some(BlockFormat::Q8_0)),
        12 => (Dtype::U8, Some(BlockFormat::Q4K)),
        13 => (Dtype::U8, Some(BlockFormat::Q5K)),
        14 => (Dtype::U8, Some(BlockFormat::Q6K)),
        other => {
            let known = "F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K or Q6_K";
            return Err((known.into(), format!("type {other}")));
        }
    };
    let too_large = || {
        (
            "sizes that a file can hold".to_string(),
            format!("{shape:?}"),
        )
    };
    let numbers = shape.iter().try_fold(1u64, |all, n| all.checked_mul(*n));
    let numbers = numbers.ok_or_else(too_large)?;
    let (of, width) = match blocks {
        None => (1, dtype.bitsize() as u64 / 8),
        Some(blocks) => (blocks.numbers() as u64, blocks.bytes() as u64),
    };
    if !shape.last().copied().unwrap_or(1).is_multiple_of(of) {
        return Err((format!("rows of a multiple of {of}"), format!("{shape:?}")));
    }
    let bytes = (numbers / of).checked_mul(width).ok_or_else(too_large)?;
    let first = start.checked_add(offset).ok_or_else(too_large)?;
    if first.checked_add(bytes).is_none_or(|end| end > length) {
        let found = format!("{bytes} bytes from {first} on");
        return Err((format!("numbers within the file's {length} bytes"), found));
    }
    let shape = shape.iter().map(|n| usize::try_from(*n));
    Ok(Location {
        start: first,
        bytes,
        dtype,
        blocks,
        shape: shape.collect::<Result<_, _>>().map_err(|_| too_large())?,
        zeros: None,
    })
}

/// The bytes of a file, counted.
struct Bytes<F> {
    file: BufReader<F>,
    position: u64,
    length: u64,
}

impl<F: Read> Bytes<F> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), Fault> {
        self.position += bytes.len() as u64;
        let end = |e: std::io::Error| ("a whole header".to_string(), e.to_string());
        self.file.read_exact(bytes).map_err(end)
    }

    fn u32(&mut self) -> Result<u32, Fault> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, Fault> {
        self.take().map(u64::from_le_bytes)
    }

    /// Refuses more things of so many bytes than the file has left.
    fn room_for(&self, count: u64, width: u64, what: &str) -> Result<(), Fault> {
        let most = self.length.saturating_sub(self.position) / width;
        match count > most {
            true => Err((format!("at most {most} {what}"), count.to_string())),
            false => Ok(()),
        }
    }

    fn text(&mut self) -> Result<String, Fault> {
        let length = self.u64()?;
        self.room_for(length, 1, "bytes of text")?;
        if length > MOST_TEXT {
            let expected = format!("a text of at most {MOST_TEXT} bytes");
            return Err((expected, length.to_string()));
        }
        let mut bytes = vec![0; length as usize];
        self.fill(&mut bytes)?;
        String::from_utf8(bytes).map_err(|e| ("text in UTF-8".into(), e.to_string()))
    }

    fn value(&mut self, kind: u32) -> Result<Value, Fault> {
        if kind == TEXT {
            return self.text().map(Value::Text);
        }
        if kind == ARRAY {
            return self.array();
        }
        Ok(match self.number(kind)? {
            Number::Whole(n) => Value::Whole(n),
            Number::Real(x) => Value::Real(x),
            Number::Flag(flag) => Value::Flag(flag),
        })
    }

    fn array(&mut self) -> Result<Value, Fault> {
        let (kind, count) = (self.u32()?, self.u64()?);
        if count > MOST_VALUES {
            let expected = format!("a list of at most {MOST_VALUES} values");
            return Err((expected, count.to_string()));
        }
        if kind == TEXT {
            self.room_for(count, 8, "texts")?;
            let texts = (0..count).map(|_| self.text());
            return Ok(Value::Texts(texts.collect::<Result<_, _>>()?));
        }
        self.room_for(count, width(kind)?, "numbers")?;
        let (mut wholes, mut reals) = (Vec::new(), Vec::new());
        for _ in 0..count {
            match self.number(kind)? {
                Number::Whole(n) => wholes.push(i64::try_from(n).unwrap_or(i64::MAX)),
                Number::Real(x) => reals.push(x as f32),
                Number::Flag(flag) => wholes.push(flag.into()),
            }
        }
        Ok(match reals.is_empty() {
            true => Value::Wholes(wholes),
            false => Value::Reals(reals),
        })
    }

    fn number(&mut self, kind: u32) -> Result<Number, Fault> {
        Ok(match kind {
            0 => Number::Whole(u8::from_le_bytes(self.take()?).into()),
            1 => Number::Whole(i8::from_le_bytes(self.take()?).into()),
            2 => Number::Whole(u16::from_le_bytes(self.take()?).into()),
            3 => Number::Whole(i16::from_le_bytes(self.take()?).into()),
            4 => Number::Whole(self.u32()?.into()),
            5 => Number::Whole(i32::from_le_bytes(self.take()?).into()),
            6 => Number::Real(f32::from_le_bytes(self.take()?).into()),
            7 => match self.take::<1>()? {
                [0] => Number::Flag(false),
                [1] => Number::Flag(true),
                [other] => return Err(("a flag of 0 or 1".into(), other.to_string())),
            },
            10 => Number::Whole(self.u64()?.into()),
            11 => Number::Whole(i64::from_le_bytes(self.take()?).into()),
            12 => Number::Real(f64::from_le_bytes(self.take()?)),
            other => return Err(unknown(other)),
        })
    }
}

enum Number {
    Whole(i128),
    Real(f64),
    Flag(bool),
}

fn unknown(kind: u32) -> Fault {
    let expected = "a type of value from 0 to 12, and no array of arrays";
    (expected.into(), kind.to_string())
}

/// Bytes of a number.
fn width(kind: u32) -> Result<u64, Fault> {
    match kind {
        0 | 1 | 7 => Ok(1),
        2 | 3 => Ok(2),
        4..=6 => Ok(4),
        10..=12 => Ok(8),
        other => Err(unknown(other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Vec<u8> {
        [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat()
    }

    /// A file with a setting of each kind, and two tensors.
    pub(in crate::formats) fn small() -> Vec<u8> {
        let mut file = b"GGUF".to_vec();
        let mut put = |bytes: &[u8]| file.extend_from_slice(bytes);
        put(&3u32.to_le_bytes());
        put(&2u64.to_le_bytes());
        put(&4u64.to_le_bytes());
        put(&text("name"));
        put(&8u32.to_le_bytes());
        put(&text("Größe"));
        put(&text("size"));
        put(&4u32.to_le_bytes());
        put(&7u32.to_le_bytes());
        put(&text("words"));
        put(&9u32.to_le_bytes());
        put(&8u32.to_le_bytes());
        put(&2u64.to_le_bytes());
        put(&text("a"));
        put(&text("b"));
        put(&text("scores"));
        put(&9u32.to_le_bytes());
        put(&6u32.to_le_bytes());
        put(&1u64.to_le_bytes());
        put(&0.5f32.to_le_bytes());
        for (name, sizes, kind, offset) in
            [("plain", vec![3, 2], 0, 0u64), ("packed", vec![64], 8, 32)]
        {
            put(&text(name));
            put(&(sizes.len() as u32).to_le_bytes());
            sizes.iter().for_each(|size: &u64| put(&size.to_le_bytes()));
            put(&(kind as u32).to_le_bytes());
            put(&offset.to_le_bytes());
        }
        file.resize(file.len().next_multiple_of(32) + 32 + 68, 0);
        file
    }

    fn parse(bytes: &[u8]) -> Result<Header, Fault> {
        read(bytes, bytes.len() as u64)
    }

    #[test]
    fn a_header_is_read() {
        let file = small();
        let header = parse(&file).unwrap();
        assert_eq!(header.metadata["name"], Value::Text("Größe".into()));
        assert_eq!(header.metadata["size"], Value::Whole(7));
        assert_eq!(
            header.metadata["words"],
            Value::Texts(vec!["a".into(), "b".into()])
        );
        assert_eq!(header.metadata["scores"], Value::Reals(vec![0.5]));
        let plain = &header.tensors["plain"];
        assert_eq!(
            (plain.shape.as_slice(), plain.bytes),
            ([2, 3].as_slice(), 24)
        );
        let packed = &header.tensors["packed"];
        assert_eq!(packed.blocks, Some(BlockFormat::Q8_0));
        assert_eq!(packed.start + packed.bytes, file.len() as u64);
    }

    #[test]
    fn no_count_and_no_offset_is_believed() {
        let file = small();
        // Cut off anywhere, it is refused.
        for length in 0..file.len() {
            assert!(parse(&file[..length]).is_err(), "{length}");
        }
        // Any word of the header may lie: nothing panics, and no tensor lies outside the file.
        let header = file.len() - 100;
        for at in 0..header {
            for lie in [u64::MAX, u64::MAX / 2, 1 << 32, 1 << 40, 9, 0] {
                let mut file = file.clone();
                for (byte, lie) in file[at..].iter_mut().zip(lie.to_le_bytes()) {
                    *byte = lie;
                }
                if let Ok(header) = parse(&file) {
                    for tensor in header.tensors.values() {
                        assert!(tensor.start + tensor.bytes <= file.len() as u64);
                        let numbers: usize = tensor.shape.iter().product();
                        assert!(numbers <= 8 * file.len());
                    }
                }
            }
        }
    }
}
