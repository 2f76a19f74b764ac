//! What a training was started with, kept in its folder: to go on with anything else would be another training.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;

use crate::config::Recipe;
use crate::error::{Error, Result};
use crate::files::{write_atomically, write_folder_atomically};
use crate::train::change::Difference;

pub(super) const RECIPE: &str = "recipe.toml";
/// As `sha256sum` writes it, so that `sha256sum --check` reads it.
pub(super) const DATA: &str = "data.sha256";

/// The recipe that `folder` was started with or went on with last; none where nothing was started. What later versions of the
/// program added to recipes has its default.
///
/// # Errors
/// The file cannot be read, or a later version wrote it.
pub fn kept_recipe(folder: &Path) -> Result<Option<Recipe>> {
    let path = folder.join(RECIPE);
    let Some(text) = read(&path)? else {
        return Ok(None);
    };
    let mut recipe = Recipe::parse(&text, &path.display().to_string())?;
    // Version 1 did not write its number.
    recipe.format_version.get_or_insert(1);
    Ok(Some(recipe))
}

/// Keeps the recipe with every key.
///
/// # Errors
/// `folder` cannot be written.
pub fn keep_recipe(folder: &Path, recipe: &Recipe) -> Result<()> {
    let recipe = Recipe {
        format_version: Some(recipe.version()),
        ..recipe.clone()
    };
    let text = toml::to_string(&recipe)
        .map_err(|e| Error::internal("the recipe cannot be written").found(e.to_string()))?;
    write_atomically(&folder.join(RECIPE), |w| w.write_all(text.as_bytes()))
}

/// The tokenizer that is kept in the training folder `folder`, read by `open`; or the one that `make` makes and `save` writes, which
/// is kept from then on.
///
/// # Errors
/// The kept one is broken, or a new one cannot be made or written.
pub fn keep_tokenizer<T>(
    folder: &Path,
    open: impl FnOnce(&Path) -> Result<T>,
    make: impl FnOnce() -> Result<T>,
    save: impl FnOnce(&T, &Path) -> Result<()>,
) -> Result<T> {
    let kept = folder.join("tokenizer");
    if kept.is_dir() {
        return open(&kept);
    }
    let made = make()?;
    write_folder_atomically(&kept, |_| false, |new| save(&made, new))?;
    Ok(made)
}

/// Whether the recipe in `folder` is, to the letter, what [`keep_recipe`] writes for `kept`.
///
/// # Errors
/// The file cannot be read.
pub fn is_ours(folder: &Path, kept: &Recipe) -> Result<bool> {
    let text = read(&folder.join(RECIPE))?;
    Ok(text.is_some() && text == toml::to_string(kept).ok())
}

/// Refuses a training that would go on with another recipe: names each key that differs, with both values. With `change` what
/// only ends, paces, saves or judges a training may differ.
///
/// # Errors
/// `differences` has what may not change, or anything without `change`.
pub fn check_differences(folder: &Path, differences: &[Difference], change: bool) -> Result<()> {
    let fixed: Vec<&Difference> = differences.iter().filter(|d| !d.is_allowed()).collect();
    let named = match (fixed.as_slice(), change) {
        ([], true) => return Ok(()),
        ([], false) => differences.iter().collect(),
        _ => fixed,
    };
    let Some(first) = named.first() else {
        return Ok(());
    };
    let hint = match named.iter().all(|d| d.is_allowed()) {
        true => "with --change it goes on so; or name another folder with --output",
        false => {
            "what the model is and learns from stays as it was: name another folder with --output"
        }
    };
    let all: Vec<String> = named.iter().map(ToString::to_string).collect();
    Err(
        Error::conflict("the folder holds a training of another recipe")
            .at(format!(
                "{}, key `{}`",
                folder.join(RECIPE).display(),
                first.key
            ))
            .expected("the recipe and the flags that it was started with")
            .found(all.join("; "))
            .hint(hint),
    )
}

