//! What a search saw: the tree of its tokens, losers too.

use std::ops::Range;

use hexapla_kernels::Buffer;
use serde::Serialize;

use super::likeliest::{Likeliest, likeliest};
use crate::error::Result;
use crate::generate::{Hypothesis, SearchOptions, StepDecoder};

/// All tokens that a search looked at closely: the likeliest of each open hypothesis at each step.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct SearchTree {
    /// Open hypotheses at a time; 1 is greedy decoding.
    pub beam_size: usize,
    /// Whether tokens were drawn by chance.
    pub sampled: bool,
    /// A score is the sum of the log-probabilities divided by the number of tokens to this power.
    pub length_penalty: f32,
    /// A parent stands before its children.
    pub nodes: Vec<TreeNode>,
    /// The hypotheses that came to an end, the best first.
    pub finished: Vec<FinishedNode>,
}

/// A token after those of its parents.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct TreeNode {
    /// The node before it; none at the first step.
    pub parent: Option<usize>,
    /// The token.
    pub id: u32,
    /// Its log-probability after its parents.
    pub log_prob: f32,
    /// Whether the search went on with it.
    pub kept: bool,
}

/// The last token of a hypothesis.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct FinishedNode {
    /// Its node.
    pub node: usize,
    /// Sum of the log-probabilities.
    pub log_prob: f32,
    /// What hypotheses are compared by.
    pub score: f32,
}

/// A decoder that notes what the search sees of it.
pub(super) struct WatchedDecoder<D> {
    inner: D,
    tree: SearchTree,
    /// The node that each row continues.
    rows: Vec<Option<usize>>,
    /// Children that are noted of each row.
    children: usize,
}

impl<D: StepDecoder> WatchedDecoder<D> {
    /// Watches `inner`, of which one text is asked.
    pub(super) fn new(inner: D, options: &SearchOptions) -> Self {
        WatchedDecoder {
            inner,
            tree: SearchTree {
                beam_size: options.beam_size,
                sampled: options.sampling.is_some(),
                length_penalty: options.length_penalty,
                ..SearchTree::default()
            },
            rows: Vec::new(),
            children: (2 * options.beam_size).clamp(5, 10),
        }
    }

    /// The child of `parent` with the token `id`, which is added where it was none of the likeliest.
    fn child(&mut self, parent: Option<usize>, id: u32, log_prob: f32) -> usize {
        let nodes = &self.tree.nodes;
        let found = nodes
            .iter()
            .position(|node| node.parent == parent && node.id == id);
        found.unwrap_or_else(|| {
            self.tree.nodes.push(TreeNode {
                parent,
                id,
                log_prob,
                kept: false,
            });
            self.tree.nodes.len() - 1
        })
    }

    /// The tree, with the paths of `found`.
    pub(super) fn finish(mut self, found: &[Hypothesis]) -> SearchTree {
        for hypothesis in found {
            let mut node = None;
            for (id, log_prob) in hypothesis.ids.iter().zip(&hypothesis.token_log_probs) {
                let child = self.child(node, *id, *log_prob);
                self.tree.nodes[child].kept = true;
                node = Some(child);
            }
            if let Some(node) = node {
                self.tree.finished.push(FinishedNode {
                    node,
                    log_prob: hypothesis.log_prob,
                    score: hypothesis.score,
                });
            }
        }
        self.tree
    }
}

impl<D: StepDecoder> StepDecoder for WatchedDecoder<D> {
    fn vocab_size(&self) -> usize {
        self.inner.vocab_size()
    }

    fn step(&mut self, tokens: &[u32]) -> Result<()> {
        if self.rows.is_empty() {
            // The start token.
            self.rows = vec![None; tokens.len()];
        } else {
            let parents = std::mem::take(&mut self.rows);
            for (parent, token) in parents.into_iter().zip(tokens) {
                // A token that was not among the likeliest was forced.
                let child = self.child(parent, *token, 0.0);
                self.tree.nodes[child].kept = true;
                self.rows.push(Some(child));
            }
        }
        self.inner.step(tokens)
    }

    fn logits(&mut self, hypotheses: Range<usize>, logits: &mut Buffer) -> Result<()> {
        let vocab = self.vocab_size();
        self.inner.logits(hypotheses.clone(), logits)?;
        for (row, logits) in hypotheses.zip(logits.chunks_exact(vocab)) {
            let parent = self.rows[row];
            let Likeliest { tokens, .. } = likeliest(logits, self.children);
            for (id, log_prob) in tokens {
                self.tree.nodes.push(TreeNode {
                    parent,
                    id,
                    log_prob,
                    kept: false,
                });
            }
        }
        Ok(())
    }

    fn reorder(&mut self, parents: &[usize]) {
        self.rows = parents.iter().map(|row| self.rows[*row]).collect();
        self.inner.reorder(parents);
    }

    fn attention(&self) -> Option<Vec<Vec<f32>>> {
        self.inner.attention()
    }
}
