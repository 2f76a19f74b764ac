//! The interfaces that people's programs already use. Each has errors of its own shape.

pub(crate) mod deepl;
pub(crate) mod libretranslate;
pub(crate) mod openai;
pub(crate) mod own;
pub(crate) mod tei;

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use serde::Serialize;
use serde_json::json;

use crate::refusal::Refusal;

/// Whose interface it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Dialect {
    LibreTranslate,
    OpenAi,
    Tei,
    DeepL,
    /// This server's own: health, metrics, models.
    Own,
}

impl Dialect {
    /// That of a path, also of one that leads nowhere.
    pub(crate) fn of(path: &str) -> Self {
        let first = path.split('/').nth(1).unwrap_or_default();
        match first {
            "v1" => Dialect::OpenAi,
            "v2" | "v3" => Dialect::DeepL,
            "embed" | "embed_all" | "embed_sparse" | "similarity" | "rerank" | "predict"
            | "tokenize" | "decode" | "info" => Dialect::Tei,
            "health" | "metrics" | "models" | "openapi.json" | "" => Dialect::Own,
            _ => Dialect::LibreTranslate,
        }
    }

    /// Its name in metrics and logs.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Dialect::LibreTranslate => "libretranslate",
            Dialect::OpenAi => "openai",
            Dialect::Tei => "tei",
            Dialect::DeepL => "deepl",
            Dialect::Own => "hexapla",
        }
    }

    /// A refusal in its shape.
    pub(crate) fn refusal(self, refusal: &Refusal) -> Response {
        let (status, body) = match self {
            Dialect::LibreTranslate => libretranslate::refusal(refusal),
            Dialect::OpenAi => openai::refusal(refusal),
            Dialect::Tei => tei::refusal(refusal),
            Dialect::DeepL => deepl::refusal(refusal),
            Dialect::Own => (refusal.status, json!({"error": refusal.message})),
        };
        let mut response = json_response(status, &body);
        if let Some(after) = refusal.retry_after {
            let seconds = HeaderValue::from(after.as_secs().max(1));
            response.headers_mut().insert(header::RETRY_AFTER, seconds);
        }
        if status == StatusCode::UNAUTHORIZED {
            let how = HeaderValue::from_static("Bearer");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, how);
        }
        response
    }
}

/// An answer in JSON.
pub(crate) fn json_response(status: StatusCode, value: &impl Serialize) -> Response {
    match serde_json::to_string(value) {
        Ok(text) => with_type(status, "application/json", text),
        Err(e) => with_type(
            StatusCode::INTERNAL_SERVER_ERROR,
            "application/json",
            json!({"error": e.to_string()}).to_string(),
        ),
    }
}

/// An answer of a media type.
pub(crate) fn with_type(
    status: StatusCode,
    media_type: &'static str,
    body: impl Into<Body>,
) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    let media_type = HeaderValue::from_static(media_type);
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, media_type);
    response
}
