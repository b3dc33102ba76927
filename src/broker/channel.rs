//! A channel: the messages that its subscribers share, each in exactly one of three places.
//!
//! ```text
//! put ──► ready ──► in flight ──► finished
//!  │        ▲          │
//!  └► deferred ◄───────┘ REQ with a delay; REQ 0 and timeouts go back to ready
//! ```
//!
//! Conservation: *put = finished + ready + in flight + deferred + discarded* at every moment
//! (discarded: emptied, sampled out, or dropped by an ephemeral queue that was full).

use super::admin::ShardIndex;
use super::deadlines::TimerId;
use super::eligible::Eligible;
use super::in_flight::InFlightIndex;
use super::store::MessageSlot;
use super::time::Time;
use crate::protocol::name::ChannelName;
use std::cmp::{Ordering, Reverse};
use std::collections::{BinaryHeap, VecDeque};

/// One channel of a topic of this shard.
#[derive(Debug)]
pub struct Channel {
    /// Its topic, by index in the table.
    pub topic: u32,
    /// Its name.
    pub name: ChannelName,
    /// Whether deliveries are stopped.
    pub paused: bool,
    /// To be delivered, oldest first.
    pub ready: VecDeque<Entry>,
    /// Waiting for their time, earliest first.
    pub deferred: BinaryHeap<Reverse<Deferred>>,
    /// Delivered, not finished.
    pub in_flight: InFlightIndex,
    /// Armed for the first of `deferred`.
    pub timer: TimerId,
    /// Subscribed sessions, by slot.
    pub consumers: Vec<u32>,
    /// Those that may have room for a message, in the order they are served. A session is in here
    /// at most once (its own flag says so) and is checked when its turn comes.
    pub eligible: Eligible,
    /// Whether it is in the shard's list of channels to deliver from.
    pub dirty: bool,
    /// What `/stats` shows, and what the conservation equation needs.
    pub counts: ChannelCounts,
}

/// Counters of a channel since it was created.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct ChannelCounts {
    /// Messages received from the topic.
    pub put: u64,
    /// FIN.
    pub finished: u64,
    /// REQ, with and without delay.
    pub requeued: u64,
    /// Timeouts.
    pub timed_out: u64,
    /// Emptied, sampled out, or dropped by a full ephemeral queue.
    pub discarded: u64,
    /// Deliveries, by [`Proximity`](super::eligible::Proximity).
    pub delivered: [u64; 3],
}

/// A message in a channel, between deliveries.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    /// The message.
    pub message: MessageSlot,
    /// Deliveries so far.
    pub attempts: u16,
}

/// A message that waits for its time.
#[derive(Debug, Clone, Copy)]
pub struct Deferred {
    /// When it becomes ready.
    pub due: Time,
    /// Keeps the order among equals.
    pub sequence: u64,
    /// The message.
    pub entry: Entry,
}

impl PartialEq for Deferred {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Deferred {}

impl PartialOrd for Deferred {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Deferred {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.due, self.sequence).cmp(&(other.due, other.sequence))
    }
}

impl Channel {
    /// An empty channel.
    pub fn new(topic: u32, name: ChannelName, timer: TimerId) -> Self {
        Self {
            topic,
            name,
            paused: false,
            ready: VecDeque::new(),
            deferred: BinaryHeap::new(),
            in_flight: InFlightIndex::default(),
            timer,
            consumers: Vec::new(),
            eligible: Eligible::default(),
            dirty: false,
            counts: ChannelCounts::default(),
        }
    }

    /// Whether the conservation equation holds.
    pub fn is_conserved(&self) -> bool {
        let held = self.ready.len() + self.deferred.len() + self.in_flight.len();
        self.counts.put == self.counts.finished + self.counts.discarded + held as u64
    }

    /// When the first deferred message is due.
    pub fn first_due(&self) -> Time {
        self.deferred.peek().map_or(Time::NEVER, |first| first.0.due)
    }
}

/// The index of a shard as an index into per-shard vectors.
impl From<ShardIndex> for usize {
    fn from(shard: ShardIndex) -> Self {
        Self::from(shard.0)
    }
}
