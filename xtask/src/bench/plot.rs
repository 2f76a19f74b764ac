//! Lines over a growing amount of work or time, as SVG.

use std::path::Path;

use hexapla::chart::{Curve, Series, picture};

use crate::{Result, write_whole};

/// A line's name and its points.
pub(crate) type Line = (String, Vec<(f64, f64)>);

/// Draws `lines` into `path`; both axes may be logarithmic.
///
/// # Errors
/// The file cannot be written.
pub(crate) fn plot(
    path: &Path,
    title: &str,
    [x, y]: [&str; 2],
    logarithmic: bool,
    lines: Vec<Line>,
) -> Result<()> {
    let series = lines
        .into_iter()
        .map(|(name, points)| Series { name, points });
    let curve = Curve {
        title: title.into(),
        x_label: x.into(),
        y_label: y.into(),
        logarithmic,
        series: series.collect(),
    };
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    }
    write_whole(path, &picture(&[curve]))
}
