//! Embeddings with their positions, residual connections, and dropout of what is there.

use crate::dropout::Dropout;
use crate::isa::multiversion;

multiversion! {
    /// `x = x · dropout`, indices counted from `first`.
    pub fn dropout_in_place(x: &mut [f32], dropout: Dropout, first: u32) -> () {
        if dropout.is_none() {
            return;
        }
        for (i, v) in x.iter_mut().enumerate() {
            *v *= dropout.factor(first.wrapping_add(i as u32));
        }
    }
}

multiversion! {
    /// `out = x + dropout(y)`.
    pub fn residual(out: &mut [f32], x: &[f32], y: &[f32], dropout: Dropout) -> () {
        let y = &y[..out.len()];
        let x = &x[..out.len()];
        if dropout.is_none() {
            for i in 0..out.len() {
                out[i] = x[i] + y[i];
            }
        } else {
            for i in 0..out.len() {
                out[i] = x[i] + y[i] * dropout.factor(i as u32);
            }
        }
    }
}

multiversion! {
    /// `out = dropout(embedding · scale + position)`, indices counted from `first` (paper, sections 3.4 and 3.5).
    pub fn embed_row(out: &mut [f32], embedding: &[f32], position: &[f32], scale: f32, dropout: Dropout, first: u32) -> () {
        let embedding = &embedding[..out.len()];
        let position = &position[..out.len()];
        for i in 0..out.len() {
            out[i] = embedding[i].mul_add(scale, position[i]);
        }
        if !dropout.is_none() {
            for (i, v) in out.iter_mut().enumerate() {
                *v *= dropout.factor(first.wrapping_add(i as u32));
            }
        }
    }
}
