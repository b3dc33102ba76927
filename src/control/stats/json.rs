//! `/stats?format=json`, keys in NSQ's order.

use super::Moment;
use super::memory::Memory;
use super::snapshot::Snapshot;
use crate::broker::admin::{ChannelStats, GovernedStats, SessionStats, TopicStats};
use crate::broker::latency::Latencies;
use crate::broker::policy::Policy;
use crate::control::response::Reply;
use crate::options::VERSION;
use crate::protocol::compression::Compression;
use serde::{Serialize, Serializer};

#[derive(Serialize)]
struct Document<'a> {
    version: &'static str,
    health: &'a str,
    start_time: i64,
    topics: Option<Vec<Topic<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory: Option<Memory>,
    producers: Option<Vec<Client<'a>>>,
}

#[derive(Serialize)]
struct Topic<'a> {
    topic_name: &'a str,
    channels: Vec<Channel<'a>>,
    depth: u64,
    backend_depth: u64,
    message_count: u64,
    message_bytes: u64,
    paused: bool,
    e2e_processing_latency: Latency,
    /// Ours, as is the next.
    durability: &'static str,
    log_bytes: u64,
    #[serde(flatten)]
    governed: Option<Governed>,
}

/// Ours: what policies hold for a queue, and what they did.
#[derive(Serialize)]
struct Governed {
    policy: Policy,
    expired_count: u64,
    dropped_count: u64,
    dead_letter_count: u64,
}

#[derive(Serialize)]
struct Channel<'a> {
    channel_name: &'a str,
    depth: u64,
    backend_depth: u64,
    in_flight_count: u64,
    deferred_count: u64,
    message_count: u64,
    #[serde(skip_serializing_if = "is_zero")]
    zone_local_msg_count: u64,
    #[serde(skip_serializing_if = "is_zero")]
    region_local_msg_count: u64,
    #[serde(skip_serializing_if = "is_zero")]
    global_msg_count: u64,
    requeue_count: u64,
    timeout_count: u64,
    client_count: u64,
    clients: Option<Vec<Client<'a>>>,
    paused: bool,
    e2e_processing_latency: Latency,
    #[serde(flatten)]
    governed: Option<Governed>,
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

fn is_false(value: &bool) -> bool {
    !value
}

/// Never absent: NSQ's own tools read into it without looking.
#[derive(Serialize)]
struct Latency {
    count: u64,
    percentiles: Option<Vec<Percentile>>,
}

#[derive(Serialize)]
struct Percentile {
    #[serde(serialize_with = "as_go_float")]
    quantile: f64,
    value: u64,
}

/// Go writes the float 1 as `1`.
fn as_go_float<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    if *value == 1.0 { serializer.serialize_u8(1) } else { serializer.serialize_f64(*value) }
}

impl From<&Latencies> for Latency {
    fn from(latencies: &Latencies) -> Self {
        let percentile = |&(quantile, value): &(f64, u64)| Percentile { quantile, value };
        let percentiles: Vec<_> = latencies.quantiles.iter().map(percentile).collect();
        let percentiles = (!percentiles.is_empty()).then_some(percentiles);
        Self { count: latencies.count, percentiles }
    }
}

#[derive(Serialize)]
struct Client<'a> {
    client_id: &'a str,
    hostname: &'a str,
    version: &'static str,
    remote_address: &'a str,
    state: u8,
    ready_count: u64,
    in_flight_count: u64,
    message_count: u64,
    finish_count: u64,
    requeue_count: u64,
    connect_ts: i64,
    sample_rate: u8,
    deflate: bool,
    snappy: bool,
    user_agent: &'a str,
    #[serde(skip_serializing_if = "is_false")]
    authed: bool,
    #[serde(skip_serializing_if = "str::is_empty")]
    auth_identity: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    auth_identity_url: &'a str,
    topology_zone: &'a str,
    topology_region: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub_counts: Vec<PublishCount<'a>>,
    tls: bool,
    tls_cipher_suite: &'a str,
    tls_version: &'static str,
    tls_negotiated_protocol: &'static str,
    tls_negotiated_protocol_is_mutual: bool,
}

