//! One topic: where it is, and who reads it.

use super::frame::{Page, Reader, Section, document};
use super::parts::{Action, badges, cells, counted, heads, latencies, order, tiles, trail};
use super::{graphs, picture, segment};
use crate::admin::access::Caller;
use crate::admin::events::View;
use crate::admin::figures::{Figures, count};
use crate::admin::live::{Picture, TopicRow};
use crate::admin::model::TopicStats;
use crate::admin::state::Admin;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use maud::{Markup, html};
use std::sync::Arc;

const NODE_COLUMNS: [(&str, &str); 8] = [
    ("depth", "Depth"),
    ("memory", "Memory"),
    ("disk", "Disk"),
    ("messages", "Messages"),
    ("backlog", "Backlog"),
    ("channels", "Channels"),
    ("latency", "Latency"),
    ("log", "Log size"),
];

const CHANNEL_COLUMNS: [(&str, &str); 11] = [
    ("depth", "Depth"),
    ("memory", "Memory"),
    ("disk", "Disk"),
    ("in_flight", "In flight"),
    ("deferred", "Deferred"),
    ("requeues", "Requeued"),
    ("timeouts", "Timed out"),
    ("rate", "Msgs/s"),
    ("messages", "Messages"),
    ("clients", "Clients"),
    ("latency", "Latency"),
];

pub(in crate::admin) async fn page(
    State(admin): State<Arc<Admin>>,
    caller: Caller,
    headers: HeaderMap,
    Path(topic): Path<String>,
) -> Response {
    let reader = Reader::of(caller, &headers);
    let picture = picture(&admin).await;
    let nothing = TopicRow::default();
    let known = picture.topics.get(&topic);
    let row = known.unwrap_or(&nothing);
    let content = html! {
        (trail(&[(admin.path("/"), "Topics")]))
        div.title data-k="total" .is-paused[row.row.figures.paused] {
            h1 { (topic) (badges(&topic, row.durability.as_deref())) }
            @if reader.may_operate() { (actions(&admin, &topic, row)) }
        }
        @if known.is_none() {
            p.hint { "Nobody in the cluster knows this topic." }
        } @else if row.nodes == 0 {
            p.hint {
                "No nsqd has this topic. nsqlookupd still lists it; "
                "it goes when it is deleted, and comes back with its next message."
            }
        }
        (tiles(&row.row.figures, &[
            ("backlog", "Backlog"), ("rate", "Messages/s"), ("in_flight", "In flight"),
            ("deferred", "Deferred"), ("timeout_rate", "Timeouts/s"), ("latency", "Latency"),
        ]))
        (graphs::of_topic(&admin, &topic))
        (channels(&admin, &topic, row))
        (nodes(&admin, &reader, &picture, &topic))
        (processing(&picture, &topic))
    };
    let page = Page {
        title: &topic,
        section: Section::Topics,
        live: Some((View::Topic(topic.clone()), &picture)),
        warnings: &picture.warnings,
        content,
    };
    let status = if known.is_some() { StatusCode::OK } else { StatusCode::NOT_FOUND };
    (status, document(&admin, &reader, &page)).into_response()
}

fn actions(admin: &Admin, topic: &str, row: &TopicRow) -> Markup {
    let url = admin.path(&format!("/api/topics/{}", segment(topic)));
    let (nodes, channels) = (counted(row.nodes, "node"), counted(row.channels.len(), "channel"));
    let action = |label, order: String| Action {
        label,
        method: "POST",
        url: url.clone(),
        body: order,
        title: String::new(),
        text: String::new(),
        is_dangerous: false,
        count_url: Some(url.clone()),
        typed: None,
        then: None,
    };
    let paused = row.row.figures.paused;
    let pause = if paused { "unpause" } else { "pause" };
    let label = if paused { "Unpause" } else { "Pause" };
    let what = if paused {
        format!("Channels of {topic} get its messages again, on {nodes}.")
    } else {
        format!("{topic} takes messages but gives none to its {channels}, on {nodes}.")
    };
    let title = format!("{label} topic {topic}?");
    let empty = format!(
        "The messages waiting in {topic} itself, on {nodes}, are thrown away: {{n}}. \
         What its {channels} have is not touched."
    );
    let delete = format!(
        "{topic} and its {channels} end on {nodes}, with {{n}} messages that wait there or are in \
         flight. Consumers are disconnected. A producer that goes on makes the topic anew."
    );
    html! {
        div.buttons role="group" aria-label="Actions" {
            (Action { title, text: what, ..action(label, order("action", pause)) }.button())
            (Action { title: format!("Empty topic {topic}?"), text: empty, is_dangerous: true,
                ..action("Empty", order("action", "empty")) }.button())
            (Action { method: "DELETE", title: format!("Delete topic {topic}?"), text: delete,
                is_dangerous: true, typed: Some(topic), then: Some(admin.path("/")),
                ..action("Delete", String::new()) }.button())
        }
    }
}

