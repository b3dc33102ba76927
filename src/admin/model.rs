//! What nsqds and nsqlookupds say of themselves, and the documents that are made of it.
//!
//! Field order is NSQ's. What nsqadmin adds itself is never read from an answer. What is missing
//! counts as nothing: older daemons say less than newer ones.

use serde::{Deserialize, Serialize, Serializer};

/// nsqd's `/stats`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct NodeStats {
    pub(super) health: String,
    /// Seconds of Unix time.
    pub(super) start_time: i64,
    pub(super) topics: Option<Vec<TopicStats>>,
    pub(super) memory: Option<Memory>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Memory {
    pub(super) heap_in_use_bytes: u64,
}

/// One topic of one nsqd, or of all of them (`node` is `*`).
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct TopicStats {
    #[serde(skip_deserializing)]
    pub(super) node: String,
    #[serde(skip_deserializing)]
    pub(super) hostname: String,
    pub(super) topic_name: String,
    pub(super) depth: i64,
    #[serde(skip_deserializing)]
    pub(super) memory_depth: i64,
    pub(super) backend_depth: i64,
    pub(super) message_count: i64,
    #[serde(skip_deserializing)]
    pub(super) delivery_msg_count: i64,
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) zone_local_msg_count: i64,
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) region_local_msg_count: i64,
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) global_msg_count: i64,
    #[serde(skip_deserializing)]
    pub(super) nodes: Option<Vec<Self>>,
    pub(super) channels: Option<Vec<ChannelStats>>,
    pub(super) paused: bool,
    pub(super) e2e_processing_latency: Option<Latency>,
    /// Only Ringmain's nsqd says this and the next; not part of NSQ's document.
    #[serde(skip_serializing)]
    pub(super) durability: Option<String>,
    #[serde(skip_serializing)]
    pub(super) log_bytes: Option<u64>,
}

/// One channel of one nsqd, or of all of them.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct ChannelStats {
    #[serde(skip_deserializing)]
    pub(super) node: String,
    #[serde(skip_deserializing)]
    pub(super) hostname: String,
    #[serde(skip_deserializing)]
    pub(super) topic_name: String,
    pub(super) channel_name: String,
    pub(super) depth: i64,
    #[serde(skip_deserializing)]
    pub(super) memory_depth: i64,
    pub(super) backend_depth: i64,
    pub(super) in_flight_count: i64,
    pub(super) deferred_count: i64,
    pub(super) requeue_count: i64,
    pub(super) timeout_count: i64,
    pub(super) message_count: i64,
    #[serde(skip_deserializing, skip_serializing_if = "is_zero")]
    pub(super) delivery_msg_count: i64,
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) zone_local_msg_count: i64,
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) region_local_msg_count: i64,
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) global_msg_count: i64,
    pub(super) client_count: i64,
    #[serde(skip_deserializing)]
    pub(super) nodes: Option<Vec<Self>>,
    pub(super) clients: Option<Vec<ClientStats>>,
    pub(super) paused: bool,
    pub(super) e2e_processing_latency: Option<Latency>,
}

/// One connection to a channel of an nsqd.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct ClientStats {
    #[serde(skip_deserializing)]
    pub(super) node: String,
    pub(super) remote_address: String,
    pub(super) version: String,
    pub(super) client_id: String,
    pub(super) hostname: String,
    pub(super) user_agent: String,
    /// Seconds of Unix time.
    pub(super) connect_ts: i64,
    /// Nanoseconds, in whole seconds.
    #[serde(rename = "connected", skip_deserializing)]
    pub(super) connected_ns: i64,
    pub(super) in_flight_count: i64,
    pub(super) ready_count: i64,
    pub(super) finish_count: i64,
    pub(super) requeue_count: i64,
    pub(super) message_count: i64,
    pub(super) sample_rate: i32,
    pub(super) deflate: bool,
    pub(super) snappy: bool,
    pub(super) authed: bool,
    pub(super) auth_identity: String,
    pub(super) auth_identity_url: String,
    #[serde(skip_deserializing, skip_serializing_if = "String::is_empty")]
    pub(super) node_topology_region: String,
    #[serde(skip_deserializing, skip_serializing_if = "String::is_empty")]
    pub(super) node_topology_zone: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) topology_region: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) topology_zone: String,
    pub(super) tls: bool,
    pub(super) tls_cipher_suite: String,
    pub(super) tls_version: String,
    pub(super) tls_negotiated_protocol: String,
    pub(super) tls_negotiated_protocol_is_mutual: bool,
}

/// Processing times from publish to FIN, in nanoseconds.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Latency {
    pub(super) count: i64,
    pub(super) percentiles: Option<Vec<Percentile>>,
    pub(super) topic: String,
    pub(super) channel: String,
    pub(super) host: String,
}

/// One quantile; of several nsqds its extremes, and its average weighted by their counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Percentile {
    #[serde(serialize_with = "as_go")]
    pub(super) average: f64,
    #[serde(serialize_with = "as_go")]
    pub(super) count: f64,
    #[serde(serialize_with = "as_go")]
    pub(super) max: f64,
    #[serde(serialize_with = "as_go")]
    pub(super) min: f64,
    #[serde(serialize_with = "as_go")]
    pub(super) quantile: f64,
    /// Of a single nsqd alone.
    #[serde(serialize_with = "some_as_go", skip_serializing_if = "Option::is_none")]
    pub(super) value: Option<f64>,
}

/// An nsqd, as `/nodes`, `/lookup` and `/info` describe it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Producer {
    /// `<address of the nsqlookupd>/<address the nsqd connects from>`, each.
    #[serde(skip_deserializing)]
    pub(super) remote_addresses: Option<Vec<String>>,
    pub(super) remote_address: String,
    pub(super) hostname: String,
    pub(super) broadcast_address: String,
    pub(super) tcp_port: i64,
    pub(super) http_port: i64,
    pub(super) version: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) topology_zone: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) topology_region: String,
    #[serde(rename(serialize = "topics"), skip_deserializing)]
    pub(super) topics: Option<Vec<ProducerTopic>>,
    pub(super) out_of_date: bool,
    /// As nsqlookupd lists them, beside `tombstones`.
    #[serde(rename(deserialize = "topics"), skip_serializing)]
    pub(super) topic_names: Option<Vec<String>>,
    #[serde(skip_serializing)]
    pub(super) tombstones: Option<Vec<bool>>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(super) struct ProducerTopic {
    pub(super) topic: String,
    pub(super) tombstoned: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero(count: &i64) -> bool {
    *count == 0
}

/// Go writes whole numbers without a fraction.
#[expect(clippy::cast_possible_truncation, reason = "only whole numbers that 64 bits hold")]
fn as_go<S: Serializer>(number: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    if number.fract() == 0.0 && number.abs() < 1e15 {
        serializer.serialize_i64(*number as i64)
    } else {
        serializer.serialize_f64(*number)
    }
}

fn some_as_go<S: Serializer>(number: &Option<f64>, serializer: S) -> Result<S::Ok, S::Error> {
    as_go(&number.unwrap_or_default(), serializer)
}
