//! This server's own paths: health, metrics, and the models that it serves.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Value, json};

use super::{json_response, with_type};
use crate::call::{Call, internal};
use crate::metrics::ModelLabels;
use crate::models::{ModelSettings, Served};
use crate::refusal::Refusal;

/// `GET /health`, as LibreTranslate and TEI have it: it listens.
pub(crate) async fn health(_: Call) -> Result<Response, Refusal> {
    Ok(json_response(StatusCode::OK, &json!({"status": "ok"})))
}

/// `GET /health/live`: it need not be started anew.
pub(crate) async fn live(_: Call) -> Result<Response, Refusal> {
    Ok(json_response(StatusCode::OK, &json!({"status": "live"})))
}

/// `GET /health/ready`: requests are answered. Not while models are loaded, not while it stops, and not where a model's threads have
/// died or have not stepped for long.
pub(crate) async fn ready(call: Call) -> Result<Response, Refusal> {
    let app = &call.app;
    if app.drains.load(Ordering::Acquire) {
        return Err(Refusal::unavailable("the server is about to stop"));
    }
    if !app.is_loaded.load(Ordering::Acquire) {
        return Err(Refusal::unavailable("models are being loaded"));
    }
    for model in app.models.all() {
        let activity = model.activity();
        if !activity.is_alive {
            return Err(Refusal::unavailable(format!(
                "the threads of `{}` have ended",
                model.name()
            )));
        }
        if activity.stalled > app.settings.stalled_seconds as f64 {
            return Err(Refusal::unavailable(format!(
                "`{}` has made no step for {:.0} seconds",
                model.name(),
                activity.stalled
            )));
        }
    }
    Ok(json_response(StatusCode::OK, &json!({"status": "ready"})))
}

/// The description of all that is answered (OpenAPI 3.1).
pub(crate) const OPENAPI: &str = include_str!("../openapi.json");

/// `GET /openapi.json`.
pub(crate) async fn openapi(_: Call) -> Result<Response, Refusal> {
    Ok(with_type(StatusCode::OK, "application/json", OPENAPI))
}

/// `GET /metrics`.
pub(crate) async fn metrics(call: Call) -> Result<Response, Refusal> {
    let text = call.app.metrics.text(&call.app.models.all());
    let media_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(with_type(StatusCode::OK, media_type, text))
}

fn described(model: &Served) -> Value {
    let (tokens, requests) = model.admission.under_way();
    json!({
        "name": model.name(),
        "task": model.task(),
        "folder": model.settings.folder,
        "sha256": model.fingerprint,
        "loaded": model.loaded,
        "tokens_under_way": tokens,
        "requests_under_way": requests,
    })
}

/// `GET /models`.
pub(crate) async fn models(call: Call) -> Result<Response, Refusal> {
    let all: Vec<Value> = call
        .app
        .models
        .all()
        .iter()
        .map(|model| described(model))
        .collect();
    Ok(json_response(StatusCode::OK, &json!({"models": all})))
}

/// `POST /models/load`: another model, or a new one in the place of one; with no folder the one of that name is read anew.
/// Requests under way are answered by the one that they began with.
pub(crate) async fn load(call: Call) -> Result<Response, Refusal> {
    let asked: Value = serde_json::from_slice(&call.body)
        .map_err(|e| Refusal::bad(format!("the body is no JSON: {e}")))?;
    let mut settings: ModelSettings =
        serde_json::from_value(asked.clone()).map_err(|e| Refusal::bad(e.to_string()))?;
    if asked.get("folder").is_none()
        && let Ok(old) = call.app.models.named(&settings.name)
    {
        settings = old.settings.clone();
    }
    let app = call.app.clone();
    let opened = tokio::task::spawn_blocking(move || app.load(&settings)).await;
    let model = opened.map_err(|_| internal())??;
    Ok(json_response(StatusCode::OK, &described(&model)))
}

/// `POST /models/unload`.
pub(crate) async fn unload(call: Call) -> Result<Response, Refusal> {
    let mut fields = call.json()?;
    let name = fields.needed_text("name")?;
    fields.nothing_left()?;
    call.app.models.named(&name)?;
    let gone = call.app.models.remove(&name);
    // Its threads finish what they have begun; nobody waits for that here.
    tokio::task::spawn_blocking(move || drop(gone));
    Ok(json_response(StatusCode::OK, &json!({"unloaded": name})))
}

impl crate::app::App {
    /// Opens a model and serves it from now on.
    ///
    /// # Errors
    /// It cannot be opened. The one of its name, if there is one, is served as before.
    pub(crate) fn load(&self, settings: &ModelSettings) -> hexapla::Result<Arc<Served>> {
        let model = Served::open(settings, &*self.folder, self.batches)?;
        let labels = ModelLabels {
            model: settings.name.clone(),
        };
        self.metrics.loads.get_or_create(&labels).inc();
        let (model, old) = self.models.put(model);
        drop(old);
        Ok(model)
    }
}