/// Keeps the SHA-256 of each file of the data, or compares them with those that `folder` was started with.
///
/// # Errors
/// A file is not what it was, or `folder` cannot be written.
pub fn keep_data(folder: &Path, hashes: &BTreeMap<String, String>) -> Result<()> {
    let text: String = hashes
        .iter()
        .map(|(file, hash)| format!("{hash}  {file}\n"))
        .collect();
    let path = folder.join(DATA);
    let Some(old) = read(&path)? else {
        return write_atomically(&path, |w| w.write_all(text.as_bytes()));
    };
    match hashes
        .iter()
        .find(|(file, hash)| !old.lines().any(|line| line == format!("{hash}  {file}")))
    {
        Some((file, hash)) => {
            let before = old
                .lines()
                .filter_map(|line| line.split_once("  "))
                .find_map(|(hash, name)| (name == file).then_some(hash));
            Err(
                Error::conflict("the data is not what the training was started with")
                    .at(file)
                    .expected(
                        before.map_or("no such file".into(), |hash| format!("SHA-256 {hash}")),
                    )
                    .found(format!("SHA-256 {hash}"))
                    .hint("put the file back as it was, or name another folder with --output"),
            )
        }
        None => Ok(()),
    }
}

/// What `path` holds, if anything.
fn read(path: &Path) -> Result<Option<String>> {
    match std::fs::read_to_string(path) {
        Ok(old) => Ok(Some(old)),
        // Where a file stands in the way, whoever makes the folder says so.
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Err(e) => Err(Error::io("cannot read the file", path, &e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder of a version that lacked a key of today: each in turn.
    #[test]
    fn a_recipe_without_a_later_key_is_the_same_recipe() {
        let folder = tempfile::tempdir().unwrap();
        let recipe = Recipe::default();
        keep_recipe(folder.path(), &recipe).unwrap();
        let path = folder.path().join(RECIPE);
        let whole = std::fs::read_to_string(&path).unwrap();
        let is_key = |line: &&str| line.contains(" = ");
        assert!(whole.lines().filter(is_key).count() > 30);
        for key in whole.lines().filter(is_key) {
            let older: String = whole
                .lines()
                .filter(|line| *line != key)
                .map(|line| format!("{line}\n"))
                .collect();
            std::fs::write(&path, older).unwrap();
            let kept = kept_recipe(folder.path()).unwrap().unwrap();
            let wanted = Recipe {
                format_version: kept.format_version,
                ..recipe.clone()
            };
            assert_eq!(Difference::between(&kept, &wanted), [], "{key}");
            let version = if key.starts_with("format_version") {
                1
            } else {
                2
            };
            assert_eq!(kept.version(), version);
        }
    }

    #[test]
    fn what_differs_is_named_and_what_may_is_let_pass() {
        let difference = |key: &str| Difference {
            key: key.into(),
            from: "1".into(),
            to: "2".into(),
        };
        let path = Path::new("m");
        let both = [
            difference("training.max_steps"),
            difference("model.d_model"),
        ];
        check_differences(path, &[], false).unwrap();
        check_differences(path, &both[..1], true).unwrap();
        let told = check_differences(path, &both[..1], false)
            .unwrap_err()
            .to_string();
        assert!(
            told.contains("`training.max_steps`: 1 → 2") && told.contains("--change"),
            "{told}"
        );
        for change in [false, true] {
            let told = check_differences(path, &both, change)
                .unwrap_err()
                .to_string();
            assert!(
                told.contains("`model.d_model`: 1 → 2") && !told.contains("--change"),
                "{told}"
            );
        }
    }

    #[test]
    fn changed_data_is_refused_and_named() {
        let folder = tempfile::tempdir().unwrap();
        let hashes = |second: &str| {
            BTreeMap::from([
                ("a.tsv".to_string(), "11".to_string()),
                ("b.tsv".to_string(), second.to_string()),
            ])
        };
        keep_data(folder.path(), &hashes("22")).unwrap();
        keep_data(folder.path(), &hashes("22")).unwrap();
        let told = keep_data(folder.path(), &hashes("33"))
            .unwrap_err()
            .to_string();
        assert!(told.contains("b.tsv") && !told.contains("a.tsv"), "{told}");
        assert!(told.contains("22") && told.contains("33"), "{told}");
    }
}
