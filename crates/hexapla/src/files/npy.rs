//! Arrays of NumPy, format 1.0. (The crates for it parse Python's literals with a parser that needs a C compiler to build.)

use std::io::{self, Read, Write};

use serde_json::Value;

const MAGIC: &[u8; 6] = b"\x93NUMPY";
/// Longest header that is read.
const MAX_HEADER: usize = 1 << 16;
/// The header's bytes are a multiple of this.
const ALIGNMENT: usize = 64;

/// Writes `numbers` in row order as an array of f32 of the shape `[rows, columns]`.
///
/// # Errors
/// Those of `writer`; or there are another number of numbers.
pub fn write_npy(
    writer: &mut dyn Write,
    [rows, columns]: [usize; 2],
    numbers: &[f32],
) -> io::Result<()> {
    if rows * columns != numbers.len() {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    let mut header =
        format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {columns}), }}");
    let before = MAGIC.len() + 4;
    let whole = (before + header.len() + 1).next_multiple_of(ALIGNMENT);
    header.extend(std::iter::repeat_n(' ', whole - before - header.len() - 1));
    header.push('\n');
    writer.write_all(MAGIC)?;
    writer.write_all(&[1, 0])?;
    writer.write_all(&(header.len() as u16).to_le_bytes())?;
    writer.write_all(header.as_bytes())?;
    for piece in numbers.chunks(1 << 16) {
        let bytes: Vec<u8> = piece.iter().flat_map(|x| x.to_le_bytes()).collect();
        writer.write_all(&bytes)?;
    }
    Ok(())
}

/// What an array says of itself.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct NpyHeader {
    /// NumPy's name of the numbers' type, such as `<f4`.
    pub(crate) descr: String,
    pub(crate) shape: Vec<usize>,
    /// Bytes before the numbers.
    pub(crate) bytes: usize,
}

/// Reads the header of an array in row order.
///
/// # Errors
/// Those of `reader`; what is no array, or one in column order, is [`io::ErrorKind::InvalidData`] with the reason.
pub(crate) fn read_npy_header(reader: &mut dyn Read) -> io::Result<NpyHeader> {
    let invalid = |why: &str| io::Error::new(io::ErrorKind::InvalidData, why);
    let mut start = [0; 8];
    reader.read_exact(&mut start)?;
    if !start.starts_with(MAGIC) {
        return Err(invalid("no array of NumPy's"));
    }
    // Version 1 has a length of two bytes, later ones of four.
    let mut length = [0; 4];
    let width = if start[6] == 1 { 2 } else { 4 };
    reader.read_exact(&mut length[..width])?;
    let count = u32::from_le_bytes(length) as usize;
    if count > MAX_HEADER {
        return Err(invalid("a header that is too long"));
    }
    let mut text = vec![0; count];
    reader.read_exact(&mut text)?;
    let text = String::from_utf8(text).map_err(|_| invalid("a header that is no text"))?;
    // Python's literal as JSON. A type's name holds none of these.
    let json = [
        ("'", "\""),
        ("(", "["),
        (")", "]"),
        ("False", "false"),
        ("True", "true"),
        (" ", ""),
        (",]", "]"),
        (",}", "}"),
    ];
    let json = json
        .iter()
        .fold(text, |text, (python, json)| text.replace(python, json));
    let header: Value = serde_json::from_str(json.trim_end())
        .map_err(|_| invalid("a header that is no dictionary"))?;
    let shape = header["shape"].as_array().map(|sizes| {
        let sizes = sizes
            .iter()
            .map(|size| usize::try_from(size.as_u64()?).ok());
        sizes.collect::<Option<Vec<usize>>>()
    });
    match (
        header["descr"].as_str(),
        shape.flatten(),
        &header["fortran_order"],
    ) {
        (Some(descr), Some(shape), Value::Bool(false)) => Ok(NpyHeader {
            descr: descr.to_string(),
            shape,
            bytes: start.len() + width + count,
        }),
        (Some(_), Some(_), Value::Bool(true)) => Err(invalid("an array in column order")),
        _ => Err(invalid("a header without type, order or shape")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_array_begins_at_a_multiple_of_64() {
        for rows in [0, 1, 10, 100_000] {
            let mut bytes = Vec::new();
            let numbers: Vec<f32> = (0..rows * 3).map(|n| n as f32).collect();
            write_npy(&mut bytes, [rows, 3], &numbers).unwrap();
            assert_eq!(bytes.len() - numbers.len() * 4, 128);
            assert_eq!(u16::from_le_bytes([bytes[8], bytes[9]]), 118);
            let shape = format!("'shape': ({rows}, 3), }}");
            let header = String::from_utf8_lossy(&bytes[10..128]);
            assert!(header.contains(&shape) && header.ends_with('\n'));
            let header = read_npy_header(&mut bytes.as_slice()).unwrap();
            assert_eq!(header.shape, [rows, 3]);
            assert_eq!((header.descr.as_str(), header.bytes), ("<f4", 128));
        }
        assert!(write_npy(&mut Vec::new(), [2, 2], &[0.0]).is_err());
    }

    #[test]
    fn headers_of_other_programs_are_read() {
        let of = |version: u8, header: &str| {
            let mut bytes = b"\x93NUMPY".to_vec();
            bytes.extend([version, 0]);
            bytes.extend((header.len() as u16).to_le_bytes());
            if version > 1 {
                bytes.extend([0, 0]);
            }
            bytes.extend(header.bytes());
            read_npy_header(&mut bytes.as_slice())
        };
        let read = of(
            1,
            "{'descr': '|i1', 'fortran_order': False, 'shape': (7,), }",
        )
        .unwrap();
        assert_eq!((read.descr.as_str(), read.shape), ("|i1", vec![7]));
        let read = of(2, "{'shape':(), 'fortran_order':False, 'descr':'<f2'}\n").unwrap();
        assert_eq!((read.descr.as_str(), read.shape), ("<f2", vec![]));
        for header in [
            "",
            "[]",
            "{'descr': '<f4', 'fortran_order': True, 'shape': (2, 2), }",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (-2, 2), }",
            "{'descr': '<f4', 'fortran_order': False}",
            "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (2,)}",
        ] {
            let e = of(1, header).unwrap_err();
            assert_eq!(e.kind(), io::ErrorKind::InvalidData, "{header}");
        }
        assert!(read_npy_header(&mut &b"PK\x03\x04....."[..]).is_err());
    }
}
