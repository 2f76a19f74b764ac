//! The optimizer's pass over all parameters.

use crate::isa::multiversion;

/// One step of Adam or AdamW (paper, section 5.3; weight decay apart from the gradient).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamSettings {
    /// Learning rate of this step.
    pub learning_rate: f32,
    /// Decay of the first moment.
    pub beta1: f32,
    /// Decay of the second moment.
    pub beta2: f32,
    /// Added to the root of the second moment.
    pub eps: f32,
    /// Share of a weight taken away at each step, times the learning rate.
    pub weight_decay: f32,
    /// Number of this step, from 1.
    pub step: u64,
    /// What the gradient is multiplied by first (clipping).
    pub gradient_scale: f32,
}

multiversion! {
    /// Updates `weights` and the two moments in one pass, all of one length.
    pub fn adam(weights: &mut [f32], first: &mut [f32], second: &mut [f32], gradient: &[f32], s: AdamSettings) -> () {
        let correction1 = 1.0 - f64::from(s.beta1).powi(s.step.min(1 << 24) as i32);
        let correction2 = 1.0 - f64::from(s.beta2).powi(s.step.min(1 << 24) as i32);
        let rate = (f64::from(s.learning_rate) / correction1) as f32;
        let inverse_root = (1.0 / correction2.sqrt()) as f32;
        let keep = 1.0 - s.learning_rate * s.weight_decay;
        let n = weights.len();
        let (first, second, gradient) = (&mut first[..n], &mut second[..n], &gradient[..n]);
        for i in 0..n {
            let g = gradient[i] * s.gradient_scale;
            let m = first[i].mul_add(s.beta1, (1.0 - s.beta1) * g);
            let v = second[i].mul_add(s.beta2, (1.0 - s.beta2) * (g * g));
            first[i] = m;
            second[i] = v;
            let denominator = v.sqrt().mul_add(inverse_root, s.eps);
            weights[i] = weights[i] * keep - rate * m / denominator;
        }
    }
}

multiversion! {
    /// `x = decay · x + (1 − decay) · y`: a moving average.
    pub fn blend(x: &mut [f32], y: &[f32], decay: f32) -> () {
        let y = &y[..x.len()];
        for (x, y) in x.iter_mut().zip(y) {
            *x = x.mul_add(decay, (1.0 - decay) * y);
        }
    }
}

multiversion! {
    /// Sum of squares in f64; infinite or NaN exactly if a number is.
    pub fn squared_norm(x: &[f32]) -> f64 {
        let mut lanes = [0.0f64; 16];
        let chunks = x.chunks_exact(16);
        let tail = chunks.remainder();
        for chunk in chunks {
            for l in 0..16 {
                let v = f64::from(chunk[l]);
                lanes[l] += v * v;
            }
        }
        for (l, v) in tail.iter().enumerate() {
            lanes[l] += f64::from(*v) * f64::from(*v);
        }
        for width in [8, 4, 2, 1] {
            for l in 0..width {
                lanes[l] += lanes[l + width];
            }
        }
        lanes[0]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Isa;

    #[test]
    fn adam_follows_its_definition_on_every_instruction_set() {
        let g = [0.5f32, -1.0, 0.0, 3.0, 0.1];
        for isa in Isa::available() {
            let (mut w, mut m, mut v) = (vec![1.0f32; 5], vec![0.0f32; 5], vec![0.0f32; 5]);
            let (mut w64, mut m64, mut v64) = ([1.0f64; 5], [0.0f64; 5], [0.0f64; 5]);
            for step in 1..=20u64 {
                let s = AdamSettings {
                    learning_rate: 0.01,
                    beta1: 0.9,
                    beta2: 0.98,
                    eps: 1e-9,
                    weight_decay: 0.1,
                    step,
                    gradient_scale: 0.5,
                };
                adam(isa, &mut w, &mut m, &mut v, &g, s);
                for i in 0..5 {
                    let g = f64::from(g[i]) * 0.5;
                    m64[i] = 0.9 * m64[i] + 0.1 * g;
                    v64[i] = 0.98 * v64[i] + 0.02 * g * g;
                    let (mh, vh) = (
                        m64[i] / (1.0 - 0.9f64.powi(step as i32)),
                        v64[i] / (1.0 - 0.98f64.powi(step as i32)),
                    );
                    w64[i] = w64[i] * (1.0 - 0.01 * 0.1) - 0.01 * mh / (vh.sqrt() + 1e-9);
                }
            }
            for i in 0..5 {
                assert!(
                    (f64::from(w[i]) - w64[i]).abs() < 1e-5,
                    "{} {i}",
                    isa.name()
                );
            }
        }
    }

    #[test]
    fn a_number_that_is_not_finite_shows_in_the_norm() {
        for isa in Isa::available() {
            assert_eq!(squared_norm(isa, &[3.0, 4.0]), 25.0);
            assert!(!squared_norm(isa, &[3.0, f32::NAN]).is_finite());
            assert!(!squared_norm(isa, &[f32::INFINITY; 20]).is_finite());
            assert!(squared_norm(isa, &[3e38; 20]).is_finite());
        }
    }
}
