//! What is made of the last stack's output: the figure's "Linear".

use hexapla_kernels::Matrix;

use crate::config::{HeadConfig, Precision};
use crate::model::embedding::table;
use crate::ops::cross_entropy::{LossOptions, Losses, Output, cross_entropy, logits, logits_into};
use crate::ops::{PackedTable, Run};
use crate::product::Product;
use crate::tensor::Tensor;
use crate::weights::{Kind, ParameterId, ParameterIndex, Weights};

/// A logit for each token of the vocabulary.
#[derive(Debug, Clone)]
pub(super) struct Head {
    output: Output,
}

impl Head {
    /// The head's table, which is there already where it is tied.
    pub(super) fn table(
        index: &mut ParameterIndex,
        d_model: usize,
        config: &HeadConfig,
    ) -> ParameterId {
        let HeadConfig::Tokens {
            table: name,
            vocab_size,
            ..
        } = config;
        table(index, name, [*vocab_size, d_model])
    }

    /// The head over `table`.
    pub(super) fn new(index: &mut ParameterIndex, table: ParameterId, config: &HeadConfig) -> Self {
        let HeadConfig::Tokens {
            vocab_size, bias, ..
        } = config;
        let bias = bias.then(|| index.add("output.bias", &[*vocab_size], Kind::Vector(0.0)));
        Head {
            output: Output { table, bias },
        }
    }

    /// The table packed, as training wants it.
    pub(super) fn pack(&self, weights: &Weights, precision: Precision) -> PackedTable {
        let product = Product {
            isa: hexapla_kernels::Isa::best(),
            precision,
            alone: false,
        };
        PackedTable::new(product, weights, self.output.table)
    }

    /// `[rows, d_model]` to `[rows, vocab]`.
    pub(super) fn logits(&self, run: &mut Run, x: &Tensor) -> Tensor {
        logits(run, self.output, x)
    }

    /// As [`Head::logits`], to `out`, which holds `rows · vocab` numbers.
    pub(super) fn logits_into(&self, run: &Run, x: Matrix, out: &mut [f32]) {
        logits_into(run, self.output, x, out);
    }

    /// The loss of each row of `x` against `labels`.
    pub(super) fn loss(
        &self,
        run: &mut Run,
        x: &Tensor,
        labels: &[u32],
        options: LossOptions,
    ) -> Losses {
        cross_entropy(run, self.output, x, labels, options)
    }
}
