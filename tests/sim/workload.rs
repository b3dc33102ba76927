//! What happens next, by the seed: clients, turns, mail, disks, time, the control plane, faults.
//! And the end of it all: every fault is healed, everything is drained, and nothing may be missing.

use super::auditor::body;
use super::client::{Expected, publish};
use super::loss::How;
use super::plan::{Plan, choose, happens};
use super::world::{MS, World};
use fastrand::Rng;
use ringmain::broker::admin::{AdminReply, AdminRequest, ChannelAction, TopicAction, TopicId};
use ringmain::broker::durability::Durability;
use ringmain::protocol::name::{ChannelName, TopicName};

/// Connections at the same time.
const CLIENTS_MAX: usize = 8;

/// What a seed came to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) trace: (u64, u64),
    pub(crate) messages: usize,
    pub(crate) acknowledged: usize,
    pub(crate) delivered: u64,
    pub(crate) redelivered: u64,
    pub(crate) runs: usize,
    pub(crate) requests: u64,
}

impl Outcome {
    /// What several seeds came to together.
    pub(crate) fn add(&mut self, other: &Self) {
        self.messages += other.messages;
        self.acknowledged += other.acknowledged;
        self.delivered += other.delivered;
        self.redelivered += other.redelivered;
        self.runs += other.runs;
        self.requests += other.requests;
    }
}

/// Everything a seed brings, from the first start to the last message.
pub(crate) fn simulate(seed: u64) -> Outcome {
    let mut rng = Rng::with_seed(seed);
    let plan = Plan::random(&mut rng);
    let mut world = World::new(plan, rng);
    world.trace.note(format_args!("{:?}", world.plan));
    world.open();
    for _ in 0..world.plan.steps {
        world.step();
        world.auditor.tick();
    }
    world.drain();
    world.outcome()
}

pub(crate) fn topic_name(number: usize) -> TopicName {
    TopicName::parse(format!("t{number}").as_bytes()).expect("a good name")
}

pub(crate) fn channel_name(topic: usize, number: usize) -> ChannelName {
    let ephemeral = if number == 3 { "#ephemeral" } else { "" };
    ChannelName::parse(format!("t{topic}c{number}{ephemeral}").as_bytes()).expect("a good name")
}

impl World {
    /// The first start, with the topics of the plan.
    pub(crate) fn open(&mut self) {
        self.start(self.plan.shards);
        for number in 0..self.plan.levels.len() {
            let name = topic_name(number);
            let ticket = self.resolve(name, true);
            self.settle();
            let reply = self.replies.remove(&ticket);
            let Some(AdminReply::Resolved { topic, home }) = reply else { panic!("{reply:?}") };
            if let Some(level) = self.plan.levels[number] {
                self.set_level(name, (topic, usize::from(home)), level);
            }
        }
        self.persist();
    }

    pub(crate) fn outcome(&self) -> Outcome {
        Outcome {
            trace: self.trace.sum(),
            messages: self.auditor.messages.len(),
            acknowledged: self.auditor.messages.iter().filter(|m| m.acked.is_some()).count(),
            delivered: self.auditor.delivered,
            redelivered: self.auditor.redelivered,
            runs: self.auditor.ends.len() + 1,
            requests: self.disks.executed,
        }
    }

    fn step(&mut self) {
        let shards = self.shards.len();
        let shard = self.rng.usize(..shards);
        let [disk, network, _] = self.plan.eagerness;
        match self.rng.u32(..100) {
            0..22 => (0..self.rng.u32(1..4)).for_each(|_| self.client_step()),
            22..34 => {
                let mail_max = self.rng.usize(..9);
                self.turn(shard, mail_max);
            }
            34..44 => self.pass_round(),
            44..54 => {
                let (to, room) = (self.rng.usize(..shards), self.rng.usize(..9));
                self.post(shard, to, room);
            }
            54..70 => (0..disk).for_each(|_| self.disk_step()),
            70..86 => (0..network).for_each(|_| self.network_step()),
            86..91 => {
                let ms = *choose(&mut self.rng, &[1, 10, 100, 1100]);
                self.pass_ms(ms);
            }
            91..94 => self.control_step(),
            94 => self.settle(),
            95 => self.rest(),
            96 if self.is_unsaved => self.persist(),
            97 if !self.disks.removals.is_empty() => self.finish_removal(0),
            _ => self.check_balances(),
        }
        self.fault_step();
    }

