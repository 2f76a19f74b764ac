//! Every path that is answered: by whom, and who may ask.

use std::future::Future;
use std::pin::Pin;

use axum::http::Method;
use axum::response::Response;

use crate::call::Call;
use crate::dialect::{Dialect, deepl, libretranslate, openai, own, tei};
use crate::refusal::Refusal;

/// Who may ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Everybody, at any time: probes.
    Open,
    /// Whoever has a key, if there are keys.
    Key,
    /// Whoever has a key that may change the server; without keys, whoever is on this machine.
    Admin,
}

/// An answer under way.
pub(crate) type Answering = Pin<Box<dyn Future<Output = Result<Response, Refusal>> + Send>>;

/// A path, and who answers.
pub(crate) struct Route {
    pub(crate) method: Method,
    /// What ends in `/{…}` leaves open what stands there.
    pub(crate) path: &'static str,
    pub(crate) dialect: Dialect,
    pub(crate) access: Access,
    pub(crate) answer: fn(Call) -> Answering,
}

macro_rules! routes {
    ($($method:ident $path:literal $dialect:ident $access:ident $answer:path;)*) => {
        &[$(Route {
            method: Method::$method,
            path: $path,
            dialect: Dialect::$dialect,
            access: Access::$access,
            answer: |call| Box::pin($answer(call)),
        }),*]
    };
}

/// All of them.
pub(crate) const ROUTES: &[Route] = routes! {
    POST "/translate" LibreTranslate Key libretranslate::translate;
    POST "/detect" LibreTranslate Key libretranslate::detect;
    GET "/languages" LibreTranslate Key libretranslate::languages;
    GET "/frontend/settings" LibreTranslate Key libretranslate::settings;
    POST "/v1/completions" OpenAi Key openai::completions;
    POST "/v1/chat/completions" OpenAi Key openai::chat;
    POST "/v1/embeddings" OpenAi Key openai::embeddings;
    GET "/v1/models" OpenAi Key openai::models;
    GET "/v1/models/{model}" OpenAi Key openai::model;
    POST "/embed" Tei Key tei::embed;
    POST "/similarity" Tei Key tei::similarity;
    POST "/rerank" Tei Key tei::rerank;
    POST "/predict" Tei Key tei::predict;
    POST "/tokenize" Tei Key tei::tokenize;
    POST "/decode" Tei Key tei::decode;
    GET "/info" Tei Key tei::info;
    POST "/" Tei Key tei::root;
    POST "/v2/translate" DeepL Key deepl::translate;
    GET "/v2/languages" DeepL Key deepl::languages;
    GET "/v2/usage" DeepL Key deepl::usage;
    GET "/health" Own Open own::health;
    GET "/health/live" Own Open own::live;
    GET "/health/ready" Own Open own::ready;
    GET "/openapi.json" Own Open own::openapi;
    GET "/metrics" Own Admin own::metrics;
    GET "/models" Own Admin own::models;
    POST "/models/load" Own Admin own::load;
    POST "/models/unload" Own Admin own::unload;
};

/// Where a path leads.
pub(crate) enum Found {
    Route(&'static Route, String),
    /// There are others of its path.
    OtherMethods(Vec<&'static str>),
    Nothing,
}

/// The route of a method and a path.
pub(crate) fn find(method: &Method, path: &str) -> Found {
    let fits = |route: &'static Route| rest(route.path, path).map(|rest| (route, rest));
    let all: Vec<_> = ROUTES.iter().filter_map(fits).collect();
    // What can be asked for can be asked whether it is there.
    let method = if *method == Method::HEAD {
        &Method::GET
    } else {
        method
    };
    let methods = all.iter().map(|(route, _)| route.method.as_str()).collect();
    match all.into_iter().find(|(route, _)| route.method == *method) {
        Some((route, rest)) => Found::Route(route, rest),
        None => match methods {
            methods if Vec::is_empty(&methods) => Found::Nothing,
            methods => Found::OtherMethods(methods),
        },
    }
}

/// What stands in `path` where `pattern` leaves it open.
fn rest(pattern: &str, path: &str) -> Option<String> {
    match pattern.split_once('{') {
        None => (pattern == path).then(String::new),
        Some((before, _)) => {
            let rest = path.strip_prefix(before).filter(|rest| !rest.is_empty())?;
            let decoded = percent_encoding::percent_decode_str(rest)
                .decode_utf8()
                .ok()?;
            Some(decoded.into_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lead_where_they_should() {
        let route = |method: Method, path: &str| match find(&method, path) {
            Found::Route(route, rest) => format!("{} {rest}", route.path),
            Found::OtherMethods(methods) => methods.join(" "),
            Found::Nothing => "nothing".to_string(),
        };
        assert_eq!(route(Method::POST, "/translate"), "/translate ");
        assert_eq!(route(Method::GET, "/translate"), "POST");
        assert_eq!(route(Method::HEAD, "/languages"), "/languages ");
        assert_eq!(route(Method::GET, "/translate/"), "nothing");
        assert_eq!(
            route(Method::GET, "/v1/models/org/name%20x"),
            "/v1/models/{model} org/name x"
        );
        assert_eq!(route(Method::GET, "/v1/models/"), "nothing");
        assert_eq!(route(Method::GET, "/v1/models/%ff"), "nothing");
    }

    #[test]
    fn every_route_belongs_to_the_dialect_of_its_path() {
        for route in ROUTES {
            let is_root = route.path == "/";
            assert!(
                is_root || Dialect::of(route.path) == route.dialect,
                "{}",
                route.path
            );
            let is_known = route.path.starts_with("/health") || route.path == "/openapi.json";
            assert!(route.access != Access::Open || is_known);
        }
    }

    #[test]
    fn every_route_is_described_and_nothing_else_is() {
        let document: serde_json::Value = serde_json::from_str(own::OPENAPI).unwrap();
        assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
        let mut described = Vec::new();
        for (path, operations) in document["paths"].as_object().unwrap() {
            for (method, operation) in operations.as_object().unwrap() {
                described.push(format!("{} {path}", method.to_uppercase()));
                assert!(operation["responses"]["default"].is_object(), "{path}");
                let is_open = operation["security"] == serde_json::json!([]);
                let route = ROUTES
                    .iter()
                    .find(|r| r.path == path && r.method.as_str().eq_ignore_ascii_case(method));
                assert_eq!(
                    route.map(|r| r.access == Access::Open),
                    Some(is_open),
                    "{path}"
                );
            }
        }
        let mut routes: Vec<String> = ROUTES
            .iter()
            .map(|r| format!("{} {}", r.method, r.path))
            .collect();
        routes.sort();
        described.sort();
        assert_eq!(described, routes);
        // What is referred to is there.
        let text = own::OPENAPI;
        for part in text.split("#/components/schemas/").skip(1) {
            let name = part.split('"').next().unwrap();
            assert!(
                document["components"]["schemas"][name].is_object(),
                "{name}"
            );
        }
    }
}
