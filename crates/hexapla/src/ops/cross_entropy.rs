//! Output layer and label-smoothed cross-entropy in one (paper, sections 3.4 and 5.4), block of rows by block of rows, so
//! that the logits of a batch never exist whole.

use hexapla_kernels::{
    CrossEntropy, Isa, Matrix, MatrixMut, Plus, RowLoss, bias_gradient, cross_entropy_pair,
    cross_entropy_row,
};

use crate::ops::{PackedTable, Parameters, Run, Step};
use crate::product::Product;
use crate::tape::Backward;
use crate::tensor::{Node, Tensor};
use crate::weights::{ParameterId, Weights};

/// The output layer and the loss.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    /// `[vocab, d_model]`.
    pub table: ParameterId,
    /// `[vocab]`.
    pub bias: Option<ParameterId>,
    /// What the logits are multiplied by.
    pub scale: f32,
}

/// What a row's loss is.
#[derive(Debug, Clone, Copy)]
pub struct LossOptions {
    /// Share of probability spread over the vocabulary.
    pub label_smoothing: f32,
    /// What each token's gradient is multiplied by.
    pub scale: f32,
    /// Weight α of R-Drop (Liang et al. 2021, equation 4). Where it is above 0, the second half of the rows are the first
    /// half's once more, as another choice of dropout makes them, and the distributions of each two are drawn together.
    pub r_drop: f32,
}

/// The loss of each row, in a buffer of the arena.
#[derive(Debug)]
pub struct Losses(Tensor);

impl Losses {
    /// Row after row.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = RowLoss> {
        self.0.data().chunks_exact(2).map(|row| RowLoss {
            smoothed: row[0],
            negative_log_likelihood: row[1],
        })
    }
}

/// What the backward step needs: the gradient, made in the forward step while the logits were at hand.
#[derive(Debug)]
pub struct Recorded {
    x: Option<Node>,
    dx: Tensor,
}

/// What the rows of a block are a multiple of: those of the tallest tile of a product.
const BLOCK_ROWS: usize = 32;

/// All logits of `x`: `[rows, vocab]`.
pub fn logits(run: &mut Run, output: Output, x: &Tensor) -> Tensor {
    let mut logits = run
        .arena
        .tensor(x.rows(), run.parameters.shape(output.table)[0]);
    logits_into(run, output, x.matrix(), logits.data_mut());
    run.enter("output");
    run.show("logits", &mut logits);
    logits
}

/// As [`logits`], to `out`: `(x · tableᵀ + bias) · scale`.
pub fn logits_into(run: &Run, output: Output, x: Matrix, out: &mut [f32]) {
    let parameters = run.parameters;
    let vocab = parameters.shape(output.table)[0];
    let logits = MatrixMut::new(out, x.rows(), vocab, vocab);
    let plus = output
        .bias
        .map_or(Plus::Nothing, |b| Plus::Bias(parameters.plain(b)));
    parameters.multiply_by_table(run.product(), output.table, logits, x, plus);
    scale(out, output.scale);
}

fn scale(x: &mut [f32], factor: f32) {
    if factor != 1.0 {
        x.iter_mut().for_each(|x| *x *= factor);
    }
}

