//! The machine that measures, and the most it can do.

use std::collections::BTreeMap;
use std::fmt;
use std::process::Command;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::peers::number;
use crate::{Result, root};

/// A machine.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Machine {
    pub(crate) processor: String,
    /// CPUID's numbers of the family and the model, as far as they are known.
    #[serde(default)]
    pub(crate) family: String,
    #[serde(default)]
    pub(crate) model: String,
    /// What kernels can use of it.
    #[serde(default)]
    pub(crate) instructions: Vec<String>,
    pub(crate) cores: usize,
    pub(crate) memory_gib: f64,
    pub(crate) rustc: String,
    /// The commit that was measured, `+` if files differed from it.
    pub(crate) commit: String,
    /// Limits by name and number of threads: `f32 × 2` in Gop/s, `memory × 2` in GB/s.
    pub(crate) limits: BTreeMap<String, f64>,
}

/// The instructions that kernels choose by, as Linux and we call them.
const INSTRUCTIONS: [(&str, &str); 5] = [
    ("avx2", "AVX2"),
    ("avx512f", "AVX-512"),
    ("avx512_vnni", "VNNI"),
    ("avx512_bf16", "BF16"),
    ("amx_tile", "AMX"),
];

impl Machine {
    /// Whether figures of the other machine may stand beside those of this one.
    pub(crate) fn is_like(&self, other: &Machine) -> bool {
        let kind = |m: &Machine| {
            (
                m.processor.clone(),
                m.family.clone(),
                m.instructions.clone(),
            )
        };
        kind(self) == kind(other)
    }

    /// The kind of processor, as a heading has it.
    pub(crate) fn kind(&self) -> String {
        let named = [("family", &self.family), ("model", &self.model)];
        let known = named.iter().filter(|(_, number)| !number.is_empty());
        let numbers: Vec<String> = known.map(|(name, n)| format!("{name} {n}")).collect();
        let words = [
            vec![self.processor.clone()],
            numbers,
            self.instructions.clone(),
        ];
        words.concat().join(", ")
    }

    /// The kind of processor, as a file's name has it.
    pub(crate) fn file_name(&self) -> String {
        let words = [
            &[self.processor.clone(), self.family.clone()],
            &self.instructions[..],
        ];
        let text = words.concat().join("-").to_lowercase();
        let kept = text.split(|c: char| !c.is_ascii_alphanumeric());
        let words: Vec<&str> = kept.filter(|word| !word.is_empty()).collect();
        words.join("-")
    }

    /// This one and its limits. Runs the program of limits, which takes some seconds.
    pub(crate) fn with_limits(threads: usize) -> Result<Self> {
        Ok(Machine {
            limits: limits(threads)?,
            ..Machine::here()
        })
    }

    /// This one; its limits are not measured.
    pub(crate) fn here() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let said = |program: &str, arguments: &[&str]| {
            Command::new(program)
                .current_dir(root())
                .args(arguments)
                .output()
                .map(|o| String::from_utf8_lossy(&o.stdout).trim().to_string())
                .unwrap_or_default()
        };
        let kib: f64 = field(&read("/proc/meminfo"), "MemTotal")
            .and_then(|v| v.split(' ').next()?.parse().ok())
            .unwrap_or(0.0);
        // The results themselves are written while they are measured.
        let others = [
            "status",
            "--porcelain",
            "--",
            ".",
            ":!bench/results.json",
            ":!bench/race.json",
            ":!docs/benchmarks*",
            ":!docs/race.md",
        ];
        let changed = if said("git", &others).is_empty() {
            ""
        } else {
            "+"
        };
        let cpu = read("/proc/cpuinfo");
        let flags = field(&cpu, "flags").unwrap_or_default();
        let has = |flag: &str| flags.split(' ').any(|f| f == flag);
        Machine {
            processor: field(&cpu, "model name").unwrap_or_default(),
            family: field(&cpu, "cpu family").unwrap_or_default(),
            model: field(&cpu, "model\t").unwrap_or_default(),
            instructions: INSTRUCTIONS
                .iter()
                .filter(|(flag, _)| has(flag))
                .map(|(_, name)| name.to_string())
                .collect(),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            memory_gib: (kib / 1048576.0).round(),
            rustc: said("rustc", &["--version"]),
            commit: said("git", &["rev-parse", "--short", "HEAD"]) + changed,
            limits: BTreeMap::new(),
        }
    }

    /// The limit of a kind of arithmetic (`f32`, `bf16`, `int8`) in Gop/s, if the machine has it.
    pub(crate) fn limit(&self, kind: &str, threads: usize) -> Option<f64> {
        self.limits.get(&key(kind, threads)).copied()
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}; {} cores, {} GiB, {}, commit {}.",
            self.kind(),
            self.cores,
            self.memory_gib,
            self.rustc,
            self.commit
        )?;
        if self.limits.is_empty() {
            return Ok(());
        }
        let limits: Vec<String> = self
            .limits
            .iter()
            .map(|(name, value)| format!("{name}: {value:.0}"))
            .collect();
        write!(f, " Limits (Gop/s, GB/s): {}.", limits.join(", "))
    }
}

