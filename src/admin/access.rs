//! Who may do what: sign-in, the header of a trusted proxy, and that it is not another site that
//! makes a browser ask.
//!
//! Without `--auth-file` and `--admin-user` everybody may do everything, as in NSQ. Requests that
//! change something and come from a browser must come from our own pages: browsers say where they
//! were on their way from (`Sec-Fetch-Site`, `Origin`), and a header of our own cannot be set by
//! another site without asking first, which is never allowed. Scripts send none of these, and work
//! as they do with NSQ's nsqadmin.

mod users;

pub(super) use users::{Role, Users};

use super::notify::Change;
use super::refusal::FORBIDDEN;
use super::state::Admin;
use crate::http::connections::Peer;
use crate::http::response::Fault;
use crate::options::hostname;
use axum::extract::{FromRequestParts, Request, State};
use axum::http::header::{AUTHORIZATION, HOST, HeaderValue, ORIGIN, USER_AGENT, WWW_AUTHENTICATE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::sync::Arc;
use tokio::time::Instant;

/// What our pages send with every change.
const OURS: &str = "x-nsqadmin";

const UNAUTHORIZED: Fault = Fault(StatusCode::UNAUTHORIZED, "UNAUTHORIZED");

/// Who makes a request, and what they may do.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    /// As they have signed in; empty without that.
    pub(super) name: String,
    /// Whether they have the role that changes take.
    operates: bool,
    /// Whether the trusted proxy names one of the `--admin-user`s, if there are any.
    administers: bool,
    /// Whether the request may come from another site.
    is_foreign: bool,
}

impl Caller {
    /// Whether pages show them what changes the cluster.
    pub(super) fn may_operate(&self) -> bool {
        self.operates && self.administers
    }

    /// Whether they may change options. NSQ asks no admin user for that.
    pub(super) fn may_configure(&self) -> bool {
        self.operates && !self.is_foreign
    }
}

/// Finds out who is calling; nobody who must sign in and has not gets any further.
pub(super) async fn admit(
    State(admin): State<Arc<Admin>>,
    mut request: Request,
    next: Next,
) -> Response {
    let headers = request.headers();
    let (user, role) = match &admin.users {
        None => (String::new(), Role::Operate),
        // Whoever watches over the daemon need not sign in.
        Some(_) if request.uri().path() == admin.path("/ping") => (String::new(), Role::View),
        Some(users) => match credentials(headers).and_then(|secret| users.find(&secret)) {
            Some((name, role)) => (name, role),
            None => {
                let ask = HeaderValue::from_static("Basic realm=\"nsqadmin\", charset=\"UTF-8\"");
                return ([(WWW_AUTHENTICATE, ask)], UNAUTHORIZED).into_response();
            }
        },
    };
    let administers = {
        let options = admin.options.borrow();
        let named = headers.get(options.acl_http_header.as_str()).map(HeaderValue::as_bytes);
        let named = named.unwrap_or_default();
        let admins = &options.admin_users;
        admins.is_empty() || admins.iter().any(|admin| admin.as_bytes() == named)
    };
    let caller = Caller {
        name: user,
        operates: role == Role::Operate,
        administers,
        is_foreign: is_foreign(headers),
    };
    request.extensions_mut().insert(caller);
    let changes = request.method() != Method::GET;
    let response = next.run(request).await;
    if changes {
        // Pages are to show the cluster as it is now.
        admin.changed.send_replace(Instant::now());
    }
    response
}

/// Whether a browser may have been made to send this by another site.
fn is_foreign(headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let (site, origin) = (text("sec-fetch-site"), text(ORIGIN.as_str()));
    if site.is_none() && origin.is_none() {
        return false;
    }
    let from_here = match (site, origin) {
        (Some(site), _) => site == "same-origin",
        (None, Some(origin)) => {
            let host = origin.split_once("://").map(|(_, host)| host);
            // A proxy before us may have its own idea of the host.
            host.is_some() && [HOST.as_str(), "x-forwarded-host"].iter().any(|h| text(h) == host)
        }
        (None, None) => true,
    };
    !from_here || !headers.contains_key(OURS)
}

/// What somebody signs in with.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Credentials {
    Password(String, Vec<u8>),
    Token(Vec<u8>),
}