/// The loss of each row of `x` `[rows, d_model]` against `labels` (one for each row). While a tape records, the gradients
/// of the table and of the bias are added at once, and the logits' gradient overwrites the logits.
///
/// With R-Drop the rows are those of two passes, one after the other, and a block is the same rows of both.
pub fn cross_entropy(
    run: &mut Run,
    output: Output,
    x: &Tensor,
    labels: &[u32],
    options: LossOptions,
) -> Losses {
    let (vocab, width) = {
        let shape = run.parameters.shape(output.table);
        (shape[0], shape[1])
    };
    // Six megabytes of logits at a time for narrow models, which the caches hold. The wider the model, the dearer it is to go
    // through the table and its gradient once more, and the larger the block; a whole number of tiles.
    let most = 1_500_000 * (width / 128).max(1) / vocab;
    let most = most.next_multiple_of(BLOCK_ROWS).clamp(BLOCK_ROWS, 512);
    let (isa, product, parameters) = (run.isa, run.product(), run.parameters);
    let passes = if options.r_drop > 0.0 { 2 } else { 1 };
    debug_assert_eq!(x.rows() % passes, 0);
    let rows_of_pass = x.rows() / passes;
    // Blocks of like size: a small last one would cost nearly as much as another.
    let blocks = rows_of_pass.div_ceil(most).max(1);
    let block = rows_of_pass.div_ceil(blocks).next_multiple_of(BLOCK_ROWS);
    let block = block.min(rows_of_pass.max(1));
    let mut block_logits = run.arena.tensor(passes * block, vocab);
    let mut difference = run.arena.tensor(passes - 1, vocab);
    let mut dx = run
        .is_recording()
        .then(|| run.arena.tensor(x.rows(), width));
    let mut losses = run.arena.tensor(x.rows(), 2);
    for first in (0..rows_of_pass).step_by(block) {
        let rows = block.min(rows_of_pass - first);
        let first_of = |pass: usize| pass * rows_of_pass + first;
        let x_of = |pass| Matrix::new(&x.data()[first_of(pass) * width..], rows, width, width);
        let (d, d_second) = block_logits.data_mut().split_at_mut(rows * vocab);
        let mut d_passes = [d, &mut d_second[..(passes - 1) * rows * vocab]];
        for (pass, d) in d_passes.iter_mut().take(passes).enumerate() {
            logits_into(run, output, x_of(pass), d);
        }
        let labels = &labels[first..first + rows];
        let room = difference.data_mut();
        losses_of_block(isa, &mut d_passes, room, labels, options, |row, found| {
            for (pass, loss) in found.iter().take(passes).enumerate() {
                let offset = 2 * (first_of(pass) + row);
                losses.data_mut()[offset..offset + 2]
                    .copy_from_slice(&[loss.smoothed, loss.negative_log_likelihood]);
            }
        });
        if let (Some(dx), Some(gradients), Parameters::Trained(weights, packed)) =
            (&mut dx, run.gradients(), parameters)
        {
            for (pass, d) in d_passes.iter_mut().take(passes).enumerate() {
                scale(d, output.scale);
                let dx = &mut dx.data_mut()[first_of(pass) * width..];
                let dx = MatrixMut::new(dx, rows, width, width);
                let from = (output, weights, packed);
                gradients_of_block(product, from, gradients, dx, x_of(pass), d);
            }
        }
    }
    if let Some(dx) = dx {
        run.record(|_| Step::CrossEntropy(Recorded { x: x.node(), dx }));
    }
    Losses(losses)
}

/// Makes rows of logits, in one pass or two, into their gradients, and gives the losses of each row to `each`. `room` is for
/// one row where there are two passes.
fn losses_of_block(
    isa: Isa,
    [logits, second]: &mut [&mut [f32]; 2],
    room: &mut [f32],
    labels: &[u32],
    options: LossOptions,
    mut each: impl FnMut(usize, [RowLoss; 2]),
) {
    let vocab = logits.len() / labels.len();
    for (row, label) in labels.iter().enumerate() {
        let options_of_row = CrossEntropy {
            label: *label as usize,
            label_smoothing: options.label_smoothing,
            scale: options.scale,
        };
        let offset = row * vocab..(row + 1) * vocab;
        let d = &mut logits[offset.clone()];
        let found = match second.get_mut(offset) {
            Some(second) => {
                cross_entropy_pair(isa, d, second, room, options_of_row, options.r_drop)
            }
            None => [cross_entropy_row(isa, d, options_of_row); 2],
        };
        each(row, found);
    }
}

/// With `d` the logits' gradient `[rows, vocab]`: `dx = d · table`, `dtable += dᵀ · x`, `dbias += Σ d`.
fn gradients_of_block(
    product: Product,
    (output, weights, packed): (Output, &Weights, &PackedTable),
    gradients: &mut [f32],
    dx: MatrixMut,
    x: Matrix,
    d: &[f32],
) {
    let (rows, width) = (x.rows(), x.columns());
    let vocab = d.len() / rows;
    let range = |id| weights.index.get(id).range.clone();
    let d_matrix = Matrix::new(d, rows, vocab, vocab);
    packed.multiply_back(product, weights, output.table, dx, d_matrix);
    let d_table = MatrixMut::new(&mut gradients[range(output.table)], vocab, width, width);
    product.gemm(d_table, d_matrix.transposed(), x, Plus::C);
    if let Some(bias) = output.bias {
        bias_gradient(product.isa, &mut gradients[range(bias)], d);
    }
}

impl Recorded {
    /// The gradient is there already.
    pub fn backward(self, back: &mut Backward) {
        back.give(self.x, self.dx);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::check::Check;

    #[test]
    fn gradients_are_slopes() {
        for (label_smoothing, r_drop, scale) in [(0.0, 0.0, 1.0), (0.1, 0.0, 0.7), (0.1, 3.0, 1.5)]
        {
            let mut check = Check::new();
            let x = check.input(40, 6);
            let table = check.parameter(&[11, 6]);
            let bias = Some(check.parameter(&[11]));
            // Two halves with the same labels.
            let labels: Vec<u32> = (0..40).map(|i| i % 20 * 7 % 11).collect();
            let options = LossOptions {
                label_smoothing,
                scale: 0.5,
                r_drop,
            };
            check.run_loss(|run, inputs| {
                let output = Output { table, bias, scale };
                let rows = cross_entropy(run, output, &inputs[x], &labels, options);
                rows.iter().map(|l| f64::from(l.smoothed) * 0.5).sum()
            });
        }
    }
}
