//! What is measured, as data: `bench/definitions/*.toml`, whose comments say what each key is.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use toml::{Table, Value};

use super::peers::{self, Way};
use crate::{Result, root};

/// Reads `bench/definitions/NAME.toml`.
pub(super) fn read<T: DeserializeOwned>(name: &str) -> Result<T> {
    let path = root().join(format!("bench/definitions/{name}.toml"));
    let text = std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    toml::from_str(&text).map_err(|e| format!("{}: {e}", path.display()))
}

/// Races on pieces of work.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Section {
    program: Option<String>,
    pairs: Option<usize>,
    /// What `hexapla-bench prepare` is told.
    job: BTreeMap<String, Table>,
    #[serde(default)]
    race: Vec<Race>,
    #[serde(default)]
    curve: Vec<Curve>,
}

/// A row.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Race {
    pub(super) name: String,
    #[serde(default)]
    pub(super) peer: String,
    /// Several, each of which is raced, in place of `peer`.
    #[serde(default)]
    peers: Vec<String>,
    job: String,
    /// Keys that differ from the job's, and in the end all of them.
    #[serde(default, rename = "with")]
    pub(super) spec: Table,
    #[serde(default)]
    program: String,
    #[serde(default)]
    layouts: Vec<String>,
    /// Added to the name of the peer's setting.
    pub(super) called: Option<String>,
    /// The kind of arithmetic whose limit our rate is held against.
    pub(super) limit: Option<String>,
    pub(super) at_least: Option<f64>,
    /// A second row: `peak memory` or `resident memory`.
    pub(super) memory: Option<String>,
    pub(super) memory_at_most: Option<f64>,
    pub(super) pairs: Option<usize>,
    /// It is a point of a curve.
    #[serde(skip)]
    point: bool,
}

/// The two lines of a plot; its rows are named `axis` and a number.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Curve {
    axis: String,
    pub(super) title: String,
    pub(super) x: String,
    pub(super) file: String,
    pub(super) peer: String,
    program: String,
    job: String,
    #[serde(default)]
    with: Table,
    #[serde(default)]
    layouts: Vec<String>,
    key: String,
    pub(super) points: Vec<usize>,
}

impl Curve {
    /// The name of a point's row.
    pub(super) fn row(&self, at: usize) -> String {
        format!("{} {at}", self.axis)
    }

    fn race(&self, at: usize) -> Race {
        let mut spec = self.with.clone();
        spec.insert(self.key.clone(), Value::Integer(at as i64));
        Race {
            name: self.row(at),
            peer: self.peer.clone(),
            job: self.job.clone(),
            spec,
            program: self.program.clone(),
            layouts: self.layouts.clone(),
            point: true,
            ..Race::default()
        }
    }
}

/// The races of a section, those of its curves' points among them, each with its whole job.
pub(super) fn races(section: &str) -> Result<Vec<Race>> {
    let section: Section = read(section)?;
    let points = section.curve.iter();
    let points = points.flat_map(|curve| curve.points.iter().map(|at| curve.race(*at)));
    let races = section.race.iter().flat_map(Race::of_each_peer);
    let mut races: Vec<Race> = races.chain(points).collect();
    for race in &mut races {
        let job = section.job.get(&race.job);
        let mut spec = job.ok_or(format!("no job `{}`", race.job))?.clone();
        spec.extend(std::mem::take(&mut race.spec));
        if let Some(program) = &section.program {
            race.program.clone_from(program);
        }
        spec.insert("program".into(), race.program.clone().into());
        race.spec = spec;
        race.pairs = section.pairs;
    }
    Ok(races)
}

/// The curves of a section.
pub(super) fn curves(section: &str) -> Result<Vec<Curve>> {
    Ok(read::<Section>(section)?.curve)
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

impl Race {
    fn of_each_peer(&self) -> Vec<Race> {
        if self.peers.is_empty() {
            return vec![self.clone()];
        }
        let with = |peer: &String| Race {
            peer: peer.clone(),
            ..self.clone()
        };
        self.peers.iter().map(with).collect()
    }

    /// Threads of each side, where it does not leave them to the command.
    pub(super) fn threads(&self, of_command: usize) -> usize {
        let own = self.spec.get("threads").and_then(Value::as_integer);
        own.and_then(|threads| usize::try_from(threads).ok())
            .unwrap_or(of_command)
    }

    /// Whether its peer is a Rust program that takes minutes to compile.
    pub(super) fn is_compiled(&self) -> bool {
        matches!(self.peer.as_str(), "burn" | "candle")
    }

    /// Our way and the peer's ways, each of these in every layout.
    pub(super) fn ways(&self, python: &Path, threads: usize) -> Result<(Way, Vec<Way>)> {
        let key = |key: &str| self.spec.get(key).and_then(Value::as_str);
        let number_type = key("compute_type").or(key("precision"));
        let ours = Way::ours(&self.program);
        let fits = |way: &WayOf| {
            (way.work == self.program && way.peer == self.peer)
                && (way.only.is_none() || way.only.as_deref() == number_type)
                && !(way.fixed_shapes && self.spec.contains_key("data"))
                // Of training: trying each way at each point would take longer than measuring it.
                && (way.curves || !self.point || self.program != "train")
        };
        ways(fits, &self.layouts, python, threads).map(|ways| (ours, ways))
    }
}

/// All ways to start the peer of a program that is no race.
pub(super) fn ways_of(peer: &str, work: &str, python: &Path, threads: usize) -> Result<Vec<Way>> {
    ways(
        |way| way.peer == peer && way.work == work,
        &[],
        python,
        threads,
    )
}

fn ways(
    fits: impl Fn(&WayOf) -> bool,
    layouts: &[String],
    python: &Path,
    threads: usize,
) -> Result<Vec<Way>> {
    let all: Ways = read("peers")?;
    let plain = [String::new()];
    let layouts = if layouts.is_empty() { &plain } else { layouts };
    let mut ways = Vec::new();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_definition_can_be_read_and_every_race_has_its_ways() {
        let mut counts = BTreeMap::new();
        for section in ["train", "translate", "embed", "generate", "scaling"] {
            for race in races(section).unwrap() {
                // Building them takes minutes.
                if !race.is_compiled() {
                    let (_, ways) = race.ways(Path::new("python"), 2).unwrap();
                    assert!(ways.iter().all(|way| !way.setting.contains('{')));
                    counts.insert(race.name, ways.len());
                }
            }
        }
        for (name, ways) in [
            ("tiny float32", 4),
            ("epoch of Multi30k, tiny float32", 3),
            ("training, vocabulary: 8000", 1),
            ("int8, batch 32, beam 1, two streams", 6),
            ("int8, batch 1, beam 1, two streams", 3),
            ("int4, decoding of 128, one thread, one stream", 2),
            ("decoding, sentences of a batch: 64", 10),
        ] {
            assert_eq!(counts.get(name), Some(&ways), "{name}");
        }
    }
}
