//! The nsqlookupds: which there are, what they list that no nsqd has, and making topics.

use super::frame::{Page, Reader, Section, document};
use super::parts::Action;
use super::segment;
use crate::admin::access::Caller;
use crate::admin::api;
use crate::admin::refusal::Refusal;
use crate::admin::state::Admin;
use crate::limits::{ADMIN_PAGE_ROWS_MAX, ADMIN_POLL_PATIENCE};
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use maud::{Markup, html};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::task::JoinSet;

type Inactive = BTreeMap<String, Option<Vec<String>>>;

pub(in crate::admin) async fn page(
    State(admin): State<Arc<Admin>>,
    caller: Caller,
    headers: HeaderMap,
) -> Response {
    let reader = Reader::of(caller, &headers);
    let lookupds = admin.lookupds();
    let mut warnings = Vec::new();
    let (states, inactive) = tokio::join!(states(&admin, &lookupds), inactive(&admin));
    let (inactive, missing) = inactive;
    warnings.extend(missing);
    let content = html! {
        div.title { h1 { "Lookup" } }
        @if lookupds.is_empty() {
            p.hint { "nsqadmin asks nsqds directly: there is no nsqlookupd to look at." }
        } @else {
            section { h2 { "nsqlookupd" } (list(&states)) }
            @if reader.may_operate() { (create(&admin)) }
            (gone(&admin, &reader, &inactive))
        }
    };
    let page = Page {
        title: "Lookup",
        section: Section::Lookup,
        live: None,
        warnings: &warnings,
        content,
    };
    document(&admin, &reader, &page)
}

/// Version or trouble of each, as they answer.
async fn states(admin: &Admin, lookupds: &[String]) -> Vec<(String, Result<String, String>)> {
    #[derive(Deserialize)]
    struct Description {
        version: String,
    }
    let mut asked = JoinSet::new();
    for lookupd in lookupds.iter().cloned() {
        let hasty = admin.cluster.hasty(ADMIN_POLL_PATIENCE);
        asked.spawn(async move {
            let answer = hasty.get::<Description>(&lookupd, "/info").await;
            (lookupd, answer.map(|description| description.version))
        });
    }
    let mut states = asked.join_all().await;
    states.sort_by_key(|(known, _)| lookupds.iter().position(|lookupd| lookupd == known));
    states
}

async fn inactive(admin: &Admin) -> (Inactive, Vec<String>) {
    let mut warnings = Vec::new();
    let cluster = admin.cluster.hasty(ADMIN_POLL_PATIENCE);
    match api::inactive(&cluster, &admin.sources(), &mut warnings).await {
        Ok(inactive) => (inactive, warnings),
        Err(Refusal::Text(_, text)) => (Inactive::new(), vec![text]),
        Err(Refusal::Fault(_)) => (Inactive::new(), warnings),
    }
}

fn list(states: &[(String, Result<String, String>)]) -> Markup {
    html! {
        div.scroll {
            table.list {
                thead {
                    tr {
                        th scope="col" { "Address" } th scope="col" { "State" }
                        th scope="col" { "Version" }
                    }
                }
                tbody {
                    @for (lookupd, state) in states {
                        tr {
                            th scope="row" { (lookupd) }
                            @match state {
                                Ok(version) => {
                                    td { span.badge.good { "ok" } } td { (version) }
                                },
                                Err(fault) => {
                                    td {
                                        span.badge.bad { "no answer" }
                                        p.bad { (fault) }
                                    }
                                    td {}
                                },
                            }
                        }
                    }
                }
            }
        }
    }
}

fn create(admin: &Admin) -> Markup {
    html! {
        section {
            h2 { "Create a topic or channel" }
            form #create action=(admin.path("/api/topics")) {
                div.field {
                    label for="new-topic" { "Topic" }
                    input #new-topic name="topic" required maxlength="64" autocomplete="off"
                        spellcheck="false" pattern="[.a-zA-Z0-9_\\-]+(#ephemeral)?";
                }
                div.field {
                    label for="new-channel" { "Channel " span.muted { "if wanted" } }
                    input #new-channel name="channel" maxlength="64" autocomplete="off"
                        spellcheck="false" pattern="[.a-zA-Z0-9_\\-]+(#ephemeral)?";
                }
                button type="submit" { "Create" }
            }
            p.hint {
                "nsqlookupd will list it; nsqds that have the topic create the channel at once, "
                "others with the topic's first message."
            }
        }
    }
}

fn gone(admin: &Admin, reader: &Reader, inactive: &Inactive) -> Markup {
    let api = |path: String| admin.path(&format!("/api/topics/{path}"));
    let action = |title: String, url| Action {
        label: "Delete",
        method: "DELETE",
        url,
        body: String::new(),
        title,
        text: "nsqlookupd forgets it. No nsqd has messages of it.".to_owned(),
        is_dangerous: true,
        count_url: None,
        typed: None,
        then: None,
    };
    html! {
        section {
            h2 { "Topics without an nsqd " span.count { (inactive.len()) } }
            @if inactive.is_empty() { p.hint { "None: an nsqd has every topic listed." } }
            ul.tree {
                @for (topic, channels) in inactive.iter().take(ADMIN_PAGE_ROWS_MAX) {
                    li {
                        a href=(admin.topic_path(topic)) { (topic) }
                        @if reader.may_operate() {
                            (action(format!("Delete topic {topic}?"), api(segment(topic))).button())
                        }
                        ul {
                            @for channel in channels.iter().flatten() {
                                @let path = format!("{}/{}", segment(topic), segment(channel));
                                @let title = format!("Delete channel {channel} of {topic}?");
                                li {
                                    (channel)
                                    @if reader.may_operate() {
                                        (action(title, api(path)).button())
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}
