//! Sums of numbers in one fixed order, and what is made of whole rows by them.

use crate::isa::multiversion;
use crate::math::{exp, exp_small};

/// Lanes of every sum. Adding in 16 lanes and then in a fixed tree gives one result on every instruction set.
pub(crate) const LANES: usize = 16;

/// Sum of `f(index, number)` in the fixed order.
#[inline(always)]
pub(crate) fn lane_sum(x: &[f32], f: impl Fn(usize, f32) -> f32) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let chunks = x.chunks_exact(LANES);
    let tail = chunks.remainder();
    let whole = x.len() - tail.len();
    for (c, chunk) in chunks.enumerate() {
        for l in 0..LANES {
            lanes[l] += f(c * LANES + l, chunk[l]);
        }
    }
    // Lanes are named by constants only, or they would live in memory.
    if !tail.is_empty() {
        for (l, lane) in lanes.iter_mut().enumerate() {
            if let Some(v) = tail.get(l) {
                *lane += f(whole + l, *v);
            }
        }
    }
    tree(lanes, |a, b| a + b)
}

/// Up to 16 numbers, filled up.
#[inline(always)]
fn filled(x: &[f32], with: f32) -> [f32; LANES] {
    let mut filled = [with; LANES];
    filled[..x.len()].copy_from_slice(x);
    filled
}

/// Makes each number `f` of itself, and sums them in the fixed order.
#[inline(always)]
pub(crate) fn lane_sum_of(x: &mut [f32], f: impl Fn(f32) -> f32) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let mut chunks = x.chunks_exact_mut(LANES);
    for chunk in &mut chunks {
        for l in 0..LANES {
            chunk[l] = f(chunk[l]);
            lanes[l] += chunk[l];
        }
    }
    let tail = chunks.into_remainder();
    for v in tail.iter_mut() {
        *v = f(*v);
    }
    for (lane, v) in lanes.iter_mut().zip(filled(tail, 0.0)) {
        *lane += v;
    }
    tree(lanes, |a, b| a + b)
}

/// Combines 16 lanes in a fixed tree.
#[inline(always)]
fn tree(mut lanes: [f32; LANES], f: impl Fn(f32, f32) -> f32) -> f32 {
    for width in [8, 4, 2, 1] {
        for l in 0..width {
            lanes[l] = f(lanes[l], lanes[l + width]);
        }
    }
    lanes[0]
}

/// Largest number; −∞ of nothing. NaN is passed over.
#[inline(always)]
pub(crate) fn lane_max(x: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let chunks = x.chunks_exact(LANES);
    let tail = chunks.remainder();
    for chunk in chunks {
        for l in 0..LANES {
            lanes[l] = if chunk[l] > lanes[l] {
                chunk[l]
            } else {
                lanes[l]
            };
        }
    }
    if !tail.is_empty() {
        for (lane, v) in lanes.iter_mut().zip(filled(tail, f32::NEG_INFINITY)) {
            *lane = if v > *lane { v } else { *lane };
        }
    }
    tree(lanes, |a, b| if b > a { b } else { a })
}

#[inline(always)]
pub(crate) fn lane_dot(x: &[f32], y: &[f32]) -> f32 {
    let y = &y[..x.len()];
    let mut lanes = [0.0f32; LANES];
    let (cx, cy) = (x.chunks_exact(LANES), y.chunks_exact(LANES));
    let (tx, ty) = (cx.remainder(), cy.remainder());
    for (a, b) in cx.zip(cy) {
        for l in 0..LANES {
            lanes[l] = a[l].mul_add(b[l], lanes[l]);
        }
    }
    if !tx.is_empty() {
        let (a, b) = (filled(tx, 0.0), filled(ty, 0.0));
        for l in 0..LANES {
            lanes[l] = a[l].mul_add(b[l], lanes[l]);
        }
    }
    tree(lanes, |a, b| a + b)
}

multiversion! {
    /// Largest number of `x`; −∞ of nothing.
    pub fn max(x: &[f32]) -> f32 {
        lane_max(x)
    }
}

multiversion! {
    /// The largest number of each `block` numbers of `x` (the last block may be shorter), in `out`.
    pub fn block_max(out: &mut Vec<f32>, x: &[f32], block: usize) -> () {
        let blocks = x.chunks(block.max(1));
        out.resize(blocks.len(), 0.0);
        for (out, block) in out.iter_mut().zip(blocks) {
            *out = lane_max(block);
        }
    }
}

multiversion! {
    /// Σ e^(x − max), where no x is above `max`.
    pub fn exp_sum(x: &[f32], max: f32) -> f32 {
        lane_sum(x, |_, v| exp_small(v - max))
    }
}

multiversion! {
    /// `out = e^((x − max) / divisor)`.
    pub fn exp_of(out: &mut [f32], x: &[f32], max: f32, divisor: f32) -> () {
        let x = &x[..out.len()];
        for (out, x) in out.iter_mut().zip(x) {
            *out = exp((x - max) / divisor);
        }
    }
}

multiversion! {
    /// `x = (x − first) − second`.
    pub fn subtract_both(x: &mut [f32], first: f32, second: f32) -> () {
        for x in x.iter_mut() {
            *x = (*x - first) - second;
        }
    }
}

multiversion! {
    /// `x += y`.
    pub fn add_assign(x: &mut [f32], y: &[f32]) -> () {
        let y = &y[..x.len()];
        for (x, y) in x.iter_mut().zip(y) {
            *x += y;
        }
    }
}

multiversion! {
    /// Adds each row of `d` to `bias_gradient`, in order.
    pub fn bias_gradient(bias_gradient: &mut [f32], d: &[f32]) -> () {
        let width = bias_gradient.len().max(1);
        assert!(d.len().is_multiple_of(width), "whole rows");
        // Four rows for each time that a sum is loaded and stored.
        let fours = d.chunks_exact(4 * width);
        let rest = fours.remainder();
        for four in fours {
            let ((a, b), (c, d)) = {
                let (first, second) = four.split_at(2 * width);
                (first.split_at(width), second.split_at(width))
            };
            let sums = bias_gradient.iter_mut().zip(a.iter().zip(b)).zip(c.iter().zip(d));
            for ((g, (a, b)), (c, d)) in sums {
                *g = *g + a + b + c + d;
            }
        }
        for row in rest.chunks_exact(width) {
            for (g, d) in bias_gradient.iter_mut().zip(row) {
                *g += d;
            }
        }
    }
}
