//! The file that `hexapla train --config` reads. A key that no table knows is refused with the nearest known name.

use std::io::Read;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{
    Corpus, DataTable, InitialWeights, Metric, ModelTable, Task, TestSet, TokenizerKind,
    TokenizerTable, TrainingTable,
};
use crate::error::{Error, Result, setting, unknown_name};
use crate::files::open_input;

const MAX_RECIPE_BYTES: u64 = 1 << 20;
const MAX_BEAM: usize = 1024;
const MAX_REPEAT: usize = 1 << 16;

/// The newest rules that this program trains by; a training goes on by those that it began with.
///
/// 1 (the program's version 0.1.0): text is taken as it is, and where no validation pairs are named they are the last pairs of
/// all. 2: text is cleaned ([`crate::text::clean`]), and such pairs are drawn from every body.
pub const FORMAT_VERSION: u32 = 2;

/// A whole recipe: the file given to `hexapla train --config`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Recipe {
    /// The rules that it is read by; the newest where absent. See [`FORMAT_VERSION`].
    pub format_version: Option<u32>,
    /// What the model is trained to do.
    pub task: Task,
    /// The model.
    pub model: ModelTable,
    /// The data.
    pub data: DataTable,
    /// The tokenizer.
    pub tokenizer: TokenizerTable,
    /// Training.
    pub training: TrainingTable,
    /// What the finished model is tested on: `[[test]]`.
    pub test: Vec<TestSet>,
}

impl Recipe {
    /// Reads a recipe; `location` names the file in errors.
    ///
    /// # Errors
    /// Broken TOML, an unknown key (with the nearest known one), a value of the wrong type or range.
    pub fn parse(text: &str, location: &str) -> Result<Self> {
        refuse_newer(text, location)?;
        let mut recipe: Recipe =
            toml::from_str(text).map_err(|e| toml_error(&e, text, location))?;
        recipe.fill(&text.parse().unwrap_or_default());
        recipe.validate().map_err(|e| e.within(location))?;
        Ok(recipe)
    }

    /// Reads the recipe in the file `path`, or from standard input for `-`.
    ///
    /// # Errors
    /// As [`Recipe::parse`], or the file cannot be read.
    pub fn open(path: &Path) -> Result<Self> {
        let (input, location) = open_input(path)?;
        let mut bytes = Vec::new();
        let read = input.take(MAX_RECIPE_BYTES + 1).read_to_end(&mut bytes);
        read.map_err(|e| Error::io("cannot read the recipe", path, &e))?;
        if bytes.len() as u64 > MAX_RECIPE_BYTES {
            return Err(Error::settings("the file is too large")
                .at(&location)
                .expected(format!("at most {MAX_RECIPE_BYTES} bytes"))
                .found("more")
                .hint("is this the recipe?"));
        }
        let text = String::from_utf8(bytes).map_err(|e| {
            Error::settings("the recipe cannot be read")
                .at(&location)
                .expected("a text in UTF-8")
                .found(e.to_string())
                .hint("is this the recipe?")
        })?;
        Self::parse(&text, &location)
    }

    /// A recipe of `task` that says nothing else.
    pub fn of_task(task: Task) -> Self {
        let mut recipe = Recipe {
            task,
            ..Recipe::default()
        };
        recipe.fill(&toml::Table::new());
        recipe
    }

    /// Gives keys that `said` has not the defaults of the task, where these are not those of translation.
    fn fill(&mut self, said: &toml::Table) {
        if self.task == Task::Translation {
            return;
        }
        let is_said = |table: &str, key: &str| {
            let table = said.get(table).and_then(toml::Value::as_table);
            table.is_some_and(|table| table.contains_key(key))
        };
        let t = &mut self.training;
        if !is_said("training", "metric") {
            t.metric = Metric::Loss;
        }
        if !is_said("training", "label_smoothing") {
            t.label_smoothing = 0.0;
        }
        if !is_said("training", "initial_weights") {
            t.initial_weights = InitialWeights::Gpt2;
        }
        if !is_said("tokenizer", "kind") {
            self.tokenizer.kind = TokenizerKind::ByteBpe;
        }
        if !is_said("tokenizer", "character_coverage") {
            self.tokenizer.character_coverage = 1.0;
        }
    }

    /// The rules that it is read by.
    pub fn version(&self) -> u32 {
        self.format_version.unwrap_or(FORMAT_VERSION)
    }

