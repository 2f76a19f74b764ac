//! Text that is missing, broken or strange, in every command that reads text.

use crate::harness::{Table, split};

/// Every command that reads a text, with `@` for its file. Files beside it have two good lines.
const READERS: [&str; 18] = [
    "translate --model model --input @",
    "translate --model model --input good --target-prefix @",
    "translate --model model --input-ids @",
    "score --model model --tsv @",
    "score --model model --source @ --target good",
    "score --model model --source good --target @",
    "evaluate --hypothesis @ --reference good",
    "evaluate --hypothesis good --reference @",
    "evaluate --model model --source @ --reference good --output new",
    "evaluate --model model --tsv @ --calibration new.svg",
    "evaluate --model model --source good --reference good --calibration new.svg --calibration-text @",
    "tokenizer train --input @ --output new.json",
    "tokenizer train --tsv @ --output new",
    "tokenizer encode --model model @",
    "tokenizer decode --model model @",
    "tokenizer stats --model model @",
    "train --config recipe.toml --tsv @ --output new",
    "train --config recipe.toml --source good --target @ --output new",
];

fn table() -> Table {
    let table = Table::new();
    table.file("good", "a man\na dog\n");
    table
}

/// All of `READERS` with each of `files`; each is refused.
fn refuse_everywhere(table: &mut Table, files: &[(&str, &str)]) {
    for (why, file) in files {
        for reader in READERS {
            table.refuse(why, &reader.replace('@', file));
        }
    }
}

#[test]
fn text_that_cannot_be_read() {
    let mut table = table();
    table.file("latin1", b"a\tman\nM\xE4nner\tx\n");
    table.file("nul", b"a\tman\nb\0c\tx\n");
    table.file(
        "long",
        [b"a\tman\n", vec![b'x'; 10 << 20].as_slice(), b"\n"].concat(),
    );
    std::fs::create_dir(table.path("folder")).unwrap();
    refuse_everywhere(
        &mut table,
        &[
            ("no such file", "missing"),
            ("a folder", "folder"),
            ("not UTF-8", "latin1"),
            ("a NUL byte", "nul"),
            ("a line of 10 MB", "long"),
        ],
    );
    #[cfg(unix)]
    table.refuse(
        "a line without an end",
        "tokenizer encode --model model /dev/zero",
    );
    table.check("unreadable_text");
}

#[test]
fn empty_files() {
    let mut table = table();
    table.file("empty", "");
    table.file("blank", "\n \n");
    table.file("blanks.tsv", "\t\n \t \n");
    for reader in READERS {
        let args = reader.replace('@', "empty");
        // What works line by line has nothing to do.
        match reader.split(' ').collect::<Vec<_>>()[..] {
            ["translate", .., "--input" | "--input-ids", "@"]
            | ["tokenizer", "encode" | "decode", ..] => {
                table.accept("an empty file", &args, 0);
            }
            ["tokenizer", "stats", ..] => {
                let ran = table.run(&split(&args), b"");
                assert_eq!(ran.code, 0, "{}", ran.stderr);
            }
            _ => table.refuse("an empty file", &args),
        }
    }
    for args in [
        "tokenizer train --input blank --output new.json",
        "tokenizer train --tsv blanks.tsv --output new",
        "train --config recipe.toml --tsv blanks.tsv --output new",
    ] {
        table.refuse("nothing but white space", args);
    }
    table.check("empty_files");
}

#[test]
fn sides_that_do_not_pair_up() {
    let mut table = table();
    table.file("three", "a\nb\nc\n");
    table.file("column", "a\tb\none column\n");
    for args in [
        "train --config recipe.toml --source good --target three --output new",
        "score --model model --source good --target three",
        "evaluate --hypothesis good --reference three",
        "evaluate --hypothesis good --reference good --reference three",
        "evaluate --model model --source three --reference good --output new",
        "translate --model model --input good --target-prefix three",
        "translate --model model --input three --target-prefix good",
    ] {
        table.refuse("different numbers of lines", args);
    }
    for args in [
        "train --config recipe.toml --tsv column --output new",
        "score --model model --tsv column",
        "evaluate --model model --tsv column",
        "tokenizer train --tsv column --output new",
    ] {
        table.refuse("a line with one column", args);
    }
    table.file("recipe2.toml", "[data]\nsource = \"good\"\n");
    table.refuse(
        "one side in the recipe",
        "train --config recipe2.toml --output new",
    );
    table.file(
        "recipe3.toml",
        "[data]\nsource = \"good\"\ntarget = \"good\"\ntsv = \"pairs.tsv\"\n",
    );
    table.refuse(
        "data named twice",
        "train --config recipe3.toml --output new",
    );
    table.refuse("no data at all", "train --output new");
    table.file(
        "recipe4.toml",
        "[data]\ntsv = \"pairs.tsv\"\nvalid_source = \"good\"\n",
    );
    table.refuse(
        "one side of the validation",
        "train --config recipe4.toml --output new",
    );
    table.check("sides");
}

