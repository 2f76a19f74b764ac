//! Gated feed-forward: one product, activated, times another (Shazeer 2020, equation 5).

use hexapla_kernels::{Activation, gate as kernel, gate_backward};

use crate::ops::{Run, Step};
use crate::tape::Backward;
use crate::tensor::{Node, Tensor};

/// What the backward step needs.
#[derive(Debug)]
pub struct Recorded {
    a: Tensor,
    b: Tensor,
    kind: Activation,
    y: Option<Node>,
}

/// `activation(a) · b`, number by number; all three have one shape.
pub fn gate(run: &mut Run, a: &Tensor, b: &Tensor, kind: Activation) -> Tensor {
    let mut y = run.tensor(a.rows(), a.columns());
    let isa = run.isa;
    run.share_rows(
        (a.rows(), a.columns()),
        [(y.data_mut(), a.columns())],
        |rows, [y]| {
            kernel(isa, y, a.rows_data(rows.clone()), b.rows_data(rows), kind);
        },
    );
    run.show("gated", &mut y);
    run.record(|_| {
        Step::Gate(Recorded {
            a: a.clone(),
            b: b.clone(),
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
        let new = || back.arena.tensor(self.a.rows(), self.a.columns());
        let (mut da, mut db) = (new(), new());
        let (a, b) = (self.a.data(), self.b.data());
        let (to_a, to_b) = (da.data_mut(), db.data_mut());
        gate_backward(back.isa, to_a, to_b, dy.data(), a, b, self.kind);
        back.give(self.a.node(), da);
        back.give(self.b.node(), db);
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
            Activation::ReluSquared,
            Activation::Gelu,
            Activation::GeluTanh,
            Activation::GeluSigmoid,
        ] {
            let mut check = Check::new();
            let (a, b) = (check.input(3, 7), check.input(3, 7));
            check.run(|run, inputs| gate(run, &inputs[a], &inputs[b], kind));
        }
    }
}