    /// Checks all that can be checked before the data is read.
    ///
    /// # Errors
    /// Names the first key out of range.
    pub fn validate(&self) -> Result<()> {
        if !(1..=FORMAT_VERSION).contains(&self.version()) {
            let expected = format!("1 to {FORMAT_VERSION}");
            return out_of_range("format_version", &expected, self.version().to_string());
        }
        let others = [
            ("model", self.model.of_another_task(self.task)),
            ("data", self.data.of_another_task(self.task)),
        ];
        if let Some((table, key)) = others.iter().find_map(|(t, key)| Some((t, (*key)?))) {
            let expected = format!("a key of `task = \"{}\"`", self.task.name());
            let key = format!("{table}.{key}");
            return out_of_range(&key, &expected, "one of another task".into());
        }
        // The tokenizer will say how many tokens there are; here only the other sizes are looked at.
        let checked = match self.task {
            Task::Translation => self.model.resolve().and_then(|mut model| {
                (model.source_vocab_size, model.target_vocab_size) = (1, 1);
                model.validate()
            }),
            Task::Language => self.model.resolve_decoder().and_then(|mut model| {
                model.vocab_size = 1;
                model.validate()
            }),
        };
        checked.map_err(|e| e.within("model"))?;
        if self.task == Task::Language {
            self.validate_language()?;
        }
        let d = &self.data;
        if d.max_tokens == 0 {
            return out_of_range("data.max_tokens", "at least 1", "0".into());
        }
        if !(d.max_ratio >= 1.0 && d.max_ratio.is_finite()) {
            return out_of_range(
                "data.max_ratio",
                "a finite number, at least 1",
                d.max_ratio.to_string(),
            );
        }
        for (number, corpus) in d.corpora.iter().enumerate() {
            let location = format!("data.corpora, number {}", number + 1);
            validate_corpus(corpus, &location)?;
        }
        for (number, corpus) in d.valid_corpora.iter().enumerate() {
            let location = format!("data.valid_corpora, number {}", number + 1);
            validate_unrepeated(corpus, &location)?;
        }
        for (number, set) in self.test.iter().enumerate() {
            let location = format!("test, number {}", number + 1);
            validate_unrepeated(&set.pairs, &format!("{location}: pairs"))?;
            if set.beam_size == 0 || set.beam_size > MAX_BEAM {
                let expected = format!("1 to {MAX_BEAM}");
                let found = set.beam_size.to_string();
                return out_of_range(&format!("{location}: beam_size"), &expected, found);
            }
            if !set.length_penalty.is_finite() {
                let found = set.length_penalty.to_string();
                return out_of_range(
                    &format!("{location}: length_penalty"),
                    "a finite number",
                    found,
                );
            }
        }
        self.validate_training()
    }

    /// What only sentence pairs have a use for.
    fn validate_language(&self) -> Result<()> {
        let (t, k) = (&self.training, &self.tokenizer);
        let of_pairs = "nothing: sentence pairs alone have a use for it";
        if t.metric != Metric::Loss {
            let found = format!("{:?}", t.metric).to_lowercase();
            return out_of_range("training.metric", "`loss`", found);
        }
        if k.codes.is_some() || k.lowercase {
            let (key, found) = match k.lowercase {
                true => ("lowercase", "true"),
                false => ("codes", "a file"),
            };
            return out_of_range(&format!("tokenizer.{key}"), of_pairs, found.into());
        }
        for (key, value) in [("r_drop", t.r_drop), ("bpe_dropout", t.bpe_dropout)] {
            if value != 0.0 {
                return out_of_range(&format!("training.{key}"), of_pairs, value.to_string());
            }
        }
        if !self.test.is_empty() {
            return out_of_range("test", of_pairs, "some".into());
        }
        let lossless = matches!(k.kind, TokenizerKind::ByteBpe | TokenizerKind::Characters);
        if k.file.is_none() && !lossless {
            let found = format!("{:?}", k.kind).to_lowercase();
            let expected = "`byte_bpe` or `characters`, which keep line breaks and spaces";
            return out_of_range("tokenizer.kind", expected, found);
        }
        if !k.joint {
            return out_of_range("tokenizer.joint", "true", "false".into());
        }
        let end = self.data.document_end.as_deref();
        if let Some(end) = end.filter(|end| end.is_empty() || end.contains(['\r', '\n'])) {
            let found = format!("{end:?}");
            return out_of_range("data.document_end", "a text within a line", found);
        }
        let share = self.data.valid_share;
        if !(0.0..=0.5).contains(&share) {
            return out_of_range("data.valid_share", "0 to 0.5", share.to_string());
        }
        Ok(())
    }

