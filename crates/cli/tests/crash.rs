//! Training survives what stops it: kills, signals, a full disk, damaged files. All of it on the real binary.

#![cfg(unix)]

// The moments of the stops differ from run to run; they are printed, and every one must do.

use std::fs;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// A recipe so small that a run takes a second or two, with a save or a validation at every few steps.
const RECIPE: &str = r#"
[model]
preset = "tiny"
d_model = 16
heads = 2
feed_forward = 32
layers = 1
[data]
valid_pairs = 20
[tokenizer]
kind = "bpe"
vocab_size = 330
[training]
batch_tokens = 400
max_steps = 160
warmup_steps = 20
save_every = 4
valid_every = 20
patience = 0
average_checkpoints = 3
ema_decay = 0.0
bpe_dropout = 0.1
"#;

/// Corpus and recipe; the runs have folders of their own beside them.
struct TestDir {
    folder: TempDir,
    recipe: &'static str,
}

impl TestDir {
    fn new() -> Self {
        let dir = TestDir {
            folder: tempfile::tempdir().unwrap(),
            recipe: "recipe.toml",
        };
        let words = ["one", "two", "three", "four", "five", "six", "seven"];
        let others = ["eins", "zwei", "drei", "vier", "fünf", "sechs", "sieben"];
        let mut state = 1u32;
        let mut text = String::new();
        for _ in 0..600 {
            let picks: Vec<usize> = (0..3 + state as usize % 5)
                .map(|_| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    state as usize >> 16 & 0xFFFF
                })
                .collect();
            let line = |words: &[&str]| {
                let picked: Vec<&str> = picks.iter().map(|p| words[p % 7]).collect();
                picked.join(" ")
            };
            text += &format!("{}\t{}\n", line(&words), line(&others));
        }
        fs::write(dir.path("pairs.tsv"), text).unwrap();
        dir.write_recipe("recipe.toml", "");
        dir
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The recipe, changed as `more` says.
    fn write_recipe(&self, name: &str, more: &str) {
        let mut recipe: toml::Table = RECIPE.parse().unwrap();
        for (table, changes) in more.parse::<toml::Table>().unwrap() {
            let table = recipe[&table].as_table_mut().unwrap();
            table.extend(changes.as_table().unwrap().clone());
        }
        fs::write(self.path(name), recipe.to_string()).unwrap();
    }

    fn command(&self, threads: &str, output: &Path) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hexapla"));
        command
            .args(["train", "--threads", threads, "--config"])
            .arg(self.path(self.recipe))
            .arg("--tsv")
            .arg(self.path("pairs.tsv"))
            .arg("--output")
            .arg(output);
        command
    }

    /// What the run says if it is let alone.
    fn run(&self, output: &Path) -> Output {
        self.command("2", output).output().unwrap()
    }

    fn start(&self, output: &Path) -> Child {
        let mut command = self.command("2", output);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().unwrap()
    }

    /// Runs to the end, which must be a good one.
    fn finish(&self, output: &Path) -> Output {
        let out = self.run(output);
        assert!(out.status.success(), "{}", text(&out.stderr));
        out
    }
}

/// What must be equal however often a run was stopped: the weights, each step's loss, each validation but its time, the
/// order of the data.
fn result(output: &Path) -> (Vec<u8>, String, Vec<serde_json::Value>, String) {
    let manifest = fs::read_to_string(output.join("manifest.json")).unwrap();
    let manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
    let log = fs::read_to_string(output.join("training/log.jsonl")).unwrap();
    let validations = fs::read_to_string(output.join("training/validations.jsonl")).unwrap();
    let validation = |line: &str| {
        let mut v: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(v["seconds"].take().as_f64().unwrap() > 0.0);
        v
    };
    (
        fs::read(output.join("model.safetensors")).unwrap(),
        log,
        validations.lines().map(validation).collect(),
        manifest["notes"]["order_hash"].to_string(),
    )
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// All names below `folder` that contain `part`.
fn names_with(folder: &Path, part: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        // A file may vanish while another process is at work.
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|t| t.is_dir()) {
                folders.push(entry.path());
            }
            if entry.file_name().to_string_lossy().contains(part) {
                found.push(entry.path());
            }
        }
    }
    found
}

