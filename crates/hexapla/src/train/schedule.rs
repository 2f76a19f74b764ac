//! The learning rate of each step.

use crate::config::{ScheduleKind, TrainingTable};

/// Learning rate of update `step` (from 1): linear warm-up to `learning_rate`, then as `schedule` says
/// (inverse square root: paper, equation 3).
pub fn learning_rate(t: &TrainingTable, step: u64) -> f32 {
    let (step, warmup) = (step as f64, (t.warmup_steps as f64).max(1.0));
    let peak = f64::from(t.learning_rate);
    let rate = if step < warmup {
        peak * step / warmup
    } else {
        match t.schedule {
            ScheduleKind::Constant => peak,
            ScheduleKind::InverseSqrt => peak * (warmup / step).sqrt(),
            ScheduleKind::Cosine => {
                let floor = f64::from(t.min_learning_rate);
                let done = (step - warmup) / (t.max_steps as f64 - warmup).max(1.0);
                floor
                    + 0.5 * (peak - floor) * (1.0 + libm::cos(std::f64::consts::PI * done.min(1.0)))
            }
        }
    };
    rate as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_rises_and_falls() {
        let mut t = TrainingTable {
            learning_rate: 0.01,
            warmup_steps: 100,
            max_steps: 1000,
            min_learning_rate: 0.001,
            ..TrainingTable::default()
        };
        assert!((learning_rate(&t, 50) - 0.005).abs() < 1e-7);
        assert_eq!(learning_rate(&t, 100), 0.01);
        assert!((learning_rate(&t, 400) - 0.005).abs() < 1e-7);
        t.schedule = ScheduleKind::Cosine;
        assert!((learning_rate(&t, 550) - 0.0055).abs() < 1e-6);
        assert!((learning_rate(&t, 1000) - 0.001).abs() < 1e-7);
        t.schedule = ScheduleKind::Constant;
        assert_eq!(learning_rate(&t, 999), 0.01);
        t.warmup_steps = 0;
        assert_eq!(learning_rate(&t, 1), 0.01);
    }
}
