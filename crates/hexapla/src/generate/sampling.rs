//! Drawing the next token by chance.

use hexapla_kernels::{Isa, exp_of};

use super::refuse::refuse;
use crate::error::Result;
use crate::random::SplitMix;

/// How to draw tokens. Applied in this order: temperature, `top_k`, `top_p`, `min_p`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// Logits are divided by this: below 1 the likely tokens become likelier.
    pub temperature: f32,
    /// Only this many most likely tokens are drawn from (more where the last of them ties); 0 is all.
    pub top_k: usize,
    /// Only the fewest most likely tokens whose probabilities reach this sum are drawn from; 1 is all.
    pub top_p: f32,
    /// Only tokens with this share of the likeliest one's probability are drawn; 0 is all.
    pub min_p: f32,
    /// Where chance starts. The draw for a token depends on this, on the sentence's `seed_index`, on which of its
    /// samples it belongs to and on its position, and on nothing else.
    pub seed: u64,
}

impl Default for Sampling {
    fn default() -> Self {
        Sampling {
            temperature: 1.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            seed: 1,
        }
    }
}

impl Sampling {
    pub(super) fn validate(&self) -> Result<()> {
        if !(self.temperature > 0.0 && self.temperature.is_finite()) {
            return Err(
                refuse("temperature", "a finite number above 0", self.temperature)
                    .hint("without sampling, the likeliest token is always taken"),
            );
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            return Err(refuse("top_p", "above 0 and at most 1", self.top_p));
        }
        if !(0.0..=1.0).contains(&self.min_p) {
            return Err(refuse("min_p", "0 to 1", self.min_p));
        }
        Ok(())
    }

