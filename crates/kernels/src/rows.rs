//! Operations on rows of numbers: sums, softmax, layer norm, activations, the loss of one row.

use crate::dropout::Dropout;
use crate::isa::multiversion;
use crate::math::{erf, exp, exp_small, sigmoid};

/// Lanes of every sum. Adding in 16 lanes and then in a fixed tree gives one result on every instruction set.
pub(crate) const LANES: usize = 16;

/// Sum of `f(place, number)` in the fixed order.
#[inline(always)]
fn lane_sum(x: &[f32], f: impl Fn(usize, f32) -> f32) -> f32 {
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
fn lane_sum_of(x: &mut [f32], f: impl Fn(f32) -> f32) -> f32 {
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
fn lane_max(x: &[f32]) -> f32 {
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
fn lane_dot(x: &[f32], y: &[f32]) -> f32 {
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

#[inline(always)]
fn softmax_row(x: &mut [f32], scale: f32) {
    let max = lane_max(x);
    for v in x.iter_mut() {
        // The difference first, which is 0 for the largest: in one rounding with the product it would not be.
        *v = exp_small((*v - max) * scale);
    }
    let inverse = 1.0 / lane_sum(x, |_, v| v);
    for v in x.iter_mut() {
        *v *= inverse;
    }
}

multiversion! {
    /// `x = softmax(scale · x)` over each row's first `limit(row)` numbers, 0 behind them (paper, equation 1).
    ///
    /// `x` is `[rows, columns]`; row r sees `columns` numbers, or with `causal` the first `r + 1`.
    pub fn softmax_in_place(x: &mut [f32], columns: usize, scale: f32, causal: bool) -> () {
        for (r, row) in x.chunks_exact_mut(columns.max(1)).enumerate() {
            let seen = if causal { (r + 1).min(columns) } else { columns };
            let (seen, unseen) = row.split_at_mut(seen);
            softmax_row(seen, scale);
            unseen.fill(0.0);
        }
    }
}

multiversion! {
    /// From probabilities `p` and their gradient `d` to the gradient of the scores, in `d`:
    /// `scale · p · (d − Σ p·d)`, row by row of `[rows, columns]`.
    pub fn softmax_backward_in_place(d: &mut [f32], p: &[f32], columns: usize, scale: f32) -> () {
        assert_eq!(d.len(), p.len(), "gradients and probabilities");
        for (d, p) in d.chunks_exact_mut(columns.max(1)).zip(p.chunks_exact(columns.max(1))) {
            let sum = lane_dot(p, d);
            for (d, p) in d.iter_mut().zip(p) {
                *d = scale * p * (*d - sum);
            }
        }
    }
}

multiversion! {
    /// `x = x · dropout`, places counted from `first`.
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
    /// `out = dropout(embedding · scale + position)`, places counted from `first` (paper, sections 3.4 and 3.5).
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

/// The non-linearities of the feed-forward block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// max(0, x).
    Relu,
    /// x·Φ(x).
    Gelu,
    /// x·sigmoid(x).
    Swish,
}

#[inline(always)]
pub(crate) fn value(activation: Activation, x: f32) -> f32 {
    match activation {
        // Unlike `f32::max`, which passes NaN over.
        Activation::Relu => {
            if x < 0.0 {
                0.0
            } else {
                x
            }
        }
        Activation::Gelu => 0.5 * x * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2)),
        Activation::Swish => x * sigmoid(x),
    }
}

#[inline(always)]
fn slope(activation: Activation, x: f32) -> f32 {
    match activation {
        Activation::Relu => {
            if x > 0.0 {
                1.0
            } else {
                0.0
            }
        }
        Activation::Gelu => {
            let phi = 0.5 * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2));
            // The normal density at x: 1/√(2π) · e^(−x²/2).
            phi + x * 0.398_942_3 * exp(-0.5 * x * x)
        }
        Activation::Swish => {
            let s = sigmoid(x);
            s * (1.0 + x * (1.0 - s))
        }
    }
}

multiversion! {
    /// `out = dropout(activation(x))`.
    pub fn activate(out: &mut [f32], x: &[f32], activation: Activation, dropout: Dropout) -> () {
        let x = &x[..out.len()];
        macro_rules! run {
            ($kind:expr) => {
                for i in 0..out.len() {
                    out[i] = value($kind, x[i]);
                }
            };
        }
        match activation {
            Activation::Relu => run!(Activation::Relu),
            Activation::Gelu => run!(Activation::Gelu),
            Activation::Swish => run!(Activation::Swish),
        }
        if !dropout.is_none() {
            for (i, v) in out.iter_mut().enumerate() {
                *v *= dropout.factor(i as u32);
            }
        }
    }
}

