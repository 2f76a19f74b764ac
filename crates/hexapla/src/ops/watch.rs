//! What a pass shows to somebody who watches it, and what may be changed on the way ("what if …").
//!
//! A value is called as the parameters that made it: `encoder.layers.0.self_attention.query` is what that linear layer gave. What
//! no parameter makes is called by the box that made it: `encoder.layers.0.self_attention.heads`,
//! `encoder.layers.0.feed_forward.sum`.
//! Where nobody watches, which is everywhere but in explanations, each of these is one branch.

use std::fmt;

use hexapla_kernels::Visible;

use crate::tensor::Tensor;

/// Sees the values of a pass as they are made, and may change them. A change acts on all that comes after it.
pub trait Watch: fmt::Debug + Send {
    /// The value called `name`: `[rows, width]`.
    fn value(&mut self, name: &str, x: &mut Tensor);

    /// The queries, keys and values of the attention called `name`, before they meet.
    fn projections(&mut self, _name: &str, _projections: Projected) {}

    /// Which keys each query of the attention called `name` sees.
    fn visible(&mut self, _name: &str, visible: Visible) -> Visible {
        visible
    }

    /// Products of queries and keys, before their scale, their mask and the softmax. A key whose products are −∞ is not seen.
    fn scores(&mut self, _name: &str, _table: HeadTable, _visible: Visible) {}

    /// What the softmax made of them.
    fn weights(&mut self, _name: &str, _table: HeadTable, _visible: Visible) {}

    /// The residual connection around the sublayer called `name`: `sum` is `x` + `y`.
    fn residual(&mut self, _name: &str, _x: &Tensor, _y: &Tensor, _sum: &mut Tensor) {}
}

/// The projections of an attention.
#[derive(Debug)]
pub struct Projected<'a> {
    /// `[rows, heads · width]`.
    pub query: &'a mut Tensor,
    /// `[key rows, kv_heads · width]`.
    pub key: &'a mut Tensor,
    /// As the keys.
    pub value: &'a mut Tensor,
    /// Heads of the queries.
    pub heads: usize,
    /// Heads of keys and values.
    pub kv_heads: usize,
    /// What a product of query and key is multiplied by.
    pub scale: f32,
}

/// A number for each query and key of one head, for one text.
#[derive(Debug)]
pub struct HeadTable<'a> {
    /// The text among those of the pass.
    pub text: usize,
    /// The head.
    pub head: usize,
    /// Numbers in a row.
    pub keys: usize,
    /// `[queries, keys]`.
    pub numbers: &'a mut [f32],
}

/// Who watches a pass, and where that is.
#[derive(Debug)]
pub(super) struct Watching<'a> {
    pub(super) watch: &'a mut dyn Watch,
    /// The box that it is in: `encoder`, `encoder.layers.0.self_attention`.
    pub(super) location: String,
}
