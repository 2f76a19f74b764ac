//! RMS norm of each row (Zhang and Sennrich 2019).

use hexapla_kernels::{Plus, RmsNormBackward, rms_norm as kernel, rms_norm_backward};

use crate::ops::{Run, Step};
use crate::tape::Backward;
use crate::tensor::{Node, Tensor};
use crate::weights::ParameterId;

/// What the backward step needs.
#[derive(Debug)]
pub struct Recorded {
    x: Tensor,
    /// 1/√(mean(x²) + eps) of each row of `width` numbers.
    inverse: Tensor,
    scale: ParameterId,
    y: Option<Node>,
}

/// `x / √(mean(x²) + eps) · scale` for each run of as many numbers as `scale` has: a row of `x`, or each head of a row.
pub fn rms_norm(run: &mut Run, x: &Tensor, scale: ParameterId, eps: f32) -> Tensor {
    let scales = run.parameters.plain(scale);
    let mut y = run.tensor(x.rows(), x.columns());
    let mut inverse = run.arena.tensor(1, x.data().len() / scales.len());
    let (isa, width) = (run.isa, x.columns());
    let outs = [
        (y.data_mut(), width),
        (inverse.data_mut(), width / scales.len()),
    ];
    run.share_rows((x.rows(), width), outs, |rows, [y, inverse]| {
        kernel(isa, y, inverse, x.rows_data(rows), scales, eps);
    });
    run.show_made(scale, &mut y);
    run.record(|_| {
        Step::RmsNorm(Recorded {
            x: x.clone(),
            inverse,
            scale,
            y: y.node(),
        })
    });
    y
}

impl Recorded {
    /// See [`rms_norm_backward`].
    pub fn backward(self, back: &mut Backward) {
        let Some(dy) = back.take(self.y) else { return };
        let isa = back.isa;
        let shape = (self.x.rows(), self.x.columns());
        back.give_with(self.x.node(), shape, |back, dx, plus| {
            let range = back.weights.index.get(self.scale).range.clone();
            let step = RmsNormBackward {
                dx: dx.data_mut(),
                accumulate: plus == Plus::C,
                dscale: &mut back.gradients[range],
                dy: dy.data(),
                x: self.x.data(),
                inverse: self.inverse.data(),
                scale: back.weights.get(self.scale),
            };
            rms_norm_backward(isa, step);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::check::Check;

    #[test]
    fn gradients_are_slopes() {
        // Of whole rows, and of each of three heads.
        for width in [24, 8] {
            let mut check = Check::new();
            let x = check.input(4, 24);
            let scale = check.parameter(&[width]);
            check.run(|run, inputs| rms_norm(run, &inputs[x], scale, 1e-5));
        }
    }
}
