//! What can be asked of the database, as the documents that are answered.

use super::{Key, Moment, Producer, ProducerId, Registration, Registrations, TopicPattern};
use crate::lookup::peer::Peer;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How long producers count that say nothing, or that have been given a tombstone.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// A producer is active this long after its last sign of life.
    pub inactive_after: Duration,
    /// A producer is hidden this long.
    pub tombstone_lifetime: Duration,
}

/// `/lookup`.
#[derive(Debug, Serialize)]
pub(crate) struct Lookup<'r> {
    channels: Vec<&'r str>,
    producers: Vec<&'r Peer>,
}

/// `/topics`.
#[derive(Debug, Serialize)]
pub(crate) struct TopicList<'r> {
    topics: Vec<&'r str>,
}

/// `/channels`.
#[derive(Debug, Serialize)]
pub(crate) struct ChannelList<'r> {
    channels: Vec<&'r str>,
}

/// `/nodes`.
#[derive(Debug, Serialize)]
pub(crate) struct NodeList<'r> {
    producers: Vec<Node<'r>>,
}

/// A producer, its topics, and for each of them whether it has a tombstone in force.
#[derive(Debug, Serialize)]
struct Node<'r> {
    #[serde(flatten)]
    peer: &'r Peer,
    tombstones: Vec<bool>,
    topics: Vec<&'r str>,
}

/// A producer of a registration in `/debug`.
#[derive(Debug, Serialize)]
pub(crate) struct DebugEntry<'r> {
    broadcast_address: &'r str,
    hostname: &'r str,
    http_port: i64,
    id: &'r str,
    last_update: i64,
    tcp_port: i64,
    tombstoned: bool,
    tombstoned_at: i64,
    topology_region: &'r str,
    topology_zone: &'r str,
    version: &'r str,
}

/// How much there is of everything.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Topics.
    pub topics: usize,
    /// Topics that a look-up finds no producer of.
    pub topics_without_producers: usize,
    /// Channels of all topics.
    pub channels: usize,
    /// Identified nsqds that have shown a sign of life of late.
    pub producers_active: usize,
    /// Identified nsqds that have not.
    pub producers_inactive: usize,
    /// Pairs of a topic or channel and a producer of it.
    pub placements: usize,
    /// Tombstones in force.
    pub tombstones: usize,
}

/// What the reference shows for a tombstone there never was: the year 1, which 64 bits of
/// nanoseconds do not reach.
const NEVER_TOMBSTONED_NS: i64 = -6_795_364_578_871_345_152;

