//! The table of flags: name, type, default and help, once each.
//!
//! A field's name is its key in the configuration file and in `/config/:opt`; its flag has the
//! same name with dashes, unless `long` says otherwise.

use super::declared::Declared;
use super::defaults;
use super::value::{
    IoDriver, TlsRequired, TlsVersion, as_nanoseconds, boolean, integer, io_driver, log_format,
    log_level, percentile, time, tls_min_version, tls_required,
};
use crate::broker::durability::Durability;
use crate::limits::READY_COUNT_MAX_DEFAULT;
use crate::limits::{BODY_BYTES_MAX_DEFAULT, MEM_QUEUE_SIZE_DEFAULT, MESSAGE_BYTES_MAX_DEFAULT};
use crate::log::{LogFormat, LogLevel};
use clap::ArgAction::Set;
use serde::Serialize;
use std::time::Duration;

/// Where `-help` shows the flags that nsqd does not have.
pub(super) const OURS: &str = "Flags that nsqd does not have";

/// What the daemon was told, checked.
#[derive(Debug, Clone, PartialEq, clap::Parser, Serialize)]
#[command(name = "nsqd", args_override_self = true)]
#[command(disable_help_flag = true, disable_version_flag = true)]
pub struct Options {
    /// file with options in TOML; flags given here win over it
    #[arg(long, default_value = "")]
    #[serde(skip)]
    pub config: String,
    /// print the version and exit
    #[arg(long, action = Set, default_value = "false", value_parser = boolean)]
    #[serde(skip)]
    pub version: bool,
    /// least severe lines to log: debug, info, warn, error or fatal
    #[arg(long, default_value = "info", value_parser = log_level)]
    pub log_level: LogLevel,
    /// text at the start of each log line
    #[arg(long, default_value = "[nsqd] ")]
    pub log_prefix: String,
    /// form of log lines: text, or json for one object per line
    #[arg(long, default_value = "text", value_parser = log_format)]
    #[arg(help_heading = OURS)]
    pub log_format: LogFormat,
    /// has no effect any more (use --log-level)
    #[arg(long, action = Set, default_value = "false", value_parser = boolean)]
    #[serde(skip)]
    pub verbose: bool,
    /// this node's part of message ids, 0 to 1023 (default: from the host name)
    #[arg(long = "node-id", default_value_t = defaults::node_id(&defaults::hostname()))]
    #[arg(value_parser = integer::<i64>)]
    pub id: i64,
    /// has no effect any more (use --node-id)
    #[arg(long, action = Set, default_value = "false", value_parser = boolean)]
    #[serde(skip)]
    pub worker_id: bool,

    /// threads that serve clients and own topics, one per core (default: the cores available)
    #[arg(long, default_value_t = defaults::shards(), value_parser = integer::<usize>)]
    #[arg(help_heading = OURS)]
    pub shards: usize,
    /// how long consumers may go on with what there is at SIGTERM, while publishes are refused; 0
    /// to stop at once
    #[arg(long, default_value = "0s", value_parser = time)]
    #[arg(help_heading = OURS)]
    #[serde(serialize_with = "as_nanoseconds")]
    pub drain_timeout: Duration,
    /// what moves bytes: auto or uring
    #[arg(long, default_value = "auto", value_parser = io_driver)]
    #[arg(help_heading = OURS)]
    pub io: IoDriver,
    /// bytes of messages the whole daemon keeps in memory (default: half of what is available)
    #[arg(long, default_value_t = defaults::memory_budget(), value_parser = integer::<u64>)]
    #[arg(help_heading = OURS)]
    pub memory_budget: u64,

