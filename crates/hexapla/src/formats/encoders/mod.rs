//! Encoders alone, in the layout of transformers: BERT and what descends from it.
//!
//! What these have in common: post-norm, a norm of the embedding, trained positions, biases everywhere, the exact GELU, a head
//! on top. A family is a table of settings, a table of names and a table of heads; reader, writer, refusals and documents come
//! from these.

mod bert;
mod distilbert;
mod electra;
mod mpnet;
mod roberta;

use serde_json::{Map, Value, json};

use super::keys::{Keys, activation_name, float};
use super::labels;
use super::names::TensorNames;
use crate::config::{Activation, EncoderConfig, EncoderHead, RelativePositions};
use crate::error::{Error, Result};
use crate::weights::Parameter;

pub(super) use bert::BERT;
pub(super) use distilbert::DISTILBERT;
pub(super) use electra::ELECTRA;
pub(super) use mpnet::MPNET;
pub(super) use roberta::{CAMEMBERT, ROBERTA, XLM_ROBERTA};

/// A family of encoders.
#[derive(Debug)]
pub(super) struct EncoderFamily {
    pub(super) model_type: &'static str,
    /// What the names of its classes in transformers begin with.
    pub(super) class: &'static str,
    /// What the names of a model with a head begin with; those of a bare one do not.
    pub(super) prefix: &'static str,
    pub(super) settings: Settings,
    /// Our names and theirs, without the prefix; `*` is a layer's number. Of two names for one parameter the first is written.
    pub(super) body: &'static [Name],
    /// The bare model first.
    pub(super) heads: &'static [Head],
    /// Tensors that a folder may hold although nothing is computed with them: what their names begin with.
    pub(super) without_use: &'static [&'static str],
}

/// Our name of a parameter, and theirs.
pub(super) type Name = (&'static str, &'static str);

