//! Weights in int8 and in int4: the same model as the floats that they come from, used where they lie.

use hexapla_kernels::{Matrix, MatrixMut, Plus};
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::config::ComputeType;
use crate::files::Folder;
use crate::packed::{PackedProduct, PackedWeights, Value as PackedValue};
use crate::random::SplitMix;

/// The folder `from` stored in int8.
fn stored(from: &Path) -> (tempfile::TempDir, PathBuf) {
    stored_as(ComputeType::Int8, from)
}

/// The folder `from` stored in integers of `compute_type`.
fn stored_as(compute_type: ComputeType, from: &Path) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("integers");
    let model = open(from).unwrap();
    let job = ConvertModel {
        model: &model,
        around: None,
        compute_type,
        replace: false,
    };
    convert(&job, &path).unwrap();
    (folder, path)
}

/// What every matrix of `packed` makes of the same rows, and all vectors: bit by bit.
fn outputs(packed: &PackedWeights) -> Vec<u32> {
    let mut random = SplitMix(7);
    let mut all = Vec::new();
    for (parameter, value) in packed.parameters() {
        let id = packed.index().find(&parameter.name).unwrap();
        let (rows, columns) = match value {
            PackedValue::Plain(numbers) => {
                all.extend(numbers.iter().map(|v| v.to_bits()));
                continue;
            }
            PackedValue::Int8(m) => (m.rows(), m.columns()),
            PackedValue::Int4(m) => (m.rows(), m.columns()),
            PackedValue::Float(_) => match (parameter.kind, &parameter.shape[..]) {
                (Kind::Table(_), [columns, rows]) | (_, [rows, columns]) => (*rows, *columns),
                _ => panic!("{}", parameter.name),
            },
        };
        let x: Vec<f32> = (0..3 * rows).map(|_| random.normal()).collect();
        let mut y = vec![0.0; 3 * columns];
        let to = MatrixMut::new(&mut y, 3, columns, columns);
        let product = PackedProduct {
            id,
            y: to,
            epilogue: Plus::Nothing.into(),
        };
        packed.multiply(false, Matrix::new(&x, 3, rows, rows), [product]);
        all.extend(y.iter().map(|v| v.to_bits()));
    }
    all
}

fn numbers(bits: &[u32]) -> Vec<f32> {
    bits.iter().map(|b| f32::from_bits(*b)).collect()
}

#[test]
fn a_stored_model_computes_what_the_floats_in_its_integers_compute() {
    for name in GOLDEN {
        for (compute_type, storage, tolerance) in [
            (ComputeType::Int8, Storage::Int8, 0.02),
            (ComputeType::Int4, Storage::Int4, 0.15),
        ] {
            stored_is_the_same(name, (compute_type, storage), tolerance);
        }
    }
}

fn stored_is_the_same(name: &str, of: (ComputeType, Storage), tolerance: f32) {
    let floats = open(&golden(name)).unwrap();
    let (_folder, path) = stored_as(of.0, &golden(name));
    let integers = open(&path).unwrap();
    assert_eq!((integers.storage, floats.storage), (of.1, Storage::Float));
    assert_eq!(integers.assembly, floats.assembly, "{name}");
    assert_eq!(integers.generation, floats.generation, "{name}");
    let expected = outputs(&floats.pack(of.0).unwrap());
    for compute_type in [of.0, ComputeType::Default] {
        let found = outputs(&integers.pack(compute_type).unwrap());
        assert!(expected == found, "{name} {compute_type:?}");
    }
    // What the integers stand for, in floats.
    let again = PackedWeights::new(&integers.weights().unwrap(), ComputeType::Float32);
    let float32 = integers.pack(ComputeType::Float32).unwrap();
    assert!(outputs(&again) == outputs(&float32), "{name}");
    let exact = numbers(&outputs(&floats.pack(ComputeType::Float32).unwrap()));
    let largest = exact.iter().fold(0.0f32, |m, v| m.max(v.abs()));
    // And in the other integers.
    for other in [ComputeType::Float32, ComputeType::Int8, ComputeType::Int4] {
        let tolerance = match other {
            ComputeType::Int4 => 0.15,
            _ => tolerance,
        };
        let near = numbers(&outputs(&integers.pack(other).unwrap()));
        for (a, b) in exact.iter().zip(near) {
            assert!(
                (a - b).abs() < tolerance * largest,
                "{name} {of:?} {other}: {a} {b}"
            );
        }
    }
}

