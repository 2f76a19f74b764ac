//! Flags and recipes: unknown, misspelt, of the wrong type, out of range, or contradicting each other.

use crate::harness::{RECIPE, Table, split};

#[test]
fn help_is_never_refused() {
    let table = Table::new();
    for command in [
        "",
        "train",
        "translate",
        "score",
        "evaluate",
        "logits",
        "inspect",
        "tokenizer",
        "tokenizer train",
        "tokenizer encode",
        "tokenizer decode",
        "tokenizer stats",
    ] {
        let ran = table.run(&split(&format!("{command} --help")), b"");
        assert_eq!(ran.code, 0, "{command}");
        assert!(ran.stdout.contains("Usage: hexapla"), "{}", ran.stdout);
    }
    for args in ["", "tokenizer"] {
        let ran = table.run(&split(args), b"");
        assert_eq!(ran.code, 2, "{args}");
        assert!(ran.stderr.contains("Usage: hexapla"), "{}", ran.stderr);
    }
    assert_eq!(table.run(&["--version"], b"").lines(), 1);
}

#[test]
fn command_lines() {
    let mut table = Table::new();
    for (why, args) in [
        ("an unknown command", "trainn"),
        ("an unknown flag", "translate --beam-sise 4 a"),
        ("a flag without its value", "translate --beam-size"),
        ("a number that is none", "translate --beam-size four a"),
        ("a negative count", "translate --beam-size -1 a"),
        (
            "a number that no machine holds",
            "translate --beam-size 99999999999999999999 a",
        ),
        ("a number that is none", "--threads many translate a"),
        ("an unknown value", "translate --early-stopping often a"),
        (
            "an unknown value",
            "tokenizer train --input pairs.tsv --output new.json --kind bpee",
        ),
        (
            "an unknown value",
            "tokenizer encode --model model --side left",
        ),
        (
            "flags that exclude each other",
            "translate --input pairs.tsv a",
        ),
        (
            "flags that exclude each other",
            "translate --input-ids pairs.tsv --to de",
        ),
        (
            "flags that exclude each other",
            "translate --input-ids pairs.tsv --scores",
        ),
        (
            "flags that exclude each other",
            "evaluate --tsv pairs.tsv --reference pairs.tsv",
        ),
        (
            "flags that exclude each other",
            "evaluate --hypothesis pairs.tsv --reference pairs.tsv --beam-size 2",
        ),
        (
            "flags that exclude each other",
            "evaluate --hypothesis pairs.tsv --reference pairs.tsv --calibration new.svg",
        ),
        (
            "flags that exclude each other",
            "evaluate --source pairs.tsv --reference pairs.tsv --reverse",
        ),
        (
            "flags that exclude each other",
            "train --tsv pairs.tsv --source pairs.tsv --target pairs.tsv --output new",
        ),
        (
            "flags that exclude each other",
            "train --demo --tsv pairs.tsv --output new",
        ),
        (
            "flags that exclude each other",
            "score --tsv pairs.tsv --source pairs.tsv --target pairs.tsv",
        ),
        (
            "flags that exclude each other",
            "evaluate --hypothesis pairs.tsv --model model --source pairs.tsv --reference pairs.tsv",
        ),
        (
            "flags that exclude each other",
            "tokenizer train --tsv pairs.tsv --input pairs.tsv --output new",
        ),
        ("one side", "train --source pairs.tsv --output new"),
        ("one side", "train --target pairs.tsv --output new"),
        ("one side", "score --source pairs.tsv"),
        (
            "a model without a source",
            "evaluate --model model --reference pairs.tsv",
        ),
        ("no output", "train --tsv pairs.tsv"),
        ("no reference", "evaluate --hypothesis pairs.tsv"),
        ("nothing named", "evaluate --reference pairs.tsv"),
        ("no input", "logits model"),
        ("no text", "tokenizer train --output new.json"),
    ] {
        table.usage(why, args);
    }
    table.check("command_lines");
}

