//! Files of tensors by themselves.

use serde_json::json;

use super::*;

#[test]
fn weights_in_several_files_open() {
    let folder = copy("marian_shared");
    let path = folder.path().join(WEIGHTS_FILE);
    let all = tensors_of(&path);
    let mut map = serde_json::Map::new();
    for (number, part) in all.chunks(all.len().div_ceil(2)).enumerate() {
        let file = format!("model-{number}.safetensors");
        map.extend(part.iter().map(|tensor| (tensor.name.clone(), json!(file))));
        write_all(&folder.path().join(file), part);
    }
    fs::remove_file(&path).unwrap();
    let index = |map: &serde_json::Map<String, Value>| {
        fs::write(
            folder.path().join(INDEX_FILE),
            json!({"weight_map": map}).to_string(),
        )
        .unwrap();
    };
    index(&map);
    let model = open(folder.path()).unwrap();
    assert_eq!(
        model.weights().unwrap(),
        open(&golden("marian_shared")).unwrap().weights().unwrap()
    );

    let mut wrong = map.clone();
    wrong.insert("absent".into(), json!("model-0.safetensors"));
    index(&wrong);
    assert!(refusal(folder.path()).contains("`absent`"));
    wrong.insert("absent".into(), json!("../model.safetensors"));
    index(&wrong);
    assert!(refusal(folder.path()).contains("../model.safetensors"));
    fs::copy(
        folder.path().join("model-0.safetensors"),
        folder.path().join("model-2.safetensors"),
    )
    .unwrap();
    map.insert("absent".into(), json!("model-2.safetensors"));
    index(&map);
    assert!(refusal(folder.path()).contains("in two files"));
}

/// A safetensors file of one tensor, written by hand.
fn by_hand(header: &str, data: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.safetensors");
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.extend(data);
    fs::write(&path, bytes).unwrap();
    (folder, path)
}

#[test]
fn halves_are_widened_exactly() {
    let read = |dtype: &str, words: [u16; 3]| {
        let header = format!(r#"{{"t":{{"dtype":"{dtype}","shape":[3],"data_offsets":[0,6]}}}}"#);
        let data: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
        let (_folder, path) = by_hand(&header, &data);
        TensorStore::open_file(&path)
            .unwrap()
            .read("t", &[3])
            .unwrap()
    };
    assert_eq!(
        read("F16", [0x3C00, 0xC000, 0x0001]),
        [1.0, -2.0, 2.0f32.powi(-24)]
    );
    assert_eq!(
        read("BF16", [0x3F80, 0xC000, 0x3DCD]),
        [1.0, -2.0, 0.100097656]
    );
    let (_folder, path) = by_hand(
        r#"{"t":{"dtype":"I16","shape":[3],"data_offsets":[0,6]}}"#,
        &[0; 6],
    );
    let e = TensorStore::open_file(&path)
        .unwrap()
        .read("t", &[3])
        .unwrap_err()
        .to_string();
    assert!(e.contains("`t`") && e.contains("I16"), "{e}");
}

#[test]
fn damaged_headers_are_refused() {
    for (header, data, what) in [
        (
            r#"{"t":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#,
            4,
            "bytes",
        ),
        (
            r#"{"t":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#,
            9,
            "bytes",
        ),
        (
            r#"{"t":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}"#,
            8,
            "header",
        ),
        (
            r#"{"t":{"dtype":"F32","shape":[4294967296,4294967296,4],"data_offsets":[0,8]}}"#,
            8,
            "header",
        ),
        (
            r#"{"t":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}}"#,
            8,
            "header",
        ),
        (
            r#"{"t":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}"#,
            12,
            "header",
        ),
        (
            r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}"#,
            12,
            "header",
        ),
        (
            r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#,
            8,
            "header",
        ),
        (r#"{"t":"#, 0, "header"),
    ] {
        let (_folder, path) = by_hand(header, &vec![0; data]);
        let e = TensorStore::open_file(&path).unwrap_err().to_string();
        assert!(
            e.contains("damaged") && e.contains(what) && e.contains("x.safetensors"),
            "{header}: {e}"
        );
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x");
    for bytes in [&[][..], &[1; 7], &[255; 8], &[255; 64]] {
        fs::write(&path, bytes).unwrap();
        assert!(
            TensorStore::open_file(&path)
                .unwrap_err()
                .to_string()
                .contains("damaged")
        );
    }
}
