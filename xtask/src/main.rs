//! The project's own tools: `cargo xtask test` runs everything that must hold.
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// What the tests against reference implementations need.
const REQUIREMENTS: [&str; 5] = [
    "torch==2.15.0",
    "transformers==5.23.0",
    "sacrebleu==2.6.0",
    "safetensors==0.8.0",
    "tensorboard==2.21.0",
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("test") => test(!arguments.iter().any(|a| a == "--no-python")),
        _ => {
            eprintln!("usage: cargo xtask test [--no-python]");
            ExitCode::FAILURE
        }
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The Python of `.venv` with the requirements in it, made if it is not there.
fn python() -> Option<PathBuf> {
    let folder = root().join(".venv");
    let python = folder.join("bin/python");
    let stamp = folder.join("requirements");
    let wanted = REQUIREMENTS.join("\n");
    if std::fs::read_to_string(&stamp).is_ok_and(|there| there == wanted) {
        return Some(python);
    }
    println!("installing into .venv: {}", REQUIREMENTS.join(", "));
    let run = |command: &mut Command| command.status().is_ok_and(|s| s.success());
    let made = run(Command::new("python3").args(["-m", "venv"]).arg(&folder))
        && run(Command::new(&python)
            .args(["-m", "pip", "install", "--quiet"])
            .args(REQUIREMENTS));
    if !made {
        println!("no Python packages here: the tests against them are skipped");
        return None;
    }
    std::fs::write(&stamp, wanted).ok()?;
    Some(python)
}

fn test(with_python: bool) -> ExitCode {
    let mut command = Command::new(env!("CARGO"));
    command.current_dir(root()).args(["test", "--workspace"]);
    let data = root().join("../shared/data");
    match data.canonicalize() {
        Ok(data) => {
            command.env("HEXAPLA_DATA", data);
        }
        Err(_) => println!("no ../shared/data: the tests that read it are skipped"),
    }
    if let Some(python) = with_python.then(python).flatten() {
        command.env("HEXAPLA_PYTHON", python);
        command.args(["--", "--include-ignored"]);
    }
    let Ok(output) = command.stderr(std::process::Stdio::inherit()).output() else {
        eprintln!("cannot run cargo");
        return ExitCode::FAILURE;
    };
    let text = String::from_utf8_lossy(&output.stdout);
    print!("{text}");
    let mut totals = [0u64; 3];
    for line in text.lines().filter(|l| l.starts_with("test result:")) {
        for (total, word) in totals.iter_mut().zip(["passed", "failed", "ignored"]) {
            let number = line
                .split(&format!(" {word}"))
                .next()
                .and_then(|l| l.rsplit(' ').next());
            *total += number.and_then(|n| n.parse::<u64>().ok()).unwrap_or(0);
        }
    }
    println!(
        "{} passed, {} failed, {} skipped",
        totals[0], totals[1], totals[2]
    );
    if output.status.success() && totals[1] == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
