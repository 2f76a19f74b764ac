//! What is made of the last stack's output: the figure's "Linear", or another answer.

use hexapla_kernels::{Activation, Matrix};

use crate::batch::Span;
use crate::config::{HeadConfig, OutputConfig, Precision};
use crate::model::embedding::table;
use crate::model::layers::{Linear, Norm, activation};
use crate::ops::cross_entropy::{LossOptions, Losses, Output, cross_entropy, logits, logits_into};
use crate::ops::pool::{Pooling, pool};
use crate::ops::{PackedTable, Run};
use crate::product::Product;
use crate::tensor::Tensor;
use crate::weights::{Kind, ParameterId, ParameterIndex, Weights};

/// A linear layer with its activation, a norm and the last linear layer, each of which may be absent.
#[derive(Debug, Clone)]
pub(super) struct Head {
    /// Whether only the first row of each text goes through it.
    first_row: bool,
    dense: Option<(Linear, Activation)>,
    norm: Option<Norm>,
    last: Option<Last>,
}

/// The last linear layer.
#[derive(Debug, Clone)]
enum Last {
    /// Over a table `[vocab, width]`, which may be an embedding's.
    Tokens(Output),
    Classes(Linear),
}

impl Head {
    /// The head's table, if it has one, which is there already where it is tied.
    pub(super) fn table(
        index: &mut ParameterIndex,
        d_model: usize,
        config: &HeadConfig,
    ) -> Option<ParameterId> {
        let width = config.dense.map_or(d_model, |dense| dense.width);
        match &config.output {
            Some(OutputConfig::Tokens {
                table: name,
                vocab_size,
                ..
            }) => Some(table(index, name, [*vocab_size, width])),
            _ => None,
        }
    }

    /// The head; `table` is what [`Head::table`] gave.
    pub(super) fn new(
        index: &mut ParameterIndex,
        table: Option<ParameterId>,
        d_model: usize,
        config: &HeadConfig,
    ) -> Self {
        let dense = config.dense.map(|dense| {
            let linear = Linear::new(index, "head.dense", [d_model, dense.width], true);
            (linear, activation(dense.activation))
        });
        let width = config.dense.map_or(d_model, |dense| dense.width);
        let norm = config.norm.as_ref();
        let norm = norm.map(|norm| Norm::new(index, "head.norm", width, norm));
        let last = match (&config.output, table) {
            (
                Some(OutputConfig::Tokens {
                    vocab_size,
                    bias,
                    scale,
                    ..
                }),
                Some(table),
            ) => {
                let bias =
                    bias.then(|| index.add("output.bias", &[*vocab_size], Kind::Vector(0.0)));
                let scale = *scale;
                Some(Last::Tokens(Output { table, bias, scale }))
            }
            (Some(OutputConfig::Classes(classes)), _) => {
                let shape = [width, *classes];
                Some(Last::Classes(Linear::new(
                    index,
                    "head.output",
                    shape,
                    true,
                )))
            }
            _ => None,
        };
        Head {
            first_row: config.first_row,
            dense,
            norm,
            last,
        }
    }

    fn output(&self) -> Output {
        match &self.last {
            Some(Last::Tokens(output)) => *output,
            _ => panic!("a head over a vocabulary"),
        }
    }

    /// Rows of its table.
    pub(super) fn vocab_size(&self, index: &ParameterIndex) -> usize {
        index.get(self.output().table).shape[0]
    }

    /// The table packed, as training wants it.
    pub(super) fn pack(&self, weights: &Weights, precision: Precision) -> PackedTable {
        let product = Product {
            isa: hexapla_kernels::Isa::best(),
            precision,
            alone: false,
        };
        PackedTable::new(product, weights, self.output().table)
    }

    /// `x` `[rows, d_model]` of texts that lie at `spans` to what it says of each text, or of each row.
    pub(super) fn forward(&self, run: &mut Run, x: &Tensor, spans: &[Span]) -> Tensor {
        let mut x = match self.first_row {
            true => pool(run, x, spans, Pooling::First),
            false => x.clone(),
        };
        if let Some((dense, activation)) = &self.dense {
            x = dense.activated(run, &x, *activation, 0.0);
        }
        if let Some(norm) = &self.norm {
            x = norm.forward(run, &x);
        }
        match &self.last {
            Some(Last::Tokens(output)) => logits(run, *output, &x),
            Some(Last::Classes(linear)) => linear.forward(run, &x),
            None => x,
        }
    }

    /// The output layer of a step: `[rows, d_model]` to `out`, which holds `rows · vocab` numbers.
    pub(super) fn logits_into(&self, run: &Run, x: Matrix, out: &mut [f32]) {
        logits_into(run, self.output(), x, out);
    }

    /// The loss of each row of `x` against `labels`.
    pub(super) fn loss(
        &self,
        run: &mut Run,
        x: &Tensor,
        labels: &[u32],
        options: LossOptions,
    ) -> Losses {
        cross_entropy(run, self.output(), x, labels, options)
    }
}
