//! What a training was started with, kept in its folder: to go on with anything else would be another training.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;

use crate::config::Recipe;
use crate::error::{Error, Result};
use crate::files::write_atomically;

const RECIPE: &str = "recipe.toml";
/// As `sha256sum` writes it, so that `sha256sum --check` reads it.
const DATA: &str = "data.sha256";

/// Keeps the recipe with every key, or compares it with the one that `folder` was started with.
///
/// # Errors
/// `folder` holds a training of another recipe, or cannot be written.
pub fn keep_recipe(folder: &Path, recipe: &Recipe) -> Result<()> {
    let text = toml::to_string(recipe)
        .map_err(|e| Error::new("the recipe cannot be written").found(e.to_string()))?;
    let place = folder.join(RECIPE);
    match kept(&place, &text)? {
        Some(old) if old != text => {
            Err(Error::new("the folder holds a training of another recipe")
                .at(place.display().to_string())
                .expected("the recipe and the flags that it was started with")
                .found("others")
                .hint("name another folder with --output, or remove this one"))
        }
        _ => Ok(()),
    }
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
    let Some(old) = kept(&folder.join(DATA), &text)? else {
        return Ok(());
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
                Error::new("the data is not what the training was started with")
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

/// What `place` holds; where it holds nothing, `text` is written.
fn kept(place: &Path, text: &str) -> Result<Option<String>> {
    match std::fs::read_to_string(place) {
        Ok(old) => Ok(Some(old)),
        Err(e) if e.kind() == ErrorKind::NotFound => {
            write_atomically(place, |w| w.write_all(text.as_bytes())).map(|()| None)
        }
        Err(e) => Err(Error::io("cannot read the file", place, &e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
