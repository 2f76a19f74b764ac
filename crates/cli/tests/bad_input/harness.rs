//! Runs the real program in a folder of its own, and holds what every run must keep.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

/// A recipe that is done in a moment.
pub(crate) const RECIPE: &str = "\
[model]
preset = \"tiny\"
d_model = 8
layers = 1
heads = 2
feed_forward = 8
max_position_embeddings = 256
[data]
valid_pairs = 2
max_tokens = 20
[tokenizer]
kind = \"bpe\"
vocab_size = 320
special_tokens = [\">>de<<\", \">>en<<\"]
[training]
max_steps = 1
warmup_steps = 1
batch_tokens = 256
";

/// Pairs to learn from.
pub(crate) const PAIRS: &str = "\
a man walks\tein Mann geht
a dog runs\tein Hund rennt
the man sees a dog\tder Mann sieht einen Hund
the dog sees a man\tder Hund sieht einen Mann
a woman reads a book\teine Frau liest ein Buch
the book is red\tdas Buch ist rot
";

/// The program, not yet started.
pub(crate) fn hexapla() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hexapla"));
    for name in [
        "HEXAPLA_ISA",
        "RAYON_NUM_THREADS",
        "COLUMNS",
        "RUST_BACKTRACE",
    ] {
        command.env_remove(name);
    }
    command.stdin(Stdio::null());
    command
}

/// The files of a small model folder, trained once for all tests.
fn model() -> &'static BTreeMap<String, Vec<u8>> {
    static MODEL: OnceLock<BTreeMap<String, Vec<u8>>> = OnceLock::new();
    MODEL.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("recipe.toml"), RECIPE).unwrap();
        fs::write(folder.path().join("pairs.tsv"), PAIRS).unwrap();
        let args = "train --config recipe.toml --tsv pairs.tsv --output model --threads 1";
        let made = hexapla()
            .args(args.split(' '))
            .current_dir(folder.path())
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
        let entries = fs::read_dir(folder.path().join("model")).unwrap();
        entries
            .map(|entry| entry.unwrap())
            .filter(|entry| entry.file_type().unwrap().is_file())
            .map(|entry| {
                let name = entry.file_name().into_string().unwrap();
                (name, fs::read(entry.path()).unwrap())
            })
            .collect()
    })
}

/// A table of runs in one folder, written down as a snapshot.
pub(crate) struct Table {
    folder: tempfile::TempDir,
    text: String,
}

