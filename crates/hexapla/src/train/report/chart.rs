//! A line chart as an SVG figure.
//!
//! Drawn here and not by a plotting crate, because the colours and type must be the page's (one drawing for light, dark and
//! print), which needs classes where the crates write fixed values.

use maud::{Markup, html};

use super::{Curve, Series};

const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 260.0;
const LEFT: f64 = 52.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 40.0;

/// Beyond this a number is taken for a failure, not for a value: it would flatten everything else.
const LARGEST: f64 = 1e30;

/// Lines of more points are thinned to about two for each unit of width.
const MAX_POINTS: usize = 1000;

/// Up to this many points are marked, so that sparse ones can be told from the line between them.
const MAX_MARKED: usize = 40;

/// Classes `s0`, `s1`, … of the style sheet: colour and dashes.
const STYLES: usize = 6;

/// The chart with its title and legend.
pub(super) fn figure(curve: &Curve) -> Markup {
    let points = || {
        curve
            .series
            .iter()
            .flat_map(|s| &s.points)
            .copied()
            .filter(is_shown)
    };
    let axes = Axis::around(points().map(|p| p.0)).zip(Axis::around(points().map(|p| p.1)));
    html! {
        figure {
            figcaption {
                strong { (curve.title) }
                @if !curve.y_label.is_empty() { span.unit { (curve.y_label) } }
                (legend(curve))
            }
            @match axes {
                Some((x, y)) => (plot(curve, &x, &y)),
                None => p.note { "No values were recorded." },
            }
        }
    }
}

fn legend(curve: &Curve) -> Markup {
    html! {
        ul.legend {
            @for (number, series) in curve.series.iter().enumerate() {
                li {
                    svg.key viewBox="0 0 24 8" aria-hidden="true" {
                        line class=(class(number)) x1="1" y1="4" x2="23" y2="4" {}
                    }
                    (series.name)
                    @if let Some(last) = series.points.iter().rfind(|p| is_shown(p)) {
                        span.last { (significant(last.1)) }
                    }
                }
            }
        }
    }
}

fn plot(curve: &Curve, x: &Axis, y: &Axis) -> Markup {
    let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
    let at_x = |value: f64| x.place(value, LEFT, right);
    let at_y = |value: f64| y.place(value, bottom, TOP);
    html! {
        svg.chart viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } role="img" aria-label=(description(curve)) {
            @for tick in y.ticks() {
                line.grid x1=(LEFT) x2=(right) y1=(number(at_y(tick))) y2=(number(at_y(tick))) {}
                text.tick.left x=(LEFT - 8.0) y=(number(at_y(tick) + 4.0)) { (y.label(tick)) }
            }
            line.axis x1=(LEFT) x2=(right) y1=(bottom) y2=(bottom) {}
            @for tick in x.ticks() {
                line.axis x1=(number(at_x(tick))) x2=(number(at_x(tick))) y1=(bottom) y2=(bottom + 4.0) {}
                text.tick x=(number(at_x(tick))) y=(bottom + 17.0) { (x.label(tick)) }
            }
            text.label x=(f64::midpoint(LEFT, right)) y=(HEIGHT - 6.0) { (curve.x_label) }
            @for (number, series) in curve.series.iter().enumerate() {
                (line(series, number, &at_x, &at_y))
            }
        }
    }
}

fn line(
    series: &Series,
    index: usize,
    at_x: &dyn Fn(f64) -> f64,
    at_y: &dyn Fn(f64) -> f64,
) -> Markup {
    // Each gap starts a new stretch of line.
    let stretches: Vec<Vec<(f64, f64)>> = series
        .points
        .split(|p| !is_shown(p))
        .filter(|stretch| !stretch.is_empty())
        .map(|stretch| thin(stretch, series.points.len()))
        .collect();
    let marked = series.points.len() <= MAX_MARKED;
    html! {
        g class=(class(index)) {
            @for stretch in &stretches {
                polyline points=(path(stretch, at_x, at_y)) {}
                @if marked || stretch.len() == 1 {
                    @for &(x, y) in stretch {
                        circle cx=(number(at_x(x))) cy=(number(at_y(y))) r="2.6" {}
                    }
                }
            }
        }
    }
}

fn path(points: &[(f64, f64)], at_x: &dyn Fn(f64) -> f64, at_y: &dyn Fn(f64) -> f64) -> String {
    let places: Vec<String> = points
        .iter()
        .map(|&(x, y)| format!("{},{}", number(at_x(x)), number(at_y(y))))
        .collect();
    places.join(" ")
}