    fn fault_step(&mut self) {
        let faults = self.plan.faults;
        if happens(&mut self.rng, faults.full) {
            let topic = topic_name(self.rng.usize(..self.plan.levels.len()));
            let disk = self.disks.of(topic);
            self.disks.fill(disk, &mut self.rng);
        }
        if happens(&mut self.rng, faults.reset) && self.clients_from < self.clients.len() {
            let client = self.rng.usize(self.clients_from..self.clients.len());
            self.reset(client);
        }
        let how = if happens(&mut self.rng, faults.kill) {
            How::Kill
        } else if happens(&mut self.rng, faults.power) {
            How::Power
        } else if happens(&mut self.rng, faults.stop) {
            How::Stop
        } else {
            return;
        };
        match how {
            How::Stop => self.stop(),
            _ => self.end(how),
        }
        let shards = self.rng.u16(1..4);
        self.start(shards);
    }

    /// A connection is cut: nothing that was on its way arrives.
    fn reset(&mut self, index: usize) {
        let client = &mut self.clients[index];
        if client.is_gone || client.place.is_none() {
            return;
        }
        client.wire.clear();
        client.sending.clear();
        self.trace.note(format_args!("client {index} is reset"));
        self.disconnect(index);
    }

    fn disk_step(&mut self) {
        let (waiting, answers) = (self.disks.outstanding.len(), self.disks.answers.len());
        if waiting > 0 && (answers == 0 || self.rng.bool()) {
            let index = self.rng.usize(..waiting);
            let faults = self.plan.faults;
            self.disks.execute(index, Some(&faults), &mut self.rng);
        } else if answers > 0 {
            let index = self.rng.usize(..answers);
            self.answer(index);
        }
    }

    /// A turn of every shard, with all mail and most of what the network and the disks have.
    fn pass_round(&mut self) {
        let shards = self.shards.len();
        (0..8).for_each(|_| self.network_step());
        for shard in 0..shards {
            self.turn(shard, usize::MAX);
            (0..shards).for_each(|to| self.post(shard, to, usize::MAX));
        }
        (0..8).for_each(|_| self.disk_step());
    }

    fn network_step(&mut self) {
        let busy = |client: &usize| {
            let client = &self.clients[*client];
            !client.wire.is_empty() || !client.sending.is_empty()
        };
        let busy: Vec<_> = (self.clients_from..self.clients.len()).filter(busy).collect();
        if busy.is_empty() {
            return;
        }
        let index = *choose(&mut self.rng, &busy);
        let client = &mut self.clients[index];
        if !client.wire.is_empty() && (client.sending.is_empty() || self.rng.bool()) {
            let most = client.wire.len();
            let bytes = if self.rng.bool() { most } else { self.rng.usize(1..=most) };
            client.input.extend(client.wire.drain(..bytes));
        } else if !client.sending.is_empty() {
            let most = client.sending.len();
            let bytes = if self.rng.bool() { most } else { self.rng.usize(1..=most) };
            self.complete_send(index, bytes);
        }
    }

    fn client_step(&mut self) {
        let usable = self.clients_from..self.clients.len();
        let usable: Vec<_> = usable.filter(|client| !self.clients[*client].is_gone).collect();
        if usable.is_empty() || usable.len() < CLIENTS_MAX && self.rng.u32(..10) == 0 {
            let shard = self.rng.usize(..self.shards.len());
            self.connect(shard);
            return;
        }
        let index = *choose(&mut self.rng, &usable);
        let topic = self.rng.usize(..self.plan.levels.len());
        let client = &self.clients[index];
        if client.subscription.is_some() {
            return self.consume(index);
        }
        let is_fresh = client.expected.is_empty();
        if is_fresh && self.rng.u32(..8) == 0 {
            let number = self.rng.usize(..self.plan.channels);
            // Now and then an ephemeral one.
            let number = if self.rng.u32(..12) == 0 { 3 } else { number };
            return self.subscribe(index, topic, channel_name(topic, number));
        }
        self.produce(index, topic_name(topic));
    }

