//! `cargo xtask api`: the library's public items, one a line, as `crates/hexapla/public-api.txt` keeps them.

use std::process::Command;

use crate::{Result, root, succeed, write_whole};

/// Where the list is kept.
const LIST: &str = "crates/hexapla/public-api.txt";

#[derive(Debug, clap::Args)]
pub(crate) struct ApiArgs {
    /// Compare with the list that is kept, and write nothing.
    #[arg(long)]
    check: bool,
}

pub(crate) fn run(args: &ApiArgs) -> Result<()> {
    let target = root().join("target/api");
    let mut rustdoc = Command::new(env!("CARGO"));
    rustdoc.current_dir(root());
    rustdoc.args(["rustdoc", "--quiet", "--package", "hexapla", "--lib"]);
    rustdoc.arg("--target-dir").arg(&target);
    rustdoc.args(["--", "-Z", "unstable-options", "--output-format", "json"]);
    // rustdoc's JSON is an unstable form of its output, which a stable compiler writes where it is told to.
    succeed(rustdoc.env("RUSTC_BOOTSTRAP", "1"))?;
    let api = public_api::Builder::from_rustdoc_json(target.join("doc/hexapla.json"))
        .omit_blanket_impls(true)
        .omit_auto_trait_impls(true)
        .omit_auto_derived_impls(true)
        .build()
        .map_err(|e| format!("cannot read what this compiler's rustdoc wrote: {e}"))?;
    let found: String = api.items().map(|item| format!("{item}\n")).collect();
    let path = root().join(LIST);
    if !args.check {
        return write_whole(&path, &found);
    }
    let kept = std::fs::read_to_string(&path)
        .map_err(|e| format!("cannot read {}: {e}", path.display()))?;
    match difference(&kept, &found) {
        difference if difference.is_empty() => Ok(()),
        difference => Err(format!(
            "the public items of the library have changed:\n{difference}\
             `cargo xtask api` writes {LIST} anew; say in CHANGELOG what callers have to change"
        )),
    }
}

/// Lines of `kept` that are gone, and those of `found` that are new.
fn difference(kept: &str, found: &str) -> String {
    let only = |sign, these: &str, others: &str| -> String {
        let others: std::collections::BTreeSet<&str> = others.lines().collect();
        let lines = these.lines().filter(|line| !others.contains(line));
        lines.map(|line| format!("{sign} {line}\n")).collect()
    };
    only('-', kept, found) + &only('+', found, kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_gone_and_what_is_new_is_told() {
        assert_eq!(difference("a\nb\nc\n", "a\nc\nd\n"), "- b\n+ d\n");
        assert_eq!(difference("a\n", "a\n"), "");
    }
}
