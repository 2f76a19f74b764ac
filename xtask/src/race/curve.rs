//! How the validation loss falls.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Result;
use crate::bench::peers::number;

/// The validations of a training, the first of them before any update.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Curve {
    pub(super) points: Vec<Point>,
}

/// A validation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Point {
    /// Updates before it.
    pub(super) update: f64,
    /// Seconds of these updates; validations and checkpoints do not count.
    pub(super) seconds: f64,
    /// Target tokens of these updates, end tokens included.
    pub(super) tokens: f64,
    /// −ln p for each target token of the validation pairs.
    pub(super) loss: f64,
}

impl Curve {
    /// From a loss before any update.
    pub(super) fn from(loss: f64) -> Self {
        let start = Point {
            loss,
            ..Point::default()
        };
        Curve {
            points: vec![start],
        }
    }

    /// Adds our validations and the end, as `hexapla-bench end` tells them.
    ///
    /// # Errors
    /// A number is missing.
    pub(super) fn with_ours(mut self, end: &Value) -> Result<Self> {
        for v in end["validations"].as_array().into_iter().flatten() {
            self.points.push(Point {
                update: number(v, "step")?,
                seconds: number(v, "seconds")?,
                tokens: number(v, "target_tokens")?,
                loss: number(v, "perplexity")?.ln(),
            });
        }
        let last = Point {
            update: number(end, "updates")?,
            seconds: number(end, "seconds")?,
            tokens: number(end, "tokens")?,
            loss: number(end, "loss")?,
        };
        if self.last().update < last.update {
            self.points.push(last);
        }
        Ok(self)
    }

    /// Adds a peer's validations, as its `race` answers.
    ///
    /// # Errors
    /// A number is missing.
    pub(super) fn with_peers(mut self, answer: &Value) -> Result<Self> {
        for v in answer["curve"].as_array().into_iter().flatten() {
            self.points.push(Point {
                update: number(v, "update")?,
                seconds: number(v, "seconds")?,
                tokens: number(v, "tokens")?,
                loss: number(v, "loss")?,
            });
        }
        Ok(self)
    }

    /// The end.
    pub(super) fn last(&self) -> Point {
        self.points.last().copied().unwrap_or_default()
    }

    /// Target tokens each second of updates.
    pub(super) fn rate(&self) -> f64 {
        self.last().tokens / self.last().seconds.max(f64::MIN_POSITIVE)
    }

    /// The loss where `of` (updates or a time) is `x`, on a straight line between the validations beside it; none behind
    /// the end.
    pub(super) fn loss_at(&self, of: fn(&Point) -> f64, x: f64) -> Option<f64> {
        self.points.array_windows().find_map(|[a, b]| {
            let (from, to) = (of(a), of(b));
            (from <= x && x <= to).then(|| between(x, (from, a.loss), (to, b.loss)))
        })
    }

    /// [`Curve::loss_at`] for a time, where a run that ended an update early or late counts with its end.
    pub(super) fn loss_near(&self, of: fn(&Point) -> f64, x: f64) -> Option<f64> {
        let last = self.last();
        let near = (of(&last) - x).abs() <= 0.01 * x;
        if near {
            Some(last.loss)
        } else {
            self.loss_at(of, x)
        }
    }

    /// Seconds after which the loss is first no more than `loss`; none if it stays above.
    pub(super) fn seconds_to(&self, loss: f64) -> Option<f64> {
        self.points.array_windows().find_map(|[a, b]| {
            let falls = a.loss > loss && b.loss <= loss;
            falls.then(|| between(loss, (a.loss, a.seconds), (b.loss, b.seconds)))
        })
    }

    /// For a plot: `of` and the loss of each validation but the first, beside which the others would look alike.
    pub(super) fn drawn(&self, of: fn(&Point) -> f64) -> Vec<(f64, f64)> {
        let learned = self.points.iter().skip(1);
        learned.map(|p| (of(p), p.loss)).collect()
    }
}

/// The value at `x` on the line through two points.
fn between(x: f64, (x0, y0): (f64, f64), (x1, y1): (f64, f64)) -> f64 {
    if x1 == x0 {
        return y1;
    }
    y0 + (x - x0) / (x1 - x0) * (y1 - y0)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use serde_json::json;

    /// Losses of validations 100 updates and `seconds` seconds apart.
    pub(in crate::race) fn curve(seconds: f64, losses: &[f64]) -> Curve {
        let point = |(i, loss): (usize, &f64)| Point {
            update: 100.0 * i as f64,
            seconds: seconds * i as f64,
            tokens: 4000.0 * i as f64,
            loss: *loss,
        };
        Curve {
            points: losses.iter().enumerate().map(point).collect(),
        }
    }

    #[test]
    fn between_validations_is_a_straight_line() {
        let curve = curve(50.0, &[9.0, 5.0, 3.0]);
        assert_eq!(curve.loss_at(|p| p.update, 50.0), Some(7.0));
        assert_eq!(curve.loss_at(|p| p.seconds, 75.0), Some(4.0));
        assert_eq!(curve.loss_at(|p| p.update, 0.0), Some(9.0));
        // A run ends with the first update behind the time, or with the validation at hand.
        assert_eq!(curve.loss_near(|p| p.seconds, 99.5), Some(3.0));
        assert_eq!(curve.loss_near(|p| p.seconds, 100.4), Some(3.0));
        assert_eq!(curve.loss_near(|p| p.seconds, 75.0), Some(4.0));
        assert_eq!(curve.loss_near(|p| p.seconds, 120.0), None);
        assert_eq!(curve.loss_at(|p| p.update, 201.0), None);
        assert_eq!(Curve::default().loss_at(|p| p.update, 5.0), None);
    }

    #[test]
    fn a_loss_is_reached_once() {
        let curve = curve(50.0, &[9.0, 5.0, 6.0, 3.0]);
        assert_eq!(curve.seconds_to(7.0), Some(25.0));
        assert_eq!(curve.seconds_to(5.0), Some(50.0));
        assert_eq!(curve.seconds_to(4.5), Some(125.0));
        assert_eq!(curve.seconds_to(2.0), None);
    }

    #[test]
    fn both_sides_curves_are_read() {
        let ours = json!({
            "validations": [{"step": 2, "seconds": 1.5, "target_tokens": 80, "perplexity": 1.0f64.exp(), "bleu": 3.0}],
            "updates": 3, "seconds": 2.0, "tokens": 120, "loss": 0.5,
        });
        let ours = Curve::from(9.0).with_ours(&ours).unwrap();
        let peers = json!({"curve": [
            {"update": 2, "seconds": 1.5, "tokens": 80, "loss": 1.0},
            {"update": 3, "seconds": 2.0, "tokens": 120, "loss": 0.5},
        ]});
        let peers = Curve::from(9.0).with_peers(&peers).unwrap();
        assert_eq!(ours, peers);
        assert_eq!(ours.points.len(), 3);
        assert_eq!(ours.rate(), 60.0);
        assert_eq!(ours.drawn(|p| p.update), [(2.0, 1.0), (3.0, 0.5)]);
    }

    #[test]
    fn an_end_that_was_validated_counts_once() {
        let end = json!({
            "validations": [{"step": 2, "seconds": 1.5, "target_tokens": 80, "perplexity": 2.0}],
            "updates": 2, "seconds": 1.5, "tokens": 80, "loss": 0.7,
        });
        let curve = Curve::from(9.0).with_ours(&end).unwrap();
        assert_eq!(curve.points.len(), 2);
        assert!(Curve::from(9.0).with_ours(&json!({})).is_err());
    }
}
