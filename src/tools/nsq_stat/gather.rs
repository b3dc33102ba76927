//! Statistics of one channel from every nsqd that has its topic.

use crate::client::http::{escape, parse_url};
use crate::http::requests::{HttpClient, RequestLimits};
use crate::limits::CLIENT_LOOKUP_BYTES_MAX;
use crate::tools::run::Failure;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeSet;
use std::time::Duration;

/// The channel's numbers over all nsqds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sums {
    pub(super) message_count: i64,
    pub(super) depth: i64,
    pub(super) backend_depth: i64,
    pub(super) in_flight_count: i64,
    pub(super) deferred_count: i64,
    pub(super) requeue_count: i64,
    pub(super) timeout_count: i64,
    pub(super) client_count: i64,
}

/// Asks for them.
pub(super) struct Gatherer<'a> {
    topic: &'a str,
    channel: &'a str,
    lookupds: &'a [String],
    nsqds: &'a [String],
    http: HttpClient,
}

#[derive(Deserialize)]
struct Lookup {
    #[serde(default)]
    producers: Vec<LookupProducer>,
}

#[derive(Deserialize)]
struct LookupProducer {
    broadcast_address: String,
    http_port: u16,
}

/// nsqd says `null` where it has nothing.
#[derive(Deserialize)]
struct Stats {
    topics: Option<Vec<TopicStats>>,
}

#[derive(Deserialize)]
struct TopicStats {
    topic_name: String,
    channels: Option<Vec<ChannelStats>>,
}

#[derive(Deserialize)]
struct ChannelStats {
    channel_name: String,
    message_count: i64,
    depth: i64,
    backend_depth: i64,
    in_flight_count: i64,
    deferred_count: i64,
    requeue_count: i64,
    timeout_count: i64,
    client_count: i64,
}

impl<'a> Gatherer<'a> {
    /// `sources`: lookups, or nsqds. `timeouts`: for connecting, and for a request.
    pub(super) fn new(
        topic: &'a str,
        channel: &'a str,
        sources: (&'a [String], &'a [String]),
        timeouts: (Duration, Duration),
    ) -> Self {
        let limits = RequestLimits {
            connect_timeout: timeouts.0,
            request_timeout: timeouts.1,
            answer_bytes_max: CLIENT_LOOKUP_BYTES_MAX,
        };
        let http = HttpClient::new(None, limits);
        Self { topic, channel, lookupds: sources.0, nsqds: sources.1, http }
    }

    /// One round of questions. A node that fails fails the round: its part would be missing.
    pub(super) async fn gather(&self) -> Result<Sums, Failure> {
        let producers = self.producers().await;
        let producers = producers
            .map_err(|error| Failure(format!("ERROR: failed to get topic producers - {error}")))?;
        let mut sums = Sums::default();
        let mut is_there = false;
        if producers.is_empty() {
            return Err(Failure("ERROR: failed to get nsqd stats - []".to_owned()));
        }
        for producer in &producers {
            let stats = self.stats(producer, true).await;
            let stats = stats.map_err(|error| {
                let text = "failed to query any nsqd";
                Failure(format!("ERROR: failed to get nsqd stats - {text}: {error}"))
            })?;
            for channel in self.channels(stats) {
                is_there = true;
                sums.add(&channel);
            }
        }
        if !is_there {
            return Err(Failure(format!(
                "ERROR: failed to find channel({}) in stats metadata for topic({})",
                self.channel, self.topic
            )));
        }
        Ok(sums)
    }

    /// `host:port` of the HTTP API of all nsqds that have the topic.
    async fn producers(&self) -> Result<BTreeSet<String>, String> {
        let mut producers = BTreeSet::new();
        let topic = escape(self.topic.as_bytes(), "+");
        for lookupd in self.lookupds {
            let url = format!("http://{lookupd}/lookup?topic={topic}");
            let lookup: Lookup = self
                .fetch(&url)
                .await
                .map_err(|error| format!("failed to query any nsqlookupd: {error}"))?;
            for LookupProducer { broadcast_address: host, http_port } in lookup.producers {
                let is_v6 = host.contains(':') && !host.starts_with('[');
                let host = if is_v6 { format!("[{host}]") } else { host };
                producers.insert(format!("{host}:{http_port}"));
            }
        }
        for nsqd in self.nsqds {
            let stats = self.stats(nsqd, false).await;
            let stats = stats.map_err(|error| format!("failed to query any nsqd: {error}"))?;
            let mut topics = stats.topics.into_iter().flatten();
            if topics.any(|topic| topic.topic_name == self.topic) {
                producers.insert(nsqd.clone());
            }
        }
        Ok(producers)
    }

    async fn stats(&self, nsqd: &str, of_channel: bool) -> Result<Stats, String> {
        let topic = escape(self.topic.as_bytes(), "+");
        let channel = if of_channel {
            format!("&channel={}", escape(self.channel.as_bytes(), "+"))
        } else {
            String::new()
        };
        let query = format!("format=json&topic={topic}{channel}&include_clients=false");
        self.fetch(&format!("http://{nsqd}/stats?{query}")).await
    }

    async fn fetch<T: DeserializeOwned>(&self, url: &str) -> Result<T, String> {
        let url = parse_url(url).map_err(|error| error.to_string())?;
        let body = self.http.fetch(&url, &[]).await?;
        serde_json::from_slice(&body).map_err(|error| error.to_string())
    }

    fn channels(&self, stats: Stats) -> impl Iterator<Item = ChannelStats> {
        let topics = stats.topics.into_iter().flatten();
        let topics = topics.filter(|topic| topic.topic_name == self.topic);
        let channels = topics.flat_map(|topic| topic.channels.into_iter().flatten());
        channels.filter(|channel| channel.channel_name == self.channel)
    }
}

impl Sums {
    fn add(&mut self, channel: &ChannelStats) {
        self.message_count += channel.message_count;
        self.depth += channel.depth;
        self.backend_depth += channel.backend_depth;
        self.in_flight_count += channel.in_flight_count;
        self.deferred_count += channel.deferred_count;
        self.requeue_count += channel.requeue_count;
        self.timeout_count += channel.timeout_count;
        self.client_count += channel.client_count;
    }
}
