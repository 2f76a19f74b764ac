//! Half of figure 1: an embedding, layers, and a last norm where there is one.

use std::sync::Arc;

use hexapla_kernels::Visible;

use crate::batch::{Rows, Span};
use crate::config::{LayerConfig, RotaryConfig, StackConfig};
use crate::model::embedding::Embedder;
use crate::model::layer::{Layer, Memory};
use crate::model::layers::Norm;
use crate::ops::Run;
use crate::ops::attention::AttentionMask;
use crate::ops::relative::{RelativeBias, RelativeNumbers};
use crate::ops::rotary::Turns;
use crate::tensor::Tensor;
use crate::weights::{Kind, ParameterIndex};

/// An encoder or a decoder.
#[derive(Debug, Clone)]
pub(super) struct Stack {
    pub(super) name: String,
    pub(super) embedder: Embedder,
    layers: Vec<Layer>,
    norm: Option<Norm>,
    /// What it was built from.
    pub(super) config: StackConfig,
}

/// What the rows of a pass attend to.
pub(super) trait Context {
    /// What they attend to in one layer: those rows of their own texts that are `visible`, and of the encoder's output.
    fn layer(&mut self, layer: usize, visible: Visible) -> (AttentionMask<'_>, Option<Memory<'_>>);
}

/// Whole texts.
pub(super) struct Texts<'a> {
    /// Where each lies among the rows.
    pub(super) spans: &'a [Span],
    /// The encoder's output, and where each text's source lies in it.
    pub(super) memory: Option<(&'a Tensor, &'a [Span])>,
}

impl Context for Texts<'_> {
    fn layer(
        &mut self,
        _layer: usize,
        visible: Visible,
    ) -> (AttentionMask<'_>, Option<Memory<'_>>) {
        let mask = |keys, visible| AttentionMask::Spans {
            queries: self.spans,
            keys,
            visible,
            store: None,
        };
        let memory = self.memory.map(|(rows, spans)| Memory {
            rows,
            mask: mask(spans, Visible::ALL),
        });
        (mask(self.spans, visible), memory)
    }
}

impl Stack {
    /// The layers are called `{name}.layers.0` and so on.
    pub(super) fn new(
        index: &mut ParameterIndex,
        name: &str,
        d_model: usize,
        embedder: Embedder,
        config: StackConfig,
    ) -> Self {
        let bias = config.relative_positions.and_then(|relative| {
            let heads = config.layers.first().map_or(1, |l| l.self_attention.heads);
            let shape = [relative.buckets, heads];
            let table = index.add(RelativeNumbers::name(name), &shape, Kind::Positions(0.02));
            RelativeBias::new(&config, table)
        });
        // Layers with the same angles share their table.
        let mut tables: Vec<(RotaryConfig, Arc<Turns>)> = Vec::new();
        let mut turns = |rotary: RotaryConfig| match tables.iter().find(|(r, _)| *r == rotary) {
            Some((_, table)) => table.clone(),
            None => {
                let positions = config.embedding.max_positions;
                tables.push((rotary, Arc::new(Turns::new(&rotary, positions))));
                tables[tables.len() - 1].1.clone()
            }
        };
        let layers = config.layers.iter().enumerate();
        let layer = |(i, layer): (usize, &LayerConfig)| {
            let turns = layer.self_attention.rotary.map(&mut turns);
            let name = format!("{name}.layers.{i}");
            Layer::new(index, &name, d_model, layer, bias, turns)
        };
        let layers = layers.map(layer).collect();
        let norm = |config| Norm::new(index, &format!("{name}.norm"), d_model, config);
        Stack {
            name: name.to_string(),
            embedder,
            layers,
            norm: config.norm.as_ref().map(norm),
            config,
        }
    }

    /// Whole texts: `[rows, d_model]`.
    pub(super) fn texts(
        &self,
        run: &mut Run,
        rows: &Rows,
        memory: Option<(&Tensor, &[Span])>,
    ) -> Tensor {
        run.enter(&self.name);
        let x = self.embedder.texts(run, rows);
        let spans = &rows.spans;
        self.forward(run, x, &rows.positions, &mut Texts { spans, memory })
    }

    /// `x` `[rows, d_model]`, whose rows stand at `positions`, through all layers.
    pub(super) fn forward(
        &self,
        run: &mut Run,
        x: Tensor,
        positions: &[u32],
        context: &mut impl Context,
    ) -> Tensor {
        let mut x = x;
        for (i, layer) in self.layers.iter().enumerate() {
            let (mask, memory) = context.layer(i, layer.visible);
            x = layer.forward(run, &x, positions, mask, memory);
        }
        self.finish(run, x)
    }

    /// What the last layer gave, through the last norm where there is one.
    pub(super) fn finish(&self, run: &mut Run, x: Tensor) -> Tensor {
        match &self.norm {
            Some(norm) => norm.forward(run, &x),
            None => x,
        }
    }
}
