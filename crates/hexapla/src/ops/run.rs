//! One pass through the model: with a tape (training) or without (inference).

use hexapla_kernels::{Buffer, Dropout, Isa, Visible};

use crate::config::Precision;
use crate::ops::parameters::{PackedTable, Parameters};
use crate::ops::watch::{HeadTable, Watch, Watching};
use crate::ops::{
    add_rows, attention, cross_entropy, embedding, gate, layer_norm, linear, pointwise, pool,
    rms_norm, rotary,
};
use crate::packed::PackedWeights;
use crate::product::Product;
use crate::random::mix;
use crate::tape::{Backward, SavedLists, Tape};
use crate::tensor::{Arena, Tensor};
use crate::weights::{ParameterId, Weights};

/// A recorded operation.
#[derive(Debug)]
pub enum Step {
    /// `ops/linear.rs`
    Linear(linear::Recorded),
    /// `ops/attention.rs`
    Attention(attention::Recorded),
    /// `ops/layer_norm.rs`
    LayerNorm(layer_norm::Recorded),
    /// `ops/rms_norm.rs`
    RmsNorm(rms_norm::Recorded),
    /// `ops/rotary.rs`
    Rotary(rotary::Recorded),
    /// `ops/gate.rs`
    Gate(gate::Recorded),
    /// `ops/pool.rs`
    Pool(pool::Recorded),
    /// `ops/embedding.rs`
    Embedding(embedding::Recorded),
    /// `ops/add_rows.rs`
    AddRows(add_rows::Recorded),
    /// `ops/cross_entropy.rs`
    CrossEntropy(cross_entropy::Recorded),
    /// `ops/pointwise.rs`
    Activation(pointwise::RecordedActivation),
    /// `ops/pointwise.rs`
    Dropout(pointwise::RecordedDropout),
    /// `ops/pointwise.rs`
    Residual(pointwise::RecordedResidual),
}

/// Where the random choices of a pass come from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DropoutKey {
    /// Mixed from seed, step, shard and part of the batch.
    pub key: u64,
    /// Uses of dropout so far in this pass.
    uses: u64,
}

impl DropoutKey {
    /// The choices of one pass.
    pub fn new(seed: u64, step: u64, shard: u64, part: u64) -> Self {
        let key = [step, shard, part]
            .iter()
            .fold(mix(seed), |key, v| mix(key ^ mix(*v)));
        DropoutKey { key, uses: 0 }
    }
}

/// What a recording pass writes to, kept from step to step.
#[derive(Debug)]
pub struct Gradients {
    /// Laid out as the parameters are.
    pub data: Buffer,
    tape: Tape<Step>,
    lists: SavedLists,
    flowing: Vec<Option<Tensor>>,
}

impl Gradients {
    /// Zeros for `len` numbers.
    pub fn zeros(len: usize) -> Self {
        Gradients {
            data: Buffer::zeros(len),
            tape: Tape::default(),
            lists: SavedLists::default(),
            flowing: Vec::new(),
        }
    }
}

#[cfg(test)]
impl Gradients {
    /// What flowed to `node` and was taken by nobody.
    pub(crate) fn flowing(&self, node: Option<crate::tensor::Node>) -> Option<&Tensor> {
        node.and_then(|n| self.flowing[n.0 as usize].as_ref())
    }
}

/// One pass through the model. Every operation takes it first.
#[derive(Debug)]
pub struct Run<'a> {
    /// Instructions to use.
    pub isa: Isa,
    /// Arithmetic of the large products that are not packed; a packed matrix brings its own.
    pub precision: Precision,
    /// Whether the threads have no other work meanwhile, and so share its products.
    alone: bool,
    /// Where buffers come from.
    pub arena: Arena,
    /// The parameters.
    pub parameters: Parameters<'a>,
    recording: Option<(&'a mut Gradients, DropoutKey)>,
    watching: Option<Watching<'a>>,
}

impl<'a> Run<'a> {
    /// A pass that records nothing and drops nothing.
    pub fn inference(arena: &Arena, packed: &'a PackedWeights) -> Self {
        Run::new(arena, Parameters::Packed(packed))
    }

    fn new(arena: &Arena, parameters: Parameters<'a>) -> Self {
        Run {
            isa: Isa::best(),
            precision: Precision::Float32,
            alone: false,
            arena: arena.clone(),
            parameters,
            recording: None,
            watching: None,
        }
    }

    /// A pass that records; gradients are added to `gradients` by [`Run::backward`].
    pub fn training(
        arena: &Arena,
        weights: &'a Weights,
        packed: &'a PackedTable,
        gradients: &'a mut Gradients,
        dropped: DropoutKey,
    ) -> Self {
        gradients.tape.clear();
        gradients.lists.clear();
        Run {
            recording: Some((gradients, dropped)),
            ..Run::new(arena, Parameters::Trained(weights, packed))
        }
    }

    /// The same pass with its large products in `precision`.
    #[must_use]
    pub fn with_precision(self, precision: Precision) -> Self {
        Run { precision, ..self }
    }

    /// The same pass, whose products all threads share where they have no other work. That changes no result.
    #[must_use]
    pub fn alone(self, alone: bool) -> Self {
        Run { alone, ..self }
    }