/// Lines that are strange and legal: twelve of them, on both sides of a tab.
fn strange() -> Vec<String> {
    [
        "a man",
        "",
        "   ",
        "\t",
        "a\u{2028}b\u{2029}c\u{85}d\u{b}e\u{c}f",
        "a\rb",
        "bell \u{7} escape \u{1b}[31m delete \u{7f}",
        "\u{202e}right to left\u{202c} \u{200f}שלום\u{200e}",
        "𐌰𐌱𐌲 བོད་ ꙮ \u{10ffff}",
        "zero\u{200b}width\u{feff}joined e\u{301}\u{302}\u{303}",
        "<s> </s> <pad> <unk> <0x0A> ▁ @@ >>de<<",
        "   a   man   ",
    ]
    .map(str::to_string)
    .to_vec()
}

#[test]
fn strange_text_gives_a_line_for_each_line() {
    let mut table = table();
    let lines = strange();
    let count = lines.len();
    table.file("plain", lines.join("\n"));
    table.file("dos", format!("\u{feff}{}\r\n", lines.join("\r\n")));
    for file in ["plain", "dos"] {
        let n_best = count * 2;
        for (args, lines) in [
            (format!("translate --model model --input {file}"), count),
            (
                format!(
                    "translate --model model --input {file} --no-split --scores --alignments --token-probabilities"
                ),
                count,
            ),
            (
                format!("translate --model model --input {file} --beam-size 2 --n-best 2"),
                n_best,
            ),
            (
                format!("translate --model model --input {file} --target-prefix {file}"),
                count,
            ),
            (
                format!("translate --model model --input {file} --to de"),
                count,
            ),
            (format!("tokenizer encode --model model {file}"), count),
            (
                format!("tokenizer encode --model model --ids {file}"),
                count,
            ),
        ] {
            table.accept("strange text", &args, lines);
        }
    }
    // The same lines and nothing else: mark and carriage returns are no text.
    let encoded = |file: &str| {
        table
            .run(
                &["tokenizer", "encode", "--model", "model", "--ids", file],
                b"",
            )
            .stdout
    };
    let ids = encoded("plain");
    assert_eq!(ids, encoded("dos"));
    table.file("ids", &ids);
    table.accept(
        "strange text",
        "tokenizer decode --model model --ids ids",
        count,
    );

    let tsv = |end: &str| {
        let rows = lines.iter().filter(|l| !l.contains('\t'));
        rows.map(|l| format!("{l}\t{l}{end}")).collect::<String>()
    };
    table.file("plain.tsv", tsv("\n"));
    table.file("dos.tsv", format!("\u{feff}{}", tsv("\r\n")));
    for file in ["plain.tsv", "dos.tsv"] {
        let args = format!("score --model model --tsv {file}");
        table.accept("strange text", &args, count - 1);
    }
    table.accept(
        "strange text",
        "evaluate --hypothesis plain --reference dos",
        4,
    );
    table.accept(
        "strange text",
        "train --config recipe.toml --tsv dos.tsv --output trained",
        4,
    );
    table.check("strange_text");
}

#[test]
fn arguments_and_standard_input_are_text_too() {
    let table = table();
    let run = |args: &[&str], input: &[u8]| {
        let all = [&["translate", "--model", "model"], args].concat();
        table.run(&all, input)
    };
    assert_eq!(run(&["a man"], b"").lines(), 1);
    assert_eq!(run(&["a man", "", " "], b"").lines(), 3);
    assert_eq!(run(&["a man\na dog\n", "b"], b"").lines(), 3);
    assert_eq!(run(&["\u{feff}a\u{2028}b\r"], b"").lines(), 1);
    assert_eq!(run(&[], b"a man\r\n\na dog").lines(), 3);
    assert_eq!(run(&["--input", "-"], b"a man\n").lines(), 1);
    assert_eq!((run(&[], b"").code, run(&[], b"").lines()), (0, 0));
    let broken = run(&[], b"a man\n\xFF\n");
    // The line before it is answered first.
    assert_eq!((broken.code, broken.lines()), (1, 1));
    assert!(
        broken.stderr.contains("standard input, line 2"),
        "{}",
        broken.stderr
    );
    // More lines than are translated at a time.
    let many = "a\n".repeat(2050);
    assert_eq!(
        run(&["--max-decoding-length", "1"], many.as_bytes()).lines(),
        2050
    );
}
