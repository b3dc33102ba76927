//! nsqd's table of endpoints.

use super::response::Reply;
use super::state::Control;
use super::tokens::Tokens;
use super::{config, debug, entities, node, publish, stats};
use crate::http::routes::{self, route, unlogged};
use crate::options::TlsRequired;
use axum::Router;
use axum::extract::Request;
use axum::http::Method;
use axum::middleware::{self, Next};
use axum::routing::{get, post, put};
use std::sync::Arc;

type Route = routes::Route<Arc<Control>>;

static ROUTES: [Route; 29] = [
    route(Method::GET, "/ping", || get(node::ping)),
    route(Method::GET, "/info", || get(node::describe)),
    unlogged(Method::POST, "/pub", || post(publish::one)),
    unlogged(Method::POST, "/mpub", || post(publish::many)),
    route(Method::GET, "/stats", || get(stats::stats)),
    route(Method::GET, "/metrics", || get(stats::prometheus::metrics)),
    route(Method::POST, "/topic/create", || post(entities::create_topic)),
    route(Method::POST, "/topic/delete", || post(entities::delete_topic)),
    route(Method::POST, "/topic/empty", || post(entities::empty_topic)),
    route(Method::POST, "/topic/pause", || post(entities::pause_topic)),
    route(Method::POST, "/topic/unpause", || post(entities::unpause_topic)),
    route(Method::POST, "/channel/create", || post(entities::create_channel)),
    route(Method::POST, "/channel/delete", || post(entities::delete_channel)),
    route(Method::POST, "/channel/empty", || post(entities::empty_channel)),
    route(Method::POST, "/channel/pause", || post(entities::pause_channel)),
    route(Method::POST, "/channel/unpause", || post(entities::unpause_channel)),
    route(Method::GET, "/config/{name}", || get(config::read)),
    route(Method::PUT, "/config/{name}", || put(config::change)),
    unlogged(Method::GET, "/debug/pprof/", || get(debug::profile)),
    unlogged(Method::GET, "/debug/pprof/cmdline", || get(debug::command_line)),
    unlogged(Method::GET, "/debug/pprof/symbol", || get(debug::profile)),
    unlogged(Method::POST, "/debug/pprof/symbol", || post(debug::profile)),
    unlogged(Method::GET, "/debug/pprof/profile", || get(debug::profile)),
    unlogged(Method::GET, "/debug/pprof/heap", || get(debug::profile)),
    unlogged(Method::GET, "/debug/pprof/goroutine", || get(debug::profile)),
    unlogged(Method::GET, "/debug/pprof/block", || get(debug::profile)),
    unlogged(Method::GET, "/debug/pprof/threadcreate", || get(debug::profile)),
    route(Method::PUT, "/debug/setblockrate", || put(debug::set_block_rate)),
    route(Method::POST, "/debug/freememory", || post(debug::free_memory)),
];

/// What is served without TLS: everything, or one answer to all, as `--tls-required` says.
pub(super) fn plain_router(control: Arc<Control>, tokens: Option<Tokens>) -> Router {
    if control.options.borrow().tls_required != TlsRequired::Yes {
        return router(control, tokens);
    }
    let https_port = control.ports.https;
    Router::new().fallback(async move || Reply::TlsRequired { https_port })
}

/// The whole HTTP API, for those whom tokens let pass.
pub(super) fn router(control: Arc<Control>, tokens: Option<Tokens>) -> Router {
    let router = routes::router(&ROUTES, control);
    let Some(tokens) = tokens else { return router };
    let guard = move |request: Request, next: Next| tokens.clone().guard(request, next);
    router.layer(middleware::from_fn(guard))
}
