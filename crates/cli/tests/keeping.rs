//! Nothing that lies in a folder is lost: not what others made there, not a model of other origin, not what two commands write at
//! once.

mod common;

use std::fs;

use common::{Place, RECIPE, names};

#[test]
fn a_training_that_is_refused_removes_only_what_it_made() {
    let place = Place::new();
    // Fails after it has read the data.
    let bad = RECIPE.replace("vocab_size = 320", "vocab_size = 200");
    place.write("bad.toml", bad);
    let refused = "train --config bad.toml --tsv pairs.tsv --output runs/bad";
    place.refuse(refused);
    assert!(!place.path("runs").exists(), "nothing of it is left");
    place.accept("train --config recipe.toml --tsv pairs.tsv --output runs/good");
    place.refuse(refused);
    assert_eq!(names(&place.path("runs")), ["good"]);
    // Folders and files that were there, in every place.
    for own in ["runs/bad", "runs/bad/training"] {
        fs::create_dir_all(place.path(own)).unwrap();
        let file = format!("{own}/mine.txt");
        place.write(&file, "mine");
        place.refuse(refused);
        assert_eq!(place.read(&file), "mine");
        fs::remove_dir_all(place.path("runs/bad")).unwrap();
    }
}

#[test]
fn trainings_beside_one_another_leave_each_other_alone() {
    let place = Place::new();
    place.write(
        "bad.toml",
        RECIPE.replace("vocab_size = 320", "vocab_size = 200"),
    );
    let good = RECIPE.replace("max_steps = 40", "max_steps = 400");
    place.write("good.toml", good);
    for round in 0..5 {
        let start = |name: &str| {
            let args =
                format!("train --config {name}.toml --tsv pairs.tsv --output runs{round}/{name}");
            place.command(&args).spawn().unwrap()
        };
        let (bad, good) = (start("bad"), start("good"));
        assert_eq!(bad.wait_with_output().unwrap().status.code(), Some(1));
        let good = good.wait_with_output().unwrap();
        assert!(good.status.success(), "{}", common::text(&good.stderr));
        assert_eq!(names(&place.path(&format!("runs{round}"))), ["good"]);
    }
}

#[test]
fn a_model_of_other_origin_is_replaced_only_when_asked_for() {
    let place = Place::new();
    place.accept("convert --output theirs --compute-type float32");
    place.write("theirs/README.md", "their card");
    place.write("theirs/notes.txt", "notes");
    let before = fs::read(place.path("theirs/model.safetensors")).unwrap();
    let train = "train --config recipe.toml --tsv pairs.tsv --output theirs";
    for refused in [
        train,
        "convert --output theirs",
        "tokenizer train --tsv pairs.tsv --vocab-size 320 --output theirs",
        "tokenizer train --tsv pairs.tsv --vocab-size 320 --output theirs/tokenizer.json",
    ] {
        let told = place.refuse(refused);
        assert!(told.contains("--replace"), "{told}");
    }
    assert_eq!(
        fs::read(place.path("theirs/model.safetensors")).unwrap(),
        before
    );
    assert!(!place.path("theirs/training").exists());
    place.accept("convert --output theirs --replace");
    assert!(
        !place.path("theirs/README.md").exists(),
        "the card of another model"
    );
    assert_eq!(place.read("theirs/notes.txt"), "notes");
    place.write("theirs/README.md", "their card");
    place.accept(&format!("{train} --replace"));
    assert!(!place.path("theirs/README.md").exists());
    // From now on it is this training's model, and what lies beside it its user's.
    place.write("theirs/README.md", "my card");
    place.accept(train);
    assert_eq!(place.read("theirs/README.md"), "my card");
    assert_eq!(place.read("theirs/notes.txt"), "notes");
}

#[test]
fn two_commands_may_write_one_folder() {
    let place = Place::new();
    for _ in 0..4 {
        let write = |kind: &str| {
            let args = format!("convert --output m --replace --compute-type {kind}");
            place.command(&args).spawn().unwrap()
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
        let (said, _) = place.accept("inspect m");
        assert!(said.contains("all as written"), "{said}");
        assert!(!names(&place.path("")).iter().any(|n| n.starts_with(".m.")));
    }
}

#[test]
fn a_readme_that_is_no_models_stays() {
    let place = Place::new();
    fs::create_dir(place.path("repo")).unwrap();
    place.write("repo/README.md", "mine");
    place.accept("convert --output repo");
    assert_eq!(place.read("repo/README.md"), "mine");
    fs::create_dir(place.path("other")).unwrap();
    place.write("other/README.md", "mine");
    place.accept("train --config recipe.toml --tsv pairs.tsv --output other --max-steps 1");
    assert_eq!(place.read("other/README.md"), "mine");
}

/// As after a kill while the data was read: nothing was begun that another recipe could spoil.
#[test]
fn a_training_that_never_began_takes_another_recipe() {
    let place = Place::new();
    let train = "train --config recipe.toml --tsv pairs.tsv --output m --max-steps 2";
    place.accept(train);
    for name in ["state.checkpoint", "log.jsonl"] {
        fs::remove_file(place.path(&format!("m/training/{name}"))).unwrap();
    }
    for name in names(&place.path("m/training"))
        .iter()
        .filter(|n| n.starts_with("weights"))
    {
        fs::remove_file(place.path(&format!("m/training/{name}"))).unwrap();
    }
    place.write(
        "recipe.toml",
        RECIPE.replace("vocab_size = 320", "vocab_size = 300"),
    );
    place.accept(train);
    assert!(
        place
            .read("m/training/recipe.toml")
            .contains("vocab_size = 300")
    );
    let (said, _) = place.accept("inspect m");
    assert!(said.contains("300 source"), "{said}");
}

/// A project that keeps its own files under the names that a training uses.
#[test]
fn a_recipe_of_somebody_elses_stays() {
    let place = Place::new();
    fs::create_dir_all(place.path("project/training/tokenizer")).unwrap();
    let own = format!("# by hand\n{}", RECIPE.replace("layers = 1", "layers = 2"));
    place.write("project/training/recipe.toml", &own);
    place.write("project/training/tokenizer/tokenizer.json", "mine");
    place.refuse("train --config recipe.toml --tsv pairs.tsv --output project");
    assert_eq!(place.read("project/training/recipe.toml"), own);
    assert_eq!(
        place.read("project/training/tokenizer/tokenizer.json"),
        "mine"
    );
}
