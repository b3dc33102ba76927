//! How a daemon begins and ends: from what the disks and the metadata file hold, and with more or
//! less good order.

use super::disks::StoppingDisk;
use super::loss::{End, How};
use super::plan::happens;
use super::world::World;
use ringmain::broker::admin::{
    AdminReply, AdminRequest, ChannelAction, ShardIndex, TopicAction, TopicId,
};
use ringmain::broker::durability::Durability;
use ringmain::broker::shard::{Shard, ShardConfig};
use ringmain::protocol::name::{ChannelName, TopicName};
use ringmain_storage::log::Io;
use ringmain_storage::recovery::recover;
use std::collections::{BTreeMap, HashMap};

/// More turns than coming to rest ever takes.
const TURNS_MAX: u32 = 50_000;

/// What the metadata file says: topics with their pause states and levels, and their channels.
pub(crate) type Saved = BTreeMap<TopicName, SavedTopic>;

#[derive(Debug, Default, Clone)]
pub(crate) struct SavedTopic {
    paused: bool,
    durability: Option<Durability>,
    channels: BTreeMap<ChannelName, bool>,
}

impl World {
    /// Starts the daemon, if need be after recoveries that are killed themselves.
    pub(crate) fn start(&mut self, shards: u16) {
        for attempt in 0.. {
            assert!(attempt < 8, "recovery fails without a fault");
            let is_killed = self.with_faults && attempt < 3;
            self.recovery_stops_after = (is_killed
                && happens(&mut self.rng, self.plan.faults.recovery))
            .then(|| self.rng.u64(..40));
            if self.try_start(shards) {
                return;
            }
            let power = self.rng.bool();
            self.end(if power { How::Power } else { How::Kill });
        }
    }

    fn try_start(&mut self, shards: u16) -> bool {
        self.trace.note(format_args!("start with {shards}"));
        // No process starts within the millisecond in which another one ended.
        let ms = self.rng.u64(1..200);
        self.pass_ms(ms);
        self.is_loading = true;
        self.recovery_failed = false;
        let shard = |index| {
            let index = ShardIndex(index);
            let seed = self.plan.config.seed ^ u64::from(self.auditor.run) << 8;
            let mut shard =
                Shard::new(ShardConfig { index, shards, seed, ..self.plan.config.clone() });
            shard.io = Io::new(self.plan.buffer_bytes);
            shard.begin_loading();
            shard
        };
        self.shards = (0..shards).map(shard).collect();
        self.sessions = vec![HashMap::new(); usize::from(shards)];
        self.clients_from = self.clients.len();
        self.transit.clear();
        self.replies.clear();
        let mut saved = self.saved.clone();
        for topic in self.disks.topics() {
            saved.entry(topic).or_default();
        }
        for (name, topic) in saved {
            if !self.restore(name, &topic) {
                return false;
            }
        }
        for shard in 0..self.shards.len() {
            self.shards[shard].loaded(self.now);
            self.act(shard);
        }
        self.is_loading = false;
        self.auditor.started();
        self.persist();
        true
    }

    fn restore(&mut self, name: TopicName, topic: &SavedTopic) -> bool {
        let ticket = self.resolve(name, true);
        self.settle();
        if self.recovery_failed {
            return false;
        }
        let reply = self.replies.remove(&ticket);
        let Some(AdminReply::Resolved { topic: id, home }) = reply else { panic!("{reply:?}") };
        let home = usize::from(home);
        if let Some(level) = topic.durability {
            self.set_level(name, (id, home), level);
        }
        let mut requests = Vec::new();
        if topic.paused {
            requests.push(AdminRequest::Topic { topic: id, action: TopicAction::Pause });
        }
        for (channel, paused) in &topic.channels {
            let request = |action| AdminRequest::Channel { topic: id, channel: *channel, action };
            requests.push(request(ChannelAction::Create));
            requests.extend(paused.then(|| request(ChannelAction::Pause)));
        }
        for request in requests {
            let ticket = self.administer(home, request);
            assert!(matches!(self.replies.remove(&ticket), Some(AdminReply::Done)));
        }
        true
    }

