//! Dropout from a counter: which numbers are dropped is a function of a key and of their indices, so that the backward
//! pass can make the same choice again without storing it, and any order of work gives the same choice.

/// One use of dropout: a probability and a key.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dropout {
    key: (u32, u32),
    threshold: u32,
    scale: f32,
}

impl Dropout {
    /// Drops with probability `p` (0 ≤ p < 1) and divides what is kept by 1 − p.
    ///
    /// # Panics
    /// `p` is out of range.
    pub fn new(p: f32, key: u64) -> Self {
        assert!((0.0..1.0).contains(&p), "dropout needs 0 ≤ p < 1");
        // Neighbouring keys are set far apart (the finalizer of SplitMix64).
        let mut key = key.wrapping_add(0x9E37_79B9_7F4A_7C15);
        key = (key ^ (key >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        key = (key ^ (key >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        key ^= key >> 31;
        Dropout {
            key: (key as u32, (key >> 32) as u32),
            threshold: (f64::from(p) * 4_294_967_296.0) as u32,
            scale: 1.0 / (1.0 - p),
        }
    }

    /// Nothing is dropped.
    pub const NONE: Dropout = Dropout {
        key: (0, 0),
        threshold: 0,
        scale: 1.0,
    };

    /// Whether nothing is dropped.
    pub fn is_none(&self) -> bool {
        self.threshold == 0
    }

    /// What the number at `index` is multiplied by: 0 or 1/(1 − p).
    #[inline(always)]
    pub(crate) fn factor(&self, index: u32) -> f32 {
        // Two rounds of multiply and xor-shift over the index, with half of the key before each.
        let mut h = index.wrapping_mul(0x9E37_79B1) ^ self.key.0;
        h = (h ^ (h >> 16)).wrapping_mul(0x7FEB_352D);
        h = (h ^ (h >> 15))
            .wrapping_add(self.key.1)
            .wrapping_mul(0x846C_A68B);
        h ^= h >> 16;
        if h >= self.threshold { self.scale } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_and_the_mean_are_right_and_places_are_independent() {
        for p in [0.1, 0.3, 0.5] {
            for key in [0, 1, 0xDEAD_BEEF_0BAD_CAFE] {
                let d = Dropout::new(p, key);
                let n = 200_000;
                let kept: Vec<bool> = (0..n).map(|i| d.factor(i) != 0.0).collect();
                let share = kept.iter().filter(|k| **k).count() as f32 / n as f32;
                assert!((share - (1.0 - p)).abs() < 0.005, "{p} {key}: {share}");
                for lag in [1, 2, 16, 128, 512] {
                    let both = kept
                        .iter()
                        .zip(&kept[lag..])
                        .filter(|(a, b)| **a && **b)
                        .count();
                    let share = both as f32 / (n as usize - lag) as f32;
                    assert!(
                        (share - (1.0 - p) * (1.0 - p)).abs() < 0.006,
                        "{p} {key} lag {lag}: {share}"
                    );
                }
            }
        }
    }

    #[test]
    fn another_key_makes_another_choice() {
        let choice = |key| {
            (0..1000)
                .map(|i| Dropout::new(0.5, key).factor(i) > 0.0)
                .collect::<Vec<_>>()
        };
        for a in 0..20 {
            for b in [a + 1, a + 2, a | 1 << 32, !a] {
                let differing = choice(a)
                    .iter()
                    .zip(choice(b))
                    .filter(|(x, y)| **x != *y)
                    .count();
                assert!(
                    a == b || (420..580).contains(&differing),
                    "{a} {b}: {differing}"
                );
            }
        }
    }
}
