//! The numeric kernels of Hexapla: slices in, slices out.