multiversion! {
    /// `d = d · dropout · activation'(x)`, in place. For a ReLU `x` may be its result, dropped out or not.
    pub fn activate_backward(d: &mut [f32], x: &[f32], activation: Activation, dropout: Dropout) -> () {
        let x = &x[..d.len()];
        if !dropout.is_none() {
            for (i, v) in d.iter_mut().enumerate() {
                *v *= dropout.factor(i as u32);
            }
        }
        macro_rules! run {
            ($kind:expr) => {
                for i in 0..d.len() {
                    d[i] *= slope($kind, x[i]);
                }
            };
        }
        match activation {
            Activation::Relu => run!(Activation::Relu),
            Activation::Gelu => run!(Activation::Gelu),
            Activation::Swish => run!(Activation::Swish),
        }
    }
}

multiversion! {
    /// Layer norm of each row: `out = (x − mean) / √(variance + eps) · scale + shift`.
    /// `statistics` receives mean and 1/√(variance + eps) of each row.
    pub fn layer_norm(out: &mut [f32], statistics: &mut [f32], x: &[f32], scale: &[f32], shift: &[f32], eps: f32) -> () {
        let width = scale.len();
        assert!(out.len() == x.len() && statistics.len() == 2 * (x.len() / width), "two statistics a row");
        let rows = out.chunks_exact_mut(width).zip(x.chunks_exact(width)).zip(statistics.chunks_exact_mut(2));
        for ((out, x), statistics) in rows {
            let mean = lane_sum(x, |_, v| v) / width as f32;
            let variance = lane_sum(x, |_, v| (v - mean) * (v - mean)) / width as f32;
            let inverse = 1.0 / (variance + eps).sqrt();
            let (scale, shift) = (&scale[..x.len()], &shift[..x.len()]);
            for i in 0..out.len() {
                out[i] = ((x[i] - mean) * inverse).mul_add(scale[i], shift[i]);
            }
            statistics[0] = mean;
            statistics[1] = inverse;
        }
    }
}

/// What the backward pass of layer norm reads and writes.
pub struct LayerNormBackward<'a> {
    /// Gradient of the input, `[rows, width]`; written or added to.
    pub dx: &'a mut [f32],
    /// Added to `dx` instead of replacing it.
    pub accumulate: bool,
    /// Gradient of the scale, `[width]`; added to.
    pub dscale: &'a mut [f32],
    /// Gradient of the shift, `[width]`; added to.
    pub dshift: &'a mut [f32],
    /// Gradient of the output, `[rows, width]`.
    pub dy: &'a [f32],
    /// The input, `[rows, width]`.
    pub x: &'a [f32],
    /// Mean and inverse deviation of each row.
    pub statistics: &'a [f32],
    /// The scale, `[width]`.
    pub scale: &'a [f32],
}

multiversion! {
    /// With x̂ = (x − mean) · inverse and g = dy · scale: `dx = inverse · (g − mean(g) − x̂ · mean(g · x̂))`,
    /// `dscale += Σ dy · x̂`, `dshift += Σ dy`.
    pub fn layer_norm_backward(b: LayerNormBackward) -> () {
        let width = b.scale.len();
        let n = width as f32;
        assert!(b.dx.len() == b.dy.len() && b.x.len() == b.dy.len(), "rows");
        assert_eq!(b.statistics.len(), 2 * (b.x.len() / width), "two statistics a row");
        let rows = b.dx.chunks_exact_mut(width).zip(b.dy.chunks_exact(width));
        let saved = b.x.chunks_exact(width).zip(b.statistics.chunks_exact(2));
        let (scale, dscale, dshift) = (&b.scale[..width], &mut b.dscale[..width], &mut b.dshift[..width]);
        for ((dx, dy), (x, statistics)) in rows.zip(saved) {
            let (mean, inverse) = (statistics[0], statistics[1]);
            let (x, dy, dx) = (&x[..width], &dy[..width], &mut dx[..width]);
            let g_mean = lane_sum(dy, |i, d| d * scale[i]) / n;
            let gx_mean = lane_sum(dy, |i, d| d * scale[i] * ((x[i] - mean) * inverse)) / n;
            for i in 0..width {
                let normal = (x[i] - mean) * inverse;
                dscale[i] += dy[i] * normal;
                dshift[i] += dy[i];
                let d = inverse * (dy[i] * scale[i] - g_mean - normal * gx_mean);
                dx[i] = if b.accumulate { dx[i] + d } else { d };
            }
        }
    }
}