    fn validate_training(&self) -> Result<()> {
        let t = &self.training;
        let refuse = |key: &str, expected: &str, found: String| {
            out_of_range(&format!("training.{key}"), expected, found)
        };
        if let Some(minutes) = t.max_minutes.filter(|m| !(*m > 0.0 && m.is_finite())) {
            return refuse(
                "max_minutes",
                "a finite number above 0",
                minutes.to_string(),
            );
        }
        for (key, value, limit) in [
            ("valid_beam_size", t.valid_beam_size, MAX_BEAM),
            ("accumulate", t.accumulate, 1 << 20),
            ("batch_tokens", t.batch_tokens, 1 << 30),
        ] {
            if value > limit {
                return refuse(key, &format!("at most {limit}"), value.to_string());
            }
        }
        for (key, value) in [
            ("shards", t.shards),
            ("batch_tokens", t.batch_tokens),
            ("accumulate", t.accumulate),
            ("max_steps", t.max_steps),
            ("save_every", t.save_every),
            ("valid_every", t.valid_every),
            ("average_checkpoints", t.average_checkpoints),
            ("valid_beam_size", t.valid_beam_size),
            ("max_skipped_steps", t.max_skipped_steps),
        ] {
            if value == 0 {
                return refuse(key, "at least 1", value.to_string());
            }
        }
        if t.shards > 256 {
            return refuse("shards", "at most 256", t.shards.to_string());
        }
        for (key, value) in [
            ("beta1", t.beta1),
            ("beta2", t.beta2),
            ("momentum", t.momentum),
            ("label_smoothing", t.label_smoothing),
            ("bpe_dropout", t.bpe_dropout),
            ("ema_decay", t.ema_decay),
        ] {
            if !(0.0..1.0).contains(&value) {
                return refuse(key, "at least 0 and below 1", value.to_string());
            }
        }
        for (key, value) in [
            ("learning_rate", t.learning_rate),
            ("min_learning_rate", t.min_learning_rate),
            ("eps", t.eps),
            ("weight_decay", t.weight_decay),
            ("clip_norm", t.clip_norm),
            ("r_drop", t.r_drop),
        ] {
            if !(value >= 0.0 && value.is_finite()) {
                return refuse(key, "a finite number, at least 0", value.to_string());
            }
        }
        if t.eps <= 0.0 {
            return refuse("eps", "above 0", t.eps.to_string());
        }
        if t.max_epochs == Some(0) {
            return refuse("max_epochs", "at least 1", "0".into());
        }
        for (key, value) in [("goal", t.goal), ("max_minutes", t.max_minutes)] {
            if let Some(value) = value.filter(|v| !(*v >= 0.0 && v.is_finite())) {
                return refuse(key, "a finite number, at least 0", value.to_string());
            }
        }
        Ok(())
    }
}

/// A recipe of a later version has keys that are not known here: that it is one says more than the first of them.
fn refuse_newer(text: &str, location: &str) -> Result<()> {
    let table = text.parse::<toml::Table>().unwrap_or_default();
    let found = table
        .get("format_version")
        .and_then(toml::Value::as_integer);
    match found.filter(|version| *version > i64::from(FORMAT_VERSION)) {
        None => Ok(()),
        Some(version) => Err(Error::settings("the recipe is of a later version")
            .at(format!("{location}: format_version"))
            .expected(format!("at most {FORMAT_VERSION}"))
            .found(version.to_string())
            .hint("a newer hexapla wrote it: use that one, or a later one")),
    }
}

fn validate_corpus(corpus: &Corpus, location: &str) -> Result<()> {
    for (key, value) in [
        ("repeat", Some(corpus.repeat)),
        ("max_pairs", corpus.max_pairs),
    ] {
        if value == Some(0) {
            return out_of_range(&format!("{location}: {key}"), "at least 1", "0".into());
        }
    }
    if corpus.repeat > MAX_REPEAT {
        let (expected, found) = (format!("at most {MAX_REPEAT}"), corpus.repeat.to_string());
        return out_of_range(&format!("{location}: repeat"), &expected, found);
    }
    Ok(())
}

/// Each pair counts once outside training.
fn validate_unrepeated(corpus: &Corpus, location: &str) -> Result<()> {
    if corpus.repeat > 1 {
        let (expected, found) = ("1: only training repeats", corpus.repeat.to_string());
        return out_of_range(&format!("{location}: repeat"), expected, found);
    }
    validate_corpus(corpus, location)
}