/// What `config.json` calls the sizes, each with the value that its absence stands for.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) vocab_size: usize,
    pub(super) d_model: (&'static str, usize),
    pub(super) layers: (&'static str, usize),
    pub(super) heads: (&'static str, usize),
    pub(super) feed_forward: (&'static str, usize),
    pub(super) activation: &'static str,
    pub(super) dropout: &'static str,
    pub(super) attention_dropout: &'static str,
    /// Whether `layer_norm_eps` is a setting; otherwise it is 1e-12.
    pub(super) has_eps: bool,
    /// Whether `type_vocab_size` is a setting; otherwise there are no segments.
    pub(super) has_segments: bool,
    pub(super) embedding_width: Option<(&'static str, usize)>,
    /// Buckets of relative positions, which can be no others.
    pub(super) buckets: Option<(&'static str, usize)>,
    pub(super) pad_token_id: u32,
    /// Whether positions begin behind `pad_token_id`.
    pub(super) positions_after_padding: bool,
    /// Whether `pad_token_id` can have no other value.
    pub(super) pad_is_fixed: bool,
    /// Settings that change nothing that is computed.
    pub(super) without_effect: &'static [&'static str],
}

/// A head that a family has.
#[derive(Debug)]
pub(super) struct Head {
    /// What the names of its classes end with; the first one is written.
    pub(super) classes: &'static [&'static str],
    pub(super) kind: HeadKind,
    /// Our names and theirs; those that begin with `~.` have the family's prefix in the place of `~`.
    pub(super) names: &'static [Name],
}

/// What a head says.
#[derive(Debug, Clone, Copy)]
pub(super) enum HeadKind {
    Hidden {
        pooler: bool,
    },
    Tokens(HeadActivation),
    Classes(HeadActivation),
    TokenClasses,
    /// One logit for each token, after a linear layer.
    Replaced(HeadActivation),
}

/// The activation of a head's linear layer.
#[derive(Debug, Clone, Copy)]
pub(super) enum HeadActivation {
    /// That of the feed-forward blocks.
    Same,
    Of(Activation),
}

impl HeadActivation {
    fn resolve(self, of_blocks: Activation) -> Activation {
        match self {
            HeadActivation::Same => of_blocks,
            HeadActivation::Of(activation) => activation,
        }
    }
}

/// The longest distance that has a bucket of its own.
const MAX_DISTANCE: usize = 128;
const EPS: f32 = 1e-12;

impl EncoderFamily {
    /// Reads `config.json`. `has` says whether there is a tensor of that name.
    pub(super) fn read(&self, mut keys: Keys, has: impl Fn(&str) -> bool) -> Result<EncoderConfig> {
        let s = &self.settings;
        let size = |keys: &mut Keys, (key, absent): (&str, usize)| {
            Ok::<_, Error>(keys.size(key)?.unwrap_or(absent))
        };
        let d_model = size(&mut keys, s.d_model)?;
        let activation = keys.activation(s.activation, Activation::Gelu)?;
        if s.pad_is_fixed {
            keys.only("pad_token_id", &[json!(s.pad_token_id)]);
        }
        let pad_token_id = keys.id("pad_token_id")?.unwrap_or(s.pad_token_id);
        let position_offset = match s.positions_after_padding {
            true => pad_token_id as usize + 1,
            false => 0,
        };
        let positions = size(&mut keys, ("max_position_embeddings", 512))?;
        if positions <= position_offset {
            return Err(keys
                .error("max_position_embeddings")
                .expected(format!(
                    "more than {position_offset}, where positions begin"
                ))
                .found(positions.to_string()));
        }
        let embedding_width = match s.embedding_width {
            Some(key) => size(&mut keys, key)?,
            None => d_model,
        };
        let relative_positions = match s.buckets {
            Some((key, buckets)) => {
                // Whatever the setting says, transformers computes with its default.
                keys.only(key, &[json!(buckets)]);
                Some(RelativePositions {
                    buckets,
                    max_distance: MAX_DISTANCE,
                })
            }
            None => None,
        };
        let config = EncoderConfig {
            vocab_size: size(&mut keys, ("vocab_size", s.vocab_size))?,
            segments: match s.has_segments {
                true => size(&mut keys, ("type_vocab_size", 2))?,
                false => 0,
            },
            d_model,
            embedding_width,
            layers: size(&mut keys, s.layers)?,
            heads: size(&mut keys, s.heads)?,
            feed_forward: size(&mut keys, s.feed_forward)?,
            activation,
            layer_norm_eps: match s.has_eps {
                true => keys.number("layer_norm_eps")?.unwrap_or(EPS),
                false => EPS,
            },
            max_position_embeddings: positions - position_offset,
            position_offset,
            relative_positions,
            dropout: keys.number(s.dropout)?.unwrap_or(0.1),
            attention_dropout: keys.number(s.attention_dropout)?.unwrap_or(0.1),
            pad_token_id,
            head: self.read_head(&mut keys, activation, &has)?,
        };
        for key in ["is_decoder", "add_cross_attention", "is_encoder_decoder"] {
            keys.only(key, &[json!(false)]);
        }
        keys.only("tie_word_embeddings", &[json!(true)]);
        keys.only("position_embedding_type", &[json!("absolute")]);
        keys.only("pruned_heads", &[json!({})]);
        keys.only("cross_attention_hidden_size", &[]);
        keys.pass_over(labels::SCORES);
        keys.pass_over(s.without_effect);
        keys.pass_over_common();
        keys.pass_over(WITHOUT_EFFECT);
        keys.finish()?;
        Ok(config)
    }

    fn read_head(
        &self,
        keys: &mut Keys,
        activation: Activation,
        has: &impl Fn(&str) -> bool,
    ) -> Result<EncoderHead> {
        let labels = labels::read(keys)?;
        let head = match keys.take("architectures") {
            Some(Value::Array(names)) if !names.is_empty() => {
                let class = |end: &&str| format!("{}{end}", self.class);
                let named = |end: &&str| names.iter().any(|name| *name == class(end));
                let mut heads = self.heads.iter();
                let found = heads.find(|head| head.classes.iter().any(named));
                found.ok_or_else(|| {
                    let known: Vec<String> = self
                        .heads
                        .iter()
                        .flat_map(|h| h.classes)
                        .map(class)
                        .collect();
                    keys.error("architectures")
                        .expected(format!("one of {}", known.join(", ")))
                        .found(Value::Array(names).to_string())
                })?
            }
            _ => &self.heads[0],
        };
        Ok(match head.kind {
            HeadKind::Hidden { pooler } => EncoderHead::Hidden {
                // sentence-transformers leaves it out.
                pooler: pooler && {
                    let parts = head.names.iter().filter(|(ours, _)| *ours == "head.dense");
                    parts
                        .flat_map(|(_, theirs)| self.prefixed(theirs))
                        .any(|name| has(&format!("{name}.weight")))
                },
            },
            HeadKind::Tokens(a) => EncoderHead::Tokens {
                activation: a.resolve(activation),
            },
            HeadKind::Classes(a) => EncoderHead::Classes {
                scores: labels::read_scores(keys, labels.len())?,
                labels,
                activation: a.resolve(activation),
            },
            HeadKind::TokenClasses => EncoderHead::TokenClasses {
                labels,
                activation: None,
            },
            HeadKind::Replaced(a) => EncoderHead::TokenClasses {
                labels: vec!["REPLACED".into()],
                activation: Some(a.resolve(activation)),
            },
        })
    }

    /// `config.json`.
    pub(super) fn write(&self, config: &EncoderConfig) -> Result<Map<String, Value>> {
        let head = self.head_of(config)?;
        let s = &self.settings;
        let mut map = Map::new();
        let mut put = |key: &str, value: Value| {
            map.insert(key.to_string(), value);
        };
        put(
            "architectures",
            json!([format!("{}{}", self.class, head.classes[0])]),
        );
        put("model_type", json!(self.model_type));
        put("vocab_size", json!(config.vocab_size));
        put(s.d_model.0, json!(config.d_model));
        put(s.layers.0, json!(config.layers));
        put(s.heads.0, json!(config.heads));
        put(s.feed_forward.0, json!(config.feed_forward));
        put(s.activation, json!(activation_name(config.activation)));
        put(s.dropout, float(config.dropout));
        put(s.attention_dropout, float(config.attention_dropout));
        put(
            "max_position_embeddings",
            json!(config.max_position_embeddings + config.position_offset),
        );
        put("pad_token_id", json!(config.pad_token_id));
        put("dtype", json!("float32"));
        if s.has_eps {
            put("layer_norm_eps", float(config.layer_norm_eps));
        }
        if s.has_segments {
            put("type_vocab_size", json!(config.segments));
        }
        if let Some((key, _)) = s.embedding_width {
            put(key, json!(config.embedding_width));
        }
        if let (Some((key, _)), Some(relative)) = (s.buckets, config.relative_positions) {
            put(key, json!(relative.buckets));
        }
        if !matches!(head.kind, HeadKind::Replaced(_)) {
            labels::write(&config.head, &mut map);
        }
        Ok(map)
    }

    /// Why this family cannot say a configuration; nothing where it can.
    pub(super) fn cannot_say(&self, config: &EncoderConfig) -> Option<&'static str> {
        let s = &self.settings;
        let after_padding = config.position_offset > 0;
        let reasons = [
            (
                !s.has_eps && config.layer_norm_eps != EPS,
                "its layer_norm_eps is 1e-12",
            ),
            (s.has_segments != (config.segments > 0), "segments"),
            (
                s.embedding_width.is_none() && config.embedding_width != config.d_model,
                "its embedding is as wide as its layers",
            ),
            (
                s.buckets.is_some() != config.relative_positions.is_some(),
                "relative positions",
            ),
            (
                config.relative_positions.is_some_and(|r| {
                    r.max_distance != MAX_DISTANCE || s.buckets.is_some_and(|b| b.1 != r.buckets)
                }),
                "its relative positions have 32 buckets, up to 128",
            ),
            (
                s.positions_after_padding != after_padding,
                "where positions begin",
            ),
            (self.head_of(config).is_err(), "it has no such head"),
        ];
        reasons
            .into_iter()
            .find_map(|(wrong, why)| wrong.then_some(why))
    }

    /// The head that says what `config` says.
    fn head_of(&self, config: &EncoderConfig) -> Result<&Head> {
        let fits = |head: &&Head| match (&head.kind, &config.head) {
            (HeadKind::Hidden { pooler }, EncoderHead::Hidden { pooler: has }) => *pooler || !has,
            (HeadKind::Tokens(a), EncoderHead::Tokens { activation }) => {
                a.resolve(config.activation) == *activation
            }
            (HeadKind::Classes(a), EncoderHead::Classes { activation, .. }) => {
                a.resolve(config.activation) == *activation
            }
            (HeadKind::TokenClasses, EncoderHead::TokenClasses { activation, .. }) => {
                activation.is_none()
            }
            (HeadKind::Replaced(a), EncoderHead::TokenClasses { activation, labels }) => {
                labels.len() == 1 && Some(a.resolve(config.activation)) == *activation
            }
            _ => false,
        };
        self.heads.iter().find(fits).ok_or_else(|| {
            Error::settings("this family of models has no such head")
                .at(self.model_type)
                .found(format!("{:?}", config.head))
        })
    }

    /// A name of theirs with the prefix, and without.
    fn prefixed(&self, theirs: &str) -> [String; 2] {
        match theirs.strip_prefix("~.") {
            Some(rest) => [format!("{}.{rest}", self.prefix), rest.to_string()],
            None => [theirs.to_string(), theirs.to_string()],
        }
    }

    /// The names of `parameter` in a folder.
    pub(super) fn names(
        &self,
        config: &EncoderConfig,
        parameter: &Parameter,
    ) -> Result<TensorNames> {
        let unknown =
            || Error::model("a parameter has no name in this family of models").at(&parameter.name);
        let head = self.head_of(config)?;
        let (stem, part) = parameter.name.rsplit_once('.').ok_or_else(unknown)?;
        let (pattern, number) = numbered(stem);
        let of_body = self
            .body
            .iter()
            .map(|(ours, theirs)| (ours, format!("~.{theirs}")));
        let of_head = head
            .names
            .iter()
            .map(|(ours, theirs)| (ours, theirs.to_string()));
        let theirs = of_body.chain(of_head);
        let theirs = theirs.filter(|(ours, _)| **ours == pattern);
        // Files of 2018 call a norm's scale and shift gamma and beta.
        let old_part = match part {
            "weight" if stem.ends_with("norm") => Some("gamma"),
            "bias" if stem.ends_with("norm") => Some("beta"),
            _ => None,
        };
        let (mut read, mut write) = (Vec::new(), Vec::new());
        let is_bare = matches!(config.head, EncoderHead::Hidden { .. });
        for (_, theirs) in theirs {
            let [long, short] = self
                .prefixed(&theirs)
                .map(|name| name.replacen('*', &number, 1));
            if write.is_empty() {
                write.push(format!("{}.{part}", if is_bare { &short } else { &long }));
            }
            for name in [long, short] {
                read.extend(
                    [Some(part), old_part]
                        .iter()
                        .flatten()
                        .map(|p| format!("{name}.{p}")),
                );
            }
        }
        if write.is_empty() {
            return Err(unknown());
        }
        read.dedup();
        Ok(TensorNames::of_pytorch(parameter, read, write))
    }

    /// Whether nothing is computed with a tensor of this name, which a folder may hold: those of the family's other heads, and
    /// tables of numbers in their order.
    pub(super) fn without_use(&self, name: &str) -> bool {
        let bare = name
            .strip_prefix(self.prefix)
            .and_then(|rest| rest.strip_prefix('.'))
            .unwrap_or(name);
        let heads = self.heads.iter().flat_map(|head| head.names);
        let stems = heads.map(|(_, theirs)| theirs.strip_prefix("~.").unwrap_or(theirs));
        let is_part = |stem: &str| {
            bare.strip_prefix(stem)
                .is_some_and(|rest| rest.starts_with('.'))
        };
        bare == "embeddings.position_ids"
            || stems.chain(self.without_use.iter().copied()).any(is_part)
    }
}

/// A name with `*` for the number in it, and that number.
pub(super) fn numbered(stem: &str) -> (String, String) {
    let is_number = |part: &&str| part.bytes().all(|b| b.is_ascii_digit());
    match stem.split('.').find(is_number) {
        Some(number) => (
            stem.replacen(&format!(".{number}."), ".*.", 1),
            number.to_string(),
        ),
        None => (stem.to_string(), String::new()),
    }
}

/// Metadata, training, and the form of what a call returns.
const WITHOUT_EFFECT: &[&str] = &[
    "_num_labels",
    "auto_map",
    "base_model",
    "bos_token_id",
    "classifier_dropout",
    "cls_token_id",
    "datasets",
    "directionality",
    "eos_token_id",
    "finetuning_task",
    "initializer_range",
    "language",
    "license",
    "mask_token_id",
    "model_max_length",
    "name_or_path",
];
