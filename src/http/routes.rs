//! A table of endpoints, and what happens to requests that are in none of its rows.
//!
//! A known path with another method gets 405 (HEAD is not implied by GET) or, for OPTIONS, the
//! list of methods; a path that differs by case, a trailing slash, doubled slashes or dots is
//! redirected; all else is 404.

use super::connections::Peer;
use super::query::unescape_path;
use super::response::{METHOD_NOT_ALLOWED, NOT_FOUND};
use crate::options::duration;
use axum::Router;
use axum::extract::{Extension, Request};
use axum::http::header::{ALLOW, CONTENT_TYPE, HeaderValue, LOCATION};
use axum::http::{Method, StatusCode, Uri};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::MethodRouter;
use tokio::time::Instant;

/// One endpoint of a daemon whose state is `S`.
pub(crate) struct Route<S> {
    method: Method,
    /// In axum's notation; each `{name}` stands for one segment that is not empty.
    path: &'static str,
    logged: bool,
    serve: fn() -> MethodRouter<S>,
}

/// An endpoint with a line in the log for each request.
pub(crate) const fn route<S>(
    method: Method,
    path: &'static str,
    serve: fn() -> MethodRouter<S>,
) -> Route<S> {
    Route { method, path, logged: true, serve }
}

/// An endpoint whose requests are not logged: for publishing, that would be a line per message.
pub(crate) const fn unlogged<S>(
    method: Method,
    path: &'static str,
    serve: fn() -> MethodRouter<S>,
) -> Route<S> {
    Route { method, path, logged: false, serve }
}

/// A table whose paths all begin with a base (`/` for none). It lives as long as the process.
pub(crate) fn under<S>(base: &str, table: Vec<Route<S>>) -> &'static [Route<S>] {
    let base = base.trim_end_matches('/');
    let path = |path: &'static str| -> &'static str {
        match (base, path) {
            ("", path) => path,
            (base, "/") => String::leak(base.to_owned()),
            (base, path) => String::leak(format!("{base}{path}")),
        }
    };
    Vec::leak(table.into_iter().map(|row| Route { path: path(row.path), ..row }).collect())
}

/// A whole HTTP API.
pub(crate) fn router<S>(table: &'static [Route<S>], state: S) -> Router
where
    S: Clone + Send + Sync + 'static,
{
    let routes = Router::new();
    let routes = table.iter().fold(routes, |routes, row| routes.route(row.path, (row.serve)()));
    let routes = routes.fallback(async || NOT_FOUND).with_state(state);
    // The entrance comes before the routes are looked at, and may rewrite the path.
    let entrance = move |Extension(peer): Extension<Peer>, request: Request, next: Next| {
        entrance(table, peer, request, next)
    };
    Router::new().fallback_service(routes).layer(middleware::from_fn(entrance))
}

/// What the table says of a request.
enum Verdict<S: 'static> {
    Serve(&'static Route<S>),
    Redirect(String),
    Options(String),
    /// `OPTIONS *`: about no path, and answered with nothing.
    ServerOptions,
    NotAllowed(String),
    NotFound,
}

async fn entrance<S>(
    table: &'static [Route<S>],
    peer: Peer,
    mut request: Request,
    next: Next,
) -> Response {
    let started = Instant::now();
    let (method, uri) = (request.method().clone(), request.uri().clone());
    let allow = |methods: String| [(ALLOW, HeaderValue::try_from(methods).expect("ASCII"))];
    let path = decoded(uri.path());
    let (response, logged) = match verdict(table, &method, &path) {
        Verdict::Serve(route) => {
            if path != uri.path() && !route.path.contains('{') {
                *request.uri_mut() = with_path(&uri, route.path);
            }
            (next.run(request).await, route.logged)
        }
        Verdict::Redirect(path) => (redirect(&method, &with_path(&uri, &path)), false),
        Verdict::Options(methods) => (allow(methods).into_response(), false),
        Verdict::ServerOptions => (().into_response(), false),
        Verdict::NotAllowed(methods) => {
            ((allow(methods), METHOD_NOT_ALLOWED).into_response(), true)
        }
        Verdict::NotFound => (NOT_FOUND.into_response(), true),
    };
    if logged {
        let status = response.status().as_u16();
        let elapsed = duration::format(started.elapsed());
        tracing::info!("{status} {method} {uri} ({}) {elapsed}", peer.0);
    }
    response
}

fn verdict<S>(table: &'static [Route<S>], method: &Method, path: &str) -> Verdict<S> {
    let of_method = || table.iter().filter(|route| route.method == method);
    if let Some(route) = of_method().find(|route| matches(route.path, path)) {
        return Verdict::Serve(route);
    }
    if method == Method::OPTIONS && path == "*" {
        return Verdict::ServerOptions;
    }
    if let Some(canonical) = of_method().find_map(|route| canonical(route.path, path)) {
        return Verdict::Redirect(canonical);
    }
    let routes = table.iter().filter(|route| matches(route.path, path));
    let mut methods: Vec<&str> = routes.map(|route| route.method.as_str()).collect();
    if methods.is_empty() {
        return Verdict::NotFound;
    }
    methods.push(Method::OPTIONS.as_str());
    methods.sort_unstable();
    let methods = methods.join(", ");
    if method == Method::OPTIONS { Verdict::Options(methods) } else { Verdict::NotAllowed(methods) }
}

/// Whether a path is exactly what a route's path stands for.
fn matches(route: &str, path: &str) -> bool {
    let (mut route, mut path) = (route.split('/'), path.split('/'));
    loop {
        match (route.next(), path.next()) {
            (None, None) => return true,
            (Some(part), Some(segment)) if stands_for(part, segment) => {}
            _ => return false,
        }
    }
}

fn stands_for(part: &str, segment: &str) -> bool {
    if part.starts_with('{') { !segment.is_empty() } else { part == segment }
}

/// The route's own spelling of a path that differs only by case, slashes and dots.
fn canonical(route: &str, path: &str) -> Option<String> {
    let mut segments: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                segments.pop();
            }
            segment => segments.push(segment),
        }
    }
    let parts = route.split('/').filter(|part| !part.is_empty()).collect::<Vec<_>>();
    if parts.len() != segments.len() {
        return None;
    }
    let mut canonical = String::new();
    for (part, segment) in parts.iter().zip(&segments) {
        let is_name = part.starts_with('{');
        if !is_name && !part.eq_ignore_ascii_case(segment) {
            return None;
        }
        canonical.push('/');
        canonical.push_str(if is_name { segment } else { part });
    }
    Some(if canonical.is_empty() { "/".to_owned() } else { canonical })
}