    /// The random number in [0, 1) for one token.
    pub(super) fn uniform(&self, seed_index: u64, sample: usize, position: usize) -> f64 {
        // A counter-based generator: the key runs through SplitMix once for each coordinate.
        let key = [seed_index, sample as u64, position as u64]
            .iter()
            .fold(self.seed, |key, part| {
                SplitMix(key ^ part.wrapping_mul(0xD6E8_FEB8_6659_FD93)).next_u64()
            });
        (key >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// The tokens that one draw may take.
#[derive(Debug, Default)]
pub(super) struct Choices {
    /// Ids and unnormalised probabilities, in the order of the ids.
    tokens: Vec<(u32, f32)>,
    /// Sum of the unnormalised probabilities.
    mass: f64,
    scratch: Vec<f32>,
    ranked: Vec<(u32, f32)>,
}

impl Choices {
    /// Fills in the choices that `sampling` leaves of a row of logits; `greatest` is the row's maximum.
    pub(super) fn fill(&mut self, logits: &[f32], greatest: f32, sampling: &Sampling) {
        let least = self.kth_greatest(logits, sampling.top_k);
        self.scratch.resize(logits.len(), 0.0);
        exp_of(
            Isa::best(),
            &mut self.scratch,
            logits,
            greatest,
            sampling.temperature,
        );
        self.tokens.clear();
        let weighted = self.scratch.iter().zip(logits).zip(0..);
        let allowed = weighted.filter(|((weight, logit), _)| **weight > 0.0 && **logit >= least);
        self.tokens
            .extend(allowed.map(|((weight, _), token)| (token, *weight)));
        self.mass = mass(&self.tokens);
        if sampling.top_p < 1.0 {
            self.keep_nucleus(f64::from(sampling.top_p));
        }
        if sampling.min_p > 0.0 {
            // The greatest weight is 1.
            self.tokens.retain(|(_, weight)| *weight >= sampling.min_p);
            self.mass = mass(&self.tokens);
        }
    }

    /// The `k`-th greatest logit; −∞ where there are no more than `k` or `k` is 0.
    fn kth_greatest(&mut self, logits: &[f32], k: usize) -> f32 {
        if k == 0 || k >= logits.len() {
            return f32::NEG_INFINITY;
        }
        self.scratch.clear();
        self.scratch.extend_from_slice(logits);
        *self
            .scratch
            .select_nth_unstable_by(k - 1, |a, b| b.total_cmp(a))
            .1
    }

    /// Keeps the likeliest tokens, each of which has less than `top_p` of the mass before it.
    ///
    /// Finds the last of them by halving the part where it must lie: linear in the vocabulary, without a sort.
    fn keep_nucleus(&mut self, top_p: f64) {
        let wanted = top_p * self.mass;
        let likelier = |a: &(u32, f32), b: &(u32, f32)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
        self.ranked.clone_from(&self.tokens);
        let (mut part, mut before) = (&mut self.ranked[..], 0.0);
        while part.len() > 1 {
            let middle = part.len() / 2;
            part.select_nth_unstable_by(middle, likelier);
            let (upper, lower) = part.split_at_mut(middle);
            let with_upper = before + mass(upper);
            if with_upper >= wanted {
                part = upper;
            } else {
                (part, before) = (lower, with_upper);
            }
        }
        if let [last] = part {
            self.tokens.retain(|token| likelier(token, last).is_le());
            self.mass = mass(&self.tokens);
        }
    }

    /// The token at `uniform` (in [0, 1)) of the mass. `None` where there is no choice.
    pub(super) fn draw(&self, uniform: f64) -> Option<u32> {
        let target = uniform * self.mass;
        let mut reached = 0.0;
        let passes = |(_, weight): &&(u32, f32)| {
            reached += f64::from(*weight);
            reached > target
        };
        let found = self.tokens.iter().find(passes).or(self.tokens.last());
        found.map(|(token, _)| *token)
    }

    /// Probability of every token of a vocabulary of this size.
    #[cfg(test)]
    fn probabilities(&self, vocab_size: usize) -> Vec<f64> {
        let mut all = vec![0.0; vocab_size];
        for &(token, weight) in &self.tokens {
            all[token as usize] = f64::from(weight) / self.mass;
        }
        all
    }
}

fn mass(tokens: &[(u32, f32)]) -> f64 {
    tokens.iter().map(|(_, weight)| f64::from(*weight)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choices(logits: &[f32], sampling: &Sampling) -> Choices {
        let mut choices = Choices::default();
        let greatest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        choices.fill(logits, greatest, sampling);
        choices
    }

    #[test]
    fn choices_equal_the_reference() {
        let golden: serde_json::Value =
            serde_json::from_str(include_str!("../../tests/golden/search.json")).unwrap();
        let vocab = golden["vocab"].as_u64().unwrap() as usize;
        let scale = golden["scale"].as_f64().unwrap();
        let table: Vec<f32> = golden["table"]
            .as_array()
            .unwrap()
            .iter()
            .map(|x| (x.as_f64().unwrap() / scale) as f32)
            .collect();
        let cases = golden["sampling"].as_array().unwrap();
        assert!(cases.len() >= 50);
        for case in cases {
            let start = [0, 1].iter().fold(0, |at, i| {
                at * vocab + case["row"][i].as_u64().unwrap() as usize
            }) * vocab;
            let sampling = Sampling {
                temperature: case["temperature"].as_f64().unwrap() as f32,
                top_k: case["top_k"].as_u64().unwrap() as usize,
                top_p: case["top_p"].as_f64().unwrap() as f32,
                seed: 0,
                ..Sampling::default()
            };
            let ours = choices(&table[start..start + vocab], &sampling).probabilities(vocab);
            for (ours, theirs) in ours.iter().zip(case["probabilities"].as_array().unwrap()) {
                let theirs = theirs.as_f64().unwrap();
                assert!(
                    (ours - theirs).abs() < 2e-6 && (*ours == 0.0) == (theirs == 0.0),
                    "{case}: {ours} {theirs}"
                );
            }
        }
    }

    #[test]
    fn draws_follow_the_probabilities() {
        let logits = [0.0, 1.0, f32::NEG_INFINITY, 2.0];
        let sampling = Sampling {
            seed: 5,
            ..Sampling::default()
        };
        let choices = choices(&logits, &sampling);
        let expected = choices.probabilities(4);
        let mut counts = [0_usize; 4];
        let draws = 100_000;
        for sentence in 0..draws {
            counts[choices.draw(sampling.uniform(sentence, 0, 3)).unwrap() as usize] += 1;
        }
        assert_eq!(counts[2], 0);
        for (count, p) in counts.iter().zip(expected) {
            // Five standard deviations of a binomial count.
            let deviation = (draws as f64 * p * (1.0 - p)).sqrt();
            assert!(
                (*count as f64 - draws as f64 * p).abs() <= 5.0 * deviation,
                "{counts:?}"
            );
        }
    }

    #[test]
    fn random_numbers_differ_in_every_coordinate() {
        let sampling = Sampling::default();
        let other = Sampling {
            seed: 2,
            ..sampling
        };
        let mut all: Vec<u64> = Vec::new();
        for i in 0..8 {
            for j in 0..8 {
                for k in 0..8 {
                    all.push(sampling.uniform(i, j, k).to_bits());
                    all.push(other.uniform(i, j, k).to_bits());
                }
            }
        }
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count);
        assert!(
            all.iter()
                .all(|bits| (0.0..1.0).contains(&f64::from_bits(*bits)))
        );
    }

    #[test]
    fn a_large_flat_nucleus_is_right() {
        let mut random = SplitMix(8);
        let logits: Vec<f32> = (0..5000).map(|_| random.normal() * 0.1).collect();
        let kept = choices(
            &logits,
            &Sampling {
                top_p: 0.5,
                ..Sampling::default()
            },
        );
        let mut sorted = logits.clone();
        sorted.sort_by(|a, b| b.total_cmp(a));
        let total: f64 = sorted.iter().map(|x| f64::from(*x).exp()).sum();
        let mut mass = 0.0;
        let wanted = sorted.iter().take_while(|x| {
            let before = mass;
            mass += f64::from(**x).exp() / total;
            before < 0.5
        });
        assert!(kept.tokens.len().abs_diff(wanted.count()) <= 1);
        let least = kept
            .tokens
            .iter()
            .map(|t| logits[t.0 as usize])
            .fold(f32::INFINITY, f32::min);
        let greatest_cut = (0..5000)
            .filter(|i| !kept.tokens.iter().any(|t| t.0 == *i))
            .map(|i| logits[i as usize]);
        assert!(greatest_cut.fold(f32::NEG_INFINITY, f32::max) <= least);
    }

    #[test]
    fn extremes_of_chance_and_temperature_stay_within_the_choices() {
        let logits = [3.0, 1.0, f32::NEG_INFINITY];
        let hot = choices(&logits, &Sampling::default());
        assert_eq!(hot.draw(0.0), Some(0));
        assert_eq!(hot.draw(1.0), Some(1));
        let cold = choices(
            &logits,
            &Sampling {
                temperature: f32::MIN_POSITIVE,
                ..Sampling::default()
            },
        );
        assert_eq!(cold.draw(0.999_999), Some(0));
        assert_eq!(
            choices(&[f32::NEG_INFINITY; 3], &Sampling::default()).draw(0.5),
            None
        );
    }
}