#[test]
fn every_kind_of_embedding_is_stored() {
    for norm in [Norm::Post, Norm::Pre] {
        for (share, tie) in [(true, true), (true, false), (false, true), (false, false)] {
            for positions in [small(norm).positions, Positions::Learned] {
                let config = TransformerConfig {
                    share_embeddings: share,
                    tie_output: tie,
                    positions,
                    ..small(norm)
                };
                let (folder, weights) = saved(&config);
                let (_folder, path) = stored(folder.path());
                let model = open(&path).unwrap();
                assert_eq!(*model.encoder_decoder().unwrap(), config);
                let expected = outputs(&PackedWeights::new(&weights, ComputeType::Int8));
                assert!(expected == outputs(&model.pack(ComputeType::Int8).unwrap()));
            }
        }
    }
}

#[test]
fn the_file_holds_the_bytes_as_they_are_read_from_a_multiple_of_64_on() {
    let (_folder, path) = stored(&golden("m2m_untied"));
    let model = open(&path).unwrap();
    let packed = model.pack(ComputeType::Int8).unwrap();
    let bytes = fs::read(path.join(WEIGHTS_FILE)).unwrap();
    let header = 8 + u64::from_le_bytes(*bytes.first_chunk().unwrap()) as usize;
    assert_eq!(header % 64, 0);
    let matrices = packed.parameters().filter_map(|(_, value)| match value {
        PackedValue::Int8(m) => Some(m),
        _ => None,
    });
    let mut end = header;
    for matrix in matrices {
        let line: Vec<u8> = matrix.stored_bytes().flatten().collect();
        assert!(bytes[end..end + line.len()] == line[..]);
        end += line.len();
    }
    assert!(end > bytes.len() / 2);
}

#[test]
fn a_stored_model_goes_with_its_files_and_its_story() {
    let config = small(Norm::Post);
    let weights = Weights::random(register(&config).unwrap(), 5);
    let folder = tempfile::tempdir().unwrap();
    let from = folder.path().join("floats");
    save_as(&from, &config, &weights, &GenerationDefaults::default());
    let (_folder, path) = stored(&from);
    let model = open(&path).unwrap();
    let manifest = model.manifest.as_ref().unwrap();
    assert_eq!(manifest.fields.seed, Some(3));
    assert!(manifest.fields.notes["weights"].starts_with("int8, converted from floats of SHA-256"));
    assert_eq!(fs::read(path.join("tokenizer.json")).unwrap(), b"{}");
    manifest.verify(&Folder::from(&path)).unwrap();
    model.verify().unwrap();
    // And back to floats, which are those that the bytes stand for.
    let back = folder.path().join("back");
    let job = |compute_type| ConvertModel {
        model: &model,
        around: None,
        compute_type,
        replace: false,
    };
    convert(&job(ComputeType::Float32), &back).unwrap();
    let floats = open(&back).unwrap();
    assert_eq!(floats.storage, Storage::Float);
    assert!(floats.weights().unwrap() == model.weights().unwrap());
    let e = convert(&job(ComputeType::Float32), &back)
        .unwrap_err()
        .to_string();
    assert!(
        e.contains("holds a model") && e.contains("--replace"),
        "{e}"
    );
    // Replacing another model, whose card goes; what is no part of it stays.
    fs::write(back.join("README.md"), "the former").unwrap();
    fs::write(back.join("notes.txt"), "mine").unwrap();
    let replace = ConvertModel {
        replace: true,
        ..job(ComputeType::Float32)
    };
    convert(&replace, &back).unwrap();
    assert!(!back.join("README.md").exists() && back.join("notes.txt").exists());
    let e = convert(&job(ComputeType::Bf16), &folder.path().join("other"))
        .unwrap_err()
        .to_string();
    assert!(
        e.contains("int8, int4 or float32") && e.contains("bf16"),
        "{e}"
    );
    let e = convert(&job(ComputeType::Int8), &path)
        .unwrap_err()
        .to_string();
    assert!(e.contains("own folder"), "{e}");
}

