//! The cluster at one moment, as far as it has answered: by topic, by channel, by nsqd.

use crate::admin::figures::{Counts, Figures};
use crate::admin::model::{NodeStats, Producer, TopicStats};
use crate::limits::ADMIN_RATE_TIME_MIN;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::time::Instant;

/// A picture; only the first one is empty.
#[derive(Debug, Default)]
pub(in crate::admin) struct Picture {
    /// When the first question was asked.
    pub(in crate::admin) begun: Option<Instant>,
    pub(in crate::admin) nodes: Vec<NodeRow>,
    pub(in crate::admin) topics: BTreeMap<String, TopicRow>,
    pub(in crate::admin) totals: Row,
    pub(in crate::admin) warnings: Vec<String>,
}

/// An nsqd.
#[derive(Debug, Default)]
pub(in crate::admin) struct NodeRow {
    pub(in crate::admin) producer: Producer,
    /// What it has said, not long ago.
    pub(in crate::admin) stats: Option<Arc<NodeStats>>,
    /// Why it does not say more.
    pub(in crate::admin) fault: Option<String>,
    /// Whether it has been asked and not answered yet.
    pub(in crate::admin) is_slow: bool,
}

/// A topic of all nsqds.
#[derive(Debug, Clone, Default)]
pub(in crate::admin) struct TopicRow {
    pub(in crate::admin) row: Row,
    pub(in crate::admin) channels: BTreeMap<String, Row>,
    /// The level of durability of all nsqds that have it; empty if they differ.
    pub(in crate::admin) durability: Option<String>,
    /// How many nsqds have it.
    pub(in crate::admin) nodes: usize,
}

/// Figures, and what their rates are taken from.
#[derive(Debug, Clone, Default)]
pub(in crate::admin) struct Row {
    pub(in crate::admin) figures: Figures,
    base: Option<(Instant, Counts)>,
}

impl Picture {
    /// Takes together what nsqds have said and which topics nsqlookupds know; rates come from the
    /// picture before.
    pub(super) fn of(
        begun: Instant,
        nodes: Vec<NodeRow>,
        listed: Vec<String>,
        warnings: Vec<String>,
        before: &Self,
    ) -> Self {
        let listed = listed.into_iter().map(|topic| (topic, TopicRow::default()));
        let mut topics: BTreeMap<String, TopicRow> = listed.collect();
        let mut totals = Row::default();
        for topic in nodes.iter().flat_map(NodeRow::topics) {
            topics.entry(topic.topic_name.clone()).or_default().add(topic);
        }
        let answering = |nodes: &[NodeRow]| -> Vec<String> {
            let answering = nodes.iter().filter(|node| node.stats.is_some());
            answering.map(|node| node.producer.http_address()).collect()
        };
        // What an nsqd that comes or goes has counted before says nothing about rates.
        let comparable = answering(&nodes) == answering(&before.nodes);
        let nothing = TopicRow::default();
        for (name, topic) in &mut topics {
            let last = before.topics.get(name).filter(|_| comparable).unwrap_or(&nothing);
            topic.row.compare(begun, &last.row);
            for (name, channel) in &mut topic.channels {
                channel.compare(begun, last.channels.get(name).unwrap_or(&nothing.row));
            }
            topic.row.figures.channels = topic.channels.len().try_into().unwrap_or(i64::MAX);
            totals.figures.add(&topic.row.figures);
        }
        totals.figures.channels = topics.values().map(|topic| topic.row.figures.channels).sum();
        totals.compare(begun, if comparable { &before.totals } else { &nothing.row });
        Self { begun: Some(begun), nodes, topics, totals, warnings }
    }

    /// The nsqds, as they were listed.
    pub(super) fn producers(&self) -> Vec<Producer> {
        self.nodes.iter().map(|node| node.producer.clone()).collect()
    }

    /// What all channels have been given, together.
    pub(in crate::admin) fn delivered(&self) -> Figures {
        let mut all = Figures::default();
        for channel in self.topics.values().flat_map(|topic| topic.channels.values()) {
            all.add(&channel.figures);
            if let Some(rate) = channel.figures.rate {
                all.rate = Some(all.rate.unwrap_or_default() + rate);
            }
        }
        all
    }

    /// One nsqd.
    pub(in crate::admin) fn node(&self, address: &str) -> Option<&NodeRow> {
        self.nodes.iter().find(|node| node.producer.http_address() == address)
    }

    /// What each nsqd says of a topic.
    pub(in crate::admin) fn of_topic<'a>(
        &'a self,
        topic: &'a str,
    ) -> impl Iterator<Item = (&'a NodeRow, &'a TopicStats)> {
        self.nodes.iter().filter_map(move |node| {
            let found = node.topics().find(|stats| stats.topic_name == topic)?;
            Some((node, found))
        })
    }
}

impl NodeRow {
    pub(in crate::admin) fn topics(&self) -> impl Iterator<Item = &TopicStats> {
        self.stats.iter().flat_map(|stats| stats.topics.iter().flatten())
    }

    /// Everything it has, taken together.
    pub(in crate::admin) fn figures(&self) -> Figures {
        let mut all = Figures::default();
        for topic in self.topics() {
            let figures = Figures::of_topic(topic);
            all.add(&figures);
            all.channels += figures.channels;
        }
        all
    }

