//! Trains a small model on sentence pairs, and translates with it.
//!
//! `cargo run --release -p hexapla --example train -- PAIRS.tsv NEW_FOLDER [STEPS]`
//!
//! A line of the file is a source, a tab and a target. The same command goes on with a training that was stopped.

use std::path::Path;

use hexapla::train::progress::{Sample, Validation};
use hexapla::{Outcome, Recipe, Result, Session, SessionOptions, Translator, Watcher};

/// What the pairs and the steps are is set below. `docs/training.md` explains every key.
const RECIPE: &str = r#"
[model]
preset = "tiny"

[tokenizer]
vocab_size = 1000

[training]
max_steps = 300
valid_every = 100
"#;

/// Prints each validation.
struct Console;

impl Watcher for Console {
    fn validation(&mut self, validation: &Validation, best: bool, _samples: &[Sample]) {
        let note = if best { ", the best so far" } else { "" };
        let (step, loss, bleu) = (validation.step, validation.loss, validation.bleu);
        println!("step {step}: validation loss {loss:.3}, BLEU {bleu:.2}{note}");
    }
}

fn train(pairs: &Path, folder: &Path, steps: Option<usize>) -> Result<Outcome> {
    let mut recipe = Recipe::parse(RECIPE, "the recipe of this example")?;
    recipe.data.tsv = Some(pairs.to_path_buf());
    recipe.training.max_steps = steps.unwrap_or(recipe.training.max_steps);
    Session::open(SessionOptions::new(recipe, folder))?.run(&mut Console)
}

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (Some(pairs), Some(folder)) = (arguments.first(), arguments.get(1)) else {
        return Err("usage: train PAIRS.tsv NEW_FOLDER [STEPS]".into());
    };
    let steps = arguments.get(2).map(|steps| steps.parse()).transpose()?;
    let outcome = train(Path::new(pairs), Path::new(folder), steps)?;
    for metric in &outcome.metrics {
        println!("{} {:.2}", metric.name, metric.value);
    }
    let model = Translator::open(folder)?;
    let first = std::fs::read_to_string(pairs)?;
    let source = first.split(['\t', '\n']).next().unwrap_or_default();
    println!("{source} → {}", model.translate(source)?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_trained_and_translates() {
        let folder = tempfile::tempdir().unwrap();
        let pairs = folder.path().join("pairs.tsv");
        // Words in their order, and backwards.
        let words = ["one", "two", "three", "four", "five", "six", "seven"];
        let mut lines = String::new();
        for i in 0..7 * 7 * 7 {
            let three = [i % 7, i / 7 % 7, i / 49].map(|w| words[w]);
            let mut back = three;
            back.reverse();
            lines += &format!("{}\t{}\n", three.join(" "), back.join(" "));
        }
        std::fs::write(&pairs, lines).unwrap();
        let model = folder.path().join("model");
        let outcome = train(&pairs, &model, Some(3)).unwrap();
        assert!(outcome.saved.is_some() && !outcome.metrics.is_empty());
        assert_eq!(Translator::open(&model).unwrap().translate("").unwrap(), "");
    }
}
