//! From a request's head to its answer: who asks, whether there is room, which route, and what is told of it afterwards.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Extension, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::Response;
use tokio::time::timeout;

use crate::call::{Call, text_of};
use crate::dialect::Dialect;
use crate::keys::Keys;
use crate::metrics::{Metrics, ReasonLabels, RequestLabels, Running, class};
use crate::models::{Models, OpenFolder};
use crate::refusal::Refusal;
use crate::routes::{Access, Found, Route, find};
use crate::settings::ServeSettings;

/// The address that a connection comes from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer(pub(crate) IpAddr);

/// Whose key a request has brought.
#[derive(Debug, Clone)]
struct CallerName(Option<String>);

/// The server.
pub(crate) struct App {
    pub(crate) settings: ServeSettings,
    pub(crate) models: Models,
    pub(crate) keys: Keys,
    pub(crate) metrics: Metrics,
    pub(crate) folder: Box<OpenFolder>,
    /// Batches of each model.
    pub(crate) batches: usize,
    /// Whether all models were loaded.
    pub(crate) is_loaded: AtomicBool,
    /// Whether it is about to stop.
    pub(crate) drains: AtomicBool,
    requests: AtomicU64,
}

/// A request's id, which its answer has too, so that both ends' logs speak of the same.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Which weights have answered.
pub(crate) const MODEL: HeaderName = HeaderName::from_static("x-hexapla-model");

impl App {
    pub(crate) fn new(
        settings: ServeSettings,
        folder: Box<OpenFolder>,
        batches: usize,
    ) -> Result<Self, String> {
        Ok(App {
            keys: Keys::new(&settings.keys, settings.allowance)?,
            settings,
            models: Models::default(),
            metrics: Metrics::new(),
            folder,
            batches,
            is_loaded: AtomicBool::new(false),
            drains: AtomicBool::new(false),
            requests: AtomicU64::new(0),
        })
    }

    /// The address that a request comes from: that of the connection, or where a proxy that is trusted has brought it the last one
    /// that none of them has written.
    fn address(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let is_proxy = |address: &IpAddr| self.settings.trusted_proxies.contains(address);
        if !is_proxy(&peer) {
            return peer;
        }
        let forwarded = headers.get_all("x-forwarded-for").iter();
        let forwarded: Vec<&str> = forwarded.filter_map(|value| value.to_str().ok()).collect();
        let forwarded = forwarded.join(",");
        let hops = forwarded.rsplit(',').map(|hop| {
            let hop = hop.trim();
            // Some proxies write the port too.
            let with_port = hop.parse::<SocketAddr>().map(|address| address.ip());
            let bare = hop.trim_matches(['[', ']']).parse::<IpAddr>();
            with_port.or(bare).ok()
        });
        let mut last = peer;
        for hop in hops {
            // Behind what cannot be read nothing can be believed.
            let Some(hop) = hop else { return last };
            last = hop;
            if !is_proxy(&hop) {
                return hop;
            }
        }
        last
    }

    /// Whether a program of this machine asks, and no page of a browser's or somebody behind a proxy.
    fn is_local(&self, peer: IpAddr, headers: &HeaderMap) -> bool {
        let brought = ["x-forwarded-for", "forwarded", "via", "x-real-ip", "origin"];
        let host = text_of(headers, "host").unwrap_or_default();
        let host = match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
            _ => host,
        };
        let host = host.trim_matches(['[', ']']);
        // A name server may lead any other name here.
        let is_own = host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok();
        peer.is_loopback() && is_own && !brought.iter().any(|name| headers.contains_key(*name))
    }

    /// An id that no other has.
    pub(crate) fn new_id(&self) -> String {
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        format!("{}-{number:x}", self.settings.instance)
    }

    /// An id for a request that brings none.
    fn request_id(&self, headers: &HeaderMap) -> HeaderValue {
        let given = headers.get(&REQUEST_ID).filter(|id| {
            let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(byte);
            (1..=128).contains(&id.len()) && id.as_bytes().iter().all(is_plain)
        });
        given.cloned().unwrap_or_else(|| {
            HeaderValue::from_str(&self.new_id()).unwrap_or(HeaderValue::from_static("-"))
        })
    }
}

