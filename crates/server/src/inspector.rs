//! `hexapla explain --serve`: the page, and what its reader asks of it.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::Response;
use hexapla::error::{Error, Result};
use hexapla::explain::{
    DOCUMENT_BYTES, ExplainOptions, Language, document, explain_translation, live_page,
};
use hexapla::generate::TranslateOptions;
use hexapla::generate::translator::Translator;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::accept::{Limits, accept};
use crate::asked::{Asked, Refused};
use crate::guard::Guard;

/// A translator that is explained.
#[derive(Debug)]
pub struct Inspector {
    /// The model.
    pub model: Translator,
    /// What it is called.
    pub name: String,
    /// How it translates where nothing else is asked.
    pub translate: TranslateOptions,
    /// Language in which the page opens; the browser's where absent.
    pub language: Option<Language>,
    /// What the page is about when it opens.
    pub text: String,
}

/// Most bytes of a request's body.
const BODY_BYTES: usize = 64 << 10;
/// For a request's body to arrive.
const BODY_TIME: Duration = Duration::from_secs(10);
/// Requests that may wait for the one at work.
const WAITING: usize = 8;
/// Most source tokens of a model that is changed: each step of its search computes the whole target anew.
const CHANGED_TOKENS: usize = 128;
const LIMITS: Limits = Limits {
    connections: 64,
    head: Duration::from_secs(10),
    drain: Duration::from_secs(5),
};

