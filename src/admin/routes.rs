//! The table of everything nsqadmin serves, and what surrounds each request.

use super::state::Admin;
use super::{access, actions, api, config, graphite};
use crate::http::response::Reply;
use crate::http::routes::{self, Route, route};
use axum::Router;
use axum::http::Method;
use axum::middleware;
use axum::routing::{delete, get, post, put};
use std::sync::Arc;
use tower_http::compression::CompressionLayer;

type Row = Route<Arc<Admin>>;

/// Everything under the base path.
pub(super) fn router(admin: &Arc<Admin>) -> Router {
    let mut table = api();
    if admin.options.borrow().proxy_graphite {
        table.push(route(Method::GET, "/render", || get(graphite::render)));
    }
    let table = routes::under(&admin.base_path, table);
    routes::router(table, Arc::clone(admin))
        .layer(middleware::from_fn_with_state(Arc::clone(admin), access::admit))
        .layer(CompressionLayer::new())
}

fn api() -> Vec<Row> {
    vec![
        route(Method::GET, "/ping", || get(async || Reply::Plain("OK"))),
        route(Method::GET, "/api/topics", || get(api::topics)),
        route(Method::GET, "/api/topics/{topic}", || get(api::topic)),
        route(Method::GET, "/api/topics/{topic}/{channel}", || get(api::channel)),
        route(Method::GET, "/api/nodes", || get(api::nodes)),
        route(Method::GET, "/api/nodes/{node}", || get(api::node)),
        route(Method::GET, "/api/counter", || get(api::counter)),
        route(Method::GET, "/api/graphite", || get(graphite::rate)),
        route(Method::POST, "/api/topics", || post(actions::create)),
        route(Method::POST, "/api/topics/{topic}", || post(actions::act_on_topic)),
        route(Method::POST, "/api/topics/{topic}/{channel}", || post(actions::act_on_channel)),
        route(Method::DELETE, "/api/topics/{topic}", || delete(actions::delete_topic)),
        route(Method::DELETE, "/api/topics/{topic}/{channel}", || delete(actions::delete_channel)),
        route(Method::DELETE, "/api/nodes/{node}", || delete(actions::tombstone)),
        route(Method::GET, "/config/{opt}", || get(config::read)),
        route(Method::PUT, "/config/{opt}", || put(config::change)),
    ]
}