/// One row of logits and what to do with it.
#[derive(Debug, Clone, Copy)]
pub struct CrossEntropy {
    /// The right id.
    pub label: usize,
    /// ε: the label gets 1 − ε, and ε is spread evenly over the whole vocabulary (paper, section 5.4).
    pub label_smoothing: f32,
    /// What the gradient is multiplied by (1 / tokens of the step).
    pub scale: f32,
}

/// The loss of one row.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct RowLoss {
    /// Label-smoothed cross-entropy.
    pub smoothed: f32,
    /// −ln p(label).
    pub negative_log_likelihood: f32,
}

/// A row of logits made into e^(logit − max), and what its loss is made of.
struct Exponentials {
    /// Σ e^(logit − max).
    sum: f32,
    /// ln Σ e^logit.
    log_sum: f32,
    loss: RowLoss,
}

#[inline(always)]
fn exponentials(logits: &mut [f32], options: CrossEntropy) -> Exponentials {
    let max = lane_max(logits);
    let at_label = logits[options.label];
    let sum_of_logits = lane_sum(logits, |_, v| v);
    let sum = lane_sum_of(logits, |v| exp_small(v - max));
    // By way of f64, in whose last bits the systems' libraries may differ.
    let log_sum = max + f64::from(sum).ln() as f32;
    let negative_log_likelihood = log_sum - at_label;
    let mean = log_sum - sum_of_logits / logits.len() as f32;
    Exponentials {
        sum,
        log_sum,
        loss: RowLoss {
            smoothed: (1.0 - options.label_smoothing) * negative_log_likelihood
                + options.label_smoothing * mean,
            negative_log_likelihood,
        },
    }
}

multiversion! {
    /// Loss of one row of logits, and its gradient in place of the logits: `scale · (softmax − target distribution)`.
    pub fn cross_entropy_row(logits: &mut [f32], options: CrossEntropy) -> RowLoss {
        let row = exponentials(logits, options);
        let even = options.label_smoothing / logits.len() as f32;
        let factor = options.scale / row.sum;
        let offset = -options.scale * even;
        for v in logits.iter_mut() {
            *v = v.mul_add(factor, offset);
        }
        logits[options.label] -= options.scale * (1.0 - options.label_smoothing);
        row.loss
    }
}

