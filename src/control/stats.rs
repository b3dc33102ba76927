//! Statistics: gathers every shard's pages, and shows them on `/stats` as JSON or text, on
//! `/metrics` to Prometheus, and to statsd.

mod json;
mod memory;
pub(super) mod prometheus;
mod snapshot;
pub(super) mod statsd;
mod text;

use super::entities::Parameters;
use super::query::Query;
use super::response::{Fault, INTERNAL_ERROR, Reply};
use super::shards::Unavailable;
use super::state::Control;
use axum::extract::State;
use std::sync::Arc;
use tokio::task::spawn_blocking;

pub(super) async fn stats(
    State(control): State<Arc<Control>>,
    Parameters(query): Parameters,
) -> Result<Reply, Fault> {
    let switch = |name| query.value(name).and_then(Query::switch).unwrap_or(true);
    let filter = |name| query.value(name).filter(|value| !value.is_empty());
    let wanted = snapshot::Wanted {
        topic: filter("topic"),
        channel: filter("channel"),
        clients: switch("include_clients"),
    };
    let _turn = control.stats_turns.acquire().await.expect("the semaphore is never closed");
    let snapshot = snapshot::take(&control.shards, &wanted).await.map_err(|Unavailable| {
        tracing::error!("/stats: a shard does not answer");
        INTERNAL_ERROR
    })?;
    let memory = switch("include_mem").then(memory::Memory::measure);
    let moment = Moment {
        health: control.health.text(),
        started_at: control.started_at,
        now: jiff::Timestamp::now(),
        uptime: control.started.elapsed(),
    };
    let as_json = query.value("format") == Some(b"json");
    // Ten thousand topics take tens of milliseconds, in which others want to be answered.
    let rendered = spawn_blocking(move || {
        if as_json {
            json::render(&snapshot, memory, &moment)
        } else {
            Reply::Text(text::render(&snapshot, memory, &moment))
        }
    });
    Ok(rendered.await.expect("a panic of a thread ends the process"))
}

/// The times that a page of statistics shows.
struct Moment {
    health: String,
    started_at: jiff::Timestamp,
    now: jiff::Timestamp,
    uptime: std::time::Duration,
}
