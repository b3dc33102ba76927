//! `/ping` and `/info`: the daemon itself.

use super::response::Reply;
use super::state::Control;
use crate::options::{Options, VERSION};
use axum::extract::State;
use serde::Serialize;
use std::sync::Arc;

/// `/info`, keys in NSQ's order; times in nanoseconds.
#[derive(Serialize)]
struct Description<'a> {
    version: &'static str,
    broadcast_address: &'a str,
    hostname: &'a str,
    http_port: i32,
    tcp_port: i32,
    start_time: i64,
    max_heartbeat_interval: u128,
    max_output_buffer_size: usize,
    max_output_buffer_timeout: u128,
    max_deflate_level: i64,
    topology_zone: &'a str,
    topology_region: &'a str,
}

pub(super) async fn ping(State(control): State<Arc<Control>>) -> Reply {
    let health = control.health.text();
    if health == "OK" { Reply::Plain("OK") } else { Reply::Ill(health) }
}

pub(super) async fn describe(State(control): State<Arc<Control>>) -> Reply {
    let options = control.options.borrow();
    let options: &Options = &options;
    Reply::json(&Description {
        version: VERSION,
        broadcast_address: &options.broadcast_address,
        hostname: &crate::options::hostname(),
        http_port: control.ports.http,
        tcp_port: control.ports.tcp,
        start_time: control.started_at.as_second(),
        max_heartbeat_interval: options.max_heartbeat_interval.as_nanos(),
        max_output_buffer_size: options.max_output_buffer_size,
        max_output_buffer_timeout: options.max_output_buffer_timeout.as_nanos(),
        max_deflate_level: options.max_deflate_level,
        topology_zone: &options.topology_zone,
        topology_region: &options.topology_region,
    })
}
