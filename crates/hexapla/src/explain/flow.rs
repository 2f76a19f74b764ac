//! How much flows along a weight of attention: the length of what it brings (Kobayashi et al. 2020, equation 6).

use super::arrays::{Array, Arrays};
use crate::generate::lengths_of_values;
use crate::packed::PackedWeights;

/// ‖weight · v · W_O‖ for each head, query and key of the attention called `name`: `[heads, queries, keys]`. W_O are those rows of
/// the output projection that the head is multiplied by; its bias is left out, for it belongs to no key. Nothing where the trace
/// does not have the attention.
pub(super) fn flow(parameters: &PackedWeights, arrays: &Arrays, name: &str) -> Option<Array> {
    let weights = arrays.get(&format!("{name}.weights"))?;
    let v = arrays.get(&format!("{name}.v"))?;
    let output = parameters.index().find(&format!("{name}.output.weight"))?;
    let [heads, queries, keys] = [0, 1, 2].map(|i| weights.shape[i]);
    let (kv_heads, width) = (v.shape[0], v.shape[2]);
    let value = |head: usize, key: usize| v.row(&[head * kv_heads / heads, key]);
    let lengths = lengths_of_values(parameters, output, (heads, keys, width), value);
    let mut data = Vec::with_capacity(weights.data.len());
    for (head, lengths) in lengths.iter().enumerate() {
        for query in 0..queries {
            let row = weights.row(&[head, query]).iter().zip(lengths);
            data.extend(row.map(|(weight, length)| weight * length));
        }
    }
    Some(Array {
        shape: weights.shape.clone(),
        data,
    })
}
