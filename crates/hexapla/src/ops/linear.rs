//! `y = x · W + b` for each row.

use hexapla_kernels::{Activation, Epilogue, MatrixMut, Plus, bias_gradient};

use crate::ops::pointwise::activation;
use crate::ops::{Parameters, Run, Step};
use crate::tape::Backward;
use crate::tensor::{Node, Tensor};
use crate::weights::ParameterId;

/// What the backward step needs.
#[derive(Debug)]
pub struct Recorded {
    x: Tensor,
    weight: ParameterId,
    bias: Option<ParameterId>,
    y: Option<Node>,
}

/// `x` is `[rows, in]`, the weight `[in, out]`, the bias `[out]`; the result is `[rows, out]`.
pub fn linear(run: &mut Run, x: &Tensor, weight: ParameterId, bias: Option<ParameterId>) -> Tensor {
    let parameters = run.parameters;
    let plus = bias.map_or(Plus::Nothing, |b| Plus::Bias(parameters.plain(b)));
    let mut y = run.tensor(x.rows(), parameters.shape(weight)[1]);
    parameters.multiply(run.product(), weight, y.matrix_mut(), x.matrix(), plus);
    run.record(|_| {
        Step::Linear(Recorded {
            x: x.clone(),
            weight,
            bias,
            y: y.node(),
        })
    });
    y
}

/// `dropout(activation(x · W + b))`: [`linear`] and [`activation`], in one pass where nothing will go back through them.
pub fn linear_activated(
    run: &mut Run,
    x: &Tensor,
    weight: ParameterId,
    bias: ParameterId,
    kind: Activation,
    dropout: f32,
) -> Tensor {
    let Parameters::Packed(packed) = run.parameters else {
        let y = linear(run, x, weight, Some(bias));
        return activation(run, &y, kind, dropout);
    };
    let mut y = run.tensor(x.rows(), run.parameters.shape(weight)[1]);
    let epilogue = Epilogue {
        plus: Plus::Bias(packed.plain(bias)),
        activation: Some(kind),
    };
    let alone = run.product().alone;
    packed.multiply(alone, weight, y.matrix_mut(), x.matrix(), epilogue);
    y
}

impl Recorded {
    /// `dW += xᵀ · dy`, `db += Σ dy`, `dx += dy · Wᵀ`.
    pub fn backward(self, back: &mut Backward) {
        let Some(dy) = back.take(self.y) else { return };
        let product = back.product();
        let parameter = back.weights.index.get(self.weight);
        let (rows, columns) = (parameter.shape[0], parameter.shape[1]);
        let dw = MatrixMut::new(back.gradient(self.weight), rows, columns, columns);
        product.gemm(dw, self.x.matrix().transposed(), dy.matrix(), Plus::C);
        if let Some(bias) = self.bias {
            bias_gradient(product.isa, back.gradient(bias), dy.data());
        }
        back.give_with(self.x.node(), (dy.rows(), rows), |back, dx, plus| {
            let transposed = back.weights.matrix(self.weight).transposed();
            product.gemm(dx.matrix_mut(), dy.matrix(), transposed, plus);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::check::Check;

    #[test]
    fn gradients_are_slopes() {
        for bias in [false, true] {
            let mut check = Check::new();
            let x = check.input(5, 7);
            let w = check.parameter(&[7, 6]);
            let b = bias.then(|| check.parameter(&[6]));
            check.run(|run, inputs| linear(run, &inputs[x], w, b));
        }
    }
}
