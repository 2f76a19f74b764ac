//! SHA-256 and CRC-32.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use rayon::prelude::*;
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

/// The SHA-256 of a file's content in hexadecimal digits.
///
/// # Errors
/// A file that cannot be read.
pub fn sha256_file(path: &Path) -> Result<String> {
    File::open(path)
        .and_then(|mut file| sha256(&mut file))
        .map_err(|e| Error::io("cannot read the file", path, &e))
}

/// The SHA-256 of all that `reader` gives, in hexadecimal digits.
pub(super) fn sha256(reader: &mut dyn Read) -> io::Result<String> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match reader.read(&mut buffer)? {
            0 => return Ok(hexadecimal(&hash.finalize())),
            n => hash.update(buffer.get(..n).unwrap_or_default()),
        }
    }
}

/// The SHA-256 of `bytes` in hexadecimal digits.
pub fn sha256_bytes(bytes: &[u8]) -> String {
    hexadecimal(&Sha256::digest(bytes))
}

/// The CRC-32 (that of gzip) of `bytes` in hexadecimal digits, computed on all threads: as fast as memory, and enough
/// against damage, though not against forgery.
pub fn crc32(bytes: &[u8]) -> String {
    const PIECE: usize = 1 << 20;
    let of = |piece: &[u8]| {
        let mut hash = crc32fast::Hasher::new();
        hash.update(piece);
        hash
    };
    let pieces: Vec<crc32fast::Hasher> = bytes.par_chunks(PIECE).map(of).collect();
    let mut whole = crc32fast::Hasher::new();
    for piece in &pieces {
        whole.combine(piece);
    }
    format!("{:08x}", whole.finalize())
}

pub(super) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_the_standards() {
        // FIPS 180-2, appendix B.1.
        // The check value of CRC-32/ISO-HDLC.
        assert_eq!(crc32(b"123456789"), "cbf43926");
        let long: Vec<u8> = (0..3_000_000u32)
            .map(|i| (i.wrapping_mul(i) >> 3) as u8)
            .collect();
        assert_eq!(
            crc32(&long),
            format!("{:08x}", crc32fast::hash(&long)),
            "pieces make the whole"
        );
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(sha256_bytes(b"abc"), abc);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("abc");
        std::fs::write(&path, "abc").unwrap();
        assert_eq!(sha256_file(&path).unwrap(), abc);
    }
}
