//! Matrix products with sums in f32: `C (+)= A · B (+ bias)`.
//!
//! In f32, each output is one chain of fused multiply-adds over k in ascending order, starting from 0 (or from C), with the bias
//! added last. Blocking over k stores and reloads the chain and does not change it. So an output depends on its row of A
//! and its column of B alone: not on the number of rows, the instruction set, or the blocking.
//!
//! In bf16 ([`gemm_bf16`]), A and B are rounded to bf16 while they are packed. What holds for f32 then holds for the rounded
//! numbers on every instruction set that lacks a bf16 product. A set that has one sums the products of two neighbouring k
//! in its own order and takes denormal numbers for zero: its outputs differ from the others' by the rounding of f32 sums,
//! and depend on their row of A and their column of B alone as before.
//!
//! The blocking is Goto's: a panel of B (`KC × NR`) stays in the first cache, a block of A (`MC × KC`) in the second.

use std::cell::RefCell;

use crate::bf16;
use crate::buffer::Buffer;
use crate::isa::{Isa, Level};
#[cfg(target_arch = "x86_64")]
use crate::simd::{Avx2, Avx512};
use crate::simd::{Plain, Simd};

/// A view of a matrix inside a slice: element (r, c) stands at `r * row_stride + c * column_stride`.
#[derive(Debug, Clone, Copy)]
pub struct Matrix<'a> {
    pub(crate) data: &'a [f32],
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    pub(crate) row_stride: usize,
    pub(crate) column_stride: usize,
}

impl<'a> Matrix<'a> {
    /// `rows × columns`, row after row, rows `row_stride` apart.
    ///
    /// # Panics
    /// The slice is too short.
    pub fn new(data: &'a [f32], rows: usize, columns: usize, row_stride: usize) -> Self {
        assert!(
            rows == 0 || columns == 0 || (rows - 1) * row_stride + columns <= data.len(),
            "a {rows}×{columns} matrix with stride {row_stride} does not fit in {} numbers",
            data.len()
        );
        Matrix {
            data,
            rows,
            columns,
            row_stride,
            column_stride: 1,
        }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// The same numbers with rows and columns exchanged.
    #[must_use]
    pub fn transposed(self) -> Self {
        Matrix {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }
}

/// A view of a matrix to write to, row after row.
#[derive(Debug)]
pub struct MatrixMut<'a> {
    pub(crate) data: &'a mut [f32],
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    pub(crate) row_stride: usize,
}

impl<'a> MatrixMut<'a> {
    /// `rows × columns`, rows `row_stride` apart.
    ///
    /// # Panics
    /// The slice is too short, or rows overlap.
    pub fn new(data: &'a mut [f32], rows: usize, columns: usize, row_stride: usize) -> Self {
        assert!(
            rows == 0 || columns == 0 || (rows - 1) * row_stride + columns <= data.len(),
            "a {rows}×{columns} matrix with stride {row_stride} does not fit in {} numbers",
            data.len()
        );
        assert!(rows <= 1 || row_stride >= columns, "rows overlap");
        MatrixMut {
            data,
            rows,
            columns,
            row_stride,
        }
    }
}

impl MatrixMut<'_> {
    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Row `r`.
    ///
    /// # Panics
    /// There is no such row.
    pub fn row_mut(&mut self, r: usize) -> &mut [f32] {
        assert!(r < self.rows);
        &mut self.data[r * self.row_stride..][..self.columns]
    }
}

/// What a product is added to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Plus<'a> {
    /// Nothing: C's numbers are replaced.
    Nothing,
    /// The numbers that are in C: each chain starts from them.
    C,
    /// A bias, one number for each column, added at the end of each chain; C's numbers are replaced.
    Bias(&'a [f32]),
}

/// Bytes of a cache line.
const LINE: usize = 64;
/// Rows of A in a tile.
const MR: usize = 8;
/// Words of k in a block: a panel of `KC × NR` words is 32 KiB with AVX-512.
const KC: usize = 256;
/// Rows of A in a packed block.
const MC: usize = 256;
/// Columns of B in a packed block (a multiple of every tile's width).
const NC: usize = 768;
/// Products with at most this many numbers in B are computed from B as it lies.
const SMALL_B: usize = 64 * 64;

/// Columns of B in a tile.
fn tile_width(isa: Isa) -> usize {
    match isa.0 {
        Level::Scalar => 2 * Plain::LANES,
        #[cfg(target_arch = "aarch64")]
        Level::Neon => 2 * Plain::LANES,
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => 2 * Avx2::LANES,
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => 2 * Avx512::<false>::LANES,
    }
}

