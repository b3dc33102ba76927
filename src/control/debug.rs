//! `/debug/*`: what there is of Go's debugging endpoints. Where nsqd has a profiler of its
//! runtime, this says what does the same for this daemon.

use super::response::{Fault, Reply};
use super::state::Control;
use super::{entities::Parameters, query::Query};
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use std::sync::Arc;

const TEXT: &str = "text/plain; charset=utf-8";

/// Profiles of Go's runtime. A profiler in the process would interrupt the shards' threads by
/// signals, in whatever they are at; one outside does not.
pub(super) async fn profile() -> Fault {
    Fault(
        StatusCode::NOT_IMPLEMENTED,
        "NO_PROFILER: use perf record -g -p PID, perf trace -p PID; memory and the state of shards \
         are in /metrics",
    )
}

/// The command line, a zero byte between its words.
pub(super) async fn command_line() -> Response {
    let words: Vec<_> = std::env::args_os().collect();
    let words: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
    ([(CONTENT_TYPE, TEXT)], words.join("\0")).into_response()
}

/// Memory that is free goes back to the system.
pub(super) async fn free_memory(State(control): State<Arc<Control>>) -> Reply {
    let free_memory = control.free_memory;
    // It walks through all free memory, and may take some time.
    let freed = tokio::task::spawn_blocking(free_memory).await;
    freed.expect("a panic of a thread ends the process");
    Reply::Empty
}

/// There is no profile of blocking; a rate that is none is told so, as by nsqd.
pub(super) async fn set_block_rate(Parameters(query): Parameters) -> Response {
    match block_rate(&query) {
        Ok(_) => profile().await.into_response(),
        Err(text) => (StatusCode::BAD_REQUEST, [(CONTENT_TYPE, TEXT)], text).into_response(),
    }
}

fn block_rate(query: &Query) -> Result<i64, String> {
    let text = String::from_utf8_lossy(query.value("rate").unwrap_or_default());
    text.parse()
        .map_err(|_| format!("invalid block rate : strconv.Atoi: parsing {text:?}: invalid syntax"))
}
