//! Charts as a picture of their own, one below another: light or dark as its reader's screen is.

use maud::{Markup, PreEscaped, html};

use super::figure::{HEIGHT, LEFT, WIDTH, class, description, drawing};
use super::{Curve, STYLE};

/// Above each chart: its title, its unit, and a line for each series.
const TITLE: f64 = 26.0;
const LEGEND_LINE: f64 = 18.0;
const BELOW: f64 = 14.0;

/// An SVG file with all of `curves`; a chart without values says so.
pub fn picture(curves: &[Curve]) -> String {
    let mut top = 0.0;
    let mut charts = Vec::new();
    for curve in curves {
        charts.push(chart(curve, top));
        top += height(curve);
    }
    html! {
        svg xmlns="http://www.w3.org/2000/svg" viewBox={ "0 0 " (WIDTH) " " (top) } width=(WIDTH) height=(top) {
            style { (PreEscaped(STYLE)) }
            rect.back width="100%" height="100%" {}
            @for chart in &charts { (chart) }
        }
    }
    .into_string()
}

fn height(curve: &Curve) -> f64 {
    TITLE + LEGEND_LINE * curve.series.len() as f64 + HEIGHT + BELOW
}

fn chart(curve: &Curve, top: f64) -> Markup {
    html! {
        g transform={ "translate(0 " (top) ")" } role="img" aria-label=(description(curve)) {
            text.title x=(LEFT) y="20" {
                (curve.title)
                @if !curve.y_label.is_empty() { " – " (curve.y_label) }
            }
            @for (number, series) in curve.series.iter().enumerate() {
                @let y = TITLE + LEGEND_LINE * (number as f64 + 0.5);
                g.key { line class=(class(number)) x1=(LEFT) x2=(LEFT + 24.0) y1=(y) y2=(y) {} }
                text.name x=(LEFT + 32.0) y=(y + 4.0) { (series.name) }
            }
            g transform={ "translate(0 " (TITLE + LEGEND_LINE * curve.series.len() as f64) ")" } {
                @match drawing(curve) {
                    Some(drawing) => (drawing),
                    None => text.name x=(LEFT) y="20" { "No values were recorded." },
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chart::Series;

    #[test]
    fn every_chart_and_line_is_there_and_nothing_given_becomes_markup() {
        let curve = |title: &str, points: &[(f64, f64)]| Curve {
            title: title.to_owned(),
            series: ["<a>", "b & c"]
                .map(|name| Series {
                    name: name.to_owned(),
                    points: points.to_vec(),
                })
                .to_vec(),
            ..Curve::default()
        };
        let svg = picture(&[curve("one", &[(0.0, 1.0), (1.0, 2.0)]), curve("two", &[])]);
        assert!(svg.starts_with("<svg xmlns=") && svg.ends_with("</svg>"));
        assert_eq!(svg.matches("<polyline").count(), 2);
        // Twice in a legend, once in a description.
        assert_eq!(svg.matches("&lt;a&gt;").count(), 3);
        assert!(svg.contains("b &amp; c") && svg.contains("No values were recorded."));
        assert!(!svg.contains("<a>"));
    }
}
