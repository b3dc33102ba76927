//! Bearer tokens of the HTTP API: who may read, who may publish, who may do everything.
//!
//! The file of `--http-token-file` has a line for each token, a role and the token, with a space
//! between: `read`, `publish` or `admin`; what is empty or begins with `#` is passed over. A token
//! may stand there again with another role. SIGHUP reads the file again.

use super::response::Fault;
use crate::http::listener::go_text;
use crate::limits::{HTTP_TOKEN_BYTES_MAX, HTTP_TOKENS_MAX};
use axum::extract::Request;
use axum::http::header::{AUTHORIZATION, HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use subtle::ConstantTimeEq;
use tokio::sync::watch;

const UNAUTHORIZED: Fault = Fault(StatusCode::UNAUTHORIZED, "UNAUTHORIZED");
const FORBIDDEN: Fault = Fault(StatusCode::FORBIDDEN, "FORBIDDEN");

/// What a request needs, and what a token gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    /// Statistics and settings.
    Read,
    /// `/pub` and `/mpub`.
    Publish,
    /// Everything.
    Admin,
}

/// A token, and a role it has.
type Row = (Role, Box<[u8]>);

/// The tokens in force; clones share them.
#[derive(Debug, Clone)]
pub struct Tokens {
    path: PathBuf,
    rows: Arc<watch::Sender<Vec<Row>>>,
}

impl Tokens {
    /// Reads the file; `None` when no file is named: then nothing is asked of anybody.
    ///
    /// # Errors
    /// That it cannot be read, or which line is wrong.
    pub fn read(path: &str) -> Result<Option<Self>, String> {
        if path.is_empty() {
            return Ok(None);
        }
        let path = PathBuf::from(path);
        let rows = read_rows(&path).map_err(|reason| format!("HTTP tokens: {reason}"))?;
        let rows = Arc::new(watch::Sender::new(rows));
        Ok(Some(Self { path, rows }))
    }

    /// Reads the file again. When it cannot be used, the tokens stay as they are.
    pub(super) fn read_again(&self) {
        let path = self.path.display();
        match read_rows(&self.path) {
            Ok(rows) => {
                tracing::info!("SIGHUP: {} HTTP tokens read from {path}", rows.len());
                self.rows.send_replace(rows);
            }
            Err(reason) => tracing::error!("SIGHUP: HTTP tokens stay as they are - {reason}"),
        }
    }

    /// Lets a request pass, or answers it.
    pub(super) async fn guard(self, request: Request, next: Next) -> Response {
        match self.check(request.method(), request.uri().path(), request.headers()) {
            Ok(()) => next.run(request).await,
            Err(fault) => {
                let (method, path) = (request.method(), request.uri().path());
                tracing::info!("{} {method} {path}: {}", fault.0.as_u16(), fault.1);
                let mut response = fault.into_response();
                if fault == UNAUTHORIZED {
                    let scheme = HeaderValue::from_static("Bearer");
                    response.headers_mut().insert(WWW_AUTHENTICATE, scheme);
                }
                response
            }
        }
    }

    fn check(&self, method: &Method, path: &str, headers: &HeaderMap) -> Result<(), Fault> {
        let Some(needed) = needed(method, path) else { return Ok(()) };
        let token = headers.get(AUTHORIZATION).and_then(|value| bearer(value.as_bytes()));
        let token = token.ok_or(UNAUTHORIZED)?;
        let (mut is_known, mut is_allowed) = (false, false);
        // All of them, whichever is right: the time says nothing.
        for (role, known) in self.rows.borrow().iter() {
            let is_this = bool::from(known.ct_eq(token));
            is_known |= is_this;
            is_allowed |= is_this && (*role == needed || *role == Role::Admin);
        }
        match (is_known, is_allowed) {
            (_, true) => Ok(()),
            (true, false) => Err(FORBIDDEN),
            (false, false) => Err(UNAUTHORIZED),
        }
    }
}

