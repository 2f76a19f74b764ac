//! `docs/translating.md` names every flag of the commands that it explains, and no other.

use std::collections::BTreeSet;
use std::process::Command;

/// The words in `text` that look like a long flag.
fn flags(text: &str) -> BTreeSet<String> {
    text.split("--")
        .skip(1)
        .filter_map(|rest| {
            rest.split(|c: char| !c.is_ascii_lowercase() && c != '-')
                .next()
        })
        .filter(|name| !name.is_empty() && !name.starts_with('-'))
        .map(String::from)
        .collect()
}

#[test]
fn every_flag_is_documented() {
    let document = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/translating.md");
    let documented = flags(&std::fs::read_to_string(document).unwrap());
    let mut known = BTreeSet::new();
    for command in ["translate", "score", "evaluate", "logits", "inspect"] {
        let help = Command::new(env!("CARGO_BIN_EXE_hexapla"))
            .args([command, "--help"])
            .output()
            .unwrap();
        let help = String::from_utf8(help.stdout).unwrap();
        known.extend(flags(&help));
    }
    known.remove("help");
    let missing: Vec<_> = known.difference(&documented).collect();
    assert!(
        missing.is_empty(),
        "not in docs/translating.md: {missing:?}"
    );
    let strange: Vec<_> = documented.difference(&known).collect();
    assert!(
        strange.is_empty(),
        "only in docs/translating.md: {strange:?}"
    );
}
