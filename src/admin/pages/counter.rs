//! How many messages have gone through all channels.

use super::frame::{Page, Reader, Section, document};
use super::picture;
use crate::admin::access::Caller;
use crate::admin::events::View;
use crate::admin::state::Admin;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use maud::html;
use std::sync::Arc;

pub(in crate::admin) async fn page(
    State(admin): State<Arc<Admin>>,
    caller: Caller,
    headers: HeaderMap,
) -> Response {
    let reader = Reader::of(caller, &headers);
    let picture = picture(&admin).await;
    let figures = picture.delivered();
    let content = html! {
        div.title { h1 { "Counter" } }
        div.counter data-k="total" {
            p.number data-f="messages" { (figures.cell("messages")) }
            p { "messages in all channels, on " (picture.nodes.len()) " nodes" }
            div.tile data-chart="rate" {
                dl { dt { "Messages/s" } dd data-f="rate" { (figures.cell("rate")) } }
                svg.chart viewBox="0 0 120 32" preserveAspectRatio="none" aria-hidden="true" {}
            }
        }
    };
    let page = Page {
        title: "Counter",
        section: Section::Counter,
        live: Some((View::Counter, &picture)),
        warnings: &picture.warnings,
        content,
    };
    document(&admin, &reader, &page)
}
