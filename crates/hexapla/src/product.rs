//! The one place where the precision of a large matrix product is chosen.

use hexapla_kernels::{Isa, Matrix, MatrixMut, PackedMatrix, Plus, gemm, gemm_bf16};

use crate::config::Precision;

/// How the products of the linear layers and of the output layer are computed, forward and backward. All else, and all that
/// is kept in memory, is f32.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Product {
    /// Instructions to use.
    pub isa: Isa,
    /// What the factors are rounded to: decided, see [`crate::fastest`].
    pub precision: Precision,
    /// Whether the threads have no other work meanwhile, and so share each product of inference. That changes no result.
    pub alone: bool,
}

impl Product {
    /// `C (+)= A · B`, as [`hexapla_kernels::gemm`] or [`hexapla_kernels::gemm_bf16`].
    pub fn gemm(self, c: MatrixMut, a: Matrix, b: Matrix, plus: Plus) {
        match self.precision {
            Precision::Float32 | Precision::Auto => gemm(self.isa, c, a, b, plus),
            Precision::Bf16 => gemm_bf16(self.isa, c, a, b, plus),
        }
    }

    /// `b` packed for many such products.
    pub fn pack(self, b: Matrix) -> PackedMatrix {
        match self.precision {
            Precision::Float32 | Precision::Auto => PackedMatrix::new(self.isa, b),
            Precision::Bf16 => PackedMatrix::bf16(self.isa, b),
        }
    }
}