#[test]
fn values_out_of_range() {
    let mut table = Table::new();
    for args in [
        "--threads 0",
        "--threads 99999999999",
        "--beam-size 0",
        "--beam-size 99999999999",
        "--n-best 0",
        "--n-best 5 --beam-size 4",
        "--n-best 99999999999",
        "--batch-tokens 0",
        "--max-decoding-length 0",
        "--length-penalty nan",
        "--length-penalty inf",
        "--repetition-penalty 0",
        "--repetition-penalty -1",
        "--sampling-temperature 0",
        "--sampling-temperature -1",
        "--sampling-temperature nan",
        "--sampling-top-p 2",
        "--sampling-top-p 0",
        "--sampling-top-p -0.5",
        "--sampling-top-p nan",
        "--to xx",
        "--to=",
        "--to DE",
        "--from xx",
        "--from de --to de",
    ] {
        table.refuse("out of range", &format!("translate --model model a {args}"));
    }
    for args in [
        "--length-penalty -0.5",
        "--sampling-top-k 99999999999",
        "--batch-tokens 18446744073709551615",
        "--min-decoding-length 99999999999",
        "--no-repeat-ngram-size 99999999999",
        "--sampling-temperature 1e-30",
        "--max-decoding-length 18446744073709551615",
        "--repetition-penalty 1e38 --beam-size 4",
    ] {
        table.accept(
            "extreme and legal",
            &format!("translate --model model a {args}"),
            1,
        );
    }
    table.refuse(
        "a language that the embedded model lacks",
        "translate --to fr a",
    );
    table.refuse("nothing named", "score");
    table.refuse(
        "an unknown name",
        "evaluate --hypothesis pairs.tsv --reference pairs.tsv --tokenize 13b",
    );
    for args in [
        "--max-minutes -1",
        "--max-minutes nan",
        "--max-minutes 0",
        "--max-steps 0",
        "--preset tinny",
    ] {
        table.refuse(
            "out of range",
            &format!("train --tsv pairs.tsv --output new {args}"),
        );
    }
    let args = "translate --model model a";
    let before = table.state();
    let ran = table.run_with(&split(args), b"", |command| {
        command.env("HEXAPLA_ISA", "nonsense");
    });
    assert_eq!(ran.code, 1);
    for part in ["HEXAPLA_ISA", "`nonsense`", "scalar"] {
        assert!(ran.stderr.contains(part), "{}", ran.stderr);
    }
    table.assert_state(&before, "HEXAPLA_ISA");
    table.check("values");
}

