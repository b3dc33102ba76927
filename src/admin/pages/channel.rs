//! One channel: how far behind it is on which nsqd, and who consumes it.

use super::frame::{Page, Reader, Section, document};
use super::parts::{Action, badge, badges, cells, counted, heads, latencies, order, tiles, trail};
use super::{graphs, picture, segment};
use crate::admin::access::Caller;
use crate::admin::events::View;
use crate::admin::figures::{Figures, count, duration_s};
use crate::admin::live::{Picture, Row};
use crate::admin::merge::clients_in_order;
use crate::admin::model::{ChannelStats, ClientStats};
use crate::admin::state::Admin;
use crate::limits::{ADMIN_PAGE_CLIENTS_MAX, ADMIN_POLL_PATIENCE};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use maud::{Markup, html};
use std::sync::Arc;

const NODE_COLUMNS: [(&str, &str); 10] = [
    ("depth", "Depth"),
    ("memory", "Memory"),
    ("disk", "Disk"),
    ("in_flight", "In flight"),
    ("deferred", "Deferred"),
    ("requeues", "Requeued"),
    ("timeouts", "Timed out"),
    ("messages", "Messages"),
    ("clients", "Clients"),
    ("latency", "Latency"),
];

pub(in crate::admin) async fn page(
    State(admin): State<Arc<Admin>>,
    caller: Caller,
    headers: HeaderMap,
    Path((topic, channel)): Path<(String, String)>,
) -> Response {
    let reader = Reader::of(caller, &headers);
    let picture = picture(&admin).await;
    let known = picture.topics.get(&topic).and_then(|topic| topic.channels.get(&channel));
    let nothing = Row::default();
    let figures = &known.unwrap_or(&nothing).figures;
    let mut warnings = picture.warnings.clone();
    let stats = whole(&admin, &picture, (&topic, &channel), &mut warnings).await;
    let content = html! {
        (trail(&[(admin.path("/"), "Topics"), (admin.topic_path(&topic), &topic)]))
        div.title data-k="total" .is-paused[figures.paused] {
            h1 { (channel) (badges(&channel, None)) }
            @if reader.may_operate() {
                (actions(&admin, (&topic, &channel), nodes_of(&picture, &topic, &channel), figures))
            }
        }
        @if known.is_none() { p.hint { "Nobody in the cluster has this channel." } }
        (tiles(figures, &[
            ("depth", "Depth"), ("rate", "Messages/s"), ("in_flight", "In flight"),
            ("deferred", "Deferred"), ("timeout_rate", "Timeouts/s"), ("latency", "Latency"),
        ]))
        (graphs::of_channel(&admin, &topic, &channel))
        (delivery(&stats))
        (clients(&admin, &stats))
        (nodes(&admin, &picture, &topic, &channel))
        (processing(&stats))
    };
    let page = Page {
        title: &format!("{channel} of {topic}"),
        section: Section::Topics,
        live: Some((View::Channel(topic.clone(), channel.clone()), &picture)),
        warnings: &warnings,
        content,
    };
    let status = if known.is_some() { StatusCode::OK } else { StatusCode::NOT_FOUND };
    (status, document(&admin, &reader, &page)).into_response()
}

/// The channel with its clients, of all nsqds that answer soon.
async fn whole(
    admin: &Admin,
    picture: &Picture,
    (topic, channel): (&str, &str),
    warnings: &mut Vec<String>,
) -> ChannelStats {
    let have = picture.of_topic(topic).map(|(node, _)| node.producer.clone());
    let producers: Vec<_> = have.collect();
    let mut whole = ChannelStats::of_all(topic, channel);
    if producers.is_empty() {
        return whole;
    }
    let hasty = admin.cluster.hasty(ADMIN_POLL_PATIENCE);
    match hasty.stats(&producers, topic, channel, true).await {
        Ok(answer) => {
            warnings.extend(answer.errors);
            let channels = answer.value.into_iter().flat_map(|stats| stats.channels);
            let named = channels.flatten().filter(|stats| stats.channel_name == channel);
            named.for_each(|stats| whole.add(stats));
        }
        Err(unanswered) => warnings.push(unanswered.0),
    }
    whole.clients.iter_mut().for_each(|clients| clients.sort_by(clients_in_order));
    whole
}

