//! Requests of the control plane to a shard, and what a shard answers.
//!
//! The control thread talks to shards by mail: one [`AdminRequest`] at a time, answered with
//! one [`AdminReply`], in the same turn unless other shards have to be asked. Every request costs
//! a bounded amount of a shard's time; snapshots for `/stats` are therefore taken a page at a
//! time.

use super::durability::Durability;
use super::figures::Figure;
use super::grant::Grant;
use super::latency::Latencies;
use super::mail::Refusal;
use super::policy::Policy;
use super::session::SessionKey;
use super::upgrade::Layers;
use crate::protocol::name::{ChannelName, TopicName};
use ringmain_storage::request::LogKey;

/// A topic's identity on every shard: an index into the table of topics, and the generation that
/// tells it from an earlier topic that used the same index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TopicId {
    /// Index into every shard's table.
    pub index: u32,
    /// Counts the topics that have used this index.
    pub generation: u32,
}

/// Index of a shard, `0..shards`. Shard 0 is the registrar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardIndex(pub u16);

/// The shard that decides where topics live.
pub const REGISTRAR: ShardIndex = ShardIndex(0);

/// What the control plane can ask. Where each request goes is said per variant.
#[derive(Debug)]
pub enum AdminRequest {
    /// To the registrar: where the topic lives. With `create`, a topic that does not exist is
    /// placed, and the reply comes once its home has it and every shard knows of it.
    Resolve {
        /// The topic asked for.
        topic: TopicName,
        /// Create it when missing.
        create: bool,
    },
    /// To the registrar: forget the topic and have every other shard forget it, so that no new
    /// publish finds it; then have its home delete it with its channels (their clients are
    /// disconnected). Replies `Done` when all of that has happened, or `TopicNotFound`.
    DeleteTopic {
        /// The topic to delete.
        topic: TopicName,
    },
    /// To the home: publish one message or a batch.
    Publish {
        /// From `Resolved`.
        topic: TopicId,
        /// What to publish.
        messages: PublishBody,
        /// Milliseconds before the messages become ready; 0 for at once.
        defer_ms: u64,
    },
    /// To the home: act on a topic.
    Topic {
        /// From `Resolved`.
        topic: TopicId,
        /// What to do.
        action: TopicAction,
    },
    /// To the home: act on a channel.
    Channel {
        /// From `Resolved`.
        topic: TopicId,
        /// The channel of that topic.
        channel: ChannelName,
        /// What to do.
        action: ChannelAction,
    },
    /// To the home a topic had: the files of its log are gone, or cannot be removed.
    LogRemoved {
        /// The log's key on that shard.
        key: LogKey,
    },
    /// To the shard that asked: what an auth server said of a client.
    Authorize {
        /// The client, if it is still there.
        session: SessionKey,
        /// What it may do; `None` when no auth server has answered validly.
        grant: Option<Box<Grant>>,
    },
    /// To each shard: a page of its topics with their channels, in table order.
    TopicsPage {
        /// Where to start: 0, then `TopicsPage::next`.
        from: u32,
        /// Only this topic.
        topic: Option<TopicName>,
        /// Only this channel of each topic; topics without it are left out.
        channel: Option<ChannelName>,
        /// Whether processing times are wanted, which take more time than the rest.
        latencies: bool,
    },
    /// To each shard: a page of its connections, in slot order.
    SessionsPage {
        /// Where to start: 0, then `SessionsPage::next`.
        from: u32,
    },
    /// To each shard: what it says of itself as a whole.
    Figures,
}

/// What to publish over HTTP.
#[derive(Debug)]
pub enum PublishBody {
    /// One message: the whole of these bytes.
    One(Vec<u8>),
    /// A checked batch: `([int32 size][bytes]) × count`, every size valid, nothing left over.
    Batch {
        /// The framed messages.
        bytes: Vec<u8>,
        /// How many there are.
        count: u32,
    },
}

/// An operation on a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TopicAction {
    /// Drop the topic's own queue.
    Empty,
    /// Stop the flow to channels.
    Pause,
    /// Resume it.
    Unpause,
    /// Promise this of publishes from now on.
    SetDurability(Durability),
    /// Let this hold for it and its channels, beside what was asked for before.
    SetPolicy(Policy),
    /// A new topic has the channels that lookups know of: begin the flow to channels.
    Start,
}

/// An operation on a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChannelAction {
    /// Create it if missing.
    Create,
    /// Delete it and disconnect its clients.
    Delete,
    /// Drop all it holds, in flight and deferred included.
    Empty,
    /// Stop deliveries.
    Pause,
    /// Resume them.
    Unpause,
    /// Let this hold for it, beside what was asked for before.
    SetPolicy(Policy),
}

