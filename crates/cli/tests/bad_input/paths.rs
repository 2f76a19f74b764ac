//! Paths that cannot be written to: files in the way, full disks, readers that have gone.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};

use crate::harness::{Ran, Table, hexapla, split};

/// Commands that write `@`.
const WRITERS: [&str; 4] = [
    "train --config recipe.toml --tsv pairs.tsv --output @",
    "tokenizer train --input pairs.tsv --output @",
    "tokenizer train --input pairs.tsv --output @.json",
    "evaluate --model model --source good --reference good --output @",
];

/// Commands that write to standard output.
const SPEAKERS: [&str; 8] = [
    "translate --model model --input good",
    "translate --model model --input-ids ids",
    "score --model model --tsv pairs.tsv",
    "evaluate --hypothesis good --reference good",
    "logits model --input ids.json",
    "inspect model",
    "tokenizer encode --model model good",
    "tokenizer stats --model model good",
];

fn table() -> Table {
    let table = Table::new();
    table.file("good", "a man\na dog\n");
    table.file("ids", "[5, 2]\n[6, 2]\n");
    table.file(
        "ids.json",
        r#"{"input_ids": [[5]], "decoder_input_ids": [[0]]}"#,
    );
    table
}

#[test]
fn paths_that_do_not_exist() {
    let mut table = table();
    // Permissions do not bind root; a path through a file binds everybody.
    for writer in WRITERS {
        table.refuse("a file in the way", &writer.replace('@', "good/new"));
    }
    table.refuse(
        "a file in the way",
        "train --config recipe.toml --tsv pairs.tsv --output good",
    );
    table.refuse(
        "the folder that one stands in",
        "train --config recipe.toml --tsv pairs.tsv --output .",
    );
    table.refuse(
        "a file in the way",
        "tokenizer train --input good --output good",
    );
    table.refuse(
        "a folder in the way",
        "evaluate --model model --source good --reference good --output model",
    );
    std::fs::create_dir(table.path("new.json")).unwrap();
    table.refuse(
        "a folder in the way",
        "tokenizer train --input good --output new.json",
    );
    table.refuse(
        "no such folder",
        "evaluate --model model --source good --reference good --output none/new",
    );
    table.refuse(
        "no such folder",
        "tokenizer train --input good --output none/new.json",
    );
    table.check("paths");
}

#[test]
fn standard_output_that_is_full() {
    let mut table = table();
    if !std::path::Path::new("/dev/full").exists() {
        return eprintln!("skipped: no /dev/full here");
    }
    for speaker in SPEAKERS {
        table.refuse_with("a full disk behind standard output", speaker, |command| {
            command.stdout(std::fs::File::create("/dev/full").unwrap());
        });
    }
    table.check("full_output");
}

#[test]
fn readers_that_go_away() {
    let table = table();
    table.file("many", "a man\n".repeat(3000));
    for args in [
        "tokenizer encode --model model many",
        "tokenizer decode --model model many",
    ]
    .into_iter()
    .chain(SPEAKERS)
    {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = hexapla()
            .args(split(args))
            .current_dir(table.path(""))
            .stdout(writer)
            .stderr(Stdio::piped())
            .output()
            .unwrap();
        let ran = Ran::of(output, &[args]);
        let is_decode = args.starts_with("tokenizer decode");
        assert!(is_decode || ran.code == 0, "{args}: {}", ran.stderr);
        assert!(
            is_decode || !ran.stderr.contains("error"),
            "{args}: {}",
            ran.stderr
        );
    }
    // `| head -1`: the first line comes, then the reader is gone.
    let mut child = hexapla()
        .args(split(
            "translate --model model --input many --max-decoding-length 1",
        ))
        .current_dir(table.path(""))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    assert!(line.ends_with('\n'));
    let mut stderr = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut stderr)
        .unwrap();
    assert!(child.wait().unwrap().success(), "{stderr}");
    assert!(
        !stderr.contains("panicked") && !stderr.contains("error"),
        "{stderr}"
    );
    // Nobody reads the notes either.
    for args in [
        "train --config recipe.toml --tsv pairs.tsv --output new",
        "translate --model missing a",
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let status = hexapla()
            .args(split(args))
            .current_dir(table.path(""))
            .stdout(Stdio::null())
            .stderr(writer)
            .status()
            .unwrap();
        assert_eq!(
            status.code(),
            Some(i32::from(args.contains("missing"))),
            "{args}"
        );
    }
}

#[test]
fn standard_streams_that_are_closed() {
    let table = table();
    for (args, lines) in [
        ("translate --model model", 0),
        ("tokenizer encode --model model", 0),
        ("tokenizer decode --model model", 0),
        ("translate --model model a", 1),
    ] {
        let script = format!("exec \"$0\" {args} <&-");
        let ran = shell(&table, &script);
        assert_eq!(
            (ran.code, ran.lines()),
            (0, lines),
            "{args}: {}",
            ran.stderr
        );
    }
    for closed in [">&-", "2>&-", ">&- 2>&- <&-"] {
        shell(
            &table,
            &format!("exec \"$0\" translate --model model a {closed}"),
        );
    }
    let ran = shell(&table, "exec \"$0\" translate --model model < model");
    assert!(
        ran.code == 1 && ran.stderr.contains("standard input"),
        "{}",
        ran.stderr
    );
}

fn shell(table: &Table, script: &str) -> Ran {
    let output = Command::new("sh")
        .args(["-c", script, env!("CARGO_BIN_EXE_hexapla")])
        .current_dir(table.path(""))
        .output()
        .unwrap();
    Ran::of(output, &[script])
}

/// A file system of 64 KiB, mounted in a name space of the test's own so that it goes with the process.
#[test]
fn a_full_disk() {
    let table = table();
    let can = Command::new("unshare")
        .args(["-rm", "mount", "-t", "tmpfs", "none", "/mnt"])
        .output()
        .is_ok_and(|o| o.status.success());
    if !can {
        return eprintln!("skipped: this user may not mount a file system");
    }
    std::fs::create_dir(table.path("disk")).unwrap();
    for (writer, kilobytes) in WRITERS.into_iter().flat_map(|w| [(w, 0), (w, 40)]) {
        let args = writer.replace('@', "disk/new");
        // `size=4k` is the least; one file fills what should be full.
        let script = format!(
            "mount -t tmpfs -o size=64k none disk && head -c {}k /dev/zero > disk/fill; \
             \"$0\" {args}; code=$?; find disk -type f ! -name fill ! -name lock -size -1c; find disk -name '.*' -o -name '*.tmp' >&2; exit $code",
            64 - kilobytes
        );
        let output = Command::new("unshare")
            .args(["-rm", "sh", "-c", &script, env!("CARGO_BIN_EXE_hexapla")])
            .current_dir(table.path(""))
            .output()
            .unwrap();
        let ran = Ran::of(output, &[&args]);
        if kilobytes == 0 {
            assert_eq!(ran.code, 1, "{args}: {}", ran.stderr);
            for part in ["where: disk/new", "No space left", "hint: free some space"] {
                assert!(ran.stderr.contains(part), "{args}: {part}\n{}", ran.stderr);
            }
            assert!(
                !ran.stderr.contains("disk/."),
                "{args}: temporary files stay\n{}",
                ran.stderr
            );
        }
        assert_eq!(
            ran.stdout.matches("disk/").count(),
            0,
            "{args}: an empty file stays\n{}",
            ran.stdout
        );
    }
}
