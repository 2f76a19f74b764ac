//! Where a training run stands: everything besides the numbers that its checkpoint holds.

use serde::{Deserialize, Serialize};

use crate::config::{Metric, TrainingTable};
use crate::random::mix;

/// A point of the training curve: means since the point before.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Update.
    pub step: u64,
    /// Label-smoothed cross-entropy for each target token.
    pub loss: f64,
    /// −ln p for each target token.
    pub negative_log_likelihood: f64,
    /// Learning rate.
    pub learning_rate: f64,
    /// Norm of the gradient before clipping.
    pub gradient_norm: f64,
    /// Target tokens a second.
    pub tokens_per_second: f64,
}

/// One validation.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Validation {
    /// Update.
    pub step: u64,
    /// Label-smoothed cross-entropy for each target token.
    pub loss: f64,
    /// e^(−ln p for each target token).
    pub perplexity: f64,
    /// BLEU of real decoding.
    pub bleu: f64,
    /// chrF of real decoding.
    pub chrf: f64,
    /// Per cent of real decoding's lines that are the reference exactly.
    pub exact_match: f64,
    /// Seconds of the steps before it, without validations.
    #[serde(default)]
    pub seconds: f64,
    /// Target tokens of the steps before it.
    #[serde(default)]
    pub target_tokens: u64,
}

impl Validation {
    /// Of sums over so many target tokens: label-smoothed cross-entropy and −ln p. Nothing was decoded.
    pub(super) fn of_sums(smoothed: f64, negative_log_likelihood: f64, tokens: usize) -> Self {
        // A checkpoint holds no infinity, and NaN is the worst of all.
        let finite = |x: f64| match x.is_nan() {
            true => f64::MAX,
            false => x.min(f64::MAX),
        };
        let n = tokens.max(1) as f64;
        Validation {
            step: 0,
            loss: finite(smoothed / n),
            perplexity: finite((negative_log_likelihood / n).exp()),
            bleu: 0.0,
            chrf: 0.0,
            exact_match: 0.0,
            seconds: 0.0,
            target_tokens: 0,
        }
    }

    /// How good this is by `metric`: more is better.
    pub fn rank(&self, metric: Metric) -> f64 {
        match metric {
            Metric::Loss => -self.loss,
            Metric::Bleu => self.bleu,
            Metric::Chrf => self.chrf,
            Metric::ExactMatch => self.exact_match,
        }
    }

    /// Whether this is better than `other` by `metric`, or as good and has the lower loss: a metric that does not move (a BLEU
    /// of 0, exact matches of 100 %) decides nothing.
    pub fn is_better(&self, other: &Validation, metric: Metric) -> bool {
        let by_metric = self.rank(metric).total_cmp(&other.rank(metric));
        by_metric.then(other.loss.total_cmp(&self.loss)).is_gt()
    }

    /// What to tell where the loss is above ln(`vocab_size`), that of guessing among all tokens alike.
    pub fn worse_than_guessing(&self, vocab_size: usize) -> Option<String> {
        let guessing = (vocab_size.max(1) as f64).ln();
        (self.loss > guessing).then(|| {
            format!(
                "note: the validation loss, {}, is above that of guessing, {guessing:.2}: the training has hardly begun, or went astray (then lower `learning_rate` or lengthen `warmup_steps`)",
                short(self.loss, 4)
            )
        })
    }
}

/// What the model makes of one input.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sample {
    /// What was translated, or gone on with.
    pub source: String,
    /// A person's translation; how the text itself goes on.
    pub reference: String,
    /// The model's.
    pub hypothesis: String,
}

/// A number for a person: with so many decimals, or, where it is too long for that, as 1.23e45.
pub fn short(x: f64, decimals: usize) -> String {
    match x.abs() < 1e6 {
        true => format!("{x:.decimals$}"),
        false => format!("{x:.2e}"),
    }
}

/// How far the run is, and its history.
///
/// A field that is added here has a default: checkpoints of earlier versions lack it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Progress {
    /// Steps taken, skipped ones included.
    pub step: u64,
    /// Passes over the data begun before this one.
    pub epoch: u64,
    /// Batches of this epoch that were used.
    pub batch: usize,
    /// Updates made by the optimizer.
    pub updates: u64,
    /// Steps without an update because the gradient was not finite.
    pub skipped: u64,
    /// Those in a row just now.
    pub skipped_in_a_row: usize,
    /// Grows with every batch: equal exactly if the same pairs came in the same order.
    pub order_hash: u64,
    /// Seconds spent in steps and validations.
    pub seconds: f64,
    /// Those of validations.
    pub validation_seconds: f64,
    /// Target tokens seen.
    pub target_tokens: u64,
    /// Source tokens seen.
    pub source_tokens: u64,
    /// The curve.
    pub points: Vec<Point>,
    /// Sums since the last point.
    pub since: Sums,
    /// Validations so far.
    pub validations: Vec<Validation>,
    /// Validations since the last progress.
    pub without_progress: usize,
    /// Updates whose weights are kept in files of their own, oldest first.
    pub kept: Vec<u64>,
    /// The update of the best validation, whose weights are in a file of their own.
    pub best: Option<u64>,
    /// Whether training came to its end.
    pub finished: bool,
    /// Of the passes begun before this one, those that another began before their end.
    pub epochs_cut_short: u64,
    /// Updates that were made when the optimizer's moments began at zero.
    pub restarted: u64,
}

