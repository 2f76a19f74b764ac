//! Imports point one way. The library's modules stand in rows, the lowest first; each names the modules that it imports,
//! all of them from rows below its own, so that there is no cycle. A new import is a new word here, or a mistake.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// A module and all that it imports from its siblings. `docs/architecture.md` explains the order.
const ROWS: [(&str, &[&str]); 22] = [
    ("error", &[]),
    ("random", &[]),
    ("chart", &[]),
    ("files", &["error"]),
    ("config", &["error", "files"]),
    // Two side rooms, which no row up to `model` may enter: text, and its comparison with references.
    ("text", &["error", "files", "random", "config"]),
    ("metrics", &["error", "text"]),
    // From numbers to a model.
    ("batch", &["error"]),
    ("tensor", &[]),
    ("workers", &["tensor"]),
    ("weights", &["random"]),
    ("fastest", &["config"]),
    ("product", &["config"]),
    ("packed", &["config", "weights", "fastest"]),
    ("tape", &["config", "batch", "tensor", "weights", "product"]),
    (
        "ops",
        &[
            "random", "config", "batch", "tensor", "weights", "product", "packed", "tape",
        ],
    ),
    (
        "model",
        &[
            "error", "config", "batch", "tensor", "weights", "product", "ops",
        ],
    ),
    // What is done with a model.
    (
        "formats",
        &[
            "error", "files", "config", "text", "weights", "fastest", "packed", "ops", "model",
        ],
    ),
    (
        "encode",
        &[
            "error", "files", "config", "text", "batch", "tensor", "workers", "packed", "ops",
            "model", "formats",
        ],
    ),
    (
        "generate",
        &[
            "error", "random", "files", "config", "text", "batch", "tensor", "workers", "weights",
            "packed", "ops", "model", "formats",
        ],
    ),
    (
        "explain",
        &[
            "error", "files", "config", "text", "batch", "tensor", "weights", "packed", "ops",
            "model", "formats", "encode", "generate",
        ],
    ),
    (
        "train",
        &[
            "error", "random", "chart", "files", "config", "text", "metrics", "batch", "tensor",
            "weights", "fastest", "packed", "ops", "model", "formats", "generate",
        ],
    ),
];

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// All Rust files under `folder`, with their texts.
fn sources(folder: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            found.push((path, text));
        }
    }
    found
}

/// A file's text without comments and without the items under `#[cfg(test)]`, and the names of modules among these. Such
/// an item ends, as rustfmt writes it, on its first line or with the line that closes its indentation.
fn without_tests(text: &str) -> (String, Vec<String>) {
    let (mut kept, mut test_modules) = (String::new(), Vec::new());
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let code = line.trim_start();
        if code == "#[cfg(test)]" {
            let first = lines.next().unwrap();
            if let Some(item) = first.strip_suffix(';') {
                test_modules.extend(item.split(' ').next_back().map(String::from));
            } else {
                let end = format!("{}}}", &line[..line.len() - code.len()]);
                assert!(lines.any(|l| l == end), "`{first}` has no end");
            }
        } else if !code.starts_with("//") {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    (kept, test_modules)
}

/// The library's files without its tests: name of the module at the top, path, text.
fn library() -> Vec<(String, PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut tests = BTreeSet::new();
    let mut files = Vec::new();
    for (path, text) in sources(&root) {
        let (text, modules) = without_tests(&text);
        let folder = match path.file_stem().unwrap().to_str().unwrap() {
            "mod" | "lib" => path.parent().unwrap().to_path_buf(),
            _ => path.with_extension(""),
        };
        tests.extend(modules.iter().map(|name| folder.join(name)));
        files.push((path, text));
    }
    files.retain(|(path, _)| {
        !path
            .ancestors()
            .any(|a| tests.contains(&a.with_extension("")))
    });
    files
        .into_iter()
        .filter_map(|(path, text)| {
            let inside = path.strip_prefix(&root).unwrap().with_extension("");
            let module = inside.iter().next().unwrap().to_str().unwrap().to_string();
            (module != "lib").then_some((module, path, text))
        })
        .collect()
}

/// The words that follow `prefix` in `text`.
fn words_after<'a>(text: &'a str, prefix: &str) -> impl Iterator<Item = &'a str> {
    text.split(prefix).skip(1).map(|rest| {
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_');
        &rest[..end.unwrap_or(rest.len())]
    })
}

#[test]
fn imports_point_one_way() {
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (module, path, text) in library() {
        let location = path.display();
        assert!(
            !text.contains("super::super"),
            "{location}: write `crate::…` for what is not next door"
        );
        let imports = found.entry(module.clone()).or_default();
        // At the top of the library, `super` is the library.
        let is_top = path.ends_with(format!("src/{module}.rs"))
            || path.ends_with(format!("src/{module}/mod.rs"));
        let above = words_after(&text, "super::").filter(|_| is_top);
        for name in words_after(&text, "crate::").chain(above) {
            assert!(
                !name.is_empty(),
                "{location}: write one `use crate::…` for each module"
            );
            if name != module {
                imports.insert(name.to_string());
            }
        }
    }
    let mut below = BTreeSet::new();
    for (module, imports) in ROWS {
        for import in imports {
            assert!(
                below.contains(import),
                "`{import}` does not stand below `{module}`"
            );
        }
        below.insert(module);
        let imports = imports.iter().map(ToString::to_string).collect();
        let found = found.remove(module).unwrap_or_default();
        assert_eq!(
            found, imports,
            "left: what `{module}` imports; right: what ROWS says"
        );
    }
    assert!(found.is_empty(), "not in ROWS: {found:?}");
}

