//! Texts to translate, as every dialect asks for them.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::http::HeaderValue;
use axum::response::Response;
use hexapla::generate::TranslateOptions;
use hexapla::generate::translator::Translation as Translated;
use serde_json::{Value, json};
use tokio::task::block_in_place;

use crate::app::MODEL;
use crate::call::Call;
use crate::html::{Document, Link, Linked, places};
use crate::languages::{Detected, detect};
use crate::models::{Served, Translation, Work};
use crate::refusal::Refusal;
use crate::warnings::warnings;

/// How texts are translated.
#[derive(Debug, Clone, Default)]
pub(crate) struct Translating {
    /// The language of all texts; where absent each is recognised.
    pub(crate) source: Option<String>,
    pub(crate) target: String,
    /// Other translations of each text.
    pub(crate) alternatives: usize,
    pub(crate) is_html: bool,
    /// Each text is a line of a longer one, and translated as that would be.
    pub(crate) is_part: bool,
    /// Tell how probable each piece is.
    pub(crate) confidence: bool,
    /// Tell which piece of the source each piece stands for.
    pub(crate) alignments: bool,
    /// The model; where absent the first that knows the languages.
    pub(crate) model: Option<String>,
}

/// What one text has become.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) text: String,
    pub(crate) alternatives: Vec<String>,
    /// Its language, as it was named or as it was recognised.
    pub(crate) source: Detected,
    /// What is told under this server's own name.
    own: Value,
    /// Which model has answered; nothing where there was nothing to translate.
    model: Option<Arc<str>>,
    /// Tokens that were written.
    pub(crate) tokens: usize,
}

impl Asked {
    /// A text that stays as it is.
    fn unchanged(text: &str, source: Detected) -> Self {
        Asked {
            text: text.to_string(),
            alternatives: Vec::new(),
            source,
            own: json!({"warnings": []}),
            model: None,
            tokens: 0,
        }
    }

    /// What is told under this server's own name.
    pub(crate) fn extension(&self) -> Value {
        self.own.clone()
    }

    /// Which model has answered.
    pub(crate) fn model(&self) -> Option<&str> {
        self.model.as_deref()
    }
}

/// Texts that go the same way: their numbers.
type Group = (Arc<Served>, String, Vec<usize>);

impl Translating {
    /// The models that translate into the target.
    fn models(&self, call: &Call) -> Result<Vec<Arc<Served>>, Refusal> {
        let all = match &self.model {
            Some(name) => vec![call.app.models.named(name)?],
            None => call.app.models.all(),
        };
        let fits = |model: &Arc<Served>| match &model.work {
            Work::Translation(translation) => translation
                .pairs
                .iter()
                .any(|pair| pair.target == self.target),
            _ => false,
        };
        let found: Vec<_> = all.into_iter().filter(fits).collect();
        match found.is_empty() {
            false => Ok(found),
            true => Err(
                Refusal::bad(format!("no model here translates into `{}`", self.target))
                    .in_field("target"),
            ),
        }
    }

    /// The language that a text is translated from.
    ///
    /// # Errors
    /// No model translates into the target.
    pub(crate) fn source_of(&self, call: &Call, text: &str) -> Result<String, Refusal> {
        let sources = self.sources(&self.models(call)?);
        let known: Vec<&str> = sources.iter().map(String::as_str).collect();
        let detected = || block_in_place(|| self.detected(text, &known).language);
        Ok(self.source.clone().unwrap_or_else(detected))
    }

    /// The languages that `models` translate into the target, and this one itself.
    fn sources(&self, models: &[Arc<Served>]) -> Vec<String> {
        let mut sources = Vec::new();
        for model in models {
            if let Work::Translation(translation) = &model.work {
                let pairs = translation.pairs.iter();
                let pairs = pairs.filter(|pair| pair.target == self.target);
                sources.extend(pairs.map(|pair| pair.source.clone()));
            }
        }
        sources.push(self.target.clone());
        sources
    }

    /// The language of a text.
    fn detected(&self, text: &str, known: &[&str]) -> Detected {
        let parts = Parts::new(text, self.is_html);
        let lines: Vec<&str> = parts.lines().collect();
        detect(&lines.join("\n"), known)
    }

