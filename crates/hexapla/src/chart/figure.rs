//! A line chart as part of a page: its style sheet has the classes (`style.css`).

use maud::{Markup, html};

use super::axis::{Axis, LARGEST, trim_zeros};
use super::{Curve, Series};

pub(super) const WIDTH: f64 = 560.0;
pub(super) const HEIGHT: f64 = 260.0;
pub(super) const LEFT: f64 = 52.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 40.0;

/// Lines of more points are thinned to about two for each unit of width.
const MAX_POINTS: usize = 1000;

/// Up to this many points are marked, so that sparse ones can be told from the line between them.
const MAX_MARKED: usize = 40;

/// Classes `s0`, `s1`, … of the style sheet: colour and dashes.
const STYLES: usize = 6;

/// The chart with its title and legend.
pub fn figure(curve: &Curve) -> Markup {
    html! {
        figure {
            figcaption {
                strong { (curve.title) }
                @if !curve.y_label.is_empty() { span.unit { (curve.y_label) } }
                (legend(curve))
            }
            @match drawing(curve) {
                Some(drawing) => svg.chart viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } role="img" aria-label=(description(curve)) {
                    (drawing)
                },
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

/// Axes and lines, on an area of [`WIDTH`] × [`HEIGHT`]. `None` where there is no value.
pub(super) fn drawing(curve: &Curve) -> Option<Markup> {
    let points = || {
        let points = curve.series.iter().flat_map(|s| &s.points);
        points.copied().filter(is_shown)
    };
    let [x, y]: [Vec<f64>; 2] = [
        points().map(|p| p.0).collect(),
        points().map(|p| p.1).collect(),
    ];
    let axis = |values: Vec<f64>| match curve.logarithmic {
        true => Axis::logarithmic(values.into_iter()),
        false => Axis::around(values.into_iter()),
    };
    let (x, y) = (axis(x)?, axis(y)?);
    let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
    let at_x = |value: f64| x.position(value, LEFT, right);
    let at_y = |value: f64| y.position(value, bottom, TOP);
    Some(html! {
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
    })
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
    let points: Vec<String> = points
        .iter()
        .map(|&(x, y)| format!("{},{}", number(at_x(x)), number(at_y(y))))
        .collect();
    points.join(" ")
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
        let mut points = [extreme(1.0), extreme(-1.0)].map(Option::unwrap_or_default);
        points.sort_unstable();
        kept.push(run[points[0]]);
        if points[0] != points[1] {
            kept.push(run[points[1]]);
        }
    }
    kept
}

fn is_shown(point: &(f64, f64)) -> bool {
    // A comparison with NaN is false.
    point.0.abs() <= LARGEST && point.1.abs() <= LARGEST
}

/// A point in the drawing, to a hundredth of a unit.
fn number(point: f64) -> String {
    trim_zeros(&format!("{point:.2}")).to_owned()
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

pub(super) fn class(index: usize) -> String {
    format!("s{}", index % STYLES)
}

/// What the chart says, for those who cannot see it.
pub(super) fn description(curve: &Curve) -> String {
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