/// What a 32-bit word of a packed block holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    /// A number.
    F32,
    /// A number rounded to bf16, where no instruction multiplies bf16.
    Rounded,
    /// The bf16 numbers of two neighbouring k, the first in the lower half; a missing last one is zero.
    Pairs,
}

impl Format {
    fn bf16(isa: Isa) -> Self {
        if isa.has_bf16() {
            Format::Pairs
        } else {
            Format::Rounded
        }
    }

    /// Words that hold `k` numbers.
    fn words(self, k: usize) -> usize {
        if self == Format::Pairs {
            k.div_ceil(2)
        } else {
            k
        }
    }

    /// Numbers of k in a block.
    fn block(self) -> usize {
        if self == Format::Pairs { 2 * KC } else { KC }
    }
}

thread_local! {
    /// Packed blocks of A and B, kept from call to call.
    static SCRATCH: RefCell<(Buffer, Buffer)> = RefCell::default();
}

/// `C (+)= A · B`.
///
/// # Panics
/// The shapes do not fit.
pub fn gemm(isa: Isa, c: MatrixMut, a: Matrix, b: Matrix, plus: Plus) {
    let product = Product::new((isa, Format::F32), c, a, (b.rows, b.columns), plus);
    SCRATCH.with_borrow_mut(|(pack_a, pack_b)| {
        if b.column_stride == 1 && (b.rows * b.columns <= SMALL_B || product.a.rows <= MR) {
            product.run(B::Direct(b), pack_a);
        } else {
            product.run_packing(b, pack_a, pack_b);
        }
    });
}

/// `C (+)= A · B` with A and B rounded to bf16 (to nearest, ties to even) and sums in f32. It is made for the large
/// products of training: small ones are faster in f32.
///
/// # Panics
/// The shapes do not fit.
pub fn gemm_bf16(isa: Isa, c: MatrixMut, a: Matrix, b: Matrix, plus: Plus) {
    let format = Format::bf16(isa);
    let product = Product::new((isa, format), c, a, (b.rows, b.columns), plus);
    SCRATCH.with_borrow_mut(|(pack_a, pack_b)| product.run_packing(b, pack_a, pack_b));
}

/// A matrix B packed once, for many products in f32 or in bf16.
#[derive(Debug, Clone)]
pub struct PackedMatrix {
    isa: Isa,
    format: Format,
    rows: usize,
    columns: usize,
    /// Panels of `tile_width` columns: all rows of the first, then of the second …; the last is filled with zeros.
    panels: Buffer,
}

impl PackedMatrix {
    /// Packs `b` for products in f32 with the instruction set `isa`.
    pub fn new(isa: Isa, b: Matrix) -> Self {
        Self::with_format(isa, Format::F32, b)
    }

    /// Rounds `b` to bf16 and packs it: products with it are those of [`gemm_bf16`].
    pub fn bf16(isa: Isa, b: Matrix) -> Self {
        Self::with_format(isa, Format::bf16(isa), b)
    }

    fn with_format(isa: Isa, format: Format, b: Matrix) -> Self {
        let mut packed = Self::empty(isa, format, b.rows, b.columns);
        packed.repack(b);
        packed
    }

    /// Zeros, to be filled by [`PackedMatrix::set_columns`]; with `bf16`, in bf16.
    pub fn zeros(isa: Isa, bf16: bool, rows: usize, columns: usize) -> Self {
        let format = if bf16 { Format::bf16(isa) } else { Format::F32 };
        Self::empty(isa, format, rows, columns)
    }

    fn empty(isa: Isa, format: Format, rows: usize, columns: usize) -> Self {
        let width = tile_width(isa);
        let words = columns.div_ceil(width) * format.words(rows) * width;
        PackedMatrix {
            isa,
            format,
            rows,
            columns,
            panels: Buffer::zeros(words),
        }
    }

    /// Packs the columns from `start` on, as many as `b` has.
    ///
    /// # Panics
    /// The shapes do not fit, or `start` is no multiple of [`PackedMatrix::panel`].
    pub fn set_columns(&mut self, start: usize, b: Matrix) {
        let width = tile_width(self.isa);
        assert!(b.rows == self.rows && start + b.columns <= self.columns);
        assert!(
            start.is_multiple_of(width),
            "{start} is not where a panel begins"
        );
        let from = start / width * self.format.words(self.rows) * width;
        let how = (self.isa, self.format);
        pack_b(
            how,
            &mut self.panels[from..],
            b,
            (0, b.rows),
            (0, b.columns),
        );
    }