    /// Translates `texts`.
    ///
    /// # Errors
    /// Languages that no model has, more than there is room for, or a text that the model refuses.
    pub(crate) async fn of(&self, call: &Call, texts: &[String]) -> Result<Vec<Asked>, Refusal> {
        let models = self.models(call)?;
        let sources = self.sources(&models);
        let known: Vec<&str> = sources.iter().map(String::as_str).collect();
        let mut asked: Vec<Option<Asked>> = vec![None; texts.len()];
        let mut groups: Vec<Group> = Vec::new();
        let mut detected = Vec::with_capacity(texts.len());
        for (number, text) in texts.iter().enumerate() {
            let source = match &self.source {
                Some(language) => Detected {
                    language: language.clone(),
                    confidence: 100.0,
                },
                // Of megabytes this takes a while, in which others are answered.
                None => block_in_place(|| self.detected(text, &known)),
            };
            // Of numbers alone no language can be told.
            let is_known = self.source.is_some() || source.confidence > 0.0;
            let is_text = self.is_part || text.chars().any(char::is_alphanumeric);
            detected.push(source.clone());
            if !is_text || !is_known || source.language == self.target {
                asked[number] = Some(Asked::unchanged(text, source));
                continue;
            }
            let model = models.iter().find(|model| match &model.work {
                Work::Translation(translation) => translation
                    .pairs
                    .iter()
                    .any(|p| p.target == self.target && p.source == source.language),
                _ => false,
            });
            let model = model.ok_or_else(|| {
                Refusal::bad(format!(
                    "no model here translates from `{}` into `{}`",
                    source.language, self.target
                ))
                .in_field("source")
            })?;
            let same =
                |group: &&mut Group| Arc::ptr_eq(&group.0, model) && group.1 == source.language;
            match groups.iter_mut().find(same) {
                Some(group) => group.2.push(number),
                None => groups.push((model.clone(), source.language, vec![number])),
            }
        }
        for (model, source, numbers) in groups {
            let these: Vec<&String> = numbers.iter().map(|number| &texts[*number]).collect();
            let found = self.group(call, &model, &source, &these).await?;
            for (number, found) in numbers.into_iter().zip(found) {
                asked[number] = Some(Asked {
                    source: detected[number].clone(),
                    ..found
                });
            }
        }
        Ok(asked.into_iter().flatten().collect())
    }

    async fn group(
        &self,
        call: &Call,
        model: &Arc<Served>,
        source: &str,
        texts: &[&String],
    ) -> Result<Vec<Asked>, Refusal> {
        let Work::Translation(translation) = &model.work else {
            return Ok(Vec::new());
        };
        let mut options = translation.translator.options();
        if let Some(direction) = translation.direction(Some(source), &self.target)? {
            options = options.with_direction(direction);
        }
        if self.alternatives > 0 {
            options = options.with_n_best(1 + self.alternatives);
        }
        if self.alignments || self.is_html {
            options = options.with_alignment(translation.translator.alignment_reading());
        }
        let parts: Vec<Parts> = block_in_place(|| {
            let parts = texts.iter().map(|text| Parts::new(text, self.is_html));
            parts.collect()
        });
        let lines = parts.iter().flat_map(Parts::lines).map(String::from);
        let found = call
            .translate(model, lines.collect(), options.clone())
            .await?;
        let mut found = found.into_iter();
        let of_text = |parts: &Parts| {
            let lines: Vec<Vec<Translated>> = found.by_ref().take(parts.lines().count()).collect();
            self.asked((translation, &options), model, parts, &lines)
        };
        block_in_place(|| parts.iter().map(of_text).collect())
    }

    fn asked(
        &self,
        (translation, options): (&Translation, &TranslateOptions),
        model: &Arc<Served>,
        parts: &Parts,
        lines: &[Vec<Translated>],
    ) -> Result<Asked, Refusal> {
        // Of a line with fewer translations than others the last one stands for those that it lacks.
        let nth = |n: usize| -> Result<String, Refusal> {
            let of_line = |line: &Vec<Translated>| line.get(n).or(line.last()).cloned();
            let lines: Vec<Translated> = lines.iter().filter_map(of_line).collect();
            parts.joined(&lines, |line, found| {
                links((translation, options), line, found)
            })
        };
        let best: Vec<&Translated> = lines.iter().filter_map(|line| line.first()).collect();
        let translated = nth(0)?;
        let finished = best.iter().all(|line| line.finished);
        let plain: Vec<&str> = best.iter().map(|line| line.text.as_str()).collect();
        let source: Vec<&str> = parts.lines().collect();
        let mut own = json!({
            "model": model.name(),
            "warnings": warnings(&source.join("\n"), &plain.join("\n"), finished),
        });
        if self.confidence {
            let pieces: Vec<(&str, f32)> = best
                .iter()
                .flat_map(|line| target_pieces(translation, line))
                .map(|(piece, log_prob)| (piece, log_prob.exp()))
                .collect();
            let tokens = pieces.len().max(1) as f32;
            let log_prob: f32 = best.iter().map(|line| line.log_prob).sum();
            own["confidence"] = json!((log_prob / tokens).exp());
            own["pieces"] = json!(pieces);
        }
        if self.alignments {
            let all = parts.lines().zip(&best).map(|(line, found)| {
                let links = found.alignment.as_ref().map(|alignment| &alignment.pairs);
                let pieces = source_pieces((translation, options), line)?;
                Ok(json!({"source_pieces": pieces, "links": links}))
            });
            own["alignments"] = Value::Array(all.collect::<Result<_, Refusal>>()?);
        }
        let mut alternatives = (1..=self.alternatives)
            .map(nth)
            .collect::<Result<Vec<_>, _>>()?;
        let mut seen = BTreeSet::from([translated.clone()]);
        alternatives.retain(|text| seen.insert(text.clone()));
        Ok(Asked {
            alternatives,
            text: translated,
            source: Detected {
                language: String::new(),
                confidence: 0.0,
            },
            own,
            model: Some(model.fingerprint.as_str().into()),
            tokens: best.iter().map(|line| line.tokens.len()).sum(),
        })
    }

