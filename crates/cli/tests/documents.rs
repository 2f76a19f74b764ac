//! The documents name every flag of the commands that they explain, and no other.

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

/// The flags that the help of `commands` lists.
fn helped(commands: &[impl AsRef<str>]) -> BTreeSet<String> {
    let mut known = BTreeSet::new();
    for command in commands {
        let help = Command::new(env!("CARGO_BIN_EXE_hexapla"))
            .args(command.as_ref().split(' ').chain(["--help"]))
            .output()
            .unwrap();
        known.extend(flags(&String::from_utf8(help.stdout).unwrap()));
    }
    known.remove("help");
    known
}

fn documented(name: &str) -> BTreeSet<String> {
    let path = format!("{}/../../docs/{name}", env!("CARGO_MANIFEST_DIR"));
    flags(&std::fs::read_to_string(path).unwrap())
}

#[test]
fn every_flag_is_documented() {
    let using = ["translate", "score", "evaluate", "logits", "inspect"];
    assert_eq!(
        documented("translating.md"),
        helped(&using),
        "left: docs/translating.md; right: the program"
    );
    assert_eq!(
        documented("tokenizers.md"),
        helped(&["train", "encode", "decode", "stats"].map(|c| format!("tokenizer {c}"))),
        "left: docs/tokenizers.md; right: the program"
    );
    let formats = documented("formats.md");
    let missing: Vec<_> = helped(&["convert"]).difference(&formats).cloned().collect();
    assert_eq!(missing, ["threads"], "not in docs/formats.md");
    let encoders = ["embed", "similarity", "rerank", "classify", "tag", "fill"];
    for name in ["models.md", "models.zh.md"] {
        let models = documented(name);
        let missing: Vec<_> = helped(&encoders).difference(&models).cloned().collect();
        assert!(missing.is_empty(), "not in docs/{name}: {missing:?}");
    }
    let generating = documented("generating.md");
    let missing = helped(&["generate"]);
    let missing: Vec<_> = missing.difference(&generating).collect();
    assert_eq!(missing, ["threads"], "not in docs/generating.md");
    let explain = documented("explain.md");
    let search = documented("translating.md");
    let missing: Vec<_> = helped(&["explain", "heads"])
        .into_iter()
        .filter(|flag| !explain.contains(flag) && !search.contains(flag))
        .collect();
    assert!(missing.is_empty(), "not in docs/explain.md: {missing:?}");
    let documented = documented("training.md");
    let known = helped(&["train"]);
    let missing: Vec<_> = known.difference(&documented).collect();
    assert!(missing.is_empty(), "not in docs/training.md: {missing:?}");
}