/// Sums over steps.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Sums {
    /// Losses times target tokens.
    pub loss: f64,
    /// −ln p.
    pub negative_log_likelihood: f64,
    /// Gradient norms.
    pub gradient_norm: f64,
    /// Target tokens.
    pub target_tokens: u64,
    /// Steps.
    pub steps: u64,
    /// Seconds.
    pub seconds: f64,
}

impl Default for Progress {
    fn default() -> Self {
        Progress {
            step: 0,
            epoch: 0,
            batch: 0,
            updates: 0,
            skipped: 0,
            skipped_in_a_row: 0,
            order_hash: mix(0),
            seconds: 0.0,
            validation_seconds: 0.0,
            target_tokens: 0,
            source_tokens: 0,
            points: Vec::new(),
            since: Sums::default(),
            validations: Vec::new(),
            without_progress: 0,
            kept: Vec::new(),
            best: None,
            finished: false,
            epochs_cut_short: 0,
            restarted: 0,
        }
    }
}

impl Progress {
    /// Where a run stands that goes back to the weights of the validation after `step`: at the beginning of an epoch.
    pub fn back_to(self, step: u64) -> Self {
        let keep = |points: Vec<Point>| points.into_iter().filter(|p| p.step <= step).collect();
        let validations = self.validations.into_iter().filter(|v| v.step <= step);
        let updates = self.updates.min(step);
        Progress {
            step,
            updates,
            restarted: updates,
            epochs_cut_short: self.epochs_cut_short + 1,
            epoch: self.epoch + 1,
            batch: 0,
            skipped_in_a_row: 0,
            since: Sums::default(),
            points: keep(self.points),
            validations: validations.collect(),
            without_progress: 0,
            kept: Vec::new(),
            best: Some(step),
            ..self
        }
    }

    /// Seconds spent in steps alone.
    pub fn step_seconds(&self) -> f64 {
        self.seconds - self.validation_seconds
    }

    /// The seconds that `max_minutes` counts.
    pub fn counted_seconds(&self, t: &TrainingTable) -> f64 {
        if t.count_validations {
            self.seconds
        } else {
            self.step_seconds()
        }
    }

    /// Takes a batch into the hash of the order.
    pub fn add_batch(&mut self, batch: &[usize]) {
        for i in batch {
            self.order_hash = mix(self.order_hash ^ *i as u64);
        }
    }

    /// Ends a point of the curve.
    pub fn end_point(&mut self, learning_rate: f32) -> Option<Point> {
        let sums = std::mem::take(&mut self.since);
        if sums.steps == 0 {
            return None;
        }
        let tokens = sums.target_tokens.max(1) as f64;
        let point = Point {
            step: self.step,
            loss: sums.loss / tokens,
            negative_log_likelihood: sums.negative_log_likelihood / tokens,
            learning_rate: f64::from(learning_rate),
            gradient_norm: sums.gradient_norm / sums.steps as f64,
            tokens_per_second: sums.target_tokens as f64 / sums.seconds.max(1e-9),
        };
        self.points.push(point);
        Some(point)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn validation(loss: f64, bleu: f64) -> Validation {
        Validation {
            step: 1,
            loss,
            perplexity: loss.exp(),
            bleu,
            chrf: 0.0,
            exact_match: 0.0,
            seconds: 0.0,
            target_tokens: 0,
        }
    }

    #[test]
    fn a_metric_that_does_not_move_leaves_it_to_the_loss() {
        let better = |a: (f64, f64), b: (f64, f64)| {
            validation(a.0, a.1).is_better(&validation(b.0, b.1), Metric::Bleu)
        };
        assert!(better((2.0, 0.0), (3.0, 0.0)) && !better((3.0, 0.0), (2.0, 0.0)));
        assert!(better((3.0, 1.0), (2.0, 0.0)) && !better((2.0, 0.0), (2.0, 0.0)));
    }

    #[test]
    fn a_training_that_went_astray_is_told_in_short_numbers() {
        assert_eq!(validation(2.0, 0.0).worse_than_guessing(400), None);
        let told = validation(7e8, 0.0).worse_than_guessing(400).unwrap();
        assert!(told.contains("7.00e8") && told.contains("5.99"), "{told}");
        assert_eq!(short(f64::MAX, 4), "1.80e308");
        assert_eq!(short(3.25, 2), "3.25");
    }

    #[test]
    fn minutes_count_validations_where_they_are_to() {
        let progress = Progress {
            seconds: 60.0,
            validation_seconds: 15.0,
            ..Progress::default()
        };
        let mut t = TrainingTable::default();
        assert_eq!(progress.counted_seconds(&t), 60.0);
        t.count_validations = false;
        assert_eq!(progress.counted_seconds(&t), 45.0);
    }

    #[test]
    fn a_point_is_a_mean_of_target_tokens() {
        let mut progress = Progress {
            step: 7,
            since: Sums {
                loss: 300.0,
                negative_log_likelihood: 200.0,
                gradient_norm: 3.0,
                target_tokens: 100,
                steps: 2,
                seconds: 4.0,
            },
            ..Progress::default()
        };
        let point = progress.end_point(0.5).unwrap();
        assert_eq!(
            point,
            Point {
                step: 7,
                loss: 3.0,
                negative_log_likelihood: 2.0,
                learning_rate: 0.5,
                gradient_norm: 1.5,
                tokens_per_second: 25.0,
            }
        );
        assert_eq!(progress.points, [point]);
        assert_eq!(progress.end_point(0.5), None, "the sums begin again");
    }
}
