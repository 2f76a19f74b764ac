//! OpenAI's interface: completions, chat, embeddings, models.

mod answers;
mod asked;
mod embeddings;
mod generation;
mod stream;
mod translation;

use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Value, json};

use super::json_response;
use crate::call::Call;
use crate::models::Served;
use crate::refusal::Refusal;

pub(crate) use embeddings::embeddings;
pub(crate) use generation::{chat, completions};

/// A refusal as OpenAI tells it.
pub(super) fn refusal(refusal: &Refusal) -> (StatusCode, Value) {
    let kind = match refusal.status {
        StatusCode::UNAUTHORIZED => "authentication_error",
        StatusCode::FORBIDDEN => "permission_error",
        StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
        status if status.is_server_error() => "server_error",
        _ => "invalid_request_error",
    };
    let body = json!({"error": {
        "message": refusal.message,
        "type": kind,
        "param": refusal.field,
        "code": refusal.code,
    }});
    (refusal.status, body)
}

fn described(model: &Served) -> Value {
    json!({
        "id": model.name(),
        "object": "model",
        "created": model.loaded,
        "owned_by": "hexapla",
        "hexapla": {"task": model.task(), "sha256": model.fingerprint},
    })
}

/// `GET /v1/models`.
pub(crate) async fn models(call: Call) -> Result<Response, Refusal> {
    let all: Vec<Value> = call
        .app
        .models
        .all()
        .iter()
        .map(|model| described(model))
        .collect();
    Ok(json_response(
        StatusCode::OK,
        &json!({"object": "list", "data": all}),
    ))
}

/// `GET /v1/models/{model}`.
pub(crate) async fn model(call: Call) -> Result<Response, Refusal> {
    let model = call.app.models.named(&call.rest)?;
    Ok(json_response(StatusCode::OK, &described(&model)))
}
