//! What every released version wrote is opened by this one: model folders, recipes, trainings that were stopped on the way.
//! `xtask/reference/release.sh` made the folders below `releases`, and says what each holds.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const VERSIONS: [&str; 1] = ["0.1.0"];

fn release(version: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/releases")
        .join(version)
}

/// Runs the program in the folder of a release.
fn hexapla(version: &str, args: &[&str]) -> Output {
    let out = Command::new(env!("CARGO_BIN_EXE_hexapla"))
        .args(args)
        .current_dir(release(version))
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{version} {args:?}: {errors}");
    out
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (path, to) = {
            let entry = entry.unwrap();
            (entry.path(), to.join(entry.file_name()))
        };
        if path.is_dir() {
            copy(&path, &to);
        } else {
            fs::copy(&path, to).unwrap();
        }
    }
}

/// The columns of `translate --scores`.
fn columns(line: &str) -> (f64, f64, &str) {
    let mut columns = line.split('\t');
    let mut next = || columns.next().unwrap();
    let scores = (next().parse().unwrap(), next().parse().unwrap());
    (scores.0, scores.1, next())
}

#[test]
fn models_translate_as_they_did() {
    for version in VERSIONS {
        for name in ["marian", "m2m_100", "hexapla", "int8"] {
            let model = format!("{name}/model");
            let args = [
                "translate",
                "--model",
                &model,
                "--input",
                "lines.txt",
                "--scores",
            ];
            let now = String::from_utf8(hexapla(version, &args).stdout).unwrap();
            let file = release(version).join(name).join("translations.txt");
            let then = fs::read_to_string(file).unwrap();
            assert_eq!(now.lines().count(), then.lines().count());
            for (now, then) in now
                .lines()
                .zip(then.lines())
                .map(|(a, b)| (columns(a), columns(b)))
            {
                assert_eq!(now.2, then.2, "{version} {name}");
                let far = (now.0 - then.0).abs().max((now.1 - then.1).abs());
                assert!(far < 1e-4, "{version} {name}: {now:?} {then:?}");
            }
            let inspected = hexapla(version, &["inspect", &model]);
            let said = String::from_utf8(inspected.stdout).unwrap();
            assert!(said.contains("all as written"), "{said}");
        }
    }
}

#[test]
fn trainings_go_on_bit_for_bit() {
    for version in VERSIONS {
        for name in ["marian", "m2m_100", "hexapla"] {
            let folder = tempfile::tempdir().unwrap();
            let output = folder.path().join("model");
            copy(&release(version).join(name).join("stopped"), &output);
            let recipe = format!("{name}.toml");
            let output = output.to_str().unwrap();
            let out = hexapla(version, &["train", "--config", &recipe, "--output", output]);
            let said = String::from_utf8_lossy(&out.stderr);
            assert!(said.contains("going on after step 30"), "{said}");
            let now = fs::read_to_string(Path::new(output).join("training/log.jsonl")).unwrap();
            let then = fs::read_to_string(release(version).join(name).join("log.jsonl")).unwrap();
            assert!(now == then, "{version} {name}: another curve");
        }
    }
}

#[test]
fn recipes_are_read() {
    for version in VERSIONS {
        for name in ["marian", "m2m_100", "hexapla"] {
            let folder = tempfile::tempdir().unwrap();
            let output = folder.path().join("model");
            let output = output.to_str().unwrap();
            let recipe = format!("{name}.toml");
            let args = [
                "train",
                "--config",
                &recipe,
                "--max-steps",
                "2",
                "--output",
                output,
            ];
            hexapla(version, &args);
        }
    }
}
