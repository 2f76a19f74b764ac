//! What the documents list is what there is: keys of a recipe, presets, dependencies, links.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use hexapla::config::{Corpus, Recipe, TestSet, TransformerConfig};
use serde::Serialize;
use serde_json::Value;

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(name: &str) -> String {
    fs::read_to_string(workspace().join(name)).unwrap()
}

/// The rows of the tables in `text` whose first cell is code: their cells, without backticks.
fn rows(text: &str) -> impl Iterator<Item = Vec<String>> {
    text.lines().filter(|l| l.starts_with("| `")).map(|line| {
        let cells = line.trim_matches('|').split('|');
        cells.map(|c| c.trim().replace('`', "")).collect()
    })
}

/// The part of a document under the heading that begins with `heading`.
fn section<'a>(text: &'a str, heading: &str) -> &'a str {
    let start = text.find(&format!("\n{heading}")).expect(heading) + 1;
    let rest = &text[start..];
    let level = heading.split(' ').next().unwrap();
    let of_level = |n: usize| rest[1..].find(&format!("\n{} ", "#".repeat(n)));
    let next = (1..=level.len()).filter_map(of_level).min();
    &rest[..next.map_or(rest.len(), |at| at + 1)]
}

#[test]
fn every_key_of_a_recipe_is_documented_with_its_default() {
    let text = read("docs/training.md");
    let recipe = Recipe::default();
    for (heading, keys) in [
        ("[model]", keys(&recipe.model)),
        ("[data]", keys(&recipe.data)),
        ("[[data.corpora]]", keys(&Corpus::default())),
        ("[tokenizer]", keys(&recipe.tokenizer)),
        ("[training]", keys(&recipe.training)),
        ("[[test]]", keys(&TestSet::default())),
    ] {
        let mut written: BTreeMap<String, String> = BTreeMap::new();
        let here = section(&text, &format!("### `{heading}`"));
        for cells in rows(here) {
            written.insert(cells[0].clone(), cells[1].clone());
        }
        for (key, default) in &keys {
            let found = written.remove(key);
            let found = found.unwrap_or_else(|| panic!("`{key}` of {heading} is not documented"));
            let same = match default {
                // Nothing, or a table that must be given.
                Value::Null | Value::Object(_) => found == "–",
                Value::Number(n) => found.parse::<f64>().ok() == n.as_f64(),
                Value::String(s) => found == format!("\"{s}\""),
                other => found == format!("{other}"),
            };
            assert!(
                same,
                "`{key}` of {heading}: {default}, but documented {found}"
            );
        }
        assert!(written.is_empty(), "no such keys in {heading}: {written:?}");
    }
    // No table is forgotten above.
    assert_eq!(
        keys(&recipe).into_keys().collect::<Vec<_>>(),
        [
            "data",
            "format_version",
            "model",
            "task",
            "test",
            "tokenizer",
            "training"
        ]
    );
}

/// The keys of a table with their defaults.
fn keys(table: &impl Serialize) -> BTreeMap<String, Value> {
    // Through a text: numbers stay as short as people write them.
    serde_json::from_str(&serde_json::to_string(table).unwrap()).unwrap()
}

#[test]
fn presets_are_documented_as_they_are() {
    let text = read("docs/training.md");
    let mut presets: BTreeSet<&str> = TransformerConfig::PRESETS.into();
    for cells in rows(section(&text, "### Presets")) {
        let c = TransformerConfig::preset(&cells[0]).unwrap();
        let layers = format!("{} + {}", c.encoder_layers, c.decoder_layers);
        let sizes = [c.d_model, c.encoder_feed_forward, c.encoder_heads].map(|n| n.to_string());
        assert_eq!(cells[1..5], [&[layers][..], &sizes].concat());
        presets.remove(cells[0].as_str());
    }
    assert!(presets.is_empty(), "not documented: {presets:?}");
}

#[test]
fn recipes_can_be_read() {
    for entry in fs::read_dir(workspace().join("recipes")).unwrap() {
        Recipe::open(&entry.unwrap().path()).unwrap();
    }
}

#[test]
fn every_direct_dependency_has_its_reason() {
    let documented: BTreeSet<String> = rows(&read("docs/dependencies.md"))
        .flat_map(|cells| cells[0].split(", ").map(String::from).collect::<Vec<_>>())
        .collect();
    let root: toml::Table = read("Cargo.toml").parse().unwrap();
    let mut used = BTreeSet::new();
    for member in root["workspace"]["members"].as_array().unwrap() {
        let manifest = read(&format!("{}/Cargo.toml", member.as_str().unwrap()));
        let manifest: toml::Table = manifest.parse().unwrap();
        let targets = manifest.get("target").and_then(|t| t.as_table());
        let tables = targets.into_iter().flat_map(|t| t.values());
        for table in tables.filter_map(|t| t.as_table()).chain([&manifest]) {
            for kind in ["dependencies", "dev-dependencies", "build-dependencies"] {
                let names = table.get(kind).and_then(|t| t.as_table());
                used.extend(names.into_iter().flat_map(|t| t.keys().cloned()));
            }
        }
    }
    used.retain(|name| !name.starts_with("hexapla"));
    let page: serde_json::Value = serde_json::from_str(&read("page/package.json")).unwrap();
    let packages = page["devDependencies"].as_object().unwrap();
    // What a page needs while it is shown would have to be in its one file.
    assert!(page.get("dependencies").is_none());
    used.extend(packages.keys().cloned());
    assert_eq!(
        documented, used,
        "left: docs/dependencies.md; right: the crates' Cargo.toml, and page/package.json"
    );
}

#[test]
fn links_lead_somewhere() {
    let mut documents: Vec<PathBuf> = [
        "README.md",
        "README.zh.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
    ]
    .map(|name| workspace().join(name))
    .into();
    let docs = fs::read_dir(workspace().join("docs")).unwrap();
    documents.extend(docs.map(|entry| entry.unwrap().path()));
    documents.retain(|path| path.extension().is_some_and(|e| e == "md"));
    for document in documents {
        let text = fs::read_to_string(&document).unwrap();
        for link in text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next())
        {
            let file = link.split('#').next().unwrap_or_default();
            if !file.is_empty() && !file.contains("://") {
                let target = document.parent().unwrap().join(file);
                assert!(target.exists(), "{}: {link}", document.display());
            }
        }
    }
}