    /// What is wrong with it, in its own words or for want of any.
    pub(in crate::admin) fn trouble(&self) -> Option<&str> {
        if let Some(fault) = &self.fault {
            return Some(fault);
        }
        let health = self.stats.as_ref().map(|stats| stats.health.as_str());
        health.filter(|health| !matches!(*health, "OK" | ""))
    }
}

impl TopicRow {
    fn add(&mut self, topic: &TopicStats) {
        self.row.figures.add(&Figures::of_topic(topic));
        for channel in topic.channels.iter().flatten() {
            let row = self.channels.entry(channel.channel_name.clone()).or_default();
            row.figures.add(&Figures::of_channel(channel));
        }
        // NSQ's own does not say so.
        let level = topic.durability.as_deref().unwrap_or("overflow");
        match &self.durability {
            None => self.durability = Some(level.to_owned()),
            Some(known) if known == level => {}
            Some(_) => self.durability = Some(String::new()),
        }
        self.nodes += 1;
    }
}

impl Row {
    /// Takes rates from the picture before; over too short a time they stay what they were.
    fn compare(&mut self, now: Instant, before: &Self) {
        let counts = self.figures.counts();
        let Some((since, last)) = before.base else {
            self.base = Some((now, counts));
            return;
        };
        let time = now.saturating_duration_since(since);
        if counts.messages < last.messages || counts.timeouts < last.timeouts {
            // Deleted and made again, or an nsqd that has started anew.
            self.base = Some((now, counts));
        } else if time < ADMIN_RATE_TIME_MIN {
            self.base = before.base;
            self.figures.rate = before.figures.rate;
            self.figures.timeout_rate = before.figures.timeout_rate;
        } else {
            let per_second = |from: i64, to: i64| {
                #[expect(clippy::cast_precision_loss, reason = "messages of some seconds")]
                let more = to.saturating_sub(from) as f64;
                Some(more / time.as_secs_f64())
            };
            self.figures.rate = per_second(last.messages, counts.messages);
            self.figures.timeout_rate = per_second(last.timeouts, counts.timeouts);
            self.base = Some((now, counts));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::time::Duration;

    fn node(hostname: &str, stats: Option<serde_json::Value>) -> NodeRow {
        let producer = Producer { hostname: hostname.to_owned(), ..Producer::default() };
        let producer = Producer { broadcast_address: hostname.to_owned(), ..producer };
        let stats = stats.map(|stats| Arc::new(serde_json::from_value(stats).unwrap()));
        NodeRow { producer, stats, fault: None, is_slow: false }
    }

    fn topic(messages: i64, durability: &str) -> serde_json::Value {
        json!({"topics": [{"topic_name": "t", "depth": 3, "message_count": messages,
            "durability": durability, "log_bytes": 10, "channels": [{"channel_name": "c",
            "in_flight_count": 2, "message_count": messages, "depth": 1}]}]})
    }

    fn picture(at: Instant, nodes: Vec<NodeRow>, before: &Picture) -> Picture {
        Picture::of(at, nodes, vec!["idle".to_owned()], Vec::new(), before)
    }

    #[tokio::test]
    async fn nsqds_are_added_and_rates_taken_from_the_picture_before() {
        let start = Instant::now();
        let nodes = |messages| {
            vec![
                node("a", Some(topic(messages, "logged"))),
                node("b", Some(topic(messages, "logged"))),
                node("dead", None),
            ]
        };
        let first = picture(start, nodes(100), &Picture::default());
        let row = &first.topics["t"];
        assert_eq!((row.nodes, row.durability.as_deref()), (2, Some("logged")));
        let figures = &row.row.figures;
        assert_eq!((figures.depth, figures.in_flight, figures.messages), (6, 4, 200));
        assert_eq!((figures.backlog, figures.backlog_disk), (8, 0));
        assert_eq!((figures.channels, figures.log_bytes, figures.rate), (1, Some(20), None));
        assert_eq!(row.channels["c"].figures.depth, 2);
        assert_eq!(first.topics["idle"].nodes, 0);

        let second = picture(start + Duration::from_secs(2), nodes(150), &first);
        assert_eq!(second.topics["t"].row.figures.rate, Some(50.0));
        assert_eq!(second.totals.figures.rate, Some(50.0));
        // Too soon to say anything new.
        let third = picture(start + Duration::from_millis(2100), nodes(190), &second);
        assert_eq!(third.topics["t"].row.figures.rate, Some(50.0));
        // One that has come back brings what it has counted before.
        let mut more = nodes(190);
        more[2] = node("dead", Some(topic(1_000_000, "memory")));
        let fourth = picture(start + Duration::from_secs(5), more, &third);
        assert_eq!(fourth.topics["t"].row.figures.rate, None);
        assert_eq!(fourth.topics["t"].durability.as_deref(), Some(""), "they differ");
        // Counts that fall are not rates.
        let fifth = picture(start + Duration::from_secs(9), nodes(1), &third);
        assert_eq!(fifth.topics["t"].row.figures.rate, None);
    }
}