    /// where clients connect: host:port, or the path of a unix socket
    #[arg(long, default_value = "0.0.0.0:4150")]
    pub tcp_address: String,
    /// where the HTTP API listens: host:port, the path of a unix socket, or empty for nowhere
    #[arg(long, default_value = "0.0.0.0:4151")]
    pub http_address: String,
    /// where the HTTPS API listens, once there is a certificate
    #[arg(long, default_value = "0.0.0.0:4152")]
    pub https_address: String,
    /// file with tokens that HTTP requests must bring: lines of a role (read, publish, admin) and a
    /// token
    #[arg(long, default_value = "")]
    #[arg(help_heading = OURS)]
    pub http_token_file: String,
    /// address that lookups hand out for this node (default: the host name)
    #[arg(long, default_value_t = defaults::hostname())]
    pub broadcast_address: String,
    /// TCP port that lookups hand out (default: the port listened on)
    #[arg(long, default_value_t = 0, value_parser = integer::<u16>)]
    pub broadcast_tcp_port: u16,
    /// HTTP port that lookups hand out (default: the port listened on)
    #[arg(long, default_value_t = 0, value_parser = integer::<u16>)]
    pub broadcast_http_port: u16,
    /// nsqlookupd to register with, host:port; repeatable
    #[arg(long = "lookupd-tcp-address")]
    pub nsqlookupd_tcp_addresses: Vec<String>,
    /// auth server, host:port or URL; repeatable
    #[arg(long = "auth-http-address")]
    pub auth_http_addresses: Vec<String>,
    /// HTTP method for the auth server: get or post
    #[arg(long, default_value = "get")]
    pub auth_http_request_method: String,
    /// how long a connection to another HTTP server may take to open
    #[arg(long, default_value = "2s", value_parser = time)]
    #[serde(serialize_with = "as_nanoseconds")]
    pub http_client_connect_timeout: Duration,
    /// how long a request to another HTTP server may take
    #[arg(long, default_value = "5s", value_parser = time)]
    #[serde(serialize_with = "as_nanoseconds")]
    pub http_client_request_timeout: Duration,
    /// the region this node is in
    #[arg(long, default_value = "")]
    pub topology_region: String,
    /// the zone of that region this node is in
    #[arg(long, default_value = "")]
    pub topology_zone: String,

    /// directory for what survives a restart; it must exist (default the working directory)
    #[arg(long, default_value = "")]
    pub data_path: String,
    /// messages kept in memory, for each topic and for each channel
    #[arg(long, default_value_t = MEM_QUEUE_SIZE_DEFAULT, value_parser = integer::<usize>)]
    pub mem_queue_size: usize,
    /// what OK means for a topic that was not created with another: memory, overflow, logged or
    /// synced
    #[arg(long, default_value_t = Durability::Overflow)]
    pub durability: Durability,
    /// size of a file on disk in bytes, from which on the next one is begun
    #[arg(long, default_value_t = 104_857_600, value_parser = integer::<u64>)]
    pub max_bytes_per_file: u64,
    /// messages written between two syncs of the disk
    #[arg(long, default_value_t = 2500, value_parser = integer::<u64>)]
    pub sync_every: u64,
    /// longest time between two syncs of the disk
    #[arg(long, default_value = "2s", value_parser = time)]
    #[serde(serialize_with = "as_nanoseconds")]
    pub sync_timeout: Duration,
    /// channels looked at for timeouts in one round
    #[arg(long, default_value_t = 20, value_parser = integer::<usize>)]
    pub queue_scan_selection_count: usize,
    /// workers that look for timeouts
    #[arg(long, default_value_t = 4, value_parser = integer::<usize>)]
    pub queue_scan_worker_pool_max: usize,

    /// time a consumer has for a message, unless it asks for another
    #[arg(long, default_value = "1m", value_parser = time)]
    #[serde(serialize_with = "as_nanoseconds")]
    pub msg_timeout: Duration,
    /// longest time a consumer can have for a message
    #[arg(long, default_value = "15m", value_parser = time)]
    #[serde(serialize_with = "as_nanoseconds")]
    pub max_msg_timeout: Duration,
    /// largest message in bytes
    #[arg(long, default_value_t = MESSAGE_BYTES_MAX_DEFAULT, value_parser = integer::<usize>)]
    pub max_msg_size: usize,
    /// longest deferral of a message
    #[arg(long, default_value = "1h", value_parser = time)]
    #[serde(serialize_with = "as_nanoseconds")]
    pub max_req_timeout: Duration,
    /// largest body of a command in bytes
    #[arg(long, default_value_t = BODY_BYTES_MAX_DEFAULT, value_parser = integer::<usize>)]
    pub max_body_size: usize,
    /// longest time between heartbeats a client can ask for
    #[arg(long, default_value = "1m", value_parser = time)]
    #[serde(serialize_with = "as_nanoseconds")]
    pub max_heartbeat_interval: Duration,
    /// largest RDY count
    #[arg(long, default_value_t = READY_COUNT_MAX_DEFAULT, value_parser = integer::<u64>)]
    pub max_rdy_count: u64,
    /// largest output buffer in bytes a client can ask for
    #[arg(long, default_value_t = 65536, value_parser = integer::<usize>)]
    pub max_output_buffer_size: usize,
    /// longest time between flushes a client can ask for
    #[arg(long, default_value = "30s", value_parser = time)]
    #[serde(serialize_with = "as_nanoseconds")]
    pub max_output_buffer_timeout: Duration,
    /// shortest time between flushes a client can ask for
    #[arg(long, default_value = "25ms", value_parser = time)]
    #[serde(serialize_with = "as_nanoseconds")]
    pub min_output_buffer_timeout: Duration,
    /// longest time between flushes, unless a client asks for another
    #[arg(long, default_value = "250ms", value_parser = time)]
    #[serde(serialize_with = "as_nanoseconds")]
    pub output_buffer_timeout: Duration,
    /// consumers a channel can have, 0 for any number
    #[arg(long, default_value_t = 0, value_parser = integer::<usize>)]
    pub max_channel_consumers: usize,

