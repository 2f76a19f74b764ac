//! Completions and chats by a decoder alone; those by a model that translates are next door.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::body::Bytes;
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use hexapla::generate::generator::Prompt;
use hexapla::generate::language_model::{Continuation, GenerateOptions};
use hexapla::text::chat::{Message, Values};
use serde_json::Value;

use super::answers::{Head, Kind, Usage, finish_reason, log_probs};
use super::asked::Asked;
use super::stream::{self, Parts, done, event, failed};
use super::translation;
use crate::app::{App, MODEL};
use crate::call::{Call, internal};
use crate::dialect::json_response;
use crate::fields::{Fields, bounded, missing, wrong};
use crate::generating::{Event, Generating, Tokens, count_finished};
use crate::models::{Language, Served, Work};
use crate::refusal::Refusal;

/// Tokens of a completion where nothing is said, as OpenAI has it.
const COMPLETION_TOKENS: usize = 16;

/// What is to be gone on with.
enum Given {
    Text(String),
    Ids(Vec<u32>),
}

/// `POST /v1/completions`.
pub(crate) async fn completions(call: Call) -> Result<Response, Refusal> {
    let mut fields = call.json()?;
    let settings = &call.app.settings;
    let mut asked = Asked::read(&mut fields, settings.max_alternatives)?;
    asked.read_completion_log_probs(&mut fields)?;
    let echo = fields.flag("echo")?.unwrap_or(false);
    let given = fields.value("prompt").ok_or_else(|| missing("prompt"))?;
    let given = prompts(given, settings.max_texts)?;
    fields.nothing_left()?;
    let model = model(&call, &asked)?;
    if let Work::Translation(_) = &model.work {
        let text = |given: &Given| match given {
            Given::Text(text) => Ok(text.clone()),
            Given::Ids(_) => {
                Err(Refusal::bad("a model that translates takes texts").in_field("prompt"))
            }
        };
        let texts = given.iter().map(text).collect::<Result<Vec<_>, _>>()?;
        return translation::answer(call, model, asked, Kind::Completion, texts).await;
    }
    let Work::Language(language) = &model.work else {
        return Err(internal());
    };
    let mut options = asked.options(language.model.options())?;
    options.max_new_tokens = Some(asked.max_tokens.unwrap_or(COMPLETION_TOKENS).max(1));
    let mut made = given.iter().enumerate().map(|(number, given)| match given {
        Given::Text(text) => {
            let prompt = language.model.text_prompt(text, number as u64, &options)?;
            Ok((prompt, text.clone()))
        }
        Given::Ids(ids) => ids_prompt(language, ids, number, &options),
    });
    let made = tokio::task::block_in_place(|| {
        made.by_ref()
            .collect::<Result<Vec<(Prompt, String)>, Refusal>>()
    })?;
    if asked.max_tokens == Some(0) && !echo {
        return Err(Refusal::of_field(
            "max_tokens",
            "1 or more where nothing is echoed",
            "0",
        ));
    }
    let (prompts, texts): (Vec<Prompt>, Vec<String>) = made.into_iter().unzip();
    let echoed = match echo {
        true => Some(echoed(&call, &model, &asked, &prompts, texts).await?),
        false => None,
    };
    answer(
        &call,
        &model,
        (prompts, options),
        &asked,
        (Kind::Completion, echoed),
    )
    .await
}

