//! What one sentence has produced so far: a tree of tokens, shared by all its hypotheses.

use std::sync::Arc;

use super::hypothesis::Hypothesis;
use super::log_softmax::Row;
use super::options::{SearchInput, SearchOptions};
use super::processors::{needs_history, process};

/// A node in the tree. Every hypothesis is the path from the root to one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NodeId(Option<usize>);

impl NodeId {
    /// Before the first token.
    pub(super) const ROOT: NodeId = NodeId(None);
}

#[derive(Debug)]
struct Node {
    parent: NodeId,
    token: u32,
    log_prob: f32,
    /// Where its row of attention lies, if kept.
    attention: usize,
    /// Where the likeliest tokens in its place lie, if kept.
    likeliest: usize,
}

/// An open hypothesis.
#[derive(Debug, Clone, Copy)]
pub(super) struct Live {
    /// Its tokens.
    pub(super) node: NodeId,
    /// Sum of their log-probabilities.
    pub(super) log_prob: f32,
    /// Its last token: what the decoder is fed next.
    pub(super) token: u32,
    /// The row of the last step that it continues.
    pub(super) row: usize,
    /// Which sample it is.
    pub(super) sample: usize,
}

/// A closed hypothesis.
#[derive(Debug, Clone, Copy)]
pub(super) struct Closed {
    pub(super) node: NodeId,
    pub(super) log_prob: f32,
    pub(super) score: f32,
    pub(super) finished: bool,
    pub(super) sample: usize,
}

/// The tree, and where the sentence stands.
#[derive(Debug)]
pub(super) struct Trace {
    pub(super) options: Arc<SearchOptions>,
    pub(super) input: SearchInput,
    /// Tokens of every open hypothesis: they grow in step.
    pub(super) length: usize,
    nodes: Vec<Node>,
    attention: Vec<Vec<f32>>,
    likeliest: Vec<Vec<(u32, f32)>>,
    /// Index in `attention` of the current step's first row.
    step_attention: usize,
    history: Vec<u32>,
    scratch: Vec<u32>,
}

impl Trace {
    pub(super) fn new(options: Arc<SearchOptions>, input: SearchInput) -> Self {
        Trace {
            options,
            input,
            length: 0,
            nodes: Vec::new(),
            attention: Vec::new(),
            likeliest: Vec::new(),
            step_attention: 0,
            history: Vec::new(),
            scratch: Vec::new(),
        }
    }

    /// The hypothesis that every sentence starts with.
    pub(super) fn start(&self) -> Live {
        Live {
            node: NodeId::ROOT,
            log_prob: 0.0,
            token: self.options.first_token(&self.input),
            row: 0,
            sample: 0,
        }
    }

    /// Keeps this step's attention, one row for each open hypothesis.
    pub(super) fn keep_attention(&mut self, rows: Vec<Vec<f32>>) {
        self.step_attention = self.attention.len();
        self.attention.extend(rows);
    }

    /// Keeps the likeliest tokens in the place of the next token that is added.
    pub(super) fn keep_likeliest(&mut self, tokens: Vec<(u32, f32)>) {
        self.likeliest.push(tokens);
    }

    /// The token that must come next, if any.
    pub(super) fn forced_token(&self) -> Option<u32> {
        let prefix = self.input.prefix.get(self.length).copied();
        let last = self
            .options
            .forced_eos_id
            .filter(|_| self.length + 1 == self.input.max_length);
        let first = self.options.forced_bos_id.filter(|_| self.length == 0);
        prefix.or(last).or(first)
    }

    /// Whether a hypothesis ends with this as its next token.
    pub(super) fn ends_with(&self, token: u32) -> bool {
        self.options.is_end(token) || self.length + 1 >= self.input.max_length
    }

    /// Applies the constraints to the scores of an open hypothesis.
    pub(super) fn process(&mut self, row: &mut Row, live: &Live) {
        self.history.clear();
        if needs_history(&self.options) {
            let nodes = &self.nodes;
            self.history
                .extend(path(nodes, live.node).map(|node| node.token));
            match self.input.prompt.as_slice() {
                [] => self.history.push(self.options.start_id),
                prompt => self.history.extend(prompt.iter().rev()),
            }
            self.history.reverse();
        }
        let first = usize::from(self.options.forced_bos_id.is_some());
        process(
            row,
            &self.options,
            &self.history,
            (self.length, first.max(self.input.prefix.len())),
            &mut self.scratch,
        );
    }

    /// Adds a token to the open hypothesis in row `row`.
    pub(super) fn extend(&mut self, live: &Live, row: usize, token: u32, log_prob: f32) -> Live {
        let node = Node {
            parent: live.node,
            token,
            log_prob,
            attention: self.step_attention + row,
            likeliest: self.likeliest.len().wrapping_sub(1),
        };
        self.nodes.push(node);
        Live {
            node: NodeId(Some(self.nodes.len() - 1)),
            log_prob: live.log_prob + log_prob,
            token,
            row,
            sample: live.sample,
        }
    }

    /// Closes a hypothesis of `length` tokens.
    pub(super) fn close(&self, live: &Live, length: usize, finished: bool) -> Closed {
        Closed {
            node: live.node,
            log_prob: live.log_prob,
            score: live.log_prob / self.options.length_divisor(length),
            finished,
            sample: live.sample,
        }
    }

    /// A closed hypothesis as the caller sees it.
    pub(super) fn hypothesis(&self, closed: &Closed) -> Hypothesis {
        let mut nodes: Vec<&Node> = path(&self.nodes, closed.node).collect();
        nodes.reverse();
        let rows = || {
            nodes
                .iter()
                .filter_map(|node| self.attention.get(node.attention).cloned())
                .collect()
        };
        let likeliest = nodes
            .iter()
            .filter_map(|node| self.likeliest.get(node.likeliest).cloned());
        Hypothesis {
            likeliest: likeliest.collect(),
            ids: nodes.iter().map(|node| node.token).collect(),
            finished: closed.finished,
            score: closed.score,
            log_prob: closed.log_prob,
            token_log_probs: nodes.iter().map(|node| node.log_prob).collect(),
            attention: self.options.attention.then(rows),
        }
    }
}

/// The nodes from `node` back to the root.
fn path(nodes: &[Node], node: NodeId) -> impl Iterator<Item = &Node> {
    std::iter::successors(node.0.map(|i| &nodes[i]), |node| {
        node.parent.0.map(|i| &nodes[i])
    })
}