/// Answers a request.
pub(crate) async fn answer(
    State(app): State<Arc<App>>,
    Extension(Peer(peer)): Extension<Peer>,
    request: Request,
) -> Response {
    let started = Instant::now();
    let (parts, body) = request.into_parts();
    let address = app.address(peer, &parts.headers);
    let id = app.request_id(&parts.headers);
    let traceparent = parts.headers.get("traceparent").cloned();
    let (method, path) = (parts.method.clone(), parts.uri.path().to_string());
    let origin = parts.headers.get(header::ORIGIN).cloned();
    let found = find(&method, &path);
    let (dialect, route) = match &found {
        Found::Route(route, _) => (route.dialect, route.path),
        _ => (Dialect::of(&path), "none"),
    };
    let mut watch = Watch {
        app: app.clone(),
        labels: (dialect, route),
        started,
        status: None,
        _running: Running::new(&app.metrics),
    };
    let answered = match (found, &method) {
        (Found::OtherMethods(_), &Method::OPTIONS) if app.is_allowed(origin.as_ref()) => {
            Ok(preflight())
        }
        (Found::Route(route, rest), _) => {
            answer_route(&app, (parts, body), (route, rest), (peer, address, started)).await
        }
        (Found::OtherMethods(methods), _) => Ok(not_allowed(dialect, &method, &methods)),
        (Found::Nothing, _) => Err(Refusal::not_found(format!(
            "there is nothing at `{}`",
            path.chars().take(200).collect::<String>()
        ))),
    };
    let mut response = match answered {
        Ok(response) => response,
        Err(refusal) => {
            if let Some(reason) = reason(&refusal) {
                app.metrics
                    .rejected
                    .get_or_create(&ReasonLabels { reason })
                    .inc();
            }
            dialect.refusal(&refusal)
        }
    };
    watch.status = Some(response.status());
    let seconds = started.elapsed().as_secs_f64();
    let caller = response.extensions().get::<CallerName>();
    tracing::info!(
        caller = caller.and_then(|caller| caller.0.as_deref()).unwrap_or("-"),
        request = id.to_str().unwrap_or_default(),
        %method,
        route,
        dialect = dialect.name(),
        status = response.status().as_u16(),
        seconds,
        "answered"
    );
    let headers = response.headers_mut();
    headers.insert(REQUEST_ID, id);
    if let Some(traceparent) = traceparent {
        headers.insert("traceparent", traceparent);
    }
    let milliseconds = HeaderValue::from((seconds * 1000.0) as u64);
    headers.insert("x-total-time", milliseconds);
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    if let Some(origin) = origin.filter(|origin| app.is_allowed(Some(origin))) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.append(header::VARY, HeaderValue::from_static("origin"));
    }
    // It is under way until its last byte, or until nobody wants it any more.
    let (parts, body) = response.into_parts();
    let body = Body::new(crate::watched::Watched::new(body, watch));
    Response::from_parts(parts, body)
}

impl App {
    /// Whether pages of this origin may ask.
    fn is_allowed(&self, origin: Option<&HeaderValue>) -> bool {
        let origin = origin.and_then(|origin| origin.to_str().ok());
        origin.is_some_and(|origin| {
            self.settings
                .cors_origins
                .iter()
                .any(|known| known == origin)
        })
    }
}

/// What is told of a request once it is over.
pub(crate) struct Watch {
    app: Arc<App>,
    labels: (Dialect, &'static str),
    started: Instant,
    /// Of its answer; nothing where its client has gone before.
    status: Option<StatusCode>,
    _running: Running,
}

impl Drop for Watch {
    fn drop(&mut self) {
        let metrics = &self.app.metrics;
        let labels = RequestLabels {
            dialect: self.labels.0.name(),
            route: self.labels.1,
            status: self.status.map_or("gone", class),
        };
        metrics.requests.get_or_create(&labels).inc();
        let seconds = self.started.elapsed().as_secs_f64();
        metrics.durations.get_or_create(&labels).observe(seconds);
        if self.status.is_none() {
            metrics.cancelled.inc();
        }
    }
}

/// Why a request was refused that another time would not have been.
fn reason(refusal: &Refusal) -> Option<&'static str> {
    match refusal.status {
        StatusCode::TOO_MANY_REQUESTS if refusal.code.is_some() => Some("allowance"),
        StatusCode::TOO_MANY_REQUESTS => Some("busy"),
        StatusCode::SERVICE_UNAVAILABLE => Some("unavailable"),
        _ => None,
    }
}

