//! Parameters made ready for inference: matrices packed for the product, in the number type asked for.

use std::sync::Arc;

use hexapla_kernels::{
    Buffer, Epilogue, Int4Rows, Int8Scales, Isa, Matrix, MatrixMut, PackedInt4, PackedInt8,
    PackedMatrix, Plus, QuantizedRows, gemm_int4_all, gemm_int8_all, gemm_packed,
    gemm_packed_columns,
};
use rayon::prelude::*;

use crate::config::ComputeType;
use crate::fastest;
use crate::weights::{Kind, Parameter, ParameterId, ParameterIndex, Weights};

/// All parameters of a model, each in the form in which inference reads it. Nothing is kept twice.
#[derive(Debug)]
pub struct PackedWeights {
    index: Arc<ParameterIndex>,
    values: Vec<Value>,
    compute_type: ComputeType,
    /// Whether there are too many for caches near a core, so that one row's products wait for memory.
    far: bool,
}

/// One parameter.
#[derive(Debug)]
pub(crate) enum Value {
    /// As it is: vectors, and tables of positions.
    Plain(Buffer),
    /// A matrix in f32 or bf16; an embedding table is packed transposed, `[d_model, vocab]`.
    Float(PackedMatrix),
    /// A matrix in int8, as above.
    Int8(PackedInt8),
    /// A linear layer's weight in int4.
    Int4(PackedInt4),
}

/// The input of products as each kind of matrix of integers wants it, where it is the same for all of a kind.
struct Quantized {
    int8: Option<QuantizedRows>,
    int4: Option<Int4Rows>,
}

/// Products of at most this many rows are worth dividing among threads by columns: more rows keep a thread busy long
/// enough to divide the work by sentences.
const FEW_ROWS: usize = 8;
/// Multiplications of a product from which on it is shared by threads that have no other work.
const SHARED_WORK: usize = 8 << 20;
/// Rows that one thread takes at least where a product is divided by rows.
const BLOCK_ROWS: usize = 16;
/// Numbers in a matrix from which on waking a thread costs less than it saves.
const LARGE_MATRIX: usize = 2 << 20;
/// The same where the threads have no other work and the weights come from memory, which each thread reads for itself.
const MATRIX_ALONE: usize = 100_000;
/// Bytes of weights that come from memory. The embedded model's do not, and its products are done before a thread is awake.
const FAR: usize = 32 << 20;

impl PackedWeights {
    /// Prepares `weights`.
    pub fn new(weights: &Weights, compute_type: ComputeType) -> Self {
        let compute_type = fastest::decided_compute_type(compute_type);
        let index = &weights.index;
        let parameters: Vec<&Parameter> = index.iter().collect();
        let number_type = (compute_type, index.int8_scales);
        let values = parameters
            .par_iter()
            .map(|p| {
                let numbers = &weights.data[p.range.clone()];
                Value::new(p, numbers, number_type)
            })
            .collect();
        PackedWeights::from_values(index.clone(), values, compute_type)
    }

    /// From one value for each parameter of `index`, in order.
    pub(crate) fn from_values(
        index: Arc<ParameterIndex>,
        values: Vec<Value>,
        compute_type: ComputeType,
    ) -> Self {
        assert_eq!(index.iter().len(), values.len());
        let mut weights = PackedWeights {
            index,
            values,
            compute_type,
            far: false,
        };
        weights.far = weights.bytes() > FAR;
        weights
    }

    /// The number type of its matrices.
    pub fn compute_type(&self) -> ComputeType {
        self.compute_type
    }

    /// Whether a decoder keeps keys and values in bf16: wherever the products that they come from are less exact anyway.
    pub(crate) fn keeps_cache_in_bf16(&self) -> bool {
        !matches!(
            self.compute_type,
            ComputeType::Float32 | ComputeType::Default
        )
    }

    /// Each parameter with its value, in order.
    pub(crate) fn parameters(&self) -> impl Iterator<Item = (&Parameter, &Value)> {
        self.index.iter().zip(&self.values)
    }