/// What came of a run.
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Table {
    /// A folder with `recipe.toml`, `pairs.tsv` and the model folder `model`.
    pub(crate) fn new() -> Self {
        let table = Table {
            folder: tempfile::tempdir().unwrap(),
            text: String::new(),
        };
        table.file("recipe.toml", RECIPE);
        table.file("pairs.tsv", PAIRS);
        table.model("model", |_| ());
        table
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn file(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.path(name), content).unwrap();
    }

    /// A model folder with what `change` makes of its files.
    pub(crate) fn model(&self, name: &str, change: impl FnOnce(&mut BTreeMap<String, Vec<u8>>)) {
        let mut files = model().clone();
        change(&mut files);
        fs::create_dir_all(self.path(name)).unwrap();
        for (file, bytes) in files {
            fs::write(self.path(name).join(file), bytes).unwrap();
        }
    }

    /// Runs the program; `input` goes to its standard input.
    pub(crate) fn run(&self, args: &[&str], input: &[u8]) -> Ran {
        self.run_with(args, input, |_| ())
    }

    /// As [`Table::run`], the command changed by `change`.
    pub(crate) fn run_with(
        &self,
        args: &[&str],
        input: &[u8],
        change: impl FnOnce(&mut Command),
    ) -> Ran {
        let mut command = hexapla();
        command
            .args(args)
            .current_dir(self.folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        change(&mut command);
        let mut child = command.spawn().unwrap();
        // What is refused early leaves its input unread.
        let _ = child.stdin.take().unwrap().write_all(input);
        Ran::of(child.wait_with_output().unwrap(), args)
    }

    /// A run that must be refused by us: the error has all its parts, and the folder is as it was.
    pub(crate) fn refuse(&mut self, why: &str, args: &str) {
        self.refuse_with(why, args, |_| ());
    }

    /// As [`Table::refuse`], the command changed by `change`.
    pub(crate) fn refuse_with(&mut self, why: &str, args: &str, change: impl FnOnce(&mut Command)) {
        let before = self.state();
        let ran = self.run_with(&split(args), b"", change);
        assert_eq!(ran.code, 1, "{why}: {args}\n{}", ran.stderr);
        // What works line by line has written the lines before the bad one, and `inspect` tells what it can.
        let streams = [
            "tokenizer encode",
            "tokenizer decode",
            "translate",
            "score",
            "inspect",
        ];
        let streams = streams.iter().any(|command| args.starts_with(command));
        assert!(
            streams || ran.stdout.is_empty(),
            "{why}: {args}\n{}",
            ran.stdout
        );
        for part in [
            "error: ",
            "\n  where: ",
            "\n  expected: ",
            "\n  found: ",
            "\n  hint: ",
        ] {
            assert!(
                ran.stderr.contains(part),
                "{why}: {args}\n{part:?} in\n{}",
                ran.stderr
            );
        }
        self.assert_state(&before, why);
        self.note(why, args, &ran.stderr);
    }

    /// A run whose command line is refused.
    pub(crate) fn usage(&mut self, why: &str, args: &str) {
        let before = self.state();
        let ran = self.run(&split(args), b"");
        assert_eq!(ran.code, 2, "{why}: {args}\n{}", ran.stderr);
        self.assert_state(&before, why);
        self.note(why, args, &ran.stderr);
    }

    /// A run that must succeed with `lines` lines of output (and nothing temporary left); returns the output.
    pub(crate) fn accept(&mut self, why: &str, args: &str, lines: usize) -> String {
        let ran = self.run(&split(args), b"");
        assert_eq!(ran.code, 0, "{why}: {args}\n{}", ran.stderr);
        assert_eq!(ran.lines(), lines, "{why}: {args}\n{}", ran.stdout);
        self.note(why, args, &format!("{lines} lines\n"));
        ran.stdout
    }

    /// Writes a run down.
    pub(crate) fn note(&mut self, why: &str, args: &str, said: &str) {
        let said = without_sums(said);
        write!(self.text, "# {why}\n$ hexapla {args}\n{said}\n").unwrap();
    }

    /// Compares what was written down with the snapshot `name`.
    pub(crate) fn check(self, name: &str) {
        insta::with_settings!({prepend_module_to_snapshot => false, omit_expression => true}, {
            insta::assert_snapshot!(name, self.text);
        });
    }

    /// Every file of the folder with its content.
    pub(crate) fn state(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut files = BTreeMap::new();
        collect(self.folder.path(), &mut files);
        files
    }

    pub(crate) fn assert_state(&self, before: &BTreeMap<PathBuf, Vec<u8>>, why: &str) {
        let after = self.state();
        let names = |files: &BTreeMap<PathBuf, Vec<u8>>| files.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(before), names(&after), "{why}: files came or went");
        assert!(*before == after, "{why}: a file has changed");
    }
}

impl Ran {
    /// What no run may do, whatever it was given.
    pub(crate) fn of(output: Output, args: &[&str]) -> Self {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let ran = Ran {
            code: output.status.code().unwrap_or(-1),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
        };
        assert!(!ran.stderr.contains("panicked"), "{args:?}\n{}", ran.stderr);
        assert!(
            (0..=2).contains(&ran.code),
            "{args:?}: {}\n{}",
            ran.code,
            ran.stderr
        );
        ran
    }

    /// Lines of output; they end at LF alone.
    pub(crate) fn lines(&self) -> usize {
        self.stdout.matches('\n').count()
    }
}

/// The arguments in a line: spaces part them.
pub(crate) fn split(args: &str) -> Vec<&str> {
    args.split(' ').filter(|arg| !arg.is_empty()).collect()
}

fn collect(folder: &Path, files: &mut BTreeMap<PathBuf, Vec<u8>>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.insert(path.join(""), Vec::new());
            collect(&path, files);
        } else {
            files.insert(path.clone(), fs::read(&path).unwrap_or_default());
        }
    }
}

/// Checksums of trained weights differ between instruction sets.
fn without_sums(text: &str) -> String {
    let mut result = String::new();
    for word in text.split_inclusive([' ', '\n']) {
        let bare = word.trim_end();
        let is_sum = bare.len() == 64 && bare.bytes().all(|b| b.is_ascii_hexdigit());
        let is_sum = is_sum || bare.starts_with("CRC-32:");
        match is_sum {
            true => result.push_str(&word.replace(bare, "[sum]")),
            false => result.push_str(word),
        }
    }
    result
}