/// What opening a damaged copy of an int8 folder says. Without its manifest, where `checked` is false.
fn damaged(checked: bool, damage: impl FnOnce(&Path)) -> String {
    let (_folder, path) = stored(&golden("marian_shared"));
    if !checked {
        fs::remove_file(path.join(MANIFEST_FILE)).unwrap();
    }
    damage(&path);
    match open(&path).and_then(|model| model.pack(ComputeType::Int8)) {
        Ok(_) => "opens".into(),
        Err(e) => e.to_string(),
    }
}

/// Changes the header of the weights, which stays as long as it is.
fn edit_header(path: &Path, change: impl FnOnce(String) -> String) {
    let file = path.join(WEIGHTS_FILE);
    let mut bytes = fs::read(&file).unwrap();
    let size = u64::from_le_bytes(*bytes.first_chunk().unwrap()) as usize;
    let header = String::from_utf8(bytes[8..8 + size].to_vec()).unwrap();
    let new = change(header.trim_end().to_string());
    assert!(new.len() <= size);
    bytes[8..8 + size].fill(b' ');
    bytes[8..8 + new.len()].copy_from_slice(new.as_bytes());
    fs::write(&file, bytes).unwrap();
}

#[test]
fn damage_is_noticed() {
    let flip_last = |path: &Path, bits: u8| {
        let file = path.join(WEIGHTS_FILE);
        let mut bytes = fs::read(&file).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= bits;
        fs::write(&file, bytes).unwrap();
    };
    assert_eq!(damaged(true, |_| ()), "opens");
    let e = damaged(true, |path| flip_last(path, 1));
    assert!(
        e.contains("model.safetensors") && e.contains("CRC-32"),
        "{e}"
    );
    // Nobody to notice: other numbers, and no more.
    assert_eq!(damaged(false, |path| flip_last(path, 1)), "opens");
    let e = damaged(true, |path| {
        change(path, "config.json", |map| {
            drop(map.insert("dropout".into(), json!(0.2)))
        })
    });
    assert!(e.contains("config.json") && e.contains("SHA-256"), "{e}");
    let e = damaged(false, |path| {
        let file = fs::OpenOptions::new()
            .write(true)
            .open(path.join(WEIGHTS_FILE));
        let file = file.unwrap();
        file.set_len(file.metadata().unwrap().len() - 1).unwrap();
    });
    assert!(e.contains("damaged") && e.contains("bytes"), "{e}");
    for (from, to, says) in [
        (
            "fc1.weight.scales",
            "fc1.weight.scaled",
            "fc1.weight.scales",
        ),
        ("\"I8\"", "\"U8\"", "expected: I8"),
        ("\"I32\"", "\"U32\"", "expected: I32"),
    ] {
        let e = damaged(false, |path| {
            edit_header(path, |header| header.replacen(from, to, 1))
        });
        assert!(e.contains(says), "{from}: {e}");
    }
}

