//! Knows what clients sent and were told, what they were given, and which faults there were; from
//! that alone it says what may be missing and what must not come again.
//!
//! What it holds the daemon to:
//!
//! | level | orderly stop | kill | power cut |
//! |---|---|---|---|
//! | `memory` | all | all | all |
//! | `overflow` | nothing | as much as memory holds | and what was published since the last rest |
//! | `logged` | nothing | nothing | a suffix of what was published since the last rest |
//! | `synced` | nothing | nothing | nothing |
//!
//! A *rest* is a moment when everything was written, and time enough had passed for syncs and
//! checkpoints. A refused publish is never delivered in its run, and later only if its disk failed;
//! one that nobody was told of may be either. What was finished comes again only after a crash, and
//! only what was finished since the last rest.

use super::loss::{End, How};
use ringmain::broker::durability::Durability;
use ringmain::protocol::name::{ChannelName, TopicName};
use std::collections::{BTreeMap, BTreeSet};

/// A message that some client published.
pub(crate) struct Message {
    pub(crate) topic: TopicName,
    /// The connection it came over.
    pub(crate) producer: usize,
    /// The first message of its batch, and how many there are.
    pub(crate) batch: (usize, usize),
    pub(crate) body: Vec<u8>,
    pub(crate) is_deferred: bool,
    /// No earlier than this is it delivered.
    pub(crate) due: u64,
    pub(crate) sent: u64,
    /// What its topic promised when it was published.
    pub(crate) level: Option<Durability>,
    pub(crate) acked: Option<u64>,
    pub(crate) refused: Option<u32>,
}

/// A message as one channel has it.
#[derive(Default)]
pub(crate) struct Copy {
    /// It was acknowledged, and the channel was there.
    pub(crate) is_owed: bool,
    pub(crate) delivered: Option<u64>,
    /// In the run of the last delivery.
    attempts: BTreeSet<u16>,
    run: u32,
    pub(crate) finished: Option<(u64, u32)>,
    /// Requeued: when, and not to be delivered before.
    requeued: Option<(u64, u64)>,
}

#[derive(Default)]
pub(crate) struct ChannelView {
    pub(crate) topic: Option<TopicName>,
    exists: bool,
    /// It has everything published since.
    pub(crate) since: u64,
    pub(crate) copies: BTreeMap<usize, Copy>,
    /// What had waited for it in its topic.
    inherited: Vec<usize>,
    /// FINs carried out in this run.
    finished_count: u64,
    /// What its counters differ by; none until they are looked at.
    balance: Option<i64>,
}

#[derive(Default)]
pub(crate) struct TopicView {
    pub(crate) level: Option<Durability>,
    /// Being deleted: nothing is promised of publishes.
    pub(crate) deleting: u32,
    channels_changed: u64,
    /// Acknowledged while there was no channel.
    waiting: Vec<usize>,
    /// Some channel has got those already.
    is_waiting_over: bool,
    pub(crate) rests: Vec<u64>,
}

/// See the module's text.
#[derive(Default)]
pub(crate) struct Auditor {
    /// Counts events: what comes later is greater.
    pub(crate) serial: u64,
    pub(crate) run: u32,
    pub(crate) messages: Vec<Message>,
    pub(crate) topics: BTreeMap<TopicName, TopicView>,
    pub(crate) channels: BTreeMap<ChannelName, ChannelView>,
    pub(crate) ends: Vec<End>,
    pub(crate) delivered: u64,
    pub(crate) redelivered: u64,
}

