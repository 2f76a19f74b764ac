//! Arrays of NumPy, format 1.0. (The crates for it parse Python's literals with a parser that needs a C compiler to build.)

use std::io::{self, Write};

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
    let before = b"\x93NUMPY\x01\x00".len() + 2;
    let whole = (before + header.len() + 1).next_multiple_of(ALIGNMENT);
    header.extend(std::iter::repeat_n(' ', whole - before - header.len() - 1));
    header.push('\n');
    writer.write_all(b"\x93NUMPY\x01\x00")?;
    writer.write_all(&(header.len() as u16).to_le_bytes())?;
    writer.write_all(header.as_bytes())?;
    for piece in numbers.chunks(1 << 16) {
        let bytes: Vec<u8> = piece.iter().flat_map(|x| x.to_le_bytes()).collect();
        writer.write_all(&bytes)?;
    }
    Ok(())
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
        }
        assert!(write_npy(&mut Vec::new(), [2, 2], &[0.0]).is_err());
    }
}
