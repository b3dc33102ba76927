//! `/config/<name>`: reads any option, changes the few that can change while running.

use super::body;
use super::response::{Fault, INTERNAL_ERROR, Reply};
use super::state::Control;
use crate::limits::LOOKUPS_MAX;
use crate::log::LogLevel;
use crate::options;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use serde_json::Value;
use std::sync::Arc;

const INVALID_OPTION: Fault = Fault(StatusCode::BAD_REQUEST, "INVALID_OPTION");
const INVALID_VALUE: Fault = Fault(StatusCode::BAD_REQUEST, "INVALID_VALUE");
const VALUE_TOO_BIG: Fault = Fault(StatusCode::PAYLOAD_TOO_LARGE, "INVALID_VALUE");

pub(super) async fn read(
    State(control): State<Arc<Control>>,
    Path(name): Path<String>,
) -> Result<Reply, Fault> {
    value_of(&control, &name)
}

pub(super) async fn change(
    State(control): State<Arc<Control>>,
    Path(name): Path<String>,
    request: Request,
) -> Result<Reply, Fault> {
    let bytes_max = control.options.borrow().max_msg_size;
    let body = request.into_body();
    if body::announced_bytes(&body).is_some_and(|bytes| bytes > bytes_max as u64) {
        body::discard(body).await;
        return Err(VALUE_TOO_BIG);
    }
    let announced = body::announced_bytes(&body).and_then(|bytes| usize::try_from(bytes).ok());
    let _memory = control.body_memory(announced.unwrap_or(bytes_max)).await;
    let value = body::read(body, bytes_max).await.map_err(|fault| match fault {
        body::BodyFault::TooBig => VALUE_TOO_BIG,
        body::BodyFault::Broken => INTERNAL_ERROR,
    })?;
    if value.is_empty() {
        return Err(VALUE_TOO_BIG);
    }
    match name.as_str() {
        "log_level" => {
            let level = std::str::from_utf8(&value).ok().and_then(LogLevel::parse);
            let level = level.ok_or(INVALID_VALUE)?;
            control.options.send_modify(|options| options.log_level = level);
            if let Some(filter) = &control.log_filter {
                filter.set(level);
            }
        }
        "nsqlookupd_tcp_addresses" => {
            let addresses: Option<Vec<String>> =
                serde_json::from_slice(&value).map_err(|_| INVALID_VALUE)?;
            let addresses = addresses.unwrap_or_default();
            if addresses.len() > LOOKUPS_MAX {
                return Err(INVALID_VALUE);
            }
            control.options.send_modify(|options| options.nsqlookupd_tcp_addresses = addresses);
        }
        _ => return Err(INVALID_OPTION),
    }
    value_of(&control, &name)
}

/// Text as it is, everything else as JSON.
fn value_of(control: &Control, name: &str) -> Result<Reply, Fault> {
    let options = options::by_name(&control.options.borrow());
    match options.get(name) {
        Some(Value::String(text)) => Ok(Reply::Text(text.clone())),
        Some(value) => Ok(Reply::json(value)),
        None => Err(INVALID_OPTION),
    }
}