fn credentials(headers: &HeaderMap) -> Option<Credentials> {
    let (scheme, rest) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(Credentials::Token(rest.trim().as_bytes().to_vec()));
    }
    let (user, password) = scheme.eq_ignore_ascii_case("basic").then(|| basic(rest))??;
    Some(Credentials::Password(user, password))
}

/// The name and password of basic authentication.
fn basic(encoded: &str) -> Option<(String, Vec<u8>)> {
    let decoded = STANDARD.decode(encoded.trim()).ok()?;
    let colon = decoded.iter().position(|byte| *byte == b':')?;
    let user = String::from_utf8(decoded[..colon].to_vec()).ok()?;
    Some((user, decoded[colon + 1..].to_vec()))
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Fault;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Fault> {
        parts.extensions.get::<Self>().cloned().ok_or(FORBIDDEN)
    }
}

/// Somebody who may change the cluster, and the request they do it with.
#[derive(Debug)]
pub(super) struct Operator {
    user: String,
    remote_ip: String,
    user_agent: String,
    url: String,
}

impl<S: Sync> FromRequestParts<S> for Operator {
    type Rejection = Fault;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Fault> {
        let caller = Caller::from_request_parts(parts, state).await?;
        if !caller.may_operate() || caller.is_foreign {
            return Err(FORBIDDEN);
        }
        let header = |name: &str| {
            let value = parts.headers.get(name).map(HeaderValue::as_bytes).unwrap_or_default();
            String::from_utf8_lossy(value).into_owned()
        };
        let scheme = if header("x-scheme") == "https" { "https" } else { "http" };
        let peer = parts.extensions.get::<Peer>().map(|peer| peer.0.to_string());
        let basic_user = match credentials(&parts.headers) {
            Some(Credentials::Password(user, _)) => user,
            _ => String::new(),
        };
        Ok(Self {
            user: if caller.name.is_empty() { basic_user } else { caller.name },
            remote_ip: peer.unwrap_or_default(),
            user_agent: header(USER_AGENT.as_str()),
            url: format!("{scheme}://{}{}", header(HOST.as_str()), parts.uri),
        })
    }
}

impl Operator {
    /// Tells the notification endpoint, if there is one, what they have done.
    pub(super) fn tell(&self, admin: &Admin, action: &str, topic: &str, channel: &str, node: &str) {
        if !admin.notifier.is_wanted() {
            return;
        }
        admin.notifier.tell(Change {
            action: action.to_owned(),
            topic: topic.to_owned(),
            channel: channel.to_owned(),
            node: node.to_owned(),
            timestamp: jiff::Timestamp::now().as_second(),
            user: self.user.clone(),
            remote_ip: self.remote_ip.clone(),
            user_agent: self.user_agent.clone(),
            url: self.url.clone(),
            via: hostname(),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderName;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let header = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        pairs.iter().map(header).collect()
    }

    #[test]
    fn other_sites_are_told_from_our_pages_and_from_scripts() {
        let (ours, host) = ((OURS, "1"), ("host", "admin:4171"));
        for (pairs, expected) in [
            (&[host][..], false),
            (&[host, ("origin", "http://admin:4171"), ours], false),
            (&[("sec-fetch-site", "same-origin"), ours], false),
            (&[host, ("origin", "http://admin:4171")], true),
            (&[("sec-fetch-site", "same-origin")], true),
            (&[host, ("origin", "http://evil"), ours], true),
            (&[host, ("origin", "null"), ours], true),
            (&[("sec-fetch-site", "cross-site"), ours], true),
            (&[("sec-fetch-site", "same-site"), ours], true),
            (&[("x-forwarded-host", "h"), ("origin", "https://h"), ours], false),
        ] {
            assert_eq!(is_foreign(&headers(pairs)), expected, "{pairs:?}");
        }
    }

    #[test]
    fn credentials_are_read() {
        let password = |user: &str, password: &[u8]| {
            Some(Credentials::Password(user.to_owned(), password.to_vec()))
        };
        for (value, expected) in [
            ("Basic b3BzOmE6Yg==", password("ops", b"a:b")),
            ("basic b3BzOg==", password("ops", b"")),
            ("Bearer secret", Some(Credentials::Token(b"secret".to_vec()))),
            ("Basic b3Bz", None),
            ("Basic $$$", None),
            ("Digest x", None),
            ("Bearer", None),
        ] {
            assert_eq!(credentials(&headers(&[("authorization", value)])), expected, "{value}");
        }
    }
}
