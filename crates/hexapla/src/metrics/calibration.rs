//! Whether a model's confidence can be believed.

/// Confidences in bins of equal width, each with how right those were (a reliability diagram).
#[derive(Debug, Clone, PartialEq)]
pub struct Calibration {
    /// From 0 to 1, of equal width.
    pub bins: Vec<Bin>,
}

/// Predictions of like confidence.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Bin {
    /// How many there are.
    pub count: u64,
    /// Their mean confidence, 0 to 1.
    pub confidence: f64,
    /// How right they are in the mean, 0 to 1.
    pub correct: f64,
}

impl Calibration {
    /// Sorts predictions (confidence, and how right it was, both from 0 to 1) into `bins` bins, at least one. A confidence
    /// that is no number counts as 0.
    pub fn new(predictions: impl IntoIterator<Item = (f64, f64)>, bins: usize) -> Self {
        let mut sums = vec![Bin::default(); bins.max(1)];
        let last = sums.len() - 1;
        for (confidence, correct) in predictions {
            let confidence = if confidence.is_nan() {
                0.0
            } else {
                confidence.clamp(0.0, 1.0)
            };
            let bin = &mut sums[((confidence * bins as f64) as usize).min(last)];
            bin.count += 1;
            bin.confidence += confidence;
            bin.correct += correct;
        }
        for bin in &mut sums {
            let count = bin.count.max(1) as f64;
            bin.confidence /= count;
            bin.correct /= count;
        }
        Calibration { bins: sums }
    }

    /// Number of predictions.
    pub fn count(&self) -> u64 {
        self.bins.iter().map(|b| b.count).sum()
    }

    /// Expected calibration error (Naeini et al. 2015; Guo et al. 2017, equation 3): the mean distance between confidence
    /// and correctness of a bin, each weighted by its count; 0 to 1.
    pub fn expected_error(&self) -> f64 {
        let distance = |b: &Bin| b.count as f64 * (b.confidence - b.correct).abs();
        self.bins.iter().map(distance).sum::<f64>() / self.count().max(1) as f64
    }

    /// Mean confidence, and how right all are in the mean.
    pub fn means(&self) -> (f64, f64) {
        let mean = |of: fn(&Bin) -> f64| {
            let sum: f64 = self.bins.iter().map(|b| b.count as f64 * of(b)).sum();
            sum / self.count().max(1) as f64
        };
        (mean(|b| b.confidence), mean(|b| b.correct))
    }
}

/// Spearman's rank correlation of two lists of one length, −1 to 1: the correlation of ranks, equal values sharing their mean
/// rank. `None` for fewer than two values, for values that are no numbers, or where one list has but one value.
pub fn spearman(a: &[f64], b: &[f64]) -> Option<f64> {
    if a.len() != b.len() || a.len() < 2 || a.iter().chain(b).any(|v| v.is_nan()) {
        return None;
    }
    let (a, b) = (ranks(a), ranks(b));
    let mean = (a.len() + 1) as f64 / 2.0;
    let product = |a: &[f64], b: &[f64]| -> f64 {
        a.iter().zip(b).map(|(a, b)| (a - mean) * (b - mean)).sum()
    };
    let spread = (product(&a, &a) * product(&b, &b)).sqrt();
    (spread > 0.0).then(|| product(&a, &b) / spread)
}

/// How surely values tell two groups apart: the probability that one of `low` is below one of `high`, equal values counting
/// half (the area under the ROC curve); 0.5 is chance. `None` where a group is empty or has a value that is no number.
pub fn separation(low: &[f64], high: &[f64]) -> Option<f64> {
    if low.is_empty() || high.is_empty() || low.iter().chain(high).any(|v| v.is_nan()) {
        return None;
    }
    let ranks = ranks(&[high, low].concat());
    let sum: f64 = ranks[..high.len()].iter().sum();
    let (low, high) = (low.len() as f64, high.len() as f64);
    Some((sum - high * (high + 1.0) / 2.0) / (low * high))
}

/// Each value's rank from 1; equal values have the mean of theirs.
fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| values[*a].total_cmp(&values[*b]));
    let mut ranks = vec![0.0; values.len()];
    let mut first = 0;
    for equal in order.chunk_by(|a, b| values[*a] == values[*b]) {
        let rank = first as f64 + (equal.len() + 1) as f64 / 2.0;
        for i in equal {
            ranks[*i] = rank;
        }
        first += equal.len();
    }
    ranks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bins_hold_means_and_the_error_weighs_them() {
        let c = Calibration::new(
            [
                (0.1, 0.0),
                (0.1, 1.0),
                (0.9, 1.0),
                (1.0, 1.0),
                (f64::NAN, 0.0),
            ],
            2,
        );
        assert_eq!((c.count(), c.bins[0].count), (5, 3));
        assert!((c.bins[0].confidence - 0.2 / 3.0).abs() < 1e-12);
        assert!((c.bins[1].confidence - 0.95).abs() < 1e-12);
        // (3 · |0.0667 − 0.3333| + 2 · |0.95 − 1|) / 5
        assert!((c.expected_error() - 0.18).abs() < 1e-12);
        let (confidence, correct) = c.means();
        assert!((confidence - 0.42).abs() < 1e-12 && (correct - 0.6).abs() < 1e-12);
        let none = Calibration::new([], 0);
        assert_eq!((none.bins.len(), none.expected_error()), (1, 0.0));
    }

    #[test]
    fn a_calibrated_forecaster_has_no_error() {
        let half = (0..1000).map(|i| (0.5, f64::from(i % 2)));
        assert!(Calibration::new(half, 10).expected_error() < 1e-12);
    }

    #[test]
    fn rank_correlation_has_its_known_values() {
        assert_eq!(spearman(&[1.0, 2.0, 3.0], &[10.0, 20.0, 90.0]), Some(1.0));
        let r = spearman(&[1.0, 2.0, 3.0, 4.0], &[4.0, 3.0, 2.0, 1.0]).unwrap();
        assert!((r + 1.0).abs() < 1e-12);
        // Ranks 1, 2.5, 2.5, 4 and 1, 3, 2, 4: 4.5 / √(4.5 · 5).
        let r = spearman(&[1.0, 2.0, 2.0, 4.0], &[1.0, 3.0, 2.0, 4.0]).unwrap();
        assert!((r - 0.948_683_298_050_513_9).abs() < 1e-12, "{r}");
        assert_eq!(spearman(&[1.0, 1.0], &[1.0, 2.0]), None);
        assert_eq!(spearman(&[1.0], &[1.0]), None);
        assert_eq!(spearman(&[f64::NAN, 1.0], &[1.0, 2.0]), None);
    }

    #[test]
    fn separation_counts_the_pairs_in_order() {
        assert_eq!(separation(&[1.0, 2.0], &[3.0, 4.0]), Some(1.0));
        assert_eq!(separation(&[3.0, 4.0], &[1.0, 2.0]), Some(0.0));
        // Of four pairs two are in order and one is equal.
        assert_eq!(separation(&[1.0, 3.0], &[2.0, 1.0]), Some(0.375));
        assert_eq!(separation(&[], &[1.0]), None);
        assert_eq!(separation(&[f64::NAN], &[1.0]), None);
    }
}