fn decoded(path: &str) -> String {
    let bytes = unescape_path(path).unwrap_or_else(|| path.as_bytes().to_vec());
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The same URI with another path; the old one when the new path cannot stand in a URI.
fn with_path(uri: &Uri, path: &str) -> Uri {
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    let path = path.replace('%', "%25").replace('#', "%23").replace('?', "%3F");
    Uri::try_from(format!("{path}{query}")).unwrap_or_else(|_| uri.clone())
}

/// Go's redirect: a small page for GET, only the header for the others.
fn redirect(method: &Method, uri: &Uri) -> Response {
    let location = uri.to_string();
    let mut escaped = String::with_capacity(location.len());
    for byte in location.bytes() {
        match byte {
            0x80.. => escaped.push_str(&format!("%{byte:x}")),
            ascii => escaped.push(char::from(ascii)),
        }
    }
    let header = HeaderValue::try_from(escaped).expect("a URI has no control characters");
    if method != Method::GET {
        return (StatusCode::TEMPORARY_REDIRECT, [(LOCATION, header)]).into_response();
    }
    let html = HeaderValue::from_static("text/html; charset=utf-8");
    let href = location.replace('&', "&amp;").replace('"', "&#34;").replace('\'', "&#39;");
    let href = href.replace('<', "&lt;").replace('>', "&gt;");
    let page = format!("<a href=\"{href}\">Moved Permanently</a>.\n\n");
    let headers = [(CONTENT_TYPE, html), (LOCATION, header)];
    (StatusCode::MOVED_PERMANENTLY, headers, page).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_with_several_names_are_told_apart() {
        let route = "/api/topics/{topic}/{channel}";
        assert!(matches(route, "/api/topics/a/b"));
        for path in ["/api/topics/a", "/api/topics/a/", "/api/topics//b", "/api/topics/a/b/c"] {
            assert!(!matches(route, path), "{path}");
        }
        assert_eq!(canonical(route, "//API/x/../Topics/A/B/").unwrap(), "/api/topics/A/B");
        assert_eq!(canonical(route, "/api/topics/a"), None);
        assert_eq!(canonical("/", "//").unwrap(), "/");
        let uri = Uri::from_static("/x?y=1");
        assert_eq!(with_path(&uri, "/a#b"), "/a%23b?y=1");
    }

    #[test]
    fn a_table_moves_under_a_base() {
        let table = || {
            let row = |path| route::<()>(Method::GET, path, || axum::routing::get(async || ()));
            vec![row("/"), row("/api/{x}")]
        };
        let paths = |base| under(base, table()).iter().map(|row| row.path).collect::<Vec<_>>();
        assert_eq!(paths("/"), ["/", "/api/{x}"]);
        assert_eq!(paths("/adm"), ["/adm", "/adm/api/{x}"]);
    }
}
