//! Arrays as bytes, each as closely as there is room for.

use std::collections::BTreeMap;

use half::f16;
use serde::Serialize;

use super::arrays::Array;

/// Numbers of one type, one after the other.
#[derive(Debug, Default)]
pub(super) struct Block {
    pub(super) bytes: Vec<u8>,
    pub(super) arrays: BTreeMap<String, PackedArray>,
}

/// Where the numbers of an array lie, and how.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct PackedArray {
    dtype: Dtype,
    shape: Vec<usize>,
    /// Of its first byte.
    offset: usize,
    /// In int8: of the first of its scales, an f32 for each row. A number is its byte times its row's scale.
    #[serde(skip_serializing_if = "Option::is_none")]
    scales: Option<usize>,
    /// The largest difference to what was computed.
    error: f32,
}

/// How a number is written, little end first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Dtype {
    F32,
    F16,
    I8,
    I32,
}

impl Block {
    /// Adds an array; in f16 it may become f32, where a number is too large.
    pub(super) fn add(&mut self, name: &str, array: &Array, dtype: Dtype) {
        let finite = array.data.iter().filter(|x| x.is_finite());
        let largest = finite.fold(0.0f32, |largest, x| largest.max(x.abs()));
        let dtype = match dtype {
            Dtype::F16 if largest > f32::from(f16::MAX) => Dtype::F32,
            dtype => dtype,
        };
        let mut packed = PackedArray {
            dtype,
            shape: array.shape.clone(),
            offset: self.aligned(),
            scales: None,
            error: 0.0,
        };
        let mut note = |x: f32, kept: f32| {
            if x.is_finite() {
                packed.error = packed.error.max((x - kept).abs());
            }
        };
        match dtype {
            Dtype::F32 => {
                let bytes = array.data.iter().flat_map(|x| x.to_le_bytes());
                self.bytes.extend(bytes);
            }
            Dtype::F16 => {
                for x in &array.data {
                    let half = f16::from_f32(*x);
                    note(*x, half.to_f32());
                    self.bytes.extend(half.to_le_bytes());
                }
            }
            Dtype::I8 => {
                let width = array.shape.last().copied().unwrap_or(1).max(1);
                let mut scales = Vec::new();
                for row in array.data.chunks(width) {
                    let largest = row.iter().fold(0.0f32, |largest, x| largest.max(x.abs()));
                    let scale = largest / 127.0;
                    let divisor = if scale > 0.0 { scale } else { 1.0 };
                    for x in row {
                        let byte = (x / divisor).round() as i8;
                        note(*x, f32::from(byte) * scale);
                        self.bytes.push(byte as u8);
                    }
                    scales.extend(scale.to_le_bytes());
                }
                packed.scales = Some(self.aligned());
                self.bytes.extend(scales);
            }
            Dtype::I32 => {
                let bytes = array.data.iter().flat_map(|x| (*x as i32).to_le_bytes());
                self.bytes.extend(bytes);
            }
        }
        self.arrays.insert(name.to_string(), packed);
    }

    /// Where the next array starts: at a multiple of four bytes.
    fn aligned(&mut self) -> usize {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        self.bytes.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn array(shape: &[usize], data: &[f32]) -> Array {
        Array {
            shape: shape.to_vec(),
            data: data.to_vec(),
        }
    }

    #[test]
    fn arrays_lie_where_the_block_says() {
        let mut block = Block::default();
        block.add(
            "bytes",
            &array(&[2, 3], &[1.0, -127.0, 3.0, 0.0, 0.0, 0.0]),
            Dtype::I8,
        );
        block.add("half", &array(&[2], &[0.1, f32::NEG_INFINITY]), Dtype::F16);
        block.add("large", &array(&[1], &[1e6]), Dtype::F16);
        let bytes = &block.arrays["bytes"];
        assert_eq!(block.bytes[bytes.offset..][..6], [1, 129, 3, 0, 0, 0]);
        assert_eq!((bytes.scales, bytes.error), (Some(8), 0.0));
        assert_eq!(
            block.bytes[8..16],
            [1f32, 0.0].map(f32::to_le_bytes).concat()
        );
        let half = &block.arrays["half"];
        assert_eq!(half.offset, 16);
        assert!(half.error > 0.0 && half.error < 1e-4);
        assert_eq!(block.bytes[18..20], f16::NEG_INFINITY.to_le_bytes());
        assert_eq!(block.arrays["large"].dtype, Dtype::F32);
    }
}
