//! NumPy's archives of arrays (`.npz`): a zip archive with an `.npy` for each array. The numbers are read where they lie.

use std::collections::BTreeMap;
use std::io::{Read, Seek};

use safetensors::tensor::Dtype;

use super::location::{Fault, Location};
use crate::files::{NpyHeader, read_npy_header};

/// The arrays of an archive, by name.
///
/// # Errors
/// No such archive; arrays that are compressed, in column order, of another type, or shorter than they say.
pub(super) fn read(file: impl Read + Seek) -> Result<BTreeMap<String, Location>, Fault> {
    let archive = "an archive of NumPy's, as `numpy.savez` writes it";
    let broken = |e: zip::result::ZipError| (archive.to_string(), e.to_string());
    let mut zip = zip::ZipArchive::new(file).map_err(broken)?;
    let mut arrays = BTreeMap::new();
    for index in 0..zip.len() {
        let mut entry = zip.by_index(index).map_err(broken)?;
        let name = entry.name().map_err(broken)?.into_owned();
        let Some(name) = name.strip_suffix(".npy") else {
            return Err((archive.into(), format!("`{name}` in it")));
        };
        let of = |what: &str| format!("array `{name}`: {what}");
        if entry.compression() != zip::CompressionMethod::Stored {
            return Err((of("not compressed"), "compressed".into()));
        }
        let (start, length) = (entry.data_start(), entry.size());
        let header = read_npy_header(&mut entry);
        let header = header.map_err(|e| (of("numbers in row order"), e.to_string()))?;
        let location = start.and_then(|start| locate(&header, start, length));
        let location = location.ok_or_else(|| {
            let found = format!("{} {:?}", header.descr, header.shape);
            (of(&format!("numbers within {length} bytes")), found)
        })?;
        arrays.insert(name.to_string(), location);
    }
    Ok(arrays)
}

/// Where an array's numbers lie in an entry of `length` bytes that starts at `start`.
fn locate(header: &NpyHeader, start: u64, length: u64) -> Option<Location> {
    let dtype = match header.descr.as_str() {
        "<f4" => Dtype::F32,
        "<f2" => Dtype::F16,
        "<f8" => Dtype::F64,
        "|i1" | "<i1" => Dtype::I8,
        "<i4" => Dtype::I32,
        "<i8" => Dtype::I64,
        _ => return None,
    };
    let sizes = header.shape.iter();
    let count = sizes.copied().try_fold(1usize, usize::checked_mul)?;
    let bytes = count.checked_mul(dtype.bitsize() / 8)? as u64;
    let before = header.bytes as u64;
    (before.checked_add(bytes)? <= length).then(|| Location {
        start: start + before,
        bytes,
        dtype,
        shape: header.shape.clone(),
        zeros: None,
        blocks: None,
    })
}
