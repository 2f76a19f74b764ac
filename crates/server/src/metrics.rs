//! What the server measures, in Prometheus' text form. No label tells a key, an address or a path that somebody has made up.

use std::sync::atomic::AtomicU64;
use std::time::Instant;

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::models::Served;

/// Edges of the times' buckets, in seconds.
const EDGES: [f64; 14] = [
    0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0,
];

/// Of which request.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct RequestLabels {
    pub(crate) dialect: &'static str,
    /// As the table of routes has it.
    pub(crate) route: &'static str,
    /// `2xx` and so on.
    pub(crate) status: &'static str,
}

/// Of which model.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct ModelLabels {
    pub(crate) model: String,
}

/// Of which model, and of which kind.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct KindLabels {
    pub(crate) model: String,
    pub(crate) kind: &'static str,
}

/// Why.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct ReasonLabels {
    pub(crate) reason: &'static str,
}

/// All that is measured.
pub(crate) struct Metrics {
    registry: Registry,
    started: Instant,
    pub(crate) requests: Family<RequestLabels, Counter>,
    pub(crate) durations: Family<RequestLabels, Histogram>,
    pub(crate) first_token: Family<ModelLabels, Histogram>,
    pub(crate) between_tokens: Family<ModelLabels, Histogram>,
    pub(crate) tokens: Family<KindLabels, Counter>,
    pub(crate) characters: Family<ModelLabels, Counter>,
    pub(crate) rejected: Family<ReasonLabels, Counter>,
    pub(crate) cancelled: Counter,
    pub(crate) finished: Family<ReasonLabels, Counter>,
    pub(crate) loads: Family<ModelLabels, Counter>,
    pub(crate) running: Gauge,
    queue_tokens: Family<ModelLabels, Gauge>,
    queue_requests: Family<ModelLabels, Gauge>,
    batch_tokens: Family<ModelLabels, Gauge>,
    stalled: Family<ModelLabels, Gauge<f64, AtomicU64>>,
    uptime: Gauge<f64, AtomicU64>,
}

fn times() -> Histogram {
    Histogram::new(EDGES)
}

impl Metrics {
    /// Nothing was measured yet.
    pub(crate) fn new() -> Self {
        let metrics = Metrics {
            registry: Registry::with_prefix("hexapla"),
            started: Instant::now(),
            requests: Family::default(),
            durations: Family::new_with_constructor(times),
            first_token: Family::new_with_constructor(times),
            between_tokens: Family::new_with_constructor(times),
            tokens: Family::default(),
            characters: Family::default(),
            rejected: Family::default(),
            cancelled: Counter::default(),
            finished: Family::default(),
            loads: Family::default(),
            running: Gauge::default(),
            queue_tokens: Family::default(),
            queue_requests: Family::default(),
            batch_tokens: Family::default(),
            stalled: Family::default(),
            uptime: Gauge::default(),
        };
        metrics.registered()
    }

    fn registered(mut self) -> Self {
        let all = &mut self.registry;
        all.register(
            "requests",
            "Requests that were answered",
            self.requests.clone(),
        );
        all.register_with_unit(
            "request_duration",
            "From the head of a request to the end of its answer",
            Unit::Seconds,
            self.durations.clone(),
        );
        all.register_with_unit(
            "time_to_first_token",
            "From the head of a request to its first token",
            Unit::Seconds,
            self.first_token.clone(),
        );
        all.register_with_unit(
            "inter_token_latency",
            "From one token of an answer to the next",
            Unit::Seconds,
            self.between_tokens.clone(),
        );
        all.register(
            "tokens",
            "Tokens, of texts that came (source, prompt) and that were written (target)",
            self.tokens.clone(),
        );
        all.register(
            "characters",
            "Characters of texts that came",
            self.characters.clone(),
        );
        all.register(
            "rejected",
            "Requests that were refused because others were under way",
            self.rejected.clone(),
        );
        all.register(
            "cancelled",
            "Requests whose client went away",
            self.cancelled.clone(),
        );
        all.register("finished", "Why outputs ended", self.finished.clone());
        all.register(
            "model_loads",
            "How often a model was loaded",
            self.loads.clone(),
        );
        all.register(
            "running_requests",
            "Requests under way",
            self.running.clone(),
        );
        all.register(
            "queue_tokens",
            "Tokens that wait",
            self.queue_tokens.clone(),
        );
        all.register(
            "queue_requests",
            "Sentences, prompts or texts that wait",
            self.queue_requests.clone(),
        );
        all.register(
            "batch_tokens",
            "Tokens that are being computed",
            self.batch_tokens.clone(),
        );
        all.register_with_unit(
            "engine_stalled",
            "Since a model's last step, where it has something to do",
            Unit::Seconds,
            self.stalled.clone(),
        );
        all.register_with_unit(
            "uptime",
            "Since the start",
            Unit::Seconds,
            self.uptime.clone(),
        );
        self
    }

    /// All of it, in the text form, with what `models` are doing.
    pub(crate) fn text(&self, models: &[std::sync::Arc<Served>]) -> String {
        self.queue_tokens.clear();
        self.queue_requests.clear();
        self.batch_tokens.clear();
        self.stalled.clear();
        for model in models {
            let labels = ModelLabels {
                model: model.name().to_string(),
            };
            let activity = model.activity();
            let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
            self.queue_tokens
                .get_or_create(&labels)
                .set(count(activity.waiting_tokens));
            self.queue_requests
                .get_or_create(&labels)
                .set(count(activity.waiting_requests));
            self.batch_tokens
                .get_or_create(&labels)
                .set(count(activity.running_tokens));
            self.stalled.get_or_create(&labels).set(activity.stalled);
        }
        self.uptime.set(self.started.elapsed().as_secs_f64());
        let mut out = String::new();
        // Writing to a text does not fail.
        let _ = text::encode(&mut out, &self.registry);
        out
    }
}

/// The class of a status.
pub(crate) fn class(status: axum::http::StatusCode) -> &'static str {
    match status.as_u16() / 100 {
        1 => "1xx",
        2 => "2xx",
        3 => "3xx",
        4 => "4xx",
        _ => "5xx",
    }
}

/// Requests that are being answered, told by a guard.
pub(crate) struct Running(Gauge);

impl Running {
    pub(crate) fn new(metrics: &Metrics) -> Self {
        metrics.running.inc();
        Running(metrics.running.clone())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.dec();
    }
}
