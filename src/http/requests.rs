//! HTTP requests to others, as NSQ's programs make them: pooled connections, a limit on time and on
//! what is read.

use super::listener::go_text;
use crate::options::{join_host_port, split_host_port};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, StatusCode, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore};
use serde::Deserialize;
use std::error::Error;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// Makes requests; cheap to clone, and clones share connections.
#[derive(Clone, Debug)]
pub(crate) struct HttpClient {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    limits: RequestLimits,
}

/// What a request may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RequestLimits {
    /// Until there is a connection; 0 is as long as it takes.
    pub(crate) connect_timeout: Duration,
    /// In all; 0 is as long as it takes.
    pub(crate) request_timeout: Duration,
    /// Of an answer's body.
    pub(crate) answer_bytes_max: usize,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer<B> {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: B,
}

impl HttpClient {
    /// `tls`: for `https` addresses; without it none of their certificates is trusted.
    pub(crate) fn new(tls: Option<&Arc<ClientConfig>>, limits: RequestLimits) -> Self {
        let mut connector = HttpConnector::new();
        let connect_timeout = limits.connect_timeout;
        connector.set_connect_timeout((!connect_timeout.is_zero()).then_some(connect_timeout));
        connector.set_nodelay(true);
        connector.enforce_http(false);
        let tls = tls.map_or_else(trusting_nobody, |tls| ClientConfig::clone(tls));
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(connector);
        let client = Client::builder(TokioExecutor::new()).build(connector);
        Self { client, limits }
    }

    /// Sends a request and reads the whole answer.
    ///
    /// # Errors
    /// What kept the answer from coming.
    pub(crate) async fn request(
        &self,
        method: Method,
        url: &Uri,
        headers: &[(HeaderName, HeaderValue)],
        body: Bytes,
    ) -> Result<Answer<Bytes>, String> {
        self.in_time(async {
            let Answer { status, headers, body } =
                self.exchange(method, url, headers, body).await?;
            let body = Limited::new(body, self.limits.answer_bytes_max).collect().await;
            let body = body.map_err(|error| innermost(&*error))?.to_bytes();
            Ok(Answer { status, headers, body })
        })
        .await
    }

    /// Sends a request whose answer's body is read, whatever its length, and thrown away.
    ///
    /// # Errors
    /// As [`request`](Self::request).
    pub(crate) async fn send(
        &self,
        method: Method,
        url: &Uri,
        headers: &[(HeaderName, HeaderValue)],
        body: Bytes,
    ) -> Result<Answer<()>, String> {
        self.in_time(async {
            let Answer { status, headers, mut body } =
                self.exchange(method, url, headers, body).await?;
            while let Some(frame) = body.frame().await {
                frame.map_err(|error| innermost(&error))?;
            }
            Ok(Answer { status, headers, body: () })
        })
        .await
    }

    /// A later header replaces an earlier one of its name.
    async fn exchange(
        &self,
        method: Method,
        url: &Uri,
        headers: &[(HeaderName, HeaderValue)],
        body: Bytes,
    ) -> Result<Answer<Incoming>, String> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = url.clone();
        for (name, value) in headers {
            request.headers_mut().insert(name, value.clone());
        }
        let answer = self.client.request(request).await.map_err(|error| innermost(&error))?;
        let (head, body) = answer.into_parts();
        Ok(Answer { status: head.status, headers: head.headers, body })
    }

    async fn in_time<T>(
        &self,
        exchange: impl Future<Output = Result<T, String>>,
    ) -> Result<T, String> {
        if self.limits.request_timeout.is_zero() {
            return exchange.await;
        }
        let answered = timeout(self.limits.request_timeout, exchange).await;
        answered.unwrap_or_else(|_| Err("i/o timeout".to_owned()))
    }

    /// As [`request`](Self::request), over HTTPS when the server says that it wants that: 403, and
    /// the port in a JSON document.
    ///
    /// # Errors
    /// What kept the answer from coming, or a status other than 200.
    pub(crate) async fn insist(
        &self,
        method: Method,
        url: &Uri,
        headers: &[(HeaderName, HeaderValue)],
        body: Bytes,
    ) -> Result<Bytes, String> {
        let mut url = url.clone();
        loop {
            let answer = self.request(method.clone(), &url, headers, body.clone()).await?;
            match answer.status {
                StatusCode::OK => return Ok(answer.body),
                StatusCode::FORBIDDEN if url.scheme_str() != Some("https") => {
                    url = over_https(&url, &answer.body)?;
                }
                status => {
                    let body = String::from_utf8_lossy(&answer.body);
                    return Err(format!("got response {status} {body:?}"));
                }
            }
        }
    }

    /// GET, where only 200 will do.
    ///
    /// # Errors
    /// What went wrong, NSQ's words for a status among it.
    pub(crate) async fn fetch(
        &self,
        url: &Uri,
        headers: &[(HeaderName, HeaderValue)],
    ) -> Result<Bytes, String> {
        let answer = self.request(Method::GET, url, headers, Bytes::new()).await?;
        if answer.status != StatusCode::OK {
            let body = String::from_utf8_lossy(&answer.body);
            return Err(format!("got response {} {body:?}", answer.status));
        }
        Ok(answer.body)
    }
}

/// The same over HTTPS, at the port that the answer names.
fn over_https(url: &Uri, answer: &[u8]) -> Result<Uri, String> {
    #[derive(Deserialize)]
    struct Forbidden {
        https_port: u16,
    }
    let Forbidden { https_port } =
        serde_json::from_slice(answer).map_err(|error| error.to_string())?;
    let authority = url.authority().map_or("", |authority| authority.as_str());
    let host = split_host_port(authority).map_or(authority, |(host, _)| host);
    let path = url.path_and_query().map_or("/", |path| path.as_str());
    let url = format!("https://{}{path}", join_host_port(host, https_port.into()));
    url.parse().map_err(|error| format!("{url}: {error}"))
}

fn trusting_nobody() -> ClientConfig {
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions();
    let builder = builder.expect("ring speaks the versions rustls does");
    builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth()
}

/// The cause behind all that wraps it: hyper's own texts leave it out.
fn innermost(error: &(dyn Error + 'static)) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    match cause.downcast_ref::<io::Error>() {
        Some(error) => go_text(error),
        None => cause.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_can_insist_on_https() {
        let over = |url: &str, answer: &str| {
            over_https(&url.parse().unwrap(), answer.as_bytes()).map(|uri| uri.to_string())
        };
        let answer = r#"{"message":"TLS_REQUIRED","https_port":4152}"#;
        for (url, expected) in [
            ("http://host:4151/a?b=c", "https://host:4152/a?b=c"),
            ("http://host/auth", "https://host:4152/auth"),
            ("http://[::1]:80/x", "https://[::1]:4152/x"),
        ] {
            assert_eq!(over(url, answer).unwrap(), expected);
        }
        assert!(over("http://host/", "no").is_err());
    }
}
