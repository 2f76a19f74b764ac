//! `cargo xtask reference`: the golden numbers of `crates/hexapla/tests/golden`, computed anew.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Result, python, root, succeed};

/// Which golden numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// Loss, gradients and updates, from PyTorch.
    Training,
    /// Random model folders and what transformers computes with them.
    Folders,
    /// Small models trained by Marian, and how it translates with them.
    Marian,
    /// Stresses of Russian words, from ruaccent-predictor.
    Ruaccent,
    /// The search, from transformers' `generate`.
    Search,
    /// BLEU and chrF, from sacreBLEU.
    Metrics,
    /// Conversations put down, from transformers.
    Chat,
    /// All of them.
    All,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ReferenceArgs {
    #[arg(value_enum, default_value_t = Part::All)]
    part: Part,
}

pub(crate) fn run(args: &ReferenceArgs) -> Result<()> {
    let python = python::with(&python::TEST)?;
    if matches!(args.part, Part::Marian | Part::All) {
        python::with(&python::MARIAN)?;
    }
    let parts = match args.part {
        Part::All => vec![
            Part::Training,
            Part::Folders,
            Part::Marian,
            Part::Ruaccent,
            Part::Search,
            Part::Metrics,
            Part::Chat,
        ],
        part => vec![part],
    };
    for part in parts {
        compute(&python, part)?;
    }
    say_what_changed()
}

fn golden() -> PathBuf {
    root().join("crates/hexapla/tests/golden")
}

fn compute(python: &Path, part: Part) -> Result<()> {
    let script = |name: &str| {
        let mut command = Command::new(python);
        command.arg(root().join("xtask/reference").join(name));
        command
    };
    match part {
        Part::Training => succeed(script("training.py").arg(golden())),
        Part::Folders => {
            succeed(script("folders.py").arg(golden()))?;
            succeed(script("encoders.py").arg(golden().join("encoders")))?;
            succeed(script("decoders.py").arg(golden().join("decoders")))?;
            succeed(script("gguf_blocks.py").arg(golden().join("gguf_blocks.json")))?;
            let stories = root().join("../shared/models/stories260k/stories260K.bin");
            match stories.exists() {
                true => {
                    let out = golden().join("stories260k.json");
                    succeed(script("stories.py").arg(stories).arg(out))?;
                }
                false => println!("no {}: its numbers stay", stories.display()),
            }
            succeed(script("traces.py").arg(golden()))
        }
        Part::Marian => succeed(script("marian.py").arg(golden())),
        Part::Ruaccent => succeed(script("stress.py").arg(golden().join("ruaccent/golden.json"))),
        Part::Search => succeed(script("search.py").arg(golden().join("search.json"))),
        Part::Chat => succeed(script("chat.py").arg(golden().join("chat.json"))),
        Part::Metrics => {
            // Written beside it first: a script that fails must not leave half a file.
            let (path, half) = (
                golden().join("metrics.json"),
                golden().join("metrics.json.new"),
            );
            let file =
                File::create(&half).map_err(|e| format!("cannot write {}: {e}", half.display()))?;
            let done = succeed(script("metrics.py").stdout(file));
            if done.is_err() {
                // The script's own failure is what is told.
                let _ = std::fs::remove_file(&half);
                return done;
            }
            std::fs::rename(&half, &path)
                .map_err(|e| format!("cannot write {}: {e}", path.display()))
        }
        Part::All => Ok(()),
    }
}

/// Shows how the golden numbers differ from those that git knows.
fn say_what_changed() -> Result<()> {
    let output = Command::new("git")
        .current_dir(root())
        .args(["status", "--porcelain", "--", "crates/hexapla/tests/golden"])
        .output()
        .map_err(|e| format!("cannot run git: {e}"))?;
    let changed = String::from_utf8_lossy(&output.stdout);
    if changed.trim().is_empty() {
        println!("nothing changed");
        return Ok(());
    }
    print!("changed:\n{changed}");
    succeed(Command::new("git").current_dir(root()).args([
        "--no-pager",
        "diff",
        "--stat",
        "--",
        "crates/hexapla/tests/golden",
    ]))
}