    pub(crate) fn set_level(&mut self, name: TopicName, home: (TopicId, usize), level: Durability) {
        let action = TopicAction::SetDurability(level);
        let ticket = self.administer(home.1, AdminRequest::Topic { topic: home.0, action });
        if matches!(self.replies.remove(&ticket), Some(AdminReply::Done)) {
            self.auditor.topics.entry(name).or_default().level = Some(level);
        }
    }

    /// A topic that exists again is asked for its log.
    pub(crate) fn find_log(&mut self, shard: usize, topic: TopicId, name: TopicName) {
        if !self.disks.has_log(name) || self.recovery_failed {
            return;
        }
        let key = self.shards[shard].log_key(topic);
        let options = self.plan.config.log_options;
        let seed = self.rng.u64(..);
        let disk = self.disks.of(name);
        let disk = &mut self.disks.disks[disk].disk;
        let left = self.recovery_stops_after.unwrap_or(u64::MAX);
        let before = disk.executed();
        let mut stopping = StoppingDisk { disk, left, has_stopped: false };
        let recovered = recover(key, options, seed, &mut stopping);
        if stopping.has_stopped {
            self.recovery_failed = true;
            return;
        }
        let used = stopping.disk.executed() - before;
        self.recovery_stops_after = self.recovery_stops_after.map(|left| left - used);
        let (log, report) = recovered.expect("nothing keeps the log from being recovered");
        self.trace.note(format_args!("recovered {name}: {report:?}"));
        assert!(report.damages.is_empty() || self.may_be_damaged(name), "{report:?}");
        self.shards[shard].restore_log(self.now, topic, key, log);
    }

    /// Writes the metadata file.
    pub(crate) fn persist(&mut self) {
        self.is_unsaved = false;
        let topics = self.stats();
        let lasting = topics.iter().filter(|topic| !topic.name.is_ephemeral());
        let topic = |topic: &ringmain::broker::admin::TopicStats| SavedTopic {
            paused: topic.paused,
            durability: topic.has_own_durability.then_some(topic.durability),
            channels: (topic.channels.iter())
                .filter(|channel| !channel.name.is_ephemeral())
                .map(|channel| (channel.name, channel.paused))
                .collect(),
        };
        self.saved = lasting.map(|stats| (stats.name, topic(stats))).collect();
    }

    /// The process or the machine ends, at once.
    pub(crate) fn end(&mut self, how: How) {
        self.trace.note(format_args!("end: {how:?}"));
        let faults = if self.with_faults { self.plan.faults } else { Default::default() };
        self.disks.end(how == How::Power, &faults, &mut self.rng);
        self.cut_clients();
        let unsound = self.unsound();
        self.disks.forget_failures();
        self.auditor.ended(End::new(how, unsound, self.plan.config.mem_queue_size));
    }

    fn unsound(&self) -> std::collections::BTreeSet<TopicName> {
        let topics = self.auditor.topics.keys().copied();
        topics.filter(|topic| !self.disks.is_sound(*topic)).collect()
    }

    /// An orderly stop. It may be cut short by something worse.
    pub(crate) fn stop(&mut self) {
        self.trace.note(format_args!("stop"));
        for shard in 0..self.shards.len() {
            self.flush(shard);
        }
        self.cut_clients();
        let now = self.now;
        self.shards.iter_mut().for_each(|shard| _ = shard.begin_saving(now));
        for turn in 0.. {
            if self.with_faults && happens(&mut self.rng, self.plan.faults.kill / 4) {
                return self.end(How::Kill);
            }
            if self.with_faults && happens(&mut self.rng, self.plan.faults.power / 4) {
                return self.end(How::Power);
            }
            let mut is_done = true;
            for shard in 0..self.shards.len() {
                let (done, lost) = self.shards[shard].save(self.now);
                assert!(lost == 0 || !self.unsound().is_empty(), "{lost} are not saved");
                is_done &= done;
                self.shards[shard].advance_logs(self.now);
                self.act(shard);
                self.submit(shard);
            }
            if is_done {
                break;
            }
            assert!(turn < TURNS_MAX, "saving does not end");
            self.pass_ms(1);
            self.use_disks();
        }
        self.persist();
        let unsound = self.unsound();
        self.disks.close();
        self.disks.forget_failures();
        self.auditor.ended(End::new(How::Stop, unsound, self.plan.config.mem_queue_size));
    }