/// The lowest and the highest point of each run of neighbours, so that thinning hides no spike. `total` is the
/// number of points of the whole line.
fn thin(points: &[(f64, f64)], total: usize) -> Vec<(f64, f64)> {
    if total <= MAX_POINTS {
        return points.to_vec();
    }
    let run = total.div_ceil(MAX_POINTS / 2);
    let mut kept = Vec::with_capacity(2 * points.len().div_ceil(run));
    for run in points.chunks(run) {
        let extreme = |sign: f64| {
            (0..run.len()).min_by(|&a, &b| (sign * run[a].1).total_cmp(&(sign * run[b].1)))
        };
        let mut places = [extreme(1.0), extreme(-1.0)].map(Option::unwrap_or_default);
        places.sort_unstable();
        kept.push(run[places[0]]);
        if places[0] != places[1] {
            kept.push(run[places[1]]);
        }
    }
    kept
}

/// One direction of a chart: its range ends at ticks.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Axis {
    low: f64,
    high: f64,
    step: f64,
}

impl Axis {
    /// Holds all values, in about five steps (at most ten) of 1, 2 or 5 times a power of ten. None without values.
    fn around(values: impl Iterator<Item = f64>) -> Option<Self> {
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

    fn place(&self, value: f64, start: f64, end: f64) -> f64 {
        start + (value - self.low) / (self.high - self.low) * (end - start)
    }

    fn ticks(&self) -> impl Iterator<Item = f64> {
        let steps = ((self.high - self.low) / self.step).round() as u32;
        let axis = *self;
        (0..=steps.min(12)).map(move |i| axis.low + f64::from(i) * axis.step)
    }

    /// A tick's label with as many digits as the step needs.
    fn label(&self, tick: f64) -> String {
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

fn is_shown(point: &(f64, f64)) -> bool {
    // A comparison with NaN is false.
    point.0.abs() <= LARGEST && point.1.abs() <= LARGEST
}

/// A place in the drawing, to a hundredth of a unit.
fn number(place: f64) -> String {
    trim_zeros(&format!("{place:.2}")).to_owned()
}

/// Without zeros at the end of its fraction.
fn trim_zeros(decimal: &str) -> &str {
    if decimal.contains('.') {
        decimal.trim_end_matches('0').trim_end_matches('.')
    } else {
        decimal
    }
}

/// A value to four significant digits.
fn significant(value: f64) -> String {
    let magnitude = value.abs();
    if magnitude != 0.0 && !(1e-3..1e7).contains(&magnitude) {
        return format!("{value:.2e}");
    }
    let before = if magnitude < 1.0 {
        0.0
    } else {
        magnitude.log10().floor()
    };
    format!("{value:.*}", (3.0 - before).max(0.0) as usize)
}

fn class(index: usize) -> String {
    format!("s{}", index % STYLES)
}

/// What the chart says, for those who cannot see it.
fn description(curve: &Curve) -> String {
    let mut text = format!("{} over {}.", curve.title, curve.x_label);
    for series in &curve.series {
        let shown = |p: &&(f64, f64)| is_shown(p);
        if let (Some(first), Some(last)) = (
            series.points.iter().find(shown),
            series.points.iter().rfind(shown),
        ) {
            text += &format!(
                " {}: from {} to {}.",
                series.name,
                significant(first.1),
                significant(last.1)
            );
        }
    }
    text
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
                    ticks.iter().all(|t| t.is_finite()) && axis.place(low, 0.0, 1.0).is_finite()
                );
            }
        }
        assert_eq!(Axis::around(std::iter::empty()), None);
    }

    #[test]
    fn thinning_keeps_the_extremes() {
        let mut points: Vec<(f64, f64)> = (0..50_000).map(|i| (f64::from(i), 1.0)).collect();
        points[12_345].1 = 99.0;
        points[12_346].1 = -99.0;
        let kept = thin(&points, points.len());
        assert!(kept.len() <= MAX_POINTS);
        assert!(kept.contains(&points[12_345]) && kept.contains(&points[12_346]));
        assert!(kept.is_sorted_by(|a, b| a.0 < b.0));
    }

    #[test]
    fn a_gap_breaks_the_line() {
        let curve = |points: &[(f64, f64)]| Curve {
            series: vec![Series {
                name: "loss".to_owned(),
                points: points.to_vec(),
            }],
            ..Curve::default()
        };
        let svg = figure(&curve(&[
            (0.0, 1.0),
            (1.0, f64::NAN),
            (2.0, 3.0),
            (3.0, 1e40),
            (4.0, 2.0),
        ]))
        .into_string();
        assert_eq!(svg.matches("<polyline").count(), 3);
        assert_eq!(svg.matches("<circle").count(), 3);
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
        let svg = figure(&curve(&[(0.0, f64::INFINITY)])).into_string();
        assert!(svg.contains("No values were recorded."));
    }
}
