//! One picture out of what several nsqds say: counts are added, percentiles are weighted.

use super::model::{
    ChannelStats, ClientStats, Latency, NodeStats, Percentile, Producer, TopicStats,
};
use crate::options::join_host_port;
use std::cmp::Ordering;
use std::collections::BTreeMap;

/// Nanoseconds of a second.
const SECOND_NS: i64 = 1_000_000_000;

impl Producer {
    /// `host:port` of its HTTP, by which it is known.
    pub(super) fn http_address(&self) -> String {
        join_host_port(&self.broadcast_address, self.http_port)
    }

    /// `host:port` of its protocol.
    pub(super) fn tcp_address(&self) -> String {
        join_host_port(&self.broadcast_address, self.tcp_port)
    }

    /// Where it connects to nsqlookupd from.
    pub(super) fn remote(&self) -> &str {
        if self.remote_address.is_empty() { "N/A" } else { &self.remote_address }
    }

    /// Its version in order; what is none comes before all others.
    pub(super) fn version_order(&self) -> semver::Version {
        semver::Version::parse(&self.version).unwrap_or(semver::Version::new(0, 0, 0))
    }
}

/// Completes what an nsqd has answered with what is known of it. `now_unix_s`: the clock, for how
/// long clients have been connected.
pub(super) fn complete(stats: &mut NodeStats, producer: &Producer, now_unix_s: i64) {
    let node = producer.http_address();
    for topic in stats.topics.iter_mut().flatten() {
        topic.node.clone_from(&node);
        topic.hostname.clone_from(&producer.hostname);
        topic.memory_depth = topic.depth.saturating_sub(topic.backend_depth);
        topic.delivery_msg_count = topic
            .zone_local_msg_count
            .saturating_add(topic.region_local_msg_count)
            .saturating_add(topic.global_msg_count);
        complete_latency(&mut topic.e2e_processing_latency);
        for channel in topic.channels.iter_mut().flatten() {
            channel.topic_name.clone_from(&topic.topic_name);
            complete_channel(channel, &node, producer, now_unix_s);
        }
    }
}

fn complete_channel(channel: &mut ChannelStats, node: &str, producer: &Producer, now_unix_s: i64) {
    node.clone_into(&mut channel.node);
    channel.hostname.clone_from(&producer.hostname);
    channel.memory_depth = channel.depth.saturating_sub(channel.backend_depth);
    channel.delivery_msg_count = channel
        .zone_local_msg_count
        .saturating_add(channel.region_local_msg_count)
        .saturating_add(channel.global_msg_count);
    complete_latency(&mut channel.e2e_processing_latency);
    for client in channel.clients.iter_mut().flatten() {
        node.clone_into(&mut client.node);
        client.node_topology_region.clone_from(&producer.topology_region);
        client.node_topology_zone.clone_from(&producer.topology_zone);
        let connected_s = now_unix_s.saturating_sub(client.connect_ts);
        client.connected_ns = connected_s.saturating_mul(SECOND_NS);
    }
}

fn complete_latency(latency: &mut Option<Latency>) {
    let latency = latency.get_or_insert_default();
    #[expect(clippy::cast_precision_loss, reason = "a count of samples, for weighing alone")]
    let count = latency.count as f64;
    for percentile in latency.percentiles.iter_mut().flatten() {
        let (quantile, value) = (percentile.quantile, percentile.value.unwrap_or_default());
        let (average, max, min) = (value, value, value);
        *percentile = Percentile { average, count, max, min, quantile, value: Some(value) };
    }
}

impl TopicStats {
    /// A topic of all nsqds, before any of them is added.
    pub(super) fn of_all(topic: &str) -> Self {
        Self { topic_name: topic.to_owned(), ..Self::default() }
    }