/// Most cores that others may keep at work while something is timed.
const MOST_BUSY: f64 = 0.25;

/// Refuses a machine on which others are at work.
pub(crate) fn check_idle() -> Result<()> {
    match busy_cores() {
        Some(busy) if busy > MOST_BUSY => Err(format!(
            "something else is at work on this machine: {busy:.2} cores, and at most {MOST_BUSY} may be. Wait for its \
             end, or measure beside it with --busy"
        )),
        _ => Ok(()),
    }
}

/// Cores that others keep at work, over two seconds, where the system tells.
pub(crate) fn busy_cores() -> Option<f64> {
    let times = || std::fs::read_to_string("/proc/stat").ok();
    let before = times()?;
    std::thread::sleep(Duration::from_secs(2));
    cores_between(&before, &times()?)
}

/// Cores at work, those that a host lent to others among them, between two readings of `/proc/stat`.
fn cores_between(before: &str, after: &str) -> Option<f64> {
    // user, nice, system, idle, iowait, irq, softirq, steal; what follows is counted in them.
    let times = |text: &str| -> Option<Vec<f64>> {
        let line = text.lines().next()?.strip_prefix("cpu ")?;
        let all = line.split_whitespace().take(8).map(|v| v.parse().ok());
        all.collect::<Option<Vec<f64>>>().filter(|v| v.len() == 8)
    };
    let (before, after) = (times(before)?, times(after)?);
    let spent: Vec<f64> = after.iter().zip(&before).map(|(a, b)| a - b).collect();
    let all: f64 = spent.iter().sum();
    let resting = spent[3] + spent[4];
    let cores = std::thread::available_parallelism().ok()?.get() as f64;
    (all > 0.0).then(|| (all - resting) / all * cores)
}

fn key(kind: &str, threads: usize) -> String {
    format!("{kind} × {threads}")
}

/// What `crates/kernels/examples/peak.rs` measures, on one thread and on `threads`.
fn limits(threads: usize) -> Result<BTreeMap<String, f64>> {
    let output = Command::new(root().join("target/release/examples/peak"))
        .arg(threads.to_string())
        .output()
        .map_err(|e| format!("cannot run the program of limits: {e}"))?;
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(|line| {
            let value: Value = serde_json::from_str(line).map_err(|e| format!("{line:?}: {e}"))?;
            let threads = number(&value, "threads")? as usize;
            let kind = value["kind"].as_str().ok_or("a limit without a kind")?;
            Ok((key(kind, threads), number(&value, "giga")?))
        })
        .collect()
}

/// The value of the first `name : value` line.
fn field(text: &str, name: &str) -> Option<String> {
    let line = text.lines().find(|l| l.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_of_others_is_counted() {
        let cores = std::thread::available_parallelism().unwrap().get() as f64;
        let before = "cpu  100 0 50 1000 10 0 5 1 0 0\ncpu0 1 2\n";
        let after = "cpu  120 0 60 1060 15 0 5 6 0 0\ncpu0 1 2\n";
        assert_eq!(cores_between(before, after), Some(0.35 * cores));
        assert_eq!(cores_between(before, before), None);
        assert_eq!(cores_between("intr 1", "cpu  1 2"), None);
    }

    #[test]
    fn machines_of_one_kind_are_told_by_family_and_instructions() {
        let machine = |family: &str, instructions: &[&str]| Machine {
            processor: "A CPU".into(),
            family: family.into(),
            model: "1".into(),
            instructions: instructions.iter().map(|i| i.to_string()).collect(),
            ..Machine::default()
        };
        let one = machine("6", &["AVX2", "AMX"]);
        assert_eq!(one.kind(), "A CPU, family 6, model 1, AVX2, AMX");
        assert_eq!(one.file_name(), "a-cpu-6-avx2-amx");
        assert!(one.is_like(&one.clone()));
        assert!(!one.is_like(&machine("25", &["AVX2", "AMX"])));
        assert!(!one.is_like(&machine("6", &["AVX2"])));
    }

    #[test]
    fn fields_of_proc_are_found() {
        let text = "processor\t: 0\nmodel name\t: A CPU: 2\nmodel name\t: B\n";
        assert_eq!(field(text, "model name").unwrap(), "A CPU: 2");
        assert_eq!(field(text, "flags"), None);
    }
}
