//! Operations on each number by itself: the feed-forward block's non-linearity, and the residual connection.

use hexapla_kernels::{
    Activation, Dropout, activate, activate_backward, dropout_in_place, residual as residual_kernel,
};

use crate::ops::{Run, Step};
use crate::tape::Backward;
use crate::tensor::{Node, Tensor};

/// What the backward step of [`activation`] needs.
#[derive(Debug)]
pub struct RecordedActivation {
    x: Option<Node>,
    /// `x`; of a ReLU `y`, which tells its slope as well and is kept by the next layer anyway.
    kept: Tensor,
    kind: Activation,
    dropout: Dropout,
    y: Option<Node>,
}

/// `dropout(activation(x))`, of the shape of `x`.
pub fn activation(run: &mut Run, x: &Tensor, kind: Activation, dropout: f32) -> Tensor {
    let dropout = run.dropout(dropout);
    let mut y = run.tensor(x.rows(), x.columns());
    activate(run.isa, y.data_mut(), x.data(), kind, dropout);
    run.record(|_| {
        Step::Activation(RecordedActivation {
            x: x.node(),
            kept: if kind == Activation::Relu { &y } else { x }.clone(),
            kind,
            dropout,
            y: y.node(),
        })
    });
    y
}

impl RecordedActivation {
    /// `dx = dy · dropout · activation'(x)`.
    pub fn backward(self, back: &mut Backward) {
        let Some(mut d) = back.take(self.y) else {
            return;
        };
        activate_backward(
            back.isa,
            d.data_mut(),
            self.kept.data(),
            self.kind,
            self.dropout,
        );
        back.give(self.x, d);
    }
}

/// What the backward step of [`dropout`] needs.
#[derive(Debug)]
pub struct RecordedDropout {
    x: Option<Node>,
    dropout: Dropout,
    y: Option<Node>,
}

/// `dropout(x)`; `x` itself where nothing is dropped.
pub fn dropout(run: &mut Run, x: Tensor, p: f32) -> Tensor {
    let dropout = run.dropout(p);
    if dropout.is_none() {
        return x;
    }
    let mut y = run.tensor(x.rows(), x.columns());
    y.data_mut().copy_from_slice(x.data());
    dropout_in_place(run.isa, y.data_mut(), dropout, 0);
    run.record(|_| {
        Step::Dropout(RecordedDropout {
            x: x.node(),
            dropout,
            y: y.node(),
        })
    });
    y
}

impl RecordedDropout {
    /// `dx = dy · dropout`.
    pub fn backward(self, back: &mut Backward) {
        let Some(mut d) = back.take(self.y) else {
            return;
        };
        dropout_in_place(back.isa, d.data_mut(), self.dropout, 0);
        back.give(self.x, d);
    }
}

/// What the backward step of [`residual`] needs.
#[derive(Debug)]
pub struct RecordedResidual {
    x: Option<Node>,
    y: Option<Node>,
    dropout: Dropout,
    sum: Option<Node>,
}

/// `x + dropout(y)`, of their common shape (paper, sections 3.1 and 5.4).
pub fn residual(run: &mut Run, x: &Tensor, y: &Tensor, dropout: f32) -> Tensor {
    let dropout = run.dropout(dropout);
    let mut sum = run.tensor(x.rows(), x.columns());
    let isa = run.isa;
    // What is dropped depends on where a number stands; then a tape records, and no rows are shared.
    run.share_rows(
        (x.rows(), x.columns()),
        [(sum.data_mut(), x.columns())],
        |rows, [sum]| {
            let (x, y) = (x.rows_data(rows.clone()), y.rows_data(rows));
            residual_kernel(isa, sum, x, y, dropout);
        },
    );
    if let Some((watch, location)) = run.watcher() {
        watch.residual(location, x, y, &mut sum);
    }
    run.show("sum", &mut sum);
    run.record(|_| {
        Step::Residual(RecordedResidual {
            x: x.node(),
            y: y.node(),
            dropout,
            sum: sum.node(),
        })
    });
    sum
}

impl RecordedResidual {
    /// `dx = d`, `dy = d · dropout`.
    pub fn backward(self, back: &mut Backward) {
        let Some(d) = back.take(self.sum) else { return };
        let mut dy = back.arena.tensor(d.rows(), d.columns());
        dy.data_mut().copy_from_slice(d.data());
        dropout_in_place(back.isa, dy.data_mut(), self.dropout, 0);
        back.give(self.y, dy);
        back.give(self.x, d);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::check::Check;

    #[test]
    fn gradients_of_activations_are_slopes() {
        for kind in [
            Activation::Relu,
            Activation::ReluSquared,
            Activation::Gelu,
            Activation::GeluTanh,
            Activation::GeluSigmoid,
            Activation::Swish,
            Activation::Tanh,
        ] {
            for dropout in [0.0, 0.4] {
                let mut check = Check::new();
                let x = check.input(4, 9);
                check.run(|run, inputs| activation(run, &inputs[x], kind, dropout));
            }
        }
    }

    #[test]
    fn gradients_of_dropout_are_slopes() {
        let mut check = Check::new();
        let x = check.input(4, 9);
        check.run(|run, inputs| dropout(run, inputs[x].clone(), 0.4));
    }

    #[test]
    fn gradients_of_the_residual_are_slopes() {
        for dropout in [0.0, 0.4] {
            let mut check = Check::new();
            let (x, y) = (check.input(4, 9), check.input(4, 9));
            check.run(|run, inputs| {
                let sum = residual(run, &inputs[x], &inputs[y], dropout);
                residual(run, &sum, &inputs[y], dropout)
            });
        }
    }
}