    /// Packs other numbers of the same shape in place.
    ///
    /// # Panics
    /// `b` has another shape.
    pub fn repack(&mut self, b: Matrix) {
        assert_eq!(
            (b.rows, b.columns),
            (self.rows, self.columns),
            "another shape"
        );
        let how = (self.isa, self.format);
        pack_b(how, &mut self.panels, b, (0, b.rows), (0, b.columns));
    }

    /// Rows of B: the inner size of a product.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Bytes of memory taken.
    pub fn bytes(&self) -> usize {
        self.panels.capacity() * 4
    }

    /// Where a product may be cut ([`gemm_packed_columns`]): at multiples of this.
    pub fn panel(&self) -> usize {
        tile_width(self.isa)
    }

    /// Column `j` of B (as rounded), to `out`, which holds as many numbers as B has rows.
    ///
    /// # Panics
    /// There is no such column, or `out` has another length.
    pub fn column(&self, j: usize, out: &mut [f32]) {
        assert!(j < self.columns && out.len() == self.rows);
        let width = tile_width(self.isa);
        let words = self.format.words(self.rows);
        let panel = &self.panels[j / width * words * width..][..words * width];
        for (word, k) in panel[j % width..].iter().step_by(width).zip(0..) {
            match self.format {
                Format::Pairs => {
                    let bits = word.to_bits();
                    out[2 * k] = f32::from_bits(bits << 16);
                    if let Some(second) = out.get_mut(2 * k + 1) {
                        *second = f32::from_bits(bits & 0xFFFF_0000);
                    }
                }
                Format::F32 | Format::Rounded => out[k] = *word,
            }
        }
    }

    /// Columns of B: the width of a product.
    pub fn columns(&self) -> usize {
        self.columns
    }
}

/// [`gemm`] with a packed B, or [`gemm_bf16`] where B is packed in bf16.
///
/// # Panics
/// The shapes do not fit.
pub fn gemm_packed(c: MatrixMut, a: Matrix, b: &PackedMatrix, plus: Plus) {
    let product = Product::new((b.isa, b.format), c, a, (b.rows, b.columns), plus);
    let panels = B::Packed {
        panels: &b.panels,
        rows: b.rows,
    };
    SCRATCH.with_borrow_mut(|(pack_a, _)| product.run(panels, pack_a));
}

/// [`gemm_packed`] for some of B's columns: C holds these alone, and a bias is that of these alone. Threads can so share one
/// product.
///
/// # Panics
/// The shapes do not fit, or `columns` begins elsewhere than at a multiple of [`PackedMatrix::panel`].
pub fn gemm_packed_columns(
    c: MatrixMut,
    a: Matrix,
    b: &PackedMatrix,
    columns: std::ops::Range<usize>,
    plus: Plus,
) {
    let width = tile_width(b.isa);
    assert!(
        columns.end <= b.columns && columns.start.is_multiple_of(width),
        "columns {columns:?} do not begin with a panel"
    );
    let product = Product::new((b.isa, b.format), c, a, (b.rows, columns.len()), plus);
    let start = columns.start / width * b.format.words(b.rows) * width;
    let panels = B::Packed {
        panels: &b.panels[start..],
        rows: b.rows,
    };
    SCRATCH.with_borrow_mut(|(pack_a, _)| product.run(panels, pack_a));
}

/// Where B's panels lie.
#[derive(Clone, Copy)]
enum B<'a> {
    /// In a matrix whose columns are one apart.
    Direct(Matrix<'a>),
    /// In panels of the tile's width over `rows` k.
    Packed { panels: &'a [f32], rows: usize },
}

/// One product under way.
struct Product<'a> {
    isa: Isa,
    format: Format,
    a: Matrix<'a>,
    c: MatrixMut<'a>,
    plus: Plus<'a>,
}

/// A part of a product: rows, columns and k.
#[derive(Clone, Copy)]
struct Block {
    rows: (usize, usize),
    columns: (usize, usize),
    k: (usize, usize),
}