/// How long messages take, in all and on each nsqd.
fn processing(stats: &ChannelStats) -> Markup {
    let nodes = stats.nodes.iter().flatten();
    let nodes = nodes.map(|node| (node.node.as_str(), node.e2e_processing_latency.as_ref()));
    let all = [("all nodes", stats.e2e_processing_latency.as_ref())];
    latencies(&all.into_iter().chain(nodes).collect::<Vec<_>>())
}

fn nodes_of(picture: &Picture, topic: &str, channel: &str) -> usize {
    let has = |stats: &&ChannelStats| stats.channel_name == channel;
    let topics = picture.of_topic(topic);
    topics.filter(|(_, stats)| stats.channels.iter().flatten().any(|c| has(&c))).count()
}

fn actions(
    admin: &Admin,
    (topic, channel): (&str, &str),
    nodes: usize,
    figures: &Figures,
) -> Markup {
    let url = format!("/api/topics/{}/{}", segment(topic), segment(channel));
    let url = admin.path(&url);
    let nodes = counted(nodes, "node");
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
    let pause = if figures.paused { "unpause" } else { "pause" };
    let label = if figures.paused { "Unpause" } else { "Pause" };
    let what = if figures.paused {
        format!("Consumers of {channel} get messages again, on {nodes}.")
    } else {
        format!("Consumers of {channel} get no more messages, on {nodes}; they pile up meanwhile.")
    };
    let title = format!("{label} channel {channel} of {topic}?");
    let empty = format!("All messages of {channel}, on {nodes}, are thrown away: {{n}}.");
    let delete = format!(
        "{channel} ends on {nodes}, with {{n}} messages that wait there or are in flight. Its \
         consumers are disconnected; one that comes back makes the channel anew."
    );
    html! {
        div.buttons role="group" aria-label="Actions" {
            (Action { title, text: what, ..action(label, order("action", pause)) }.button())
            (Action { title: format!("Empty channel {channel} of {topic}?"), text: empty,
                is_dangerous: true, ..action("Empty", order("action", "empty")) }.button())
            (Action { method: "DELETE", title: format!("Delete channel {channel} of {topic}?"),
                text: delete, is_dangerous: true, typed: Some(channel),
                then: Some(admin.topic_path(topic)), ..action("Delete", String::new()) }.button())
        }
    }
}

/// Where messages went, when nsqds know where consumers are.
fn delivery(stats: &ChannelStats) -> Markup {
    let all = stats.delivery_msg_count;
    let is_placed = |client: &ClientStats| !client.topology_region.is_empty();
    let near = stats.zone_local_msg_count.saturating_add(stats.region_local_msg_count);
    let says_something = near > 0 || stats.clients.iter().flatten().any(is_placed);
    #[expect(clippy::cast_precision_loss, reason = "a share of a hundred")]
    let percent = |part: i64| 100.0 * part as f64 / all.max(1) as f64;
    let parts = [
        ("zone", "Same zone", stats.zone_local_msg_count),
        ("region", "Same region", stats.region_local_msg_count),
        ("global", "Elsewhere", stats.global_msg_count),
    ];
    let (zone, region) =
        (percent(stats.zone_local_msg_count), percent(stats.region_local_msg_count));
    let starts = [0.0, zone, zone + region];
    html! {
        @if all > 0 && says_something {
            section {
                h2 { "Delivered to" }
                svg.shares viewBox="0 0 100 4" preserveAspectRatio="none" aria-hidden="true" {
                    @for ((kind, _, part), from) in parts.into_iter().zip(starts) {
                        rect class=(kind) x=(from) y="0" width=(percent(part)) height="4" {}
                    }
                }
                ul.legend {
                    @for (kind, label, part) in parts {
                        li class=(kind) { (label) " " b { (format!("{:.1} %", percent(part))) } " "
                            span.muted { (count(part)) } }
                    }
                }
            }
        }
    }
}

