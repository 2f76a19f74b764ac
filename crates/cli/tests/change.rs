//! A training may change what ends, paces, saves or judges it, and says when it did.

mod common;

use common::{RECIPE, TestDir};

const TRAIN: &str = "train --config recipe.toml --tsv pairs.tsv --output m";

#[test]
fn a_training_goes_on_with_another_end_and_tells_of_it() {
    let dir = TestDir::new();
    dir.accept(TRAIN);
    let longer = RECIPE.replace("max_steps = 40", "max_steps = 60");
    dir.write(
        "recipe.toml",
        longer.replace("learning_rate = 0.01", "learning_rate = 0.005"),
    );
    let told = dir.refuse(TRAIN);
    for part in [
        "`training.learning_rate`: 0.01 → 0.005",
        "`training.max_steps`: 40 → 60",
        "--change",
    ] {
        assert!(told.contains(part), "{told}");
    }
    let (_, told) = dir.accept(&format!("{TRAIN} --change"));
    assert!(told.contains("going on after step 40"), "{told}");
    let change = "after step 40: `training.max_steps`: 40 → 60";
    assert!(told.contains(change), "{told}");
    let log = dir.read("m/training/log.jsonl");
    assert_eq!(log.lines().count(), 60);
    let changed: Vec<usize> = log
        .lines()
        .enumerate()
        .filter(|(_, l)| l.contains("changed"))
        .map(|(i, _)| i + 1)
        .collect();
    assert_eq!(changed, [41]);
    assert!(dir.read("m/manifest.json").contains(change));
    assert!(dir.read("m/report.html").contains("changes on the way"));
    // The same command goes on without it now, and changes nothing.
    let (_, told) = dir.accept(TRAIN);
    assert!(told.contains("going on after step 60"), "{told}");
    assert_eq!(dir.read("m/training/log.jsonl"), log);
}

#[test]
fn what_the_model_is_and_learns_from_does_not_change() {
    let dir = TestDir::new();
    dir.accept(TRAIN);
    for (old, new, key) in [
        ("d_model = 16", "d_model = 32", "model.d_model"),
        (
            "vocab_size = 320",
            "vocab_size = 400",
            "tokenizer.vocab_size",
        ),
        ("valid_pairs = 20", "valid_pairs = 30", "data.valid_pairs"),
        (
            "batch_tokens = 256",
            "batch_tokens = 256\nseed = 2",
            "training.seed",
        ),
        (
            "batch_tokens = 256",
            "batch_tokens = 256\noptimizer = \"muon\"",
            "training.optimizer",
        ),
    ] {
        dir.write("recipe.toml", RECIPE.replace(old, new));
        for flag in ["", " --change"] {
            let told = dir.refuse(&format!("{TRAIN}{flag}"));
            assert!(
                told.contains(key) && told.contains("another folder"),
                "{told}"
            );
        }
    }
}

#[test]
fn each_key_that_may_change_does() {
    let dir = TestDir::new();
    dir.accept(TRAIN);
    let mut recipe = RECIPE.replace("[training]", "dropout_goes_here\n[training]");
    recipe = recipe.replace("dropout_goes_here\n", "");
    for (steps, change) in [
        "batch_tokens = 512",
        "accumulate = 2",
        "schedule = \"cosine\"",
        "clip_norm = 0.5",
        "metric = \"loss\"",
        "valid_beam_size = 2",
        "max_skipped_steps = 5",
        "max_minutes = 5.0",
        "bpe_dropout = 0.1",
        "average_checkpoints = 3",
        "min_learning_rate = 0.0001",
    ]
    .iter()
    .enumerate()
    .map(|(i, change)| (44 + 4 * i, change))
    {
        let key = change.split(' ').next().unwrap();
        let kept = recipe
            .lines()
            .filter(|l| !l.starts_with(key) && !l.starts_with("max_steps"));
        recipe = kept.map(|l| format!("{l}\n")).collect();
        recipe += &format!("{change}\nmax_steps = {steps}\n");
        dir.write("recipe.toml", &recipe);
        dir.refuse(TRAIN);
        let (_, told) = dir.accept(&format!("{TRAIN} --change"));
        assert!(told.contains(&format!("`training.{key}`")), "{told}");
        assert_eq!(
            dir.read("m/training/log.jsonl").lines().count(),
            steps,
            "{change}"
        );
    }
    // Dropouts and test sets too.
    let last = recipe.replace("[data]", "dropout = 0.3\n[data]");
    dir.write(
        "recipe.toml",
        format!("{last}[[test]]\nname = \"t\"\n[test.pairs]\ntsv = \"pairs.tsv\"\n"),
    );
    let (said, _) = dir.accept(&format!("{TRAIN} --change"));
    assert!(said.contains("test t"), "{said}");
}

