//! One nsqd: how it is, what it has, who is connected.

use super::channel::client_row;
use super::frame::{Page, Reader, Section, document};
use super::list::Wanted;
use super::nodes::state;
use super::parts::{badges, cells, tiles, trail};
use super::topic::tombstone;
use super::{graphs, picture};
use crate::admin::access::Caller;
use crate::admin::cluster::stats_target;
use crate::admin::events::View;
use crate::admin::figures::{Figures, bytes, duration_s};
use crate::admin::live::NodeRow;
use crate::admin::model::{ClientStats, TopicStats};
use crate::admin::state::Admin;
use crate::http::query::Parameters;
use crate::limits::{ADMIN_PAGE_CLIENTS_MAX, ADMIN_POLL_PATIENCE};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use maud::{Markup, html};
use std::sync::Arc;
use tokio::time::timeout;

const COLUMNS: [(&str, &str); 8] = [
    ("backlog", "Backlog"),
    ("backlog_disk", "On disk"),
    ("in_flight", "In flight"),
    ("deferred", "Deferred"),
    ("messages", "Messages"),
    ("clients", "Clients"),
    ("channels", "Channels"),
    ("log", "Log size"),
];

pub(in crate::admin) async fn page(
    State(admin): State<Arc<Admin>>,
    caller: Caller,
    headers: HeaderMap,
    Path(address): Path<String>,
    Parameters(query): Parameters,
) -> Response {
    let reader = Reader::of(caller, &headers);
    let picture = picture(&admin).await;
    let nothing = NodeRow::default();
    let known = picture.node(&address);
    let node = known.unwrap_or(&nothing);
    let wanted = Wanted::of(&query);
    let all: Vec<(&TopicStats, Figures)> =
        node.topics().map(|topic| (topic, Figures::of_topic(topic))).collect();
    let named = all.iter().map(|row| (row.0.topic_name.as_str(), row));
    let (rows, found) = wanted.cut(named, |row| &row.1);
    let content = html! {
        (trail(&[(admin.path("/nodes"), "Nodes")]))
        div.title {
            h1 { (address) " " span.muted { (node.producer.hostname) } }
            @if known.is_some() { p.sum { (state(node)) (facts(node)) } }
        }
        @if known.is_none() { p.hint { "Nobody in the cluster knows this node." } }
        (tiles(&node.figures(), &[
            ("backlog", "Backlog"), ("in_flight", "In flight"), ("deferred", "Deferred"),
            ("messages", "Messages"), ("clients", "Clients"),
        ]))
        (graphs::of_node(&admin, &address))
        section {
            h2 { "Topics " span.count { (all.len()) } }
            div.tools { (wanted.field("Find topics")) (wanted.pager(rows.len(), found)) }
            (topics(&admin, &reader, &address, &wanted, &rows))
        }
        (clients(&admin, node).await)
    };
    let page = Page {
        title: &address,
        section: Section::Nodes,
        live: Some((View::Node(address.clone()), &picture)),
        warnings: &picture.warnings,
        content,
    };
    let status = if known.is_some() { StatusCode::OK } else { StatusCode::NOT_FOUND };
    (status, document(&admin, &reader, &page)).into_response()
}

/// What an nsqd says of itself.
#[expect(clippy::cast_precision_loss, reason = "shown with two units")]
fn facts(node: &NodeRow) -> Markup {
    let now = jiff::Timestamp::now().as_second();
    html! {
        " version " (node.producer.version)
        @if let Some(stats) = &node.stats {
            @if stats.start_time > 0 {
                " · up " (duration_s(now.saturating_sub(stats.start_time) as f64))
            }
            @if let Some(memory) = &stats.memory {
                " · " (bytes(memory.heap_in_use_bytes)) " in use"
            }
        }
    }
}

fn topics(
    admin: &Admin,
    reader: &Reader,
    address: &str,
    wanted: &Wanted,
    rows: &[(&str, &(&TopicStats, Figures))],
) -> Markup {
    let names = COLUMNS.map(|(name, _)| name);
    html! {
        div.scroll tabindex="0" role="region" aria-label="Topics" {
            table.list {
                thead {
                    tr {
                        (wanted.head("name", "Topic"))
                        @for (name, label) in COLUMNS { (wanted.head(name, label)) }
                        @if reader.may_operate() { th scope="col" { span.quiet { "Actions" } } }
                    }
                }
                tbody {
                    @for (name, (topic, figures)) in rows {
                        tr data-k={ "t:" (name) } .is-paused[figures.paused] {
                            th scope="row" {
                                a href=(admin.topic_path(name)) { (name) }
                                (badges(name, topic.durability.as_deref()))
                            }
                            (cells(figures, &names))
                            @if reader.may_operate() {
                                td.acts { (tombstone(admin, address, name, figures).button()) }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Who consumes from it, the busiest first, if it says so soon.
async fn clients(admin: &Admin, node: &NodeRow) -> Markup {
    if node.stats.is_none() {
        return html! {};
    }
    let target = stats_target("", "", true);
    let asked = admin.cluster.stats_of(&node.producer, &target);
    let Ok(Ok(stats)) = timeout(ADMIN_POLL_PATIENCE, asked).await else {
        return html! { p.hint { "It is slow to say who is connected." } };
    };
    let channels = stats.topics.iter().flatten().flat_map(|topic| topic.channels.iter().flatten());
    let all = channels.flat_map(|channel| channel.clients.iter().flatten());
    let mut all: Vec<&ClientStats> = all.collect();
    all.sort_by_key(|client| std::cmp::Reverse((client.in_flight_count, client.message_count)));
    let shown = &all[..all.len().min(ADMIN_PAGE_CLIENTS_MAX)];
    let heads = ["In flight", "Ready", "Finished", "Requeued", "Messages", "Connected"];
    html! {
        section {
            h2 { "Clients " span.count { (all.len()) } }
            @if all.is_empty() { p.hint { "Nobody consumes from this node." } }
            @else {
                div.scroll tabindex="0" role="region" aria-label="Clients" {
                    table.list {
                        thead {
                            tr {
                                th scope="col" { "Client" } th scope="col" { "Connection" }
                                th scope="col" { "nsqd" }
                                @for head in heads { th.n scope="col" { (head) } }
                            }
                        }
                        tbody { @for client in shown { (client_row(admin, client)) } }
                    }
                }
            }
        }
    }
}