async fn answer_route(
    app: &Arc<App>,
    (parts, body): (Parts, Body),
    (route, rest): (&'static Route, String),
    (peer, address, started): (IpAddr, IpAddr, Instant),
) -> Result<Response, Refusal> {
    if route.access == Access::Open {
        // Probes get in whatever is going on, and bring nothing.
        let caller = Keys::nobody();
        let call = Call {
            app: app.clone(),
            caller,
            parts,
            body: Bytes::new(),
            rest,
            started,
        };
        return (route.answer)(call).await;
    }
    if !app.is_loaded.load(Ordering::Acquire) {
        return Err(Refusal::unavailable("models are being loaded"));
    }
    let given = given_key(&parts.headers).map(String::from);
    // A form may bring the key, which cannot be told before it is read: LibreTranslate's clients send it so.
    let may_be_inside = given.is_none() && route.dialect == Dialect::LibreTranslate;
    let is_local = app.is_local(peer, &parts.headers);
    let known = app.keys.caller(given.as_deref(), (address, is_local));
    if !may_be_inside && let Err(refusal) = known {
        return Err(refusal);
    }
    let begun = match &known {
        Ok(caller) => Some(caller.begin()?),
        Err(_) => None,
    };
    let body = read(app, body).await?;
    let mut call = Call {
        app: app.clone(),
        caller: Keys::nobody(),
        parts,
        body,
        rest,
        started,
    };
    call.caller = match known {
        Ok(caller) => caller,
        Err(refusal) => {
            let mut fields = call.form().await?;
            let Some(key) = fields.text("api_key")? else {
                return Err(refusal);
            };
            app.keys.caller(Some(&key), (address, is_local))?
        }
    };
    if route.access == Access::Admin && !call.caller.is_admin {
        return Err(Refusal::new(
            StatusCode::FORBIDDEN,
            "that is for the server's administrators",
        ));
    }
    let under_way = match begun {
        Some(begun) => begun,
        None => call.caller.begin()?,
    };
    let name = call.caller.name.clone();
    let answered = (route.answer)(call).await;
    answered.map(|response| {
        let (mut parts, body) = response.into_parts();
        parts.extensions.insert(CallerName(name));
        let body = Body::new(crate::watched::Watched::new(body, under_way));
        Response::from_parts(parts, body)
    })
}

/// The whole body, if it is not too large and comes in time.
async fn read(app: &App, body: Body) -> Result<Bytes, Refusal> {
    let most = app.settings.max_body_bytes;
    let too_large = || {
        Refusal::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("the body is larger than {most} bytes: send it in parts"),
        )
    };
    let size = axum::body::HttpBody::size_hint(&body);
    if size.lower() > most as u64 {
        return Err(too_large());
    }
    let whole = timeout(
        Duration::from_secs(app.settings.body_timeout_seconds),
        to_bytes(body, most),
    );
    match whole.await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(e)) if is_limit(&e) => Err(too_large()),
        Ok(Err(e)) => Err(Refusal::bad(format!("the body cannot be read: {e}"))),
        Err(_) => Err(Refusal::new(
            StatusCode::REQUEST_TIMEOUT,
            "the body did not come in time",
        )),
    }
}

fn is_limit(error: &axum::Error) -> bool {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = source {
        if error.is::<http_body_util::LengthLimitError>() {
            return true;
        }
        source = error.source();
    }
    false
}

/// The access key that a request brings: `Authorization: Bearer …` or `DeepL-Auth-Key …`, or `x-api-key`.
fn given_key(headers: &HeaderMap) -> Option<&str> {
    let authorization = text_of(headers, "authorization").and_then(|value| {
        let (scheme, key) = value.trim().split_once(' ')?;
        let is_known = ["bearer", "deepl-auth-key"].contains(&scheme.to_ascii_lowercase().as_str());
        is_known.then_some(key.trim())
    });
    authorization.or_else(|| text_of(headers, "x-api-key"))
}

fn not_allowed(dialect: Dialect, method: &Method, methods: &[&'static str]) -> Response {
    let refusal = Refusal::new(
        StatusCode::METHOD_NOT_ALLOWED,
        format!("{method} is not answered here; {} is", methods.join(", ")),
    );
    let mut response = dialect.refusal(&refusal);
    if let Ok(allow) = HeaderValue::from_str(&methods.join(", ")) {
        response.headers_mut().insert(header::ALLOW, allow);
    }
    response
}

/// What a browser is told before it asks for a page of another origin.
fn preflight() -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    for (name, value) in [
        (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST"),
        (
            header::ACCESS_CONTROL_ALLOW_HEADERS,
            "authorization, content-type, x-api-key, x-request-id",
        ),
        (header::ACCESS_CONTROL_MAX_AGE, "600"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}
