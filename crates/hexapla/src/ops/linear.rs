//! `y = x · W + b` for each row.

use hexapla_kernels::{Activation, Epilogue, MatrixMut, Plus, bias_gradient};

use crate::ops::pointwise::activation;
use crate::ops::{Parameters, Run, Step};
use crate::packed::PackedProduct;
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
    let plus = plus_of(parameters, bias);
    let mut y = run.tensor(x.rows(), parameters.shape(weight)[1]);
    parameters.multiply(run.product(), weight, y.matrix_mut(), x.matrix(), plus);
    run.show_made(weight, &mut y);
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

/// [`linear`] of one `x` by several layers; in int8 its rows are quantized once for all of them.
pub fn linears<const N: usize>(
    run: &mut Run,
    x: &Tensor,
    layers: [(ParameterId, Option<ParameterId>); N],
) -> [Tensor; N] {
    let Parameters::Packed(packed) = run.parameters else {
        return layers.map(|(weight, bias)| linear(run, x, weight, bias));
    };
    let mut outputs =
        layers.map(|(weight, _)| run.tensor(x.rows(), run.parameters.shape(weight)[1]));
    let mut rest = layers.iter();
    let products = outputs.each_mut().map(|y| {
        let (weight, bias) = rest.next().expect("as many outputs as layers");
        PackedProduct {
            id: *weight,
            y: y.matrix_mut(),
            epilogue: plus_of(run.parameters, *bias).into(),
        }
    });
    packed.multiply(run.product().alone, x.matrix(), products);
    for (y, (weight, _)) in outputs.iter_mut().zip(layers) {
        run.show_made(weight, y);
    }
    outputs
}

/// `dropout(activation(x · W + b))`: [`linear`] and [`activation`], in one pass where nothing will go back through them.
pub fn linear_activated(
    run: &mut Run,
    x: &Tensor,
    weight: ParameterId,
    bias: Option<ParameterId>,
    kind: Activation,
    dropout: f32,
) -> Tensor {
    let Parameters::Packed(packed) = run.parameters else {
        let y = linear(run, x, weight, bias);
        return activation(run, &y, kind, dropout);
    };
    let mut y = run.tensor(x.rows(), run.parameters.shape(weight)[1]);
    let product = PackedProduct {
        id: weight,
        y: y.matrix_mut(),
        epilogue: Epilogue {
            plus: plus_of(run.parameters, bias),
            activation: Some(kind),
        },
    };
    packed.multiply(run.product().alone, x.matrix(), [product]);
    run.show_made(weight, &mut y);
    y
}

/// What is added to a product.
fn plus_of(parameters: Parameters<'_>, bias: Option<ParameterId>) -> Plus<'_> {
    bias.map_or(Plus::Nothing, |b| Plus::Bias(parameters.plain(b)))
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
