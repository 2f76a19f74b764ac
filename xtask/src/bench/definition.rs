//! What is measured, as data: `bench/definitions/*.toml`, whose comments say what each key is.

use std::collections::BTreeMap;
use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::peers::{self, Way};
use super::report::Bar;
use crate::{Result, root};

/// Reads the definitions of a section.
pub(super) fn read<T: DeserializeOwned>(section: &str) -> Result<T> {
    let path = root().join(format!("bench/definitions/{section}.toml"));
    let text = std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    toml::from_str(&text).map_err(|e| format!("{}: {e}", path.display()))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Gemm {
    pub(super) runs: usize,
    pub(super) example: Vec<Example>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Example {
    pub(super) name: String,
    pub(super) kind: String,
    #[serde(default)]
    pub(super) rows: usize,
    pub(super) at_least: Option<f64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Train {
    pub(super) shapes: BTreeMap<String, Shape>,
    pub(super) race: Vec<TrainRace>,
    pub(super) epoch: Epoch,
}

/// A model and its batch.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Shape {
    pub(super) layers: usize,
    pub(super) d_model: usize,
    pub(super) feed_forward: usize,
    pub(super) heads: usize,
    pub(super) vocabulary: usize,
    #[serde(skip_serializing)]
    pub(super) sentences: usize,
    #[serde(skip_serializing)]
    pub(super) length: usize,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TrainRace {
    pub(super) shape: String,
    pub(super) precision: String,
    pub(super) peer: String,
    pub(super) at_least: f64,
    pub(super) memory_at_most: Option<f64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Epoch {
    pub(super) name: String,
    pub(super) shape: String,
    pub(super) data: String,
    pub(super) tokens: usize,
    pub(super) parts: usize,
    pub(super) peer: String,
    pub(super) at_least: f64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Translate {
    pub(super) words: usize,
    pub(super) vocabulary: u32,
    pub(super) checked: usize,
    pub(super) source_word: f64,
    pub(super) hypothesis_word: f64,
    pub(super) race: Vec<TranslateRace>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TranslateRace {
    pub(super) compute_type: String,
    pub(super) batch: usize,
    pub(super) beam: usize,
    pub(super) streams: usize,
    pub(super) sentences: usize,
    pub(super) peer: String,
    #[serde(default)]
    pub(super) layouts: Vec<String>,
    pub(super) at_least: Option<f64>,
    #[serde(default)]
    pub(super) resident: bool,
    pub(super) resident_at_most: Option<f64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Startup {
    pub(super) words: usize,
    pub(super) peer: String,
    pub(super) script: String,
    pub(super) race: Vec<StartupRace>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StartupRace {
    pub(super) compute_type: String,
    pub(super) at_most: Option<f64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Scaling {
    pub(super) pairs: usize,
    pub(super) curve: Vec<Curve>,
}

/// The two lines of a plot; its rows are named `axis` and a number.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Curve {
    pub(super) axis: String,
    pub(super) title: String,
    pub(super) x: String,
    pub(super) file: String,
    pub(super) peer: String,
    /// Training of this shape; decoding where there is none.
    pub(super) shape: Option<String>,
    pub(super) change: Change,
    pub(super) tokens: Option<usize>,
    pub(super) points: Vec<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Change {
    Length,
    Sentences,
    Vocabulary,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Ways {
    way: Vec<WayOf>,
}

/// How a peer may be started.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct WayOf {
    peer: String,
    work: String,
    script: Option<String>,
    #[serde(rename = "crate")]
    package: Option<String>,
    #[serde(default)]
    setting: String,
    #[serde(default)]
    options: Vec<String>,
    #[serde(default)]
    environment: BTreeMap<String, String>,
    #[serde(default)]
    keep_memory: bool,
    only: Option<String>,
    #[serde(default)]
    fixed_shapes: bool,
    #[serde(default)]
    curves: bool,
}

/// Which of a peer's ways are asked for.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Wanted<'a> {
    pub(super) work: &'a str,
    pub(super) peer: &'a str,
    pub(super) number_type: &'a str,
    pub(super) layouts: &'a [String],
    /// Batches have many shapes.
    pub(super) any_shape: bool,
    /// That of the points of curves alone.
    pub(super) curves: bool,
}

/// The peer's ways, each in every layout.
pub(super) fn ways(wanted: &Wanted<'_>, python: &Path, threads: usize) -> Result<Vec<Way>> {
    let all: Ways = read("peers")?;
    let fits = |way: &WayOf| {
        let only = way.only.as_deref();
        (way.peer == wanted.peer && way.work == wanted.work)
            && only.is_none_or(|only| only == wanted.number_type)
            && !(way.fixed_shapes && wanted.any_shape)
            && (way.curves || !wanted.curves)
    };
    let mut ways = Vec::new();
    let one = [String::new()];
    let layouts = if wanted.layouts.is_empty() {
        &one[..]
    } else {
        wanted.layouts
    };
    for way in all.way.iter().filter(|way| fits(way)) {
        let command = match (&way.script, &way.package) {
            (Some(script), _) => peers::script(python, script),
            (None, Some(package)) => vec![peers::build_peer(package)?.into()],
            (None, None) => return Err(format!("a way of {} has no program", way.peer)),
        };
        for layout in layouts {
            let filled = |text: &String| text.replace("{layout}", layout);
            ways.push(Way {
                name: way.peer.clone(),
                setting: filled(&way.setting),
                command: command.clone(),
                options: way.options.iter().map(filled).collect(),
                environment: peers::environment(&way.environment, way.keep_memory, threads),
            });
        }
    }
    Ok(ways)
}

/// The lower bound of a ratio.
pub(super) fn at_least(bar: Option<f64>) -> Option<Bar> {
    bar.map(Bar::AtLeast)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_definition_can_be_read_and_every_race_has_ways() {
        let train: Train = read("train").unwrap();
        let shape = |name: &String| assert!(train.shapes.contains_key(name), "{name}");
        let scaling: Scaling = read("scaling").unwrap();
        shape(&train.epoch.shape);
        train.race.iter().for_each(|race| shape(&race.shape));
        let curves = scaling.curve.iter();
        curves
            .filter_map(|curve| curve.shape.as_ref())
            .for_each(shape);
        read::<Gemm>("gemm").unwrap();
        read::<Startup>("startup").unwrap();
        let translate: Translate = read("translate").unwrap();
        for race in &translate.race {
            let wanted = Wanted {
                work: "translate",
                peer: &race.peer,
                number_type: &race.compute_type,
                layouts: &race.layouts,
                ..Wanted::default()
            };
            let found = ways(&wanted, Path::new("python"), 2).unwrap();
            let expected = match (race.peer.as_str(), race.compute_type.as_str()) {
                ("CTranslate2", "int8") => 3 * race.layouts.len(),
                ("CTranslate2", _) => 5 * race.layouts.len(),
                _ => 2,
            };
            assert_eq!(found.len(), expected, "{race:?}");
            assert!(found.iter().all(|way| !way.setting.contains('{')));
        }
        let wanted = Wanted {
            work: "train",
            peer: "PyTorch",
            ..Wanted::default()
        };
        let count = |wanted| ways(&wanted, Path::new("python"), 2).unwrap().len();
        let (any_shape, curves) = (true, true);
        assert_eq!(count(wanted), 4);
        assert_eq!(
            count(Wanted {
                any_shape,
                ..wanted
            }),
            3
        );
        assert_eq!(count(Wanted { curves, ..wanted }), 1);
    }
}
