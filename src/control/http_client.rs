//! HTTP requests to others: nsqlookupd and auth servers, as NSQ's daemons make them.

use crate::limits::HTTP_ANSWER_BYTES_MAX;
use crate::options::{Options, native_roots, read_roots, split_host_port};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use hyper::http::uri::InvalidUri;
use hyper::{Method, Request, StatusCode, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::crypto::ring;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::error::Error;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;

/// Tells servers which form of answers is understood.
const NSQ_ANSWERS: HeaderValue = HeaderValue::from_static("application/vnd.nsq; version=1.0");

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Keeps connections for the next request; its limits are those of `--http-client-…`.
#[derive(Debug, Clone)]
pub(super) struct HttpClient {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    /// None when it is unlimited, which NSQ says with 0.
    request_timeout: Option<Duration>,
}

/// What a daemon that wants HTTPS answers to plain HTTP.
#[derive(Deserialize)]
struct Forbidden {
    https_port: u16,
}

impl HttpClient {
    /// A client without connections, for plain HTTP alone.
    pub(super) fn plain(options: &Options) -> Self {
        let trusting_nobody = client_tls(RootCertStore::empty(), &[&TLS12, &TLS13]);
        Self::new(options, trusting_nobody)
    }

    /// A client without connections that checks certificates against `--tls-root-ca-file`, or what
    /// the machine trusts.
    ///
    /// # Errors
    /// NSQ's text, when that file cannot be used.
    pub(super) fn with_tls(options: &Options) -> Result<Self, String> {
        let roots = match options.tls_root_ca_file.as_str() {
            "" => native_roots(),
            path => read_roots(path)
                .map_err(|reason| format!("failed to build client TLS config - {reason}"))?,
        };
        Ok(Self::new(options, client_tls(roots, options.tls_min_version.and_above())))
    }

    fn new(options: &Options, tls: ClientConfig) -> Self {
        let limited = |limit: Duration| (!limit.is_zero()).then_some(limit);
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(limited(options.http_client_connect_timeout));
        connector.set_nodelay(true);
        connector.enforce_http(false);
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(connector);
        Self {
            client: Client::builder(TokioExecutor::new()).build(connector),
            request_timeout: limited(options.http_client_request_timeout),
        }
    }

    /// Asks, and reads the JSON of the answer.
    ///
    /// # Errors
    /// Why there is no such answer, for the log. The URL is not in it: it may hold a secret.
    pub(super) async fn get<T: DeserializeOwned>(&self, url: &str) -> Result<T, String> {
        let body = self.answer(Method::GET, url, Bytes::new()).await?;
        serde_json::from_slice(&body).map_err(|error| error.to_string())
    }

    /// The body of the answer to a request, over HTTPS when the server refuses to talk without.
    pub(super) async fn answer(
        &self,
        method: Method,
        url: &str,
        body: Bytes,
    ) -> Result<Bytes, String> {
        let mut uri: Uri = url.parse().map_err(|error: InvalidUri| error.to_string())?;
        loop {
            let (status, answer) = self.exchange(&method, &uri, body.clone()).await?;
            if status == StatusCode::OK {
                return Ok(answer);
            }
            if status == StatusCode::FORBIDDEN && uri.scheme_str() != Some("https") {
                uri = over_https(&uri, &answer)?;
                continue;
            }
            let text = String::from_utf8_lossy(&answer);
            return Err(format!("got response {status} {text:?}"));
        }
    }

    /// One request and its whole answer.
    async fn exchange(
        &self,
        method: &Method,
        uri: &Uri,
        body: Bytes,
    ) -> Result<(StatusCode, Bytes), String> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method.clone();
        *request.uri_mut() = uri.clone();
        request.headers_mut().insert(ACCEPT, NSQ_ANSWERS);
        if *method == Method::POST {
            request.headers_mut().insert(CONTENT_TYPE, JSON);
        }
        let exchange = async {
            let answer = self.client.request(request).await.map_err(|e| innermost(&e))?;
            let status = answer.status();
            let body = Limited::new(answer.into_body(), HTTP_ANSWER_BYTES_MAX).collect().await;
            Ok((status, body.map_err(|error| innermost(&*error))?.to_bytes()))
        };
        let late = async {
            match self.request_timeout {
                Some(limit) => sleep(limit).await,
                None => pending().await,
            }
        };
        tokio::select! {
            answer = exchange => answer,
            () = late => Err("no answer in time".to_owned()),
        }
    }
}

fn client_tls(
    roots: RootCertStore,
    versions: &[&'static SupportedProtocolVersion],
) -> ClientConfig {
    ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(versions)
        .expect("ring has ciphers for TLS 1.2 and 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth()
}

/// The same over HTTPS, at the port that the answer names.
fn over_https(uri: &Uri, answer: &[u8]) -> Result<Uri, String> {
    let Forbidden { https_port } =
        serde_json::from_slice(answer).map_err(|error| error.to_string())?;
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    let host = split_host_port(authority).map_or(authority, |(host, _)| host);
    let authority = crate::options::join_host_port(host, https_port.into());
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let uri = format!("https://{authority}{path}").parse();
    uri.map_err(|error: InvalidUri| error.to_string())
}

/// The cause behind all that wraps it: hyper's own texts leave it out.
fn innermost(error: &(dyn Error + 'static)) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    match cause.downcast_ref::<std::io::Error>() {
        Some(error) => super::listener::go_text(error),
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

    #[test]
    fn roots_must_be_certificates() {
        let directory = tempfile::TempDir::new().unwrap();
        let path = directory.path().join("roots.pem");
        let options =
            |path: &str| Options { tls_root_ca_file: path.to_owned(), ..Options::default() };
        let path = path.to_str().unwrap();
        let reason = HttpClient::with_tls(&options(path)).unwrap_err();
        let expected = "failed to build client TLS config - open ";
        assert_eq!(reason, format!("{expected}{path}: no such file or directory"));
        std::fs::write(path, "no certificate").unwrap();
        let reason = HttpClient::with_tls(&options(path)).unwrap_err();
        let expected = "failed to build client TLS config - failed to append certificate to pool";
        assert_eq!(reason, expected);
        HttpClient::with_tls(&options("")).unwrap();
    }
}
