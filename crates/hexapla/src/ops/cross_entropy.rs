//! Output layer and label-smoothed cross-entropy in one (paper, sections 3.4 and 5.4), block of rows by block of rows, so
//! that the logits of a batch never exist whole.

use hexapla_kernels::{
    CrossEntropy, Matrix, MatrixMut, Plus, RowLoss, bias_gradient, cross_entropy_row,
};

use crate::ops::{Parameters, Run, Step};
use crate::tape::Backward;
use crate::tensor::{Node, Tensor};
use crate::weights::ParameterId;

/// The output layer and the loss.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    /// `[vocab, d_model]`.
    pub table: ParameterId,
    /// `[vocab]`.
    pub bias: Option<ParameterId>,
}

/// What a row's loss is.
#[derive(Debug, Clone, Copy)]
pub struct LossOptions {
    /// Share of probability spread over the vocabulary.
    pub label_smoothing: f32,
    /// What each token's gradient is multiplied by.
    pub scale: f32,
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

/// Logits of `rows` rows of `x`: `x · tableᵀ + bias`, `[rows, vocab]`.
fn logits_of(run: &Run, output: Output, x: Matrix, logits: MatrixMut) {
    let parameters = run.parameters;
    let plus = output
        .bias
        .map_or(Plus::Nothing, |b| Plus::Bias(parameters.plain(b)));
    parameters.multiply_by_table(run.product(), output.table, logits, x, plus);
}

/// All logits of `x`: `[rows, vocab]`.
pub fn logits(run: &mut Run, output: Output, x: &Tensor) -> Tensor {
    let mut logits = run
        .arena
        .tensor(x.rows(), run.parameters.shape(output.table)[0]);
    logits_into(run, output, x.matrix(), logits.data_mut());
    logits
}

/// As [`logits`], to `out`.
pub fn logits_into(run: &Run, output: Output, x: Matrix, out: &mut [f32]) {
    let vocab = run.parameters.shape(output.table)[0];
    let out = MatrixMut::new(out, x.rows(), vocab, vocab);
    logits_of(run, output, x, out);
}

/// The loss of each row of `x` `[rows, d_model]` against `labels` (one for each row). While a tape records, the gradients
/// of the table and of the bias are added at once.
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
    let block = (1_500_000 * (width / 128).max(1) / vocab / 8 * 8).clamp(32, 512);
    let (isa, product) = (run.isa, run.product());
    let parameters = run.parameters;
    let table_range = parameters.index().get(output.table).range.clone();
    let bias_range = output.bias.map(|b| parameters.index().get(b).range.clone());
    let mut block_logits = run.arena.tensor(block.min(x.rows()), vocab);
    let mut dx = run
        .is_recording()
        .then(|| run.arena.tensor(x.rows(), width));
    let mut losses = run.arena.tensor(x.rows(), 2);
    for first in (0..x.rows()).step_by(block) {
        let rows = block.min(x.rows() - first);
        let x = Matrix::new(&x.data()[first * width..], rows, width, width);
        let d = &mut block_logits.data_mut()[..rows * vocab];
        logits_of(run, output, x, MatrixMut::new(d, rows, vocab, vocab));
        let losses = losses.data_mut()[first * 2..].chunks_exact_mut(2);
        for ((row, label), loss) in d.chunks_exact_mut(vocab).zip(&labels[first..]).zip(losses) {
            let options = CrossEntropy {
                label: *label as usize,
                label_smoothing: options.label_smoothing,
                scale: options.scale,
            };
            let row = cross_entropy_row(isa, row, options);
            loss.copy_from_slice(&[row.smoothed, row.negative_log_likelihood]);
        }
        if let (Some(dx), Some(gradients), Parameters::Trained(weights, _)) =
            (&mut dx, run.gradients(), parameters)
        {
            let d_matrix = Matrix::new(d, rows, vocab, vocab);
            let dx = MatrixMut::new(&mut dx.data_mut()[first * width..], rows, width, width);
            product.gemm(dx, d_matrix, weights.matrix(output.table), Plus::Nothing);
            let d_table = MatrixMut::new(&mut gradients[table_range.clone()], vocab, width, width);
            product.gemm(d_table, d_matrix.transposed(), x, Plus::C);
            if let Some(range) = &bias_range {
                bias_gradient(isa, &mut gradients[range.clone()], d);
            }
        }
    }
    if let Some(dx) = dx {
        run.record(|_| Step::CrossEntropy(Recorded { x: x.node(), dx }));
    }
    Losses(losses)
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
        for label_smoothing in [0.0, 0.1] {
            let mut check = Check::new();
            let x = check.input(40, 6);
            let table = check.parameter(&[11, 6]);
            let bias = Some(check.parameter(&[11]));
            let labels: Vec<u32> = (0..40).map(|i| i * 7 % 11).collect();
            let options = LossOptions {
                label_smoothing,
                scale: 0.5,
            };
            check.run_loss(|run, inputs| {
                let rows = cross_entropy(run, Output { table, bias }, &inputs[x], &labels, options);
                rows.iter().map(|l| f64::from(l.smoothed) * 0.5).sum()
            });
        }
    }
}
