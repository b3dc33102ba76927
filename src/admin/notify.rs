//! `--notification-http-endpoint`: who has changed what, posted one after the other.

use crate::http::requests::HttpClient;
use crate::limits::ADMIN_NOTIFICATIONS_MAX;
use bytes::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Method, Uri};
use serde::Serialize;
use tokio::sync::mpsc;

/// A change, as NSQ's document has it.
#[derive(Debug, Serialize)]
pub(super) struct Change {
    pub(super) action: String,
    pub(super) topic: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) channel: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) node: String,
    /// Seconds of Unix time.
    pub(super) timestamp: i64,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) user: String,
    /// `ip:port`.
    pub(super) remote_ip: String,
    pub(super) user_agent: String,
    /// Of the request.
    pub(super) url: String,
    /// This host.
    pub(super) via: String,
}

/// Takes changes, and never waits.
#[derive(Debug)]
pub(super) struct Notifier(Option<mpsc::Sender<Change>>);

impl Notifier {
    /// Starts the task that posts, unless there is nobody to post to.
    pub(super) fn start(endpoint: &str, http: HttpClient) -> Self {
        if endpoint.is_empty() {
            return Self(None);
        }
        let (sender, changes) = mpsc::channel(ADMIN_NOTIFICATIONS_MAX);
        tokio::spawn(post(endpoint.to_owned(), http, changes));
        Self(Some(sender))
    }

    /// Whether anybody wants to know.
    pub(super) fn is_wanted(&self) -> bool {
        self.0.is_some()
    }

    pub(super) fn tell(&self, change: Change) {
        let Some(sender) = &self.0 else { return };
        if let Err(error) = sender.try_send(change) {
            tracing::error!("failed to POST notification - {error}");
        }
    }
}

async fn post(endpoint: String, http: HttpClient, mut changes: mpsc::Receiver<Change>) {
    let headers = [(CONTENT_TYPE, HeaderValue::from_static("application/json"))];
    while let Some(change) = changes.recv().await {
        let document = serde_json::to_vec(&change).expect("a plain struct");
        tracing::info!("POSTing notification to {endpoint}");
        let posted = match endpoint.parse::<Uri>() {
            Ok(url) => http.request(Method::POST, &url, &headers, Bytes::from(document)).await,
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = posted {
            tracing::error!("failed to POST notification - {error}");
        }
    }
}
