//! Answers that come in parts: server-sent events.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use futures_util::Stream;
use serde_json::Value;

use crate::dialect::with_type;
use crate::refusal::Refusal;

/// Without an event for so long, a comment tells the client and what stands between that the answer is under way.
const PING: Duration = Duration::from_secs(15);

/// The end of a stream, as OpenAI has it.
const DONE: &str = "[DONE]";

/// An event.
pub(super) fn event(value: &Value) -> Bytes {
    Bytes::from(format!("data: {value}\n\n"))
}

/// An event that tells an error; nothing comes behind it.
pub(super) fn failed(refusal: &Refusal) -> Bytes {
    let (_, body) = super::refusal(refusal);
    event(&body)
}

/// The last event.
pub(super) fn done() -> Bytes {
    Bytes::from(format!("data: {DONE}\n\n"))
}

/// What gives an answer's parts.
pub(super) trait Parts: Send + 'static {
    /// The next one, some events; nothing at the end. Nothing is lost where it is no longer waited for.
    fn next(&mut self) -> impl Future<Output = Option<Bytes>> + Send;
}

/// An answer of these parts.
pub(super) fn response(parts: impl Parts) -> Response {
    let mut response = with_type(
        StatusCode::OK,
        "text/event-stream; charset=utf-8",
        Body::from_stream(events(parts)),
    );
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    // Proxies that gather answers are asked not to.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

fn events(parts: impl Parts) -> impl Stream<Item = Result<Bytes, Infallible>> {
    futures_util::stream::unfold(parts, |mut parts| async move {
        let bytes = match tokio::time::timeout(PING, parts.next()).await {
            Ok(bytes) => bytes?,
            Err(_) => Bytes::from_static(b": still at work\n\n"),
        };
        Some((Ok(bytes), parts))
    })
}
