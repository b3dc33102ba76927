//! The nsqds: which there are, and how they are.

use super::frame::{Page, Reader, Section, document};
use super::parts::{badge, cells, heads, tiles};
use super::picture;
use crate::admin::access::Caller;
use crate::admin::events::View;
use crate::admin::live::NodeRow;
use crate::admin::state::Admin;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use maud::{Markup, html};
use std::sync::Arc;

const COLUMNS: [(&str, &str); 5] = [
    ("backlog", "Backlog"),
    ("in_flight", "In flight"),
    ("messages", "Messages"),
    ("clients", "Clients"),
    ("log", "Log size"),
];

pub(in crate::admin) async fn page(
    State(admin): State<Arc<Admin>>,
    caller: Caller,
    headers: HeaderMap,
) -> Response {
    let reader = Reader::of(caller, &headers);
    let picture = picture(&admin).await;
    let lookupds = admin.lookupds().len();
    let names = COLUMNS.map(|(name, _)| name);
    let content = html! {
        div.title { h1 { "Nodes " span.count { (picture.nodes.len()) } } }
        (tiles(&picture.totals.figures, &[
            ("backlog", "Backlog"), ("rate", "Messages/s"), ("in_flight", "In flight"),
            ("clients", "Clients"),
        ]))
        div.scroll tabindex="0" role="region" aria-label="Nodes" {
            table.list {
                thead {
                    tr {
                        th scope="col" { "nsqd" } th scope="col" { "State" }
                        th scope="col" { "Version" } th.n scope="col" { "TCP" }
                        th.n scope="col" { "HTTP" }
                        @if lookupds > 0 { th.n scope="col" { "Lookups" } }
                        th.n scope="col" { "Topics" } (heads(&COLUMNS))
                    }
                }
                tbody {
                    @for node in &picture.nodes { (row(&admin, node, lookupds, &names)) }
                }
            }
        }
        @if picture.nodes.is_empty() { p.hint { "No nsqd is known." } }
    };
    let page = Page {
        title: "Nodes",
        section: Section::Nodes,
        live: Some((View::Nodes, &picture)),
        warnings: &picture.warnings,
        content,
    };
    document(&admin, &reader, &page)
}

fn row(admin: &Admin, node: &NodeRow, lookupds: usize, names: &[&str]) -> Markup {
    let producer = &node.producer;
    let address = producer.http_address();
    let seen = producer.remote_addresses.as_deref().unwrap_or_default();
    let topics = producer.topics.as_deref().unwrap_or_default();
    let tombstoned = topics.iter().filter(|topic| topic.tombstoned).count();
    html! {
        tr data-k={ "n:" (address) } .is-down[node.fault.is_some()] {
            th scope="row" {
                a href=(admin.node_path(&address)) { (address) }
                " " span.muted { (producer.hostname) }
                @if !producer.topology_region.is_empty() {
                    (badge("plain", &producer.topology_region))
                }
                @if !producer.topology_zone.is_empty() { (badge("plain", &producer.topology_zone)) }
            }
            td { (state(node)) }
            td { (producer.version) @if producer.out_of_date { (badge("warn", "out of date")) } }
            td.n { (producer.tcp_port) }
            td.n { (producer.http_port) }
            @if lookupds > 0 {
                td.n title=(seen.join("\n")) {
                    (seen.len()) "/" (lookupds)
                    @if seen.len() != lookupds { (badge("warn", "not everywhere")) }
                }
            }
            td.n {
                (topics.len())
                @if tombstoned > 0 { (badge("warn", &format!("{tombstoned} tombstoned"))) }
            }
            (cells(&node.figures(), names))
        }
    }
}

/// How an nsqd is, in a word, and why if it is not well.
pub(super) fn state(node: &NodeRow) -> Markup {
    html! {
        @match (node.trouble(), &node.fault) {
            (None, _) if node.is_slow => span.badge.warn { "slow" },
            (None, _) => span.badge.good { "ok" },
            (Some(trouble), Some(_)) => {
                span.badge.bad { "no answer" }
                p.bad { (trouble) }
            },
            (Some(trouble), None) => { span.badge.bad { "not well" } p.bad { (trouble) } },
        }
    }
}