/// `POST /v1/chat/completions`.
pub(crate) async fn chat(call: Call) -> Result<Response, Refusal> {
    let mut fields = call.json()?;
    let mut asked = Asked::read(&mut fields, call.app.settings.max_alternatives)?;
    asked.read_chat_log_probs(&mut fields)?;
    let messages = fields
        .value("messages")
        .ok_or_else(|| missing("messages"))?;
    let messages = self::messages(messages)?;
    let values = template_values(fields.value("chat_template_kwargs"))?;
    if let Some(mut format) = fields.object("response_format")? {
        match format.needed_text("type")?.as_str() {
            "text" => format.nothing_left()?,
            other => {
                let refused = Refusal::of_field("response_format", "of the type `text`", other);
                return Err(refused);
            }
        }
    }
    // No tools are no tools, however that is said.
    for name in ["tools", "functions"] {
        match fields.value(name) {
            Some(Value::Array(list)) if list.is_empty() => (),
            None => (),
            Some(_) => {
                return Err(Refusal::bad("the server calls no tools").in_field(name));
            }
        }
    }
    fields.nothing_left()?;
    let model = model(&call, &asked)?;
    if let Work::Translation(_) = &model.work {
        let last = messages.iter().rev().find(|message| message.role == "user");
        let last = last.ok_or_else(|| {
            Refusal::bad("there is no message of a user to translate").in_field("messages")
        })?;
        let texts = vec![last.content.clone()];
        return translation::answer(call, model, asked, Kind::Chat, texts).await;
    }
    let Work::Language(language) = &model.work else {
        return Err(internal());
    };
    let mut options = asked.options(language.model.options())?;
    options.max_new_tokens = asked.max_tokens.or(options.max_new_tokens);
    let template = language.model.chat_template().map_err(|e| {
        let e = Refusal::from(e);
        Refusal::bad(format!("the model has no chat template: {}", e.message)).in_field("model")
    })?;
    let conversation = (messages.as_slice(), &values);
    let prompt = language
        .model
        .conversation(&template, conversation, 0, &options);
    // What a template refuses is the conversation's.
    let mut prompt = prompt.map_err(|e| {
        let refused = Refusal::from(e);
        Refusal::bad(refused.message).in_field("messages")
    })?;
    if asked.max_tokens.is_none() {
        // What its folder says may be more than there is room for.
        let room = language
            .model
            .generator()
            .max_tokens()
            .saturating_sub(prompt.ids.len());
        prompt.max_new_tokens = prompt.max_new_tokens.min(room);
    }
    answer(
        &call,
        &model,
        (vec![prompt], options),
        &asked,
        (Kind::Chat, None),
    )
    .await
}

/// The model that is asked, or the first that writes.
fn model(call: &Call, asked: &Asked) -> Result<Arc<Served>, Refusal> {
    let writes = |work: &Work| matches!(work, Work::Language(_) | Work::Translation(_));
    match &asked.model {
        Some(_) => call
            .app
            .models
            .that(asked.model.as_deref(), "texts", writes),
        None => {
            let is_language = |work: &Work| matches!(work, Work::Language(_));
            let found = call.app.models.that(None, "texts", is_language);
            found.or_else(|_| call.app.models.that(None, "texts", writes))
        }
    }
}

/// A text, ids, or several of either.
fn prompts(given: Value, most: usize) -> Result<Vec<Given>, Refusal> {
    let expected = "a text, a list of texts, a list of token ids, or a list of such lists";
    let refuse = |value: &Value| wrong("prompt", expected, value);
    let ids = |list: &[Value]| -> Option<Vec<u32>> {
        list.iter()
            .map(|id| u32::try_from(id.as_u64()?).ok())
            .collect()
    };
    match given {
        Value::String(text) => Ok(vec![Given::Text(text)]),
        Value::Array(list) if list.first().is_some_and(Value::is_number) => {
            let found = ids(&list);
            let found = found.ok_or_else(|| refuse(&Value::Array(list)))?;
            Ok(vec![Given::Ids(found)])
        }
        Value::Array(list) if !list.is_empty() => {
            bounded("prompt", list.len(), most)?;
            list.into_iter()
                .map(|one| match &one {
                    Value::String(text) => Ok(Given::Text(text.clone())),
                    Value::Array(list) => ids(list).map(Given::Ids).ok_or_else(|| refuse(&one)),
                    _ => Err(refuse(&one)),
                })
                .collect()
        }
        other => Err(refuse(&other)),
    }
}

fn ids_prompt(
    language: &Language,
    ids: &[u32],
    number: usize,
    options: &GenerateOptions,
) -> Result<(Prompt, String), Refusal> {
    let vocab_size = language.model.generator().config().vocab_size;
    if let Some(id) = ids.iter().find(|id| **id as usize >= vocab_size) {
        return Err(Refusal::bad(format!(
            "the model has no token {id}, its ids are below {vocab_size}: those of another tokenizer (tiktoken, say) mean something else here, so send texts"
        ))
        .in_field("prompt"));
    }
    let prompt = language
        .model
        .prompt(ids.to_vec(), number as u64, options)?;
    let text = language.model.tokenizer().decode(ids)?;
    Ok((prompt, text))
}