/// What a shard answers.
#[derive(Debug)]
pub enum AdminReply {
    /// The request was carried out.
    Done,
    /// `Resolve`: the topic and its home.
    Resolved {
        /// The topic's identity.
        topic: TopicId,
        /// The shard that owns it.
        home: ShardIndex,
    },
    /// No such topic, or it has been deleted since it was resolved.
    TopicNotFound,
    /// No such channel.
    ChannelNotFound,
    /// `Publish`: the topic cannot take the messages (memory budget, or it is being deleted); the
    /// text is what NSQ's log would say.
    Refused(String),
    /// `Publish`: a cap of the topic or of one of its channels is reached; its name.
    Full(&'static str),
    /// A page of topics.
    Topics(TopicsPage),
    /// A page of connections.
    Sessions(SessionsPage),
    /// A shard's figures.
    Figures(Vec<Figure>),
}

impl AdminReply {
    /// The answer to a publish.
    pub fn of_publish(outcome: Result<(), Refusal>) -> Self {
        match outcome {
            Ok(()) => Self::Done,
            Err(Refusal::Exiting) => Self::TopicNotFound,
            Err(Refusal::CapReached(cap)) => Self::Full(cap.code()),
            Err(refusal) => Self::Refused(refusal.reason().into_owned()),
        }
    }
}

/// Some topics of one shard.
#[derive(Debug, Default)]
pub struct TopicsPage {
    /// The topics of this page.
    pub topics: Vec<TopicStats>,
    /// Where the next page starts; `None` when this was the last.
    pub next: Option<u32>,
}

/// Some connections of one shard.
#[derive(Debug, Default)]
pub struct SessionsPage {
    /// The connections of this page.
    pub sessions: Vec<SessionStats>,
    /// Where the next page starts; `None` when this was the last.
    pub next: Option<u32>,
}

/// A topic's counters, as in `/stats`.
#[derive(Debug, Clone)]
pub struct TopicStats {
    /// Its name.
    pub name: TopicName,
    /// Messages waiting in the topic itself.
    pub depth: u64,
    /// The part of `depth` that is in the log.
    pub backend_depth: u64,
    /// Messages accepted since start.
    pub message_count: u64,
    /// Their bodies' bytes.
    pub message_bytes: u64,
    /// Whether the flow to channels is stopped.
    pub paused: bool,
    /// What its publishes promise.
    pub durability: Durability,
    /// Whether that was asked for of this topic, and is not just the daemon's default.
    pub has_own_durability: bool,
    /// Bytes of its log on disk.
    pub log_bytes: u64,
    /// Whether it waits for [`TopicAction::Start`].
    pub starting: bool,
    /// What policies hold for its own queue and what they did; `None` when there are none.
    pub governed: Option<Box<GovernedStats>>,
    /// How long its channels' messages take.
    pub latencies: Latencies,
    /// Its channels, unsorted.
    pub channels: Vec<ChannelStats>,
}

/// A channel's counters, as in `/stats`.
#[derive(Debug, Clone)]
pub struct ChannelStats {
    /// Its name.
    pub name: ChannelName,
    /// Messages ready to be delivered.
    pub depth: u64,
    /// The part of `depth` that is in the log.
    pub backend_depth: u64,
    /// Delivered, not yet finished.
    pub in_flight_count: u64,
    /// Waiting for their time.
    pub deferred_count: u64,
    /// Messages received from the topic.
    pub message_count: u64,
    /// REQ commands carried out.
    pub requeue_count: u64,
    /// Messages that timed out.
    pub timeout_count: u64,
    /// Deliveries to clients in the daemon's zone, else in its region, else elsewhere.
    pub delivery_counts: [u64; 3],
    /// Subscribed connections.
    pub client_count: u64,
    /// Whether deliveries are stopped.
    pub paused: bool,
    /// How long its messages take.
    pub latencies: Latencies,
    /// What policies hold for it and what they did; `None` when there are none.
    pub governed: Option<Box<GovernedStats>>,
}

/// What policies do to a queue.
#[derive(Debug, Clone)]
pub struct GovernedStats {
    /// What was asked for of this topic or channel.
    pub own: Policy,
    /// All that holds for it.
    pub policy: Policy,
    /// Messages that lived their time.
    pub expired_count: u64,
    /// Messages that made way for newer ones.
    pub dropped_count: u64,
    /// Messages that went to the dead-letter topic.
    pub dead_letter_count: u64,
}

/// One connection, as in `/stats`.
#[derive(Debug, Clone)]
pub struct SessionStats {
    /// From IDENTIFY; the peer's IP before it.
    pub client_id: String,
    /// From IDENTIFY; the peer's IP before it.
    pub hostname: String,
    /// From IDENTIFY.
    pub user_agent: String,
    /// `ip:port`, or `@` for an unnamed unix socket.
    pub remote_address: String,
    /// NSQ's numeric state: 0 init, 3 subscribed, 4 closing.
    pub state: u8,
    /// The current RDY window.
    pub ready_count: u64,
    /// Delivered to it, not yet finished.
    pub in_flight_count: u64,
    /// Delivered to it since it connected.
    pub message_count: u64,
    /// FINs carried out.
    pub finish_count: u64,
    /// REQs carried out.
    pub requeue_count: u64,
    /// When it connected, UNIX seconds.
    pub connected_unix_s: i64,
    /// TLS and compression.
    pub layers: Layers,
    /// Percent, 0 for all.
    pub sample_rate: u8,
    /// From IDENTIFY.
    pub topology_zone: String,
    /// From IDENTIFY.
    pub topology_region: String,
    /// Whether an auth server allows it anything.
    pub authed: bool,
    /// Who it is by an auth server; may be empty.
    pub auth_identity: String,
    /// A page about it; may be empty.
    pub auth_identity_url: String,
    /// What it consumes, if it has subscribed.
    pub subscription: Option<(TopicName, ChannelName)>,
    /// What it has published since it connected, per topic.
    pub publish_counts: Vec<(TopicName, u64)>,
}