fn clients(admin: &Admin, stats: &ChannelStats) -> Markup {
    let all = stats.clients.as_deref().unwrap_or_default();
    let shown = &all[..all.len().min(ADMIN_PAGE_CLIENTS_MAX)];
    let heads = ["In flight", "Ready", "Finished", "Requeued", "Messages", "Connected"];
    html! {
        section {
            h2 { "Clients " span.count { (all.len()) } }
            @if all.is_empty() {
                p.hint { "Nobody consumes this channel." }
            } @else {
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
                @if shown.len() < all.len() {
                    p.hint { "The first " (shown.len()) "; the API has all of them." }
                }
            }
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "shown with two units")]
pub(super) fn client_row(admin: &Admin, client: &ClientStats) -> Markup {
    let region =
        !client.topology_region.is_empty() && client.topology_region == client.node_topology_region;
    let zone = region
        && !client.topology_zone.is_empty()
        && client.topology_zone == client.node_topology_zone;
    let counts = [
        client.in_flight_count,
        client.ready_count,
        client.finish_count,
        client.requeue_count,
        client.message_count,
    ];
    html! {
        tr .zone[zone] .region[region && !zone] {
            th scope="row" {
                (client.hostname)
                @if !client.client_id.is_empty() && client.client_id != client.hostname {
                    " " span.muted { (client.client_id) }
                }
                div.muted { (client.remote_address) " " (client.user_agent) }
            }
            td { (attributes(client)) }
            td { a href=(admin.node_path(&client.node)) { (client.node) } }
            @for number in counts { td.n { (count(number)) } }
            td.n { (duration_s(client.connected_ns as f64 / 1e9)) }
        }
    }
}

/// What a connection has agreed upon, and where it is.
fn attributes(client: &ClientStats) -> Markup {
    let tls = format!("{} {}", client.tls_version, client.tls_cipher_suite);
    let is_link = ["http://", "https://"].iter().any(|s| client.auth_identity_url.starts_with(s));
    html! {
        @if client.tls { " " span.badge.good title=(tls) { "TLS" } }
        @if client.deflate { (badge("plain", "deflate")) }
        @if client.snappy { (badge("plain", "snappy")) }
        @if client.sample_rate > 0 { (badge("warn", &format!("sampled {} %", client.sample_rate))) }
        @if client.authed {
            @if is_link {
                " " a.badge.plain rel="noreferrer" href=(client.auth_identity_url) {
                    (client.auth_identity)
                }
            } @else { (badge("plain", &client.auth_identity)) }
        }
        @if !client.topology_region.is_empty() { (badge("plain", &client.topology_region)) }
        @if !client.topology_zone.is_empty() { (badge("plain", &client.topology_zone)) }
    }
}

fn nodes(admin: &Admin, picture: &Picture, topic: &str, channel: &str) -> Markup {
    let names = NODE_COLUMNS.map(|(name, _)| name);
    html! {
        section {
            h2 { "Nodes" }
            div.scroll tabindex="0" role="region" aria-label="Nodes" {
                table.list {
                    thead { tr { th scope="col" { "nsqd" } (heads(&NODE_COLUMNS)) } }
                    tbody {
                        @for (node, stats) in picture.of_topic(topic) {
                            @let all = stats.channels.iter().flatten();
                            @for stats in all.filter(|stats| stats.channel_name == channel) {
                                @let address = node.producer.http_address();
                                tr data-k={ "n:" (address) } .is-paused[stats.paused] {
                                    th scope="row" {
                                        a href=(admin.node_path(&address)) { (address) }
                                        " " span.muted { (node.producer.hostname) }
                                        (badges("", None))
                                    }
                                    (cells(&Figures::of_channel(stats), &names))
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}
