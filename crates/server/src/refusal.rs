//! Why a request is not answered. Each dialect tells it in a shape of its own.

use std::time::Duration;

use axum::http::StatusCode;
use hexapla::{Error, ErrorKind};

use crate::engine::admission::NoRoom;

/// Why a request is not answered.
#[derive(Debug, Clone)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    /// One line.
    pub(crate) message: String,
    /// The field that is at fault.
    pub(crate) field: Option<String>,
    /// When it is worth asking again.
    pub(crate) retry_after: Option<Duration>,
    /// What programs know it by.
    pub(crate) code: Option<&'static str>,
}

impl Refusal {
    pub(crate) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Refusal {
            status,
            message: message.into(),
            field: None,
            retry_after: None,
            code: None,
        }
    }

    /// What is asked cannot be done as it is asked.
    pub(crate) fn bad(message: impl Into<String>) -> Self {
        Refusal::new(StatusCode::BAD_REQUEST, message)
    }

    /// A field's value does not fit.
    pub(crate) fn of_field(field: &str, expected: &str, found: &str) -> Self {
        Refusal {
            field: Some(field.to_string()),
            ..Refusal::bad(format!(
                "`{field}` must be {expected}, not {}",
                shortened(found)
            ))
        }
    }

    /// There is no such thing.
    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Refusal::new(StatusCode::NOT_FOUND, message)
    }

    /// The same with the field that is at fault.
    pub(crate) fn in_field(self, field: &str) -> Self {
        Refusal {
            field: Some(field.to_string()),
            ..self
        }
    }

    /// The same with what programs know it by.
    pub(crate) fn with_code(self, code: &'static str) -> Self {
        Refusal {
            code: Some(code),
            ..self
        }
    }

    /// It would be answered later.
    pub(crate) fn later(status: StatusCode, message: impl Into<String>, after: Duration) -> Self {
        Refusal {
            retry_after: Some(after),
            ..Refusal::new(status, message)
        }
    }

    /// The server is about to stop, or not yet ready.
    pub(crate) fn unavailable(message: impl Into<String>) -> Self {
        Refusal::later(
            StatusCode::SERVICE_UNAVAILABLE,
            message,
            Duration::from_secs(1),
        )
    }
}

/// The beginning of what was found, where it is long.
fn shortened(found: &str) -> String {
    match found.char_indices().nth(100) {
        Some((end, _)) => format!("{}…", &found[..end]),
        None => found.to_string(),
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        let status = match error.kind() {
            ErrorKind::Input | ErrorKind::Settings => StatusCode::BAD_REQUEST,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        // The parts of an error are lines on a console, and one line here.
        let message = error.to_string();
        let message: Vec<&str> = message.lines().map(str::trim).collect();
        Refusal::new(status, message.join("; "))
    }
}

impl From<NoRoom> for Refusal {
    fn from(no_room: NoRoom) -> Self {
        match no_room {
            NoRoom::Until(after) => Refusal::later(
                StatusCode::TOO_MANY_REQUESTS,
                "as much is under way as the server takes",
                after,
            ),
            NoRoom::Never { most } => Refusal::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                format!(
                    "the request is larger than the {most} tokens that the server takes at a time: send it in parts"
                ),
            ),
        }
    }
}
