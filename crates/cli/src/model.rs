//! Opening models: a folder, or the one inside the program.

use std::path::Path;

use hexapla::config::ComputeType;
use hexapla::error::Result;
use hexapla::fastest;
use hexapla::files::Folder;
use hexapla::generate::translator::Translator;

use crate::console::say;

/// Bytes that start at a multiple of 64, so that products read weights where they lie in the program.
#[repr(C, align(64))]
struct Aligned<T: ?Sized>(T);

static WEIGHTS: &Aligned<[u8]> =
    &Aligned(*include_bytes!("../../../models/demo/model.safetensors"));

/// The files of `models/demo`.
const DEMO: &[(&str, &[u8])] = &[
    (
        "config.json",
        include_bytes!("../../../models/demo/config.json"),
    ),
    (
        "generation_config.json",
        include_bytes!("../../../models/demo/generation_config.json"),
    ),
    (
        "manifest.json",
        include_bytes!("../../../models/demo/manifest.json"),
    ),
    ("model.safetensors", &WEIGHTS.0),
    (
        "tokenizer.json",
        include_bytes!("../../../models/demo/tokenizer.json"),
    ),
    (
        "tokenizer_config.json",
        include_bytes!("../../../models/demo/tokenizer_config.json"),
    ),
];

/// The folder at `path`, or the one inside the program.
pub(crate) fn folder(path: Option<&Path>) -> Folder {
    path.map_or(Folder::Embedded(DEMO), Folder::from)
}

/// `compute_type`, or instead of `auto` the fastest here, which is told.
pub(crate) fn decided(compute_type: ComputeType) -> ComputeType {
    if compute_type != ComputeType::Auto {
        return compute_type;
    }
    let fastest = fastest::compute_type();
    say(format_args!("compute type: {fastest}"));
    fastest.chosen
}

/// The model in the folder at `path`, or the one inside the program.
pub(crate) fn open(path: Option<&Path>, compute_type: ComputeType) -> Result<Translator> {
    Translator::builder()
        .compute_type(decided(compute_type))
        .open(folder(path))
}

/// Ids of a source and of a target.
type IdPair = (Vec<u32>, Vec<u32>);

/// Those of `pairs` (source and target ids, as scored and aligned) that are not longer than `model` takes, and which they are.
pub(crate) fn that_fit(model: &Translator, pairs: Vec<IdPair>) -> (Vec<usize>, Vec<IdPair>) {
    let most = model.engine().max_tokens();
    let all = pairs.into_iter().enumerate();
    // The decoder reads the start token too.
    all.filter(|(_, (source, target))| source.len().max(target.len() + 1) <= most)
        .unzip()
}

#[cfg(test)]
mod tests {
    use hexapla::config::Recipe;
    use hexapla::formats::{self, Storage};

    use super::*;

    #[test]
    fn the_embedded_weights_are_aligned_and_in_int8() {
        assert_eq!(WEIGHTS.0.as_ptr() as usize % 64, 0);
        let model = formats::open(folder(None)).unwrap();
        assert_eq!(model.storage, Storage::Int8);
        // What is embedded is not checked at each start: it is here.
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/demo");
        let disk = Folder::from(&path);
        model.manifest.unwrap().verify(&disk).unwrap();
    }

    #[test]
    fn the_embedded_model_names_the_directions_of_its_recipe() {
        let manifest = formats::open(folder(None)).unwrap().manifest.unwrap();
        let recipe = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../recipes/demo.toml");
        let trained = Recipe::open(&recipe).unwrap().data.directions();
        assert_eq!(trained.len(), 4);
        assert_eq!(manifest.fields.directions, trained);
    }
}
