//! Nothing that lies in a folder is lost: not what others made there, not a model of other origin, not what two commands write at
//! once.

mod common;

use std::fs;

use common::{RECIPE, TestDir, names};

#[test]
fn a_training_that_is_refused_removes_only_what_it_made() {
    let dir = TestDir::new();
    // Fails after it has read the data.
    let bad = RECIPE.replace("vocab_size = 320", "vocab_size = 200");
    dir.write("bad.toml", bad);
    let refused = "train --config bad.toml --tsv pairs.tsv --output runs/bad";
    dir.refuse(refused);
    assert!(!dir.path("runs").exists(), "nothing of it is left");
    dir.accept("train --config recipe.toml --tsv pairs.tsv --output runs/good");
    dir.refuse(refused);
    assert_eq!(names(&dir.path("runs")), ["good"]);
    // Folders and files that were there, in every directory.
    for own in ["runs/bad", "runs/bad/training"] {
        fs::create_dir_all(dir.path(own)).unwrap();
        let file = format!("{own}/mine.txt");
        dir.write(&file, "mine");
        dir.refuse(refused);
        assert_eq!(dir.read(&file), "mine");
        fs::remove_dir_all(dir.path("runs/bad")).unwrap();
    }
}

#[test]
fn trainings_beside_one_another_leave_each_other_alone() {
    let dir = TestDir::new();
    dir.write(
        "bad.toml",
        RECIPE.replace("vocab_size = 320", "vocab_size = 200"),
    );
    let good = RECIPE.replace("max_steps = 40", "max_steps = 400");
    dir.write("good.toml", good);
    for round in 0..5 {
        let start = |name: &str| {
            let args =
                format!("train --config {name}.toml --tsv pairs.tsv --output runs{round}/{name}");
            dir.command(&args).spawn().unwrap()
        };
        let (bad, good) = (start("bad"), start("good"));
        assert_eq!(bad.wait_with_output().unwrap().status.code(), Some(1));
        let good = good.wait_with_output().unwrap();
        assert!(good.status.success(), "{}", common::text(&good.stderr));
        assert_eq!(names(&dir.path(&format!("runs{round}"))), ["good"]);
    }
}

#[test]
fn a_model_of_other_origin_is_replaced_only_when_asked_for() {
    let dir = TestDir::new();
    dir.accept("convert --output theirs --compute-type float32");
    dir.write("theirs/README.md", "their card");
    dir.write("theirs/notes.txt", "notes");
    let before = fs::read(dir.path("theirs/model.safetensors")).unwrap();
    let train = "train --config recipe.toml --tsv pairs.tsv --output theirs";
    for refused in [
        train,
        "convert --output theirs",
        "tokenizer train --tsv pairs.tsv --vocab-size 320 --output theirs",
        "tokenizer train --tsv pairs.tsv --vocab-size 320 --output theirs/tokenizer.json",
    ] {
        let told = dir.refuse(refused);
        assert!(told.contains("--replace"), "{told}");
    }
    assert_eq!(
        fs::read(dir.path("theirs/model.safetensors")).unwrap(),
        before
    );
    assert!(!dir.path("theirs/training").exists());
    dir.accept("convert --output theirs --replace");
    assert!(
        !dir.path("theirs/README.md").exists(),
        "the card of another model"
    );
    assert_eq!(dir.read("theirs/notes.txt"), "notes");
    dir.write("theirs/README.md", "their card");
    dir.accept(&format!("{train} --replace"));
    assert!(!dir.path("theirs/README.md").exists());
    // From now on it is this training's model, and what lies beside it its user's.
    dir.write("theirs/README.md", "my card");
    dir.accept(train);
    assert_eq!(dir.read("theirs/README.md"), "my card");
    assert_eq!(dir.read("theirs/notes.txt"), "notes");
}

#[test]
fn two_commands_may_write_one_folder() {
    let dir = TestDir::new();
    for _ in 0..4 {
        let write = |kind: &str| {
            let args = format!("convert --output m --replace --compute-type {kind}");
            dir.command(&args).spawn().unwrap()
        };
        let all = [
            write("int8"),
            write("float32"),
            write("int8"),
            write("float32"),
        ];
        for one in all {
            let out = one.wait_with_output().unwrap();
            assert!(out.status.success(), "{}", common::text(&out.stderr));
        }
        let (said, _) = dir.accept("inspect m");
        assert!(said.contains("all as written"), "{said}");
        assert!(!names(&dir.path("")).iter().any(|n| n.starts_with(".m.")));
    }
}

#[test]
fn a_readme_that_is_no_models_stays() {
    let dir = TestDir::new();
    fs::create_dir(dir.path("repo")).unwrap();
    dir.write("repo/README.md", "mine");
    dir.accept("convert --output repo");
    assert_eq!(dir.read("repo/README.md"), "mine");
    fs::create_dir(dir.path("other")).unwrap();
    dir.write("other/README.md", "mine");
    dir.accept("train --config recipe.toml --tsv pairs.tsv --output other --max-steps 1");
    assert_eq!(dir.read("other/README.md"), "mine");
}

/// As after a kill while the data was read: nothing was begun that another recipe could spoil.
#[test]
fn a_training_that_never_began_takes_another_recipe() {
    let dir = TestDir::new();
    let train = "train --config recipe.toml --tsv pairs.tsv --output m --max-steps 2";
    dir.accept(train);
    for name in ["state.checkpoint", "log.jsonl"] {
        fs::remove_file(dir.path(&format!("m/training/{name}"))).unwrap();
    }
    for name in names(&dir.path("m/training"))
        .iter()
        .filter(|n| n.starts_with("weights"))
    {
        fs::remove_file(dir.path(&format!("m/training/{name}"))).unwrap();
    }
    dir.write(
        "recipe.toml",
        RECIPE.replace("vocab_size = 320", "vocab_size = 300"),
    );
    dir.accept(train);
    assert!(
        dir.read("m/training/recipe.toml")
            .contains("vocab_size = 300")
    );
    let (said, _) = dir.accept("inspect m");
    assert!(said.contains("300 source"), "{said}");
}

/// A project that keeps its own files under the names that a training uses.
#[test]
fn a_recipe_of_somebody_elses_stays() {
    let dir = TestDir::new();
    fs::create_dir_all(dir.path("project/training/tokenizer")).unwrap();
    let own = format!("# by hand\n{}", RECIPE.replace("layers = 1", "layers = 2"));
    dir.write("project/training/recipe.toml", &own);
    dir.write("project/training/tokenizer/tokenizer.json", "mine");
    dir.refuse("train --config recipe.toml --tsv pairs.tsv --output project");
    assert_eq!(dir.read("project/training/recipe.toml"), own);
    assert_eq!(
        dir.read("project/training/tokenizer/tokenizer.json"),
        "mine"
    );
}
