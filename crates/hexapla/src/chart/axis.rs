//! A direction of a chart: a range that ends at round numbers, and its labels.

/// Beyond this a number is taken for a failure, not for a value: it would flatten everything else.
pub(super) const LARGEST: f64 = 1e30;

/// One direction of a chart. A linear range ends at ticks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Axis {
    low: f64,
    high: f64,
    /// Between two ticks; a logarithmic axis has its ticks at 1, 2 and 5 times the powers of ten, and no step.
    step: Option<f64>,
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
            step: Some(step),
        })
    }

    /// As [`Axis::around`], logarithmic and with a little room at both ends. None without values, or with one that is not
    /// above zero.
    pub(super) fn logarithmic(values: impl Iterator<Item = f64>) -> Option<Self> {
        let (low, high) = values
            .map(|v| (v, v))
            .reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))?;
        (low > 1.0 / LARGEST).then_some(Axis {
            low: low / 1.2,
            high: high * 1.2,
            step: None,
        })
    }

    pub(super) fn position(&self, value: f64, start: f64, end: f64) -> f64 {
        let share = match self.step {
            Some(_) => (value - self.low) / (self.high - self.low),
            None => (value / self.low).ln() / (self.high / self.low).ln(),
        };
        start + share * (end - start)
    }

    pub(super) fn ticks(&self) -> Vec<f64> {
        if let Some(step) = self.step {
            let steps = ((self.high - self.low) / step).round() as u32;
            return (0..=steps.min(12))
                .map(|i| self.low + f64::from(i) * step)
                .collect();
        }
        let powers = self.low.log10().floor() as i32..self.high.log10().ceil() as i32 + 1;
        let decades = powers.len() - 1;
        // Few enough to be read: 1, 2, 5, 10, … or each power of ten, or each third of these.
        let every = if decades > 12 { decades / 6 } else { 1 };
        let digits: &[f64] = if decades > 4 {
            &[1.0]
        } else {
            &[1.0, 2.0, 5.0]
        };
        powers
            .step_by(every)
            .flat_map(|power| digits.iter().map(move |n| n * 10f64.powi(power)))
            .filter(|tick| (self.low..=self.high).contains(tick))
            .collect()
    }

    /// A tick's label with as many digits as the step needs.
    pub(super) fn label(&self, tick: f64) -> String {
        let Some(step) = self.step else {
            let scaled = [(1e9, "G"), (1e6, "M"), (1e3, "k")];
            let fitting = scaled
                .into_iter()
                .find(|(size, _)| tick >= 10.0 * size || tick == *size);
            let (size, unit) = fitting.unwrap_or((1.0, ""));
            let digits = decimals(tick / size);
            return format!("{:.digits$}{unit}", tick / size);
        };
        let largest = self.low.abs().max(self.high.abs());
        if tick.abs() < step / 2.0 {
            return "0".to_owned();
        }
        for (size, unit) in [(1e9, "G"), (1e6, "M"), (1e3, "k")] {
            if (10.0 * size..1e12).contains(&largest) {
                return format!("{:.*}{unit}", decimals(step / size), tick / size);
            }
        }
        if largest >= 1e12 || step < 1e-4 {
            let digits = (tick.abs().log10().floor() - step.log10().floor()).clamp(0.0, 9.0);
            let text = format!("{tick:.*e}", digits as usize);
            let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
            return format!("{}e{exponent}", trim_zeros(mantissa));
        }
        format!("{tick:.*}", decimals(step))
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
        let step = axis.step.unwrap();
        assert!(axis.low <= low + 1e-5 * step && axis.high >= high - 1e-5 * step);
        axis.ticks().iter().map(|tick| axis.label(*tick)).collect()
    }

    #[test]
    fn a_logarithmic_axis_has_ticks_at_1_2_and_5() {
        let axis = |low, high| Axis::logarithmic([low, high].into_iter()).unwrap();
        let labels = |low, high| -> Vec<String> {
            let axis = axis(low, high);
            axis.ticks().iter().map(|tick| axis.label(*tick)).collect()
        };
        assert_eq!(labels(8.0, 512.0), ["10", "20", "50", "100", "200", "500"]);
        assert_eq!(
            labels(900.0, 30_000.0),
            ["1k", "2000", "5000", "10k", "20k"]
        );
        assert_eq!(labels(0.3, 2.0), ["0.5", "1", "2"]);
        assert_eq!(axis(1.0, 1e9).ticks().len(), 10);
        assert!(axis(1e-20, 1e20).ticks().len() < 12);
        // Equal ratios have equal lengths.
        let axis = axis(10.0, 1000.0);
        let at = |value| axis.position(value, 0.0, 1.0);
        assert!((at(100.0) - at(10.0) - (at(1000.0) - at(100.0))).abs() < 1e-12);
        for refused in [vec![], vec![0.0, 1.0], vec![-1.0]] {
            assert_eq!(Axis::logarithmic(refused.into_iter()), None);
        }
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
                let ticks = axis.ticks();
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
