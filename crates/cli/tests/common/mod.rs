//! Runs the real program in a folder of its own.
#![allow(dead_code)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

/// A recipe that is done in a moment.
pub(crate) const RECIPE: &str = "\
[model]
d_model = 16
layers = 1
heads = 2
feed_forward = 16
[data]
valid_pairs = 20
[tokenizer]
kind = \"bpe\"
vocab_size = 320
[training]
batch_tokens = 256
learning_rate = 0.01
warmup_steps = 10
max_steps = 40
save_every = 10
valid_every = 10
average_checkpoints = 2
patience = 0
";

pub(crate) struct TestDir {
    folder: TempDir,
}

impl TestDir {
    /// A folder with `pairs.tsv` and `recipe.toml`.
    pub(crate) fn new() -> Self {
        let dir = TestDir {
            folder: tempfile::tempdir().unwrap(),
        };
        let words = ["one", "two", "three", "four", "five", "six", "seven"];
        let others = ["eins", "zwei", "drei", "vier", "fünf", "sechs", "sieben"];
        let line = |i: usize, words: &[&str; 7]| {
            format!(
                "{} {} {}",
                words[i % 7],
                words[i / 7 % 7],
                words[i / 49 % 7]
            )
        };
        let pairs = (0..343).map(|i| format!("{}\t{}\n", line(i, &words), line(i, &others)));
        dir.write("pairs.tsv", pairs.collect::<String>());
        dir.write("recipe.toml", RECIPE);
        dir
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.path(name), content).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// The program with `args`, separated by spaces, not yet started.
    pub(crate) fn command(&self, args: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hexapla"));
        command
            .args(args.split(' ').filter(|arg| !arg.is_empty()))
            .current_dir(self.folder.path());
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    pub(crate) fn run(&self, args: &str) -> Output {
        self.command(args).output().unwrap()
    }

    /// What the program says on both streams; it must succeed.
    pub(crate) fn accept(&self, args: &str) -> (String, String) {
        let out = self.run(args);
        let (said, told) = (text(&out.stdout), text(&out.stderr));
        assert!(out.status.success(), "{args}: {told}");
        (said, told)
    }

    /// What the program says when it refuses.
    pub(crate) fn refuse(&self, args: &str) -> String {
        let out = self.run(args);
        let told = text(&out.stderr);
        assert_eq!(out.status.code(), Some(1), "{args}: {told}");
        for part in [
            "error: ",
            "\n  where: ",
            "\n  expected: ",
            "\n  found: ",
            "\n  hint: ",
        ] {
            assert!(told.contains(part), "{args}: {told}");
        }
        told
    }

    /// `args` with `input` on standard input.
    pub(crate) fn feed(&self, args: &str, input: &[u8]) -> Output {
        let path = self.path("fed");
        fs::write(&path, input).unwrap();
        let mut command = self.command(args);
        command.stdin(fs::File::open(path).unwrap());
        command.output().unwrap()
    }
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The names in a folder.
pub(crate) fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// A folder with the model of a golden folder as `model`, and a tokenizer of words `w0` to `w36`.
pub(crate) fn decoder(golden: &str) -> TestDir {
    let dir = TestDir::new();
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../hexapla/tests/golden/decoders");
    fs::create_dir(dir.path("model")).unwrap();
    for file in ["config.json", "generation_config.json", "model.safetensors"] {
        fs::copy(from.join(golden).join(file), dir.path("model").join(file)).unwrap();
    }
    let mut vocab: serde_json::Map<String, Value> =
        (0..37).map(|i| (format!("w{i}"), json!(i))).collect();
    vocab.remove("w2");
    vocab.insert("</s>".into(), json!(2));
    let end = json!({"id": 2, "content": "</s>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
        "special": true});
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [end], "normalizer": null,
        "pre_tokenizer": {"type": "Whitespace"}, "post_processor": null, "decoder": null,
        "model": {"type": "WordLevel", "vocab": vocab, "unk_token": "w1"},
    });
    dir.write("model/tokenizer.json", tokenizer.to_string());
    dir
}

const WORDS: [&str; 32] = [
    "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "the", "a",
    "man", "dog", "eats", "sleeps", "well", "##s", "##ly", ".", ",", "?", "red", "blue", "green",
    "house", "tree", "sun", "rain", "day", "night", "sea",
];

/// A folder with the model of a golden folder as `model`, and a tokenizer of 37 words.
pub(crate) fn encoder(golden: &str) -> TestDir {
    let dir = TestDir::new();
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../hexapla/tests/golden/encoders");
    fs::create_dir(dir.path("model")).unwrap();
    for file in ["config.json", "model.safetensors"] {
        fs::copy(from.join(golden).join(file), dir.path("model").join(file)).unwrap();
    }
    let special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];
    let words: Vec<&str> = special.into_iter().chain(WORDS).collect();
    dir.write("model/vocab.txt", words.join("\n"));
    dir.write("lines.txt", "the dog eats\nA man sleeps well.\n\n");
    dir
}