fn out_of_range(key: &str, expected: &str, found: String) -> Result<()> {
    let what = "a setting of the recipe is out of range";
    Err(setting(what, key, expected, found))
}

/// Turns a TOML error into ours: file and line, and for an unknown key the nearest known one.
fn toml_error(error: &toml::de::Error, text: &str, location: &str) -> Error {
    let line = error
        .span()
        .map_or(1, |span| text[..span.start].matches('\n').count() + 1);
    let location = format!("{location}, line {line}");
    let message = error.message();
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    match quoted.split_first() {
        Some((wrong, known)) if message.starts_with("unknown field") => {
            unknown_name("key", wrong, known).at(location)
        }
        Some((wrong, known)) if message.starts_with("unknown variant") => {
            unknown_name("value", wrong, known).at(location)
        }
        _ => Error::settings("the recipe cannot be read")
            .at(location)
            .expected("TOML, each value of its setting's type")
            .found(message.to_string())
            .hint("docs/training.md shows a recipe; texts stand in quotes, numbers do not"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Precision, TransformerConfig};

    #[test]
    fn the_base_preset_is_the_papers() {
        let c = TransformerConfig::preset("base").unwrap();
        assert_eq!(
            (c.d_model, c.encoder_heads, c.encoder_feed_forward),
            (512, 8, 2048)
        );
        assert_eq!((c.encoder_layers, c.decoder_layers), (6, 6));
    }

    #[test]
    fn unknown_keys_are_refused_with_the_nearest_name() {
        let e = Recipe::parse("[model]\nd_modell = 3\n", "r.toml")
            .unwrap_err()
            .to_string();
        assert!(
            e.contains("r.toml, line 2") && e.contains("`d_model`"),
            "{e}"
        );
        let e = Recipe::parse("[training]\nschedule = \"cosin\"\n", "r.toml")
            .unwrap_err()
            .to_string();
        assert!(e.contains("`cosine`"), "{e}");
        let e = Recipe::parse("[model]\nd_model = \"x\"\n", "r.toml")
            .unwrap_err()
            .to_string();
        assert!(e.contains("line 2"), "{e}");
    }

    #[test]
    fn a_preset_can_be_changed_piece_by_piece() {
        let r = Recipe::parse(
            "[model]\npreset = \"tiny\"\nlayers = 2\ndropout = 0.3\n",
            "r",
        )
        .unwrap();
        let c = r.model.resolve().unwrap();
        assert_eq!(
            (c.d_model, c.encoder_layers, c.decoder_layers, c.dropout),
            (128, 2, 2, 0.3)
        );
    }

    #[test]
    fn a_precision_is_named_in_a_recipe_or_alone() {
        for (name, precision) in [("float32", Precision::Float32), ("bf16", Precision::Bf16)] {
            let text = format!("[training]\nprecision = \"{name}\"\n");
            let recipe = Recipe::parse(&text, "r").unwrap();
            assert_eq!(recipe.training.precision, precision);
            assert_eq!(name.parse(), Ok(precision));
        }
        let e = Recipe::parse("[training]\nprecision = \"bf61\"\n", "r").unwrap_err();
        assert!(e.to_string().contains("`bf16`"), "{e}");
        let e = "bf61".parse::<Precision>().unwrap_err();
        assert!(e.to_string().contains("`bf16`"), "{e}");
    }

    #[test]
    fn a_recipe_of_a_later_version_is_called_that() {
        let e = Recipe::parse("format_version = 3\nnew_key = 1\n", "r").unwrap_err();
        assert!(e.to_string().contains("a newer hexapla"), "{e}");
        assert!(Recipe::parse("format_version = 0\n", "r").is_err());
        assert_eq!(
            Recipe::parse("format_version = 1\n", "r")
                .unwrap()
                .version(),
            1
        );
        assert_eq!(Recipe::parse("", "r").unwrap().version(), FORMAT_VERSION);
    }

    #[test]
    fn ranges_are_checked() {
        assert!(Recipe::parse("[training]\nshards = 0\n", "r").is_err());
        assert!(Recipe::parse("[training]\nlabel_smoothing = 1.5\n", "r").is_err());
        let mut c = TransformerConfig::preset("tiny").unwrap();
        (c.source_vocab_size, c.target_vocab_size) = (10, 10);
        c.validate().unwrap();
        c.encoder_heads = 3;
        assert!(c.validate().unwrap_err().to_string().contains("divisor"));
    }
}
