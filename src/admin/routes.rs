//! The table of everything nsqadmin serves, and what surrounds each request.

use super::state::Admin;
use super::{access, actions, api, assets, config, events, graphite, pages};
use crate::http::response::Reply;
use crate::http::routes::{self, Route, route};
use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::{
    CONTENT_SECURITY_POLICY, HeaderValue, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{Method, Uri};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{delete, get, post, put};
use std::sync::Arc;
use tower_http::compression::CompressionLayer;

type Row = Route<Arc<Admin>>;

/// Everything under the base path.
pub(super) fn router(admin: &Arc<Admin>) -> Router {
    let mut table = api();
    table.extend(views());
    if admin.options.borrow().proxy_graphite {
        table.push(route(Method::GET, "/render", || get(graphite::render)));
    }
    let table = routes::under(&admin.base_path, table);
    routes::router(table, Arc::clone(admin))
        .layer(middleware::from_fn_with_state(Arc::clone(admin), access::admit))
        .layer(middleware::from_fn_with_state(policy(admin), guard))
        .layer(CompressionLayer::new())
}

/// What browsers may do with anything of ours: nothing but what our own files say.
fn policy(admin: &Admin) -> HeaderValue {
    let options = admin.options.borrow();
    let graphite = options.graphite_url.parse::<Uri>().unwrap_or_default();
    let images = match (graphite.scheme_str(), graphite.authority()) {
        (Some(scheme), Some(authority)) if !options.proxy_graphite => {
            let host = authority.as_str().rsplit('@').next().unwrap_or_default();
            format!(" {scheme}://{host}")
        }
        _ => String::new(),
    };
    let policy = format!(
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'{images}; \
         connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    );
    // An odd Graphite URL costs its pictures, not the policy.
    HeaderValue::try_from(policy).unwrap_or(HeaderValue::from_static("default-src 'none'"))
}

async fn guard(State(policy): State<HeaderValue>, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, policy);
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    response
}

/// What browsers are shown. NSQ's addresses of pages are ours.
fn views() -> Vec<Row> {
    vec![
        route(Method::GET, "/", || get(pages::topics)),
        route(Method::GET, "/topics", || get(pages::topics)),
        route(Method::GET, "/topics/{topic}", || get(pages::topic)),
        route(Method::GET, "/topics/{topic}/{channel}", || get(pages::channel)),
        route(Method::GET, "/nodes", || get(pages::nodes)),
        route(Method::GET, "/nodes/{node}", || get(pages::node)),
        route(Method::GET, "/counter", || get(pages::counter)),
        route(Method::GET, "/lookup", || get(pages::lookup)),
        route(Method::GET, "/live", || get(events::live)),
        route(Method::GET, "/static/{asset}", || get(assets::serve)),
    ]
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
