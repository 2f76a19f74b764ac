//! Gated feed-forward: one half of a row, activated, times the other (Shazeer 2020, equation 5).

use hexapla_kernels::{Activation, gate as kernel, gate_backward};

use crate::ops::{Run, Step};
use crate::tape::Backward;
use crate::tensor::{Node, Tensor};

/// What the backward step needs.
#[derive(Debug)]
pub struct Recorded {
    x: Tensor,
    kind: Activation,
    y: Option<Node>,
}

/// `activation(a) · b` for each row `[a | b]` of `x` `[rows, 2 · width]`; the result is `[rows, width]`.
pub fn gate(run: &mut Run, x: &Tensor, kind: Activation) -> Tensor {
    let width = x.columns() / 2;
    let mut y = run.tensor(x.rows(), width);
    kernel(run.isa, y.data_mut(), x.data(), width, kind);
    run.record(|_| {
        Step::Gate(Recorded {
            x: x.clone(),
            kind,
            y: y.node(),
        })
    });
    y
}

impl Recorded {
    /// `da = dy · b · activation'(a)`, `db = dy · activation(a)`.
    pub fn backward(self, back: &mut Backward) {
        let Some(dy) = back.take(self.y) else { return };
        let mut dx = back.arena.tensor(self.x.rows(), self.x.columns());
        let (x, width) = (self.x.data(), dy.columns());
        gate_backward(back.isa, dx.data_mut(), dy.data(), x, width, self.kind);
        back.give(self.x.node(), dx);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::check::Check;

    #[test]
    fn gradients_are_slopes() {
        for kind in [
            Activation::Swish,
            Activation::Gelu,
            Activation::GeluTanh,
            Activation::GeluSigmoid,
        ] {
            let mut check = Check::new();
            let x = check.input(3, 14);
            check.run(|run, inputs| gate(run, &inputs[x], kind));
        }
    }
}
