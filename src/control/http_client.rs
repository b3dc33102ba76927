//! HTTP requests to others: nsqlookupd and auth servers, as NSQ's daemons make them.

use crate::limits::HTTP_ANSWER_BYTES_MAX;
use crate::options::Options;
use reqwest::header::ACCEPT;
use reqwest::{Client, ClientBuilder, RequestBuilder, Response, StatusCode};
use serde::de::DeserializeOwned;
use std::error::Error;
use std::time::Duration;

/// Tells servers which form of answers is understood.
const NSQ_ANSWERS: &str = "application/vnd.nsq; version=1.0";

/// Keeps connections for the next request; its limits are those of `--http-client-…`.
#[derive(Debug, Clone)]
pub(super) struct HttpClient(Client);

impl HttpClient {
    /// A client without connections.
    pub(super) fn new(options: &Options) -> Self {
        let limited = |limit: Duration| (!limit.is_zero()).then_some(limit);
        let mut builder: ClientBuilder = Client::builder().no_proxy();
        if let Some(limit) = limited(options.http_client_connect_timeout) {
            builder = builder.connect_timeout(limit);
        }
        if let Some(limit) = limited(options.http_client_request_timeout) {
            builder = builder.timeout(limit);
        }
        Self(builder.build().expect("a client without files and TLS has nothing to fail on"))
    }

    /// Asks, and reads the JSON of the answer.
    ///
    /// # Errors
    /// Why there is no such answer, for the log.
    pub(super) async fn get<T: DeserializeOwned>(&self, url: &str) -> Result<T, String> {
        let body = self.answer(self.0.get(url)).await?;
        serde_json::from_slice(&body).map_err(|error| error.to_string())
    }

    async fn answer(&self, request: RequestBuilder) -> Result<Vec<u8>, String> {
        let request = request.header(ACCEPT, NSQ_ANSWERS);
        let response = request.send().await.map_err(|error| innermost(&error))?;
        let status = response.status();
        let body = read(response).await?;
        if status == StatusCode::OK {
            return Ok(body);
        }
        let text = String::from_utf8_lossy(&body);
        Err(format!("got response {status} {text:?}"))
    }
}

/// The whole body, if it is not too large.
async fn read(mut response: Response) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| innermost(&error))? {
        if body.len() + chunk.len() > HTTP_ANSWER_BYTES_MAX {
            return Err(format!("the answer has more than {HTTP_ANSWER_BYTES_MAX} bytes"));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// What went wrong and at which URL, with the cause behind all that wraps it.
fn innermost(error: &reqwest::Error) -> String {
    let mut cause: &dyn Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    let url = error.url().map(|url| format!("{url}: ")).unwrap_or_default();
    format!("{url}{cause}")
}
