//! `/config/<name>`: reads any option, changes the few that can change while running.

use super::access::Caller;
use super::refusal::{FORBIDDEN, Refusal};
use super::state::Admin;
use crate::http::body;
use crate::http::connections::Peer;
use crate::http::response::{Fault, INTERNAL_ERROR, Reply};
use crate::limits::{ADMIN_BODY_BYTES_MAX, LOOKUPS_MAX};
use crate::log::LogLevel;
use axum::body::Body;
use axum::extract::{Extension, Path, State};
use axum::http::StatusCode;
use serde_json::Value;
use std::net::SocketAddr;
use std::sync::Arc;

const INVALID_REMOTE_ADDR: Fault = Fault(StatusCode::BAD_REQUEST, "INVALID_REMOTE_ADDR");
const INVALID_OPTION: Fault = Fault(StatusCode::BAD_REQUEST, "INVALID_OPTION");
const INVALID_VALUE: Fault = Fault(StatusCode::BAD_REQUEST, "INVALID_VALUE");
const VALUE_TOO_BIG: Fault = Fault(StatusCode::PAYLOAD_TOO_LARGE, "INVALID_VALUE");

pub(super) async fn read(
    State(admin): State<Arc<Admin>>,
    Extension(peer): Extension<Peer>,
    Path(name): Path<String>,
) -> Result<Reply, Refusal> {
    allow(&admin, &peer)?;
    Ok(value_of(&admin, &name)?)
}

pub(super) async fn change(
    State(admin): State<Arc<Admin>>,
    Extension(peer): Extension<Peer>,
    caller: Caller,
    Path(name): Path<String>,
    body: Body,
) -> Result<Reply, Refusal> {
    allow(&admin, &peer)?;
    // NSQ asks for the address alone; who has signed in needs the role as well.
    if !caller.may_configure() {
        return Err(FORBIDDEN.into());
    }
    let value = body::read(body, ADMIN_BODY_BYTES_MAX).await.map_err(|fault| match fault {
        body::BodyFault::TooBig => VALUE_TOO_BIG,
        body::BodyFault::Broken => INTERNAL_ERROR,
    })?;
    if value.is_empty() {
        return Err(VALUE_TOO_BIG.into());
    }
    match name.as_str() {
        "log_level" => {
            let level = std::str::from_utf8(&value).ok().and_then(LogLevel::parse);
            let level = level.ok_or(INVALID_VALUE)?;
            admin.options.send_modify(|options| options.log_level = level);
            admin.log_filter.set(level);
        }
        "nsqlookupd_http_addresses" => {
            let addresses: Option<Vec<String>> =
                serde_json::from_slice(&value).map_err(|_| INVALID_VALUE)?;
            let addresses = addresses.unwrap_or_default();
            if addresses.len() > LOOKUPS_MAX {
                return Err(INVALID_VALUE.into());
            }
            admin.options.send_modify(|options| options.nsqlookupd_http_addresses = addresses);
        }
        _ => return Err(INVALID_OPTION.into()),
    }
    Ok(value_of(&admin, &name)?)
}

/// Only addresses of `--allow-config-from-cidr`, and only the address of the socket counts.
fn allow(admin: &Admin, peer: &Peer) -> Result<(), Fault> {
    let Some(network) = &admin.config_network else { return Ok(()) };
    let address: SocketAddr = peer.0.parse().map_err(|_| {
        tracing::error!("failed to parse RemoteAddr {}", peer.0);
        INVALID_REMOTE_ADDR
    })?;
    if network.contains(&address.ip()) { Ok(()) } else { Err(FORBIDDEN) }
}

/// Text as it is, everything else as JSON.
fn value_of(admin: &Admin, name: &str) -> Result<Reply, Fault> {
    match admin.options.borrow().by_name().get(name) {
        Some(Value::String(text)) => Ok(Reply::Text(text.clone())),
        Some(value) => Ok(Reply::json(value)),
        None => Err(INVALID_OPTION),
    }
}
