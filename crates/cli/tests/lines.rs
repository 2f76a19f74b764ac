//! A line out for each line in, whatever stands in it and wherever it comes from.

mod common;

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use common::{TestDir, text};

/// A program that writes a line, waits for its answer, and writes the next.
#[test]
fn a_line_on_a_pipe_is_answered_before_the_next_one_comes() {
    let dir = TestDir::new();
    let mut encoded = dir.command("tokenizer train --tsv pairs.tsv --vocab-size 320 --output tok");
    assert!(encoded.output().unwrap().status.success());
    for (args, lines) in [
        ("translate --to de", ["Good morning.\n", "Thank you.\n"]),
        (
            "translate --to de --input -",
            ["Good morning.\n", "Thank you.\n"],
        ),
        (
            "score --tsv -",
            ["Hello.\tHallo.\n", "Thank you.\tDanke.\n"],
        ),
        ("tokenizer encode --model tok", ["one two\n", "three\n"]),
    ] {
        let mut command = dir.command(args);
        let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
        let mut input = child.stdin.take().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
        for line in lines {
            input.write_all(line.as_bytes()).unwrap();
            input.flush().unwrap();
            // Would wait for ever if the line were held back.
            assert!(!output.next().unwrap().unwrap().is_empty(), "{args}");
        }
        drop(input);
        assert!(output.next().is_none(), "{args}");
        assert!(child.wait().unwrap().success(), "{args}");
    }
}

#[test]
fn a_line_that_cannot_be_read_is_told_after_those_before_it() {
    let dir = TestDir::new();
    let out = dir.feed("translate --to de", b"Good morning.\n\xFF\n");
    assert_eq!(
        (out.status.code(), text(&out.stdout).lines().count()),
        (Some(1), 1)
    );
    assert!(text(&out.stderr).contains("standard input, line 2"));
}

#[test]
fn what_nobody_sees_changes_no_translation() {
    let dir = TestDir::new();
    let plain = [
        "Der Zug fährt um neun Uhr ab.",
        "我有12个苹果。",
        "Ich bin müde. Gute Nacht.",
    ];
    let translate = |lines: &[String]| {
        let input: String = lines.iter().map(|l| format!("{l}\n")).collect();
        text(&dir.feed("translate --to en", input.as_bytes()).stdout)
    };
    let wanted = translate(&plain.map(String::from));
    for c in [
        '\u{AD}', '\u{200B}', '\u{200E}', '\u{200F}', '\u{202A}', '\u{2060}', '\u{2066}',
        '\u{FEFF}', '\u{180E}',
    ] {
        let strewn = plain.map(|line| {
            let strewn = line.chars().flat_map(|l| [l, c]);
            format!("{c}{}", strewn.collect::<String>())
        });
        assert_eq!(translate(&strewn), wanted, "{c:?}");
    }
    let wide = plain.map(|line| {
        line.replace('1', "１")
            .replace('2', "２")
            .replace('D', "Ｄ")
    });
    assert_eq!(translate(&wide), wanted);
}

#[test]
fn what_the_model_cannot_see_comes_out_as_it_went_in() {
    let dir = TestDir::new();
    let lines = [
        "",
        " ",
        "\t",
        "\u{A0}",
        "\u{3000}",
        "\u{200B}",
        "\u{FEFF}\u{AD}",
        "\u{2060} \u{200E}",
    ];
    for flags in ["--to de", "--to de --no-split"] {
        // Not first: a byte order mark there is none of the text.
        let input = format!("Hello.\n{}\n", lines.join("\n"));
        let out = text(
            &dir.feed(&format!("translate {flags}"), input.as_bytes())
                .stdout,
        );
        assert_eq!(
            out.split('\n').skip(1).collect::<Vec<_>>(),
            [&lines[..], &[""]].concat(),
            "{flags}"
        );
    }
}

#[test]
fn white_space_around_and_between_sentences_is_kept() {
    let dir = TestDir::new();
    let translate = |line: &str, flags: &str| {
        let out = dir.feed(
            &format!("translate --to de {flags}"),
            format!("{line}\n").as_bytes(),
        );
        text(&out.stdout).strip_suffix('\n').unwrap().to_string()
    };
    let (good, thanks) = (translate("Good morning.", ""), translate("Thank you.", ""));
    for flags in ["", "--no-split"] {
        for (before, after) in [
            ("   ", ""),
            ("", "  "),
            ("\u{3000}", "\t"),
            ("\t\t", " \u{A0}"),
        ] {
            let found = translate(&format!("{before}Good morning.{after}"), flags);
            assert_eq!(found, format!("{before}{good}{after}"), "{flags}");
        }
    }
    for between in ["  ", "\t", " \t ", "\u{2028}", "\u{B}"] {
        let found = translate(&format!(" Good morning.{between}Thank you. "), "");
        assert_eq!(found, format!(" {good}{between}{thanks} "));
    }
    // Before a tag and after it.
    let tagged = text(&dir.feed("translate", b"  >>de<<  Good morning. \n").stdout);
    assert_eq!(tagged, format!("   {good} \n"));
}