/// What a request needs; `None` for one that is open to all. Paths that are spelt in another way
/// than the usual need more, not less.
fn needed(method: &Method, path: &str) -> Option<Role> {
    let is_plain = !path.contains('%') && !path.to_ascii_lowercase().contains("debug");
    match (method, path) {
        (&Method::GET, "/ping") => None,
        (&Method::POST, "/pub" | "/mpub") => Some(Role::Publish),
        (&Method::GET, _) if is_plain => Some(Role::Read),
        _ => Some(Role::Admin),
    }
}

/// The token of a header `Bearer …`.
fn bearer(header: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = header.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then(|| token.trim_ascii())
}

fn read_rows(path: &PathBuf) -> Result<Vec<Row>, String> {
    let name = path.display();
    let text =
        fs::read_to_string(path).map_err(|error| format!("open {name}: {}", go_text(&error)))?;
    parse(&text).map_err(|reason| format!("{name}, {reason}"))
}

fn parse(text: &str) -> Result<Vec<Row>, String> {
    let mut rows = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        // The token itself is not shown: the text goes to a log.
        let wrong = |reason: &str| format!("line {}: {reason}", number + 1);
        let mut words = line.split_whitespace();
        let (Some(role), Some(token), None) = (words.next(), words.next(), words.next()) else {
            return Err(wrong("a role and a token are wanted, with a space between"));
        };
        let role = match role {
            "read" => Role::Read,
            "publish" => Role::Publish,
            "admin" => Role::Admin,
            _ => return Err(wrong("the role must be read, publish or admin")),
        };
        if token.len() > HTTP_TOKEN_BYTES_MAX {
            return Err(wrong("the token is too long"));
        }
        rows.push((role, token.as_bytes().into()));
        if rows.len() > HTTP_TOKENS_MAX {
            return Err(wrong("there are too many tokens"));
        }
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_tokens_is_read_or_refused_by_its_line() {
        let rows = parse("# for dashboards\nread  abc\n\n publish\tabc\nadmin x").unwrap();
        let roles: Vec<_> = rows.iter().map(|(role, _)| *role).collect();
        assert_eq!(roles, [Role::Read, Role::Publish, Role::Admin]);
        assert_eq!(&*rows[1].1, b"abc");
        for (text, expected) in [
            ("read", "line 1: a role and a token"),
            ("\nread a b", "line 2: a role and a token"),
            ("reader a", "line 1: the role must be"),
            (&format!("read {}", "x".repeat(HTTP_TOKEN_BYTES_MAX + 1)), "line 1: the token is too"),
            (&"read a\n".repeat(HTTP_TOKENS_MAX + 1), "too many tokens"),
        ] {
            let reason = parse(text).unwrap_err();
            assert!(reason.contains(expected), "{reason}");
        }
    }

    #[test]
    fn what_a_request_needs_is_never_less_for_its_spelling() {
        for (method, path, role) in [
            (Method::GET, "/ping", None),
            (Method::GET, "/ping/", Some(Role::Read)),
            (Method::GET, "/stats", Some(Role::Read)),
            (Method::POST, "/pub", Some(Role::Publish)),
            (Method::POST, "/PUB", Some(Role::Admin)),
            (Method::POST, "/p%75b", Some(Role::Admin)),
            (Method::POST, "/topic/create", Some(Role::Admin)),
            (Method::PUT, "/config/log_level", Some(Role::Admin)),
            (Method::GET, "/debug/pprof/heap", Some(Role::Admin)),
            (Method::GET, "/%64ebug/pprof", Some(Role::Admin)),
            (Method::GET, "//DEBUG/", Some(Role::Admin)),
        ] {
            assert_eq!(needed(&method, path), role, "{method} {path}");
        }
        assert_eq!(bearer(b"bearer  abc "), Some(&b"abc"[..]));
        assert_eq!(bearer(b"Basic abc"), None);
    }
}