/// The messages of a conversation, whose contents may come in parts.
fn messages(value: Value) -> Result<Vec<Message>, Refusal> {
    let expected = "a list of messages, each with `role` and `content`";
    let Value::Array(list) = value else {
        return Err(wrong("messages", expected, &value));
    };
    bounded("messages", list.len(), 4096)?;
    if list.is_empty() {
        return Err(wrong("messages", expected, &Value::Array(list)));
    }
    list.into_iter()
        .enumerate()
        .map(|(number, value)| {
            let name = format!("messages[{number}]");
            let Value::Object(fields) = value else {
                return Err(wrong(&name, "an object", &value));
            };
            let mut fields = Fields::of_object(fields);
            fields.ignore(&["name"]);
            let role = fields
                .text("role")?
                .ok_or_else(|| missing(&format!("{name}.role")))?;
            let role = match role.as_str() {
                // The newer name of the same.
                "developer" => "system".to_string(),
                "system" | "user" | "assistant" => role,
                other => {
                    let expected = "`system`, `developer`, `user` or `assistant`";
                    return Err(Refusal::of_field(&format!("{name}.role"), expected, other));
                }
            };
            let content = fields
                .value("content")
                .ok_or_else(|| missing(&format!("{name}.content")))?;
            let content = content_text(&name, content)?;
            fields.nothing_left().map_err(|refusal| {
                let field = refusal.field.clone().unwrap_or_default();
                refusal.in_field(&format!("{name}.{field}"))
            })?;
            Ok(Message::new(&role, content))
        })
        .collect()
}

fn content_text(name: &str, content: Value) -> Result<String, Refusal> {
    let name = format!("{name}.content");
    let expected = "a text, or a list of parts of the type `text`";
    match content {
        Value::String(text) => Ok(text),
        Value::Array(parts) => {
            let part = |part: &Value| match (part["type"].as_str(), part["text"].as_str()) {
                (Some("text"), Some(text)) => Ok(text.to_string()),
                _ => Err(wrong(&name, expected, part)),
            };
            parts.iter().map(part).collect()
        }
        other => Err(wrong(&name, expected, &other)),
    }
}

fn template_values(value: Option<Value>) -> Result<Values, Refusal> {
    let Some(value) = value else {
        return Ok(Values::default());
    };
    serde_json::from_value(value)
        .map_err(|e| Refusal::of_field("chat_template_kwargs", "an object", &e.to_string()))
}

/// The prompt as it stands before its outputs.
#[derive(Debug, Clone, Default)]
struct Echoed {
    text: String,
    tokens: Tokens,
}

/// The prompts themselves, with their tokens' probabilities where those are asked for.
async fn echoed(
    call: &Call,
    model: &Arc<Served>,
    asked: &Asked,
    prompts: &[Prompt],
    texts: Vec<String>,
) -> Result<Vec<Echoed>, Refusal> {
    if !asked.log_probs {
        let echoed = |text| Echoed {
            text,
            tokens: Tokens::default(),
        };
        return Ok(texts.into_iter().map(echoed).collect());
    }
    let tokens = prompts.iter().map(|prompt| prompt.ids.len()).sum();
    let permit = call.admit(model, &[""; 0], tokens)?;
    let (model, ids) = (
        model.clone(),
        prompts.iter().map(|prompt| prompt.ids.clone()),
    );
    let ids: Vec<Vec<u32>> = ids.collect();
    let likeliest = asked.likeliest > 0;
    let work = move || {
        let Work::Language(language) = &model.work else {
            return Vec::new();
        };
        let losses = ids
            .iter()
            .map(|ids| language.model.generator().losses(ids, 1));
        let found = losses.zip(&ids).map(|(losses, ids)| {
            let losses = losses?;
            // Of the first token nothing is known, and JSON has no number for that.
            let first = std::iter::once(f32::NAN);
            let log_probs = first.chain(losses.iter().map(|loss| -loss));
            Ok(Tokens {
                ids: ids.clone(),
                log_probs: log_probs.collect(),
                likeliest: vec![Vec::new(); ids.len() * usize::from(likeliest)],
            })
        });
        let found: Vec<hexapla::Result<Tokens>> = found.collect();
        drop(permit);
        found
    };
    let found = tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| internal())?;
    let echoed = texts.into_iter().zip(found);
    echoed
        .map(|(text, tokens)| {
            Ok(Echoed {
                text,
                tokens: tokens?,
            })
        })
        .collect()
}

pub(super) fn head(call: &Call, model: &Served, kind: Kind) -> Head {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let id = call.app.new_id();
    Head {
        kind,
        id: match kind {
            Kind::Completion => format!("cmpl-{id}"),
            Kind::Chat => format!("chatcmpl-{id}"),
        },
        created: now.map_or(0, |since| since.as_secs()),
        model: model.name().to_string(),
        fingerprint: model.fingerprint.chars().take(16).collect(),
    }
}

/// With the name of the weights.
pub(super) fn named(model: &Served, mut response: Response) -> Response {
    if let Ok(value) = HeaderValue::from_str(&model.fingerprint) {
        response.headers_mut().insert(MODEL, value);
    }
    response
}

