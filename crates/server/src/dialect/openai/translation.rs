//! Completions and chats by a model that translates: each prompt, or the last message of a user, is translated.

use std::sync::Arc;

use axum::body::Bytes;
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::Value;
use tokio::sync::mpsc::{Receiver, channel};

use super::answers::{Head, Kind, Usage};
use super::asked::Asked;
use super::generation::{head, named};
use super::stream::{self, Parts, done, event, failed};
use crate::call::{Call, internal};
use crate::dialect::json_response;
use crate::languages::of_client;
use crate::models::{Served, Work};
use crate::refusal::Refusal;
use crate::translating::Translating;

/// How a request is translated.
fn translating(model: &Served, asked: &Asked, text: &str) -> Result<Translating, Refusal> {
    let Work::Translation(translation) = &model.work else {
        return Err(internal());
    };
    let source = asked.from.as_deref().and_then(of_client);
    let target = match asked.to.as_deref() {
        Some(to) => {
            of_client(to).ok_or_else(|| Refusal::of_field("hexapla.to", "a language", to))?
        }
        // The first language that the text's own is translated into.
        None => {
            let known: Vec<&str> = translation
                .pairs
                .iter()
                .map(|p| p.source.as_str())
                .collect();
            let detected = crate::languages::detect(text, &known).language;
            let source = source.as_ref().unwrap_or(&detected);
            let pair = translation.pairs.iter().find(|pair| pair.source == *source);
            let pair = pair.or(translation.pairs.first()).ok_or_else(|| {
                Refusal::bad(
                    "the model's languages are not known: name them in the server's settings",
                )
                .in_field("model")
            })?;
            pair.target.clone()
        }
    };
    Ok(Translating {
        source,
        target,
        alternatives: asked.n - 1,
        model: Some(model.name().to_string()),
        ..Translating::default()
    })
}

/// Answers with the translations of `texts`.
pub(super) async fn answer(
    call: Call,
    model: Arc<Served>,
    asked: Asked,
    kind: Kind,
    texts: Vec<String>,
) -> Result<Response, Refusal> {
    asked.refuse_for_translation()?;
    let head = head(&call, &model, kind);
    if asked.is_streamed {
        // What is wrong with the request is told before the stream begins.
        for text in &texts {
            translating(&model, &asked, text)?;
        }
        let (tell, told) = channel(1);
        let shared = model.clone();
        let with_usage = asked.with_usage;
        let count = texts.len() * asked.n;
        let begun = head.clone();
        tokio::spawn(async move {
            let sent = translate_lines(&call, &shared, &asked, &texts, &begun, &tell).await;
            let last = match sent {
                Ok(Some(usage)) => {
                    let mut last = Vec::new();
                    if with_usage {
                        last.extend(event(&begun.chunk(Vec::new(), Some(usage.told()))));
                    }
                    last.extend(done());
                    Bytes::from(last)
                }
                Ok(None) => return,
                Err(refusal) => failed(&refusal),
            };
            let _ = tell.send(last).await;
        });
        let first = match kind {
            Kind::Chat => (0..count).map(Head::role).collect(),
            Kind::Completion => Vec::new(),
        };
        let first: Bytes = first
            .into_iter()
            .flat_map(|choice| event(&head.chunk(vec![choice], None)))
            .collect();
        return Ok(named(&model, stream::response(Told { first, told })));
    }
    let mut choices = Vec::new();
    let mut usage = Usage::default();
    for text in &texts {
        let translating = translating(&model, &asked, text)?;
        let found = translating.of(&call, std::slice::from_ref(text)).await?;
        for asked_text in &found {
            usage.read += tokens_of(&model, text);
            usage.written += asked_text.tokens;
            let alternatives = asked_text.alternatives.iter();
            let all = std::iter::once(&asked_text.text).chain(alternatives);
            // Where there are fewer translations than asked for the last one stands for the rest.
            let last = asked_text.alternatives.last().unwrap_or(&asked_text.text);
            for text in all.chain(std::iter::repeat(last)).take(asked.n) {
                choices.push(head.choice(choices.len(), text, "stop", Value::Null));
            }
        }
    }
    let answer = head.whole(choices, &usage);
    Ok(named(&model, json_response(StatusCode::OK, &answer)))
}

fn tokens_of(model: &Served, text: &str) -> usize {
    match &model.work {
        Work::Translation(translation) => translation
            .translator
            .source_ids(text)
            .map_or(0, |ids| ids.len()),
        _ => 0,
    }
}

/// Translates line by line, and tells each as it is done. Nothing where nobody listens any more.
async fn translate_lines(
    call: &Call,
    model: &Arc<Served>,
    asked: &Asked,
    texts: &[String],
    head: &Head,
    tell: &tokio::sync::mpsc::Sender<Bytes>,
) -> Result<Option<Usage>, Refusal> {
    let usage_part = asked.with_usage.then_some(Value::Null);
    let chunk = |choice| event(&head.chunk(vec![choice], usage_part.clone()));
    let mut usage = Usage::default();
    for (number, text) in texts.iter().enumerate() {
        let mut translating = translating(model, asked, text)?;
        // As the whole text is translated: in its language, and every line of it.
        translating.source = Some(translating.source_of(call, text)?);
        translating.is_part = true;
        let lines: Vec<&str> = text.split('\n').collect();
        for (place, line) in lines.iter().enumerate() {
            let line = [(*line).to_string()];
            let found = tokio::select! {
                found = translating.of(call, &line) => found?,
                () = tell.closed() => return Ok(None),
            };
            let Some(found) = found.first() else { continue };
            usage.read += tokens_of(model, &line[0]);
            usage.written += found.tokens;
            let last = found.alternatives.last().unwrap_or(&found.text);
            let all = std::iter::once(&found.text).chain(&found.alternatives);
            for (choice, text) in all.chain(std::iter::repeat(last)).take(asked.n).enumerate() {
                let end = if place + 1 < lines.len() { "\n" } else { "" };
                let part = head.part(
                    number * asked.n + choice,
                    &format!("{text}{end}"),
                    None,
                    Value::Null,
                );
                if tell.send(chunk(part)).await.is_err() {
                    return Ok(None);
                }
            }
        }
        for choice in 0..asked.n {
            let part = head.part(number * asked.n + choice, "", Some("stop"), Value::Null);
            if tell.send(chunk(part)).await.is_err() {
                return Ok(None);
            }
        }
    }
    Ok(Some(usage))
}

/// What another task tells.
struct Told {
    first: Bytes,
    told: Receiver<Bytes>,
}

impl Parts for Told {
    async fn next(&mut self) -> Option<Bytes> {
        match self.first.is_empty() {
            false => Some(std::mem::take(&mut self.first)),
            true => self.told.recv().await,
        }
    }
}