/// Nothing is left of interrupted writes, and of kept weights only those that are averaged.
fn assert_tidy(dir: &TestDir, output: &Path) {
    for part in [".partial-", ".complete-", ".replaced-"] {
        let left = names_with(dir.folder.path(), part);
        assert!(left.is_empty(), "{left:?}");
    }
    assert_eq!(names_with(output, "weights-").len(), 3);
}

/// Different at each call and in each process.
fn random(below: u64) -> u64 {
    RandomState::new().build_hasher().finish() % below
}

fn send(child: &Child, signal: Signal) {
    let _ = kill_process(Pid::from_child(child), signal);
}

/// Waits until `ready`, or the end of `child`.
fn wait_until(child: &mut Child, ready: impl Fn() -> bool) {
    let start = Instant::now();
    while !ready() && child.try_wait().unwrap().is_none() {
        assert!(
            start.elapsed() < Duration::from_secs(120),
            "nothing happens"
        );
        std::thread::yield_now();
    }
}

fn steps(output: &Path) -> usize {
    let log = fs::read(output.join("training/log.jsonl")).unwrap_or_default();
    log.iter().filter(|b| **b == b'\n').count()
}

/// When to stop a run.
#[derive(Debug)]
enum Moment {
    /// So many milliseconds after its start.
    Milliseconds(u64),
    /// A file with this in its name appears, and so many microseconds later.
    Name(&'static str, u64),
    /// So many further steps are in the log.
    Steps(usize),
    /// The next step that a validation follows is in the log.
    Validation,
}

impl Moment {
    fn await_it(&self, child: &mut Child, dir: &TestDir, output: &Path) {
        match self {
            Moment::Milliseconds(n) => {
                let (start, n) = (Instant::now(), Duration::from_millis(*n));
                wait_until(child, || start.elapsed() >= n);
            }
            Moment::Name(part, later) => {
                // In the folder, or hidden beside it.
                let beside = || names_with(dir.folder.path(), part);
                let hidden = |p: &PathBuf| {
                    p.strip_prefix(dir.folder.path())
                        .unwrap()
                        .to_string_lossy()
                        .starts_with('.')
                };
                wait_until(child, || {
                    beside().iter().any(|p| p.starts_with(output) || hidden(p))
                });
                std::thread::sleep(Duration::from_micros(*later));
            }
            Moment::Validation => {
                let next = (steps(output) / 20 + 1) * 20;
                wait_until(child, || steps(output) >= next);
            }
            Moment::Steps(n) => {
                let before = steps(output);
                wait_until(child, || steps(output) >= before + n);
            }
        }
    }
}

#[test]
fn a_killed_run_goes_on_as_if_nothing_had_happened() {
    let dir = TestDir::new();
    let (whole, killed) = (dir.path("whole"), dir.path("killed"));
    dir.finish(&whole);
    let mut moments = vec![
        // Before anything is there, while the tokenizer is trained, while its folder is written.
        Moment::Milliseconds(random(10)),
        Moment::Name("recipe.toml", random(2000)),
        Moment::Name(".tokenizer.partial-", 0),
        // Before the first checkpoint.
        Moment::Steps(1 + random(3) as usize),
    ];
    for n in 0..10 {
        moments.push(match n % 5 {
            0 => Moment::Name(".state.checkpoint.partial-", random(500)),
            1 => Moment::Name(".partial-", random(2000)),
            2 => Moment::Name(".checkpoint.partial-", 0),
            3 => Moment::Validation,
            _ => Moment::Milliseconds(20 + random(150)),
        });
    }
    // In the last validations, and while the finished folder takes its place.
    moments.push(Moment::Steps(1000));
    for late in [0, 500, 1000, 2000] {
        moments.push(Moment::Name(".killed.partial-", random(500) + late));
    }
    moments.push(Moment::Name(".killed.complete-", 0));
    assert_eq!(moments.len(), 20);
    for moment in moments {
        let mut child = dir.start(&killed);
        moment.await_it(&mut child, &dir, &killed);
        child.kill().unwrap();
        let status = child.wait().unwrap();
        println!("{moment:?}: {status}, {} steps in the log", steps(&killed));
        assert!(status.success() || status.signal() == Some(9), "{status}");
    }
    dir.finish(&killed);
    assert!(result(&killed) == result(&whole));
    assert_tidy(&dir, &killed);
    assert!(killed.join("report.html").exists());
}

#[test]
fn what_a_kill_left_between_folders_is_put_right() {
    let dir = TestDir::new();
    let model = dir.path("m");
    dir.finish(&model);
    let before = result(&model);
    // The new folder has its name; the training still lies in the old one.
    let old = dir.path(".m.complete-abc123");
    fs::create_dir(&old).unwrap();
    for name in ["training", "config.json"] {
        fs::rename(model.join(name), old.join(name)).unwrap();
    }
    fs::write(old.join("notes.txt"), "mine").unwrap();
    // The log ends within a line, and strange files lie about.
    let log = old.join("training/log.jsonl");
    let half = fs::read_to_string(&log).unwrap() + "{\"step\":161,\"lo";
    fs::write(&log, half).unwrap();
    for name in [
        ".state.checkpoint.partial-abcdef",
        "weights-00000999.checkpoint",
    ] {
        fs::write(old.join("training").join(name), "rubbish").unwrap();
    }
    fs::write(old.join("training/.mine.partial"), "mine").unwrap();
    let out = dir.finish(&model);
    assert!(text(&out.stderr).contains("going on after step 160"));
    assert!(result(&model) == before);
    assert_eq!(fs::read(model.join("notes.txt")).unwrap(), b"mine");
    assert!(fs::remove_file(model.join("training/.mine.partial")).is_ok());
    assert_tidy(&dir, &model);
}

/// Starts or goes on with a run, and sends it a signal at this moment.
fn stop(dir: &TestDir, output: &Path, moment: &Moment, signal: Signal) -> ExitStatus {
    let mut child = dir.start(output);
    moment.await_it(&mut child, dir, output);
    let before = steps(output);
    send(&child, signal);
    let status = child.wait().unwrap();
    let after = steps(output);
    println!("{moment:?}, {signal:?}: {status}, {before} steps before, {after} after");
    status
}

#[test]
fn a_signal_saves_and_the_run_goes_on_from_there() {
    let mut dir = TestDir::new();
    dir.write_recipe(
        "long.toml",
        "[training]\nmax_steps = 600\nvalid_every = 100",
    );
    dir.recipe = "long.toml";
    let (whole, stopped) = (dir.path("whole"), dir.path("stopped"));
    dir.finish(&whole);
    let state = stopped.join("training/state.checkpoint");
    for n in 0..20 {
        let moment = match n {
            // During preparation: the system's default action is enough.
            0 => Moment::Milliseconds(random(15)),
            1 => Moment::Name("recipe.toml", random(2000)),
            _ => Moment::Steps(1 + random(10) as usize),
        };
        let (name, number) = if n % 5 == 4 {
            (Signal::INT, 2)
        } else {
            (Signal::TERM, 15)
        };
        let status = stop(&dir, &stopped, &moment, name);
        let code = status.code();
        if n < 2 {
            assert!(
                status.signal() == Some(number) || code == Some(128 + number),
                "{status}"
            );
            continue;
        }
        assert_eq!(code, Some(128 + number));
        // Everything that the log says is in the checkpoint.
        let header = text(&fs::read(&state).unwrap());
        let step: usize = header
            .split("\"step\":")
            .nth(1)
            .unwrap()
            .split(',')
            .next()
            .unwrap()
            .parse()
            .unwrap();
        assert_eq!(step, steps(&stopped));
    }
    dir.finish(&stopped);
    assert!(result(&stopped) == result(&whole));
    assert_tidy(&dir, &stopped);
}

#[test]
fn a_second_signal_ends_the_program_at_once() {
    let mut dir = TestDir::new();
    dir.write_recipe(
        "slow.toml",
        "[data]\nvalid_pairs = 500\n[training]\nvalid_beam_size = 64\nvalid_every = 1\nmax_steps = 1",
    );
    dir.recipe = "slow.toml";
    let output = dir.path("slow");
    for (first, second) in [(Signal::INT, Signal::TERM), (Signal::TERM, Signal::INT)] {
        let mut child = dir.start(&output);
        Moment::Steps(1).await_it(&mut child, &dir, &output);
        // Within the validation, which looks for signals now and then.
        std::thread::sleep(Duration::from_millis(20));
        send(&child, first);
        std::thread::sleep(Duration::from_millis(1));
        send(&child, second);
        let status = child.wait().unwrap();
        // Where both arrive before a handler runs, the system chooses which of them comes second. A first signal alone would
        // end the program with a code of its own.
        assert!(matches!(status.signal(), Some(2 | 15)), "{status}");
        let _ = fs::remove_dir_all(&output);
    }
}

#[test]
fn a_validation_can_be_killed_and_ends_soon_at_a_signal() {
    let mut dir = TestDir::new();
    // The validation after the first step takes far longer than all else: 500 sentences, with a wide beam.
    dir.write_recipe(
        "slow.toml",
        "[data]\nvalid_pairs = 500\n[training]\nvalid_beam_size = 64\nvalid_every = 1\nmax_steps = 1",
    );
    dir.recipe = "slow.toml";
    let output = dir.path("slow");
    // Killed in it: nothing is saved yet.
    let status = stop(&dir, &output, &Moment::Steps(1), Signal::KILL);
    assert_eq!(status.signal(), Some(9));
    assert!(!output.join("training/state.checkpoint").exists());
    fs::remove_file(output.join("training/log.jsonl")).unwrap();
    let status = stop(&dir, &output, &Moment::Steps(1), Signal::TERM);
    assert_eq!(status.code(), Some(143));
    let state = text(&fs::read(output.join("training/state.checkpoint")).unwrap());
    assert!(
        state.contains("\"validations\":[]"),
        "the validation was not cut short"
    );
    // It is made up for by the next run; here the signal falls into it, or into what comes before it.
    let status = stop(&dir, &output, &Moment::Milliseconds(300), Signal::TERM);
    assert!(
        status.signal() == Some(15) || status.code() == Some(143),
        "{status}"
    );
    assert!(!output.join("model.safetensors").exists());
}

#[test]
fn threads_change_nothing() {
    let dir = TestDir::new();
    let results = ["1", "2"].map(|threads| {
        let output = dir.path(threads);
        let out = dir.command(threads, &output).output().unwrap();
        assert!(out.status.success(), "{}", text(&out.stderr));
        result(&output)
    });
    assert!(results[0] == results[1]);
}

#[test]
fn a_second_run_in_the_same_folder_is_refused() {
    let dir = TestDir::new();
    let output = dir.path("m");
    let mut first = dir.start(&output);
    wait_until(&mut first, || steps(&output) > 0);
    let second = dir.run(&output);
    assert!(
        first.try_wait().unwrap().is_none(),
        "the first run was too short for this test"
    );
    first.kill().unwrap();
    first.wait().unwrap();
    assert_eq!(second.status.code(), Some(1));
    assert!(text(&second.stderr).contains("another process trains in this folder"));
    dir.finish(&output);
}

/// Runs in a mount namespace of its own, where it may mount a small file system.
#[test]
fn a_full_disk_leaves_the_checkpoint() {
    const INSIDE: &str = "HEXAPLA_TEST_NAMESPACE";
    if std::env::var_os(INSIDE).is_none() {
        let out = Command::new("unshare")
            .arg("-rm")
            .arg(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "a_full_disk_leaves_the_checkpoint",
                "--nocapture",
            ])
            .env(INSIDE, "1")
            .output();
        match out {
            Ok(out) if !text(&out.stderr).starts_with("unshare:") => {
                println!("{}", text(&out.stdout));
                assert!(out.status.success(), "{}", text(&out.stderr));
            }
            _ => println!("skipped: no mount namespace here"),
        }
        return;
    }
    let dir = TestDir::new();
    let disk = dir.path("disk");
    fs::create_dir(&disk).unwrap();
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"])
        .arg(&disk)
        .status();
    if !mounted.is_ok_and(|s| s.success()) {
        println!("skipped: nothing can be mounted here");
        return;
    }
    let refused = dir.run(&disk);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("a mount point"));
    assert_eq!(fs::read_dir(&disk).unwrap().count(), 0);
    let (whole, output) = (dir.path("whole"), disk.join("m"));
    dir.finish(&whole);
    let mut child = dir.start(&output);
    wait_until(&mut child, || steps(&output) >= 10);
    send(&child, Signal::TERM);
    assert_eq!(child.wait().unwrap().code(), Some(143));
    let state = output.join("training/state.checkpoint");
    let saved = fs::read(&state).unwrap();
    // Room for a part of a checkpoint only.
    let free = || {
        let out = Command::new("df")
            .args(["--output=avail", "-B1"])
            .arg(&disk)
            .output()
            .unwrap();
        text(&out.stdout)
            .lines()
            .nth(1)
            .unwrap()
            .trim()
            .parse::<usize>()
            .unwrap()
    };
    for room in [saved.len() / 2, saved.len() + 5000, 0] {
        fs::write(disk.join("ballast"), vec![0; free().saturating_sub(room)]).unwrap();
        let out = dir.run(&output);
        let e = text(&out.stderr);
        let e = e.split_once("error: ").unwrap().1;
        println!("{room} bytes free: {e}");
        assert_eq!(out.status.code(), Some(1));
        assert!(
            e.contains("os error 28") && e.contains("hint: free some space"),
            "{e}"
        );
        fs::remove_file(disk.join("ballast")).unwrap();
        assert!(fs::read(&state).unwrap() == saved);
    }
    dir.finish(&output);
    assert!(result(&output) == result(&whole));
    assert_tidy(&dir, &output);
    let _ = Command::new("umount").arg(&disk).status();
}

