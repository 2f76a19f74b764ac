//! Ours and our peers as long-lived programs (protocol: `xtask/bench/README.md`).

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde::Serialize;
use serde_json::Value;

use crate::{Result, root, succeed};

/// Settings of glibc under which it keeps its memory.
const KEEP_MEMORY: [(&str, &str); 2] = [
    ("MALLOC_MMAP_THRESHOLD_", "4000000000"),
    ("MALLOC_TRIM_THRESHOLD_", "16000000000"),
];

/// A program and how it is started.
#[derive(Debug, Clone, Default)]
pub(crate) struct Way {
    /// Whose it is.
    pub(crate) name: String,
    /// What sets it apart from the same program started otherwise; empty for the plain one.
    pub(crate) setting: String,
    /// The program and its arguments, which a job's path follows.
    pub(crate) command: Vec<OsString>,
    /// What follows the job.
    pub(crate) options: Vec<String>,
    pub(crate) environment: Vec<(String, String)>,
}

/// A script of `xtask/bench`.
pub(crate) fn script(python: &Path, script: &str) -> Vec<OsString> {
    let path = root().join("xtask/bench").join(script);
    let program = match script.ends_with(".mjs") {
        true => "node".into(),
        false => python.into(),
    };
    vec![program, path.into()]
}

/// Installs the packages of `xtask/bench/node`, if they are not there.
pub(crate) fn install_node_packages() -> Result<()> {
    let folder = root().join("xtask/bench/node");
    // npm writes this file last.
    if folder.join("node_modules/.package-lock.json").exists() {
        return Ok(());
    }
    let arguments = [
        "ci",
        "--omit=optional",
        "--ignore-scripts",
        "--no-audit",
        "--no-fund",
    ];
    succeed(Command::new("npm").args(arguments).current_dir(folder))
}

/// Variables of a program: its own, those that keep its memory, and rayon's threads for programs that are not told by their job.
pub(crate) fn environment(
    own: &BTreeMap<String, String>,
    keep_memory: bool,
    threads: usize,
) -> Vec<(String, String)> {
    let keep = KEEP_MEMORY.iter().filter(|_| keep_memory);
    let keep = keep.map(|(key, value)| (key.to_string(), value.to_string()));
    let own = own.iter().map(|(key, value)| (key.clone(), value.clone()));
    let threads = ("RAYON_NUM_THREADS".to_string(), threads.to_string());
    own.chain(keep).chain([threads]).collect()
}

impl Way {
    /// One of our commands (`train` or `translate`).
    pub(crate) fn ours(command: &str) -> Self {
        let program = root().join("target/release/hexapla-bench");
        Way {
            name: "hexapla".into(),
            command: vec![program.into(), command.into()],
            ..Way::default()
        }
    }

