//! From options to what a shard is told.

use crate::broker::Features;
use crate::broker::admin::ShardIndex;
use crate::broker::eligible::Proximity;
use crate::broker::latency::LatencyConfig;
use crate::broker::session::Negotiated;
use crate::broker::shard::ShardConfig;
use crate::broker::time::Span;
use crate::limits::{
    HEARTBEAT_INTERVAL_DEFAULT, LOG_SEGMENT_SPARE_BYTES, OUTPUT_BUFFER_BYTES_DEFAULT,
    UPGRADE_TIME_MAX,
};
use crate::options::{Options, TlsRequired, VERSION};
use crate::protocol::identify::IdentifyLimits;
use ringmain_storage::buffer::BLOCK_BYTES;
use ringmain_storage::log::LogOptions;
use ringmain_storage::segment::SEGMENT_BYTES_MAX;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// The experiment of NSQ that looks at the topology of clients; other names are ignored, as there.
const TOPOLOGY_AWARE: &str = "topology-aware-consumption";

/// The configuration of one shard of `options.shards`.
pub(super) fn shard_config(options: &Options, index: usize) -> ShardConfig {
    let shards = u16::try_from(options.shards).expect("at most SHARDS_MAX shards");
    let budget = options.memory_budget / u64::from(shards);
    ShardConfig {
        index: ShardIndex(u16::try_from(index).expect("at most SHARDS_MAX shards")),
        shards,
        node: u16::try_from(options.id).expect("--node-id was checked"),
        seed: RandomState::new().hash_one(index),
        mem_queue_size: options.mem_queue_size,
        durability: options.durability,
        policies: options.declared.policies(),
        sync_every: options.sync_every.max(1),
        sync_timeout: span(options.sync_timeout),
        log_options: log_options(options),
        budget_bytes: usize::try_from(budget).unwrap_or(usize::MAX),
        max_channel_consumers: options.max_channel_consumers,
        max_message_timeout: span(options.max_msg_timeout),
        latency: latency(options),
        defaults: Negotiated {
            heartbeat_interval: Some(span(HEARTBEAT_INTERVAL_DEFAULT)),
            message_timeout: span(options.msg_timeout),
            sample_rate: 0,
            output_buffer_bytes: OUTPUT_BUFFER_BYTES_DEFAULT,
            output_buffer_timeout_ms: ms(options.output_buffer_timeout),
            proximity: Proximity::Global,
        },
        command_limits: options.command_limits(),
        identify_limits: IdentifyLimits {
            max_heartbeat_interval_ms: ms(options.max_heartbeat_interval),
            min_output_buffer_timeout_ms: ms(options.min_output_buffer_timeout),
            max_output_buffer_timeout_ms: ms(options.max_output_buffer_timeout),
            max_output_buffer_size: options.max_output_buffer_size as u64,
            max_msg_timeout_ms: ms(options.max_msg_timeout),
        },
        features: Features {
            version: VERSION,
            max_msg_timeout_ms: ms(options.max_msg_timeout),
            tls: !options.tls_cert.is_empty(),
            tls_required: options.tls_required != TlsRequired::No,
            snappy: options.snappy,
            deflate: options.deflate,
            max_deflate_level: u8::try_from(options.max_deflate_level).expect("it was checked"),
            upgrade_time: span(UPGRADE_TIME_MAX),
            auth_required: !options.auth_http_addresses.is_empty(),
            topology_region: options.topology_region.clone(),
            topology_zone: options.topology_zone.clone(),
            topology_aware: options.enable_experiment.iter().any(|name| name == TOPOLOGY_AWARE),
        },
    }
}

/// Sizes of the logs: the largest body fits twice into the smallest segment, and no segment is
/// larger than was asked for, unless it has to be.
fn log_options(options: &Options) -> LogOptions {
    let defaults = LogOptions::default();
    let body_bytes = options.max_msg_size.max(options.max_body_size) as u64;
    let needed = (2 * body_bytes + LOG_SEGMENT_SPARE_BYTES).next_multiple_of(BLOCK_BYTES as u64);
    let first = defaults.segment_bytes_first.max(needed).min(SEGMENT_BYTES_MAX);
    let asked = options.max_bytes_per_file.next_multiple_of(BLOCK_BYTES as u64);
    let max = defaults.segment_bytes_max.min(asked).clamp(first, SEGMENT_BYTES_MAX);
    LogOptions { segment_bytes_first: first, segment_bytes_max: max, ..defaults }
}

/// What is reported of processing times, if anything.
fn latency(options: &Options) -> Option<LatencyConfig> {
    let quantiles = options.e2e_processing_latency_percentiles.clone();
    let window = span(options.e2e_processing_latency_window_time);
    (!quantiles.is_empty()).then_some(LatencyConfig { quantiles, window })
}

fn span(duration: Duration) -> Span {
    Span(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX))
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
