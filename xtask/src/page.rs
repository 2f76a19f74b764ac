//! `cargo xtask page`: the page of `hexapla explain`, built from the folder `page` into the one file that the library holds; and its
//! tests, some of them in a browser.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::{Result, debian, root, succeed};

#[derive(Debug, clap::Args)]
pub(crate) struct PageArgs {
    /// Build it elsewhere and compare it with the file that is there.
    #[arg(long)]
    check: bool,
    /// Take the README's picture of it anew.
    #[arg(long)]
    picture: bool,
}

/// Tests passed, failed and skipped.
pub(crate) type Totals = [u64; 3];

/// Where Debian has its browser.
const CHROMIUM: &str = "/usr/bin/chromium";
/// The browser, and letters for Chinese.
const PACKAGES: [&str; 2] = ["chromium", "fonts-noto-cjk"];

pub(crate) fn run(args: &PageArgs) -> Result<()> {
    install()?;
    match (args.check, args.picture) {
        (true, _) => compare(),
        (_, true) => picture(),
        _ => build(&built()),
    }
}

/// The file that the library is compiled with.
fn built() -> PathBuf {
    root().join("crates/hexapla/src/explain/page.html")
}

/// A tool of the page's own packages, to be run in its folder.
fn tool(name: &str) -> Command {
    let folder = root().join("page");
    let mut command = Command::new(folder.join("node_modules/.bin").join(name));
    command.current_dir(folder);
    command
}

/// Installs what package-lock.json pins, if it is not there.
fn install() -> Result<()> {
    let folder = root().join("page");
    let lock = std::fs::read_to_string(folder.join("package-lock.json"))
        .map_err(|e| format!("cannot read page/package-lock.json: {e}"))?;
    let stamp = folder.join("node_modules/.hexapla");
    if std::fs::read_to_string(&stamp).is_ok_and(|there| there == lock) {
        return Ok(());
    }
    println!("installing the packages of page/package-lock.json");
    succeed(
        Command::new("npm")
            .args(["ci", "--no-audit", "--no-fund"])
            .env("PLAYWRIGHT_SKIP_BROWSER_DOWNLOAD", "1")
            .current_dir(&folder),
    )?;
    std::fs::write(&stamp, lock).map_err(|e| format!("cannot write {}: {e}", stamp.display()))
}

fn build(output: &Path) -> Result<()> {
    succeed(
        tool("vite")
            .args(["build", "--logLevel", "warn"])
            .env("PAGE_OUTPUT", output),
    )
}

/// Takes the README's picture, with the program as it was built last.
fn picture() -> Result<()> {
    succeed(
        tool("vitest")
            .args(["run", "tests/browser.test.ts", "-t", "a picture"])
            .env("HEXAPLA_PICTURE", root().join("docs/explain.png")),
    )
}

/// The file is what its sources make.
fn compare() -> Result<()> {
    let output = root().join("target/page.html");
    build(&output)?;
    let read = |path: &Path| {
        std::fs::read(path).map_err(|e| format!("cannot read {}: {e}", path.display()))
    };
    match read(&output)? == read(&built())? {
        true => Ok(()),
        false => Err(format!(
            "{} is not what the folder page makes: run cargo xtask page",
            built().display()
        )),
    }
}

/// Checks the page's types, compares it with its sources, and runs its tests; where there is no Node or no browser, fewer of them.
pub(crate) fn test() -> Result<Totals> {
    let node = Command::new("node").arg("--version").output();
    let version = node.map(|o| String::from_utf8_lossy(&o.stdout).trim().to_string());
    let major = version.as_deref().ok().and_then(|version| {
        let (major, _) = version.strip_prefix('v')?.split_once('.')?;
        major.parse::<u32>().ok()
    });
    if major.is_none_or(|major| major < 20) {
        println!("no Node 20 here: the page's tests are skipped");
        return Ok([0, 0, 1]);
    }
    install()?;
    compare()?;
    succeed(tool("svelte-check").args([
        "--fail-on-warnings",
        "--tsconfig",
        "./tsconfig.json",
        "--output",
        "human",
    ]))?;
    // That which the tests before these were built with, if they were: another build would be one of all crates.
    if !root().join("target/debug/hexapla").exists() {
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--package", "hexapla-cli"]);
        succeed(build.current_dir(root()))?;
    }
    let results = root().join("target/page-tests.json");
    let mut tests = tool("vitest");
    tests.args(["run", "--reporter=default", "--reporter=json"]);
    tests.arg(format!("--outputFile.json={}", results.display()));
    let mut skipped = 0;
    match chromium() {
        Some(path) => {
            tests.env("HEXAPLA_CHROMIUM", path);
        }
        None => {
            println!("no Chromium here: the tests in a browser are skipped");
            tests.args(["--exclude", "tests/{browser,live}.test.ts"]);
            skipped = 1;
        }
    }
    let status = tests
        .status()
        .map_err(|e| format!("cannot run vitest: {e}"))?;
    let text = std::fs::read_to_string(&results)
        .map_err(|e| format!("cannot read {}: {e}", results.display()))?;
    let [passed, mut failed, pending] = totals(&text)?;
    if !status.success() {
        failed = failed.max(1);
    }
    Ok([passed, failed, pending + skipped])
}

/// The totals of vitest's report.
fn totals(report: &str) -> Result<Totals> {
    let report: Value =
        serde_json::from_str(report).map_err(|e| format!("cannot read vitest's report: {e}"))?;
    let of = |name: &str| {
        report[name]
            .as_u64()
            .ok_or_else(|| format!("vitest's report has no {name}"))
    };
    Ok([
        of("numPassedTests")?,
        of("numFailedTests")?,
        of("numPendingTests")?,
    ])
}

/// The browser; Debian's is installed where that may be done.
fn chromium() -> Option<PathBuf> {
    let named = std::env::var_os("HEXAPLA_CHROMIUM").map(PathBuf::from);
    let path = named.unwrap_or_else(|| PathBuf::from(CHROMIUM));
    if !path.exists()
        && path == Path::new(CHROMIUM)
        && let Err(e) = debian::install(&PACKAGES)
    {
        println!("{e}");
    }
    path.exists().then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_counted() {
        let report = r#"{"numPassedTests": 7, "numFailedTests": 2, "numPendingTests": 1}"#;
        assert_eq!(totals(report).unwrap(), [7, 2, 1]);
        assert!(totals("{}").unwrap_err().contains("numPassedTests"));
    }
}