    pub(crate) fn subscribe(&mut self, index: usize, topic: usize, channel: ChannelName) {
        let topic = topic_name(topic);
        self.auditor.subscribed(topic, channel);
        let ready = self.rng.u32(1..10);
        self.trace.note(format_args!("client {index} subscribes to {channel}"));
        let client = &mut self.clients[index];
        client.subscription = Some((topic, channel));
        client.expected.push_back(Expected::Subscribed);
        client.wire.extend(format!("SUB {topic} {channel}\nRDY {ready}\n").bytes());
    }

    fn produce(&mut self, index: usize, topic: TopicName) {
        let count = if self.rng.u32(..4) == 0 { self.rng.usize(2..9) } else { 1 };
        let delay_ms = (count == 1 && self.rng.u32(..8) == 0).then(|| self.rng.u64(1..3000));
        let bytes = *choose(&mut self.rng, &[0, 10, 200, 1000]);
        self.publish(index, topic, (count, bytes), delay_ms);
    }

    pub(crate) fn publish(
        &mut self,
        index: usize,
        topic: TopicName,
        (count, bytes): (usize, usize),
        delay_ms: Option<u64>,
    ) {
        let first = self.auditor.messages.len();
        let bodies: Vec<_> = (first..first + count).map(|number| body(number, bytes)).collect();
        let frame = publish(&topic, &bodies, delay_ms);
        let due = delay_ms.map_or(0, |delay_ms| self.now.time.0 + delay_ms * MS);
        self.auditor.publish(topic, index, bodies, (delay_ms.is_some(), due));
        self.trace.note(format_args!("client {index} published {first}, {count} to {topic}"));
        let client = &mut self.clients[index];
        client.expected.push_back(Expected::Published(first, count));
        client.wire.extend(frame);
    }

    /// A consumer does something about what it has.
    fn consume(&mut self, index: usize) {
        let [.., eagerness] = self.plan.eagerness;
        let (choice, delay_ms) = (self.rng.u32(..100), self.rng.u64(1..2000));
        let ready = self.rng.u32(..10);
        let client = &mut self.clients[index];
        if client.held.is_empty() || choice < 5 {
            if choice < 20 {
                client.wire.extend(format!("RDY {ready}\n").bytes());
            }
            return;
        }
        if choice < 7 && !client.is_closing {
            client.is_closing = true;
            client.expected.push_back(Expected::CloseWait);
            return client.wire.extend(b"CLS\n");
        }
        let count = if choice < 7 + eagerness { client.held.len() } else { 1 };
        for id in client.held.drain(..count) {
            let command = match self.rng.u32(..20) {
                0 => format!("REQ {id} 0\n"),
                1 => format!("REQ {id} {delay_ms}\n"),
                2 => format!("TOUCH {id}\n"),
                // It is forgotten, and times out.
                3 => continue,
                _ => format!("FIN {id}\n"),
            };
            client.wire.extend(command.bytes());
        }
    }

    fn control_step(&mut self) {
        let number = self.rng.usize(..self.plan.levels.len());
        let name = topic_name(number);
        let channel = channel_name(number, self.rng.usize(..self.plan.channels));
        let destroys = happens(&mut self.rng, self.plan.faults.destruction);
        if destroys && self.rng.u32(..4) == 0 {
            self.auditor.topics.entry(name).or_default().deleting += 1;
            self.auditor.topic_cleared(name);
            let ticket = self.administer(0, AdminRequest::DeleteTopic { topic: name });
            self.settle();
            self.auditor.topic_cleared(name);
            self.auditor.topics.entry(name).or_default().deleting -= 1;
            let reply = self.replies.remove(&ticket);
            let is_known = matches!(reply, Some(AdminReply::Done | AdminReply::TopicNotFound));
            assert!(is_known, "{reply:?}");
            return;
        }
        let Some((id, home)) = self.home(name) else { return };
        let on_topic = |action| AdminRequest::Topic { topic: id, action };
        let on_channel = |action| AdminRequest::Channel { topic: id, channel, action };
        let request = match (destroys, self.rng.u32(..8)) {
            (true, 0..2) => on_topic(TopicAction::Empty),
            (true, 2..5) => on_channel(ChannelAction::Empty),
            (true, _) => on_channel(ChannelAction::Delete),
            (false, 0) => on_topic(TopicAction::Pause),
            (false, 1 | 2) => on_topic(TopicAction::Unpause),
            (false, 3) => on_channel(ChannelAction::Pause),
            (false, 4 | 5) => on_channel(ChannelAction::Unpause),
            _ => on_channel(ChannelAction::Create),
        };
        match &request {
            AdminRequest::Topic { action: TopicAction::Empty, .. } => {
                self.auditor.topic_cleared(name);
            }
            AdminRequest::Channel { action: ChannelAction::Empty, .. } => {
                self.auditor.channel_cleared(channel);
            }
            _ => {}
        }
        let ticket = self.administer(home, request);
        self.replies.remove(&ticket).expect("answered at once");
    }

