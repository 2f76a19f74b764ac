//! What a training run needs to go on as if nothing had happened, in one file with a checksum.
//!
//! Layout: the magic line, the header's length (8 bytes, little endian), the header (JSON), the numbers (f32, little
//! endian), and the SHA-256 of all before it. A file is written whole or not at all.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use hexapla_kernels::Buffer;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::files::{read_limited, write_atomically};

const MAGIC: &[u8; 16] = b"hexapla state 1\n";
const DIGEST: usize = 32;
/// Longest header that is believed.
const MAX_HEADER: u64 = 1 << 28;

#[derive(Serialize, Deserialize)]
struct Header<P> {
    lengths: Vec<u64>,
    progress: P,
}

/// Writes `progress` and `buffers` to `path`.
///
/// # Errors
/// As [`write_atomically`].
pub fn save<P: Serialize>(path: &Path, progress: &P, buffers: &[&Buffer]) -> Result<()> {
    let header = Header {
        lengths: buffers.iter().map(|b| b.len() as u64).collect(),
        progress,
    };
    let header = serde_json::to_vec(&header).map_err(|e| {
        Error::internal("cannot write the checkpoint")
            .at(path.display().to_string())
            .found(e.to_string())
    })?;
    write_atomically(path, |file| {
        let mut out = Hashing {
            file,
            hash: Sha256::new(),
        };
        out.write_all(MAGIC)?;
        out.write_all(&(header.len() as u64).to_le_bytes())?;
        out.write_all(&header)?;
        let mut bytes = Vec::with_capacity(1 << 18);
        for chunk in buffers.iter().flat_map(|b| b.chunks(1 << 16)) {
            bytes.clear();
            bytes.extend(chunk.iter().flat_map(|v| v.to_le_bytes()));
            out.write_all(&bytes)?;
        }
        let digest = out.hash.finalize();
        out.file.write_all(&digest)
    })
}

/// Reads what [`save`] wrote: `progress` and the buffers, whose lengths must be `lengths`.
///
/// # Errors
/// A file that cannot be read, is damaged anywhere, or belongs to another model.
pub fn load<P: DeserializeOwned>(path: &Path, lengths: &[usize]) -> Result<(P, Vec<Buffer>)> {
    let numbers: usize = lengths.iter().sum();
    let bytes = read_limited(path, numbers as u64 * 4 + MAX_HEADER)?;
    let damaged = |found: &str| {
        Error::model("the checkpoint cannot be used")
            .at(path.display().to_string())
            .found(found.to_string())
            .hint("remove the file to start training anew, or put back a copy of it")
    };
    let (content, digest) = bytes
        .len()
        .checked_sub(DIGEST)
        .map(|at| bytes.split_at(at))
        .ok_or_else(|| damaged("a file that is too short"))?;
    if Sha256::digest(content)[..] != *digest {
        return Err(damaged(
            "a checksum that does not fit its content: the file is damaged",
        ));
    }
    let rest = content
        .strip_prefix(MAGIC)
        .ok_or_else(|| damaged("a file of another kind"))?;
    let (length, rest) = rest
        .split_at_checked(8)
        .ok_or_else(|| damaged("a file that is too short"))?;
    let length = length
        .iter()
        .rev()
        .fold(0u64, |n, byte| n << 8 | u64::from(*byte));
    let (header, mut rest) = usize::try_from(length)
        .ok()
        .and_then(|length| rest.split_at_checked(length))
        .ok_or_else(|| damaged("a header that does not fit"))?;
    let header: Header<P> = serde_json::from_slice(header).map_err(|e| damaged(&e.to_string()))?;
    if !header
        .lengths
        .iter()
        .copied()
        .eq(lengths.iter().map(|l| *l as u64))
        || rest.len() != numbers * 4
    {
        return Err(damaged("a model of another shape"));
    }
    let mut buffers = Vec::new();
    for length in lengths {
        let (these, others) = rest.split_at(length * 4);
        let mut buffer = Buffer::zeros(*length);
        for (value, bytes) in buffer.iter_mut().zip(these.as_chunks::<4>().0) {
            *value = f32::from_le_bytes(*bytes);
        }
        buffers.push(buffer);
        rest = others;
    }
    Ok((header.progress, buffers))
}

struct Hashing<'a> {
    file: &'a mut dyn Write,
    hash: Sha256,
}

impl Write for Hashing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write_all(bytes)?;
        self.hash.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// The state's file in a training folder.
pub fn state_file(folder: &Path) -> PathBuf {
    folder.join("state.checkpoint")
}

/// Where the state is put aside if its own weights make no finite gradient.
pub fn astray_file(folder: &Path) -> PathBuf {
    folder.join("astray.checkpoint")
}

/// The file of the weights after update `step`.
pub fn weights_file(folder: &Path, step: u64) -> PathBuf {
    folder.join(format!("weights-{step:08}.checkpoint"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::SplitMix;

    fn buffers() -> (Buffer, Buffer) {
        let mut random = SplitMix(3);
        let (mut a, mut b) = (Buffer::zeros(100), Buffer::zeros(7));
        a.iter_mut()
            .chain(b.iter_mut())
            .for_each(|v| *v = random.normal());
        a[3] = f32::MIN_POSITIVE / 3.0;
        (a, b)
    }

    #[test]
    fn what_is_saved_is_loaded_bit_for_bit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        let (a, b) = buffers();
        save(&path, &("progress", 0.1f64), &[&a, &b]).unwrap();
        let (progress, loaded): ((String, f64), _) = load(&path, &[100, 7]).unwrap();
        assert_eq!(progress, ("progress".to_string(), 0.1));
        assert!(loaded[0] == a && loaded[1] == b);
        assert!(load::<(String, f64)>(&path, &[100, 8]).is_err());
    }

    #[test]
    fn a_changed_or_missing_byte_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        let (a, b) = buffers();
        save(&path, &1, &[&a, &b]).unwrap();
        let good = std::fs::read(&path).unwrap();
        let mut random = SplitMix(9);
        for _ in 0..1000 {
            let mut bad = good.clone();
            bad[random.below(good.len())] ^= 1 << random.below(8);
            std::fs::write(&path, &bad).unwrap();
            assert!(load::<i32>(&path, &[100, 7]).is_err());
        }
        for length in [0, 10, 31, 32, 60, good.len() - 1] {
            std::fs::write(&path, &good[..length]).unwrap();
            assert!(load::<i32>(&path, &[100, 7]).is_err());
        }
    }
}
