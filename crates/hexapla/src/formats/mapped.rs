//! Models that no family names: `mapping.toml` says their settings and the names of their tensors.

use super::generation::{self, GenerationDefaults};
use super::keys::Keys;
use super::location::TensorPart;
use super::native;
use super::safetensors::TensorStore;
use crate::config::Assembly;
use crate::error::{Error, Result};
use crate::files::{Folder, MappingFile};
use crate::model::transformer::Transformer;

/// A model: its settings, how it generates, and its tensors under the names that they have here.
pub(super) struct MappedModel {
    pub(super) assembly: Assembly,
    pub(super) generation: GenerationDefaults,
    pub(super) tensors: TensorStore,
}

/// Reads the model that `file` of `folder` describes.
pub(super) fn read(folder: &Folder, file: &MappingFile) -> Result<MappedModel> {
    let location = format!("{}: model", MappingFile::path(folder));
    let mut keys = Keys::of_map(location, file.model.clone());
    let (generation, ids) = generation::read(folder, &mut keys)?;
    let assembly = native::read(keys, ids, &generation)?;
    assembly.validate()?;
    let mut tensors = TensorStore::open_in(folder.clone(), &file.weights)?;
    let model = Transformer::new(assembly.clone())?;
    let parameters = model.index().iter().map(|p| p.name.as_str());
    let names: Vec<(&str, TensorPart)> = parameters
        .map(|name| Ok((name, find(folder, file, name)?)))
        .collect::<Result<_>>()?;
    tensors.rename(&names, &file.ignored)?;
    Ok(MappedModel {
        assembly,
        generation,
        tensors,
    })
}

/// The tensor that the file names for the parameter `name`.
fn find(folder: &Folder, file: &MappingFile, name: &str) -> Result<TensorPart> {
    let error =
        |what: &str| Error::model(what).at(format!("{}: tensors", MappingFile::path(folder)));
    let mut found = file.tensors.iter().filter_map(|(ours, theirs)| {
        let texts = matches(ours, name)?;
        Some((ours, fill(theirs, &texts)))
    });
    let Some((ours, theirs)) = found.next() else {
        return Err(error("a tensor of the model has no name in the mapping")
            .expected(format!("a name for `{name}`"))
            .found("none")
            .hint("`*` stands for the same text on both sides: \"encoder.layers.*.feed_forward.inner.*\" = \"enc.*.linear1.*\""));
    };
    if let Some((other, _)) = found.next() {
        return Err(error("a tensor of the model has two names in the mapping")
            .expected(format!("one name for `{name}`"))
            .found(format!("`{ours}` and `{other}`")));
    }
    theirs.as_deref().and_then(part).ok_or_else(|| {
        error("a name in the mapping cannot be read")
            .expected("a name with as many `*` as its partner, and at its end nothing or `[0/3]`")
            .found(format!("`{}` for `{ours}`", file.tensors[ours]))
    })
}

/// What each `*` of `pattern` stands for in `name`, which holds no point.
fn matches<'a>(pattern: &str, name: &'a str) -> Option<Vec<&'a str>> {
    let (pattern, name) = (pattern.split('.'), name.split('.'));
    if pattern.clone().count() != name.clone().count() {
        return None;
    }
    let mut texts = Vec::new();
    for (part, text) in pattern.zip(name) {
        match part {
            "*" => texts.push(text),
            _ if part == text => (),
            _ => return None,
        }
    }
    Some(texts)
}

/// `pattern` with `texts` in the place of each `*`.
fn fill(pattern: &str, texts: &[&str]) -> Option<String> {
    let mut parts = pattern.split('*');
    let mut filled = parts.next()?.to_string();
    for text in texts {
        filled.push_str(text);
        filled.push_str(parts.next()?);
    }
    parts.next().is_none().then_some(filled)
}

/// `NAME`, or `NAME[NUMBER/OF]`.
fn part(text: &str) -> Option<TensorPart> {
    let whole = |tensor: &str, number, of| TensorPart {
        tensor: tensor.to_string(),
        number,
        of,
    };
    let Some(rest) = text.strip_suffix(']') else {
        return Some(whole(text, 0, 1));
    };
    let (name, fraction) = rest.rsplit_once('[')?;
    let (number, of) = fraction.split_once('/')?;
    let (number, of) = (number.parse().ok()?, of.parse().ok()?);
    (number < of && of <= 1024).then(|| whole(name, number, of))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_are_filled_in_their_order() {
        let texts = matches("*.layers.*.norm.weight", "encoder.layers.3.norm.weight").unwrap();
        assert_eq!(texts, ["encoder", "3"]);
        assert_eq!(fill("t.*.l*.w", &texts).unwrap(), "t.encoder.l3.w");
        assert_eq!(fill("t.*.w", &texts), None);
        assert_eq!(fill("*.*.*", &texts), None);
        for (pattern, name) in [("a.*", "a.b.c"), ("a.*.d", "a.b.c"), ("*", "a.b")] {
            assert_eq!(matches(pattern, name), None);
        }
    }

    #[test]
    fn parts_of_tensors_are_read() {
        let found = part("a.in_proj[1/3]").unwrap();
        assert_eq!(
            (found.tensor.as_str(), found.number, found.of),
            ("a.in_proj", 1, 3)
        );
        assert_eq!(part("a").unwrap().of, 1);
        for wrong in ["a[3/3]", "a[1]", "a]", "a[x/3]", "a[0/0]", "a[-1/3]"] {
            assert_eq!(part(wrong), None, "{wrong}");
        }
    }
}
