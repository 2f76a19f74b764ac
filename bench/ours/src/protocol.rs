//! A command a line in, a JSON object a line out.

use hexapla::error::{Error, Result};
use serde_json::Value;
use std::io::{BufRead, Write};

/// Prints one object. Nobody may be listening any more, which is no error.
pub(crate) fn say(value: &Value) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{value}");
    let _ = out.flush();
}

/// Says that it is ready, then answers each line until there are no more.
pub(crate) fn serve(mut answer: impl FnMut(&[&str]) -> Result<Value>) -> Result<()> {
    say(&serde_json::json!({ "ready": true, "version": env!("CARGO_PKG_VERSION") }));
    for line in std::io::stdin().lock().lines() {
        let line = line.map_err(|e| Error::input("cannot read a command").found(e.to_string()))?;
        let words: Vec<&str> = line.split_whitespace().collect();
        let mut value = answer(&words)?;
        if let (Some(object), Some((peak, resident))) = (value.as_object_mut(), memory()) {
            object.insert("peak_mib".into(), peak.into());
            object.insert("resident_mib".into(), resident.into());
        }
        say(&value);
    }
    Ok(())
}

/// A command that nobody knows.
pub(crate) fn unknown(words: &[&str]) -> Error {
    Error::settings("unknown command").found(format!("`{}`", words.join(" ")))
}

/// The greatest and the present resident size of this process in MiB, where the system tells (Linux).
fn memory() -> Option<(f64, f64)> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let field = |name: &str| -> Option<f64> {
        let line = status.lines().find(|l| l.starts_with(name))?;
        let kib: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
        Some(kib / 1024.0)
    };
    Some((field("VmHWM:")?, field("VmRSS:")?))
}
