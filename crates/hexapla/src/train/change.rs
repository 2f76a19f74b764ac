//! What a training may change on its way: what ends, paces, saves or judges it, never what it learns from or what it is.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::config::Recipe;
use crate::error::{Error, Result};
use crate::files::{read_limited, write_atomically};

/// The file of a training folder that tells what was changed when: a JSON object a line.
const FILE: &str = "changes.jsonl";
const MAX_BYTES: u64 = 64 << 20;

/// Keys of `[training]` that may change.
const TRAINING: [&str; 20] = [
    "accumulate",
    "average_checkpoints",
    "batch_tokens",
    "bpe_dropout",
    "clip_norm",
    "count_validations",
    "goal",
    "learning_rate",
    "max_epochs",
    "max_minutes",
    "max_skipped_steps",
    "max_steps",
    "metric",
    "min_learning_rate",
    "patience",
    "save_every",
    "schedule",
    "valid_beam_size",
    "valid_every",
    "warmup_steps",
];
/// Keys of `[model]` that may change: they shape no weight.
const MODEL: [&str; 3] = ["activation_dropout", "attention_dropout", "dropout"];
/// Keys that say which pairs a batch has: with them an epoch begins anew.
const BATCHES: [&str; 2] = ["training.batch_tokens", "training.bpe_dropout"];

/// One key that differs between two recipes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// Such as `training.max_steps`.
    pub key: String,
    /// Its value before, as TOML writes it; `not set` where it had none.
    pub from: String,
    /// Its value now.
    pub to: String,
}

impl Difference {
    /// All keys in which `old` and `new` differ, in the order of their names.
    pub fn between(old: &Recipe, new: &Recipe) -> Vec<Difference> {
        let (mut before, mut after) = (Vec::new(), Vec::new());
        flatten("", &table(old), &mut before);
        flatten("", &table(new), &mut after);
        let value = |of: &[(String, String)], key: &str| {
            let found = of.iter().find(|(k, _)| k == key);
            found.map_or("not set".to_string(), |(_, value)| value.clone())
        };
        let mut keys: Vec<&String> = before.iter().chain(&after).map(|(key, _)| key).collect();
        keys.sort_unstable();
        keys.dedup();
        let all = keys.into_iter().map(|key| Difference {
            key: key.clone(),
            from: value(&before, key),
            to: value(&after, key),
        });
        all.filter(|d| d.from != d.to).collect()
    }

    /// Whether a training goes on with this key changed.
    pub fn is_allowed(&self) -> bool {
        match self.key.split_once('.') {
            Some(("training", key)) => TRAINING.contains(&key),
            Some(("model", key)) => MODEL.contains(&key),
            _ => self.key == "test",
        }
    }

    /// Whether it changes which pairs a batch has.
    pub fn cuts_batches(&self) -> bool {
        BATCHES.contains(&self.key.as_str())
    }
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "`{}`: {} → {}", self.key, self.from, self.to)
    }
}

fn table(recipe: &Recipe) -> toml::Value {
    // Through a text: numbers stay as short as people wrote them.
    let text = toml::to_string(recipe).unwrap_or_default();
    toml::Value::Table(text.parse().unwrap_or_default())
}

/// Every value of `value` under its whole key. A list is one value.
fn flatten(prefix: &str, value: &toml::Value, into: &mut Vec<(String, String)>) {
    match value {
        toml::Value::Table(table) => {
            for (key, value) in table {
                let dot = if prefix.is_empty() { "" } else { "." };
                flatten(&format!("{prefix}{dot}{key}"), value, into);
            }
        }
        value => into.push((prefix.to_string(), value.to_string())),
    }
}

/// A key that was changed after a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The last step that was made with the old value.
    pub step: u64,
    /// The key and its values.
    #[serde(flatten)]
    pub difference: Difference,
}

impl std::fmt::Display for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "after step {}: {}", self.step, self.difference)
    }
}

/// Takes a change after `step` into `changes`. What was changed at the same step before counts from its first value; back to that,
/// it is none.
pub fn note(changes: &mut Vec<Change>, step: u64, mut difference: Difference) {
    let before = changes
        .iter()
        .position(|c| c.step == step && c.difference.key == difference.key);
    if let Some(before) = before {
        difference.from = changes.remove(before).difference.from;
    }
    if difference.from != difference.to {
        changes.push(Change { step, difference });
    }
}