    /// Adds what one nsqd has of the topic.
    pub(super) fn add(&mut self, of_node: Self) {
        let sum = |total: &mut i64, part: i64| *total = total.saturating_add(part);
        self.node = "*".to_owned();
        sum(&mut self.depth, of_node.depth);
        sum(&mut self.memory_depth, of_node.memory_depth);
        sum(&mut self.backend_depth, of_node.backend_depth);
        sum(&mut self.message_count, of_node.message_count);
        sum(&mut self.delivery_msg_count, of_node.delivery_msg_count);
        sum(&mut self.zone_local_msg_count, of_node.zone_local_msg_count);
        sum(&mut self.region_local_msg_count, of_node.region_local_msg_count);
        sum(&mut self.global_msg_count, of_node.global_msg_count);
        self.paused |= of_node.paused;
        for channel in of_node.channels.iter().flatten() {
            self.add_channel(channel);
        }
        let (topic, whole) = (&self.topic_name, &mut self.e2e_processing_latency);
        let whole = whole.get_or_insert_with(|| Latency::of_all(topic, ""));
        whole.add(of_node.e2e_processing_latency.as_ref());
        insert_sorted(&mut self.nodes, of_node, |a, b| a.hostname.cmp(&b.hostname));
    }

    /// A channel of one nsqd stands for itself; from the second on they are taken together.
    fn add_channel(&mut self, of_node: &ChannelStats) {
        let channels = self.channels.get_or_insert_default();
        let same = |channel: &&mut ChannelStats| channel.channel_name == of_node.channel_name;
        let Some(found) = channels.iter_mut().find(same) else {
            channels.push(of_node.clone());
            return;
        };
        if found.node != "*" {
            let first = std::mem::take(found);
            let hostname = first.hostname.clone();
            *found = ChannelStats::of_all(&first.topic_name, &first.channel_name);
            found.hostname = hostname;
            found.add(first);
        }
        found.add(of_node.clone());
    }
}

impl ChannelStats {
    /// A channel of all nsqds, before any of them is added.
    pub(super) fn of_all(topic: &str, channel: &str) -> Self {
        let (topic_name, channel_name) = (topic.to_owned(), channel.to_owned());
        Self { topic_name, channel_name, ..Self::default() }
    }

    /// Adds what one nsqd has of the channel; its clients move to the whole.
    pub(super) fn add(&mut self, of_node: Self) {
        let sum = |total: &mut i64, part: i64| *total = total.saturating_add(part);
        self.node = "*".to_owned();
        sum(&mut self.depth, of_node.depth);
        sum(&mut self.memory_depth, of_node.memory_depth);
        sum(&mut self.backend_depth, of_node.backend_depth);
        sum(&mut self.in_flight_count, of_node.in_flight_count);
        sum(&mut self.deferred_count, of_node.deferred_count);
        sum(&mut self.requeue_count, of_node.requeue_count);
        sum(&mut self.timeout_count, of_node.timeout_count);
        sum(&mut self.message_count, of_node.message_count);
        sum(&mut self.delivery_msg_count, of_node.delivery_msg_count);
        sum(&mut self.zone_local_msg_count, of_node.zone_local_msg_count);
        sum(&mut self.region_local_msg_count, of_node.region_local_msg_count);
        sum(&mut self.global_msg_count, of_node.global_msg_count);
        sum(&mut self.client_count, of_node.client_count);
        self.paused |= of_node.paused;
        let (topic, channel) = (&self.topic_name, &self.channel_name);
        let whole = &mut self.e2e_processing_latency;
        let whole = whole.get_or_insert_with(|| Latency::of_all(topic, channel));
        whole.add(of_node.e2e_processing_latency.as_ref());
        // Without any, there is no list.
        if let Some(clients) = of_node.clients.as_ref().filter(|clients| !clients.is_empty()) {
            let all = self.clients.get_or_insert_default();
            all.extend(clients.iter().cloned());
            all.sort_by(|a, b| a.hostname.cmp(&b.hostname));
        }
        insert_sorted(&mut self.nodes, of_node, |a, b| a.hostname.cmp(&b.hostname));
    }
}

impl Latency {
    fn of_all(topic: &str, channel: &str) -> Self {
        let (topic, channel) = (topic.to_owned(), channel.to_owned());
        Self { topic, channel, ..Self::default() }
    }

    fn add(&mut self, part: Option<&Self>) {
        self.host = "*".to_owned();
        let Some(part) = part else { return };
        self.count = self.count.saturating_add(part.count);
        let percentiles = part.percentiles.iter().flatten();
        for percentile in percentiles {
            let all = self.percentiles.get_or_insert_default();
            #[expect(clippy::float_cmp, reason = "quantiles are what was configured")]
            let same = |known: &&mut Percentile| known.quantile == percentile.quantile;
            match all.iter_mut().find(same) {
                // One without samples has no extremes.
                Some(_) if percentile.count == 0.0 => {}
                Some(known) if known.count > 0.0 => known.add(percentile),
                Some(known) => *known = Percentile { value: None, ..*percentile },
                None => all.push(Percentile { value: None, ..*percentile }),
            }
        }
    }
}

