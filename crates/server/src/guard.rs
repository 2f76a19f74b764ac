//! Who may ask: pages of this server alone, at an address that only its user knows.

use std::net::SocketAddr;

use axum::http::{HeaderMap, Uri, header};

use crate::secret::{drawn, is_equal};

/// The names under which a server on this machine may be asked for, and the first part of its paths.
#[derive(Debug, Clone)]
pub(crate) struct Guard {
    hosts: Vec<String>,
    secret: String,
}

impl Guard {
    /// For a server at `address`.
    ///
    /// # Errors
    /// The system gives no random numbers.
    pub(crate) fn new(address: SocketAddr) -> Result<Self, String> {
        let port = address.port();
        let mut hosts = vec![address.to_string(), format!("localhost:{port}")];
        if port == 80 {
            hosts.extend([address.ip().to_string(), "localhost".to_string()]);
        }
        Ok(Guard {
            hosts,
            secret: drawn::<16>()?,
        })
    }

    /// Where its page is.
    pub(crate) fn address(&self) -> String {
        format!("http://{}/{}/", self.hosts[0], self.secret)
    }

    /// What is behind the secret in the path of a request that may be answered. `None` for one of another page, which some name
    /// server has led to this machine, or of a program that guesses.
    pub(crate) fn path<'a>(&self, uri: &'a Uri, headers: &HeaderMap) -> Option<&'a str> {
        let text = |name| {
            headers
                .get(name)
                .map(|value| value.to_str().unwrap_or_default())
        };
        let is_ours = |host: &str| {
            self.hosts
                .iter()
                .any(|name| name.eq_ignore_ascii_case(host))
        };
        if !text(header::HOST).is_some_and(is_ours) {
            return None;
        }
        let origin = text(header::ORIGIN);
        if !origin.is_none_or(|origin| origin.strip_prefix("http://").is_some_and(is_ours)) {
            return None;
        }
        let (secret, rest) = uri.path().strip_prefix('/')?.split_once('/')?;
        is_equal(secret.as_bytes(), self.secret.as_bytes()).then_some(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    #[test]
    fn only_its_own_page_gets_in() {
        let guard = Guard::new("127.0.0.1:4711".parse().unwrap()).unwrap();
        let secret = guard.secret.clone();
        assert_eq!(secret.len(), 32);
        assert_ne!(
            secret,
            Guard::new("127.0.0.1:4711".parse().unwrap())
                .unwrap()
                .secret
        );
        let path = |uri: String, host: Option<&str>, origin: Option<&str>| {
            let mut headers = HeaderMap::new();
            for (name, value) in [(header::HOST, host), (header::ORIGIN, origin)] {
                if let Some(value) = value {
                    headers.insert(name, HeaderValue::from_str(value).unwrap());
                }
            }
            let uri: Uri = uri.parse().unwrap();
            guard.path(&uri, &headers).map(String::from)
        };
        let ours = format!("/{secret}/explain");
        let here = Some("127.0.0.1:4711");
        for (uri, host, origin, found) in [
            (&ours, here, None, Some("explain")),
            (&ours, Some("LOCALHOST:4711"), None, Some("explain")),
            (&ours, here, Some("http://127.0.0.1:4711"), Some("explain")),
            (&ours, here, Some("http://evil.example"), None),
            (&ours, here, Some("https://127.0.0.1:4711"), None),
            (&ours, here, Some("null"), None),
            (&ours, Some("evil.example:4711"), None, None),
            (&ours, Some("127.0.0.1"), None, None),
            (&ours, None, None, None),
            (&"/".to_string(), here, None, None),
            (&format!("/{}/", &secret[1..]), here, None, None),
            (&format!("/{secret}"), here, None, None),
            (&format!("/{secret}0/"), here, None, None),
        ] {
            let got = path(uri.clone(), host, origin);
            assert_eq!(got.as_deref(), found, "{uri} {host:?} {origin:?}");
        }
    }
}
