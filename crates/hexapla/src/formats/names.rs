//! Where a parameter of ours stands in a folder of another program's.

use crate::files::LinearLayout;
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
    /// Where it is a part of a tensor, which `shape` is the shape of.
    pub(crate) part: Option<Part>,
    /// Where pairs of numbers that are turned together lie side by side in rows of heads of this width, instead of half a head apart.
    pub(crate) interleaved: Option<usize>,
}

/// Rows of heads whose pairs lie side by side, as they lie here: first the first of each pair, then the second.
pub(super) fn half_split(rows: &[f32], width: usize, head_width: usize) -> Vec<f32> {
    let mut split = Vec::with_capacity(rows.len());
    for head in rows.chunks(width * head_width) {
        for half in 0..2 {
            let pairs = head.chunks_exact(width).skip(half).step_by(2);
            pairs.for_each(|row| split.extend_from_slice(row));
        }
    }
    split
}

/// One of several equal parts of a tensor, side by side along its last axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Part {
    /// From 0.
    pub(crate) number: usize,
    pub(crate) of: usize,
}

impl Part {
    /// Its numbers among those of a tensor of shape `shape`.
    pub(super) fn of(self, numbers: &[f32], shape: &[usize]) -> Vec<f32> {
        let whole = shape.last().copied().unwrap_or(0);
        let width = whole / self.of;
        let rows = numbers.chunks_exact(whole.max(1));
        rows.flat_map(|row| &row[self.number * width..][..width])
            .copied()
            .collect()
    }

    /// Puts its numbers there.
    pub(super) fn put(self, numbers: &mut [f32], shape: &[usize], part: &[f32]) {
        let whole = shape.last().copied().unwrap_or(0);
        let width = whole / self.of;
        let rows = numbers.chunks_exact_mut(whole.max(1));
        for (row, part) in rows.zip(part.chunks_exact(width.max(1))) {
            row[self.number * width..][..width].copy_from_slice(part);
        }
    }
}

impl TensorNames {
    /// As a file keeps it whose linear layers lie so.
    pub(super) fn of_layout(
        layout: LinearLayout,
        parameter: &Parameter,
        (read, write): (Vec<String>, Vec<String>),
        part: Option<Part>,
    ) -> Self {
        if layout == LinearLayout::OutIn {
            return TensorNames::of_pytorch(parameter, read, write);
        }
        let mut shape = parameter.shape.clone();
        if let (Some(last), Some(part)) = (shape.last_mut(), part) {
            *last *= part.of;
        }
        TensorNames {
            read,
            write,
            shape,
            transposed: false,
            part,
            interleaved: None,
        }
    }

    /// The same in a folder in int8 or int4, where a part is a tensor of its own, under our name.
    pub(super) fn in_integers(self, parameter: &Parameter) -> Self {
        match self.part {
            None => self,
            Some(_) => TensorNames {
                read: vec![parameter.name.clone()],
                write: vec![parameter.name.clone()],
                shape: parameter.shape.clone(),
                transposed: false,
                part: None,
                interleaved: None,
            },
        }
    }

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
            part: None,
            interleaved: None,
        }
    }
}
