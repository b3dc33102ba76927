//! HTTP requests of nsqd: to nsqlookupd and auth servers.

use crate::http::requests::{HttpClient, RequestLimits};
use crate::limits::HTTP_ANSWER_BYTES_MAX;
use crate::options::{Options, native_roots, read_roots};
use bytes::Bytes;
use hyper::header::{ACCEPT, CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::http::uri::InvalidUri;
use hyper::{Method, Uri};
use rustls::ClientConfig;
use rustls::crypto::ring;
use std::sync::Arc;

/// Tells servers which form of answers is understood, and what a body is.
const HEADERS: [(HeaderName, HeaderValue); 2] = [
    (ACCEPT, HeaderValue::from_static("application/vnd.nsq; version=1.0")),
    (CONTENT_TYPE, HeaderValue::from_static("application/json")),
];

/// A client without connections, for plain HTTP alone.
pub(super) fn plain(options: &Options) -> HttpClient {
    HttpClient::new(None, limits(options))
}

/// A client without connections that checks certificates against `--tls-root-ca-file`, or what
/// the machine trusts.
///
/// # Errors
/// NSQ's text, when that file cannot be used.
pub(super) fn with_tls(options: &Options) -> Result<HttpClient, String> {
    let roots = match options.tls_root_ca_file.as_str() {
        "" => native_roots(),
        path => read_roots(path)
            .map_err(|reason| format!("failed to build client TLS config - {reason}"))?,
    };
    let tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(options.tls_min_version.and_above())
        .expect("ring has ciphers for TLS 1.2 and 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(HttpClient::new(Some(&Arc::new(tls)), limits(options)))
}

/// The body of the answer to a request, over HTTPS when the server refuses to talk without.
///
/// # Errors
/// Why there is none, for the log. The URL is not in it: it may hold a secret.
pub(super) async fn answer(
    http: &HttpClient,
    method: Method,
    url: &str,
    body: Bytes,
) -> Result<Bytes, String> {
    let url: Uri = url.parse().map_err(|error: InvalidUri| error.to_string())?;
    let headers = if method == Method::POST { &HEADERS[..] } else { &HEADERS[..1] };
    http.insist(method, &url, headers, body).await
}

fn limits(options: &Options) -> RequestLimits {
    RequestLimits {
        connect_timeout: options.http_client_connect_timeout,
        request_timeout: options.http_client_request_timeout,
        answer_bytes_max: HTTP_ANSWER_BYTES_MAX,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roots_must_be_certificates() {
        let directory = tempfile::TempDir::new().unwrap();
        let path = directory.path().join("roots.pem");
        let options =
            |path: &str| Options { tls_root_ca_file: path.to_owned(), ..Options::default() };
        let path = path.to_str().unwrap();
        let reason = with_tls(&options(path)).unwrap_err();
        let expected = "failed to build client TLS config - open ";
        assert_eq!(reason, format!("{expected}{path}: no such file or directory"));
        std::fs::write(path, "no certificate").unwrap();
        let reason = with_tls(&options(path)).unwrap_err();
        let expected = "failed to build client TLS config - failed to append certificate to pool";
        assert_eq!(reason, expected);
        with_tls(&options("")).unwrap();
    }
}