impl Percentile {
    fn add(&mut self, part: &Self) {
        self.max = self.max.max(part.max);
        self.min = self.min.min(part.min);
        self.count += part.count;
        self.average += (part.average - self.average) * part.count / self.count;
    }
}

/// Every channel of these topics by topic and name, taken together over the nsqds.
pub(super) fn channels(topics: Vec<TopicStats>) -> BTreeMap<(String, String), ChannelStats> {
    let mut channels: BTreeMap<(String, String), ChannelStats> = BTreeMap::new();
    for topic in topics {
        for channel in topic.channels.into_iter().flatten() {
            let key = (topic.topic_name.clone(), channel.channel_name.clone());
            let whole = || ChannelStats::of_all(&key.0, &key.1);
            channels.entry(key.clone()).or_insert_with(whole).add(channel);
        }
    }
    channels
}

/// By nsqd, and there the nearest first.
pub(super) fn clients_in_order(a: &ClientStats, b: &ClientStats) -> Ordering {
    let far = |client: &ClientStats| {
        let region = client.topology_region == client.node_topology_region;
        let zone = client.topology_zone == client.node_topology_zone;
        u8::from(!(region && zone)) + u8::from(!region)
    };
    let place = |a: &ClientStats, b: &ClientStats| {
        let region = a.topology_region.cmp(&b.topology_region);
        region.then_with(|| a.topology_zone.cmp(&b.topology_zone))
    };
    a.node.cmp(&b.node).then_with(|| far(a).cmp(&far(b))).then_with(|| place(a, b))
}

fn insert_sorted<T>(list: &mut Option<Vec<T>>, item: T, order: impl Fn(&T, &T) -> Ordering) {
    let list = list.get_or_insert_default();
    let at = list.partition_point(|known| order(known, &item) != Ordering::Greater);
    list.insert(at, item);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(node: &str, region: &str, zone: &str) -> ClientStats {
        ClientStats {
            node: node.to_owned(),
            node_topology_region: "r".to_owned(),
            node_topology_zone: "z".to_owned(),
            topology_region: region.to_owned(),
            topology_zone: zone.to_owned(),
            ..ClientStats::default()
        }
    }

    #[test]
    fn near_clients_come_first_on_each_nsqd() {
        let mut clients = [
            client("b", "r", "z"),
            client("a", "s", "a"),
            client("a", "", ""),
            client("a", "r", "y"),
            client("a", "r", "z"),
        ];
        clients.sort_by(clients_in_order);
        let order: Vec<_> = clients.iter().map(|c| (&*c.node, &*c.topology_zone)).collect();
        assert_eq!(order, [("a", "z"), ("a", "y"), ("a", ""), ("a", "a"), ("b", "z")]);
    }

    #[test]
    fn sums_stop_at_the_largest_number() {
        let topic = |depth| TopicStats { depth, ..TopicStats::default() };
        let mut whole = TopicStats::of_all("t");
        whole.add(topic(i64::MAX));
        whole.add(topic(1));
        assert_eq!((whole.depth, whole.node.as_str()), (i64::MAX, "*"));
        assert_eq!(whole.nodes.map(|nodes| nodes.len()), Some(2));
    }

    #[test]
    fn percentiles_without_samples_weigh_nothing() {
        let latency = |count: i64, value: f64| {
            let percentile =
                Percentile { quantile: 0.9, value: Some(value), ..Percentile::default() };
            let mut latency =
                Some(Latency { count, percentiles: Some(vec![percentile]), ..Latency::default() });
            complete_latency(&mut latency);
            latency
        };
        let mut whole = Latency::of_all("t", "");
        for part in [latency(0, 0.0), latency(4, 8.0), None] {
            whole.add(part.as_ref());
        }
        let merged = whole.percentiles.unwrap()[0];
        assert_eq!((whole.count, merged.average, merged.min, merged.value), (4, 8.0, 8.0, None));
    }
}