fn channels(admin: &Admin, topic: &str, row: &TopicRow) -> Markup {
    let names = CHANNEL_COLUMNS.map(|(name, _)| name);
    html! {
        section {
            h2 { "Channels " span.count { (row.channels.len()) } }
            @if row.channels.is_empty() {
                p.hint { "No channels: messages wait in the topic until there is one." }
            } @else {
                div.scroll tabindex="0" role="region" aria-label="Channels" {
                    table.list {
                        thead { tr { th scope="col" { "Channel" } (heads(&CHANNEL_COLUMNS)) } }
                        tbody {
                            @for (name, channel) in &row.channels {
                                tr data-k={ "c:" (name) } .is-paused[channel.figures.paused] {
                                    th scope="row" {
                                        a href=(admin.channel_path(topic, name)) { (name) }
                                        (badges(name, None))
                                    }
                                    (cells(&channel.figures, &names))
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn nodes(admin: &Admin, reader: &Reader, picture: &Picture, topic: &str) -> Markup {
    let names = NODE_COLUMNS.map(|(name, _)| name);
    let rows: Vec<_> = picture.of_topic(topic).collect();
    html! {
        section {
            h2 { "Nodes " span.count { (rows.len()) } }
            div.scroll tabindex="0" role="region" aria-label="Nodes" {
                table.list {
                    thead {
                        tr {
                            th scope="col" { "nsqd" } (heads(&NODE_COLUMNS))
                            @if reader.may_operate() { th scope="col" { span.quiet { "Actions" } } }
                        }
                    }
                    tbody {
                        @for (node, stats) in &rows {
                            @let address = node.producer.http_address();
                            @let figures = Figures::of_topic(stats);
                            tr data-k={ "n:" (address) } .is-paused[stats.paused] {
                                th scope="row" {
                                    a href=(admin.node_path(&address)) { (address) }
                                    " " span.muted { (node.producer.hostname) }
                                    (badges("", stats.durability.as_deref()))
                                    @if let Some(trouble) = node.trouble() {
                                        p.bad { (trouble) }
                                    }
                                }
                                (cells(&figures, &names))
                                @if reader.may_operate() {
                                    @let action = tombstone(admin, &address, topic, &figures);
                                    td.acts { (action.button()) }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// How long messages take, in all and in each channel.
fn processing(picture: &Picture, topic: &str) -> Markup {
    let mut whole = TopicStats::of_all(topic);
    picture.of_topic(topic).for_each(|(_, stats)| whole.add(stats.clone()));
    let channels = whole.channels.iter().flatten();
    let channels = channels
        .map(|channel| (channel.channel_name.as_str(), channel.e2e_processing_latency.as_ref()));
    let all = [("all channels", whole.e2e_processing_latency.as_ref())];
    latencies(&all.into_iter().chain(channels).collect::<Vec<_>>())
}

/// Hides a topic of one nsqd from consumers, and deletes it there.
pub(super) fn tombstone<'a>(
    admin: &Admin,
    node: &str,
    topic: &'a str,
    figures: &Figures,
) -> Action<'a> {
    let waiting = count(figures.waiting());
    Action {
        label: "Tombstone",
        method: "DELETE",
        url: admin.path(&format!("/api/nodes/{}", segment(node))),
        body: order("topic", topic),
        title: format!("Tombstone {topic} on {node}?"),
        text: format!(
            "{topic} is deleted on {node} alone, with {waiting} messages that wait there or are in \
             flight, and nsqlookupd hides it there for a while. Send producers elsewhere first: \
             they would make it anew."
        ),
        is_dangerous: true,
        count_url: None,
        typed: None,
        then: None,
    }
}
