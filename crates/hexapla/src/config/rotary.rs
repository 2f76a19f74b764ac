//! Rotary positions: by which angles queries and keys are turned.

use serde::{Deserialize, Serialize};

/// Angles that grow with the position (Su et al. 2021).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct RotaryConfig {
    /// Pair j is turned by `base^(−2j/width)` at each position.
    pub base: f64,
    /// Numbers of each head that are turned, the first ones: an even number.
    pub width: usize,
    /// What is done for texts that are longer than those of the training.
    pub scaling: RotaryScaling,
}

/// How the angles of a longer context are made from those of a shorter one.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RotaryScaling {
    /// Not at all.
    None,
    /// All are divided (Chen et al. 2023).
    Linear {
        /// By this.
        factor: f64,
    },
    /// Slow ones are divided, fast ones stay (Llama 3.1).
    Llama3 {
        /// By this.
        factor: f64,
        /// Angles that turn fewer times than this in a context are divided.
        low_freq_factor: f64,
        /// Those that turn more times than this stay.
        high_freq_factor: f64,
        /// Tokens of a context in training.
        original_max_position_embeddings: usize,
    },
    /// As Llama3, in between by a ramp over the pairs, and all products grow a little (Peng et al. 2023, "YaRN").
    Yarn {
        /// By this.
        factor: f64,
        /// Angles that turn more times than this in a context stay.
        beta_fast: f64,
        /// Those that turn fewer times are divided.
        beta_slow: f64,
        /// Queries and keys are multiplied by it.
        attention_factor: f64,
        /// Tokens of a context in training.
        original_max_position_embeddings: usize,
        /// Whether the ramp begins and ends at whole pairs.
        truncate: bool,
    },
}

impl RotaryConfig {
    /// The angle of each pair at position 1.
    pub fn frequencies(&self) -> Vec<f64> {
        let plain =
            (0..self.width / 2).map(|j| libm::pow(self.base, -2.0 * j as f64 / self.width as f64));
        let turns = |f: f64, context: usize| context as f64 * f / std::f64::consts::TAU;
        match self.scaling {
            RotaryScaling::None => plain.collect(),
            RotaryScaling::Linear { factor } => plain.map(|f| f / factor).collect(),
            RotaryScaling::Llama3 {
                factor,
                low_freq_factor,
                high_freq_factor,
                original_max_position_embeddings,
            } => plain
                .map(|f| {
                    let turns = turns(f, original_max_position_embeddings);
                    let kept = (turns - low_freq_factor) / (high_freq_factor - low_freq_factor);
                    mixed(f, factor, kept.clamp(0.0, 1.0))
                })
                .collect(),
            RotaryScaling::Yarn {
                factor,
                beta_fast,
                beta_slow,
                original_max_position_embeddings,
                truncate,
                ..
            } => {
                // The pair, as a real number, that turns so many times in a context.
                let pair = |turns: f64| {
                    let context = original_max_position_embeddings as f64;
                    let ratio = context / (turns * std::f64::consts::TAU);
                    self.width as f64 * libm::log(ratio) / (2.0 * libm::log(self.base))
                };
                let (first, last) = match truncate {
                    true => (libm::floor(pair(beta_fast)), libm::ceil(pair(beta_slow))),
                    false => (pair(beta_fast), pair(beta_slow)),
                };
                let (first, last) = (first.max(0.0), last.min(self.width as f64 - 1.0));
                let length = if first == last { 0.001 } else { last - first };
                plain
                    .enumerate()
                    .map(|(j, f)| {
                        let divided = ((j as f64 - first) / length).clamp(0.0, 1.0);
                        mixed(f, factor, 1.0 - divided)
                    })
                    .collect()
            }
        }
    }

    /// What sines and cosines are multiplied by.
    pub fn magnitude(&self) -> f64 {
        match self.scaling {
            RotaryScaling::Yarn {
                attention_factor, ..
            } => attention_factor,
            _ => 1.0,
        }
    }
}

/// Between a frequency, where `kept` is 1, and the same divided.
fn mixed(frequency: f64, factor: f64, kept: f64) -> f64 {
    frequency * kept + frequency / factor * (1.0 - kept)
}
