//! What `inspect` tells of a folder, and of all that is refused in it at once.

mod common;

use std::fs;
use std::path::Path;

use common::TestDir;

/// A golden folder of the library as `model`.
fn dir(golden: &str) -> TestDir {
    let dir = TestDir::new();
    let from = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../hexapla/tests/golden")
        .join(golden);
    fs::create_dir(dir.path("model")).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), dir.path("model").join(entry.file_name())).unwrap();
    }
    dir
}

#[test]
fn models_of_marians_own_are_told_and_their_tensors_listed() {
    let dir = dir("marian_apart");
    let (told, _) = dir.accept("inspect model --tensors");
    for part in [
        "marian-nmt",
        "2 encoder, 2 decoder",
        "model.npz.decoder.yml (50 and 50 tokens)",
        "decoder.layers.1.cross_attention.query.weight [32, 32]",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
    // A file of weights, by its own names.
    let (told, _) = dir.accept("inspect model/model.npz");
    let tensor = "decoder_l2_context_Wq    [32, 32]";
    assert!(told.contains(tensor), "{told}");
}

#[test]
fn all_that_is_refused_is_told_at_once() {
    let dir = dir("marian_tied");
    dir.write("model/vocab.spm", "no model");
    let mut npz = fs::read(dir.path("model/model.npz")).unwrap();
    let old = b"transformer-pool: false";
    let start = npz.windows(old.len()).position(|w| w == old).unwrap();
    npz[start..start + old.len()].copy_from_slice(b"transformer-pool: 1    ");
    let old = b"ulr: false";
    let start = npz.windows(old.len()).position(|w| w == old).unwrap();
    npz[start..start + old.len()].copy_from_slice(b"ulr: true ");
    fs::write(dir.path("model/model.npz"), npz).unwrap();
    let told = dir.refuse("inspect model");
    for part in ["transformer-pool", "ulr", "vocab.spm"] {
        assert!(told.contains(part), "{part}: {told}");
    }
    // Tensors that do not fit are counted.
    let dir = self::dir("bart_small");
    let config = dir.read("model/config.json");
    let width = "\"decoder_ffn_dim\": ";
    let (before, after) = config.split_once(width).unwrap();
    let (_, after) = after.split_once(',').unwrap();
    dir.write("model/config.json", format!("{before}{width}7,{after}"));
    let told = dir.refuse("inspect model");
    assert!(
        told.contains("fc1.weight") && told.contains("Further tensors that do not fit"),
        "{told}"
    );
}

#[test]
fn a_mapping_that_does_not_fit_is_refused_by_name() {
    let dir = dir("ruaccent");
    let told = dir.refuse("inspect model");
    assert!(told.contains("acc_model.pt"), "{told}");
    let mapping = dir.read("model/mapping.toml");
    for (old, new, part) in [
        ("format_version = 1", "format_version = 2", "format_version"),
        ("linear = ", "linaer = ", "linaer"),
        ("norm = \"post\"", "norm = \"past\"", "past"),
        ("d_model = 256\n", "", "d_model"),
        ("characters = ", "letters = ", "letters"),
        ("\"acc_model.pt\"", "\"../acc_model.pt\"", "in this folder"),
    ] {
        assert!(mapping.contains(old), "{old}");
        dir.write("model/mapping.toml", mapping.replacen(old, new, 1));
        let told = dir.refuse("inspect model");
        assert!(
            told.contains(part) && told.contains("mapping.toml"),
            "{old}: {told}"
        );
    }
}
