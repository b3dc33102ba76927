//! Reading back: a channel that is behind gets its next messages from the topic's log.
//!
//! It reads only when somebody takes messages and none is ready, so a backlog costs a channel no
//! memory until then, and a bounded amount afterwards. What is read is copied from the block into
//! the store, next to what was published last; blocks are shared by channels that are close to each
//! other, and no message that stays in flight for long keeps one.

use super::action::{Action, Notice};
use super::channel::{Deferred, Entry};
use super::later::due_ns;
use super::shard::Shard;
use super::time::{Now, Span};
use crate::limits::{DEFERRED_IN_MEMORY_MAX, REFILL_BYTES_MAX, REFILL_MESSAGES_MAX};
use crate::protocol::message::MessageId;
use ringmain_storage::message::Entry as LogEntry;
use ringmain_storage::read::Read;
use std::cmp::Reverse;

/// What stopped a channel's reading.
enum Stop {
    /// It has enough for now.
    Enough,
    /// It has read all there is for it.
    UpToDate,
    /// The disk.
    Waits,
}

impl Shard {
    /// Brings a channel that is behind its next messages.
    pub(super) fn refill(&mut self, now: Now, slot: u32) {
        let stop = self.read_back(now, slot);
        let channel = &mut self.channels[slot as usize];
        match stop {
            Stop::Enough => {}
            Stop::UpToDate if channel.behind_count() == 0 => channel.behind = None,
            Stop::UpToDate | Stop::Waits => {
                let waits = matches!(stop, Stop::Waits);
                debug_assert!(waits, "all that was counted was read");
                if let Some(behind) = channel.behind.as_mut()
                    && !behind.waits
                {
                    behind.waits = true;
                    let topic = self.topics[channel.topic as usize].as_mut();
                    let log = topic.and_then(|topic| topic.log.as_mut());
                    log.expect("it was read from").readers.push(slot);
                }
            }
        }
        self.mark_log(self.channels[slot as usize].topic);
    }

    fn read_back(&mut self, now: Now, slot: u32) -> Stop {
        let topic_index = self.channels[slot as usize].topic;
        let (mut messages, mut bytes) = (0, 0);
        while messages < REFILL_MESSAGES_MAX && bytes < REFILL_BYTES_MAX {
            let channel = &mut self.channels[slot as usize];
            let Some(topic) = self.topics[topic_index as usize].as_mut() else {
                return Stop::UpToDate;
            };
            let (Some(tl), Some(behind)) = (topic.log.as_mut(), channel.behind.as_mut()) else {
                return Stop::UpToDate;
            };
            if behind.reader.sequence() >= tl.handed {
                return Stop::UpToDate;
            }
            match tl.log.read(&mut behind.reader, &mut self.io) {
                Read::Wait => return Stop::Waits,
                Read::End => return Stop::UpToDate,
                Read::Lost(range) => {
                    let end = range.end.min(tl.handed);
                    let cursor = channel.cursor.and_then(|id| tl.log.cursor_mut(id));
                    let cursor = cursor.expect("only a channel with a cursor is behind");
                    let before = cursor.unfinished_count(end);
                    cursor.finish_range(range.start..end);
                    let lost = before - cursor.unfinished_count(end);
                    tl.has_changed = true;
                    behind.count -= lost;
                    channel.counts.discarded += lost;
                    let (topic, channel) = (topic.name, channel.name);
                    let notice = Notice::LogLost { topic, channel, count: lost };
                    self.actions.push(Action::Notice(notice));
                }
                Read::Entry(entry) if entry.sequence >= tl.handed => {
                    behind.reader.seek(entry.sequence);
                    return Stop::UpToDate;
                }
                Read::Entry(entry) => {
                    if let Some(body_bytes) = self.take_entry_back(now, slot, &entry) {
                        messages += 1;
                        bytes += body_bytes;
                    }
                }
            }
        }
        Stop::Enough
    }

    /// An entry of the log becomes a message of a channel again, unless the channel has finished
    /// it. Gives the bytes of its body.
    fn take_entry_back(
        &mut self,
        now: Now,
        slot: u32,
        entry: &ringmain_storage::read::Entry,
    ) -> Option<usize> {
        let channel = &mut self.channels[slot as usize];
        let tl = self.topics[channel.topic as usize].as_mut()?.log.as_mut()?;
        let cursor = tl.log.cursor_mut(channel.cursor?)?;
        if cursor.is_finished(entry.sequence) {
            return None;
        }
        let retry = cursor.retry(entry.sequence);
        let due_ns = due_ns(&retry, entry.bytes());
        if channel.later.contains(due_ns, entry.sequence) {
            // It was put into the log to wait there, behind the reader.
            return None;
        }
        channel.behind.as_mut()?.count -= 1;
        let split = LogEntry::split(entry.bytes());
        let message = split.and_then(|split| Some((split, MessageId(split.head.id).number()?)));
        let Some((split, id)) = message else {
            // A good record that is no message: nothing this daemon wrote.
            cursor.finish(entry.sequence);
            channel.counts.discarded += 1;
            return None;
        };
        let left = due_ns.saturating_sub(now.wall.0);
        if left > 0 && channel.deferred.len() >= DEFERRED_IN_MEMORY_MAX {
            self.defer_in_log(now, slot, due_ns, entry.sequence);
            return Some(0);
        }
        let place = self.store.copy_body_anyway(split.body);
        let message = self.store.insert((id, split.head.timestamp_ns), place, 1);
        self.store.set_sequence(message, entry.sequence);
        let entry = Entry { message, attempts: retry.attempts };
        if left <= 0 {
            channel.ready.push_back(entry);
        } else {
            self.next_sequence += 1;
            let due = now.time + Span(left.unsigned_abs());
            let deferred = Deferred { due, sequence: self.next_sequence, entry };
            channel.deferred.push(Reverse(deferred));
            self.deadlines.arm(channel.timer, channel.first_due());
        }
        Some(split.body.len())
    }
}