    /// As [`Run::alone`], of a pass under way.
    pub fn set_alone(&mut self, alone: bool) {
        self.alone = alone;
    }

    /// How large products are computed.
    pub fn product(&self) -> Product {
        Product {
            isa: self.isa,
            precision: self.precision,
            alone: self.alone,
        }
    }

    /// Whether a tape records.
    pub fn is_recording(&self) -> bool {
        self.recording.is_some()
    }

    /// A new value of `rows × columns`, to be filled.
    pub fn tensor(&mut self, rows: usize, columns: usize) -> Tensor {
        let node = self.recording.as_mut().map(|(g, _)| g.tape.node());
        self.arena.tensor(rows, columns).with_node(node)
    }

    /// Keeps a step for the backward pass, which may put what it has besides tensors into the lists.
    pub fn record(&mut self, step: impl FnOnce(&mut SavedLists) -> Step) {
        if let Some((gradients, _)) = &mut self.recording {
            gradients.tape.push(step(&mut gradients.lists));
        }
    }

    /// The next use of dropout in this pass; none in inference.
    pub fn dropout(&mut self, p: f32) -> Dropout {
        match &mut self.recording {
            Some((_, dropped)) if p > 0.0 => {
                dropped.uses += 1;
                Dropout::new(p, mix(dropped.key ^ dropped.uses))
            }
            _ => Dropout::NONE,
        }
    }

    /// The gradients to add to, while recording.
    pub(crate) fn gradients(&mut self) -> Option<&mut [f32]> {
        self.recording.as_mut().map(|(g, _)| &mut *g.data)
    }

    /// Plays the tape back: adds every parameter's gradient.
    pub fn backward(self) {
        self.backward_from(|_| {});
    }

    /// As [`Run::backward`], after `start` has given gradients to some values.
    pub fn backward_from(self, start: impl FnOnce(&mut Backward)) {
        let (Some((gradients, _)), Parameters::Trained(weights, _)) =
            (self.recording, self.parameters)
        else {
            return;
        };
        let Gradients {
            data,
            tape,
            lists,
            flowing,
        } = gradients;
        let mut backward = Backward {
            isa: self.isa,
            precision: self.precision,
            arena: self.arena,
            weights,
            gradients: data,
            lists,
            flowing,
        };
        let mut start = Some(start);
        tape.play_back(&mut backward, |step, backward| {
            if let Some(start) = start.take() {
                start(backward);
            }
            match step {
                Step::Linear(s) => s.backward(backward),
                Step::Attention(s) => s.backward(backward),
                Step::LayerNorm(s) => s.backward(backward),
                Step::RmsNorm(s) => s.backward(backward),
                Step::Rotary(s) => s.backward(backward),
                Step::Gate(s) => s.backward(backward),
                Step::Pool(s) => s.backward(backward),
                Step::Embedding(s) => s.backward(backward),
                Step::AddRows(s) => s.backward(backward),
                Step::CrossEntropy(s) => s.backward(backward),
                Step::Activation(s) => s.backward(backward),
                Step::Dropout(s) => s.backward(backward),
                Step::Residual(s) => s.backward(backward),
            }
        });
    }
}

/// What is shown of a pass.
impl<'a> Run<'a> {
    /// The same pass before somebody's eyes. Its products are those of a pass that nobody watches, but that no factor of attention is
    /// rounded.
    #[must_use]
    pub fn watched(mut self, watch: &'a mut dyn Watch) -> Self {
        let location = String::new();
        self.watching = Some(Watching { watch, location });
        self
    }

    /// Whether somebody watches.
    pub(super) fn is_watched(&self) -> bool {
        self.watching.is_some()
    }

    /// Who watches, and where this is.
    pub(super) fn watcher(&mut self) -> Option<(&mut (dyn Watch + 'a), &str)> {
        let watching = self.watching.as_mut()?;
        Some((&mut *watching.watch, &watching.location))
    }

    /// The pass comes to the part `name`.
    pub(crate) fn enter(&mut self, name: &str) {
        if let Some(watching) = &mut self.watching {
            watching.location = name.to_string();
        }
    }

    /// Shows what the parameter `id` made. A linear layer tells where the pass is.
    pub(super) fn show_made(&mut self, id: ParameterId, x: &mut Tensor) {
        let Some(watching) = &mut self.watching else {
            return;
        };
        let name = &self.parameters.index().get(id).name;
        let name = name.strip_suffix(".weight").unwrap_or(name);
        if let Some((location, _)) = name.rsplit_once('.') {
            watching.location = location.to_string();
        }
        watching.watch.value(name, x);
    }

    /// Shows the numbers of one head of one text to `look`.
    pub(super) fn show_table(
        &mut self,
        look: fn(&mut (dyn Watch + 'a), &str, HeadTable, Visible),
        (text, head, keys): (usize, usize, usize),
        visible: Visible,
        numbers: &mut [f32],
    ) {
        if let Some((watch, location)) = self.watcher() {
            let table = HeadTable {
                text,
                head,
                keys,
                numbers,
            };
            look(watch, location, table, visible);
        }
    }

    /// Shows a value of the box that the pass is in.
    pub(super) fn show(&mut self, what: &str, x: &mut Tensor) {
        if let Some((watch, location)) = self.watcher() {
            watch.value(&format!("{location}.{what}"), x);
        }
    }
}