#[test]
fn scales_that_are_no_numbers_are_refused() {
    for bad in [f32::NAN, f32::INFINITY, -1.0] {
        let e = damaged(false, |path| {
            let file = path.join(WEIGHTS_FILE);
            let store = TensorStore::open_file(&file).unwrap();
            let name = "model.encoder.layers.1.fc1.weight.scales";
            let old = store.read(name, &[40]).unwrap();
            let find: Vec<u8> = old.iter().flat_map(|v| v.to_le_bytes()).collect();
            let mut bytes = fs::read(&file).unwrap();
            let offset = bytes.windows(find.len()).position(|w| w == find).unwrap();
            bytes[offset + 8..offset + 12].copy_from_slice(&bad.to_le_bytes());
            fs::write(&file, bytes).unwrap();
        });
        assert!(
            e.contains("fc1.weight.scales") && e.contains("finite"),
            "{e}"
        );
    }
    let folder = copy("marian_shared");
    let path = folder.path().join(WEIGHTS_FILE);
    let mut tensors = tensors_of(&path);
    let tensor = tensors.iter_mut().find(|t| t.shape == [40, 24]).unwrap();
    tensor.data[25] = f32::NAN;
    let name = tensor.name.clone();
    write_all(&path, &tensors);
    let model = open(folder.path()).unwrap();
    let job = ConvertModel {
        model: &model,
        around: None,
        compute_type: ComputeType::Int8,
        replace: false,
    };
    let to = folder.path().join("new");
    let e = convert(&job, &to).unwrap_err().to_string();
    assert!(e.contains(&name) && e.contains("number 1"), "{e}");
    assert!(!to.exists());
}

#[test]
fn other_storages_are_refused() {
    for (setting, says) in [
        (
            json!({"quant_method": "hexapla", "weights": "int8", "layout": 2}),
            "newer hexapla",
        ),
        (
            json!({"quant_method": "hexapla", "weights": "int3", "layout": 1}),
            "newer hexapla",
        ),
        (json!({"quant_method": "gptq", "bits": 4}), "gptq"),
        (json!("int8"), "int8"),
    ] {
        let e = damaged(false, |path| {
            change(path, "config.json", |map| {
                drop(map.insert("quantization_config".into(), setting))
            })
        });
        assert!(e.contains("quantization_config") && e.contains(says), "{e}");
    }
    // Int8 bytes without the setting are not taken for numbers.
    let e = damaged(false, |path| {
        change(path, "config.json", |map| {
            drop(map.remove("quantization_config"))
        })
    });
    assert!(e.contains("wrong shape"), "{e}");
    // Nor floats with it.
    let folder = copy("marian_shared");
    change(folder.path(), "config.json", |map| {
        let setting = json!({"quant_method": "hexapla", "weights": "int8", "layout": 1});
        drop(map.insert("quantization_config".into(), setting))
    });
    let e = refusal(folder.path());
    assert!(
        e.contains("wrong shape") && e.contains("model.shared.weight"),
        "{e}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// Whatever happens to the bytes: an error, or a model that computes something, never a panic.
    #[test]
    fn damaged_weights_never_panic(seed: u64, cut: bool, header: bool) {
        let folder = tempfile::tempdir().unwrap();
        for file in fs::read_dir(shared_copy(seed.is_multiple_of(2))).unwrap().flatten() {
            fs::copy(file.path(), folder.path().join(file.file_name())).unwrap();
        }
        let path = folder.path().join(WEIGHTS_FILE);
        let mut bytes = fs::read(&path).unwrap();
        let mut random = SplitMix(seed);
        let most = if header { 6000 } else { bytes.len() };
        for _ in 0..=random.below(4) {
            let offset = random.below(most);
            bytes[offset] = random.next_u64() as u8;
        }
        if cut {
            bytes.truncate(random.below(bytes.len()));
        }
        fs::write(&path, bytes).unwrap();
        for compute_type in [ComputeType::Int8, ComputeType::Int4, ComputeType::Float32] {
            if let Ok(packed) = open(folder.path()).and_then(|m| m.pack(compute_type)) {
                outputs(&packed);
            }
        }
    }
}

/// A folder in int4 or in int8 without a manifest, made once.
fn shared_copy(int4: bool) -> &'static Path {
    type Copy = (tempfile::TempDir, PathBuf);
    static COPIES: std::sync::OnceLock<[Copy; 2]> = std::sync::OnceLock::new();
    let copies = COPIES.get_or_init(|| {
        [ComputeType::Int8, ComputeType::Int4].map(|compute_type| {
            let made = stored_as(compute_type, &golden("marian_old"));
            fs::remove_file(made.1.join(MANIFEST_FILE)).unwrap();
            made
        })
    });
    &copies[usize::from(int4)].1
}