    /// Starts it on a job and waits until it is ready.
    pub(crate) fn start(&self, job: &Path) -> Result<Side> {
        let fail = |e: std::io::Error| format!("cannot start {}: {e}", self.name);
        let (program, arguments) = self.command.split_first().ok_or("no program")?;
        let mut child = Command::new(program)
            .args(arguments)
            .arg(job)
            .args(&self.options)
            .envs(self.environment.iter().map(|(key, value)| (key, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(fail)?;
        let pipes = child.stdin.take().zip(child.stdout.take());
        let (stdin, stdout) = pipes.ok_or("a child without pipes")?;
        let mut side = Side {
            name: self.name.clone(),
            child,
            stdin,
            stdout: BufReader::new(stdout),
            version: String::new(),
        };
        let ready = side.read()?;
        side.version = ready["version"].as_str().unwrap_or("?").to_string();
        Ok(side)
    }
}

/// A running program that computes only when told to.
#[derive(Debug)]
pub(crate) struct Side {
    name: String,
    /// The version that it told.
    pub(crate) version: String,
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Side {
    /// Sends a command and reads the answer.
    pub(crate) fn ask(&mut self, command: &str) -> Result<Value> {
        writeln!(self.stdin, "{command}").map_err(|e| format!("{} is gone: {e}", self.name))?;
        self.read()
    }

    /// The tokens each second of a run.
    pub(crate) fn rate(&mut self, command: &str) -> Result<f64> {
        let answer = self.ask(command)?;
        Ok(number(&answer, "tokens")? / number(&answer, "seconds")?)
    }

    fn read(&mut self) -> Result<Value> {
        let mut line = String::new();
        let read = self.stdout.read_line(&mut line);
        if !read.is_ok_and(|bytes| bytes > 0) {
            return Err(format!("{} ended without an answer", self.name));
        }
        let value: Value =
            serde_json::from_str(&line).map_err(|e| format!("{} said {line:?}: {e}", self.name))?;
        match value["error"].as_str() {
            Some(error) => Err(format!("{}: {error}", self.name)),
            None => Ok(value),
        }
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to end.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A number of an answer.
pub(crate) fn number(answer: &Value, key: &str) -> Result<f64> {
    answer[key]
        .as_f64()
        .ok_or_else(|| format!("no number `{key}` in {answer}"))
}

/// Something of an answer that is more than a number.
pub(crate) fn part<T: serde::de::DeserializeOwned>(answer: &Value, key: &str) -> Result<T> {
    serde_json::from_value(answer[key].clone()).map_err(|e| format!("`{key}` of an answer: {e}"))
}

/// The way for which `measure` of a started side is greatest, and that value. A way that fails is left out; an error if all do.
fn greatest<'a>(
    ways: &'a [Way],
    job: &Path,
    measure: impl Fn(&mut Side) -> Result<f64>,
) -> Result<(&'a Way, f64)> {
    let mut failure = "no way to start the peer".to_string();
    let mut best: Option<(&Way, f64)> = None;
    for way in ways {
        match way.start(job).and_then(|mut side| measure(&mut side)) {
            Ok(value) if best.is_none_or(|(_, other)| value > other) => best = Some((way, value)),
            Ok(_) => (),
            Err(e) => {
                println!("  {} {}: {e}", way.name, way.setting);
                failure = e;
            }
        }
    }
    best.ok_or(failure)
}

/// The fastest of several ways to start a peer, by one short run of each: `warm` first, then `run`.
pub(crate) fn best<'a>(ways: &'a [Way], job: &Path, warm: &str, run: &str) -> Result<&'a Way> {
    if let [only] = ways {
        return Ok(only);
    }
    let rate = |side: &mut Side| {
        side.ask(warm)?;
        side.rate(run)
    };
    let (way, rate) = greatest(ways, job, rate)?;
    println!("  {} {}: {rate:.0}/s", way.name, way.setting);
    Ok(way)
}

/// The way of starting a peer that takes the least memory, as the answer's `key` says after the command `run`, and how much
/// that is: the fastest is often one that keeps what it has.
pub(crate) fn least<'a>(
    ways: &'a [Way],
    job: &Path,
    run: &str,
    key: &str,
) -> Result<(&'a Way, f64)> {
    let (way, mib) = greatest(ways, job, |side| Ok(-number(&side.ask(run)?, key)?))?;
    Ok((way, -mib))
}

/// Where benchmarks keep what they make.
pub(crate) fn cache() -> Result<PathBuf> {
    let folder = root().join("target/bench");
    std::fs::create_dir_all(&folder)
        .map_err(|e| format!("cannot make {}: {e}", folder.display()))?;
    Ok(folder)
}

/// Writes a job (or what one names) into the cache.
pub(crate) fn write(name: &str, value: &impl Serialize) -> Result<PathBuf> {
    let path = cache()?.join(name);
    let text = serde_json::to_string(value).map_err(|e| e.to_string())?;
    std::fs::write(&path, text).map_err(|e| format!("cannot write {}: {e}", path.display()))?;
    Ok(path)
}

/// Builds our side, and the kernels' examples with `examples`.
pub(crate) fn build(packages: &[&str], examples: bool) -> Result<()> {
    let mut command = Command::new(env!("CARGO"));
    command
        .current_dir(root())
        .args(["build", "--release", "--quiet"]);
    for package in packages {
        command.args(["--package", package]);
    }
    if examples {
        command.arg("--examples");
    }
    succeed(&mut command)
}

/// Builds a peer that is a Rust program of its own under `bench/`, for this very processor, and gives its binary.
pub(crate) fn build_peer(name: &str) -> Result<PathBuf> {
    let folder = root().join("bench").join(name);
    println!("building bench/{name}, which takes minutes the first time");
    let target = cache()?.join(name);
    succeed(
        Command::new(env!("CARGO"))
            .current_dir(&folder)
            .env("RUSTFLAGS", "-C target-cpu=native")
            .args(["build", "--release", "--quiet", "--locked"])
            .arg("--target-dir")
            .arg(&target),
    )?;
    Ok(target.join("release").join(format!("bench-{name}")))
}
