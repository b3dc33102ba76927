//! Who serves what: the database of nsqlookupd. Pure: no I/O, and it is given the time.
//!
//! A *registration* is a topic, or a channel of a topic; it has a set of *producers*, the nsqds
//! that serve it. Registrations outlive their producers until somebody deletes them, except for
//! ephemeral ones. All of it is in memory only: producers say everything again when they connect.
//!
//! Invariant, checked by the tests after every operation: a producer is in a registration's set if
//! and only if that registration is in the producer's own set, and `placements` is their number.

mod views;

#[cfg(test)]
mod tests;

pub use views::{Counts, Patience};

use super::peer::Peer;
use crate::limits::{LOOKUPD_PLACEMENTS_MAX, LOOKUPD_REGISTRATIONS_MAX};
use crate::protocol::name::{ChannelName, TopicName};
use slab::Slab;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// All registrations and producers.
#[derive(Debug)]
pub struct Registrations {
    /// Ordered, so that lists come sorted and the channels of a topic are neighbours.
    ids: BTreeMap<Key, RegistrationId>,
    registrations: Slab<Registration>,
    producers: Slab<Producer>,
    /// Pairs of a registration and a producer of it.
    placements: usize,
    limits: Limits,
}

/// What can be registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// A topic.
    Topic(TopicName),
    /// A channel of a topic, which need not be registered itself.
    Channel(TopicName, ChannelName),
}

/// A connected nsqd that has identified itself. Used again after [`Registrations::disconnect`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ProducerId(usize);

/// The time by both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Since the start of the program; what differences are made of.
    pub elapsed: Duration,
    /// Nanoseconds since the UNIX epoch; only ever shown.
    pub wall_ns: i64,
}

/// How much may be registered, whoever does it.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Topics and channels.
    pub registrations_max: usize,
    /// Pairs of a registration and a producer of it.
    pub placements_max: usize,
}

/// A limit has been reached; nothing was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

/// The topics a question is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TopicPattern {
    /// `*`.
    All,
    /// One of them, which may or may not be registered.
    Exactly(TopicName),
}

/// What [`Registrations::register`] has added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Registered {
    /// The producer is new for the channel.
    pub channel: bool,
    /// The producer is new for the topic.
    pub topic: bool,
}

/// What [`Registrations::unregister_topic`] has removed the producer from.
#[derive(Debug, PartialEq, Eq)]
pub struct Unregistered {
    /// Channels that should have been unregistered before.
    pub channels: Vec<ChannelName>,
    /// Whether it was in the topic.
    pub topic: bool,
}

type RegistrationId = usize;

#[derive(Debug)]
struct Registration {
    key: Key,
    /// Each with the time of its tombstone, if it has ever been given one.
    producers: BTreeMap<ProducerId, Option<Moment>>,
}

#[derive(Debug)]
struct Producer {
    peer: Peer,
    /// Of IDENTIFY, or of the last PING.
    last_update: Moment,
    registrations: BTreeSet<RegistrationId>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            registrations_max: LOOKUPD_REGISTRATIONS_MAX,
            placements_max: LOOKUPD_PLACEMENTS_MAX,
        }
    }
}

impl Key {
    /// Whether nobody wants it once it has no producers.
    fn is_ephemeral(&self) -> bool {
        match self {
            Self::Topic(topic) => topic.is_ephemeral(),
            Self::Channel(_, channel) => channel.is_ephemeral(),
        }
    }
}

impl TopicPattern {
    /// Reads a parameter; `None` for what is no name, and so the name of nothing.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        match bytes {
            b"*" => Some(Self::All),
            name => TopicName::parse(name).ok().map(Self::Exactly),
        }
    }
}

impl Registrations {
    /// An empty database.
    pub fn new(limits: Limits) -> Self {
        Self {
            ids: BTreeMap::new(),
            registrations: Slab::new(),
            producers: Slab::new(),
            placements: 0,
            limits,
        }
    }

    /// Takes up an nsqd, as yet a producer of nothing.
    pub fn identify(&mut self, peer: Peer, now: Moment) -> ProducerId {
        let producer = Producer { peer, last_update: now, registrations: BTreeSet::new() };
        ProducerId(self.producers.insert(producer))
    }

    /// Notes a sign of life, and says how long the last one was ago.
    pub fn ping(&mut self, id: ProducerId, now: Moment) -> Duration {
        let producer = &mut self.producers[id.0];
        let before = std::mem::replace(&mut producer.last_update, now);
        now.since(before)
    }

    /// Makes a producer one of a topic and, if there is one, of a channel. Where it is one already
    /// it stays as it is, tombstone included.
    ///
    /// # Errors
    /// [`Full`] when there is no room for all of it.
    pub fn register(
        &mut self,
        id: ProducerId,
        topic: TopicName,
        channel: Option<ChannelName>,
    ) -> Result<Registered, Full> {
        let channel = channel.map(|channel| Key::Channel(topic, channel));
        let topic = Key::Topic(topic);
        let keys = [Some(topic), channel].into_iter().flatten();
        let (mut new_keys, mut new_places) = (0, 0);
        for key in keys {
            let registration = self.ids.get(&key);
            new_keys += usize::from(registration.is_none());
            let known = registration
                .is_some_and(|id_of_key| self.producers[id.0].registrations.contains(id_of_key));
            new_places += usize::from(!known);
        }
        self.admit(new_keys, new_places)?;
        let channel = channel.is_some_and(|channel| self.place(id, channel));
        Ok(Registered { channel, topic: self.place(id, topic) })
    }

    /// Removes a producer from a channel, and the channel too if it is ephemeral and was its last.
    /// Says whether it was in there.
    pub fn unregister_channel(
        &mut self,
        id: ProducerId,
        topic: TopicName,
        channel: ChannelName,
    ) -> bool {
        self.displace(id, Key::Channel(topic, channel))
    }

