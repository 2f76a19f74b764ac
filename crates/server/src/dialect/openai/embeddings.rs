//! `POST /v1/embeddings`.

use axum::http::StatusCode;
use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::Value;

use super::generation::named;
use crate::call::{Call, internal};
use crate::dialect::json_response;
use crate::embedding::Embedding;
use crate::fields::{missing, wrong};
use crate::models::{LongWay, Work};
use crate::refusal::Refusal;

/// Texts, or ids that the model's own tokenizer has made.
fn texts(value: Value, model: &crate::models::Vectors) -> Result<Vec<String>, Refusal> {
    let expected = "a text, or a list of texts";
    let text_of = |list: &[Value]| -> Option<Vec<u32>> {
        list.iter()
            .map(|id| u32::try_from(id.as_u64()?).ok())
            .collect()
    };
    let decoded = |ids: Vec<u32>| {
        let tokenizer = model.encoder.tokenizer();
        let most = tokenizer.vocab_size();
        if let Some(id) = ids.iter().find(|id| **id as usize >= most) {
            return Err(Refusal::bad(format!(
                "the model has no token {id}, its ids are below {most}: those of another tokenizer (tiktoken, say) mean something else here, so send texts (langchain: `check_embedding_ctx_length=False`)"
            ))
            .in_field("input"));
        }
        // Ids within range may still be another tokenizer's, and mean other words: they cannot be told apart.
        Err::<String, _>(Refusal::bad(
            "token ids cannot be told from those of another tokenizer: send texts (langchain: `check_embedding_ctx_length=False`)",
        )
        .in_field("input"))
    };
    match value {
        Value::String(text) => Ok(vec![text]),
        Value::Array(list) if list.is_empty() => Err(wrong("input", expected, &Value::Array(list))),
        Value::Array(list) => match text_of(&list) {
            Some(ids) => decoded(ids).map(|text| vec![text]),
            None => list
                .into_iter()
                .map(|one| match one {
                    Value::String(text) => Ok(text),
                    Value::Array(ids) => match text_of(&ids) {
                        Some(ids) => decoded(ids),
                        None => Err(wrong("input", expected, &Value::Array(ids))),
                    },
                    other => Err(wrong("input", expected, &other)),
                })
                .collect(),
        },
        other => Err(wrong("input", expected, &other)),
    }
}

#[derive(Serialize)]
struct Answer<'a> {
    object: &'static str,
    model: &'a str,
    data: Vec<Embedded<'a>>,
    usage: Usage,
}

#[derive(Serialize)]
struct Embedded<'a> {
    object: &'static str,
    index: usize,
    embedding: Numbers<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Numbers<'a> {
    Floats(&'a [f32]),
    /// Of f32, the lower byte first.
    Base64(String),
}

#[derive(Serialize)]
struct Usage {
    prompt_tokens: usize,
    total_tokens: usize,
}

/// `POST /v1/embeddings`.
pub(crate) async fn embeddings(call: Call) -> Result<Response, Refusal> {
    let mut fields = call.json()?;
    fields.ignore(&["user"]);
    let name = fields.text("model")?;
    let is_vectors = |work: &Work| matches!(work, Work::Vectors(_));
    let model = call
        .app
        .models
        .that(name.as_deref(), "vectors of texts", is_vectors)?;
    let Work::Vectors(vectors) = &model.work else {
        return Err(internal());
    };
    let input = fields.value("input").ok_or_else(|| missing("input"))?;
    let texts = texts(input, vectors)?;
    crate::fields::bounded("input", texts.len(), call.app.settings.max_texts)?;
    let format = fields
        .text("encoding_format")?
        .unwrap_or_else(|| "float".to_string());
    let is_base64 = match format.as_str() {
        "float" => false,
        "base64" => true,
        other => {
            return Err(Refusal::of_field(
                "encoding_format",
                "`float` or `base64`",
                other,
            ));
        }
    };
    let embedding = Embedding {
        prompt: None,
        long: LongWay::Refuse,
        dimensions: fields.count("dimensions", 1..=1 << 20)?,
        normalize: false,
    };
    fields.nothing_left()?;
    let (found, tokens) = embedding.of(&call, (&model, vectors), texts).await?;
    let data = found.iter().enumerate().map(|(index, vector)| Embedded {
        object: "embedding",
        index,
        embedding: match is_base64 {
            true => {
                let bytes: Vec<u8> = vector.iter().flat_map(|x| x.to_le_bytes()).collect();
                Numbers::Base64(STANDARD.encode(bytes))
            }
            false => Numbers::Floats(vector),
        },
    });
    let answer = Answer {
        object: "list",
        model: model.name(),
        data: data.collect(),
        usage: Usage {
            prompt_tokens: tokens,
            total_tokens: tokens,
        },
    };
    Ok(named(&model, json_response(StatusCode::OK, &answer)))
}
