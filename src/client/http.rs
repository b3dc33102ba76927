//! URLs of lookup services, nsqds and of the utilities.

use super::config::Config;
use super::error::Error;
use hyper::Uri;
use rustls::ClientConfig;
use std::sync::Arc;

/// Reads an absolute URL.
///
/// # Errors
/// [`Error::Setting`] when it is not one.
pub(crate) fn parse_url(text: &str) -> Result<Uri, Error> {
    text.parse().map_err(|error| Error::Setting(format!("{text}: {error}").into()))
}

/// Writes a value of a query or form: what is not unreserved is escaped.
pub(crate) fn escape(text: &[u8], space: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                escaped.push(char::from(*byte));
            }
            b' ' => escaped.push_str(space),
            _ => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}

/// TLS that trusts whom the machine trusts.
///
/// # Errors
/// [`Error::Setting`] when that is nobody.
pub(crate) fn trusted_by_machine() -> Result<Arc<ClientConfig>, Error> {
    super::tls::client_config(&Config::default())
}
