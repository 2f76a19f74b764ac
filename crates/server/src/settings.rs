//! How the server is set up: a file of settings, whose keys are these.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use hexapla::{Error, Result};
use serde::Deserialize;

use crate::keys::{Allowance, KeySettings};
use crate::models::ModelSettings;

/// All settings.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServeSettings {
    /// Where it listens.
    pub listen: SocketAddr,
    /// The models, the first of which answers where none is named.
    pub models: Vec<ModelSettings>,
    /// Who may ask; everybody where there is none.
    pub keys: Vec<KeySettings>,
    /// What each address may take where no key is needed.
    pub allowance: Allowance,
    /// Addresses of proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpAddr>,
    /// Origins of pages that may ask from a browser.
    pub cors_origins: Vec<String>,
    /// Connections at a time.
    pub max_connections: usize,
    /// Bytes of a request's body.
    pub max_body_bytes: usize,
    /// Texts of a request.
    pub max_texts: usize,
    /// Alternatives, samples or choices of a text.
    pub max_alternatives: usize,
    /// For a request's head, in seconds.
    pub head_timeout_seconds: u64,
    /// For a request's body, in seconds.
    pub body_timeout_seconds: u64,
    /// Between the signal to stop and the end of listening, in seconds: a balancer sees the readiness go first.
    pub drain_delay_seconds: u64,
    /// For answers under way once it stops, in seconds.
    pub drain_seconds: u64,
    /// Without a step for so many seconds while there is something to do, the server is not ready.
    pub stalled_seconds: u64,
    /// What request ids begin with; drawn at the start.
    #[serde(skip)]
    pub instance: String,
}

impl Default for ServeSettings {
    fn default() -> Self {
        ServeSettings {
            listen: SocketAddr::from(([127, 0, 0, 1], 7878)),
            models: Vec::new(),
            keys: Vec::new(),
            allowance: Allowance::default(),
            trusted_proxies: Vec::new(),
            cors_origins: Vec::new(),
            max_connections: 2048,
            max_body_bytes: 8 << 20,
            max_texts: 2048,
            max_alternatives: 16,
            head_timeout_seconds: 10,
            body_timeout_seconds: 30,
            drain_delay_seconds: 0,
            drain_seconds: 30,
            stalled_seconds: 30,
            instance: String::new(),
        }
    }
}

impl ServeSettings {
    /// Reads a file of settings.
    ///
    /// # Errors
    /// It cannot be read, or has a key or a value that is not known.
    pub fn open(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path)
            .map_err(|e| Error::io("cannot read the settings", path, &e))?;
        let settings: ServeSettings = toml::from_str(&text).map_err(|e| {
            Error::settings("the settings cannot be read")
                .at(path.display().to_string())
                .expected("keys as docs/serving.md has them")
                .found(e.to_string().trim().to_string())
        })?;
        settings.check().map_err(|e| e.within(path.display()))?;
        Ok(settings)
    }

    /// Checks that they fit together.
    ///
    /// # Errors
    /// Two models of one name, or a bound of zero.
    pub fn check(&self) -> Result<()> {
        for (number, model) in self.models.iter().enumerate() {
            if model.name.is_empty() || self.models[..number].iter().any(|m| m.name == model.name) {
                return Err(Error::settings("the models need names of their own")
                    .at("models.name")
                    .expected("a name that no other model has")
                    .found(format!("`{}`", model.name))
                    .hint("requests name the model that they want"));
            }
        }
        for (key, value) in [
            ("max_connections", self.max_connections),
            ("max_body_bytes", self.max_body_bytes),
            ("max_texts", self.max_texts),
            ("max_alternatives", self.max_alternatives),
        ] {
            if value == 0 {
                return Err(Error::settings("a bound of the server is out of range")
                    .at(key)
                    .expected("1 or more")
                    .found("0"));
            }
        }
        Ok(())
    }
}