    pub(crate) fn home(&mut self, name: TopicName) -> Option<(TopicId, usize)> {
        let ticket = self.resolve(name, false);
        match self.replies.remove(&ticket) {
            Some(AdminReply::Resolved { topic, home }) => Some((topic, usize::from(home))),
            _ => None,
        }
    }

    /// Time enough for syncs and checkpoints, and a disk that does everything.
    pub(crate) fn rest(&mut self) {
        for _ in 0..4 {
            self.settle();
            self.pass_ms(2100);
        }
        self.settle();
        let disks = &mut self.disks;
        disks.rested();
        self.auditor.rested(|topic| disks.is_sound(topic));
    }

    /// A publish was refused: there has to be a reason.
    pub(crate) fn check_refusal(&mut self, number: usize, text: &str) {
        self.trace.note(format_args!("message {number} is refused: {text}"));
        let message = &self.auditor.messages[number];
        let is_going = self.auditor.topics[&message.topic].deleting > 0;
        if message.level.is_some_and(|level| level != Durability::Memory) && !is_going {
            let is_spoilt = !self.disks.is_sound(message.topic);
            assert!(is_spoilt, "message {number} is refused by a sound disk: {text}");
        }
    }

    /// Counters of all channels add up.
    pub(crate) fn check_balances(&mut self) {
        for topic in self.stats() {
            for channel in topic.channels {
                let held = channel.depth + channel.in_flight_count + channel.deferred_count;
                self.auditor.check_balance(channel.name, channel.message_count, held);
            }
        }
    }

    /// Heals everything, takes everything there is, and asks the auditor what is missing.
    pub(crate) fn drain(&mut self) {
        self.with_faults = false;
        self.disks.heal();
        for index in self.clients_from..self.clients.len() {
            self.reset(index);
        }
        // Logs that have failed need a new start.
        match self.rng.u32(..3) {
            0 => self.end(How::Kill),
            1 => self.end(How::Power),
            _ => self.stop(),
        }
        self.start(self.plan.shards);
        self.finish_all();
        self.auditor.check_lost();
    }

    /// Opens everything that is paused, and finishes every message there is.
    pub(crate) fn finish_all(&mut self) {
        for number in 0..self.plan.levels.len() {
            let name = topic_name(number);
            for channel in (0..self.plan.channels).map(|channel| channel_name(number, channel)) {
                let shard = self.rng.usize(..self.shards.len());
                let client = self.connect(shard);
                self.subscribe(client, number, channel);
            }
            self.settle();
            let Some((topic, home)) = self.home(name) else { continue };
            self.administer(home, AdminRequest::Topic { topic, action: TopicAction::Unpause });
            for channel in (0..self.plan.channels).map(|channel| channel_name(number, channel)) {
                let action = ChannelAction::Unpause;
                self.administer(home, AdminRequest::Channel { topic, channel, action });
            }
        }
        self.take_all();
    }

    /// Consumers finish everything until nothing comes any more.
    pub(crate) fn take_all(&mut self) {
        let mut idle = 0;
        while idle < 3 {
            self.settle();
            let mut is_idle = true;
            for client in &mut self.clients[self.clients_from..] {
                for id in std::mem::take(&mut client.held) {
                    is_idle = false;
                    client.wire.extend(format!("FIN {id}\n").bytes());
                }
            }
            idle = if is_idle { idle + 1 } else { 0 };
            if is_idle {
                // Deferred messages and such as a consumer forgot.
                self.pass_ms(61_000);
            }
        }
        self.check_balances();
        for topic in self.stats() {
            assert_eq!(topic.depth, 0, "{} is not empty: {topic:?}", topic.name);
            for channel in topic.channels {
                let held = channel.depth + channel.in_flight_count + channel.deferred_count;
                assert_eq!(held, 0, "{} is not empty", channel.name);
            }
        }
    }
}
