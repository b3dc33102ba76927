//! A channel: the messages that its subscribers share, each in exactly one of three places.
//!
//! ```text
//! put ──► ready ──► in flight ──► finished
//!  │        ▲          │
//!  └► deferred ◄───────┘ REQ with a delay; REQ 0 and timeouts go back to ready
//! ```
//!
//! A channel that is behind has more to be delivered in its topic's log, after what is ready.
//!
//! Conservation: *put + restored = finished + ready + behind + in flight + deferred + discarded* at
//! every moment (discarded: emptied, sampled out, unreadable, or dropped by an ephemeral queue that
//! was full). With [policies](super::policy) there are also those on their way to the dead-letter
//! topic, and those that expired, made way for others, or are there.

use super::admin::ShardIndex;
use super::deadlines::TimerId;
use super::eligible::Eligible;
use super::governed::Governed;
use super::in_flight::InFlightIndex;
use super::latency::LatencyWindow;
use super::later::Later;
use super::store::MessageSlot;
use super::time::Time;
use crate::protocol::name::ChannelName;
use ringmain_storage::cursors::CursorId;
use ringmain_storage::read::ReadCursor;
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
    /// Waiting for their time in memory, earliest first.
    pub deferred: BinaryHeap<Reverse<Deferred>>,
    /// Its cursor in the topic's log; none while there is no log, and for ephemeral channels.
    pub cursor: Option<CursorId>,
    /// What it has yet to read of the log; none while it is up to date.
    pub behind: Option<Behind>,
    /// Deferred messages that are only in the log.
    pub later: Later,
    /// Delivered, not finished.
    pub in_flight: InFlightIndex,
    /// How long its messages take; none unless that is measured.
    pub latency: Option<Box<LatencyWindow>>,
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
    /// What policies hold for it and need; none for most.
    pub governed: Option<Box<Governed>>,
}

/// What a channel has yet to read of its topic's log.
#[derive(Debug)]
pub struct Behind {
    /// Where it goes on.
    pub reader: ReadCursor,
    /// How many messages there are from there on.
    pub count: u64,
    /// Whether it is among the readers that wait for the log.
    pub waits: bool,
}

/// Counters of a channel since it was created.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct ChannelCounts {
    /// Messages received from the topic.
    pub put: u64,
    /// Messages it had when the daemon started.
    pub restored: u64,
    /// FIN.
    pub finished: u64,
    /// REQ, with and without delay.
    pub requeued: u64,
    /// Timeouts.
    pub timed_out: u64,
    /// Emptied, sampled out, unreadable, or dropped by a full ephemeral queue.
    pub discarded: u64,
    /// Messages that lived their time.
    pub expired: u64,
    /// Messages that made way for newer ones.
    pub dropped: u64,
    /// Messages that went to the dead-letter topic.
    pub dead: u64,
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
            cursor: None,
            behind: None,
            later: Later::default(),
            in_flight: InFlightIndex::default(),
            latency: None,
            timer,
            consumers: Vec::new(),
            eligible: Eligible::default(),
            dirty: false,
            counts: ChannelCounts::default(),
            governed: None,
        }
    }

    /// Whether the conservation equation holds.
    pub fn is_conserved(&self) -> bool {
        let ChannelCounts { put, restored, finished, discarded, expired, dropped, dead, .. } =
            self.counts;
        put + restored == finished + discarded + expired + dropped + dead + self.held_count()
    }

    /// Messages that are to be delivered and only in the log.
    pub fn behind_count(&self) -> u64 {
        self.behind.as_ref().map_or(0, |behind| behind.count)
    }

    /// Whether there may be a message to deliver.
    #[inline]
    pub fn has_ready(&self) -> bool {
        !self.ready.is_empty()
            || self.behind.as_ref().is_some_and(|behind| !behind.waits)
            || self.later.is_due && !self.later.waits
    }

    /// Leaves so many messages, of which the first has a sequence, to the log.
    pub fn fall_behind(&mut self, first: u64, count: u64) {
        let start = || Behind { reader: ReadCursor::new(first), count: 0, waits: false };
        self.behind.get_or_insert_with(start).count += count;
    }

    /// When there is something to do: the first deferred message is due, or policies ask for it.
    pub fn first_due(&self) -> Time {
        let in_memory = self.deferred.peek().map_or(Time::NEVER, |first| first.0.due);
        let governed = self.governed.as_deref();
        let governed = governed.map_or(Time::NEVER, |g| g.sweep_at.min(g.dead.retry_at));
        in_memory.min(self.later.first_due).min(governed)
    }
}

/// The index of a shard as an index into per-shard vectors.
impl From<ShardIndex> for usize {
    fn from(shard: ShardIndex) -> Self {
        Self::from(shard.0)
    }
}