    /// Names and shapes.
    pub fn index(&self) -> &Arc<ParameterIndex> {
        &self.index
    }

    /// Bytes of memory that the numbers take.
    pub fn bytes(&self) -> usize {
        let of = |value: &Value| match value {
            Value::Plain(v) => v.capacity() * 4,
            Value::Float(m) => m.bytes(),
            Value::Int8(m) => m.bytes(),
            Value::Int4(m) => m.bytes(),
        };
        self.values.iter().map(of).sum()
    }

    /// The numbers of a parameter that is kept as it is.
    ///
    /// # Panics
    /// It is a matrix of a product: a mistake in this library.
    pub(crate) fn plain(&self, id: ParameterId) -> &[f32] {
        match &self.values[id.0] {
            Value::Plain(v) => v,
            _ => panic!("`{}` is packed", self.index.get(id).name),
        }
    }

    /// Row `r` of a table, or column `r` of a linear layer's weight: what output `r` is made with. `scratch` holds as many numbers.
    pub(crate) fn row<'s, 'a: 's>(
        &'a self,
        id: ParameterId,
        r: usize,
        scratch: &'s mut [f32],
    ) -> &'s [f32] {
        match &self.values[id.0] {
            Value::Plain(v) => return &v[r * scratch.len()..][..scratch.len()],
            packed => packed.column(r, scratch),
        }
        scratch
    }

    /// `y = activation(x · W + bias)`, or of `x · tableᵀ`, for each of `products`. One or a few rows by a large matrix are divided
    /// among threads, and so is any product that is worth it where they have no other work (`alone`): by rows, or by columns
    /// where these are few. That changes no result, since each output is a chain of its own. In int8 `x` is quantized once.
    pub(crate) fn multiply<'a, const N: usize>(
        &'a self,
        alone: bool,
        x: Matrix,
        products: [PackedProduct<'a>; N],
    ) {
        let (rows, threads) = (x.rows(), rayon::current_num_threads());
        let size = |p: &PackedProduct| x.columns() * p.y.columns();
        let all: usize = products.iter().map(size).sum();
        let largest = products.iter().map(size).max().unwrap_or(0);
        let large = match alone && self.far {
            true => MATRIX_ALONE,
            false => LARGE_MATRIX,
        };
        let few = rows <= FEW_ROWS && largest >= large;
        let many = rows >= threads * BLOCK_ROWS;
        // In integers some ten rows are faster on one thread than divided by columns, where each thread quantizes all of them.
        let in_integers =
            |p: &PackedProduct| matches!(self.values[p.id.0], Value::Int8(_) | Value::Int4(_));
        let divides = many || !products.iter().any(in_integers);
        let worth = alone && divides && rows * all >= SHARED_WORK;
        if !(few || worth) || rows == 0 || threads == 1 {
            return self.multiply_on_this_thread(x, products);
        }
        if many {
            let block = rows.div_ceil(threads).next_multiple_of(BLOCK_ROWS);
            let mut blocks: Vec<Vec<PackedProduct>> = Vec::new();
            for PackedProduct { id, y, epilogue } in products {
                for (i, y) in y.row_blocks(block).enumerate() {
                    if blocks.len() == i {
                        blocks.push(Vec::with_capacity(N));
                    }
                    blocks[i].push(PackedProduct { id, y, epilogue });
                }
            }
            let blocks = blocks.into_par_iter().enumerate();
            return blocks.for_each(|(i, products)| {
                let first = i * block;
                let x = x.row_range(first..rows.min(first + block));
                self.multiply_on_this_thread(x, products);
            });
        }
        self.multiply_by_columns(x, products, threads);
    }

    /// Each thread some of the columns of each of `products`.
    fn multiply_by_columns<const N: usize>(
        &self,
        x: Matrix,
        mut products: [PackedProduct; N],
        threads: usize,
    ) {
        // Once for all threads and products, unless a weight's rows have scales of their own.
        let values = || products.iter().map(|p| &self.values[p.id.0]);
        let quantized = Quantized {
            int8: values().find_map(|value| match value {
                Value::Int8(m) if m.row_scales().is_empty() => {
                    let mut rows = QuantizedRows::new();
                    rows.quantize_for(m, &x);
                    Some(rows)
                }
                _ => None,
            }),
            int4: values().find_map(|value| match value {
                Value::Int4(m) => {
                    let mut rows = Int4Rows::new();
                    rows.quantize_for(m, &x);
                    Some(rows)
                }
                _ => None,
            }),
        };
        // Whole panels of every packed form.
        let panel = PackedInt8::PANEL;
        let start = |columns: usize, thread: usize| {
            let panels = columns.div_ceil(panel) * thread / threads;
            columns.min(panels * panel)
        };
        let parts: Vec<[Buffer; N]> = (0..threads)
            .into_par_iter()
            .map(|thread| {
                products.each_ref().map(|p| {
                    let columns = p.y.columns();
                    let columns = start(columns, thread)..start(columns, thread + 1);
                    let value = &self.values[p.id.0];
                    value.multiply_columns(columns, x, &quantized, p.epilogue)
                })
            })
            .collect();
        for (thread, parts) in parts.iter().enumerate() {
            for (p, part) in products.iter_mut().zip(parts) {
                let first = start(p.y.columns(), thread);
                let n = part.len() / x.rows();
                for (r, part) in part.chunks_exact(n.max(1)).enumerate() {
                    p.y.row_mut(r)[first..][..n].copy_from_slice(part);
                }
            }
        }
    }

    fn multiply_on_this_thread<'a>(
        &'a self,
        x: Matrix,
        products: impl IntoIterator<Item = PackedProduct<'a>>,
    ) {
        // Those in floats at once, the others together.
        let (mut in_int8, mut in_int4) = (Vec::new(), Vec::new());
        for p in products {
            match &self.values[p.id.0] {
                Value::Int8(m) => in_int8.push((p.y, m, p.epilogue)),
                Value::Int4(m) => in_int4.push((p.y, m, p.epilogue)),
                Value::Float(m) => gemm_packed(p.y, x, m, p.epilogue),
                Value::Plain(_) => panic!("a vector is no factor of a product"),
            }
        }
        gemm_int8_all(x, in_int8);
        gemm_int4_all(x, in_int4);
    }
}

