//! Lines over a growing amount of work or time, as SVG.

use std::path::Path;

use plotters::coord::Shift;
use plotters::coord::combinators::{BindKeyPoints, IntoLogRange};
use plotters::coord::ranged1d::{AsRangedCoord, ValueFormatter};
use plotters::prelude::*;

use crate::Result;

/// A plot of one or more lines.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    pub(crate) title: String,
    pub(crate) x: String,
    pub(crate) y: String,
    pub(crate) scale: Scale,
    pub(crate) lines: Vec<(String, Vec<(f64, f64)>)>,
}

/// How both axes run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Scale {
    #[default]
    Logarithmic,
    Linear,
}

type Drawn = std::result::Result<(), Box<dyn std::error::Error>>;

/// Distinct in colour and, printed grey, in brightness.
const COLOURS: [RGBColor; 4] = [
    RGBColor(0xd5, 0x5e, 0x00),
    RGBColor(0x00, 0x72, 0xb2),
    RGBColor(0xe6, 0x9f, 0x00),
    RGBColor(0x56, 0xb4, 0xe9),
];

impl Lines {
    /// Draws them into `path`.
    pub(crate) fn draw(&self, path: &Path) -> Result<()> {
        let svg = self.svg().map_err(|e| format!("{}: {e}", path.display()))?;
        std::fs::write(path, svg).map_err(|e| format!("{}: {e}", path.display()))
    }

    fn svg(&self) -> std::result::Result<String, Box<dyn std::error::Error>> {
        let mut svg = String::new();
        let area = SVGBackend::with_string(&mut svg, (720, 400)).into_drawing_area();
        area.fill(&WHITE)?;
        match self.scale {
            Scale::Logarithmic => self.logarithmic(&area)?,
            Scale::Linear => self.linear(&area)?,
        }
        area.present()?;
        drop(area);
        Ok(svg)
    }

    fn points(&self) -> impl Iterator<Item = &(f64, f64)> {
        self.lines.iter().flat_map(|l| &l.1)
    }

    /// The least and the greatest of what is drawn.
    fn range(&self, of: fn(&(f64, f64)) -> f64) -> (f64, f64) {
        let low = self.points().map(of).fold(f64::MAX, f64::min);
        let high = self.points().map(of).fold(f64::MIN_POSITIVE, f64::max);
        (low.min(high), high)
    }

    /// From zero to the right, and a little more than what is there in height.
    fn linear(&self, area: &DrawingArea<SVGBackend, Shift>) -> Drawn {
        let (_, right) = self.range(|p| p.0);
        let (low, high) = self.range(|p| p.1);
        let margin = 0.05 * (high - low).max(f64::MIN_POSITIVE);
        self.chart(area, 0.0..right * 1.02, low - margin..high + margin)
    }

    fn logarithmic(&self, area: &DrawingArea<SVGBackend, Shift>) -> Drawn {
        let range = |(low, high): (f64, f64)| (low / 1.2)..(high * 1.2);
        let (x, y) = (range(self.range(|p| p.0)), range(self.range(|p| p.1)));
        // Each amount that was measured, and 1, 2, 5, 10, … of the rate.
        let mut amounts: Vec<f64> = self.points().map(|p| p.0).collect();
        amounts.sort_by(f64::total_cmp);
        amounts.dedup();
        let rates: Vec<f64> = (-3..9)
            .flat_map(|power| [1.0, 2.0, 5.0].map(|n| n * 10f64.powi(power)))
            .filter(|rate| y.contains(rate))
            .collect();
        self.chart(
            area,
            x.log_scale().with_key_points(amounts),
            y.log_scale().with_key_points(rates),
        )
    }

    fn chart<X, Y>(&self, area: &DrawingArea<SVGBackend, Shift>, x: X, y: Y) -> Drawn
    where
        X: AsRangedCoord<Value = f64, CoordDescType: ValueFormatter<f64>>,
        Y: AsRangedCoord<Value = f64, CoordDescType: ValueFormatter<f64>>,
    {
        let falls = self
            .lines
            .first()
            .and_then(|(_, l)| Some(l.first()?.1 > l.last()?.1));
        // Where no line is.
        let corner = if falls.unwrap_or(false) {
            SeriesLabelPosition::UpperRight
        } else {
            SeriesLabelPosition::LowerRight
        };
        let mut chart = ChartBuilder::on(area)
            .caption(&self.title, ("sans-serif", 18))
            .margin(12)
            .x_label_area_size(44)
            .y_label_area_size(72)
            .build_cartesian_2d(x, y)?;
        chart
            .configure_mesh()
            .x_desc(&self.x)
            .y_desc(&self.y)
            .x_label_formatter(&|x| number(*x))
            .y_label_formatter(&|y| number(*y))
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
            .position(corner)
            .border_style(BLACK.mix(0.3))
            .background_style(WHITE.mix(0.8))
            .label_font(("sans-serif", 13))
            .draw()?;
        Ok(())
    }
}

/// With commas between thousands.
fn number(value: f64) -> String {
    if value < 10.0 {
        return format!("{}", (value * 1000.0).round() / 1000.0);
    }
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_told_apart() {
        assert_eq!(number(0.5), "0.5");
        assert_eq!(number(512.0), "512");
        assert_eq!(number(64_000.0), "64,000");
        assert_eq!(number(1_234_567.0), "1,234,567");
    }

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
        let linear = Lines {
            scale: Scale::Linear,
            ..lines
        };
        let linear = linear.svg().unwrap();
        assert!(linear.contains("theirs") && linear != svg);
    }
}
