//! Answers of the HTTP API: NSQ's headers, error bodies and JSON.

pub(crate) use crate::protocol::go_json::json;

use super::listing;
use axum::body::Body;
use axum::http::StatusCode;
use axum::http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};
use hyper::ext::ReasonPhrase;
use serde::Serialize;

/// A request that succeeded.
#[derive(Debug)]
pub(crate) enum Reply {
    /// Text without NSQ's header, as `/ping` answers.
    Plain(&'static str),
    /// The same with status 500: the daemon is not well.
    Ill(String),
    /// No body.
    Empty,
    /// Text as it is.
    Text(String),
    /// Prometheus' text format.
    Metrics(String),
    /// A JSON document.
    Json(Vec<u8>),
    /// Refused without TLS: where there is some.
    TlsRequired {
        /// 0 for nowhere.
        https_port: i32,
    },
}

/// A request that failed: the status and NSQ's text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fault(pub(crate) StatusCode, pub(crate) &'static str);

pub(crate) const INVALID_REQUEST: Fault = Fault(StatusCode::BAD_REQUEST, "INVALID_REQUEST");
pub(crate) const INTERNAL_ERROR: Fault = Fault(StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL_ERROR");
pub(crate) const TOPIC_NOT_FOUND: Fault = Fault(StatusCode::NOT_FOUND, "TOPIC_NOT_FOUND");
pub(crate) const CHANNEL_NOT_FOUND: Fault = Fault(StatusCode::NOT_FOUND, "CHANNEL_NOT_FOUND");
pub(crate) const NOT_FOUND: Fault = Fault(StatusCode::NOT_FOUND, "NOT_FOUND");
pub(crate) const METHOD_NOT_ALLOWED: Fault =
    Fault(StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED");

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const METRICS: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
const JSON: HeaderValue = HeaderValue::from_static("application/json; charset=utf-8");
const NSQ_CONTENT_TYPE: HeaderName = HeaderName::from_static("x-nsq-content-type");
const NSQ_VERSION: HeaderValue = HeaderValue::from_static("nsq; version=1.0");

impl Reply {
    /// A value as JSON.
    pub(crate) fn json(value: &impl Serialize) -> Self {
        Self::Json(json(value))
    }
}

impl IntoResponse for Reply {
    fn into_response(self) -> Response {
        match self {
            Self::Plain(text) => ([(CONTENT_TYPE, TEXT)], text).into_response(),
            Self::Ill(text) => {
                let status = StatusCode::INTERNAL_SERVER_ERROR;
                (status, [(CONTENT_TYPE, TEXT)], text).into_response()
            }
            Self::Text(text) if text.is_empty() => Self::Empty.into_response(),
            Self::Empty => ([(NSQ_CONTENT_TYPE, NSQ_VERSION)], Body::empty()).into_response(),
            Self::Text(text) => {
                let headers = [(CONTENT_TYPE, TEXT), (NSQ_CONTENT_TYPE, NSQ_VERSION)];
                (headers, listing::body(text)).into_response()
            }
            Self::Metrics(text) => ([(CONTENT_TYPE, METRICS)], listing::body(text)).into_response(),
            Self::TlsRequired { https_port } => {
                let body =
                    format!("{{\"message\": \"TLS_REQUIRED\", \"https_port\": {https_port}}}");
                (StatusCode::FORBIDDEN, Self::Json(body.into_bytes())).into_response()
            }
            Self::Json(bytes) => {
                let headers = [(CONTENT_TYPE, JSON), (NSQ_CONTENT_TYPE, NSQ_VERSION)];
                (headers, listing::body(bytes)).into_response()
            }
        }
    }
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        #[derive(Serialize)]
        struct Message {
            message: &'static str,
        }
        let mut response = (self.0, Reply::json(&Message { message: self.1 })).into_response();
        if self.0 == StatusCode::PAYLOAD_TOO_LARGE {
            // Go keeps the older wording, which NSQ's tools pass on in their own messages.
            let reason = ReasonPhrase::from_static(b"Request Entity Too Large");
            response.extensions_mut().insert(reason);
        }
        response
    }
}
