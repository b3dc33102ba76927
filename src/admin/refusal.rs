//! Requests that fail: NSQ's texts, and those that only the moment knows.

use super::cluster::Unanswered;
use crate::http::response::{Fault, INTERNAL_ERROR, Reply};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

/// Why a request to the API fails.
#[derive(Debug)]
pub(super) enum Refusal {
    Fault(Fault),
    /// A text of the moment.
    Text(StatusCode, String),
}

pub(super) const FORBIDDEN: Fault = Fault(StatusCode::FORBIDDEN, "FORBIDDEN");

/// The document of an action, and the last field of all others.
#[derive(Debug, Serialize)]
pub(super) struct Message {
    pub(super) message: String,
}

impl Message {
    /// What went wrong on the way, if anything did.
    pub(super) fn of(warnings: &[String]) -> Self {
        let message = match warnings {
            [] => String::new(),
            warnings => format!("WARNING: {}", warnings.join("; ")),
        };
        Self { message }
    }
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<Unanswered> for Refusal {
    fn from(Unanswered(text): Unanswered) -> Self {
        tracing::error!("{text}");
        Self::Text(StatusCode::BAD_GATEWAY, format!("UPSTREAM_ERROR: {text}"))
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        match self {
            Self::Fault(fault) => fault.into_response(),
            Self::Text(status, message) => {
                (status, Reply::json(&Message { message })).into_response()
            }
        }
    }
}

/// What cannot be, as NSQ says it.
pub(super) const BROKEN: Refusal = Refusal::Fault(INTERNAL_ERROR);
