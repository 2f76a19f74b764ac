//! Weights in a safetensors file under our names, for all sides to read and write.

use std::path::Path;
use std::sync::Arc;

use hexapla::error::Result;
use hexapla::formats::safetensors::{NamedTensor, TensorStore, write_tensors};
use hexapla::weights::{ParameterIndex, Weights};

/// Writes `weights` to `path`; a linear layer's lie `[in, out]`.
///
/// # Errors
/// The file cannot be written.
pub(crate) fn write(path: &Path, weights: &Weights) -> Result<()> {
    let tensors = weights
        .index
        .iter()
        .map(|p| NamedTensor {
            name: p.name.clone(),
            shape: p.shape.clone(),
            data: &weights.data[p.range.clone()],
            transposed: false,
        })
        .collect();
    write_tensors(path, tensors)
}

/// Reads what [`write()`] wrote.
///
/// # Errors
/// The file cannot be read, or lacks a parameter of `index` in its shape.
pub(crate) fn read(path: &Path, index: &Arc<ParameterIndex>) -> Result<Weights> {
    let store = TensorStore::open_file(path)?;
    let mut weights = Weights::zeros(index.clone());
    for p in index.iter() {
        let values = store.read(&p.name, &p.shape)?;
        weights.data[p.range.clone()].copy_from_slice(&values);
    }
    Ok(weights)
}
