//! The parameters as the operations read them: those of training, or those packed for inference.

use hexapla_kernels::{Matrix, MatrixMut, PackedMatrix, Plus, gemm_packed};

use crate::config::Precision;
use crate::packed::{PackedProduct, PackedWeights};
use crate::product::Product;
use crate::weights::{ParameterId, ParameterIndex, Weights};

/// Where an operation finds its parameters. A linear layer follows its weight's type.
#[derive(Debug, Clone, Copy)]
pub enum Parameters<'a> {
    /// The flat run of training, and the output table packed anew after each update.
    Trained(&'a Weights, &'a PackedTable),
    /// Those of inference.
    Packed(&'a PackedWeights),
}

/// The output layer's table, packed for the products of a training step; or none.
#[derive(Debug, Default)]
pub struct PackedTable(Option<Packed>);

#[derive(Debug)]
struct Packed {
    table: ParameterId,
    /// `[d_model, vocab]`: makes logits of rows.
    transposed: PackedMatrix,
    /// `[vocab, d_model]`: makes gradients of rows of gradients of logits. In f32 it would take more memory than it is
    /// worth in time; it is half as large in bf16, where packing is a larger part of a product.
    straight: Option<PackedMatrix>,
}

impl PackedTable {
    /// Nothing packed.
    pub const NONE: PackedTable = PackedTable(None);

    /// Packs `table` `[vocab, d_model]`.
    pub fn new(product: Product, weights: &Weights, table: ParameterId) -> Self {
        let matrix = weights.matrix(table);
        let bf16 = product.precision == Precision::Bf16;
        PackedTable(Some(Packed {
            table,
            transposed: product.pack(matrix.transposed()),
            straight: bf16.then(|| product.pack(matrix)),
        }))
    }

    /// Packs the table's changed numbers.
    pub fn repack(&mut self, weights: &Weights) {
        let Some(packed) = &mut self.0 else { return };
        let matrix = weights.matrix(packed.table);
        packed.transposed.repack(matrix.transposed());
        if let Some(straight) = &mut packed.straight {
            straight.repack(matrix);
        }
    }

    fn of(&self, table: ParameterId) -> Option<&Packed> {
        self.0.as_ref().filter(|packed| packed.table == table)
    }

    /// `dx = d · table`, the way back from logits; `weights` hold the table.
    pub fn multiply_back(
        &self,
        product: Product,
        weights: &Weights,
        table: ParameterId,
        dx: MatrixMut,
        d: Matrix,
    ) {
        match self.of(table).and_then(|packed| packed.straight.as_ref()) {
            Some(straight) => gemm_packed(dx, d, straight, Plus::Nothing.into()),
            None => product.gemm(dx, d, weights.matrix(table), Plus::Nothing),
        }
    }
}

impl<'a> Parameters<'a> {
    /// Names and shapes.
    pub fn index(self) -> &'a ParameterIndex {
        match self {
            Parameters::Trained(weights, _) => &weights.index,
            Parameters::Packed(packed) => packed.index(),
        }
    }

    /// The shape of a parameter.
    pub fn shape(self, id: ParameterId) -> &'a [usize] {
        &self.index().get(id).shape
    }

    /// Whether a decoder keeps keys and values in bf16.
    pub(crate) fn keeps_cache_in_bf16(self) -> bool {
        match self {
            Parameters::Trained(..) => false,
            Parameters::Packed(packed) => packed.keeps_cache_in_bf16(),
        }
    }

    /// The numbers of a vector or of a table of positions.
    pub fn plain(self, id: ParameterId) -> &'a [f32] {
        match self {
            Parameters::Trained(weights, _) => weights.get(id),
            Parameters::Packed(packed) => packed.plain(id),
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
            Parameters::Packed(packed) => packed.row(id, r, scratch),
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
            Parameters::Packed(packed) => {
                let epilogue = plus.into();
                let one = PackedProduct {
                    id: weight,
                    y,
                    epilogue,
                };
                packed.multiply(product.alone, x, [one]);
            }
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
            Parameters::Trained(weights, packed) => match packed.of(table) {
                Some(packed) => gemm_packed(y, x, &packed.transposed, plus.into()),
                None => product.gemm(y, x, weights.matrix(table).transposed(), plus),
            },
            Parameters::Packed(packed) => {
                let epilogue = plus.into();
                let one = PackedProduct {
                    id: table,
                    y,
                    epilogue,
                };
                packed.multiply(product.alone, x, [one]);
            }
        }
    }
}