async fn answer(
    call: &Call,
    model: &Arc<Served>,
    (prompts, options): (Vec<Prompt>, GenerateOptions),
    asked: &Asked,
    (kind, echoed): (Kind, Option<Vec<Echoed>>),
) -> Result<Response, Refusal> {
    let Work::Language(language) = &model.work else {
        return Err(internal());
    };
    if asked.is_streamed && asked.best_of > asked.n {
        return Err(Refusal::bad(
            "the best of several is not known before the end: it cannot be streamed",
        )
        .in_field("best_of"));
    }
    let read = prompts.iter().map(|prompt| prompt.ids.len()).sum();
    let head = head(call, model, kind);
    let samples = asked.n;
    let count = prompts.len();
    let under_way = match asked.max_tokens {
        Some(0) if kind == Kind::Completion => None,
        _ => Some(Generating::start(
            call,
            (model, language),
            prompts,
            &options,
            asked.is_streamed,
        )?),
    };
    let echoed = echoed.unwrap_or_default();
    if asked.is_streamed {
        let Some(generating) = under_way else {
            return Err(Refusal::bad("there is nothing to stream").in_field("max_tokens"));
        };
        let parts = Streamed {
            app: call.app.clone(),
            model: model.clone(),
            head,
            generating,
            log_probs: asked.log_probs,
            with_usage: asked.with_usage,
            usage: Usage { read, written: 0 },
            samples,
            // One output stands for several where there is only one.
            copies: if options.search.sampling.is_none() {
                samples
            } else {
                1
            },
            written: vec![0; count * samples],
            echoed,
            state: State::Begins,
        };
        return Ok(named(model, stream::response(parts)));
    }
    let found = match under_way {
        Some(generating) => generating.finish(&call.app).await?,
        None => vec![vec![(empty(), Tokens::default())]; count],
    };
    let written = found
        .iter()
        .flatten()
        .map(|(output, _)| output.ids.len())
        .sum();
    call.count_tokens(model, "target", written);
    let mut choices = Vec::new();
    for (prompt, outputs) in found.into_iter().enumerate() {
        for (output, tokens) in best(outputs, samples) {
            let before = echoed.get(prompt).cloned().unwrap_or_default();
            let probabilities = match asked.log_probs {
                true => {
                    let mut all = before.tokens.clone();
                    all.ids.extend(tokens.ids);
                    all.log_probs.extend(tokens.log_probs);
                    all.likeliest.extend(tokens.likeliest);
                    log_probs(kind, &language.model, &all, 0)
                }
                false => Value::Null,
            };
            let text = format!("{}{}", before.text, output.text);
            choices.push(head.choice(choices.len(), &text, finish_reason(&output), probabilities));
        }
    }
    let answer = head.whole(choices, &Usage { read, written });
    Ok(named(model, json_response(StatusCode::OK, &answer)))
}

/// Nothing was to be written.
fn empty() -> Continuation {
    Continuation {
        text: String::new(),
        ids: Vec::new(),
        finish: hexapla::generate::language_model::Finish::Length,
        log_prob: 0.0,
        token_log_probs: Vec::new(),
    }
}

/// The `samples` most probable outputs by the mean of their tokens, in their order where there are no more; the only one as often as
/// it is wanted.
fn best(mut outputs: Vec<(Continuation, Tokens)>, samples: usize) -> Vec<(Continuation, Tokens)> {
    if outputs.len() > samples {
        let mean = |output: &Continuation| output.log_prob / output.ids.len().max(1) as f32;
        outputs.sort_by(|(a, _), (b, _)| mean(b).total_cmp(&mean(a)));
        outputs.truncate(samples);
    }
    while outputs.len() < samples
        && let Some(last) = outputs.last().cloned()
    {
        outputs.push(last);
    }
    outputs
}

/// Where a stream is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Begins,
    Goes,
    Usage,
    Done,
    Over,
}

/// An answer in parts.
struct Streamed {
    app: Arc<App>,
    model: Arc<Served>,
    head: Head,
    generating: Generating,
    log_probs: bool,
    with_usage: bool,
    usage: Usage,
    samples: usize,
    copies: usize,
    /// Characters of each choice that were told.
    written: Vec<usize>,
    echoed: Vec<Echoed>,
    state: State,
}

impl Streamed {
    /// A part of a choice, or of several that are equal.
    fn part(
        &mut self,
        (prompt, sample): (usize, usize),
        text: &str,
        finish: Option<&str>,
        tokens: &Tokens,
    ) -> Vec<Value> {
        let mut parts = Vec::new();
        for copy in 0..self.copies {
            let index = prompt * self.samples + sample + copy;
            let offset = self.written.get(index).copied().unwrap_or(0);
            if let Some(written) = self.written.get_mut(index) {
                *written += text.chars().count();
            }
            let probabilities = match (&self.model.work, self.log_probs && !tokens.ids.is_empty()) {
                (Work::Language(language), true) => {
                    log_probs(self.head.kind, &language.model, tokens, offset)
                }
                _ => Value::Null,
            };
            parts.push(self.head.part(index, text, finish, probabilities));
        }
        parts
    }

