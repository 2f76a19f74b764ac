//! What Debian's archive has.

use std::process::Command;

use crate::{Result, succeed};

/// Installs `packages`, where that may be done.
pub(crate) fn install(packages: &[&str]) -> Result<()> {
    println!("installing {}", packages.join(", "));
    let apt = |args: &[&str]| {
        let mut command = Command::new("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive");
        succeed(command.arg("-qq").args(args))
    };
    apt(&["update"])?;
    let install = ["install", "--yes", "--no-install-recommends"];
    apt(&[&install[..], packages].concat())
}