#[test]
fn a_rate_that_was_too_high_is_mended_as_the_hint_says() {
    let dir = TestDir::new();
    let recipe =
        |rate: &str| RECIPE.replace("learning_rate = 0.01", &format!("learning_rate = {rate}"));
    dir.write(
        "recipe.toml",
        recipe("1e12").replace("save_every = 10", "save_every = 1"),
    );
    let told = dir.refuse(TRAIN);
    assert!(
        told.contains("not finite") && told.contains("--change"),
        "{told}"
    );
    dir.write(
        "recipe.toml",
        recipe("0.01").replace("save_every = 10", "save_every = 1"),
    );
    let (said, _) = dir.accept(&format!("{TRAIN} --change"));
    assert!(said.contains("written to m"), "{said}");
    let log = dir.read("m/training/log.jsonl");
    let last: serde_json::Value = serde_json::from_str(log.lines().last().unwrap()).unwrap();
    assert!(last["loss"].as_f64().unwrap() < 4.0, "{last}");
}

#[test]
fn the_best_validation_is_kept_until_something_better_comes() {
    let dir = TestDir::new();
    // So high a rate in the end that the last weights are worse than earlier ones.
    let recipe = RECIPE.replace(
        "save_every = 10",
        "save_every = 10\nmetric = \"loss\"\nclip_norm = 0\nschedule = \"constant\"",
    );
    dir.write("recipe.toml", &recipe);
    dir.accept(TRAIN);
    let spoiled = recipe
        .replace("learning_rate = 0.01", "learning_rate = 3.0")
        .replace("max_steps = 40", "max_steps = 70");
    dir.write("recipe.toml", spoiled);
    let (_, told) = dir.accept(&format!("{TRAIN} --change"));
    let validations = dir.read("m/training/validations.jsonl");
    let losses: Vec<f64> = validations
        .lines()
        .map(|l| {
            serde_json::from_str::<serde_json::Value>(l).unwrap()["loss"]
                .as_f64()
                .unwrap()
        })
        .collect();
    let best = losses.iter().copied().fold(f64::INFINITY, f64::min);
    assert!(losses.last().unwrap() > &(best + 0.5), "{losses:?} {told}");
    let report = dir.read("m/report.html");
    assert!(
        report.contains(&format!("{best:.4}")),
        "the saved model is that of the best validation: {losses:?}"
    );
}

#[test]
fn an_epoch_that_was_cut_short_does_not_count() {
    let dir = TestDir::new();
    let recipe = RECIPE.replace("max_steps = 40", "max_epochs = 3\nmax_steps = 10");
    dir.write("recipe.toml", &recipe);
    dir.accept(TRAIN);
    let steps = |dir: &TestDir| dir.read("m/training/log.jsonl").lines().count();
    assert_eq!(steps(&dir), 10);
    let other = recipe.replace("batch_tokens = 256", "batch_tokens = 128");
    dir.write(
        "recipe.toml",
        other.replace("max_steps = 10", "max_steps = 1000"),
    );
    dir.accept(&format!("{TRAIN} --change"));
    // 323 pairs of 4 tokens are some 10 batches of the old size and some 11 to 20 of the new one: three whole epochs at least.
    assert!(steps(&dir) > 10 + 2 * 10, "{}", steps(&dir));
}

#[test]
fn what_was_measured_when_a_training_began_is_kept() {
    let dir = TestDir::new();
    let auto = |steps: &str| {
        let recipe = RECIPE.replace("[training]", "[training]\nprecision = \"auto\"");
        recipe.replace("max_steps = 40", &format!("max_steps = {steps}"))
    };
    dir.write("recipe.toml", auto("40"));
    let (_, told) = dir.accept(TRAIN);
    let kept = dir.read("m/training/recipe.toml");
    let is = |precision: &str| kept.contains(&format!("precision = \"{precision}\""));
    let (began, other) = match (is("float32"), is("bf16")) {
        (true, false) => ("float32", "bf16"),
        (false, true) => ("bf16", "float32"),
        _ => panic!("{kept}"),
    };
    let measured = format!("precision: {began} (measured here, products take float32 1.00, bf16 ");
    assert!(told.contains(&measured), "{told}");
    // On another machine too, whatever is fastest there.
    dir.write("recipe.toml", auto("60"));
    let mut elsewhere = dir.command(&format!("{TRAIN} --change"));
    let out = elsewhere.env("HEXAPLA_ISA", "scalar").output().unwrap();
    let told = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{told}");
    assert!(told.contains(&format!("precision: {began}")), "{told}");
    assert_eq!(dir.read("m/training/log.jsonl").lines().count(), 60);
    let named = |precision: &str| auto("60").replace("\"auto\"", &format!("\"{precision}\""));
    dir.write("recipe.toml", named(began));
    dir.accept(TRAIN);
    dir.write("recipe.toml", named(other));
    let told = dir.refuse(TRAIN);
    assert!(told.contains("`training.precision`"), "{told}");
}