#[test]
fn a_flipped_bit_of_the_checkpoint_is_noticed() {
    let dir = TestDir::new();
    let output = dir.path("m");
    assert_eq!(
        stop(&dir, &output, &Moment::Steps(6), Signal::TERM).code(),
        Some(143)
    );
    let state = output.join("training/state.checkpoint");
    let good = fs::read(&state).unwrap();
    for place_in_file in [
        0,
        17,
        40,
        good.len() / 3,
        good.len() / 2,
        good.len() - 40,
        good.len() - 1,
    ] {
        let mut bad = good.clone();
        bad[place_in_file] ^= 1 << random(8);
        fs::write(&state, &bad).unwrap();
        let out = dir.run(&output);
        assert_eq!(out.status.code(), Some(1), "byte {place_in_file}");
        let e = text(&out.stderr);
        assert!(
            e.contains("the checkpoint cannot be used") && e.contains("state.checkpoint"),
            "{e}"
        );
        assert!(
            fs::read(&state).unwrap() == bad,
            "a damaged file is left as it is"
        );
    }
    fs::write(&state, good).unwrap();
    dir.finish(&output);
}

#[test]
fn gradients_that_are_not_finite_end_the_run_with_an_explanation() {
    let mut dir = TestDir::new();
    dir.write_recipe(
        "wild.toml",
        "[training]\nlearning_rate = 1e30\nwarmup_steps = 0\nsave_every = 1\nvalid_every = 1000\nclip_norm = 0.0\nmax_skipped_steps = 3",
    );
    dir.recipe = "wild.toml";
    let output = dir.path("m");
    let out = dir.run(&output);
    let e = text(&out.stderr);
    println!("{e}");
    assert_eq!(out.status.code(), Some(1));
    assert!(
        e.contains("not finite too often in a row") && e.contains("lower `learning_rate`"),
        "{e}"
    );
    // What the last checkpoint holds makes no finite gradient: it is put aside, and the same command meets the same end.
    let training = output.join("training");
    assert!(training.join("astray.checkpoint").exists());
    assert!(!training.join("state.checkpoint").exists());
    let e = text(&dir.run(&output).stderr);
    assert!(e.contains("not finite too often"), "{e}");
    assert!(!output.join("model.safetensors").exists());
    // As the hint says.
    dir.write_recipe("wild.toml", "[training]\nlearning_rate = 1e-3\nwarmup_steps = 0\nsave_every = 1\nvalid_every = 1000\nclip_norm = 0.0\nmax_skipped_steps = 3");
    let out = dir.command("2", &output).arg("--change").output().unwrap();
    assert!(out.status.success(), "{}", text(&out.stderr));
    assert!(!training.join("astray.checkpoint").exists());
}
