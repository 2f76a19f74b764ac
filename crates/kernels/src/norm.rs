//! Layer norm and RMS norm of rows, and their gradients.

use crate::isa::multiversion;
use crate::sums::lane_sum;

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

multiversion! {
    /// RMS norm of each row (Zhang and Sennrich 2019, equation 4): `out = x / √(mean(x²) + eps) · scale`. Rows are as wide as
    /// `scale`. `inverse` receives 1/√(mean(x²) + eps) of each row.
    pub fn rms_norm(out: &mut [f32], inverse: &mut [f32], x: &[f32], scale: &[f32], eps: f32) -> () {
        let width = scale.len();
        assert!(out.len() == x.len() && inverse.len() == x.len() / width, "a number a row");
        let rows = out.chunks_exact_mut(width).zip(x.chunks_exact(width)).zip(inverse);
        for ((out, x), inverse) in rows {
            *inverse = 1.0 / (lane_sum(x, |_, v| v * v) / width as f32 + eps).sqrt();
            let scale = &scale[..x.len()];
            for i in 0..out.len() {
                out[i] = x[i] * *inverse * scale[i];
            }
        }
    }
}

/// What the backward pass of RMS norm reads and writes.
pub struct RmsNormBackward<'a> {
    /// Gradient of the input, `[rows, width]`; written or added to.
    pub dx: &'a mut [f32],
    /// Added to `dx` instead of replacing it.
    pub accumulate: bool,
    /// Gradient of the scale, `[width]`; added to.
    pub dscale: &'a mut [f32],
    /// Gradient of the output, `[rows, width]`.
    pub dy: &'a [f32],
    /// The input, `[rows, width]`.
    pub x: &'a [f32],
    /// 1/√(mean(x²) + eps) of each row.
    pub inverse: &'a [f32],
    /// The scale, `[width]`.
    pub scale: &'a [f32],
}

multiversion! {
    /// With x̂ = x · inverse and g = dy · scale: `dx = inverse · (g − x̂ · mean(g · x̂))`, `dscale += Σ dy · x̂`.
    pub fn rms_norm_backward(b: RmsNormBackward) -> () {
        let width = b.scale.len();
        assert!(b.dx.len() == b.dy.len() && b.x.len() == b.dy.len(), "rows");
        assert_eq!(b.inverse.len(), b.x.len() / width, "a number a row");
        let rows = b.dx.chunks_exact_mut(width).zip(b.dy.chunks_exact(width));
        let saved = b.x.chunks_exact(width).zip(b.inverse);
        let (scale, dscale) = (&b.scale[..width], &mut b.dscale[..width]);
        for ((dx, dy), (x, inverse)) in rows.zip(saved) {
            let (x, dy, dx) = (&x[..width], &dy[..width], &mut dx[..width]);
            let gx_mean = lane_sum(dy, |i, d| d * scale[i] * (x[i] * inverse)) / width as f32;
            for i in 0..width {
                let normal = x[i] * inverse;
                dscale[i] += dy[i] * normal;
                let d = inverse * (dy[i] * scale[i] - normal * gx_mean);
                dx[i] = if b.accumulate { dx[i] + d } else { d };
            }
        }
    }
}