/// One of the products of an input.
pub(crate) struct PackedProduct<'a> {
    /// The other factor.
    pub(crate) id: ParameterId,
    pub(crate) y: MatrixMut<'a>,
    pub(crate) epilogue: Epilogue<'a>,
}

impl Value {
    /// The parameter `p`, whose numbers lie in its shape's order; in int8 the rows that it is
    /// multiplied by are scaled as the second of `number_type` says.
    pub(crate) fn new(
        p: &Parameter,
        numbers: &[f32],
        number_type: (ComputeType, Int8Scales),
    ) -> Self {
        let number_type = Value::number_type(p, number_type);
        match (p.kind, p.shape.as_slice()) {
            (Kind::Weight, [rows, columns]) => {
                Value::weight(Matrix::new(numbers, *rows, *columns, *columns), number_type)
            }
            (Kind::Table(_), [rows, columns]) => {
                let matrix = Matrix::new(numbers, *rows, *columns, *columns).transposed();
                Value::columns_of(matrix, number_type)
            }
            _ => {
                let mut plain = Buffer::zeros(numbers.len());
                plain.copy_from_slice(numbers);
                Value::Plain(plain)
            }
        }
    }

    /// The number type of a parameter in a model of this one: in int4 tables are in int8.
    pub(crate) fn number_type(
        p: &Parameter,
        (compute_type, scales): (ComputeType, Int8Scales),
    ) -> (ComputeType, Int8Scales) {
        match (compute_type, p.kind) {
            (ComputeType::Int4, Kind::Table(_)) => (ComputeType::Int8, scales),
            _ => (compute_type, scales),
        }
    }