impl<'a> Product<'a> {
    /// A product with a B of `b_shape`.
    ///
    /// # Panics
    /// The shapes do not fit.
    fn new(
        (isa, format): (Isa, Format),
        c: MatrixMut<'a>,
        a: Matrix<'a>,
        b_shape: (usize, usize),
        plus: Plus<'a>,
    ) -> Self {
        assert_eq!(a.columns, b_shape.0, "inner sizes differ");
        assert_eq!(
            (c.rows, c.columns),
            (a.rows, b_shape.1),
            "C has another shape than A·B"
        );
        if let Plus::Bias(bias) = plus {
            assert_eq!(
                bias.len(),
                c.columns,
                "the bias has another length than C's rows"
            );
        }
        Product {
            isa,
            format,
            a,
            c,
            plus,
        }
    }

    /// Multiplies by a B whose panels can be read where they lie.
    fn run(mut self, b: B, pack: &mut Buffer) {
        let (n, k) = (self.c.columns, self.a.columns);
        for k0 in (0..k.max(1)).step_by(self.format.block()) {
            let k1 = (k0 + self.format.block()).min(k);
            self.rows(
                b,
                Block {
                    rows: (0, 0),
                    columns: (0, n),
                    k: (k0, k1),
                },
                (0, 0),
                pack,
            );
        }
    }

    /// Multiplies by any B, packing it block by block.
    fn run_packing(mut self, b: Matrix, pack_a: &mut Buffer, pack: &mut Buffer) {
        let (n, k) = (self.c.columns, self.a.columns);
        let width = tile_width(self.isa);
        for n0 in (0..n).step_by(NC) {
            let n1 = (n0 + NC).min(n);
            for k0 in (0..k.max(1)).step_by(self.format.block()) {
                let k1 = (k0 + self.format.block()).min(k);
                pack.resize((n1 - n0).div_ceil(width) * self.format.words(k1 - k0) * width);
                pack_b((self.isa, self.format), pack, b, (k0, k1), (n0, n1));
                let block = Block {
                    rows: (0, 0),
                    columns: (n0, n1),
                    k: (k0, k1),
                };
                self.rows(
                    B::Packed {
                        panels: pack,
                        rows: k1 - k0,
                    },
                    block,
                    (k0, n0),
                    pack_a,
                );
            }
        }
    }

    /// All rows of one block of columns and k. `origin` is the (k, column) at which B's panels begin.
    fn rows(&mut self, b: B, block: Block, origin: (usize, usize), pack: &mut Buffer) {
        let m = self.a.rows;
        let k = self.format.words(block.k.1 - block.k.0);
        // Rows that lie in one piece are read where they are, one cache line of each for 16 steps of k. Others are packed
        // where several tiles read them again.
        let packing = self.format != Format::F32
            || self.a.column_stride != 1
                && m > MR
                && (block.columns.1 - block.columns.0) > 2 * tile_width(self.isa);
        for m0 in (0..m).step_by(MC) {
            let m1 = (m0 + MC).min(m);
            if packing {
                pack.resize((m1 - m0).div_ceil(MR) * MR * k);
                pack_a((self.isa, self.format), pack, self.a, (m0, m1), block.k);
            }
            let packed = packing.then_some(&**pack);
            self.tiles(
                b,
                packed,
                Block {
                    rows: (m0, m1),
                    ..block
                },
                origin,
            );
        }
    }

