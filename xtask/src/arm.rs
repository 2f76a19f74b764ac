//! `cargo xtask arm`: the kernels' tests and a translation on 64-bit ARM, which QEMU plays.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Result, debian, root, said, succeed};

#[derive(Debug, clap::Args)]
pub(crate) struct ArmArgs;

const TARGET: &str = "aarch64-unknown-linux-gnu";
const LINKER: &str = "aarch64-linux-gnu-gcc";
const QEMU: &str = "qemu-aarch64";
/// All of ARM's instructions that QEMU knows, `sdot` among them.
const CPU: [&str; 2] = ["-cpu", "max"];
/// The linker, the C library, QEMU, and what unpacks the compiler.
const PACKAGES: [&str; 4] = [
    "gcc-aarch64-linux-gnu",
    "libc6-dev-arm64-cross",
    "qemu-user",
    "mmdebstrap",
];
/// The Debian release whose compiler is new enough.
const RELEASE: &str = "forky";

/// What is translated on both processors: the same bits must come out.
const SENTENCES: &str = "The weather is nice today.\n我昨天在图书馆看见了你的哥哥。\nTom said that he would come back \
                         as soon as he could, and nobody believed him.\n";

pub(crate) fn run(_: &ArmArgs) -> Result<()> {
    let rustc = match compiler() {
        Ok(rustc) => rustc,
        Err(e) => {
            println!("no compiler for ARM here ({e}): its tests are skipped");
            return Ok(());
        }
    };
    succeed(cargo(&rustc).args(["test", "--package", "hexapla-kernels", "--lib"]))?;
    succeed(cargo(&rustc).args(["build", "--package", "hexapla-cli"]))?;
    let program = folder().join("build").join(TARGET).join("debug/hexapla");
    let mut here = Command::new(env!("CARGO"));
    here.args(["run", "--quiet", "--package", "hexapla-cli", "--"]);
    let mut there = Command::new(QEMU);
    there.args(CPU).arg(program);
    let input = folder().join("sentences.txt");
    std::fs::write(&input, SENTENCES)
        .map_err(|e| format!("cannot write {}: {e}", input.display()))?;
    for command in [&mut here, &mut there] {
        command.current_dir(root()).args(["translate", "--scores"]);
        command.arg("--input").arg(&input);
    }
    let (here, there) = (said(&mut here)?, said(&mut there)?);
    match here == there {
        true => {
            println!("the same translations and scores on ARM as here:\n{there}");
            Ok(())
        }
        false => Err(format!("here:\n{here}\non ARM:\n{there}")),
    }
}

/// Where the compiler and what it makes are kept.
fn folder() -> PathBuf {
    root().join("target/arm")
}

/// Cargo for the target, with a program that needs no library beside it.
fn cargo(rustc: &Path) -> Command {
    let mut command = Command::new(env!("CARGO"));
    let variable = |name: &str| {
        let target = TARGET.to_uppercase().replace('-', "_");
        format!("CARGO_TARGET_{target}_{name}")
    };
    command
        .current_dir(root())
        .env("RUSTC", rustc)
        .env("CARGO_TARGET_DIR", folder().join("build"))
        .env("CARGO_BUILD_TARGET", TARGET)
        .env(variable("LINKER"), LINKER)
        .env(variable("RUNNER"), [&[QEMU], &CPU[..]].concat().join(" "))
        // Optimized more it would take twice as long to build, and not much less to run.
        .env("CARGO_PROFILE_DEV_OPT_LEVEL", "1")
        .env("CARGO_PROFILE_DEV_DEBUG", "false")
        // The linker warns of functions that a program without shared libraries must not call; none is called here.
        .env(
            variable("RUSTFLAGS"),
            "-C target-feature=+crt-static -D warnings -A linker-messages",
        );
    command
}

/// A compiler with a standard library for ARM: the one that runs here if it has one (`rustup target add`), else Debian's.
fn compiler() -> Result<PathBuf> {
    let is_there = |program: &str| Command::new(program).arg("--version").output().is_ok();
    if ![LINKER, QEMU, "mmdebstrap"].into_iter().all(is_there) {
        debian::install(&PACKAGES)?;
    }
    let ours = said(Command::new("rustc").args(["--print", "target-libdir", "--target", TARGET]));
    if ours.is_ok_and(|folder| Path::new(folder.trim()).exists()) {
        return Ok("rustc".into());
    }
    let system = folder().join("debian");
    let wrapper = folder().join("rustc");
    if !wrapper.exists() {
        unpack(&system)?;
        // It is run where it lies, with the C library that it was built for.
        let at = |path: &str| system.join(path).display().to_string();
        let script = format!(
            "#!/bin/sh\nexec '{}' --library-path '{}' '{}' --sysroot '{}' \"$@\"\n",
            at("usr/lib64/ld-linux-x86-64.so.2"),
            at("usr/lib/x86_64-linux-gnu"),
            at("usr/bin/rustc"),
            at("usr"),
        );
        crate::write_whole(&wrapper, &script)?;
        succeed(Command::new("chmod").arg("+x").arg(&wrapper))?;
    }
    Ok(wrapper)
}

/// Debian's compiler with its standard libraries for both processors.
fn unpack(system: &Path) -> Result<()> {
    let _ = std::fs::remove_dir_all(system);
    std::fs::create_dir_all(folder())
        .map_err(|e| format!("cannot create {}: {e}", folder().display()))?;
    println!("unpacking Debian's Rust for ARM into {}", system.display());
    succeed(
        Command::new("mmdebstrap")
            .args([
                "--quiet",
                "--variant=extract",
                "--architectures=amd64,arm64",
            ])
            .arg("--include=rustc,libstd-rust-dev:arm64")
            // Of a mirror that is some weeks behind the archive's date has passed.
            .arg("--aptopt=Acquire::Check-Valid-Until \"false\"")
            .arg(RELEASE)
            .arg(system)
            .arg("http://deb.debian.org/debian"),
    )
}
