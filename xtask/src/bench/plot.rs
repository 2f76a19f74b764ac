//! Lines over a growing amount of work, as SVG.

use std::path::Path;

use plotters::coord::combinators::IntoLogRange;
use plotters::prelude::*;

use crate::Result;

/// A plot of one or more lines, both axes logarithmic.
#[derive(Debug, Default)]
pub(super) struct Lines {
    pub(super) title: String,
    pub(super) x: String,
    pub(super) y: String,
    pub(super) lines: Vec<(String, Vec<(f64, f64)>)>,
}

/// Distinct in colour and, printed grey, in brightness.
const COLOURS: [RGBColor; 4] = [
    RGBColor(0xd5, 0x5e, 0x00),
    RGBColor(0x00, 0x72, 0xb2),
    RGBColor(0xe6, 0x9f, 0x00),
    RGBColor(0x56, 0xb4, 0xe9),
];

impl Lines {
    /// Draws them into `path`.
    pub(super) fn draw(&self, path: &Path) -> Result<()> {
        let svg = self.svg().map_err(|e| format!("{}: {e}", path.display()))?;
        std::fs::write(path, svg).map_err(|e| format!("{}: {e}", path.display()))
    }

    fn svg(&self) -> std::result::Result<String, Box<dyn std::error::Error>> {
        let points = || self.lines.iter().flat_map(|l| &l.1);
        let range = |of: fn(&(f64, f64)) -> f64| {
            let low = points().map(of).fold(f64::MAX, f64::min);
            let high = points().map(of).fold(f64::MIN_POSITIVE, f64::max);
            (low.min(high) / 1.2)..(high * 1.2)
        };
        let mut svg = String::new();
        let area = SVGBackend::with_string(&mut svg, (720, 400)).into_drawing_area();
        area.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&area)
            .caption(&self.title, ("sans-serif", 18))
            .margin(12)
            .x_label_area_size(44)
            .y_label_area_size(72)
            .build_cartesian_2d(range(|p| p.0).log_scale(), range(|p| p.1).log_scale())?;
        chart
            .configure_mesh()
            .x_desc(&self.x)
            .y_desc(&self.y)
            .light_line_style(TRANSPARENT)
            .label_style(("sans-serif", 13))
            .draw()?;
        for ((name, points), colour) in self.lines.iter().zip(COLOURS.iter().cycle()) {
            let style = colour.stroke_width(2);
            chart
                .draw_series(LineSeries::new(points.iter().copied(), style).point_size(3))?
                .label(name)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], style));
        }
        chart
            .configure_series_labels()
            .border_style(BLACK.mix(0.3))
            .background_style(WHITE.mix(0.8))
            .label_font(("sans-serif", 13))
            .draw()?;
        area.present()?;
        drop(chart);
        drop(area);
        Ok(svg)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_drawn_and_named() {
        let lines = Lines {
            title: "words & time".into(),
            lines: vec![
                ("ours".into(), vec![(1.0, 10.0), (2.0, 20.0)]),
                ("theirs".into(), vec![(1.0, 5.0), (2.0, 7.0)]),
            ],
            ..Lines::default()
        };
        let svg = lines.svg().unwrap();
        assert!(svg.trim_end().ends_with("</svg>"));
        assert!(svg.contains("ours") && svg.contains("theirs") && svg.contains("words &amp; time"));
        assert!(svg.matches("<polyline").count() >= 2);
    }
}