    /// The tiles of one block.
    fn tiles(&mut self, b: B, packed_a: Option<&[f32]>, block: Block, origin: (usize, usize)) {
        let width = tile_width(self.isa);
        let k = self.format.words(block.k.1 - block.k.0);
        let first = block.k.0 == 0;
        let last = block.k.1 == self.a.columns;
        for n0 in (block.columns.0..block.columns.1).step_by(width) {
            let n = (block.columns.1 - n0).min(width);
            let (b_data, b_start, b_stride) = match b {
                B::Direct(m) => (m.data, block.k.0 * m.row_stride + n0, m.row_stride),
                B::Packed { panels, rows } => {
                    let panel = (n0 - origin.1) / width;
                    // Blocks begin at an even k, so no pair is cut.
                    let before = self.format.words(block.k.0 - origin.0);
                    let start = (panel * self.format.words(rows) + before) * width;
                    (panels, start, width)
                }
            };
            let bias = match self.plus {
                Plus::Bias(bias) if last => bias[n0..n0 + n].as_ptr(),
                _ => std::ptr::null(),
            };
            // While this panel is multiplied, the next one comes: the first two tiles ask for a line of it at each step of k.
            let panel_end = match b {
                B::Packed { panels, rows } => {
                    let next = b_start + self.format.words(rows) * width;
                    panels.as_ptr().wrapping_add(next).cast::<u8>()
                }
                B::Direct(m) => m.data.as_ptr().cast(),
            };
            let packed_b = matches!(b, B::Packed { .. });
            for (number, m0) in (block.rows.0..block.rows.1).step_by(MR).enumerate() {
                let m = (block.rows.1 - m0).min(MR);
                let next_step = if number < 2 && packed_b { LINE } else { 0 };
                let (a_data, a_start, a_rows, a_columns) = match packed_a {
                    Some(packed) => (packed, (m0 - block.rows.0) * k, 1, MR),
                    None => {
                        let start = m0 * self.a.row_stride + block.k.0 * self.a.column_stride;
                        (self.a.data, start, self.a.row_stride, self.a.column_stride)
                    }
                };
                let c_start = m0 * self.c.row_stride + n0;
                if k > 0 {
                    let a_last = a_start + (m - 1) * a_rows + (k - 1) * a_columns;
                    let b_last = b_start + (k - 1) * b_stride + n - 1;
                    assert!(a_last < a_data.len() && b_last < b_data.len());
                }
                assert!(c_start + (m - 1) * self.c.row_stride + n <= self.c.data.len());
                let tile = Tile {
                    k,
                    a: a_data[a_start.min(a_data.len())..].as_ptr(),
                    a_rows,
                    a_columns,
                    b: b_data[b_start.min(b_data.len())..].as_ptr(),
                    b_rows: b_stride,
                    c: self.c.data[c_start..].as_mut_ptr(),
                    c_rows: self.c.row_stride,
                    n,
                    load_c: !first || self.plus == Plus::C,
                    bias,
                    next: panel_end.wrapping_add(number.min(1) * k * LINE),
                    next_step,
                };
                // SAFETY: the asserts above show that the last element that a tile of m rows, n columns and k steps
                // touches lies in each slice (the strides are not negative, so all others do too); the bias is n long;
                // `c` comes from a unique borrow; the `Isa` proves the instruction set, and `Format::Pairs` is chosen
                // only where it has bf16 products.
                unsafe { run_tile(self.isa, self.format, m, &tile) };
            }
        }
    }
}

/// One tile: `m ≤ MR` rows, `n` columns up to the tile's width, `k` steps of one word each.
struct Tile {
    k: usize,
    a: *const f32,
    a_rows: usize,
    a_columns: usize,
    b: *const f32,
    b_rows: usize,
    c: *mut f32,
    c_rows: usize,
    n: usize,
    load_c: bool,
    bias: *const f32,
    /// What to ask for at the first step, and how far on at each: memory that is read soon, or nothing worth it.
    next: *const u8,
    next_step: usize,
}

