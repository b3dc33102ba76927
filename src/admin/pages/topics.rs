//! Streams: every topic of the cluster.

use super::frame::{Page, Reader, Section, document};
use super::list::Wanted;
use super::parts::{badges, cells, tiles};
use super::picture;
use crate::admin::access::Caller;
use crate::admin::events::View;
use crate::admin::live::TopicRow;
use crate::admin::state::Admin;
use crate::http::query::Parameters;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use maud::{Markup, html};
use std::sync::Arc;

/// Columns beside the name; the last one where nsqds tell it.
const COLUMNS: [(&str, &str); 10] = [
    ("backlog", "Backlog"),
    ("backlog_disk", "On disk"),
    ("in_flight", "In flight"),
    ("deferred", "Deferred"),
    ("rate", "Msgs/s"),
    ("messages", "Messages"),
    ("timeouts", "Timeouts"),
    ("clients", "Clients"),
    ("channels", "Channels"),
    ("log", "Log size"),
];

pub(in crate::admin) async fn page(
    State(admin): State<Arc<Admin>>,
    caller: Caller,
    headers: HeaderMap,
    Parameters(query): Parameters,
) -> Response {
    let reader = Reader::of(caller, &headers);
    let picture = picture(&admin).await;
    let wanted = Wanted::of(&query);
    let names = picture.topics.iter().map(|(name, topic)| (name.as_str(), topic));
    let (rows, found) = wanted.cut(names, |topic: &&TopicRow| &topic.row.figures);
    let nodes = picture.nodes.len();
    let up = picture.nodes.iter().filter(|node| node.trouble().is_none()).count();
    let content = html! {
        div.title {
            h1 { "Topics" }
            p.sum {
                (picture.topics.len()) " topics on "
                a href=(admin.path("/nodes")) class=[(up < nodes).then_some("bad")] {
                    (up) " of " (nodes) " nodes"
                }
            }
        }
        (tiles(&picture.totals.figures, &[
            ("backlog", "Backlog"), ("rate", "Messages/s"), ("in_flight", "In flight"),
            ("deferred", "Deferred"), ("timeout_rate", "Timeouts/s"), ("clients", "Clients"),
        ]))
        div.tools {
            (wanted.field("Find topics"))
            (wanted.pager(rows.len(), found))
        }
        @if picture.topics.is_empty() {
            p.hint { "There are no topics. " a href=(admin.path("/lookup")) { "Create one" } "." }
        } @else {
            @let log = picture.totals.figures.log_bytes.is_some();
            (table(&admin, &wanted, &rows, &COLUMNS[..COLUMNS.len() - usize::from(!log)]))
            (wanted.pager(rows.len(), found))
        }
    };
    let page = Page {
        title: "Topics",
        section: Section::Topics,
        live: Some((View::Topics, &picture)),
        warnings: &picture.warnings,
        content,
    };
    document(&admin, &reader, &page)
}

fn table(
    admin: &Admin,
    wanted: &Wanted,
    rows: &[(&str, &TopicRow)],
    columns: &[(&str, &str)],
) -> Markup {
    let names: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
    html! {
        div.scroll tabindex="0" role="region" aria-label="Topics" {
            table.list {
                thead {
                    tr {
                        (wanted.head("name", "Topic"))
                        @for (name, label) in columns { (wanted.head(name, label)) }
                    }
                }
                tbody {
                    @for (name, topic) in rows {
                        @let figures = &topic.row.figures;
                        tr data-k={ "t:" (name) } .is-paused[figures.paused] {
                            th scope="row" {
                                a href=(admin.topic_path(name)) { (name) }
                                (badges(name, topic.durability.as_deref()))
                            }
                            (cells(figures, &names))
                        }
                    }
                }
            }
        }
    }
}
