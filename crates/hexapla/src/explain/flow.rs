//! How much flows along a weight of attention: the length of what it brings (Kobayashi et al. 2020, equation 6).

use hexapla_kernels::{Matrix, MatrixMut, Plus};

use super::arrays::{Array, Arrays};
use crate::packed::{PackedProduct, PackedWeights};

/// ‖weight · v · W_O‖ for each head, query and key of the attention called `name`: `[heads, queries, keys]`. W_O are those rows of
/// the output projection that the head is multiplied by; its bias is left out, for it belongs to no key. Nothing where the trace
/// does not have the attention.
pub(super) fn flow(parameters: &PackedWeights, arrays: &Arrays, name: &str) -> Option<Array> {
    let weights = arrays.get(&format!("{name}.weights"))?;
    let v = arrays.get(&format!("{name}.v"))?;
    let output = parameters.index().find(&format!("{name}.output.weight"))?;
    let columns = parameters.index().get(output).shape[1];
    let [heads, queries, keys] = [0, 1, 2].map(|i| weights.shape[i]);
    let (kv_heads, width) = (v.shape[0], v.shape[2]);
    // Each head's values alone, where they stand among those of all heads.
    let mut x = vec![0.0; heads * keys * heads * width];
    for head in 0..heads {
        for key in 0..keys {
            let start = (head * keys + key) * heads * width + head * width;
            let value = v.row(&[head * kv_heads / heads, key]);
            x[start..start + width].copy_from_slice(value);
        }
    }
    let rows = heads * keys;
    let mut y = vec![0.0; rows * columns];
    let product = PackedProduct {
        id: output,
        y: MatrixMut::new(&mut y, rows, columns, columns),
        epilogue: Plus::Nothing.into(),
    };
    let x = Matrix::new(&x, rows, heads * width, heads * width);
    parameters.multiply(true, x, [product]);
    let lengths: Vec<f32> = y
        .chunks_exact(columns)
        .map(|row| row.iter().map(|x| x * x).sum::<f32>().sqrt())
        .collect();
    let mut data = Vec::with_capacity(weights.data.len());
    for head in 0..heads {
        for query in 0..queries {
            let row = weights.row(&[head, query]).iter();
            let lengths = &lengths[head * keys..(head + 1) * keys];
            data.extend(row.zip(lengths).map(|(weight, length)| weight * length));
        }
    }
    Some(Array {
        shape: weights.shape.clone(),
        data,
    })
}
