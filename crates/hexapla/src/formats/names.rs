//! Where a parameter of ours stands in a folder of another program's.

use crate::weights::{Kind, Parameter};

/// The names of a parameter of ours in a folder, and its layout there.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TensorNames {
    /// Names under which it may stand; those that are there must agree.
    pub(crate) read: Vec<String>,
    /// Names under which it is written.
    pub(crate) write: Vec<String>,
    /// Its shape there.
    pub(crate) shape: Vec<usize>,
    /// It stands there transposed.
    pub(crate) transposed: bool,
}

impl TensorNames {
    /// As PyTorch keeps it: a linear layer's weight is `[out, in]`, all else as here.
    pub(super) fn of_pytorch(parameter: &Parameter, read: Vec<String>, write: Vec<String>) -> Self {
        let (shape, transposed) = match (parameter.kind, parameter.shape.as_slice()) {
            (Kind::Weight, [inputs, outputs]) => (vec![*outputs, *inputs], true),
            (_, shape) => (shape.to_vec(), false),
        };
        TensorNames {
            read,
            write,
            shape,
            transposed,
        }
    }
}
