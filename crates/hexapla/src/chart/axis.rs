//! A direction of a chart: a range that ends at round numbers, and its labels.

/// Beyond this a number is taken for a failure, not for a value: it would flatten everything else.
pub(super) const LARGEST: f64 = 1e30;

/// One direction of a chart: its range ends at ticks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Axis {
    low: f64,
    high: f64,
    step: f64,
}

impl Axis {
    /// Holds all values, in about five steps (at most ten) of 1, 2 or 5 times a power of ten. None without values.
    pub(super) fn around(values: impl Iterator<Item = f64>) -> Option<Self> {
        let (mut low, mut high) = values
            .map(|v| (v, v))
            .reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))?;
        let largest = low.abs().max(high.abs());
        // A range too narrow for f64 to divide is drawn as one value.
        if high - low <= 1e-9 * largest || largest < 1.0 / LARGEST {
            let margin = if largest < 1.0 / LARGEST {
                1.0
            } else {
                0.1 * largest
            };
            (low, high) = (low - margin, high + margin);
        }
        let rough = (high - low) / 5.0;
        let power = 10f64.powf(rough.log10().floor());
        let step = match rough / power {
            r if r < 1.5 => power,
            r if r < 3.5 => 2.0 * power,
            r if r < 7.5 => 5.0 * power,
            _ => 10.0 * power,
        };
        Some(Axis {
            low: (low / step + 1e-6).floor() * step,
            high: (high / step - 1e-6).ceil() * step,
            step,
        })
    }

    pub(super) fn position(&self, value: f64, start: f64, end: f64) -> f64 {
        start + (value - self.low) / (self.high - self.low) * (end - start)
    }

    pub(super) fn ticks(&self) -> impl Iterator<Item = f64> {
        let steps = ((self.high - self.low) / self.step).round() as u32;
        let axis = *self;
        (0..=steps.min(12)).map(move |i| axis.low + f64::from(i) * axis.step)
    }

    /// A tick's label with as many digits as the step needs.
    pub(super) fn label(&self, tick: f64) -> String {
        let largest = self.low.abs().max(self.high.abs());
        if tick.abs() < self.step / 2.0 {
            return "0".to_owned();
        }
        for (size, unit) in [(1e9, "G"), (1e6, "M"), (1e3, "k")] {
            if (10.0 * size..1e12).contains(&largest) {
                return format!("{:.*}{unit}", decimals(self.step / size), tick / size);
            }
        }
        if largest >= 1e12 || self.step < 1e-4 {
            let digits = (tick.abs().log10().floor() - self.step.log10().floor()).clamp(0.0, 9.0);
            let text = format!("{tick:.*e}", digits as usize);
            let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
            return format!("{}e{exponent}", trim_zeros(mantissa));
        }
        format!("{tick:.*}", decimals(self.step))
    }
}

/// Digits after the point that a multiple of `step` needs.
fn decimals(step: f64) -> usize {
    (-(step * 1.000_001).log10().floor()).clamp(0.0, 9.0) as usize
}

/// Without zeros at the end of its fraction.
pub(super) fn trim_zeros(decimal: &str) -> &str {
    if decimal.contains('.') {
        decimal.trim_end_matches('0').trim_end_matches('.')
    } else {
        decimal
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(low: f64, high: f64) -> Vec<String> {
        let axis = Axis::around([low, high].into_iter()).unwrap();
        assert!(axis.low <= low + 1e-5 * axis.step && axis.high >= high - 1e-5 * axis.step);
        axis.ticks().map(|tick| axis.label(tick)).collect()
    }

    #[test]
    fn ticks_are_round_and_labels_short() {
        assert_eq!(labels(0.0, 10.0), ["0", "2", "4", "6", "8", "10"]);
        assert_eq!(labels(1.37, 6.9), ["1", "2", "3", "4", "5", "6", "7"]);
        assert_eq!(
            labels(0.0, 0.0007),
            [
                "0", "0.0001", "0.0002", "0.0003", "0.0004", "0.0005", "0.0006", "0.0007"
            ]
        );
        assert_eq!(
            labels(0.0, 1e-5),
            ["0", "2e-6", "4e-6", "6e-6", "8e-6", "1e-5"].map(|t| t.to_owned())
        );
        assert_eq!(labels(0.0, 20_000.0), ["0", "5k", "10k", "15k", "20k"]);
        assert_eq!(labels(-1.0, 1.0), ["-1.0", "-0.5", "0", "0.5", "1.0"]);
    }

    #[test]
    fn any_range_gives_a_few_finite_ticks() {
        let values = [
            0.0,
            1.0,
            -1.0,
            1e-300,
            5e-324,
            1e30,
            -1e30,
            1.0 + f64::EPSILON,
            123_456_789.0,
            1e-9,
        ];
        for low in values {
            for high in values {
                let (low, high) = (f64::min(low, high), f64::max(low, high));
                let axis = Axis::around([low, high].into_iter()).unwrap();
                let ticks: Vec<f64> = axis.ticks().collect();
                assert!(
                    (2..=12).contains(&ticks.len()),
                    "{low} to {high}: {ticks:?}"
                );
                assert!(
                    ticks.iter().all(|t| t.is_finite()) && axis.position(low, 0.0, 1.0).is_finite()
                );
            }
        }
        assert_eq!(Axis::around(std::iter::empty()), None);
    }
}
