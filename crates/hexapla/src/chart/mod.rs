//! Line charts as SVG: part of a page, in the page's colours, or a picture of their own.
//!
//! Drawn here and not by a plotting crate, because colours and type must be the page's (one drawing for light, dark and
//! print), which needs classes where the crates write fixed values.

mod axis;
mod figure;
mod picture;

pub use figure::figure;
pub use picture::picture;

/// The style sheet of both forms.
pub const STYLE: &str = include_str!("style.css");

/// One chart.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Curve {
    /// What it shows.
    pub title: String,
    /// The horizontal axis.
    pub x_label: String,
    /// The vertical axis.
    pub y_label: String,
    /// Both axes are logarithmic, for values above zero.
    pub logarithmic: bool,
    /// One line each.
    pub series: Vec<Series>,
}

/// One line of a chart.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Series {
    /// Its name in the legend.
    pub name: String,
    /// x and y in order of x. A point that is not finite leaves a gap.
    pub points: Vec<(f64, f64)>,
}
