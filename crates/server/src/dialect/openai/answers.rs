//! Outputs in OpenAI's shapes.

use hexapla::generate::language_model::{Continuation, Finish, LanguageModel};
use serde_json::{Value, json};

use crate::generating::Tokens;

/// Which of the two interfaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Completion,
    Chat,
}

/// What all parts of an answer have.
#[derive(Debug, Clone)]
pub(super) struct Head {
    pub(super) kind: Kind,
    pub(super) id: String,
    pub(super) created: u64,
    pub(super) model: String,
    pub(super) fingerprint: String,
}

impl Head {
    /// The answer around these choices.
    pub(super) fn whole(&self, choices: Vec<Value>, usage: &Usage) -> Value {
        let object = match self.kind {
            Kind::Completion => "text_completion",
            Kind::Chat => "chat.completion",
        };
        self.around(object, choices, Some(usage.told()))
    }

    /// A part of an answer that is streamed.
    pub(super) fn chunk(&self, choices: Vec<Value>, usage: Option<Value>) -> Value {
        let object = match self.kind {
            Kind::Completion => "text_completion",
            Kind::Chat => "chat.completion.chunk",
        };
        self.around(object, choices, usage)
    }

    fn around(&self, object: &str, choices: Vec<Value>, usage: Option<Value>) -> Value {
        let mut answer = json!({
            "id": self.id,
            "object": object,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": self.fingerprint,
            "choices": choices,
        });
        if let Some(usage) = usage {
            answer["usage"] = usage;
        }
        answer
    }

    /// A whole choice.
    pub(super) fn choice(&self, index: usize, text: &str, finish: &str, log_probs: Value) -> Value {
        match self.kind {
            Kind::Completion => json!({
                "index": index, "text": text, "logprobs": log_probs, "finish_reason": finish,
            }),
            Kind::Chat => json!({
                "index": index,
                "message": {"role": "assistant", "content": text, "refusal": null},
                "logprobs": log_probs,
                "finish_reason": finish,
            }),
        }
    }

    /// A part of a choice that is streamed; `finish` is of the last one.
    pub(super) fn part(
        &self,
        index: usize,
        text: &str,
        finish: Option<&str>,
        log_probs: Value,
    ) -> Value {
        match self.kind {
            Kind::Completion => json!({
                "index": index, "text": text, "logprobs": log_probs, "finish_reason": finish,
            }),
            Kind::Chat => json!({
                "index": index,
                "delta": match (text, finish) {
                    ("", Some(_)) => json!({}),
                    _ => json!({"content": text}),
                },
                "logprobs": log_probs,
                "finish_reason": finish,
            }),
        }
    }

    /// The first part of a chat's choice.
    pub(super) fn role(index: usize) -> Value {
        json!({
            "index": index,
            "delta": {"role": "assistant", "content": ""},
            "logprobs": null,
            "finish_reason": null,
        })
    }
}

/// How much was read and written.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Usage {
    pub(super) read: usize,
    pub(super) written: usize,
}

impl Usage {
    pub(super) fn told(self) -> Value {
        json!({
            "prompt_tokens": self.read,
            "completion_tokens": self.written,
            "total_tokens": self.read + self.written,
        })
    }
}

/// Why an output ends.
pub(super) fn finish_reason(output: &Continuation) -> &'static str {
    match output.finish {
        Finish::End | Finish::Stop => "stop",
        Finish::Length => "length",
    }
}

/// A token's text; bytes of characters that are not whole are shown as such.
fn text_of(model: &LanguageModel, id: u32) -> String {
    let text = model.tokenizer().decode(&[id]).unwrap_or_default();
    match text.is_empty() {
        true => model.tokenizer().id_to_token(id).unwrap_or_default(),
        false => text,
    }
}

/// The probabilities of an output's tokens. `offset` is where its text begins, in characters.
pub(super) fn log_probs(
    kind: Kind,
    model: &LanguageModel,
    tokens: &Tokens,
    offset: usize,
) -> Value {
    let texts: Vec<String> = tokens.ids.iter().map(|id| text_of(model, *id)).collect();
    match kind {
        Kind::Completion => {
            let mut at = offset;
            let offsets: Vec<usize> = texts
                .iter()
                .map(|text| {
                    let here = at;
                    at += text.chars().count();
                    here
                })
                .collect();
            let likeliest: Vec<Value> = tokens
                .likeliest
                .iter()
                .map(|all| {
                    let pairs = all.iter().map(|(id, p)| (text_of(model, *id), json!(p)));
                    Value::Object(pairs.collect())
                })
                .collect();
            json!({
                "tokens": texts,
                "token_logprobs": tokens.log_probs,
                "top_logprobs": match likeliest.is_empty() {
                    true => Value::Null,
                    false => Value::Array(likeliest),
                },
                "text_offset": offsets,
            })
        }
        Kind::Chat => {
            let one =
                |text: &str, p: f32| json!({"token": text, "logprob": p, "bytes": text.as_bytes()});
            let all = texts.iter().zip(&tokens.log_probs).enumerate();
            let content: Vec<Value> = all
                .map(|(i, (text, p))| {
                    let mut token = one(text, *p);
                    let likeliest = tokens
                        .likeliest
                        .get(i)
                        .map(Vec::as_slice)
                        .unwrap_or_default();
                    let likeliest = likeliest
                        .iter()
                        .map(|(id, p)| one(&text_of(model, *id), *p));
                    token["top_logprobs"] = Value::Array(likeliest.collect());
                    token
                })
                .collect();
            json!({"content": content, "refusal": null})
        }
    }
}
