//! Snapshots for `/stats`, a page at a time, so that none costs a shard more than a fraction of a
//! millisecond.

use super::admin::{
    ChannelStats, GovernedStats, SessionStats, SessionsPage, TopicStats, TopicsPage,
};
use super::channel::Channel;
use super::latency::{Latencies, LatencyConfig, LatencyWindow};
use super::session::Session;
use super::shard::Shard;
use super::time::Now;
use super::topic::Topic;
use crate::limits::{STATS_LATENCY_ROWS, STATS_PAGE_ROWS, STATS_PAGE_SCAN};
use crate::protocol::command::State;
use crate::protocol::name::{ChannelName, TopicName};

impl Shard {
    /// Topics from a table index on, until about [`STATS_PAGE_ROWS`] topics and channels are
    /// together.
    pub(super) fn topics_page(
        &self,
        now: Now,
        from: u32,
        topic: Option<TopicName>,
        channel: Option<ChannelName>,
        with_latencies: bool,
    ) -> TopicsPage {
        let mut page = TopicsPage::default();
        let mut rows = 0;
        let latency = self.config.latency.as_ref().filter(|_| with_latencies);
        let rows_per_channel = if latency.is_some() { STATS_LATENCY_ROWS } else { 1 };
        let start = from as usize;
        for (index, slot) in self.topics.iter().enumerate().skip(start) {
            if rows >= STATS_PAGE_ROWS || index - start >= STATS_PAGE_SCAN {
                page.next = u32::try_from(index).ok();
                break;
            }
            let Some(found) = slot else { continue };
            if topic.is_some_and(|name| name != found.name) {
                continue;
            }
            let Some(stats) = self.topic_stats(now, found, channel, latency) else { continue };
            rows += 1 + stats.channels.len() * rows_per_channel;
            page.topics.push(stats);
        }
        page
    }

    /// Connections from a slot on.
    pub(super) fn sessions_page(&self, from: u32) -> SessionsPage {
        let mut page = SessionsPage::default();
        let start = from as usize;
        let end = self.sessions.capacity().min(start + STATS_PAGE_SCAN);
        for index in start..end {
            if let Some(session) = self.sessions.get(index) {
                page.sessions.push(self.session_stats(session));
            }
        }
        page.next = (end < self.sessions.capacity()).then(|| u32::try_from(end).ok()).flatten();
        page
    }

    fn topic_stats(
        &self,
        now: Now,
        topic: &Topic,
        channel: Option<ChannelName>,
        latency: Option<&LatencyConfig>,
    ) -> Option<TopicStats> {
        let all = topic.channels.iter().map(|slot| &self.channels[*slot as usize]);
        let latencies = |windows: &mut dyn Iterator<Item = &LatencyWindow>| {
            let config = latency?;
            Some(Latencies::of(config, now.time, windows))
        };
        let channels: Vec<_> = all
            .clone()
            .filter(|found| channel.is_none_or(|name| name == found.name))
            .map(|found| {
                let own = latencies(&mut found.latency.as_deref().into_iter());
                ChannelStats { latencies: own.unwrap_or_default(), ..found.stats() }
            })
            .collect();
        if channel.is_some() && channels.is_empty() {
            return None;
        }
        Some(TopicStats {
            name: topic.name,
            depth: topic.depth(),
            backend_depth: topic.log.as_ref().map_or(0, |log| log.waiting_count),
            message_count: topic.message_count,
            message_bytes: topic.message_bytes,
            paused: topic.paused,
            durability: topic.durability,
            has_own_durability: topic.has_own_durability,
            log_bytes: topic.log.as_ref().map_or(0, |log| log.log.segment_bytes()),
            starting: topic.starting,
            governed: topic.governed.as_deref().map(|governed| {
                Box::new(GovernedStats {
                    own: governed.own,
                    policy: governed.policy,
                    expired_count: governed.expired_count,
                    dropped_count: governed.dropped_count,
                    dead_letter_count: 0,
                })
            }),
            latencies: latencies(&mut all.filter_map(|found| found.latency.as_deref()))
                .unwrap_or_default(),
            channels,
        })
    }

    fn session_stats(&self, session: &Session) -> SessionStats {
        let host = || session.peer_host().to_owned();
        let identity = session.identity.as_deref();
        let grant = session.credentials.as_ref().and_then(|shown| shown.grant());
        let text = |field: Option<&String>| field.cloned().unwrap_or_default();
        SessionStats {
            client_id: identity.map_or_else(host, |identity| identity.client_id.clone()),
            hostname: identity.map_or_else(host, |identity| identity.hostname.clone()),
            user_agent: text(identity.map(|identity| &identity.user_agent)),
            remote_address: session.remote_address.to_string(),
            state: match session.state {
                State::Init => 0,
                State::Subscribed => 3,
                State::Closing => 4,
            },
            ready_count: session.ready_count,
            in_flight_count: session.in_flight_count,
            message_count: session.counts.delivered,
            finish_count: session.counts.finished,
            requeue_count: session.counts.requeued,
            connected_unix_s: session.connected.0 / 1_000_000_000,
            layers: session.layers.clone(),
            sample_rate: session.negotiated.sample_rate,
            topology_zone: text(identity.map(|identity| &identity.topology_zone)),
            topology_region: text(identity.map(|identity| &identity.topology_region)),
            authed: grant.is_some_and(|grant| grant.permission_count() > 0),
            auth_identity: text(grant.map(|grant| &grant.identity)),
            auth_identity_url: text(grant.map(|grant| &grant.identity_url)),
            subscription: self.subscription(session),
            publish_counts: session.counts.published.clone(),
        }
    }

    fn subscription(&self, session: &Session) -> Option<(TopicName, ChannelName)> {
        let channel = &self.channels[session.channel? as usize];
        let topic = self.topics.get(channel.topic as usize)?.as_deref()?;
        Some((topic.name, channel.name))
    }
}

impl Channel {
    fn stats(&self) -> ChannelStats {
        ChannelStats {
            name: self.name,
            depth: (self.ready.len() + self.dead_count()) as u64 + self.behind_count(),
            backend_depth: self.behind_count(),
            in_flight_count: self.in_flight.len() as u64,
            deferred_count: self.deferred.len() as u64 + self.later.count(),
            message_count: self.counts.put,
            requeue_count: self.counts.requeued,
            timeout_count: self.counts.timed_out,
            delivery_counts: self.counts.delivered,
            client_count: self.consumers.len() as u64,
            paused: self.paused,
            governed: self.governed.as_deref().map(|governed| {
                Box::new(GovernedStats {
                    own: governed.own,
                    policy: governed.policy,
                    expired_count: self.counts.expired,
                    dropped_count: self.counts.dropped,
                    dead_letter_count: self.counts.dead,
                })
            }),
            latencies: Latencies::default(),
        }
    }
}
