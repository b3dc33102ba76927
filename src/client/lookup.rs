//! Which nsqds have a topic: questions to lookup services, all of them at once, their answers
//! taken together. One that fails hides nothing that another knows.

use super::error::Error;
use super::http::{escape, parse_url};
use crate::http::requests::HttpClient;
use hyper::Uri;
use hyper::header::{AUTHORIZATION, HeaderName, HeaderValue};
use serde::Deserialize;
use std::collections::BTreeSet;
use std::sync::Arc;
use tokio::task::JoinSet;

/// A lookup service, as the question it is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LookupService {
    /// As it was given.
    pub(super) address: Arc<str>,
    url: Uri,
}

/// What a round of questions brought.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// `host:port` of every nsqd that has the topic.
    pub(super) nsqds: BTreeSet<Arc<str>>,
    /// Address and reason of every service that did not answer.
    pub(super) failed: Vec<(Arc<str>, String)>,
}

#[derive(Deserialize)]
struct LookupAnswer {
    #[serde(default)]
    producers: Vec<LookupProducer>,
}

#[derive(Deserialize)]
struct LookupProducer {
    broadcast_address: String,
    tcp_port: u16,
}

impl LookupService {
    /// Reads `host:port` or a URL; the path defaults to `/lookup`, the topic joins the query.
    ///
    /// # Errors
    /// [`Error::Setting`] when there is no port, or no URL at all.
    pub(super) fn parse(address: &str, topic: &str) -> Result<Self, Error> {
        let full =
            if address.contains("://") { address.to_owned() } else { format!("http://{address}") };
        let url = parse_url(&full)?;
        if url.port_u16().is_none() {
            return Err(Error::Setting(format!("{address}: missing port").into()));
        }
        let origin_end = full.find("://").map_or(0, |at| at + 3);
        let origin_end =
            full[origin_end..].find(['/', '?']).map_or(full.len(), |at| origin_end + at);
        let path = match url.path() {
            "" | "/" => "/lookup",
            path => path,
        };
        let query = match url.query() {
            None | Some("") => String::new(),
            Some(query) => format!("{query}&"),
        };
        let topic = escape(topic.as_bytes(), "+");
        let url = parse_url(&format!("{}{path}?{query}topic={topic}", &full[..origin_end]))?;
        Ok(Self { address: address.into(), url })
    }

    /// Whether asking it takes TLS.
    pub(super) fn is_secure(&self) -> bool {
        self.url.scheme_str() == Some("https")
    }
}

/// Asks all of them at once. `secret`: sent as a bearer token unless empty.
pub(super) async fn ask(services: Vec<LookupService>, http: HttpClient, secret: String) -> Found {
    let bearer = HeaderValue::try_from(format!("Bearer {secret}")).ok();
    let headers: Vec<(HeaderName, HeaderValue)> = match bearer {
        Some(bearer) if !secret.is_empty() => vec![(AUTHORIZATION, bearer)],
        _ => Vec::new(),
    };
    let mut questions = JoinSet::new();
    for service in services {
        let (http, headers) = (http.clone(), headers.clone());
        questions.spawn(async move {
            let body = http.fetch(&service.url, &headers).await;
            (service.address, body.and_then(|body| nsqds(&body)))
        });
    }
    let mut found = Found::default();
    while let Some(answer) = questions.join_next().await {
        match answer {
            Ok((_, Ok(nsqds))) => found.nsqds.extend(nsqds),
            Ok((address, Err(reason))) => found.failed.push((address, reason)),
            Err(end) => tracing::debug!("a question was not finished: {end}"),
        }
    }
    found
}

fn nsqds(body: &[u8]) -> Result<Vec<Arc<str>>, String> {
    let answer: LookupAnswer = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    let address = |producer: LookupProducer| {
        let LookupProducer { broadcast_address: host, tcp_port } = producer;
        let v6 = host.contains(':') && !host.starts_with('[');
        if v6 { format!("[{host}]:{tcp_port}") } else { format!("{host}:{tcp_port}") }.into()
    };
    Ok(answer.producers.into_iter().map(address).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_become_questions() {
        for (address, url) in [
            ("127.0.0.1:4161", "http://127.0.0.1:4161/lookup?topic=a%23ephemeral"),
            ("lookup:4161/", "http://lookup:4161/lookup?topic=a%23ephemeral"),
            ("https://l:4161", "https://l:4161/lookup?topic=a%23ephemeral"),
            ("http://[::1]:1/x?y=z", "http://[::1]:1/x?y=z&topic=a%23ephemeral"),
            ("h:1?y=z", "http://h:1/lookup?y=z&topic=a%23ephemeral"),
        ] {
            let service = LookupService::parse(address, "a#ephemeral").unwrap();
            assert_eq!(service.url.to_string(), url, "{address}");
            assert_eq!(service.is_secure(), address.starts_with("https"));
        }
        let missing = LookupService::parse("127.0.0.1", "t").unwrap_err();
        assert_eq!(missing.to_string(), "127.0.0.1: missing port");
        assert!(LookupService::parse("http://a b:1", "t").is_err());
    }

    /// H1: addresses of producers.
    #[test]
    fn h1_answers_become_addresses() {
        let body = br#"{"channels":[],"producers":[
            {"broadcast_address":"host.domain.com","tcp_port":4150,"version":"1.3.0"},
            {"broadcast_address":"192.168.1.17","tcp_port":4150},
            {"broadcast_address":"fd4a:622f:d2f2::1","tcp_port":4150}]}"#;
        let expected = ["host.domain.com:4150", "192.168.1.17:4150", "[fd4a:622f:d2f2::1]:4150"];
        assert_eq!(nsqds(body).unwrap(), expected.map(Arc::from));
        assert!(nsqds(b"<html>").is_err());
    }
}