#[test]
fn compressed_files_are_read_by_every_command() {
    let dir = TestDir::new();
    for (tool, ending) in [("gzip", "gz"), ("zstd", "zst")] {
        let made = Command::new(tool)
            .args(["-k", "-q", "pairs.tsv"])
            .current_dir(dir.path(""))
            .status();
        if !made.is_ok_and(|status| status.success()) {
            println!("{tool} is not installed: its files are tested in the library alone");
            continue;
        }
        let file = format!("pairs.tsv.{ending}");
        let (plain, _) = dir.accept("score --tsv pairs.tsv");
        let (packed, _) = dir.accept(&format!("score --tsv {file}"));
        assert_eq!(packed, plain);
        let bytes = std::fs::read(dir.path(&file)).unwrap();
        assert_eq!(text(&dir.feed("score --tsv -", &bytes).stdout), plain);
        dir.accept(&format!(
            "train --config recipe.toml --tsv {file} --max-steps 1 --output m-{ending}"
        ));
        dir.accept(&format!(
            "tokenizer train --tsv {file} --vocab-size 320 --output t-{ending}"
        ));
        // A part of it: the lines before are scored, and then it is told.
        dir.write("part", &bytes[..bytes.len() / 2]);
        let out = dir.run("score --tsv part");
        assert_eq!(out.status.code(), Some(1));
        assert!(text(&out.stderr).contains("part"), "{}", text(&out.stderr));
    }
    dir.write("text.xz", b"\xFD7zXZ\0\0\0");
    let told = dir.refuse("translate --input text.xz");
    assert!(told.contains("found: xz"), "{told}");
}

#[test]
fn irregular_rows_are_counted_or_named() {
    let dir = TestDir::new();
    let pairs = dir.read("pairs.tsv");
    dir.write("blank.tsv", format!("{pairs}\n   \none\teins\tcredit\n"));
    let (said, told) =
        dir.accept("train --config recipe.toml --tsv blank.tsv --max-steps 1 --output m");
    assert!(told.contains("2 empty"), "{said}{told}");
    assert!(
        told.contains("lines with more than two columns, whose others are passed over: 1"),
        "{told}"
    );
    let (scores, _) = dir.accept("score --tsv blank.tsv");
    assert_eq!(scores.lines().count(), 346);
    dir.write("mac.tsv", pairs.replace('\n', "\r"));
    for args in [
        "score --tsv mac.tsv",
        "translate --input mac.tsv",
        "train --tsv mac.tsv --output n",
    ] {
        let told = dir.refuse(args);
        assert!(told.contains("CR alone"), "{told}");
    }
}

#[test]
fn a_dash_is_standard_input_everywhere() {
    let dir = TestDir::new();
    dir.write("a", "eins zwei drei vier\n");
    let out = dir.feed(
        "evaluate --hypothesis - --reference a",
        b"eins zwei drei vier\n",
    );
    assert!(
        text(&out.stdout).contains("BLEU = 100.00"),
        "{}",
        text(&out.stderr)
    );
    let out = dir.feed(
        "evaluate --hypothesis a --reference -",
        b"eins zwei drei vier\n",
    );
    assert!(
        text(&out.stdout).contains("BLEU = 100.00"),
        "{}",
        text(&out.stderr)
    );
    let out = dir.feed("translate --input-ids -", b"[5, 17, 2]\n");
    assert!(text(&out.stdout).starts_with('['), "{}", text(&out.stderr));
    let out = dir.feed(
        "tokenizer train --input - --vocab-size 300 --output t",
        b"one two three\n",
    );
    assert!(out.status.success(), "{}", text(&out.stderr));
    dir.accept("convert --output m --compute-type float32");
    let ids = br#"{"input_ids": [[5, 2]], "decoder_input_ids": [[1]]}"#;
    let out = dir.feed("logits m --input -", ids);
    assert!(
        text(&out.stdout).starts_with("{\"logits\":"),
        "{}",
        text(&out.stderr)
    );
}

#[test]
fn words_that_do_not_fit_are_told() {
    let dir = TestDir::new();
    for (line, name) in [
        ("車站在哪里", "zh"),
        ("えきはどこですか", "char"),
        ("สถานีอยู่ที่ไหน", "char"),
    ] {
        dir.write("a", format!("{line}\n"));
        let (_, told) = dir.accept("evaluate --hypothesis a --reference a");
        assert!(told.contains(&format!("`--tokenize {name}`")), "{told}");
        let (said, told) = dir.accept(&format!(
            "evaluate --hypothesis a --reference a --tokenize {name}"
        ));
        assert!(
            said.contains("BLEU = 100.00") && told.is_empty(),
            "{said}{told}"
        );
    }
}

#[test]
fn standard_input_is_one_input() {
    let dir = TestDir::new();
    let out = dir.feed("score --source - --target -", b"one\n");
    assert_eq!(out.status.code(), Some(1));
    assert!(
        text(&out.stderr).contains("`-` twice"),
        "{}",
        text(&out.stderr)
    );
    let recipe = dir.read("recipe.toml");
    let out = dir.feed(
        "train --config - --tsv pairs.tsv --max-steps 1 --output m",
        recipe.as_bytes(),
    );
    assert!(out.status.success(), "{}", text(&out.stderr));
}

#[test]
fn text_that_begins_like_another_format_is_text() {
    let dir = TestDir::new();
    for line in [
        "PAR1 is a receptor.",
        "BZh is no word.",
        "PK is a name.",
        "7z is a program.",
        "%PDF- begins a file.",
    ] {
        let out = dir.feed("translate --to de", format!("{line}\n").as_bytes());
        assert_eq!(
            text(&out.stdout).lines().count(),
            1,
            "{}",
            text(&out.stderr)
        );
    }
}

#[test]
fn the_fastest_compute_type_is_measured_and_told() {
    let dir = TestDir::new();
    let (said, told) = dir.accept("translate --to de --compute-type auto hello");
    let chosen = ["float32", "bf16", "int8"]
        .into_iter()
        .find(|name| told.contains(&format!("compute type: {name} (measured here")));
    let chosen = chosen.unwrap_or_else(|| panic!("{told}"));
    let (named, told) = dir.accept(&format!("translate --to de --compute-type {chosen} hello"));
    assert_eq!(said, named);
    assert!(!told.contains("measured"), "{told}");
}