#[test]
fn recipes() {
    let mut table = Table::new();
    table.file(
        "long.tsv",
        format!("short\tkurz\n{}\tlang\n", "the house ".repeat(600)),
    );
    for (number, (why, from, to)) in [
        ("an unknown key", "d_model = 8", "d_modle = 8"),
        ("an unknown table", "[data]", "[dta]"),
        ("a key that is like no other", "d_model = 8", "wibble = 8"),
        ("an unknown value", "kind = \"bpe\"", "kind = \"bpee\""),
        (
            "an unknown preset",
            "preset = \"tiny\"",
            "preset = \"tinny\"",
        ),
        ("a text for a number", "d_model = 8", "d_model = \"eight\""),
        ("a fraction for a count", "d_model = 8", "d_model = 8.5"),
        ("a negative count", "d_model = 8", "d_model = -8"),
        ("a number for a text", "kind = \"bpe\"", "kind = 5"),
        ("no TOML", "d_model = 8", "d_model ="),
        ("a key twice", "d_model = 8", "d_model = 8\nd_model = 8"),
        ("a width of nothing", "d_model = 8", "d_model = 0"),
        ("an absurd width", "d_model = 8", "d_model = 1000000"),
        (
            "a model larger than the memory",
            "d_model = 8",
            "d_model = 65536",
        ),
        (
            "heads that do not divide the width",
            "heads = 2",
            "heads = 3",
        ),
        ("no layer", "layers = 1", "layers = 0"),
        ("absurdly many layers", "layers = 1", "layers = 99999999"),
        ("certain dropout", "layers = 1", "layers = 1\ndropout = 1.0"),
        (
            "dropout that is no number",
            "layers = 1",
            "layers = 1\ndropout = nan",
        ),
        ("no step", "max_steps = 1", "max_steps = 0"),
        (
            "a tokenizer that tells upper case from lower",
            "kind = \"bpe\"",
            "kind = \"bpe\"\nlowercase = true\nfile = \"model/tokenizer.json\"",
        ),
        (
            "a tokenizer without the special token",
            "special_tokens = [\">>de<<\", \">>en<<\"]",
            "special_tokens = [\">>fr<<\"]\nfile = \"model/tokenizer.json\"",
        ),
        ("no tokens", "batch_tokens = 256", "batch_tokens = 0"),
        (
            "absurdly many tokens",
            "batch_tokens = 256",
            "batch_tokens = 9223372036854775807",
        ),
        (
            "an infinite learning rate",
            "max_steps = 1",
            "max_steps = 1\nlearning_rate = inf",
        ),
        (
            "a negative learning rate",
            "max_steps = 1",
            "max_steps = 1\nlearning_rate = -1.0",
        ),
        (
            "a beta of one",
            "max_steps = 1",
            "max_steps = 1\nbeta1 = 1.0",
        ),
        (
            "absurdly many shards",
            "max_steps = 1",
            "max_steps = 1\nshards = 100000",
        ),
        (
            "an absurd beam",
            "max_steps = 1",
            "max_steps = 1\nvalid_beam_size = 1000000",
        ),
        (
            "no minutes",
            "max_steps = 1",
            "max_steps = 1\nmax_minutes = -1.0",
        ),
        (
            "a corpus without a file",
            "[tokenizer]",
            "[[data.valid_corpora]]\ntag = \">>de<<\"\n[tokenizer]",
        ),
        (
            "data that is named twice",
            "[tokenizer]",
            "[[data.valid_corpora]]\ntsv = \"pairs.tsv\"\nsource = \"good\"\n[tokenizer]",
        ),
        (
            "a corpus that no epoch visits",
            "[tokenizer]",
            "[[data.valid_corpora]]\ntsv = \"pairs.tsv\"\nrepeat = 0\n[tokenizer]",
        ),
        (
            "a validation that repeats",
            "[tokenizer]",
            "[[data.valid_corpora]]\ntsv = \"pairs.tsv\"\nrepeat = 2\n[tokenizer]",
        ),
        (
            "a test sentence longer than the model takes",
            "[training]",
            "[[test]]\npairs = { tsv = \"long.tsv\" }\n[training]",
        ),
        (
            "a test without a file",
            "[training]",
            "[[test]]\nname = \"mine\"\n[training]",
        ),
        (
            "a test's words that BLEU does not know",
            "[training]",
            "[[test]]\ntokenize = \"zhh\"\npairs = { tsv = \"pairs.tsv\" }\n[training]",
        ),
        (
            "a test without a beam",
            "[training]",
            "[[test]]\nbeam_size = 0\npairs = { tsv = \"pairs.tsv\" }\n[training]",
        ),
        ("no length", "max_tokens = 20", "max_tokens = 0"),
        (
            "a ratio that none passes",
            "max_tokens = 20",
            "max_tokens = 20\nmax_ratio = 0.5",
        ),
        (
            "a ratio that is no number",
            "max_tokens = 20",
            "max_tokens = 20\nmax_ratio = nan",
        ),
        (
            "a length that none passes",
            "max_tokens = 20",
            "max_tokens = 1",
        ),
        (
            "a dropout of all merges",
            "max_steps = 1",
            "max_steps = 1\nbpe_dropout = 1.0",
        ),
        (
            "a dropout of merges that there are not",
            "kind = \"bpe\"\nvocab_size = 320\nspecial_tokens = [\">>de<<\", \">>en<<\"]\n[training]",
            "kind = \"unigram\"\nvocab_size = 320\n[training]\nbpe_dropout = 0.1",
        ),
        (
            "a vocabulary too small",
            "vocab_size = 320",
            "vocab_size = 100",
        ),
        (
            "a tokenizer that is missing",
            "kind = \"bpe\"",
            "file = \"missing.json\"",
        ),
        (
            "a tokenizer that is none",
            "kind = \"bpe\"",
            "file = \"pairs.tsv\"",
        ),
        ("no epoch", "max_steps = 1", "max_steps = 1\nmax_epochs = 0"),
        (
            "an epsilon of nothing",
            "max_steps = 1",
            "max_steps = 1\neps = 0.0",
        ),
        (
            "absurdly many visits",
            "[tokenizer]",
            "[[data.corpora]]\ntsv = \"pairs.tsv\"\nrepeat = 9223372036854775807\n[tokenizer]",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        assert!(RECIPE.contains(from), "{from}");
        let name = format!("recipe{number}.toml");
        table.file(&name, RECIPE.replace(from, to));
        table.refuse(
            &format!("{why}: {to}"),
            &format!("train --config {name} --tsv pairs.tsv --output new"),
        );
    }
    table.file("latin1.toml", b"[model]\npreset = \"\xE4\"\n");
    for (why, name) in [
        ("not UTF-8", "latin1.toml"),
        ("missing", "missing.toml"),
        ("a folder", "model"),
    ] {
        table.refuse(
            why,
            &format!("train --config {name} --tsv pairs.tsv --output new"),
        );
    }
    // A corrected command finds nothing in its way.
    let good = "train --config recipe.toml --tsv pairs.tsv --output new";
    table.accept("the recipe as it is", good, 4);
    let other = table.path("other.toml");
    std::fs::write(other, RECIPE.replace("d_model = 8", "d_model = 16")).unwrap();
    table.refuse(
        "the folder of another recipe",
        "train --config other.toml --tsv pairs.tsv --output new",
    );
    let pairs = table.path("pairs.tsv");
    let more = std::fs::read_to_string(&pairs).unwrap() + "one more\teins mehr\n";
    std::fs::write(pairs, more).unwrap();
    table.refuse("the folder of other data", good);
    table.check("recipes");
}
