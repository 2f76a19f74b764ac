//! The parameters as the operations read them: those of training, or those prepared for inference.

use hexapla_kernels::{Matrix, MatrixMut, PackedMatrix, Plus, gemm_packed};

use crate::prepared::Prepared;
use crate::product::Product;
use crate::weights::{ParameterId, ParameterIndex, Weights};

/// Where an operation finds its parameters. A linear layer follows its weight's type.
#[derive(Debug, Clone, Copy)]
pub enum Parameters<'a> {
    /// The flat run of training, and the output table packed anew after each update.
    Trained(&'a Weights, &'a PackedTable),
    /// Those of inference.
    Prepared(&'a Prepared),
}

/// A table packed transposed, as the output layer of a training step wants it; or none.
#[derive(Debug, Default)]
pub struct PackedTable(pub Option<(ParameterId, PackedMatrix)>);

impl PackedTable {
    /// Nothing packed.
    pub const NONE: PackedTable = PackedTable(None);
}

impl<'a> Parameters<'a> {
    /// Names and shapes.
    pub fn index(self) -> &'a ParameterIndex {
        match self {
            Parameters::Trained(weights, _) => &weights.index,
            Parameters::Prepared(prepared) => prepared.index(),
        }
    }

    /// The shape of a parameter.
    pub fn shape(self, id: ParameterId) -> &'a [usize] {
        &self.index().get(id).shape
    }

    /// Whether a decoder keeps keys and values in bf16.
    pub(crate) fn remember_in_bf16(self) -> bool {
        match self {
            Parameters::Trained(..) => false,
            Parameters::Prepared(prepared) => prepared.remembers_in_bf16(),
        }
    }

    /// The numbers of a vector or of a table of positions.
    pub fn plain(self, id: ParameterId) -> &'a [f32] {
        match self {
            Parameters::Trained(weights, _) => weights.get(id),
            Parameters::Prepared(prepared) => prepared.plain(id),
        }
    }

    /// Row `r` of a table; `scratch` holds as many numbers as a row.
    pub fn row<'s>(self, id: ParameterId, r: usize, scratch: &'s mut [f32]) -> &'s [f32]
    where
        'a: 's,
    {
        match self {
            Parameters::Trained(weights, _) => {
                &weights.get(id)[r * scratch.len()..][..scratch.len()]
            }
            Parameters::Prepared(prepared) => prepared.row(id, r, scratch),
        }
    }

    /// `y = x · W (+ bias)`.
    pub fn multiply(
        self,
        product: Product,
        weight: ParameterId,
        y: MatrixMut,
        x: Matrix,
        plus: Plus,
    ) {
        match self {
            Parameters::Trained(weights, _) => product.gemm(y, x, weights.matrix(weight), plus),
            Parameters::Prepared(prepared) => prepared.multiply(weight, y, x, plus),
        }
    }

    /// `y = x · tableᵀ (+ bias)`.
    pub fn multiply_by_table(
        self,
        product: Product,
        table: ParameterId,
        y: MatrixMut,
        x: Matrix,
        plus: Plus,
    ) {
        match self {
            Parameters::Trained(weights, packed) => match &packed.0 {
                Some((id, packed)) if *id == table => gemm_packed(y, x, packed, plus),
                _ => product.gemm(y, x, weights.matrix(table).transposed(), plus),
            },
            Parameters::Prepared(prepared) => prepared.multiply(table, y, x, plus),
        }
    }
}