#[derive(Serialize)]
struct PublishCount<'a> {
    topic: &'a str,
    count: u64,
}

/// The whole document.
pub(super) fn render(snapshot: &Snapshot, memory: Option<Memory>, moment: &Moment) -> Reply {
    let topics = snapshot.topics.as_ref();
    let producers: Vec<_> = snapshot.producers().map(|session| client(snapshot, session)).collect();
    Reply::json(&Document {
        version: VERSION,
        health: &moment.health,
        start_time: moment.started_at.as_second(),
        topics: topics.map(|topics| topics.iter().map(|entry| topic(snapshot, entry)).collect()),
        memory,
        producers: if producers.is_empty() { None } else { Some(producers) },
    })
}

fn topic<'a>(snapshot: &'a Snapshot, topic: &'a TopicStats) -> Topic<'a> {
    Topic {
        topic_name: topic.name.as_str(),
        channels: topic.channels.iter().map(|entry| channel(snapshot, topic, entry)).collect(),
        depth: topic.depth,
        backend_depth: topic.backend_depth,
        message_count: topic.message_count,
        message_bytes: topic.message_bytes,
        paused: topic.paused,
        e2e_processing_latency: (&topic.latencies).into(),
        durability: topic.durability.as_str(),
        log_bytes: topic.log_bytes,
        governed: topic.governed.as_deref().map(governed),
    }
}

fn governed(stats: &GovernedStats) -> Governed {
    Governed {
        policy: stats.policy,
        expired_count: stats.expired_count,
        dropped_count: stats.dropped_count,
        dead_letter_count: stats.dead_letter_count,
    }
}

fn channel<'a>(
    snapshot: &'a Snapshot,
    topic: &'a TopicStats,
    channel: &'a ChannelStats,
) -> Channel<'a> {
    let clients = snapshot.clients_of(topic.name, channel.name);
    let [zone_local_msg_count, region_local_msg_count, global_msg_count] = channel.delivery_counts;
    Channel {
        channel_name: channel.name.as_str(),
        depth: channel.depth,
        backend_depth: channel.backend_depth,
        in_flight_count: channel.in_flight_count,
        deferred_count: channel.deferred_count,
        message_count: channel.message_count,
        zone_local_msg_count,
        region_local_msg_count,
        global_msg_count,
        requeue_count: channel.requeue_count,
        timeout_count: channel.timeout_count,
        client_count: channel.client_count,
        clients: clients.map(|clients| clients.map(|entry| client(snapshot, entry)).collect()),
        paused: channel.paused,
        e2e_processing_latency: (&channel.latencies).into(),
        governed: channel.governed.as_deref().map(governed),
    }
}

fn client<'a>(snapshot: &'a Snapshot, session: &'a SessionStats) -> Client<'a> {
    let counts = snapshot.publish_counts(session);
    let (tls, compression) = (session.layers.tls.as_deref(), session.layers.compression);
    Client {
        client_id: &session.client_id,
        hostname: &session.hostname,
        version: "V2",
        remote_address: &session.remote_address,
        state: session.state,
        ready_count: session.ready_count,
        in_flight_count: session.in_flight_count,
        message_count: session.message_count,
        finish_count: session.finish_count,
        requeue_count: session.requeue_count,
        connect_ts: session.connected_unix_s,
        sample_rate: session.sample_rate,
        deflate: matches!(compression, Some(Compression::Deflate { .. })),
        snappy: compression == Some(Compression::Snappy),
        user_agent: &session.user_agent,
        authed: session.authed,
        auth_identity: &session.auth_identity,
        auth_identity_url: &session.auth_identity_url,
        topology_zone: &session.topology_zone,
        topology_region: &session.topology_region,
        pub_counts: counts
            .map(|(topic, count)| PublishCount { topic: topic.as_str(), count })
            .collect(),
        tls: tls.is_some(),
        tls_cipher_suite: tls.map_or("", |tls| &tls.cipher_suite),
        tls_version: tls.map_or("", |tls| tls.version),
        tls_negotiated_protocol: "",
        // Go has said so of every connection since it stopped telling.
        tls_negotiated_protocol_is_mutual: tls.is_some(),
    }
}