    /// An answer with the name of the models that it comes from.
    pub(crate) fn named(asked: &[Asked], mut response: Response) -> Response {
        let mut models: Vec<&str> = asked.iter().filter_map(Asked::model).collect();
        models.sort_unstable();
        models.dedup();
        if let Ok(value) = HeaderValue::from_str(&models.join(", ")) {
            response.headers_mut().insert(MODEL, value);
        }
        response
    }
}

/// A text, cut into what is translated.
enum Parts<'a> {
    /// Each of its lines.
    Plain(&'a str),
    Html(Document<'a>),
}

impl<'a> Parts<'a> {
    fn new(text: &'a str, is_html: bool) -> Self {
        match is_html {
            true => Parts::Html(Document::new(text)),
            false => Parts::Plain(text),
        }
    }

    fn lines(&self) -> Box<dyn Iterator<Item = &str> + '_> {
        match self {
            Parts::Plain(text) => Box::new(text.split('\n')),
            Parts::Html(document) => Box::new(document.texts()),
        }
    }

    /// The text with its translated lines. `links` says which bytes of a line's translation stand for which of the line.
    fn joined(
        &self,
        lines: &[Translated],
        links: impl Fn(&str, &Translated) -> Result<Vec<Link>, Refusal>,
    ) -> Result<String, Refusal> {
        let texts = lines.iter().map(|line| line.text.as_str());
        match self {
            Parts::Plain(_) => Ok(texts.collect::<Vec<_>>().join("\n")),
            Parts::Html(document) => {
                let linked = self.lines().zip(lines).map(|(line, found)| {
                    Ok(Linked {
                        text: &found.text,
                        links: links(line, found)?,
                    })
                });
                Ok(document.with(linked.collect::<Result<Vec<_>, Refusal>>()?))
            }
        }
    }
}

/// The pieces of a line as the model has read them, with all that stands around its sentences.
fn source_pieces(
    (translation, options): (&Translation, &TranslateOptions),
    line: &str,
) -> Result<Vec<String>, Refusal> {
    let (_, sentences) = translation.translator.sentences(line, options)?;
    let tokenizer = &translation.translator.tokenizers().source;
    let ids = sentences.iter().flat_map(|(_, request)| &request.source);
    Ok(ids
        .map(|id| tokenizer.id_to_token(*id).unwrap_or_default())
        .collect())
}

/// The pieces of a translation as alignments count them: without what ends its sentences.
fn target_pieces<'a>(
    translation: &Translation,
    found: &'a Translated,
) -> impl Iterator<Item = (&'a str, f32)> + use<'a> {
    let translator = &translation.translator;
    let end = translator.engine().config().eos_token_id;
    let end = translator
        .tokenizers()
        .target
        .id_to_token(end)
        .unwrap_or_default();
    let pieces = found.tokens.iter().filter(move |(piece, _)| *piece != end);
    pieces.map(|(piece, log_prob)| (piece.as_str(), *log_prob))
}

/// Which bytes of a line's translation stand for which bytes of the line.
fn links(
    model: (&Translation, &TranslateOptions),
    line: &str,
    found: &Translated,
) -> Result<Vec<Link>, Refusal> {
    let Some(alignment) = &found.alignment else {
        return Ok(Vec::new());
    };
    let source = source_pieces(model, line)?;
    let source = places(line, source.iter().map(String::as_str));
    let pieces = target_pieces(model.0, found);
    let target = places(&found.text, pieces.map(|(piece, _)| piece));
    let place = |all: &[Option<std::ops::Range<usize>>], i: usize| all.get(i).cloned().flatten();
    let pairs = alignment.pairs.iter();
    let link = |(from, to): &(usize, usize)| Some((place(&source, *from)?, place(&target, *to)?));
    Ok(pairs.filter_map(link).collect())
}