    /// Removes a producer from a topic and from all channels of the topic, and of these what is
    /// ephemeral and has no other producer.
    pub fn unregister_topic(&mut self, id: ProducerId, topic: TopicName) -> Unregistered {
        let mut channels = self.channels_of(topic);
        channels.retain(|channel| self.displace(id, Key::Channel(topic, *channel)));
        Unregistered { channels, topic: self.displace(id, Key::Topic(topic)) }
    }

    /// Forgets a producer. Says what it was registered under; of that, what is ephemeral and has no
    /// producer left is removed.
    pub fn disconnect(&mut self, id: ProducerId) -> Vec<Key> {
        let registrations = std::mem::take(&mut self.producers[id.0].registrations);
        self.placements -= registrations.len();
        let mut keys = Vec::with_capacity(registrations.len());
        for registration_id in registrations {
            let registration = &mut self.registrations[registration_id];
            registration.producers.remove(&id);
            keys.push(registration.key);
            if registration.producers.is_empty() && registration.key.is_ephemeral() {
                self.remove_id(registration_id);
            }
        }
        self.producers.remove(id.0);
        keys.sort_unstable();
        keys
    }

    /// Registers topics and channels without a producer; what exists is left as it is.
    ///
    /// # Errors
    /// [`Full`] when there is no room for all of them.
    pub fn create(&mut self, keys: &[Key]) -> Result<(), Full> {
        let new = keys.iter().filter(|key| !self.ids.contains_key(key)).count();
        self.admit(new, 0)?;
        for key in keys {
            self.id_of(*key);
        }
        Ok(())
    }

    /// Removes a topic and its channels, whoever produces them. Says which channels there were,
    /// and whether there was the topic.
    pub fn delete_topic(&mut self, topic: TopicName) -> (Vec<ChannelName>, bool) {
        let channels = self.channels_of(topic);
        for channel in &channels {
            self.remove(Key::Channel(topic, *channel));
        }
        (channels, self.remove(Key::Topic(topic)))
    }

    /// Removes a channel, whoever produces it. Says whether there was one.
    pub fn delete_channel(&mut self, topic: TopicName, channel: ChannelName) -> bool {
        self.remove(Key::Channel(topic, channel))
    }

    /// Hides the producers of a topic that call themselves `node` from look-ups of it, for a time.
    /// Says how many there are.
    pub fn tombstone(&mut self, topic: TopicName, node: &[u8], now: Moment) -> usize {
        let Some(id) = self.ids.get(&Key::Topic(topic)) else { return 0 };
        let mut count = 0;
        for (producer, tombstone) in &mut self.registrations[*id].producers {
            if self.producers[producer.0].peer.is_node(node) {
                *tombstone = Some(now);
                count += 1;
            }
        }
        count
    }

    fn admit(&self, registrations: usize, placements: usize) -> Result<(), Full> {
        let room = self.ids.len() + registrations <= self.limits.registrations_max
            && self.placements + placements <= self.limits.placements_max;
        if room || registrations + placements == 0 { Ok(()) } else { Err(Full) }
    }

    /// The registration of a key, made if there is none.
    fn id_of(&mut self, key: Key) -> RegistrationId {
        *self.ids.entry(key).or_insert_with(|| {
            self.registrations.insert(Registration { key, producers: BTreeMap::new() })
        })
    }

    /// Adds a producer to a registration. Says whether it was not in there yet.
    fn place(&mut self, id: ProducerId, key: Key) -> bool {
        let registration = self.id_of(key);
        let new = self.producers[id.0].registrations.insert(registration);
        if new {
            self.registrations[registration].producers.insert(id, None);
            self.placements += 1;
        }
        new
    }

    /// Removes a producer from a registration, and that too if it is ephemeral and has no other
    /// producer. Says whether it was in there.
    fn displace(&mut self, id: ProducerId, key: Key) -> bool {
        let Some(registration) = self.ids.get(&key).copied() else { return false };
        let known = self.producers[id.0].registrations.remove(&registration);
        if known {
            self.registrations[registration].producers.remove(&id);
            self.placements -= 1;
        }
        if key.is_ephemeral() && self.registrations[registration].producers.is_empty() {
            self.remove_id(registration);
        }
        known
    }

    fn remove(&mut self, key: Key) -> bool {
        let registration = self.ids.get(&key).copied();
        registration.inspect(|id| self.remove_id(*id)).is_some()
    }

    fn remove_id(&mut self, id: RegistrationId) {
        let registration = self.registrations.remove(id);
        self.ids.remove(&registration.key);
        self.placements -= registration.producers.len();
        for producer in registration.producers.keys() {
            self.producers[producer.0].registrations.remove(&id);
        }
    }

    fn channels_of(&self, topic: TopicName) -> Vec<ChannelName> {
        self.channel_keys(topic).map(|(channel, _)| *channel).collect()
    }

    fn channel_keys(
        &self,
        topic: TopicName,
    ) -> impl Iterator<Item = (&ChannelName, RegistrationId)> {
        let least = ChannelName::parse(LEAST_NAME).expect("a valid name");
        let from_first = self.ids.range(Key::Channel(topic, least)..);
        from_first.map_while(move |(key, id)| match key {
            Key::Channel(of, channel) if *of == topic => Some((channel, *id)),
            _ => None,
        })
    }
}

impl Moment {
    /// Time since an earlier moment.
    pub fn since(self, earlier: Self) -> Duration {
        self.elapsed.saturating_sub(earlier.elapsed)
    }
}

/// No name sorts before this one: `-` is the least byte of names, and a name is not empty.
const LEAST_NAME: &[u8] = b"-";
