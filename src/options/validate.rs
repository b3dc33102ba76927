//! What makes a set of options unfit to run, and which options have no effect.

use super::{Exit, ListenAddress, Options, TlsRequired, read_roots, server_tls};
use crate::limits::{LOOKUPS_MAX, SHARDS_MAX};
use serde_json::Value;
use std::time::Duration;

/// Options that are accepted, so that NSQ's command lines and files work, and change nothing.
pub(super) const WITHOUT_EFFECT: [(&str, &str); 2] =
    [("queue_scan_selection_count", NO_SCAN), ("queue_scan_worker_pool_max", NO_SCAN)];

const NO_SCAN: &str = "timeouts are kept in order and need no scanning";

/// Checks the options, in NSQ's order of evaluation, and completes them.
pub(super) fn validate(mut options: Options) -> Result<Options, Exit> {
    options.e2e_processing_latency_percentiles.sort_by(|a, b| b.total_cmp(a));
    if !options.tls_client_auth_policy.is_empty() && options.tls_required == TlsRequired::No {
        options.tls_required = TlsRequired::Yes;
    }
    check(&options).map_err(|reason| Exit::instantiate(&reason))?;
    options.warnings = warnings(&options);
    Ok(options)
}

fn check(options: &Options) -> Result<(), String> {
    require((1..=9).contains(&options.max_deflate_level), "--max-deflate-level must be [1,9]")?;
    require((0..1024).contains(&options.id), "--node-id must be [0,1024)")?;
    check_security(options)?;
    let method = options.auth_http_request_method.as_str();
    let known = matches!(method, "get" | "post");
    require(known, "--auth-http-request-method must be post or get")?;
    for percentile in &options.e2e_processing_latency_percentiles {
        if !(*percentile > 0.0 && *percentile <= 1.0) {
            return Err(format!("invalid E2E processing latency percentile: {percentile}"));
        }
    }
    check_numbers(options)?;
    let few = options.nsqlookupd_tcp_addresses.len() <= LOOKUPS_MAX;
    require(few, &format!("--lookupd-tcp-address can be given {LOOKUPS_MAX} times at most"))?;
    for address in [&options.tcp_address, &options.http_address] {
        ListenAddress::parse(address)
            .map_err(|reason| format!("listen ({address}) failed - {reason}"))?;
    }
    Ok(())
}

/// Running without the protection that was asked for would be worse than not running.
fn check_security(options: &Options) -> Result<(), String> {
    let tls = server_tls(options);
    let tls = tls.map_err(|reason| format!("failed to build TLS config - {reason}"))?;
    require(
        tls.is_some() || options.tls_required == TlsRequired::No,
        "cannot require TLS client connections without TLS key and cert",
    )?;
    if !options.tls_root_ca_file.is_empty() {
        read_roots(&options.tls_root_ca_file)
            .map_err(|reason| format!("failed to build client TLS config - {reason}"))?;
    }
    Ok(())
}

fn check_numbers(options: &Options) -> Result<(), String> {
    let shards = (1..=SHARDS_MAX).contains(&options.shards);
    require(shards, &format!("--shards must be [1,{SHARDS_MAX}]"))?;
    // NSQ's integers are 32 bits wide on the wire.
    let wire = 1..=i32::MAX as usize;
    require(wire.contains(&options.max_msg_size), "--max-msg-size must be [1,2147483647]")?;
    require(wire.contains(&options.max_body_size), "--max-body-size must be [1,2147483647]")?;
    require(!options.output_buffer_timeout.is_zero(), "--output-buffer-timeout must be positive")?;
    require(!options.msg_timeout.is_zero(), "--msg-timeout must be positive")?;
    require(options.max_bytes_per_file > 0, "--max-bytes-per-file must be positive")?;
    require(!options.sync_timeout.is_zero(), "--sync-timeout must be positive")?;
    require(
        !options.e2e_processing_latency_window_time.is_zero(),
        "--e2e-processing-latency-window-time must be positive",
    )?;
    require(options.memory_budget > 0, "--memory-budget must be positive")?;
    if !options.statsd_address.is_empty() {
        let interval = options.statsd_interval > Duration::from_secs(1);
        require(interval, "--statsd-interval must be more than 1s")?;
        require(options.statsd_udp_packet_size > 0, "--statsd-udp-packet-size must be positive")?;
    }
    Ok(())
}

fn require(holds: bool, otherwise: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(otherwise.to_owned()) }
}

/// One line for each option that differs from its default and has no effect.
fn warnings(options: &Options) -> Vec<String> {
    let (given, defaults) = (by_name(options), by_name(&Options::default()));
    let mut warnings: Vec<String> = WITHOUT_EFFECT
        .iter()
        .filter(|(name, _)| given.get(*name) != defaults.get(*name))
        .map(|(name, reason)| format!("option {name} has no effect: {reason}"))
        .collect();
    for (given, flag, instead) in [
        (options.verbose, "--verbose", "--log-level"),
        (options.worker_id, "--worker-id", "--node-id"),
    ] {
        if given {
            warnings.push(format!("{flag} has no effect: use {instead}"));
        }
    }
    warnings
}

/// The options as `/config` names them, with the values it answers.
pub fn by_name(options: &Options) -> Value {
    serde_json::to_value(options).expect("options are numbers, strings and lists of them")
}