/// # Safety
/// Every element that the tile names can be read (A, B, bias) or read and written (C); the CPU has AVX-512 BF16 if
/// `format` is pairs.
unsafe fn run_tile(isa: Isa, format: Format, m: usize, tile: &Tile) {
    // SAFETY: passed on to the caller; the `Isa` proves the instruction set.
    unsafe {
        match isa.0 {
            Level::Scalar => by_rows::<Plain>(m, tile),
            #[cfg(target_arch = "aarch64")]
            Level::Neon => by_rows::<Plain>(m, tile),
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => avx2(m, tile),
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 if format == Format::Pairs => avx512_bf16(m, tile),
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => avx512(m, tile),
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn avx2(m: usize, tile: &Tile) {
    // SAFETY: passed on.
    unsafe { by_rows::<Avx2>(m, tile) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq")]
unsafe fn avx512(m: usize, tile: &Tile) {
    // SAFETY: passed on.
    unsafe { by_rows::<Avx512<false>>(m, tile) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512bf16")]
unsafe fn avx512_bf16(m: usize, tile: &Tile) {
    // SAFETY: passed on.
    unsafe { by_rows::<Avx512<true>>(m, tile) }
}

/// Picks the code for the tile's number of rows and of vectors.
#[inline(always)]
unsafe fn by_rows<S: Simd>(m: usize, tile: &Tile) {
    macro_rules! pick {
        ($($rows:literal)*) => {
            match m {
                // SAFETY: passed on from `run_tile`.
                $($rows => unsafe {
                    if tile.n == 2 * S::LANES {
                        multiply::<S, $rows, 2, true>(tile)
                    } else if tile.n > S::LANES {
                        multiply::<S, $rows, 2, false>(tile)
                    } else {
                        multiply::<S, $rows, 1, false>(tile)
                    }
                },)*
                _ => unreachable!("a tile has 1 to {MR} rows"),
            }
        };
    }
    pick!(1 2 3 4 5 6 7 8)
}

/// The innermost product: M rows by V vectors, all accumulators in registers.
#[inline(always)]
unsafe fn multiply<S: Simd, const M: usize, const V: usize, const FULL: bool>(tile: &Tile) {
    let lanes = |v: usize| tile.n.saturating_sub(v * S::LANES).min(S::LANES);
    // SAFETY: for the whole body: rows below M, columns below n and steps below k are inside the slices (see `run_tile`);
    // with FULL, n is V vectors, otherwise loads and stores are masked to the columns below n.
    unsafe {
        let mut sums = [[S::zero(); V]; M];
        if tile.load_c {
            for (i, row) in sums.iter_mut().enumerate() {
                for (v, sum) in row.iter_mut().enumerate() {
                    let c = tile.c.add(i * tile.c_rows + v * S::LANES);
                    *sum = if FULL {
                        S::load_full(c)
                    } else {
                        S::load(c, lanes(v))
                    };
                }
            }
        }
        let (mut a, mut b, mut next) = (tile.a, tile.b, tile.next);
        for _ in 0..tile.k {
            S::prefetch(next);
            next = next.wrapping_add(tile.next_step);
            let mut columns = [S::zero(); V];
            for (v, column) in columns.iter_mut().enumerate() {
                let p = b.add(v * S::LANES);
                *column = if FULL {
                    S::load_full(p)
                } else {
                    S::load(p, lanes(v))
                };
            }
            for (i, row) in sums.iter_mut().enumerate() {
                let x = S::splat(*a.add(i * tile.a_rows));
                for (sum, column) in row.iter_mut().zip(columns) {
                    *sum = S::fma(x, column, *sum);
                }
            }
            a = a.wrapping_add(tile.a_columns);
            b = b.wrapping_add(tile.b_rows);
        }
        if !tile.bias.is_null() {
            for v in 0..V {
                let bias = S::load(tile.bias.add(v * S::LANES), lanes(v));
                for row in &mut sums {
                    row[v] = S::add(row[v], bias);
                }
            }
        }
        for (i, row) in sums.iter().enumerate() {
            for (v, sum) in row.iter().enumerate() {
                let c = tile.c.add(i * tile.c_rows + v * S::LANES);
                if FULL {
                    S::store_full(c, *sum);
                } else {
                    S::store(c, *sum, lanes(v));
                }
            }
        }
    }
}

/// Rows `m0..m1` of A in panels of MR rows: for each word of k the MR rows' words side by side. Missing rows are zeros.
fn pack_a(
    (isa, format): (Isa, Format),
    pack: &mut [f32],
    a: Matrix,
    (m0, m1): (usize, usize),
    k: (usize, usize),
) {
    let words = format.words(k.1 - k.0);
    for (panel, m) in pack
        .chunks_exact_mut((MR * words).max(1))
        .zip((m0..m1).step_by(MR))
    {
        pack_panel((isa, format), panel, MR, a, (m, (m1 - m).min(MR)), k);
    }
}

/// Rows `k.0..k.1` and columns `n0..n1` of B in panels of the tile's width.
fn pack_b(
    (isa, format): (Isa, Format),
    pack: &mut [f32],
    b: Matrix,
    k: (usize, usize),
    (n0, n1): (usize, usize),
) {
    let width = tile_width(isa);
    let words = format.words(k.1 - k.0);
    let columns = b.transposed();
    for (panel, n) in pack
        .chunks_exact_mut((width * words).max(1))
        .zip((n0..n1).step_by(width))
    {
        let part = (n, (n1 - n).min(width));
        pack_panel((isa, format), panel, width, columns, part, k);
    }
}

/// One panel in any format.
fn pack_panel(
    (isa, format): (Isa, Format),
    panel: &mut [f32],
    width: usize,
    a: Matrix,
    part: (usize, usize),
    k: (usize, usize),
) {
    match format {
        Format::F32 => pack_f32(isa, panel, width, a, part, k),
        Format::Rounded => {
            pack_f32(isa, panel, width, a, part, k);
            bf16::round_in_place(isa, panel);
        }
        Format::Pairs => bf16::pack_pairs(isa, panel, width, a, part, k),
    }
}

/// `panel[k * width + i] = a[start + i, k]` for `i < count`, zero for the rest.
fn pack_f32(
    isa: Isa,
    panel: &mut [f32],
    width: usize,
    a: Matrix,
    (start, count): (usize, usize),
    (k0, k1): (usize, usize),
) {
    if count < width {
        panel.fill(0.0);
    }
    if a.row_stride == 1 {
        let from = (k0..k1).map(|k| &a.data[start + k * a.column_stride..]);
        let pairs = panel.chunks_exact_mut(width).zip(from);
        // Copies of a known size are a few instructions, others a call.
        match (width, count) {
            (8, 8) => pairs.for_each(|(out, from)| copy::<8>(out, from)),
            (16, 16) => pairs.for_each(|(out, from)| copy::<16>(out, from)),
            (32, 32) => pairs.for_each(|(out, from)| copy::<32>(out, from)),
            _ => pairs.for_each(|(out, from)| out[..count].copy_from_slice(&from[..count])),
        }
        return;
    }
    let mut i = 0;
    #[cfg(target_arch = "x86_64")]
    if a.column_stride == 1 && isa != Isa::SCALAR {
        while i + 8 <= count {
            let from = (start + i) * a.row_stride + k0;
            transpose8(
                isa,
                &mut panel[i..],
                width,
                &a.data[from..],
                a.row_stride,
                k1 - k0,
            );
            i += 8;
        }
    }
    let _ = isa;
    for i in i..count {
        let from = (start + i) * a.row_stride;
        for k in k0..k1 {
            panel[(k - k0) * width + i] = a.data[from + k * a.column_stride];
        }
    }
}

/// Copies the first `N` numbers.
#[inline(always)]
fn copy<const N: usize>(to: &mut [f32], from: &[f32]) {
    if let (Some(to), Some(from)) = (to.first_chunk_mut::<N>(), from.first_chunk::<N>()) {
        *to = *from;
    }
}

/// `out[k * width + i] = rows[i * stride + k]` for 8 rows and `k` columns.
#[cfg(target_arch = "x86_64")]
fn transpose8(isa: Isa, out: &mut [f32], width: usize, rows: &[f32], stride: usize, k: usize) {
    #[target_feature(enable = "avx2,fma")]
    unsafe fn blocks(out: *mut f32, width: usize, rows: *const f32, stride: usize, k: usize) {
        use crate::simd::transpose;
        use std::arch::x86_64::*;
        for k0 in (0..k).step_by(8) {
            // SAFETY: k is a multiple of 8; rows 0..8 × columns 0..k and out (k - 1) * width + 8 are inside the slices.
            unsafe {
                let mut r = [_mm256_setzero_ps(); 8];
                for (i, row) in r.iter_mut().enumerate() {
                    *row = _mm256_loadu_ps(rows.add(i * stride + k0));
                }
                for (i, row) in transpose(r).into_iter().enumerate() {
                    _mm256_storeu_ps(out.add((k0 + i) * width), row);
                }
            }
        }
    }
    assert!(isa != Isa::SCALAR && 7 * stride + k <= rows.len());
    assert!(k == 0 || (k - 1) * width + 8 <= out.len());
    let whole = k / 8 * 8;
    // SAFETY: the asserts above bound every access; a set other than scalar on x86-64 includes AVX2.
    unsafe { blocks(out.as_mut_ptr(), width, rows.as_ptr(), stride, whole) };
    for k in whole..k {
        for i in 0..8 {
            out[k * width + i] = rows[i * stride + k];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn numbers(n: usize, seed: u32) -> Vec<f32> {
        let mut state = seed.wrapping_mul(747_796_405).wrapping_add(1);
        (0..n)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 8) as f32 / (1 << 23) as f32 - 1.0
            })
            .collect()
    }

    /// The definition.
    fn reference(c: &mut [f32], a: Matrix, b: Matrix, accumulate: bool, bias: Option<&[f32]>) {
        for i in 0..a.rows {
            for j in 0..b.columns {
                let mut sum = if accumulate {
                    c[i * b.columns + j]
                } else {
                    0.0
                };
                for k in 0..a.columns {
                    let x = a.data[i * a.row_stride + k * a.column_stride];
                    let y = b.data[k * b.row_stride + j * b.column_stride];
                    sum = x.mul_add(y, sum);
                }
                c[i * b.columns + j] = sum + bias.map_or(0.0, |bias| bias[j]);
            }
        }
    }

    fn check(m: usize, n: usize, k: usize, transposed: (bool, bool)) {
        let (da, db) = (numbers(m * k, 1), numbers(k * n, 2));
        let a = if transposed.0 {
            Matrix::new(&da, k, m, m).transposed()
        } else {
            Matrix::new(&da, m, k, k)
        };
        let b = if transposed.1 {
            Matrix::new(&db, n, k, k).transposed()
        } else {
            Matrix::new(&db, k, n, n)
        };
        let bias = numbers(n, 4);
        for isa in Isa::available() {
            for plus in [Plus::Nothing, Plus::C] {
                let mut expected = numbers(m * n, 3);
                let mut found = expected.clone();
                reference(&mut expected, a, b, plus == Plus::C, None);
                gemm(isa, MatrixMut::new(&mut found, m, n, n), a, b, plus);
                assert!(
                    expected == found,
                    "{} {m}×{n}×{k} {transposed:?}",
                    isa.name()
                );
            }
            let mut expected = vec![0.0; m * n];
            let mut found = numbers(m * n, 5);
            reference(&mut expected, a, b, false, Some(&bias));
            let packed = PackedMatrix::new(isa, b);
            gemm_packed(
                MatrixMut::new(&mut found, m, n, n),
                a,
                &packed,
                Plus::Bias(&bias),
            );
            assert!(expected == found, "packed {} {m}×{n}×{k}", isa.name());
        }
    }

    #[test]
    fn every_instruction_set_gives_the_reference_bit_for_bit() {
        for (m, n, k) in [
            (1, 1, 1),
            (8, 32, 16),
            (9, 33, 17),
            (70, 130, 300),
            (300, 40, 20),
            (5, 800, 513),
            (2, 3, 0),
        ] {
            for transposed in [(false, false), (false, true), (true, false), (true, true)] {
                check(m, n, k, transposed);
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn odd_shapes_too(m in 1usize..40, n in 1usize..100, k in 0usize..70, ta: bool, tb: bool) {
            check(m, n, k, (ta, tb));
        }
    }

    #[test]
    fn a_product_can_be_cut_and_columns_come_back() {
        let (m, k, n) = (5, 37, 150);
        let (da, db, bias) = (numbers(m * k, 7), numbers(k * n, 8), numbers(n, 9));
        let a = Matrix::new(&da, m, k, k);
        let b = Matrix::new(&db, k, n, n);
        for isa in Isa::available() {
            for packed in [PackedMatrix::new(isa, b), PackedMatrix::bf16(isa, b)] {
                let mut whole = vec![0.0; m * n];
                let c = MatrixMut::new(&mut whole, m, n, n);
                gemm_packed(c, a, &packed, Plus::Bias(&bias));
                for columns in [0..64, 64..150, 96..97] {
                    let mut part = vec![0.0; m * columns.len()];
                    let c = MatrixMut::new(&mut part, m, columns.len(), columns.len());
                    let plus = Plus::Bias(&bias[columns.clone()]);
                    gemm_packed_columns(c, a, &packed, columns.clone(), plus);
                    for (row, part) in whole.chunks(n).zip(part.chunks(columns.len())) {
                        assert_eq!(row[columns.clone()], *part);
                    }
                }
                let mut pieces = packed.clone();
                pieces.panels.fill(f32::NAN);
                for columns in [0..64, 64..128, 128..150] {
                    let part = Matrix::new(&db[columns.start..], k, columns.len(), n);
                    pieces.set_columns(columns.start, part);
                }
                assert!(pieces.panels == packed.panels);
                let mut column = vec![0.0; k];
                packed.column(131, &mut column);
                for (i, v) in column.iter().enumerate() {
                    // A number rounded to bf16 is off by at most 2⁻⁹ of itself.
                    assert!((v - db[i * n + 131]).abs() <= db[i * n + 131].abs() / 256.0);
                }
            }
        }
    }

    #[test]
    fn a_row_does_not_depend_on_its_companions() {
        let (k, n) = (300, 100);
        let (da, db) = (numbers(50 * k, 7), numbers(k * n, 8));
        let packed = PackedMatrix::new(Isa::best(), Matrix::new(&db, k, n, n));
        let mut together = vec![0.0; 50 * n];
        gemm_packed(
            MatrixMut::new(&mut together, 50, n, n),
            Matrix::new(&da, 50, k, k),
            &packed,
            Plus::Nothing,
        );
        for i in 0..50 {
            let mut alone = vec![0.0; n];
            let row = Matrix::new(&da[i * k..], 1, k, k);
            gemm_packed(
                MatrixMut::new(&mut alone, 1, n, n),
                row,
                &packed,
                Plus::Nothing,
            );
            assert_eq!(alone, together[i * n..(i + 1) * n]);
        }
    }
}
