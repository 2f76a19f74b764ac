//! What a forward pass leaves behind for the backward pass.
//!
//! This is not a general automatic differentiation: the few operations of the Transformer each know their own backward
//! step (`ops`), and the tape only keeps those steps in order and the gradients that flow between them.

use std::ops::Range;

use hexapla_kernels::{Isa, Plus, add_assign};

use crate::batch::Span;
use crate::config::Precision;
use crate::product::Product;
use crate::tensor::{Arena, Node, Tensor};
use crate::weights::{ParameterId, Weights};

/// The steps recorded by one forward pass, and the number of values that they made.
#[derive(Debug)]
pub struct Tape<S> {
    steps: Vec<S>,
    nodes: u32,
}

impl<S> Default for Tape<S> {
    fn default() -> Self {
        Tape {
            steps: Vec::new(),
            nodes: 0,
        }
    }
}

impl<S> Tape<S> {
    /// Forgets everything.
    pub fn clear(&mut self) {
        self.steps.clear();
        self.nodes = 0;
    }

    /// A node for a new value.
    pub fn node(&mut self) -> Node {
        self.nodes += 1;
        Node(self.nodes - 1)
    }

    /// Keeps a step.
    pub fn push(&mut self, step: S) {
        self.steps.push(step);
    }

    /// Takes the steps in reverse order, and forgets them.
    pub fn play_back(&mut self, backward: &mut Backward, mut play: impl FnMut(S, &mut Backward)) {
        backward.flowing.clear();
        backward.flowing.resize_with(self.nodes as usize, || None);
        while let Some(step) = self.steps.pop() {
            play(step, backward);
        }
        self.nodes = 0;
    }
}

/// What recorded steps keep besides tensors: lists, end to end in vectors that the next pass uses again.
#[derive(Debug, Default)]
pub struct SavedLists {
    /// Token ids, each with its row of the position table.
    pub tokens: Vec<(u32, u32)>,
    /// Spans of queries, each with that of its keys.
    pub pairs: Vec<(Span, Span)>,
    /// Spans of texts.
    pub spans: Vec<Span>,
    /// Positions of rows.
    pub positions: Vec<u32>,
}

impl SavedLists {
    /// Forgets everything.
    pub fn clear(&mut self) {
        self.tokens.clear();
        self.pairs.clear();
        self.spans.clear();
        self.positions.clear();
    }
}

/// Adds `items` to one of the [`SavedLists`]; says where they stand.
pub fn keep<T>(list: &mut Vec<T>, items: impl Iterator<Item = T>) -> Range<usize> {
    let start = list.len();
    list.extend(items);
    start..list.len()
}

/// A backward pass under way.
#[derive(Debug)]
pub struct Backward<'a> {
    /// Instructions to use.
    pub isa: Isa,
    /// Arithmetic of the large products.
    pub precision: Precision,
    /// Where buffers come from.
    pub arena: Arena,
    /// The parameters.
    pub weights: &'a Weights,
    /// The gradient of every parameter, laid out as the parameters are; added to.
    pub gradients: &'a mut [f32],
    /// What the steps keep besides tensors.
    pub lists: &'a SavedLists,
    /// The gradient of each value that is on its way back.
    pub flowing: &'a mut Vec<Option<Tensor>>,
}

impl Backward<'_> {
    /// How large products are computed.
    pub fn product(&self) -> Product {
        Product {
            isa: self.isa,
            precision: self.precision,
            alone: false,
        }
    }

    /// The gradient that has reached the value `node`; none if nothing depends on it.
    pub fn take(&mut self, node: Option<Node>) -> Option<Tensor> {
        node.and_then(|n| self.flowing[n.0 as usize].take())
    }

    /// Sends a gradient on to the value `node`.
    pub fn give(&mut self, node: Option<Node>, gradient: Tensor) {
        let Some(node) = node else { return };
        match &mut self.flowing[node.0 as usize] {
            empty @ None => *empty = Some(gradient),
            Some(sum) => add_assign(self.isa, sum.data_mut(), gradient.data()),
        }
    }

    /// Lets `write` put a gradient of `rows × columns` for the value `node`, or add to the one that is there.
    pub fn give_with(
        &mut self,
        node: Option<Node>,
        shape: (usize, usize),
        write: impl FnOnce(&mut Self, &mut Tensor, Plus),
    ) {
        let (mut gradient, plus) = match self.take(node) {
            Some(sum) => (sum, Plus::C),
            None => (self.arena.tensor(shape.0, shape.1), Plus::Nothing),
        };
        write(self, &mut gradient, plus);
        if let Some(node) = node {
            self.flowing[node.0 as usize] = Some(gradient);
        }
    }

    /// The gradient of a parameter.
    pub fn gradient(&mut self, id: ParameterId) -> &mut [f32] {
        &mut self.gradients[self.weights.index.get(id).range.clone()]
    }
}
