//! A topic's log: what of the topic is on disk, who waits for the disk, and how far the channels
//! have been given what is there.
//!
//! ```text
//! sequences   low of the slowest channel … handed … settled … written … appended
//!             what channels may read ──────┘          │
//!             the topic's own, until it flows ────────┘  pending: answered when covered
//! ```
//!
//! Channels are cursors over the log. A channel that is up to date gets messages in memory as they
//! are settled; one that is [behind](super::channel::Behind) reads them back, in order, below
//! `handed`. A message that has a sequence is finished by its cursor, wherever it was held.

use super::admin::ShardIndex;
use super::session::SessionKey;
use super::store::MessageSlot;
use super::time::Time;
use crate::protocol::command::PublishKind;
use ringmain_storage::cursors::CursorId;
use ringmain_storage::log::{Io, Log, State};
use ringmain_storage::request::LogKey;
use std::collections::VecDeque;

/// See the module's text.
#[derive(Debug)]
pub struct TopicLog {
    /// Its name among the logs of this shard.
    pub key: LogKey,
    /// The records.
    pub log: Log,
    /// The cursor that has finished what channels have been given.
    pub own: CursorId,
    /// Channels may read below this.
    pub handed: u64,
    /// Publishes below this have been answered.
    pub settled: u64,
    /// While the topic keeps its messages: from here on they are in the log only.
    pub waiting_from: Option<u64>,
    /// How many those are.
    pub waiting_count: u64,
    /// Publishes that are not covered yet, in order.
    pub pending: VecDeque<Pending>,
    /// How many messages those are.
    pub pending_count: u64,
    /// Bytes of their bodies.
    pub pending_bytes: u64,
    /// The messages of those that are in memory as well, in order; one reference each.
    pub pending_slots: VecDeque<MessageSlot>,
    /// Publishes that found the log busy, in order.
    pub stalled: VecDeque<Stalled>,
    /// At the end: messages that are only in memory, to be appended, in order.
    pub unsaved: VecDeque<MessageSlot>,
    /// At the end: how far saving is.
    pub saving: Saving,
    /// Channels that wait for a read, by slot.
    pub readers: Vec<u32>,
    /// Whether it is in the shard's list of logs to be looked at when the turn ends.
    pub is_marked: bool,
    /// The cursors have changed since the last checkpoint began.
    pub has_changed: bool,
    /// Messages finished since the last checkpoint began.
    pub finished_count: u64,
    /// Messages appended since the last sync began.
    pub unsynced_count: u64,
    /// When the last sync began, or nothing was left to sync.
    pub synced_at: Time,
    /// How it was when that was last told.
    pub told: State,
}

/// A publish that is answered when the log covers it.
#[derive(Debug)]
pub struct Pending {
    /// Everything it waits for is below this sequence.
    pub end: u64,
    /// Its messages; their sequences end at `end` if they are in the log.
    pub count: u32,
    /// Their bodies' bytes.
    pub body_bytes: u64,
    /// Whether they were appended.
    pub is_logged: bool,
    /// Whether the first `count` of `pending_slots` are its messages.
    pub is_in_memory: bool,
    /// Whether it has to be on stable storage.
    pub needs_sync: bool,
    /// Its deferral, milliseconds.
    pub delay_ms: u32,
    /// Who is to be told.
    pub reply_to: ReplyTo,
}

/// Who waits for the answer to a publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplyTo {
    /// A session of this shard, and which of its answers it is.
    Session(SessionKey, u64),
    /// A session of another shard.
    Remote(ShardIndex, SessionKey, u64),
    /// A request of the control plane.
    Control(u64),
}

/// How far a topic is on its way out at an orderly stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Saving {
    /// The daemon goes on.
    No,
    /// Messages that were only in memory are appended, from this sequence on; those from the
    /// second on are the topic's own.
    Appending(u64, Option<u64>),
    /// The log is being closed.
    Closing,
}

/// A publish that waits for the log to take it.
#[derive(Debug)]
pub enum Stalled {
    /// A session of this shard with its command parked.
    Session(SessionKey),
    /// A publish from elsewhere.
    Publish {
        /// Who is to be told.
        reply_to: ReplyTo,
        /// The command.
        kind: PublishKind,
        /// Its deferral, milliseconds.
        delay_ms: u64,
        /// Messages in the body.
        count: u32,
        /// Its body.
        body: Vec<u8>,
    },
}

impl TopicLog {
    /// A log as it was opened, of whose sequences channels have been given those below `handed`.
    pub fn new(key: LogKey, log: Log, own: CursorId, handed: u64) -> Self {
        let settled = log.appended_up_to();
        Self {
            key,
            log,
            own,
            handed,
            settled,
            waiting_from: None,
            waiting_count: 0,
            pending: VecDeque::new(),
            pending_count: 0,
            pending_bytes: 0,
            pending_slots: VecDeque::new(),
            stalled: VecDeque::new(),
            unsaved: VecDeque::new(),
            saving: Saving::No,
            readers: Vec::new(),
            is_marked: false,
            has_changed: false,
            finished_count: 0,
            unsynced_count: 0,
            synced_at: Time(0),
            told: State::Healthy,
        }
    }

    /// Notes a publish that waits to be covered.
    pub(super) fn push_pending(&mut self, pending: Pending) {
        self.pending_count += u64::from(pending.count);
        self.pending_bytes += pending.body_bytes;
        self.pending.push_back(pending);
    }

    /// A publish waits no more.
    pub(super) fn note_settled(&mut self, pending: &Pending) {
        self.pending_count -= u64::from(pending.count);
        self.pending_bytes -= pending.body_bytes;
    }

    /// Whether a pending publish is covered.
    pub fn covers(&self, pending: &Pending) -> bool {
        let bound =
            if pending.needs_sync { self.log.durable_up_to() } else { self.log.written_up_to() };
        pending.end <= bound
    }

    /// Notes that a channel needs a sequence no more.
    #[inline]
    pub fn finish(&mut self, cursor: CursorId, sequence: u64) {
        if let Some(cursor) = self.log.cursor_mut(cursor) {
            cursor.finish(sequence);
            self.has_changed = true;
            self.finished_count += 1;
        }
    }

    /// A cursor for a new channel, which needs what channels have not been given. Sequences that no
    /// record has, because a crash lost them, are finished for it as they are for the topic.
    pub fn create_cursor(&mut self, name: &[u8], io: &mut Io) -> CursorId {
        let id = self.log.create_cursor(name, self.handed, io);
        let own = self.log.cursors().cursor(self.own);
        let gaps: Vec<_> = own.map(|own| own.finished_ranges().collect()).unwrap_or_default();
        if let Some(cursor) = self.log.cursor_mut(id) {
            gaps.into_iter().for_each(|gap| cursor.finish_range(gap));
        }
        id
    }

    /// Everything below a sequence was given to the channels, or dropped.
    pub fn hand_up_to(&mut self, sequence: u64) {
        if let Some(cursor) = self.log.cursor_mut(self.own) {
            cursor.finish_range(cursor.low()..sequence);
        }
        self.handed = self.handed.max(sequence);
        self.has_changed = true;
    }
}
