//! The numeric kernels of Hexapla: slices in, slices out.
//!
//! This crate holds the project's only `unsafe` code. Three promises run through it:
//!
//! - **An instruction set is a value** ([`Isa`]) that exists only where the CPU has it, so a kernel that takes one
//!   cannot be called on a machine that lacks it.
//! - **Every sum has one order.** A product's output is a single chain of fused multiply-adds over k, whatever the
//!   number of rows; of the others most run in 16 lanes that are added in one fixed tree, the rest in one chain. So results are the same, bit for
//!   bit, on every instruction set, in any batch and on any number of threads. (With products in bf16, on every set that
//!   lacks an instruction for them; the one that has it is as constant, with an order of its own: see [`gemm_bf16`].)
//! - **Sizes are checked** before any pointer is made from a slice.

mod activation;
#[cfg(target_arch = "x86_64")]
mod amx;
mod attend;
mod bf16;
mod buffer;
mod dropout;
mod embed;
mod epilogue;
mod gemm;
mod int4;
mod int8;
mod isa;
mod loss;
mod math;
mod matrix;
mod norm;
mod panels;
mod rotary;
#[cfg(test)]
mod row_tests;
mod shared;
mod simd;
mod sixteen;
mod softmax;
mod sums;
#[cfg(test)]
mod testing;
mod update;

pub use activation::{Activation, activate, activate_backward, gate, gate_backward};
pub use attend::{
    CachedRows, PagedRows, Seen, Stored, attend_row, attend_scratch, load_row, store_row,
};
pub use buffer::Buffer;
pub use dropout::Dropout;
pub use embed::{dropout_in_place, embed_row, residual};
pub use epilogue::Epilogue;
pub use gemm::{PackedMatrix, gemm, gemm_bf16, gemm_packed, gemm_packed_columns};
pub use int4::{Int4Rows, PackedInt4, gemm_int4_all};
pub use int8::{
    Int8Scales, PackedInt8, QuantizedRows, StoredInt8, gemm_int8, gemm_int8_all,
    gemm_int8_quantized,
};
pub use isa::Isa;
pub use loss::{CrossEntropy, RowLoss, cross_entropy_pair, cross_entropy_row};
pub use matrix::{Matrix, MatrixMut, Plus};
pub use norm::{
    LayerNormBackward, RmsNormBackward, layer_norm, layer_norm_backward, rms_norm,
    rms_norm_backward,
};
pub use rotary::rotate;
pub use shared::{SharedBytes, open_model_file};
pub use softmax::{Visible, softmax_backward_in_place, softmax_in_place};
pub use sums::{add_assign, bias_gradient, block_max, exp_of, exp_sum, max, subtract_both};
pub use update::{AdamSettings, adam, blend, squared_norm};
