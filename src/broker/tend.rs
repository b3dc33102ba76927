//! What the logs of a shard need beside publishes: answers of the disk, commits at the end of a
//! turn, background syncs, checkpoints, and word of how they are.

use super::action::{Action, Notice};
use super::shard::Shard;
use super::time::{Now, Span, Time};
use super::topic_log::TopicLog;
use crate::limits::{CHECKPOINT_AFTER_FINISHED, LOGS_TENDED_EVERY_NS};
use crate::protocol::name::TopicName;
use ringmain_storage::log::State;
use ringmain_storage::request::{Completion, LogKey};

impl Shard {
    /// The disk has answered a request of a log.
    pub fn file_completed(&mut self, now: Now, key: LogKey, completion: Completion) {
        let Some(index) = self.log_keys.topic(key).map(|topic| topic.index) else {
            // The log is gone; its memory is still this shard's.
            if let Some(buffer) = completion.buffer {
                self.io.buffers.give(buffer);
            }
            return;
        };
        let topic = self.topics[index as usize].as_mut();
        let Some(tl) = topic.and_then(|topic| topic.log.as_mut()) else { return };
        let was_checkpointing = tl.log.is_checkpointing();
        let progress = tl.log.complete(completion, &mut self.io);
        // A checkpoint that failed has saved nothing: it is tried again.
        let has_ended = was_checkpointing && !tl.log.is_checkpointing();
        tl.has_changed |= has_ended && !progress.has_saved;
        if progress.can_read {
            self.wake_readers(index);
        }
        self.settle(now, index);
        self.mark_log(index);
    }

    /// Has a log looked at when the turn ends.
    pub(super) fn mark_log(&mut self, index: u32) {
        let topic = self.topics[index as usize].as_mut();
        if let Some(tl) = topic.and_then(|topic| topic.log.as_mut())
            && !tl.is_marked
        {
            tl.is_marked = true;
            self.marked_logs.push(index);
        }
    }

    /// The end of a turn: everything it appended is handed to the disk as one.
    pub fn advance_logs(&mut self, now: Now) {
        while let Some(index) = self.marked_logs.pop() {
            let Some(topic) = self.topics[index as usize].as_mut() else { continue };
            let name = topic.name;
            let Some(tl) = topic.log.as_mut() else { continue };
            tl.is_marked = false;
            let is_due = tl.unsynced_count >= self.config.sync_every;
            if is_due || tl.pending.back().is_some_and(|pending| pending.needs_sync) {
                tl.begin_sync(now);
                tl.log.sync(&mut self.io);
            } else {
                tl.log.commit(&mut self.io);
            }
            if tl.finished_count >= CHECKPOINT_AFTER_FINISHED {
                tl.begin_checkpoint(&mut self.io);
            }
            let is_restless = tl.is_restless();
            self.tell_of_log(index, name);
            self.settle_if_stuck(now, index);
            if is_restless && self.deadlines.due(self.logs_timer) == Time::NEVER {
                self.deadlines.arm(self.logs_timer, now.time + self.tending_interval());
            }
        }
    }

    /// The logs' timer fired.
    pub(super) fn logs_due(&mut self, now: Now) {
        let topics: Vec<_> = self.log_keys.topics().collect();
        let sync_timeout = self.config.sync_timeout;
        for topic in topics {
            let Some(topic) = self.topic_mut(topic) else { continue };
            let (index, name) = (topic.id.index, topic.name);
            let Some(tl) = topic.log.as_deref_mut() else { continue };
            if !tl.is_restless() {
                continue;
            }
            let io = &mut self.io;
            let tl = self.topics[index as usize].as_mut().and_then(|topic| topic.log.as_mut());
            let Some(tl) = tl else { continue };
            if tl.unsynced_count > 0 && tl.synced_at + sync_timeout <= now.time {
                tl.begin_sync(now);
                tl.log.sync(io);
            }
            if tl.has_changed {
                tl.begin_checkpoint(io);
            }
            tl.log.probe(io);
            tl.log.release_memory(io);
            self.wake_readers(index);
            self.tell_of_log(index, name);
            self.settle(now, index);
            self.mark_log(index);
        }
    }

    /// Channels that waited for a read may try again.
    pub(super) fn wake_readers(&mut self, index: u32) {
        let topic = self.topics[index as usize].as_mut();
        let Some(tl) = topic.and_then(|topic| topic.log.as_mut()) else { return };
        for slot in std::mem::take(&mut tl.readers) {
            let channel = &mut self.channels[slot as usize];
            channel.later.waits = false;
            if let Some(behind) = channel.behind.as_mut() {
                behind.waits = false;
            }
            super::publish::mark_ready(&mut self.dirty_channels, slot, channel);
            self.sweep_channel_at(slot, Time(0));
        }
    }

    /// A log that has just blocked or failed answers those who wait for it: no completion may come.
    fn settle_if_stuck(&mut self, now: Now, index: u32) {
        let topic = self.topics[index as usize].as_ref();
        let Some(tl) = topic.and_then(|topic| topic.log.as_ref()) else { return };
        let waits = !tl.pending.is_empty() || !tl.stalled.is_empty();
        if waits && tl.log.state() != State::Healthy {
            self.settle(now, index);
        }
    }

    /// Passes on what a log has to say, and how it is when that has changed.
    fn tell_of_log(&mut self, index: u32, name: TopicName) {
        let topic = self.topics[index as usize].as_mut();
        let Some(tl) = topic.and_then(|topic| topic.log.as_mut()) else { return };
        let state = tl.log.state();
        if state != tl.told {
            tl.told = state;
            self.actions.push(Action::Notice(Notice::LogState(name, state)));
        }
        let (reports, _) = tl.log.take_reports();
        for report in reports {
            self.actions.push(Action::Notice(Notice::LogReport(name, report)));
        }
    }

    fn tending_interval(&self) -> Span {
        Span(LOGS_TENDED_EVERY_NS).min(self.config.sync_timeout)
    }
}

impl TopicLog {
    /// Whether it needs to be looked at again, whatever comes.
    fn is_restless(&self) -> bool {
        self.unsynced_count > 0
            || self.has_changed
            || !self.pending.is_empty()
            || !self.stalled.is_empty()
            || !self.readers.is_empty()
            || self.log.state() != State::Healthy
            || self.log.waits_for_space()
    }

    fn begin_sync(&mut self, now: Now) {
        self.unsynced_count = 0;
        self.synced_at = now.time;
    }

    /// Makes the cursors durable, unless that is under way already.
    pub(super) fn begin_checkpoint(&mut self, io: &mut ringmain_storage::log::Io) {
        if self.log.is_checkpointing() {
            return;
        }
        self.log.checkpoint(io);
        if self.log.is_checkpointing() {
            self.has_changed = false;
            self.finished_count = 0;
        }
    }
}