    /// Clients lose the daemon; what it had sent may still come.
    fn cut_clients(&mut self) {
        for index in self.clients_from..self.clients.len() {
            let client = &mut self.clients[index];
            let bytes = std::mem::take(&mut client.sending);
            if self.rng.bool() {
                client.read(&bytes, &mut self.auditor);
            }
            client.place = None;
            client.is_gone = true;
        }
    }

    /// Executes every request there is and delivers every answer.
    pub(crate) fn use_disks(&mut self) {
        while !self.disks.outstanding.is_empty() || !self.disks.answers.is_empty() {
            while !self.disks.outstanding.is_empty() {
                if self.is_stopped() {
                    return;
                }
                let index = self.rng.usize(..self.disks.outstanding.len());
                let faults = self.with_faults.then_some(self.plan.faults);
                self.disks.execute(index, faults.as_ref(), &mut self.rng);
            }
            while !self.disks.answers.is_empty() {
                let index = self.rng.usize(..self.disks.answers.len());
                self.answer(index);
            }
        }
    }

    /// Whether as many requests were executed as there were to be.
    pub(crate) fn is_stopped(&self) -> bool {
        self.stop_after.is_some_and(|requests| self.disks.executed >= requests)
    }

    /// Delivers an answer of a disk.
    pub(crate) fn answer(&mut self, index: usize) {
        let (shard, key, completion) = self.disks.answers.swap_remove(index);
        let (ticket, result) = (completion.ticket, &completion.result);
        self.trace.note(format_args!("{shard} {key:?} {ticket:?} {result:?}"));
        self.shards[shard].file_completed(self.now, key, completion);
        self.act(shard);
        self.submit(shard);
    }

    /// The files of a deleted topic go, and its shard is told.
    pub(crate) fn finish_removal(&mut self, index: usize) {
        let (shard, key, topic) = self.disks.removals.swap_remove(index);
        self.disks.remove(topic);
        self.shards[shard].log_removed(self.now, key);
        self.act(shard);
    }

    /// Turns, mail, sends and disks until nothing happens any more.
    pub(crate) fn settle(&mut self) {
        for _ in 0..TURNS_MAX {
            let count = self.shards.len();
            for client in &mut self.clients[self.clients_from..] {
                client.input.append(&mut client.wire);
            }
            for shard in 0..count {
                self.turn(shard, usize::MAX);
                (0..count).for_each(|to| self.post(shard, to, usize::MAX));
            }
            for client in self.clients_from..self.clients.len() {
                self.complete_send(client, usize::MAX);
            }
            self.use_disks();
            if self.is_stopped() {
                return;
            }
            while !self.disks.removals.is_empty() {
                self.finish_removal(0);
            }
            let now = self.now.time;
            let due = |shard: &Shard| shard.next_deadline().is_some_and(|due| due <= now);
            let carried = self.transit.values().any(|queue| !queue.is_empty());
            let clients = &self.clients[self.clients_from..];
            let can_read = |client: &super::client::Client| {
                !client.sending.is_empty() || !client.wire.is_empty()
            };
            let busy = self.shards.iter().any(|shard| {
                due(shard)
                    || !shard.dirty_sessions.is_empty()
                    || !shard.actions.is_empty()
                    || !shard.io.requests.is_empty()
                    || shard.outboxes.iter().any(|outbox| !outbox.is_empty())
            });
            if !carried && !busy && !clients.iter().any(can_read) {
                return;
            }
        }
        panic!("the world does not come to rest");
    }
}