    /// statsd server, host:port
    #[arg(long, default_value = "")]
    pub statsd_address: String,
    /// time between pushes to statsd
    #[arg(long, default_value = "1m", value_parser = time)]
    #[serde(serialize_with = "as_nanoseconds")]
    pub statsd_interval: Duration,
    /// push memory figures to statsd
    #[arg(long, action = Set, default_value = "true", value_parser = boolean)]
    pub statsd_mem_stats: bool,
    /// start of statsd keys; %s stands for this host
    #[arg(long, default_value = "nsq.%s")]
    pub statsd_prefix: String,
    /// largest datagram to statsd in bytes
    #[arg(long, default_value_t = 508, value_parser = integer::<usize>)]
    pub statsd_udp_packet_size: usize,
    /// leave ephemeral topics and channels out of statsd
    #[arg(long, action = Set, default_value = "false", value_parser = boolean)]
    pub statsd_exclude_ephemeral: bool,
    /// percentiles of processing time to report, above 0 and up to 1; repeatable, or with commas
    #[arg(long = "e2e-processing-latency-percentile", value_delimiter = ',')]
    #[arg(value_parser = percentile)]
    pub e2e_processing_latency_percentiles: Vec<f64>,
    /// the time those percentiles look back over
    #[arg(long, default_value = "10m", value_parser = time)]
    #[serde(serialize_with = "as_nanoseconds")]
    pub e2e_processing_latency_window_time: Duration,

    /// certificate file (PEM)
    #[arg(long, default_value = "")]
    pub tls_cert: String,
    /// file with the certificate's key (PEM)
    #[arg(long, default_value = "")]
    pub tls_key: String,
    /// certificates asked of clients: require or require-verify
    #[arg(long, default_value = "")]
    pub tls_client_auth_policy: String,
    /// file with the authorities client certificates are checked against (PEM)
    #[arg(long, default_value = "")]
    pub tls_root_ca_file: String,
    /// require TLS of clients: true, false, or tcp-https to leave plain HTTP open
    #[arg(long, default_value = "false", value_parser = tls_required)]
    pub tls_required: TlsRequired,
    /// lowest TLS version to accept: tls1.0, tls1.1, tls1.2 or tls1.3
    #[arg(long, default_value = "tls1.0", value_parser = tls_min_version)]
    pub tls_min_version: TlsVersion,

    /// let clients ask for deflate
    #[arg(long, action = Set, default_value = "true", value_parser = boolean)]
    pub deflate: bool,
    /// highest deflate level a client can ask for, 1 to 9
    #[arg(long, default_value_t = 6, value_parser = integer::<i64>)]
    pub max_deflate_level: i64,
    /// let clients ask for snappy
    #[arg(long, action = Set, default_value = "true", value_parser = boolean)]
    pub snappy: bool,
    /// experimental feature to turn on, such as topology-aware-consumption; repeatable
    #[arg(long)]
    pub enable_experiment: Vec<String>,

    /// topics and policies of the configuration file
    #[arg(skip)]
    #[serde(skip)]
    pub declared: Declared,
    /// what to warn of once logging has begun: options that have no effect
    #[arg(skip)]
    #[serde(skip)]
    pub warnings: Vec<String>,
}
