//! One layer of figure 1: of the encoder without the middle box, of the decoder with it.

use std::sync::Arc;

use hexapla_kernels::Visible;

use crate::config::LayerConfig;
use crate::model::layers::{AddNorm, FeedForward, MultiHeadAttention};
use crate::ops::Run;
use crate::ops::attention::AttentionMask;
use crate::ops::relative::RelativeBias;
use crate::ops::rotary::Turns;
use crate::tensor::Tensor;
use crate::weights::ParameterIndex;

/// Self-attention, attention over the encoder's output or none, and feed-forward.
#[derive(Debug, Clone)]
pub(super) struct Layer {
    self_attention: (MultiHeadAttention, AddNorm),
    cross_attention: Option<(MultiHeadAttention, AddNorm)>,
    feed_forward: (FeedForward, AddNorm),
    /// Which rows of its own text a row sees.
    pub(super) visible: Visible,
}

/// What a layer attends to in the encoder's output.
pub(super) struct Memory<'a> {
    /// The encoder's output `[source rows, d_model]`, or no rows where the cache of `mask` has their keys and values.
    pub rows: &'a Tensor,
    /// Which source rows each row sees.
    pub mask: AttentionMask<'a>,
}

impl Layer {
    pub(super) fn new(
        index: &mut ParameterIndex,
        name: &str,
        d_model: usize,
        config: &LayerConfig,
        bias: Option<RelativeBias>,
        turns: Option<Arc<Turns>>,
    ) -> Self {
        let norm = |index: &mut ParameterIndex, of: &str| {
            AddNorm::new(index, &format!("{name}.{of}_norm"), d_model, config)
        };
        let attention = |index: &mut ParameterIndex, of: &str, config, bias, turns| {
            let name = format!("{name}.{of}");
            MultiHeadAttention::new(index, &name, d_model, config, bias, turns)
        };
        Layer {
            self_attention: (
                attention(index, "self_attention", &config.self_attention, bias, turns),
                norm(index, "self_attention"),
            ),
            cross_attention: config.cross_attention.as_ref().map(|config| {
                (
                    attention(index, "cross_attention", config, None, None),
                    norm(index, "cross_attention"),
                )
            }),
            feed_forward: (
                FeedForward::new(
                    index,
                    &format!("{name}.feed_forward"),
                    d_model,
                    &config.feed_forward,
                ),
                norm(index, "feed_forward"),
            ),
            visible: Visible {
                offset: 0,
                behind: match config.self_attention.window {
                    Some(window) => window - 1,
                    None => usize::MAX,
                },
                ahead: if config.self_attention.causal {
                    0
                } else {
                    usize::MAX
                },
            },
        }
    }

    /// `x` is `[rows, d_model]`, its rows stand at `positions` of their texts; `mask` says which of its rows each of them sees.
    pub(super) fn forward(
        &self,
        run: &mut Run,
        x: &Tensor,
        positions: &[u32],
        mask: AttentionMask,
        memory: Option<Memory>,
    ) -> Tensor {
        let (attention, add_norm) = &self.self_attention;
        let mut x = add_norm.around(run, x, |run, x| {
            attention.forward(run, x, positions, None, mask)
        });
        if let Some(((attention, add_norm), memory)) = self.cross_attention.as_ref().zip(memory) {
            x = add_norm.around(run, &x, |run, x| {
                attention.forward(run, x, positions, Some(memory.rows), memory.mask)
            });
        }
        let (feed_forward, add_norm) = &self.feed_forward;
        add_norm.around(run, &x, |run, x| feed_forward.forward(run, x))
    }
}