multiversion! {
    /// Losses of two rows of logits, p and q, for one label, with R-Drop's term between them, `alpha / 2 · (KL(p‖q) +
    /// KL(q‖p))` (Liang et al. 2021, equations 2 to 4), which is shared between the two. The gradients take the logits'
    /// place. `difference` has room for one row.
    pub fn cross_entropy_pair(
        first: &mut [f32],
        second: &mut [f32],
        difference: &mut [f32],
        options: CrossEntropy,
        alpha: f32,
    ) -> [RowLoss; 2] {
        let second = &mut second[..first.len()];
        let difference = &mut difference[..first.len()];
        for ((d, a), b) in difference.iter_mut().zip(first.iter()).zip(second.iter()) {
            *d = a - b;
        }
        let (p, q) = (exponentials(first, options), exponentials(second, options));
        // ln p − ln q is the difference less this.
        let shift = p.log_sum - q.log_sum;
        let p_to_q = lane_dot(first, difference) / p.sum - shift;
        let q_to_p = shift - lane_dot(second, difference) / q.sum;
        let even = options.label_smoothing / first.len() as f32;
        let weight = options.scale * alpha / 2.0;
        let (p_factor, q_factor) = (1.0 / p.sum, 1.0 / q.sum);
        for ((a, b), d) in first.iter_mut().zip(second.iter_mut()).zip(difference.iter()) {
            let (p, q, log_ratio) = (*a * p_factor, *b * q_factor, d - shift);
            *a = options.scale * (p - even) + weight * (p * (log_ratio - p_to_q) + p - q);
            *b = options.scale * (q - even) + weight * (q * (-log_ratio - q_to_p) + q - p);
        }
        let at_label = options.scale * (1.0 - options.label_smoothing);
        first[options.label] -= at_label;
        second[options.label] -= at_label;
        let share = alpha / 4.0 * (p_to_q + q_to_p);
        [p.loss, q.loss].map(|loss| RowLoss {
            smoothed: loss.smoothed + share,
            ..loss
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Isa;
    use crate::testing::numbers;

    /// Runs `f` on every instruction set and checks that all give the scalar set's numbers, bit for bit.
    fn same_everywhere(f: impl Fn(Isa) -> Vec<f32>) -> Vec<f32> {
        let expected = f(Isa::SCALAR);
        for isa in Isa::available() {
            let found = f(isa);
            assert!(
                expected
                    .iter()
                    .zip(&found)
                    .all(|(a, b)| a.to_bits() == b.to_bits()),
                "{} differs from scalar",
                isa.name()
            );
        }
        expected
    }

    #[test]
    fn every_row_operation_is_the_same_on_every_instruction_set() {
        for n in [1, 7, 16, 33, 128, 200] {
            let (x, y, s) = (numbers(3 * n, 1), numbers(3 * n, 2), numbers(n, 3));
            let drop = Dropout::new(0.3, 99);
            same_everywhere(|isa| vec![max(isa, &x)]);
            let e = same_everywhere(|isa| {
                let (mut blocks, mut powers, mut rest) = (Vec::new(), vec![0.0; 3 * n], x.clone());
                block_max(isa, &mut blocks, &x, 20);
                exp_of(isa, &mut powers, &x, 1.5, 0.7);
                subtract_both(isa, &mut rest, 0.3, -2.0);
                blocks.push(exp_sum(isa, &x, 1.5));
                [powers, rest, blocks].concat()
            });
            for (i, x) in x.iter().enumerate() {
                assert!((e[i] - ((x - 1.5) / 0.7).exp()).abs() < 1e-6 * e[i].max(1.0));
                assert!((e[3 * n + i] - (x + 1.7)).abs() < 1e-6);
            }
            for (block, found) in x.chunks(20).zip(&e[6 * n..]) {
                assert_eq!(block.iter().copied().fold(f32::MIN, f32::max), *found);
            }
            let sum: f32 = x.iter().map(|x| (x - 1.5).exp()).sum();
            assert!((e[e.len() - 1] / sum - 1.0).abs() < 1e-5);
            for causal in [false, true] {
                let p = same_everywhere(|isa| {
                    let mut p = x.clone();
                    softmax_in_place(isa, &mut p, n, 0.5, causal);
                    p
                });
                for row in p.chunks(n) {
                    assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-5);
                }
                same_everywhere(|isa| {
                    let mut d = y.clone();
                    softmax_backward_in_place(isa, &mut d, &p, n, 0.5);
                    d
                });
            }
            for kind in [Activation::Relu, Activation::Gelu, Activation::Swish] {
                same_everywhere(|isa| {
                    let mut out = vec![0.0; 3 * n];
                    activate(isa, &mut out, &x, kind, drop);
                    activate_backward(isa, &mut out, &y, kind, drop);
                    out
                });
            }
            same_everywhere(|isa| {
                let mut out = vec![0.0; 3 * n];
                residual(isa, &mut out, &x, &y, drop);
                embed_row(isa, &mut out[..n], &x, &y, 3.0, drop, 7);
                dropout_in_place(isa, &mut out, drop, 5);
                out
            });
            same_everywhere(|isa| {
                let mut logits = x.clone();
                let options = CrossEntropy {
                    label: n / 2,
                    label_smoothing: 0.1,
                    scale: 0.25,
                };
                let loss = cross_entropy_row(isa, &mut logits, options);
                logits.extend([loss.smoothed, loss.negative_log_likelihood]);
                logits
            });
            same_everywhere(|isa| {
                let (mut a, mut b, mut room) = (x.clone(), y.clone(), vec![0.0; 3 * n]);
                let options = CrossEntropy {
                    label: n / 2,
                    label_smoothing: 0.1,
                    scale: 0.25,
                };
                let losses = cross_entropy_pair(isa, &mut a, &mut b, &mut room, options, 5.0);
                a.extend(b);
                a.extend(losses.map(|l| l.smoothed));
                a
            });
            same_everywhere(|isa| {
                let (mut out, mut statistics) = (vec![0.0; 3 * n], vec![0.0; 6]);
                layer_norm(isa, &mut out, &mut statistics, &x, &s, &s, 1e-5);
                let (mut dx, mut dscale, mut dshift) =
                    (vec![1.0; 3 * n], vec![0.0; n], vec![0.0; n]);
                let b = LayerNormBackward {
                    dx: &mut dx,
                    accumulate: true,
                    dscale: &mut dscale,
                    dshift: &mut dshift,
                    dy: &y,
                    x: &x,
                    statistics: &statistics,
                    scale: &s,
                };
                layer_norm_backward(isa, b);
                [out, statistics, dx, dscale, dshift].concat()
            });
        }
    }

    /// Softmax, and the mean of −ln p by the smoothed target, in f64.
    fn softmax_and_loss(logits: &[f32], options: CrossEntropy) -> (Vec<f64>, f64) {
        let max = logits.iter().copied().fold(f32::MIN, f32::max);
        let e: Vec<f64> = logits.iter().map(|v| f64::from(v - max).exp()).collect();
        let p: Vec<f64> = e.iter().map(|v| v / e.iter().sum::<f64>()).collect();
        let even = f64::from(options.label_smoothing) / p.len() as f64;
        let mut loss: f64 = p.iter().map(|p| -even * p.ln()).sum();
        loss -= (1.0 - f64::from(options.label_smoothing)) * p[options.label].ln();
        (p, loss)
    }

    #[test]
    fn a_pair_of_rows_has_the_loss_of_its_definition() {
        let (x, y) = (numbers(50, 3), numbers(50, 4));
        let options = CrossEntropy {
            label: 7,
            label_smoothing: 0.1,
            scale: 1.0,
        };
        let ((p, first), (q, second)) =
            (softmax_and_loss(&x, options), softmax_and_loss(&y, options));
        let to =
            |p: &[f64], q: &[f64]| -> f64 { p.iter().zip(q).map(|(p, q)| p * (p / q).ln()).sum() };
        let divergence = to(&p, &q) + to(&q, &p);
        for alpha in [0.0f32, 5.0] {
            let (mut a, mut b, mut room) = (x.clone(), y.clone(), vec![0.0; 50]);
            let losses = cross_entropy_pair(Isa::best(), &mut a, &mut b, &mut room, options, alpha);
            let share = f64::from(alpha) / 4.0 * divergence;
            for (found, expected) in losses.iter().zip([first, second]) {
                assert!((f64::from(found.smoothed) - expected - share).abs() < 1e-5);
            }
            // Without the term it is the loss of two single rows, and so are the gradients.
            if alpha == 0.0 {
                let (mut single, mut other) = (x.clone(), y.clone());
                let rows = [&mut single, &mut other]
                    .map(|row| cross_entropy_row(Isa::best(), row, options));
                assert_eq!(rows, losses);
                let pairs = single.iter().chain(&other).zip(a.iter().chain(&b));
                assert!(pairs.into_iter().all(|(a, b)| (a - b).abs() < 1e-6));
            }
        }
    }

    #[test]
    fn layer_norm_has_mean_zero_and_variance_one() {
        let x = numbers(64, 5);
        let (mut out, mut statistics) = (vec![0.0; 64], vec![0.0; 2]);
        layer_norm(
            Isa::best(),
            &mut out,
            &mut statistics,
            &x,
            &[1.0; 64],
            &[0.0; 64],
            1e-5,
        );
        let mean = out.iter().sum::<f32>() / 64.0;
        let variance = out.iter().map(|v| v * v).sum::<f32>() / 64.0;
        assert!(
            mean.abs() < 1e-6 && (variance - 1.0).abs() < 1e-4,
            "{mean} {variance}"
        );
    }

    #[test]
    fn the_gradient_of_the_loss_is_its_slope() {
        let x = numbers(40, 6);
        let options = CrossEntropy {
            label: 3,
            label_smoothing: 0.1,
            scale: 1.0,
        };
        let loss = |x: &[f32]| cross_entropy_row(Isa::SCALAR, &mut x.to_vec(), options).smoothed;
        let mut gradient = x.clone();
        cross_entropy_row(Isa::SCALAR, &mut gradient, options);
        for i in 0..x.len() {
            let (mut up, mut down) = (x.clone(), x.clone());
            up[i] += 1e-2;
            down[i] -= 1e-2;
            let slope = (loss(&up) - loss(&down)) / 2e-2;
            assert!(
                (slope - gradient[i]).abs() < 2e-4,
                "{i}: {slope} {}",
                gradient[i]
            );
        }
    }
}
