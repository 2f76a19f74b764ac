//! `--from` and `--to` with the model inside the program.

use std::process::{Command, Output};

fn translate(args: &[&str], text: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_hexapla"))
        .arg("translate")
        .args(args)
        .arg(text)
        .output()
        .unwrap()
}

#[test]
fn a_direction_that_was_not_trained_is_refused() {
    for (from, to) in [("zh", "de"), ("de", "zh")] {
        let out = translate(&["--from", from, "--to", to], "Guten Morgen.");
        let errors = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(1), "{errors}");
        assert!(out.stdout.is_empty());
        for part in [
            "--from and --to",
            "one of de-en, en-de, en-zh, zh-en",
            &format!("`{from}-{to}`"),
        ] {
            assert!(errors.contains(part), "{part}: {errors}");
        }
    }
}

#[test]
fn lines_in_a_language_that_was_not_trained_are_counted() {
    let text = "Where is the station?\n车站在哪里？\n\nIch bin sehr müde.";
    let out = translate(&["--to", "de"], text);
    let errors = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{errors}");
    assert_eq!(String::from_utf8_lossy(&out.stdout).lines().count(), 4);
    assert!(errors.contains("note: 2 lines"), "{errors}");
    assert!(errors.contains("line 2, `zh`"), "{errors}");

    let quiet = translate(&["--from", "en", "--to", "de"], text);
    assert!(quiet.status.success() && quiet.stderr.is_empty());
}