impl Registrations {
    /// Active producers and all channels of these topics; `None` when no such topic is registered.
    pub(crate) fn lookup(
        &self,
        topics: TopicPattern,
        now: Moment,
        patience: &Patience,
    ) -> Option<Lookup<'_>> {
        let mut known = self.topic_registrations(topics).peekable();
        known.peek()?;
        let mut producers = BTreeSet::new();
        for registration in known {
            let found = registration.producers.iter();
            let found = found.filter(|(id, tombstone)| {
                self.is_active(**id, now, patience) && !is_hidden(tombstone, now, patience)
            });
            producers.extend(found.map(|(id, _)| *id));
        }
        let producers = producers.iter().map(|id| &self.producers[id.0].peer).collect();
        Some(Lookup { channels: self.channel_names(topics), producers })
    }

    /// The names of all topics.
    pub(crate) fn topics(&self) -> TopicList<'_> {
        let registrations = self.topic_registrations(TopicPattern::All);
        TopicList { topics: registrations.filter_map(Registration::topic_name).collect() }
    }

    /// The names of all channels of these topics.
    pub(crate) fn channels(&self, topics: TopicPattern) -> ChannelList<'_> {
        ChannelList { channels: self.channel_names(topics) }
    }

    /// All active producers, with their topics.
    pub(crate) fn nodes(&self, now: Moment, patience: &Patience) -> NodeList<'_> {
        let ids = self.producers.iter().map(|(id, producer)| (ProducerId(id), producer));
        let active = ids.filter(|(id, _)| self.is_active(*id, now, patience));
        let node = |(id, producer): (ProducerId, &'_ Producer)| {
            let registrations = producer.registrations.iter().map(|id| &self.registrations[*id]);
            let topics = registrations.filter_map(|registration| {
                let hidden = is_hidden(&registration.producers[&id], now, patience);
                Some((registration.topic_name()?, hidden))
            });
            let mut topics: Vec<_> = topics.collect();
            topics.sort_unstable();
            topics.into_iter().unzip()
        };
        let nodes = active.map(|(id, producer)| {
            let (topics, tombstones) = node((id, producer));
            Node { peer: &producer.peer, tombstones, topics }
        });
        NodeList { producers: nodes.collect() }
    }

    /// All producers of everything that has any, the connected nsqds among them.
    pub(crate) fn debug(&self) -> BTreeMap<String, Vec<DebugEntry<'_>>> {
        let mut document = BTreeMap::new();
        for (_, registration) in &self.registrations {
            let name = match &registration.key {
                Key::Topic(topic) => format!("topic:{topic}:"),
                Key::Channel(topic, channel) => format!("channel:{topic}:{channel}"),
            };
            let producers = registration.producers.iter();
            let entries: Vec<_> = producers
                .map(|(id, tombstone)| self.producers[id.0].debug_entry(*tombstone))
                .collect();
            if !entries.is_empty() {
                document.insert(name, entries);
            }
        }
        if !self.producers.is_empty() {
            let producers = self.producers.iter();
            let clients = producers.map(|(_, producer)| producer.debug_entry(None)).collect();
            document.insert("client::".to_owned(), clients);
        }
        document
    }

    /// Counts everything.
    pub fn counts(&self, now: Moment, patience: &Patience) -> Counts {
        let active = |id: &ProducerId| self.is_active(*id, now, patience);
        let mut counts = Counts { placements: self.placements, ..Counts::default() };
        for (id, _) in &self.producers {
            let counter = match active(&ProducerId(id)) {
                true => &mut counts.producers_active,
                false => &mut counts.producers_inactive,
            };
            *counter += 1;
        }
        for registration in self.topic_registrations(TopicPattern::All) {
            let hidden = |tombstone: &_| is_hidden(tombstone, now, patience);
            let mut producers = registration.producers.iter();
            counts.tombstones += registration.producers.values().filter(|t| hidden(t)).count();
            counts.topics += 1;
            let found = producers.any(|(id, tombstone)| active(id) && !hidden(tombstone));
            counts.topics_without_producers += usize::from(!found);
        }
        counts.channels = self.ids.len() - counts.topics;
        counts
    }

    fn is_active(&self, id: ProducerId, now: Moment, patience: &Patience) -> bool {
        now.since(self.producers[id.0].last_update) <= patience.inactive_after
    }

    /// In the order of their names.
    fn topic_registrations(&self, topics: TopicPattern) -> impl Iterator<Item = &Registration> {
        let (all, one) = match topics {
            TopicPattern::All => (Some(self.ids.iter()), None),
            TopicPattern::Exactly(topic) => (None, self.ids.get(&Key::Topic(topic))),
        };
        // Topics sort before all channels.
        let all = all.into_iter().flatten();
        let all = all.take_while(|(key, _)| matches!(key, Key::Topic(_))).map(|(_, id)| id);
        all.chain(one).map(|id| &self.registrations[*id])
    }

    /// Sorted, each once.
    fn channel_names(&self, topics: TopicPattern) -> Vec<&str> {
        match topics {
            TopicPattern::Exactly(topic) => {
                self.channel_keys(topic).map(|(channel, _)| channel.as_str()).collect()
            }
            TopicPattern::All => {
                let names = self.ids.keys().filter_map(|key| match key {
                    Key::Channel(_, channel) => Some(channel.as_str()),
                    Key::Topic(_) => None,
                });
                names.collect::<BTreeSet<_>>().into_iter().collect()
            }
        }
    }
}

impl Registration {
    fn topic_name(&self) -> Option<&str> {
        match &self.key {
            Key::Topic(topic) => Some(topic.as_str()),
            Key::Channel(..) => None,
        }
    }
}

impl Producer {
    fn debug_entry(&self, tombstone: Option<Moment>) -> DebugEntry<'_> {
        let peer = &self.peer;
        DebugEntry {
            broadcast_address: &peer.broadcast_address,
            hostname: &peer.hostname,
            http_port: peer.http_port,
            id: &peer.remote_address,
            last_update: self.last_update.wall_ns,
            tcp_port: peer.tcp_port,
            tombstoned: tombstone.is_some(),
            tombstoned_at: tombstone.map_or(NEVER_TOMBSTONED_NS, |at| at.wall_ns),
            topology_region: &peer.topology_region,
            topology_zone: &peer.topology_zone,
            version: &peer.version,
        }
    }
}

/// Whether a tombstone is in force.
fn is_hidden(tombstone: &Option<Moment>, now: Moment, patience: &Patience) -> bool {
    tombstone.is_some_and(|at| now.since(at) < patience.tombstone_lifetime)
}
