//! One message, one request: URLs, headers, redirects, and which answers are good.

use crate::client::http::{escape, parse_url};
use crate::http::requests::HttpClient;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use hyper::header::{AUTHORIZATION, COOKIE, HeaderName, HeaderValue, LOCATION};
use hyper::{Method, StatusCode, Uri};
use percent_encoding::percent_decode_str;
use std::time::Duration;
use tokio::time::timeout;

/// As many as Go follows.
const REDIRECTS_MAX: usize = 10;

/// What the flags say of requests.
#[derive(Debug)]
pub(super) struct Requests {
    pub(super) http: HttpClient,
    /// POST with the message as the body, or GET with the message in the URL.
    pub(super) method: Method,
    /// URLs; those of GET have a `%s`.
    pub(super) addresses: Vec<String>,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    /// For a request and all its redirects.
    pub(super) patience: Duration,
}

impl Requests {
    /// Sends the message to an address, by index.
    ///
    /// # Errors
    /// Why it did not arrive: the transport's reason, or `got status code …`.
    pub(super) async fn send(&self, at: usize, message: &Bytes) -> Result<(), String> {
        let address = &self.addresses[at];
        let is_get = self.method == Method::GET;
        let (url, body) = if is_get {
            (address.replacen("%s", &escape(message, "+"), 1), Bytes::new())
        } else {
            (address.clone(), message.clone())
        };
        let url = parse_url(&url).map_err(|error| error.to_string())?;
        let followed = timeout(self.patience, self.follow(url, body)).await;
        let status = followed.unwrap_or_else(|_| Err("i/o timeout".to_owned()))?;
        let is_good = if is_get { status == StatusCode::OK } else { status.is_success() };
        if is_good { Ok(()) } else { Err(format!("got status code {}", status.as_u16())) }
    }

    /// The status of the last answer.
    async fn follow(&self, mut url: Uri, mut body: Bytes) -> Result<StatusCode, String> {
        let mut method = self.method.clone();
        let mut headers = self.headers.clone();
        for _ in 0..=REDIRECTS_MAX {
            let mut all = headers.clone();
            if let Some(credentials) = credentials(&url)
                && !all.iter().any(|(name, _)| name == AUTHORIZATION)
            {
                all.push((AUTHORIZATION, credentials));
            }
            let answer = self.http.send(method.clone(), &url, &all, body.clone()).await?;
            let status = answer.status;
            let location = answer.headers.get(LOCATION).and_then(|value| value.to_str().ok());
            let (Some(location), 301 | 302 | 303 | 307 | 308) = (location, status.as_u16()) else {
                return Ok(status);
            };
            let next = resolve(&url, location)?;
            if next.host() != url.host() {
                headers.retain(|(name, _)| name != AUTHORIZATION && name != COOKIE);
            }
            if status.as_u16() < 307 {
                (method, body) = (Method::GET, Bytes::new());
            }
            url = next;
        }
        Err(format!("stopped after {REDIRECTS_MAX} redirects"))
    }
}

/// Reads `--header` values: `name: value`.
///
/// # Errors
/// The original's text, whatever is wrong with one.
pub(super) fn parse_headers(texts: &[String]) -> Result<Vec<(HeaderName, HeaderValue)>, String> {
    let headers = texts.iter().map(|text| {
        let (name, value) = text.split_once(':')?;
        let value = Some(value.trim()).filter(|value| !value.is_empty())?;
        let name = HeaderName::from_bytes(name.trim().as_bytes()).ok()?;
        Some((name, HeaderValue::from_str(value).ok()?))
    });
    let headers: Option<Vec<_>> = headers.collect();
    headers.ok_or_else(|| "--header value format should be 'key=value'".to_owned())
}

/// What `user:password@` in a URL stands for.
fn credentials(url: &Uri) -> Option<HeaderValue> {
    let (user, _) = url.authority()?.as_str().rsplit_once('@')?;
    let (name, password) = user.split_once(':').unwrap_or((user, ""));
    let mut pair: Vec<u8> = percent_decode_str(name).collect();
    pair.push(b':');
    pair.extend(percent_decode_str(password));
    HeaderValue::from_str(&format!("Basic {}", BASE64_STANDARD.encode(pair))).ok()
}

/// Where a `Location` leads from this URL: it may be relative.
fn resolve(from: &Uri, location: &str) -> Result<Uri, String> {
    let (scheme, authority) = (from.scheme_str().unwrap_or("http"), from.authority());
    let authority = authority.map_or("", |authority| authority.as_str());
    let location = location.split('#').next().unwrap_or_default();
    let absolute = if location.contains("://") {
        location.to_owned()
    } else if location.starts_with("//") {
        format!("{scheme}:{location}")
    } else if location.starts_with('/') {
        format!("{scheme}://{authority}{location}")
    } else {
        let directory = from.path().rsplit_once('/').map_or("", |(directory, _)| directory);
        format!("{scheme}://{authority}{directory}/{location}")
    };
    parse_url(&absolute).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i2_headers() {
        let parse = |texts: &[&str]| {
            parse_headers(&texts.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        let good = ["header1: value1", "header2:value2", "header3:value3 ", " header4 : a: b "];
        let parsed = parse(&good).unwrap();
        let parsed: Vec<_> =
            parsed.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        let expected = ["value1", "value2", "value3", "a: b"];
        for (at, (pair, value)) in parsed.iter().zip(expected).enumerate() {
            assert_eq!(*pair, (format!("header{}", at + 1).as_str(), value));
        }
        for bad in ["header1:", ": value", ":", "header1", "a b: c", "a: b\nc"] {
            let text = parse(&["ok: ok", bad]).unwrap_err();
            assert_eq!(text, "--header value format should be 'key=value'", "{bad}");
        }
    }

    #[test]
    fn redirects_lead_somewhere() {
        let from: Uri = "https://host:1/a/b?c=d".parse().unwrap();
        for (location, expected) in [
            ("http://other/x", "http://other/x"),
            ("//other/x?y", "https://other/x?y"),
            ("/x#top", "https://host:1/x"),
            ("x?y=z", "https://host:1/a/x?y=z"),
        ] {
            assert_eq!(resolve(&from, location).unwrap().to_string(), expected);
        }
    }

    #[test]
    fn credentials_of_urls_are_sent() {
        let of = |url: &str| credentials(&url.parse().unwrap());
        assert_eq!(of("http://host/"), None);
        // "al@ddin:open sesame"
        let expected = HeaderValue::from_static("Basic YWxAZGRpbjpvcGVuIHNlc2FtZQ==");
        assert_eq!(of("http://al%40ddin:open%20sesame@host/"), Some(expected));
    }
}
