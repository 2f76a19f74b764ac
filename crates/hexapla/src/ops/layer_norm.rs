//! Layer norm of each row.

use hexapla_kernels::{LayerNormBackward, Plus, layer_norm as kernel, layer_norm_backward};

use crate::ops::{Run, Step};
use crate::tape::Backward;
use crate::tensor::{Node, Tensor};
use crate::weights::ParameterId;

/// What the backward step needs.
#[derive(Debug)]
pub struct Recorded {
    x: Tensor,
    /// Mean and 1/√(variance + eps) of each row.
    statistics: Tensor,
    scale: ParameterId,
    shift: ParameterId,
    y: Option<Node>,
}

/// `(x − mean) / √(variance + eps) · scale + shift`; `x` is `[rows, width]`, `scale` and `shift` `[width]`.
pub fn layer_norm(
    run: &mut Run,
    x: &Tensor,
    scale: ParameterId,
    shift: ParameterId,
    eps: f32,
) -> Tensor {
    let parameters = run.parameters;
    let mut y = run.tensor(x.rows(), x.columns());
    let mut statistics = run.arena.tensor(x.rows(), 2);
    let (isa, width) = (run.isa, x.columns());
    let (scales, shifts) = (parameters.plain(scale), parameters.plain(shift));
    let outs = [(y.data_mut(), width), (statistics.data_mut(), 2)];
    run.share_rows((x.rows(), width), outs, |rows, [y, statistics]| {
        kernel(isa, y, statistics, x.rows_data(rows), scales, shifts, eps);
    });
    run.show_made(scale, &mut y);
    run.record(|_| {
        Step::LayerNorm(Recorded {
            x: x.clone(),
            statistics,
            scale,
            shift,
            y: y.node(),
        })
    });
    y
}

impl Recorded {
    /// See [`layer_norm_backward`].
    pub fn backward(self, back: &mut Backward) {
        let Some(dy) = back.take(self.y) else { return };
        let isa = back.isa;
        let width = self.x.columns();
        back.give_with(self.x.node(), (dy.rows(), width), |back, dx, plus| {
            let range = |id| back.weights.index.get(id).range.clone();
            let of_both = back
                .gradients
                .get_disjoint_mut([range(self.scale), range(self.shift)]);
            let [dscale, dshift] = of_both.expect("scale and shift are two parameters");
            let step = LayerNormBackward {
                dx: dx.data_mut(),
                accumulate: plus == Plus::C,
                dscale,
                dshift,
                dy: dy.data(),
                x: self.x.data(),
                statistics: self.statistics.data(),
                scale: back.weights.get(self.scale),
            };
            layer_norm_backward(isa, step);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::check::Check;

    #[test]
    fn gradients_are_slopes() {
        let mut check = Check::new();
        let x = check.input(4, 24);
        let scale = check.parameter(&[24]);
        let shift = check.parameter(&[24]);
        check.run(|run, inputs| layer_norm(run, &inputs[x], scale, shift, 1e-5));
    }
}
