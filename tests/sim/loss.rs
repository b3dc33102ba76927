//! What the auditor says at the end: every message that is owed and never came has an excuse.

use super::auditor::{Auditor, ChannelView, Copy, Message};
use ringmain::broker::durability::Durability;
use ringmain::protocol::name::{ChannelName, TopicName};
use std::collections::{BTreeMap, BTreeSet};

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    Stop,
    Kill,
    Power,
}

/// The end of a run.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) how: How,
    pub(crate) serial: u64,
    pub(crate) run: u32,
    /// Topics whose disk had not done what it was asked to.
    pub(crate) unsound: BTreeSet<TopicName>,
    /// Messages of level `overflow` that a channel may lose from its memory.
    pub(crate) memory_max: usize,
}

impl End {
    pub(crate) fn new(how: How, unsound: BTreeSet<TopicName>, mem_queue_size: usize) -> Self {
        // A channel's queue, and its topic's that flows into it, each beyond by one batch; and
        // what is on its way to clients that have not read it.
        let memory_max = if mem_queue_size == 0 { 0 } else { 2 * (mem_queue_size + 8) + 100 };
        Self { how, serial: 0, run: 0, unsound, memory_max }
    }

    /// Whether what was only in memory, or refused, may have met with something else.
    pub(crate) fn spoils(&self, topic: TopicName) -> bool {
        self.unsound.contains(&topic)
    }

    /// Whether what was finished then may have been forgotten.
    pub(crate) fn forgets(&self, finished: u64, rests: &[u64], topic: TopicName) -> bool {
        let is_saved = |rest: &u64| finished < *rest && *rest < self.serial;
        let may_forget = self.how != How::Stop || self.spoils(topic);
        finished < self.serial && may_forget && !rests.iter().any(is_saved)
    }

    /// Whether what was written then may never have become durable.
    fn cuts(&self, written: u64, rests: &[u64]) -> bool {
        let is_durable = |rest: &u64| written < *rest && *rest < self.serial;
        self.how == How::Power && written < self.serial && !rests.iter().any(is_durable)
    }
}

impl Auditor {
    /// Everything was drained: says what is lost without excuse.
    pub(crate) fn check_lost(&self) {
        for (name, view) in self.channels.iter().filter(|(name, _)| !name.is_ephemeral()) {
            let mut from_memory: BTreeMap<u64, usize> = BTreeMap::new();
            let lost = view.copies.iter().filter(|(_, c)| c.is_owed && c.finished.is_none());
            for (number, copy) in lost {
                let message = &self.messages[*number];
                let reason = self.excuse(*number, message, copy, &mut from_memory);
                if let Some(reason) = reason {
                    panic!("lost: message {number} in {name}: {reason}");
                }
                self.check_suffix(*number, (name, view), message);
            }
            for (serial, count) in from_memory {
                let bound: usize = self.ends.iter().map(|end| end.memory_max).sum();
                assert!(count <= bound, "{name} lost {count} of its memory at {serial}");
            }
            self.check_batches(name, view);
        }
    }

    /// Why a message that is owed and never came is no loss; a text when it is one.
    fn excuse(
        &self,
        number: usize,
        message: &Message,
        copy: &Copy,
        from_memory: &mut BTreeMap<u64, usize>,
    ) -> Option<String> {
        let acked = message.acked.expect("only what is acknowledged is owed");
        let from = copy.delivered.map_or(acked, |delivered| delivered.max(acked));
        let after: Vec<_> = self.ends.iter().filter(|end| end.serial > from).collect();
        let rests = &self.topics[&message.topic].rests;
        let is_cut = || after.iter().any(|end| end.cuts(acked, rests));
        // A sync that failed keeps what it was for from ever becoming durable.
        let is_spoilt = || {
            let spoilt = self.ends.iter().filter(|end| end.spoils(message.topic));
            let mut unsynced = spoilt.filter(|end| {
                let is_durable = |rest: &u64| acked < *rest && *rest < end.serial;
                end.serial > acked && !rests.iter().any(is_durable)
            });
            let cut =
                |end: &&End| after.iter().any(|e| e.how == How::Power && e.serial >= end.serial);
            unsynced.any(|end| cut(&end))
        };
        let topic = message.topic;
        let text = |level: &str| {
            let ends: Vec<_> = after.iter().map(|end| (end.how, end.serial)).collect();
            Some(format!("{topic} is {level}, {number} acknowledged at {acked}, ends: {ends:?}"))
        };
        match message.level {
            // Its level changed on the way, or its topic went.
            None => None,
            Some(Durability::Memory) if !after.is_empty() => None,
            Some(Durability::Memory) => text("memory"),
            Some(Durability::Overflow) => {
                let ends = after.iter().find(|end| end.how != How::Stop || end.spoils(topic));
                let Some(end) = ends else { return text("overflow") };
                if !(message.is_deferred || copy.delivered.is_some() || is_cut() || is_spoilt()) {
                    *from_memory.entry(end.serial).or_default() += 1;
                }
                None
            }
            Some(Durability::Logged) if is_cut() || is_spoilt() => None,
            Some(Durability::Logged) => text("logged"),
            Some(Durability::Synced) => text("synced"),
        }
    }

    /// What a power cut costs at level `logged` is the end of what each producer had published.
    fn check_suffix(
        &self,
        number: usize,
        (name, view): (&ChannelName, &ChannelView),
        lost: &Message,
    ) {
        // What a failed sync took has no order: the next start may have saved parts of it.
        let is_spoilt = self.ends.iter().any(|end| end.spoils(lost.topic));
        if lost.level != Some(Durability::Logged) || is_spoilt {
            return;
        }
        let acked = lost.acked.expect("only what is acknowledged is owed");
        let mut cuts = self.ends.iter().filter(|e| e.how == How::Power && e.serial > acked);
        let Some(first) = cuts.next() else { return };
        let last = cuts.next_back().unwrap_or(first);
        for (later, copy) in view.copies.range(number + 1..) {
            let message = &self.messages[*later];
            let is_after = message.producer == lost.producer && message.topic == lost.topic;
            let was_there = message.acked.is_some_and(|acked| acked < first.serial);
            let is_there = copy.delivered.is_some_and(|delivered| delivered > last.serial);
            let is_hole = is_after && was_there && is_there && message.level == lost.level;
            assert!(!is_hole, "{name} lost {number} and kept {later}, which came after it");
        }
    }

    /// Whether some of its channels may have had a message that the power took away afterwards.
    fn may_be_cut(&self, message: &Message) -> bool {
        let rests = &self.topics[&message.topic].rests;
        let after = || self.ends.iter().filter(|end| end.serial > message.sent);
        let is_spoilt = after().any(|end| end.spoils(message.topic));
        let is_unsynced = message.level == Some(Durability::Logged);
        after().any(|end| {
            end.how == How::Power && (is_spoilt || is_unsynced && end.cuts(message.sent, rests))
        })
    }

    /// A batch came whole or not at all.
    fn check_batches(&self, name: &ChannelName, view: &ChannelView) {
        for (number, copy) in &view.copies {
            let message = &self.messages[*number];
            let (first, count) = message.batch;
            let is_written = message.level.is_some_and(Durability::writes_all);
            let is_gone = self.may_be_cut(message);
            let is_first = copy.finished.is_some() && count > 1 && view.since <= message.sent;
            if !is_first || !is_written || is_gone {
                continue;
            }
            for other in first..first + count {
                let is_there = view.copies.get(&other).is_some_and(|c| c.finished.is_some());
                assert!(is_there, "{name} got {number} and not {other} of one batch");
            }
        }
    }
}
