//! `hexapla train --demo`, cut down to a few steps: that it works, not what it learns.

use std::process::Command;

#[test]
fn the_demo_trains_saves_and_tests_itself() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("numbers");
    let hexapla = || Command::new(env!("CARGO_BIN_EXE_hexapla"));
    let out = hexapla()
        .args(["train", "--demo", "--max-steps", "5", "--output"])
        .arg(&model)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&out.stdout);
    let errors = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{errors}");
    for line in [
        "Chinese to English: ",
        "English to Chinese: ",
        "unseen numbers exactly right",
        "exact match %",
    ] {
        assert!(said.contains(line), "{said}");
    }
    for name in ["model.safetensors", "tokenizer.json", "report.html"] {
        assert!(model.join(name).exists(), "{name}");
    }
    // The folder is a model like any other.
    let out = hexapla()
        .args(["translate", "--model"])
        .arg(&model)
        .arg(">>en<< 一千二百")
        .output()
        .unwrap();
    assert!(
        out.status.success(),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
}