    /// A linear layer's weight `[in, out]`.
    pub(crate) fn weight(matrix: Matrix, number_type: (ComputeType, Int8Scales)) -> Self {
        if Value::is_equalized(number_type) {
            return Value::Int8(PackedInt8::equalized(Isa::best(), matrix));
        }
        match number_type.0 {
            // By rows, which is how they lie.
            ComputeType::Int8 => Value::Int8(PackedInt8::new(Isa::best(), matrix)),
            _ => Value::columns_of(matrix, number_type),
        }
    }

    /// Whether the rows of weights are brought nearer to one magnitude: in int8, where outliers are taken out.
    pub(crate) fn is_equalized((compute_type, scales): (ComputeType, Int8Scales)) -> bool {
        compute_type == ComputeType::Int8 && scales == Int8Scales::WithoutOutlier
    }

    fn columns_of(matrix: Matrix, number_type: (ComputeType, Int8Scales)) -> Self {
        let mut value = Value::zeros(matrix.rows(), matrix.columns(), number_type);
        value.set_columns(0, matrix);
        value
    }

    /// A matrix of zeros.
    pub(crate) fn zeros(
        rows: usize,
        columns: usize,
        (compute_type, scales): (ComputeType, Int8Scales),
    ) -> Self {
        let isa = Isa::best();
        match compute_type {
            ComputeType::Float32 | ComputeType::Default | ComputeType::Auto => {
                Value::Float(PackedMatrix::zeros(isa, false, rows, columns))
            }
            ComputeType::Bf16 => Value::Float(PackedMatrix::zeros(isa, true, rows, columns)),
            ComputeType::Int8 => {
                Value::Int8(PackedInt8::zeros(isa, rows, columns).scaled_by(scales))
            }
            ComputeType::Int4 => Value::Int4(PackedInt4::zeros(isa, rows, columns)),
        }
    }

    /// Column `r` of the matrix (as rounded), to `out`, which holds as many numbers as it has rows.
    ///
    /// # Panics
    /// There is no such column.
    pub(crate) fn column(&self, r: usize, out: &mut [f32]) {
        match self {
            Value::Plain(_) => panic!("a vector has no columns"),
            Value::Float(m) => m.column(r, out),
            Value::Int8(m) => m.column(r, out),
            Value::Int4(m) => m.column(r, out),
        }
    }

    /// Packs the columns from `start` on, a multiple of [`PackedInt8::PANEL`].
    pub(crate) fn set_columns(&mut self, start: usize, matrix: Matrix) {
        match self {
            Value::Float(m) => m.set_columns(start, matrix),
            Value::Int8(m) => m.set_columns(start, matrix),
            Value::Int4(m) => m.set_columns(start, matrix),
            Value::Plain(_) => panic!("a vector has no columns"),
        }
    }

