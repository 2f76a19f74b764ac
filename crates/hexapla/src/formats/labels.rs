//! The names of a classifier's classes in `config.json`.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::keys::Keys;
use crate::config::{ClassScores, EncoderHead};
use crate::error::Result;

/// The names of the classes in their order; two without names where the file says nothing.
pub(super) fn read(keys: &mut Keys) -> Result<Vec<String>> {
    let count = keys.size("num_labels")?;
    keys.pass_over(&["label2id"]);
    let unnamed = |count: usize| (0..count).map(|i| format!("LABEL_{i}")).collect();
    let Some(found) = keys.take("id2label") else {
        return Ok(unnamed(count.unwrap_or(2).min(MAX_LABELS)));
    };
    let wrong = |expected: &str| {
        Err(keys
            .error("id2label")
            .expected(expected)
            .found(found.to_string().chars().take(80).collect::<String>()))
    };
    let Value::Object(map) = &found else {
        return wrong("a name for each class, such as {\"0\": \"no\", \"1\": \"yes\"}");
    };
    let mut names = BTreeMap::new();
    for (id, name) in map {
        let name = match name {
            Value::String(name) => name.clone(),
            other => other.to_string(),
        };
        match id.parse::<usize>() {
            Ok(id) => names.insert(id, name),
            Err(_) => return wrong("numbers of classes as its keys"),
        };
    }
    if names.keys().copied().ne(0..names.len()) {
        return wrong("the classes 0, 1, 2 and so on, none left out");
    }
    if count.is_some_and(|count| count != names.len()) {
        return wrong(&format!(
            "{} classes, as `num_labels` says",
            count.unwrap_or(0)
        ));
    }
    Ok(names.into_values().collect())
}

/// More are refused when sizes are checked.
const MAX_LABELS: usize = (1 << 20) + 1;

/// The settings that say what becomes of a text's logits.
pub(super) const SCORES: &[&str] = &[
    "problem_type",
    "sentence_transformers",
    "sbert_ce_default_activation_function",
];

/// What becomes of a text's logits: as a cross-encoder's file says, or as the kind of its problem asks for.
pub(super) fn read_scores(keys: &mut Keys, classes: usize) -> Result<ClassScores> {
    let text = |value: &Value| value.as_str().map(str::to_string);
    let old = keys.take("sbert_ce_default_activation_function");
    let new = keys.take("sentence_transformers");
    let named = new
        .and_then(|settings| settings.get("activation_fn").and_then(text))
        .or(old.as_ref().and_then(text));
    if let Some(named) = named {
        // The name of a class of PyTorch's, with its modules.
        return match named.rsplit('.').next() {
            Some("Identity") => Ok(ClassScores::Logits),
            Some("Sigmoid") => Ok(ClassScores::Sigmoid),
            _ => Err(keys
                .error("sentence_transformers.activation_fn")
                .expected("torch.nn.modules.linear.Identity or torch.nn.modules.activation.Sigmoid")
                .found(named)),
        };
    }
    match keys.text("problem_type")?.as_deref() {
        Some("regression") => Ok(ClassScores::Logits),
        Some("multi_label_classification") => Ok(ClassScores::Sigmoid),
        Some("single_label_classification") => Ok(ClassScores::Softmax),
        None if classes == 1 => Ok(ClassScores::Sigmoid),
        None => Ok(ClassScores::Softmax),
        Some(other) => Err(keys
            .error("problem_type")
            .expected("regression, single_label_classification or multi_label_classification")
            .found(other)),
    }
}

/// Writes what a head says.
pub(super) fn write(head: &EncoderHead, map: &mut Map<String, Value>) {
    let labels = head.labels();
    if labels.is_empty() {
        return;
    }
    let numbered = || labels.iter().enumerate();
    let names: Map<String, Value> = numbered().map(|(i, l)| (i.to_string(), json!(l))).collect();
    let ids: Map<String, Value> = numbered().map(|(i, l)| (l.clone(), json!(i))).collect();
    map.insert("id2label".into(), Value::Object(names));
    map.insert("label2id".into(), Value::Object(ids));
    if let EncoderHead::Classes { scores, .. } = head {
        let problem = match scores {
            ClassScores::Logits => "regression",
            ClassScores::Sigmoid => "multi_label_classification",
            ClassScores::Softmax => "single_label_classification",
        };
        map.insert("problem_type".into(), json!(problem));
        if *scores == ClassScores::Logits {
            // A cross-encoder of one class would have a sigmoid by default.
            let settings = json!({"activation_fn": "torch.nn.modules.linear.Identity"});
            map.insert("sentence_transformers".into(), settings);
        }
    }
}