/// Answers at `listen`, an address of this machine alone, until the process ends. `told` is given the page's address.
///
/// # Errors
/// An address that others can reach, or one that cannot be listened at.
pub fn serve(
    inspector: Inspector,
    listen: SocketAddr,
    told: impl FnOnce(&str) -> Result<()>,
) -> Result<()> {
    if !listen.ip().is_loopback() {
        return Err(Error::settings("the page is for this machine alone")
            .at("--listen")
            .expected("an address such as 127.0.0.1:0")
            .found(listen.to_string())
            .hint("write the page to a file (--output) to hand it on"));
    }
    let failed = |e: std::io::Error| Error::io("cannot listen", Path::new(&listen.to_string()), &e);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(failed)?;
    runtime.block_on(async {
        let listener = TcpListener::bind(listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let guard = Guard::new(address)
            .map_err(|e| Error::internal("the system gives no random numbers").found(e))?;
        told(&guard.address())?;
        accept(
            listener,
            router(inspector, guard),
            LIMITS,
            std::future::pending(),
        )
        .await;
        Ok(())
    })
}

struct Server {
    inspector: Arc<Inspector>,
    guard: Guard,
    /// One request at a time is at work.
    at_work: Arc<Semaphore>,
    /// The one at work, and those that wait.
    admitted: Arc<Semaphore>,
}

fn router(inspector: Inspector, guard: Guard) -> Router {
    let server = Server {
        inspector: Arc::new(inspector),
        guard,
        at_work: Arc::new(Semaphore::new(1)),
        admitted: Arc::new(Semaphore::new(1 + WAITING)),
    };
    Router::new().fallback(answer).with_state(Arc::new(server))
}

/// What a request is answered.
struct Answer {
    status: StatusCode,
    kind: &'static str,
    body: String,
}

impl Answer {
    fn plain(status: StatusCode, text: &str) -> Self {
        Answer {
            status,
            kind: "text/plain; charset=utf-8",
            body: format!("{text}\n"),
        }
    }

    fn refused(status: StatusCode, error: &Error) -> Self {
        let body = serde_json::to_string(&Refused::new(error)).unwrap_or_default();
        Answer {
            status,
            kind: "application/json",
            body,
        }
    }
}

async fn answer(State(server): State<Arc<Server>>, request: Request) -> Response {
    let Answer { status, kind, body } = server.answer(request).await;
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_TYPE, kind),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        // The rest of the policy stands in the page.
        (header::CONTENT_SECURITY_POLICY, "frame-ancestors 'none'"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if status == StatusCode::SERVICE_UNAVAILABLE {
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

impl Server {
    async fn answer(&self, request: Request) -> Answer {
        let (head, body) = request.into_parts();
        let Some(path) = self.guard.path(&head.uri, &head.headers) else {
            return Answer::plain(StatusCode::FORBIDDEN, "not for you");
        };
        match (path, &head.method) {
            ("", &Method::GET) => {
                let asked = Asked::about(&self.inspector.text);
                let language = self.inspector.language;
                match self.explain(asked).await {
                    Ok(document) => Answer {
                        status: StatusCode::OK,
                        kind: "text/html; charset=utf-8",
                        body: live_page(&document, language, &self.inspector.languages()),
                    },
                    Err(answer) => answer,
                }
            }
            ("explain", &Method::POST) => {
                let is_json = head.headers.get(header::CONTENT_TYPE);
                let is_json =
                    is_json.is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
                if !is_json {
                    let text = "expected application/json";
                    return Answer::plain(StatusCode::UNSUPPORTED_MEDIA_TYPE, text);
                }
                let body = match timeout(BODY_TIME, to_bytes(body, BODY_BYTES)).await {
                    Ok(Ok(body)) => body,
                    Ok(Err(_)) => {
                        let text = format!("expected at most {BODY_BYTES} bytes");
                        return Answer::plain(StatusCode::PAYLOAD_TOO_LARGE, &text);
                    }
                    Err(_) => return Answer::plain(StatusCode::REQUEST_TIMEOUT, "too slow"),
                };
                let asked = match Asked::read(&body) {
                    Ok(asked) => asked,
                    Err(e) => return Answer::refused(StatusCode::BAD_REQUEST, &e),
                };
                match self.explain(asked).await {
                    Ok(body) => Answer {
                        status: StatusCode::OK,
                        kind: "application/json",
                        body,
                    },
                    Err(answer) => answer,
                }
            }
            ("" | "explain", _) => {
                Answer::plain(StatusCode::METHOD_NOT_ALLOWED, "no such method here")
            }
            _ => Answer::plain(StatusCode::NOT_FOUND, "nothing here"),
        }
    }

    /// The document of what is asked, or why there is none.
    async fn explain(&self, asked: Asked) -> std::result::Result<String, Answer> {
        let busy = || Answer::plain(StatusCode::SERVICE_UNAVAILABLE, "busy");
        let admitted = self
            .admitted
            .clone()
            .try_acquire_owned()
            .map_err(|_| busy())?;
        let at_work = self
            .at_work
            .clone()
            .acquire_owned()
            .await
            .map_err(|_| busy())?;
        let inspector = self.inspector.clone();
        // The work keeps its place to its end, though whoever asked may be gone.
        let work = tokio::task::spawn_blocking(move || {
            let _places = (admitted, at_work);
            inspector.explain(asked)
        });
        match work.await {
            Ok(Ok(document)) => Ok(document),
            Ok(Err(e)) => Err(Answer::refused(StatusCode::BAD_REQUEST, &e)),
            Err(_) => {
                let text = "this is a mistake in hexapla";
                Err(Answer::plain(StatusCode::INTERNAL_SERVER_ERROR, text))
            }
        }
    }
}

impl Inspector {
    fn explain(&self, asked: Asked) -> Result<String> {
        let changes = asked.changes_the_model();
        let text = asked.text.clone();
        let (translate, options) = asked.options(&self.model, &self.translate)?;
        if changes {
            self.check_length(&text)?;
        }
        let explained = explain_translation(&self.model, &self.name, &text, &translate, &options)?;
        document(&explained, self.model.engine().parameters(), DOCUMENT_BYTES)
    }

    fn check_length(&self, text: &str) -> Result<()> {
        let tokens = self.model.source_ids(text)?.len();
        match tokens > CHANGED_TOKENS {
            false => Ok(()),
            true => Err(Error::input("the text is too long to change the model")
                .at("text")
                .expected(format!("at most {CHANGED_TOKENS} tokens"))
                .found(format!("{tokens} tokens"))
                .hint("change it for a shorter text: each step computes the whole output anew")),
        }
    }

    /// What it can translate into.
    fn languages(&self) -> Vec<String> {
        let targets = self.model.directions().iter().map(|d| d.target.clone());
        let targets: BTreeSet<String> = targets.collect();
        targets.into_iter().collect()
    }

    /// Whether what the page is about when it opens can be explained.
    ///
    /// # Errors
    /// It cannot be explained.
    pub fn check(&self) -> Result<()> {
        let options = ExplainOptions::default();
        explain_translation(
            &self.model,
            &self.name,
            &self.text,
            &self.translate,
            &options,
        )
        .map(|_| ())
    }
}
