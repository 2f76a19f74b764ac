//! `cargo xtask test`: every test, with what the tests against other programs need.

use std::process::{Command, Stdio};

use crate::{Result, page, python, root};

#[derive(Debug, clap::Args)]
pub(crate) struct TestArgs {
    /// Skip the tests against Python packages.
    #[arg(long)]
    no_python: bool,
    /// Skip the tests of the page, which need Node and a browser.
    #[arg(long)]
    no_page: bool,
}

pub(crate) fn run(args: &TestArgs) -> Result<()> {
    let mut command = Command::new(env!("CARGO"));
    command.current_dir(root()).args(["test", "--workspace"]);
    match root().join("../shared/data").canonicalize() {
        Ok(data) => {
            command.env("HEXAPLA_DATA", data);
        }
        Err(_) => println!("no ../shared/data: the tests that read it are skipped"),
    }
    if !args.no_python {
        match python::with(&python::TEST) {
            Ok(python) => {
                command.env("HEXAPLA_PYTHON", python);
                command.env("HEXAPLA_CLIENTS", python::with(&python::CLIENTS)?);
                command.env("HEXAPLA_FRAMEWORKS", python::with(&python::FRAMEWORKS)?);
                command.args(["--", "--include-ignored"]);
            }
            Err(e) => {
                println!("no Python packages here ({e}): the tests against them are skipped");
            }
        }
    }
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .map_err(|e| format!("cannot run cargo: {e}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    print!("{text}");
    let page = match args.no_page {
        true => [0, 0, 1],
        false => page::test()?,
    };
    let all = totals(&text);
    let [passed, failed, ignored] = std::array::from_fn(|i| all[i] + page[i]);
    println!("{passed} passed, {failed} failed, {ignored} skipped");
    if output.status.success() && failed == 0 {
        Ok(())
    } else {
        Err("the tests did not pass".into())
    }
}

/// Tests passed, failed and ignored, over all of cargo's summaries in `text`.
fn totals(text: &str) -> [u64; 3] {
    let mut totals = [0; 3];
    for line in text.lines().filter(|l| l.starts_with("test result:")) {
        for (total, word) in totals.iter_mut().zip(["passed", "failed", "ignored"]) {
            let number = line
                .split(&format!(" {word}"))
                .next()
                .and_then(|l| l.rsplit(' ').next());
            *total += number.and_then(|n| n.parse::<u64>().ok()).unwrap_or(0);
        }
    }
    totals
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summaries_are_added_up() {
        let text = "running 3 tests\ntest result: ok. 3 passed; 0 failed; 1 ignored; 0 measured\n\
                    test result: FAILED. 10 passed; 2 failed; 0 ignored; 0 measured\n";
        assert_eq!(totals(text), [13, 2, 1]);
        assert_eq!(totals("nothing ran"), [0, 0, 0]);
    }
}
