//! A request under way: who asks, what for, and for how long already.

use std::sync::Arc;
use std::sync::Mutex;
use std::time::Instant;

use axum::body::Bytes;
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use futures_util::stream;
use hexapla::Result as ModelResult;
use hexapla::generate::TranslateOptions;
use hexapla::generate::translator::Translation as Translated;

use tokio::task::block_in_place;

use crate::app::App;
use crate::engine::admission::Permit;
use crate::engine::caller::{Presence, SharedDecoder};
use crate::fields::Fields;
use crate::keys::Caller;
use crate::metrics::{KindLabels, ModelLabels};
use crate::models::{Served, Work};
use crate::refusal::Refusal;

/// A request under way.
pub(crate) struct Call {
    pub(crate) app: Arc<App>,
    pub(crate) caller: Caller,
    pub(crate) parts: Parts,
    pub(crate) body: Bytes,
    /// What stands in the path where the route leaves it open.
    pub(crate) rest: String,
    pub(crate) started: Instant,
}

impl Call {
    fn media_type(&self) -> String {
        let value = self.parts.headers.get(header::CONTENT_TYPE);
        let value = value
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        let (kind, _) = value.split_once(';').unwrap_or((value, ""));
        kind.trim().to_ascii_lowercase()
    }

    /// The fields of the query string.
    fn query(&self) -> Fields {
        let query = self.parts.uri.query().unwrap_or_default();
        Fields::of_form(form_urlencoded::parse(query.as_bytes()))
    }

    /// The fields of a body in JSON.
    ///
    /// # Errors
    /// It is none.
    pub(crate) fn json(&self) -> Result<Fields, Refusal> {
        // Of megabytes this takes a while, in which others are answered.
        block_in_place(|| Fields::of_json(&self.body))
    }

    /// The fields, whether they are sent as JSON, as a form or in the query string.
    ///
    /// # Errors
    /// A body that is none of them, or a form with a file.
    pub(crate) async fn form(&self) -> Result<Fields, Refusal> {
        let query = self.query();
        if self.body.is_empty() {
            return Ok(query);
        }
        let fields = match self.media_type().as_str() {
            "application/x-www-form-urlencoded" => {
                Fields::of_form(form_urlencoded::parse(&self.body))
            }
            "multipart/form-data" => self.multipart().await?,
            _ => self.json()?,
        };
        Ok(fields.or(query))
    }

    async fn multipart(&self) -> Result<Fields, Refusal> {
        let broken = |e: multer::Error| Refusal::bad(format!("the form cannot be read: {e}"));
        let value = self.parts.headers.get(header::CONTENT_TYPE);
        let value = value
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        let boundary = multer::parse_boundary(value).map_err(broken)?;
        let body = self.body.clone();
        let body = stream::once(async move { Ok::<_, std::convert::Infallible>(body) });
        let mut form = multer::Multipart::new(body, boundary);
        let mut fields = Fields::of_form([]);
        while let Some(field) = form.next_field().await.map_err(broken)? {
            let name = field.name().unwrap_or_default().to_string();
            if field.file_name().is_some() {
                return Err(Refusal::bad("files are not translated here").in_field(&name));
            }
            fields.push(&name, field.text().await.map_err(broken)?);
        }
        Ok(fields)
    }

    /// Counts what came, on the caller's account and in the metrics, and gives it room in the model's work.
    ///
    /// # Errors
    /// More than the caller may send, or than there is room for.
    pub(crate) fn admit(
        &self,
        model: &Served,
        texts: &[impl AsRef<str>],
        tokens: usize,
    ) -> Result<Permit, Refusal> {
        let characters: usize = texts.iter().map(|text| text.as_ref().chars().count()).sum();
        // Whom there is no room for has taken nothing.
        let permit = model.admission.enter(tokens)?;
        self.caller.count_characters(characters)?;
        self.caller.count_tokens(tokens)?;
        let labels = ModelLabels {
            model: model.name().to_string(),
        };
        let characters = u64::try_from(characters).unwrap_or(u64::MAX);
        self.app
            .metrics
            .characters
            .get_or_create(&labels)
            .inc_by(characters);
        Ok(permit)
    }

    /// Counts tokens in the metrics.
    pub(crate) fn count_tokens(&self, model: &Served, kind: &'static str, tokens: usize) {
        let labels = KindLabels {
            model: model.name().to_string(),
            kind,
        };
        let tokens = u64::try_from(tokens).unwrap_or(u64::MAX);
        self.app
            .metrics
            .tokens
            .get_or_create(&labels)
            .inc_by(tokens);
    }

    /// Translates lines, together with those of all other requests.
    ///
    /// # Errors
    /// What the model refuses, more than there is room for, or a model that translates nothing.
    pub(crate) async fn translate(
        &self,
        model: &Arc<Served>,
        lines: Vec<String>,
        options: TranslateOptions,
    ) -> Result<Vec<Vec<Translated>>, Refusal> {
        // About: it is counted once the text is cut.
        let bytes: usize = lines.iter().map(String::len).sum();
        let hypotheses = options.search.beam_size.max(options.search.n_best);
        let permit = self.admit(model, &lines, (bytes / 4 + 1) * (1 + hypotheses))?;
        let (presence, present) = Presence::new();
        let client = self.caller.client;
        let shared = model.clone();
        let work = move || -> Option<ModelResult<Vec<Vec<Translated>>>> {
            if presence.is_gone() {
                return None;
            }
            let Work::Translation(translation) = &shared.work else {
                return None;
            };
            let decoder = SharedDecoder {
                scheduler: &translation.scheduler,
                client,
                presence,
                permit: Mutex::new(permit),
            };
            Some(
                translation
                    .translator
                    .translate_by(&decoder, &lines, &options),
            )
        };
        let found = tokio::task::spawn_blocking(work).await;
        drop(present);
        let found = found.map_err(|_| internal())?.ok_or_else(internal)??;
        let written = found.iter().flatten().map(|t| t.tokens.len()).sum();
        self.count_tokens(model, "target", written);
        Ok(found)
    }
}

/// A header as text.
pub(crate) fn text_of<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// What the caller cannot mend.
pub(crate) fn internal() -> Refusal {
    Refusal::new(
        axum::http::StatusCode::INTERNAL_SERVER_ERROR,
        "the server failed: its log says more",
    )
}