    /// An event for each of `choices`: clients look at the first of an event alone.
    fn events(&self, choices: Vec<Value>) -> Bytes {
        let usage = self.with_usage.then_some(Value::Null);
        let chunk = |choice| event(&self.head.chunk(vec![choice], usage.clone()));
        choices.into_iter().flat_map(chunk).collect()
    }

    fn begin(&mut self) -> Bytes {
        let count = self.written.len();
        let first: Vec<Value> = match self.head.kind {
            Kind::Chat => (0..count).map(Head::role).collect(),
            Kind::Completion => {
                let echoed = std::mem::take(&mut self.echoed);
                let all = echoed.into_iter().enumerate().flat_map(|(prompt, before)| {
                    let samples = (0..self.samples).step_by(self.copies);
                    let samples: Vec<usize> = samples.collect();
                    let part =
                        |sample| self.part((prompt, sample), &before.text, None, &before.tokens);
                    samples.into_iter().flat_map(part).collect::<Vec<_>>()
                });
                all.collect()
            }
        };
        self.events(first)
    }
}

impl Parts for Streamed {
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            match self.state {
                State::Begins => {
                    self.state = State::Goes;
                    let first = self.begin();
                    if !first.is_empty() {
                        return Some(first);
                    }
                }
                State::Goes => match self.generating.next().await {
                    Some(Event::Grown {
                        prompt,
                        sample,
                        text,
                        tokens,
                    }) => {
                        let parts = self.part((prompt, sample), &text, None, &tokens);
                        return Some(self.events(parts));
                    }
                    Some(Event::Done { prompt, outputs }) => {
                        count_finished(&self.app, outputs.iter().map(|(output, ..)| output));
                        let mut parts = Vec::new();
                        for (sample, (output, rest, tokens)) in outputs.into_iter().enumerate() {
                            self.usage.written += output.ids.len();
                            if !rest.is_empty() || !tokens.ids.is_empty() {
                                parts.extend(self.part((prompt, sample), &rest, None, &tokens));
                            }
                            let finish = Some(finish_reason(&output));
                            parts.extend(self.part(
                                (prompt, sample),
                                "",
                                finish,
                                &Tokens::default(),
                            ));
                        }
                        return Some(self.events(parts));
                    }
                    Some(Event::Failed(e)) => {
                        // Nothing comes behind an error.
                        self.state = State::Over;
                        return Some(failed(&e.into()));
                    }
                    None => self.state = State::Usage,
                },
                State::Usage => {
                    self.state = State::Done;
                    if self.with_usage {
                        let usage = Some(self.usage.told());
                        return Some(event(&self.head.chunk(Vec::new(), usage)));
                    }
                }
                State::Done => {
                    self.state = State::Over;
                    return Some(done());
                }
                State::Over => return None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn prompts_come_in_four_forms() {
        let count = |value: Value| prompts(value, 3).map(|all| all.len());
        assert_eq!(count(json!("a")).unwrap(), 1);
        assert_eq!(count(json!(["a", "b"])).unwrap(), 2);
        assert_eq!(count(json!([1, 2])).unwrap(), 1);
        assert_eq!(count(json!([[1, 2], [3], "x"])).unwrap(), 3);
        for wrong in [
            json!([]),
            json!(5),
            json!([1, "a"]),
            json!([-1]),
            json!([4294967296_u64]),
            json!([1.5]),
            json!(["a", "b", "c", "d"]),
            json!({"a": 1}),
        ] {
            assert_eq!(count(wrong).unwrap_err().field.as_deref(), Some("prompt"));
        }
    }

    #[test]
    fn messages_come_whole_or_in_parts() {
        let read = |value: Value| messages(value);
        let found = read(json!([
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "name": "me"},
        ]));
        assert_eq!(
            found.unwrap(),
            [
                Message::new("system", "Be brief."),
                Message::new("user", "ab")
            ]
        );
        for wrong in [
            json!([]),
            json!("hello"),
            json!(["hello"]),
            json!([{"role": "user"}]),
            json!([{"role": "tool", "content": "x"}]),
            json!([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x"}}]}]),
            json!([{"role": "assistant", "content": "x", "tool_calls": [1]}]),
        ] {
            assert!(read(wrong.clone()).is_err(), "{wrong}");
        }
    }
}