/// The files of this library that the file at `path` names: by `crate::a::b`, and by `super::b` or `self::b` from where it stands.
fn imported(root: &Path, path: &Path, text: &str, all: &BTreeSet<PathBuf>) -> BTreeSet<PathBuf> {
    let name = path.file_stem().unwrap();
    let own = match name == "mod" || name == "lib" {
        true => path.parent().unwrap().to_path_buf(),
        false => path.with_extension(""),
    };
    let starts = [
        ("crate::", root.to_path_buf()),
        ("super::", own.parent().unwrap().to_path_buf()),
        ("self::", own.clone()),
    ];
    let mut found = BTreeSet::new();
    for (prefix, start) in starts {
        for rest in text.split(prefix).skip(1) {
            // `a::b::{c, d::e}` names a::b::c and a::b::d; a list within a list is not written here.
            let end = rest
                .find([';', '(', '<', '>', ')', ' ', '.'])
                .unwrap_or(rest.len());
            let (base, names) = match rest[..end]
                .split_once('{')
                .or_else(|| rest.split_once(";").map(|(a, _)| (a, "")))
            {
                _ if rest[..end].contains("::{") || rest[..end].ends_with("{") => {
                    let (base, list) = rest.split_once('{').unwrap();
                    (base, list.split('}').next().unwrap())
                }
                _ => (&rest[..end], ""),
            };
            let base: Vec<&str> = base.split("::").filter(|w| !w.is_empty()).collect();
            let names = names
                .split(',')
                .map(|n| n.trim().split("::").next().unwrap());
            for last in names {
                let mut location = start.clone();
                let words = base.iter().copied().chain([last]).filter(|w| !w.is_empty());
                let mut file = None;
                for word in words {
                    location.push(word);
                    let candidates = [location.with_extension("rs"), location.join("mod.rs")];
                    match candidates.into_iter().find(|c| all.contains(c)) {
                        Some(candidate) => file = Some(candidate),
                        None => break,
                    }
                }
                found.extend(file);
            }
        }
    }
    found.remove(path);
    found
}

/// A `mod.rs` names what its folder holds, and what is below may name it: that is no circle.
#[test]
fn no_file_imports_one_that_imports_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let files = library();
    let all: BTreeSet<PathBuf> = files.iter().map(|(_, path, _)| path.clone()).collect();
    let is_contents = |path: &Path| path.file_stem().is_some_and(|name| name == "mod");
    let imports: BTreeMap<&PathBuf, BTreeSet<PathBuf>> = files
        .iter()
        .filter(|(_, path, _)| !is_contents(path))
        .map(|(_, path, text)| (path, imported(&root, path, text, &all)))
        .collect();
    assert!(
        imports.values().map(BTreeSet::len).sum::<usize>() > 300,
        "the imports are found"
    );
    for (path, of) in &imports {
        for other in of {
            let back = imports.get(other).is_some_and(|of| of.contains(*path));
            assert!(
                !back,
                "{} and {} import each other",
                path.display(),
                other.display()
            );
        }
    }
}

#[test]
fn what_belongs_to_tests_is_left_out() {
    let text = "use crate::a;\n/// crate::b\n#[cfg(test)]\nmod c;\n#[cfg(test)]\nmod tests {\n    use crate::d;\n}\nfn f() {\n    crate::e::g();\n}\n";
    let (kept, modules) = without_tests(text);
    assert_eq!(
        words_after(&kept, "crate::").collect::<Vec<_>>(),
        ["a", "e"]
    );
    assert_eq!(modules, ["c"]);
}

/// A crate's `Cargo.toml`.
fn manifest(folder: &str) -> toml::Table {
    let path = workspace().join(folder).join("Cargo.toml");
    fs::read_to_string(path).unwrap().parse().unwrap()
}

#[test]
fn only_the_kernels_may_be_unsafe_and_they_depend_on_memmap2_alone() {
    let root = manifest(".");
    for member in root["workspace"]["members"].as_array().unwrap() {
        let member = member.as_str().unwrap();
        if member != "crates/kernels" {
            let src = workspace().join(member).join("src");
            let main = ["lib.rs", "main.rs"].map(|name| fs::read_to_string(src.join(name)));
            for text in main.into_iter().flatten() {
                assert!(
                    text.contains("\n#![forbid(unsafe_code)]\n"),
                    "{member} may be unsafe"
                );
            }
        }
    }
    let kernels = manifest("crates/kernels");
    for table in ["dependencies", "build-dependencies", "target"] {
        let names: Vec<&String> = kernels
            .get(table)
            .map_or(Vec::new(), |t| t.as_table().unwrap().keys().collect());
        // Files are mapped by it; all else is slices.
        let allowed: &[&str] = match table {
            "dependencies" => &["memmap2"],
            _ => &[],
        };
        assert_eq!(names, allowed, "{table} of crates/kernels");
    }
}