impl Auditor {
    pub(crate) fn tick(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    /// Messages of one publish, about to be sent. Gives the number of the first.
    pub(crate) fn publish(
        &mut self,
        topic: TopicName,
        producer: usize,
        bodies: Vec<Vec<u8>>,
        due: (bool, u64),
    ) -> usize {
        let (first, sent) = (self.messages.len(), self.tick());
        let view = self.topics.entry(topic).or_default();
        let level = view.level.filter(|_| view.deleting == 0);
        let batch = (first, bodies.len());
        self.messages.extend(bodies.into_iter().map(|body| Message {
            topic,
            producer,
            batch,
            body,
            is_deferred: due.0,
            due: due.1,
            sent,
            level,
            acked: None,
            refused: None,
        }));
        first
    }

    pub(crate) fn acknowledged(&mut self, first: usize, count: usize) {
        let acked = self.tick();
        let topic = self.messages[first].topic;
        let view = self.topics.entry(topic).or_default();
        let sent = self.messages[first].sent;
        let mut has_channels = false;
        for channel in self.channels.values_mut() {
            if channel.topic == Some(topic) && channel.exists {
                has_channels = true;
                if channel.since <= sent && view.deleting == 0 {
                    for number in first..first + count {
                        channel.copies.entry(number).or_default().is_owed = true;
                    }
                }
            }
        }
        for number in first..first + count {
            let message = &mut self.messages[number];
            message.acked = Some(acked);
            message.level = message.level.filter(|level| view.level == Some(*level));
            if !has_channels && view.deleting == 0 && view.channels_changed <= sent {
                view.is_waiting_over = false;
                view.waiting.push(number);
            }
        }
    }

    pub(crate) fn refused(&mut self, first: usize, count: usize) {
        for message in &mut self.messages[first..first + count] {
            message.refused = Some(self.run);
        }
    }

    /// A message leaves for a subscriber. It was given to it no earlier than `since`.
    pub(crate) fn delivered(
        &mut self,
        name: ChannelName,
        body: &[u8],
        attempts: u16,
        (since, now): (u64, u64),
    ) {
        let (serial, run) = (self.tick(), self.run);
        self.delivered += 1;
        let number = number_of(body).expect("damaged: a body that nobody sent");
        let message = self.messages.get(number).expect("spurious: a body that nobody sent");
        assert!(message.body == body, "damaged: message {number}");
        let view = self.channels.get_mut(&name).expect("somebody subscribed to it");
        assert_eq!(view.topic, Some(message.topic), "message {number} in a foreign topic");
        assert!(attempts > 0, "message {number} without attempts");
        // Without a checkpoint at an orderly stop, the log does not know of delays.
        let is_spoilt = self.ends.iter().any(|end| end.spoils(message.topic));
        assert!(now >= message.due || is_spoilt, "message {number} in {name} before its time");
        if let Some(refused) = message.refused {
            let spoilt =
                self.ends.iter().any(|end| end.run >= refused && end.spoils(message.topic));
            assert!(refused < run && spoilt, "message {number}, refused, is delivered in {name}");
        }
        let copy = view.copies.entry(number).or_default();
        if copy.run != run {
            (copy.run, copy.attempts) = (run, BTreeSet::new());
        }
        assert!(copy.attempts.insert(attempts), "message {number} in {name}: {attempts} twice");
        if let Some((finished, finished_run)) = copy.finished.filter(|(at, _)| since > *at) {
            assert!(finished_run != run, "message {number} in {name} after it was finished");
            let rests = &self.topics[&message.topic].rests;
            let comes_again =
                self.ends.iter().any(|end| end.forgets(finished, rests, message.topic));
            assert!(comes_again, "message {number} in {name} was finished long before the crash");
            self.redelivered += 1;
        }
        if let Some((_, due)) = copy.requeued.filter(|(at, _)| since > *at) {
            assert!(now >= due, "message {number} in {name} before its delay is over");
        }
        copy.delivered = Some(serial);
    }

    /// A FIN was carried out.
    pub(crate) fn finished(&mut self, name: ChannelName, body: &[u8]) {
        let (serial, run) = (self.tick(), self.run);
        let number = number_of(body).expect("checked when it was delivered");
        let view = self.channels.get_mut(&name).expect("somebody subscribed to it");
        view.finished_count += 1;
        view.copies.entry(number).or_default().finished = Some((serial, run));
    }

    /// Messages could not be read; whether they may be lost is another question.
    pub(crate) fn discarded(&mut self, name: ChannelName, count: u64) {
        let balance = self.channels.get_mut(&name).and_then(|view| view.balance.as_mut());
        if let Some(balance) = balance {
            *balance += i64::try_from(count).expect("counts are small");
        }
    }

    /// A REQ was carried out.
    pub(crate) fn requeued(&mut self, name: ChannelName, body: &[u8], due: u64) {
        let serial = self.tick();
        let number = number_of(body).expect("checked when it was delivered");
        let view = self.channels.get_mut(&name).expect("somebody subscribed to it");
        view.copies.entry(number).or_default().requeued = Some((serial, due));
    }

    pub(crate) fn subscribed(&mut self, topic: TopicName, name: ChannelName) {
        self.channels.entry(name).or_default().topic = Some(topic);
    }

    /// A channel is there; at a start it is one that was there before.
    pub(crate) fn channel_created(&mut self, topic: TopicName, name: ChannelName, is_found: bool) {
        let serial = self.tick();
        let view = self.topics.entry(topic).or_default();
        view.channels_changed = serial;
        let channel = self.channels.entry(name).or_default();
        channel.topic = Some(topic);
        channel.exists = true;
        channel.balance = None;
        if !is_found {
            channel.since = serial;
        }
        if !name.is_ephemeral() && (is_found || !view.is_waiting_over) {
            for number in &view.waiting {
                channel.copies.entry(*number).or_default().is_owed = true;
            }
            channel.inherited.extend(&view.waiting);
        }
        // All channels that are found at a start get what waited; else the first one gets it.
        view.is_waiting_over = true;
        if !is_found {
            view.waiting.clear();
        }
    }

    /// A start is over. A channel that had published nothing after it may be unknown, and what it
    /// had from its topic waits there again.
    pub(crate) fn started(&mut self) {
        let exists = |view: &ChannelView| view.exists.then_some(view.topic).flatten();
        let taken: BTreeSet<_> = self.channels.values().filter_map(exists).collect();
        for view in self.topics.values_mut().filter(|view| view.is_waiting_over) {
            view.waiting.clear();
        }
        for channel in self.channels.values_mut().filter(|channel| !channel.exists) {
            let Some(topic) = channel.topic else { continue };
            let view = self.topics.entry(topic).or_default();
            for number in std::mem::take(&mut channel.inherited) {
                let Some(copy) = channel.copies.get_mut(&number) else { continue };
                let was_owed = std::mem::take(&mut copy.is_owed) && copy.finished.is_none();
                if was_owed && !taken.contains(&topic) {
                    view.is_waiting_over = false;
                    view.waiting.push(number);
                }
            }
        }
    }

    pub(crate) fn channel_deleted(&mut self, name: ChannelName) {
        let serial = self.serial;
        if let Some(channel) = self.channels.get_mut(&name) {
            channel.exists = false;
            if let Some(topic) = channel.topic {
                self.topics.entry(topic).or_default().channels_changed = serial + 1;
            }
        }
        self.channel_cleared(name);
    }

    /// What a channel held may be gone, and may be back after a crash.
    pub(crate) fn channel_cleared(&mut self, name: ChannelName) {
        let serial = self.tick();
        if let Some(channel) = self.channels.get_mut(&name) {
            channel.since = serial;
            channel.balance = None;
            channel.copies.values_mut().for_each(|copy| copy.is_owed = false);
            channel.inherited.clear();
        }
    }

    /// What a topic held may be gone.
    pub(crate) fn topic_cleared(&mut self, topic: TopicName) {
        let of = |view: &ChannelView| view.topic == Some(topic);
        let names: Vec<_> =
            self.channels.iter().filter(|(_, view)| of(view)).map(|c| *c.0).collect();
        names.into_iter().for_each(|name| self.channel_cleared(name));
        let serial = self.serial;
        let view = self.topics.entry(topic).or_default();
        view.waiting.clear();
        view.is_waiting_over = false;
        view.channels_changed = serial;
    }

    /// Everything is written, synced and checkpointed.
    pub(crate) fn rested(&mut self, is_sound: impl Fn(TopicName) -> bool) {
        let serial = self.tick();
        for (topic, view) in self.topics.iter_mut().filter(|(topic, _)| is_sound(**topic)) {
            let _ = topic;
            view.rests.push(serial);
        }
    }

    /// The run is over.
    pub(crate) fn ended(&mut self, mut end: End) {
        let how = if end.unsound.is_empty() { end.how } else { How::Kill };
        end.serial = self.tick();
        end.run = self.run;
        self.ends.push(end);
        self.run += 1;
        for channel in self.channels.values_mut() {
            channel.exists = false;
            (channel.balance, channel.finished_count) = (None, 0);
            if how != How::Stop {
                // Delays are known to the log only of what it has, and only as of a checkpoint.
                channel.copies.values_mut().for_each(|copy| copy.requeued = None);
            }
        }
        self.topics.values_mut().for_each(|topic| topic.deleting = 0);
    }

    /// The counters of a channel: what it was put is what it holds and what was finished.
    pub(crate) fn check_balance(&mut self, name: ChannelName, put: u64, held: u64) {
        let Some(view) = self.channels.get_mut(&name) else { return };
        let signed = |count: u64| i64::try_from(count).expect("counts are small");
        let balance = signed(put) - signed(held) - signed(view.finished_count);
        if !name.is_ephemeral() {
            let before = *view.balance.get_or_insert(balance);
            assert_eq!(before, balance, "{name} is not conserved: {put} put, {held} held");
        }
    }
}

/// A body says which message it is.
pub(crate) fn body(number: usize, bytes: usize) -> Vec<u8> {
    let mut body = format!("m{number}.").into_bytes();
    body.resize(body.len().max(bytes), b'x');
    body
}

fn number_of(body: &[u8]) -> Option<usize> {
    let text = std::str::from_utf8(body).ok()?;
    text.strip_prefix('m')?.split('.').next()?.parse().ok()
}