    /// The columns `columns` of the product alone, `[x.rows(), columns.len()]`. `quantized` is `x`, where it is there.
    fn multiply_columns(
        &self,
        columns: std::ops::Range<usize>,
        x: Matrix,
        quantized: &Quantized,
        mut epilogue: Epilogue,
    ) -> Buffer {
        let n = columns.len();
        if let Plus::Bias(bias) = epilogue.plus {
            epilogue.plus = Plus::Bias(&bias[columns.clone()]);
        }
        let mut part = Buffer::zeros(x.rows() * n);
        let y = MatrixMut::new(&mut part, x.rows(), n, n);
        match self {
            Value::Float(m) => gemm_packed_columns(y, x, m, columns, epilogue),
            Value::Int8(m) => match &quantized.int8 {
                Some(rows) if m.row_scales().is_empty() => {
                    m.multiply_columns(columns, y, rows, epilogue);
                }
                _ => {
                    let mut rows = QuantizedRows::new();
                    rows.quantize_for(m, &x);
                    m.multiply_columns(columns, y, &rows, epilogue);
                }
            },
            Value::Int4(m) => {
                let rows = quantized.int4.as_ref();
                let rows = rows.expect("an input in bytes for every matrix in int4");
                m.multiply_columns(columns, y, rows, epilogue);
            }
            Value::Plain(_) => panic!("a vector is no factor of a product"),
        }
        part
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::SplitMix;
    use hexapla_kernels::Activation;

    fn weights() -> (Weights, ParameterId, ParameterId) {
        let mut index = ParameterIndex::default();
        let weight = index.add("w", &[520, 4200], Kind::Weight);
        let table = index.add("e", &[4200, 520], Kind::Table(0.5));
        index.add("b", &[4200], Kind::Vector(0.25));
        (Weights::random(Arc::new(index), 3), weight, table)
    }

    fn product(p: &PackedWeights, id: ParameterId, rows: usize, threads: usize) -> Vec<f32> {
        let mut random = SplitMix(5);
        let x: Vec<f32> = (0..rows * 520).map(|_| random.normal()).collect();
        let mut y = vec![0.0; rows * 4200];
        let bias = p.plain(p.index().find("b").unwrap());
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        pool.build().unwrap().install(|| {
            let to = MatrixMut::new(&mut y, rows, 4200, 4200);
            let epilogue = Epilogue {
                plus: Plus::Bias(bias),
                activation: Some(Activation::Swish),
            };
            let product = PackedProduct {
                id,
                y: to,
                epilogue,
            };
            p.multiply(true, Matrix::new(&x, rows, 520, 520), [product]);
        });
        y
    }

    #[test]
    fn threads_share_a_product_without_changing_it_and_types_agree() {
        let (weights, weight, table) = weights();
        for id in [weight, table] {
            let exact = product(
                &PackedWeights::new(&weights, ComputeType::Float32),
                id,
                3,
                1,
            );
            let largest = exact.iter().fold(0.0f32, |m, v| m.max(v.abs()));
            // 520 products whose factors are off by half a step of 1/127 (int8) or 2⁻⁹ (bf16) of the largest, at random.
            for (compute_type, tolerance) in [
                (ComputeType::Float32, 0.0),
                (ComputeType::Bf16, 0.005),
                (ComputeType::Int8, 0.02),
            ] {
                let packed = PackedWeights::new(&weights, compute_type);
                let alone = product(&packed, id, 3, 1);
                for threads in [2, 3] {
                    assert!(alone == product(&packed, id, 3, threads));
                }
                assert!(product(&packed, id, 0, 2).is_empty());
                // In the company of other rows, divided by columns and by rows.
                for rows in [12, 37, 150] {
                    let one = product(&packed, id, rows, 1);
                    assert!(alone[..] == one[..alone.len()]);
                    for threads in [2, 3, 5] {
                        assert!(
                            one == product(&packed, id, rows, threads),
                            "{rows} {threads}"
                        );
                    }
                }
                for (a, b) in exact.iter().zip(&alone) {
                    assert!(
                        (a - b).abs() <= tolerance * largest,
                        "{compute_type:?}: {a} {b}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_row_of_a_table_comes_back() {
        let (weights, _, table) = weights();
        for (compute_type, tolerance) in [
            (ComputeType::Float32, 0.0),
            (ComputeType::Bf16, 1.0 / 256.0),
            (ComputeType::Int8, 1.0 / 250.0),
        ] {
            let packed = PackedWeights::new(&weights, compute_type);
            for r in [0, 63, 64, 4199] {
                let mut scratch = vec![0.0; 520];
                let expected = &weights.get(table)[r * 520..][..520];
                let largest = expected.iter().fold(0.0f32, |m, v| m.max(v.abs()));
                for (a, b) in packed.row(table, r, &mut scratch).iter().zip(expected) {
                    assert!(
                        (a - b).abs() <= tolerance * largest,
                        "{compute_type:?}: {a} {b}"
                    );
                }
            }
            let mib = packed.bytes() as f64 / (2 * 520 * 4200) as f64;
            let expected = if compute_type == ComputeType::Int8 {
                1.0
            } else {
                4.0
            };
            assert!(
                mib > expected * 0.45 && mib < expected * 1.05,
                "{compute_type:?}: {mib}"
            );
        }
    }
}