/// The changes that the training in `folder` has seen.
///
/// # Errors
/// The file cannot be read, or is not what this program writes.
pub fn read(folder: &Path) -> Result<Vec<Change>> {
    let path = folder.join(FILE);
    if !path.exists() {
        return Ok(Vec::new());
    }
    let bytes = read_limited(&path, MAX_BYTES)?;
    let parse = |(number, line): (usize, &[u8])| {
        serde_json::from_slice(line).map_err(|e| {
            Error::model("the training's changes cannot be read")
                .at(format!("{}, line {}", path.display(), number + 1))
                .expected("a JSON object with step, key, from and to")
                .found(e.to_string())
                .hint("put the file back as it was; the training goes on without it, but forgets what was changed")
        })
    };
    let lines = bytes.split(|byte| *byte == b'\n').enumerate();
    lines
        .filter(|(_, line)| !line.is_empty())
        .map(parse)
        .collect()
}

/// Writes the changes that the training in `folder` has seen.
///
/// # Errors
/// As [`write_atomically`].
pub fn write(folder: &Path, changes: &[Change]) -> Result<()> {
    write_atomically(&folder.join(FILE), |w| {
        changes.iter().try_for_each(|change| {
            serde_json::to_writer(&mut *w, change)?;
            w.write_all(b"\n")
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recipe(text: &str) -> Recipe {
        Recipe::parse(text, "r").unwrap()
    }

    #[test]
    fn every_key_that_differs_is_named_with_both_values() {
        let old = recipe("[training]\nmax_steps = 100\n[data]\ntsv = \"a\"\n");
        let new = recipe("[training]\nmax_steps = 200\nmax_minutes = 1.5\n[data]\ntsv = \"b\"\n");
        let told: Vec<String> = Difference::between(&old, &new)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            told,
            [
                "`data.tsv`: \"a\" → \"b\"",
                "`training.max_minutes`: not set → 1.5",
                "`training.max_steps`: 100 → 200"
            ]
        );
        assert!(Difference::between(&old, &old).is_empty());
    }

    /// Each key of `[training]` is on one side of the line on purpose: a new one is to be thought of.
    #[test]
    fn what_shapes_the_weights_or_the_loss_does_not_change() {
        let fixed = [
            "beta1",
            "beta2",
            "ema_decay",
            "eps",
            "initial_weights",
            "label_smoothing",
            "momentum",
            "optimizer",
            "precision",
            "r_drop",
            "seed",
            "shards",
            "weight_decay",
        ];
        let whole = Recipe {
            training: crate::config::TrainingTable {
                max_epochs: Some(1),
                max_minutes: Some(1.0),
                goal: Some(1.0),
                ..Default::default()
            },
            ..Recipe::default()
        };
        let mut keys = Vec::new();
        flatten("", &table(&whole), &mut keys);
        let of_training: Vec<&str> = keys
            .iter()
            .filter_map(|(k, _)| k.strip_prefix("training."))
            .collect();
        let mut known: Vec<&str> = TRAINING.iter().chain(&fixed).copied().collect();
        known.sort_unstable();
        assert_eq!(of_training, known);
        let allowed = |key: &str| {
            Difference {
                key: key.into(),
                from: String::new(),
                to: String::new(),
            }
            .is_allowed()
        };
        assert!(allowed("test") && allowed("model.dropout"));
        for key in [
            "model.d_model",
            "data.tsv",
            "data.max_tokens",
            "tokenizer.vocab_size",
            "format_version",
        ] {
            assert!(!allowed(key), "{key}");
        }
    }

    #[test]
    fn changes_at_one_step_are_one() {
        let difference = |from: &str, to: &str| Difference {
            key: "k".into(),
            from: from.into(),
            to: to.into(),
        };
        let mut changes = Vec::new();
        note(&mut changes, 5, difference("1", "2"));
        note(&mut changes, 5, difference("2", "3"));
        assert_eq!(
            changes,
            [Change {
                step: 5,
                difference: difference("1", "3")
            }]
        );
        note(&mut changes, 5, difference("3", "1"));
        assert!(changes.is_empty());
        note(&mut changes, 5, difference("1", "2"));
        note(&mut changes, 9, difference("2", "1"));
        assert_eq!(changes.len(), 2);
    }

    #[test]
    fn changes_come_back_as_they_were_written() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(read(folder.path()), Ok(Vec::new()));
        let difference = Difference {
            key: "test".into(),
            from: "[]".into(),
            to: "not set".into(),
        };
        let changes = vec![Change {
            step: 7,
            difference,
        }];
        write(folder.path(), &changes).unwrap();
        assert_eq!(read(folder.path()), Ok(changes));
        std::fs::write(folder.path().join(FILE), "{}\n").unwrap();
        assert!(
            read(folder.path())
                .unwrap_err()
                .to_string()
                .contains("line 1")
        );
    }
}
