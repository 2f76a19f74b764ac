//! `hexapla align` and `translate --alignments`, and what is refused.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::{TestDir, text};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The embedded model as a folder `model`, without its reading of alignments.
fn dir() -> TestDir {
    let dir = TestDir::new();
    fs::create_dir(dir.path("model")).unwrap();
    for entry in fs::read_dir(root().join("models/demo")).unwrap() {
        let from = entry.unwrap().path();
        fs::copy(&from, dir.path("model").join(from.file_name().unwrap())).unwrap();
    }
    let mut manifest: serde_json::Value =
        serde_json::from_str(&dir.read("model/manifest.json")).unwrap();
    manifest.as_object_mut().unwrap().remove("alignment");
    dir.write("model/manifest.json", manifest.to_string());
    for name in ["de-en.tsv", "zh-en.tsv"] {
        fs::copy(root().join("bench/alignments").join(name), dir.path(name)).unwrap();
    }
    dir
}

/// The numbers of the line that begins with `name`.
fn rates(table: &str, name: &str) -> Vec<f64> {
    let line = table.lines().find(|line| line.starts_with(name)).unwrap();
    let columns: Vec<&str> = line.split('\t').collect();
    columns[5..].iter().map(|x| x.parse().unwrap()).collect()
}

#[test]
fn the_best_reading_is_measured_saved_and_used() {
    let dir = dir();
    let gold = "align --model model --gold de-en.tsv --gold zh-en.tsv";
    let (table, told) = dir.accept(&format!("{gold} --save"));
    for direction in ["de-en", "en-de", "zh-en", "en-zh"] {
        assert!(told.contains(&format!("{direction}: ")), "{told}");
    }
    let (before, best) = (rates(&table, "not measured"), rates(&table, "1\t"));
    assert_eq!(rates(&table, "the model's"), before);
    // Better on the half that it was not chosen by, too, and far from chance.
    assert!(best[0] < before[0] && best[1] < before[1], "{table}");
    assert!(best[0] < 20.0 && best[1] < 26.0, "{table}");
    let manifest = dir.read("model/manifest.json");
    assert!(manifest.contains("\"alignment\": {"), "{manifest}");
    let (table, _) = dir.accept(gold);
    assert_eq!(rates(&table, "the model's"), best, "{table}");
    dir.accept("inspect model");
    // The model inside the program has this reading.
    let embedded = fs::read_to_string(root().join("models/demo/manifest.json")).unwrap();
    let reading = |text: &str| -> serde_json::Value {
        serde_json::from_str::<serde_json::Value>(text).unwrap()["alignment"].clone()
    };
    assert_eq!(reading(&embedded), reading(&manifest));
    let mut translated = dir.command("translate --model model --to en --alignments");
    let line = text(&translated.arg("Der Hund schläft.").output().unwrap().stdout);
    let (english, alignment) = line.trim().split_once('\t').unwrap();
    assert_eq!(english, "The dog is sleeping.");
    // Token 0 is the tag; neither it nor an end token is aligned.
    assert!(alignment.contains("1-0 2-1"), "{line}");
    assert!(
        !alignment.split(' ').any(|pair| pair.starts_with("0-")),
        "{line}"
    );
}

#[test]
fn pairs_come_out_line_by_line() {
    let dir = TestDir::new();
    let long = "word ".repeat(2000);
    dir.write(
        "given.tsv",
        format!("Der Hund schläft.\tThe dog is sleeping.\n\n{long}\tlong\nJa.\tYes.\n"),
    );
    let (out, told) = dir.accept("align --tsv given.tsv --from de --to en");
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines.len(), 4, "{out}");
    assert!(lines[0].starts_with("1-0 2-1"), "{out}");
    assert_eq!(lines[1..3], ["", ""]);
    assert!(!lines[3].is_empty());
    assert!(told.contains("1 pairs are longer"), "{told}");
    // The other way round, and another reading.
    let (back, _) = dir.accept("align --tsv given.tsv --reverse --from en --to de");
    assert_eq!(back.lines().count(), 4);
    let flags = "--layer 1 --heads 1,2 --step input --weights norm";
    let (other, _) = dir.accept(&format!("align --tsv given.tsv --from de --to en {flags}"));
    assert_eq!(other.lines().count(), 4);
}

#[test]
fn words_that_the_vocabulary_does_not_have_are_aligned() {
    let dir = TestDir::new();
    let model = root().join("crates/hexapla/tests/golden/marian_words");
    let model = model.display();
    let (out, _) = dir.accept(&format!(
        "translate --model {model} --alignments hello world"
    ));
    for line in out.lines() {
        let (english, alignment) = line.split_once('\t').unwrap();
        assert_eq!(
            alignment.split(' ').count(),
            english.split(' ').count(),
            "{out}"
        );
    }
}

#[test]
fn what_cannot_be_aligned_is_said() {
    let dir = dir();
    dir.write("plain.tsv", "one column\n");
    dir.write("xx-yy.tsv", "a\tb\ta\tb\t0-0\n");
    dir.write("de-en.one.tsv", "Ja.\tYes.\tJa .\tYes .\t0-0 1-1\n");
    dir.write("de-en.other.tsv", "a\tb\ta\tb\t0-7\n");
    dir.write("empty.tsv", "");
    for (arguments, words) in [
        ("align --tsv plain.tsv", "line 1"),
        ("align --tsv empty.tsv", "empty.tsv"),
        ("align --tsv missing.tsv", "missing.tsv"),
        ("align --tsv de-en.tsv --layer 0", "--layer"),
        ("align --tsv de-en.tsv --layer 99", "layer"),
        ("align --tsv de-en.tsv --layer 1 --heads 99", "head"),
        ("align --tsv de-en.tsv --layer 1 --heads 0", "--heads"),
        ("align --gold plain.tsv", "de-en.tsv"),
        ("align --gold xx-yy.tsv", "no pair"),
        ("align --gold de-en.one.tsv", "at least two"),
        ("align --gold de-en.other.tsv", "0-7"),
        ("align --gold missing-en.tsv", "missing-en.tsv"),
    ] {
        let told = dir.refuse(arguments);
        assert!(told.contains(words), "{arguments}: {told}");
    }
    // A folder whose manifest asks for a layer that is not there still translates; only its alignments are refused.
    let manifest = dir.read("model/manifest.json");
    let lying = manifest.replacen('{', "{\"alignment\": {\"layer\": 77, \"heads\": [5]},", 1);
    dir.write("model/manifest.json", lying);
    dir.accept("translate --model model --input pairs.tsv");
    let told = dir.refuse("translate --model model --alignments Ja.");
    assert!(
        told.contains("no such layer") && told.contains("78"),
        "{told}"
    );
    let (table, _) = dir.accept("align --model model --gold de-en.tsv");
    assert!(
        !table.contains("the model's") && table.contains("not measured"),
        "{table}"
    );
    dir.accept("explain Ja. --model model --to en --json trace.json");
    assert!(dir.read("trace.json").contains("\"alignment\":null"));
    // Nothing to write to.
    fs::remove_file(dir.path("model/manifest.json")).unwrap();
    let told = dir.refuse("align --model model --gold de-en.tsv --save");
    assert!(told.contains("no manifest"), "{told}");
}
