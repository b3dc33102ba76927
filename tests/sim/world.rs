//! Shards, clients, the mail between them and their disks, in one thread; everything happens when
//! the one seed says so.

use super::auditor::Auditor;
use super::client::{Client, Frame, take_frames};
use super::disks::Disks;
use super::plan::Plan;
use super::start::Saved;
use super::trace::Trace;
use fastrand::Rng;
use ringmain::broker::action::{Action, Notice};
use ringmain::broker::admin::{AdminReply, AdminRequest, REGISTRAR, ShardIndex, TopicStats};
use ringmain::broker::mail::Mail;
use ringmain::broker::session::{Input, MovedSession, SessionKey};
use ringmain::broker::shard::Shard;
use ringmain::broker::time::{Now, Time, WallClock};
use ringmain::protocol::command::Command;
use ringmain::protocol::decoder::Decoder;
use ringmain::protocol::name::TopicName;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

pub(crate) const MS: u64 = 1_000_000;

/// What travels between two shards.
pub(crate) enum Carried {
    Mail(Mail),
    Connection(usize, Box<MovedSession>),
}

/// See the module's text.
pub(crate) struct World {
    pub(crate) plan: Plan,
    pub(crate) rng: Rng,
    pub(crate) now: Now,
    pub(crate) shards: Vec<Shard>,
    pub(crate) clients: Vec<Client>,
    /// The clients of this run begin here.
    pub(crate) clients_from: usize,
    pub(crate) replies: BTreeMap<u64, AdminReply>,
    pub(crate) auditor: Auditor,
    pub(crate) disks: Disks,
    pub(crate) trace: Trace,
    /// What the metadata file says.
    pub(crate) saved: Saved,
    /// The metadata file is older than what it is about.
    pub(crate) is_unsaved: bool,
    pub(crate) is_loading: bool,
    /// Recovery is to be killed after so many requests.
    pub(crate) recovery_stops_after: Option<u64>,
    pub(crate) recovery_failed: bool,
    pub(crate) with_faults: bool,
    /// No more requests than so many are executed.
    pub(crate) stop_after: Option<u64>,
    /// Topics whose disk cannot be read everywhere.
    pub(crate) damaged: BTreeSet<TopicName>,
    pub(crate) sessions: Vec<HashMap<SessionKey, usize>>,
    pub(crate) transit: BTreeMap<(usize, usize), VecDeque<Carried>>,
    next_ticket: u64,
}

impl World {
    /// A machine without a daemon.
    pub(crate) fn new(plan: Plan, rng: Rng) -> Self {
        Self {
            plan,
            rng,
            now: Now { time: Time(MS), wall: WallClock(1_790_000_000_000_000_000) },
            shards: Vec::new(),
            clients: Vec::new(),
            clients_from: 0,
            replies: BTreeMap::new(),
            auditor: Auditor::default(),
            disks: Disks::default(),
            trace: Trace::new(),
            saved: Saved::default(),
            is_unsaved: false,
            is_loading: false,
            recovery_stops_after: None,
            recovery_failed: false,
            with_faults: true,
            stop_after: None,
            damaged: BTreeSet::new(),
            sessions: Vec::new(),
            transit: BTreeMap::new(),
            next_ticket: 0,
        }
    }

    pub(crate) fn connect(&mut self, shard: usize) -> usize {
        let key = self.shards[shard].connect(self.now, "10.0.0.1:5".into());
        let decoder = Decoder::after_magic();
        let client = Client { place: Some((shard, key)), decoder, ..Client::default() };
        self.clients.push(client);
        self.sessions[shard].insert(key, self.clients.len() - 1);
        self.clients.len() - 1
    }

    /// The daemon's end of a connection is gone.
    pub(crate) fn disconnect(&mut self, index: usize) {
        let client = &mut self.clients[index];
        client.is_gone = true;
        if let Some((shard, key)) = client.place.take() {
            client.decoder.release(self.shards[shard].pool());
            self.shards[shard].disconnect(key);
            self.sessions[shard].remove(&key);
            self.act(shard);
        }
    }

    /// One turn of a shard: mail, bytes, time, deliveries, sends, requests.
    pub(crate) fn turn(&mut self, shard: usize, mail_max: usize) {
        let serial = self.auditor.tick();
        for client in &mut self.clients[self.clients_from..] {
            if client.place.is_some_and(|(at, _)| at == shard) && client.sending.is_empty() {
                client.given_since = serial;
            }
        }
        for from in 0..self.shards.len() {
            for _ in 0..mail_max {
                let queue = self.transit.entry((from, shard)).or_default();
                let Some(carried) = queue.pop_front() else { break };
                self.receive(shard, from, carried);
                self.act(shard);
            }
        }
        for client in self.clients_from..self.clients.len() {
            if self.clients[client].place.is_some_and(|(at, _)| at == shard) {
                self.pump(client);
            }
        }
        self.shards[shard].tick(self.now);
        self.act(shard);
        self.shards[shard].end_turn(self.now);
        self.act(shard);
        self.flush(shard);
        self.submit(shard);
    }

    pub(crate) fn submit(&mut self, shard: usize) {
        let requests = self.shards[shard].io.requests.drain(..);
        for request in requests {
            self.trace.note(format_args!("{shard} asks {:?}", request.operation));
            self.disks.outstanding.push((shard, request));
        }
    }

    fn receive(&mut self, shard: usize, from: usize, carried: Carried) {
        let from = ShardIndex(u16::try_from(from).expect("few shards"));
        match carried {
            Carried::Mail(mail) => self.shards[shard].receive(self.now, from, mail),
            Carried::Connection(client, moved) => {
                let key = self.shards[shard].receive_session(self.now, *moved);
                self.clients[client].place = Some((shard, key));
                self.clients[client].moving = None;
                self.sessions[shard].insert(key, client);
            }
        }
    }

    /// Decodes what a client has sent, as far as its session takes it.
    fn pump(&mut self, index: usize) {
        let client = &mut self.clients[index];
        let Some((at, key)) = client.place else { return };
        let shard = &mut self.shards[at];
        let bytes = std::mem::take(&mut client.input);
        let mut input = bytes.as_slice();
        while shard.may_read(key) {
            let (context, pool) = shard.decoding(key);
            let command = match client.decoder.next(&mut input, &context, pool) {
                Ok(Some(command)) => command,
                Ok(None) => break,
                Err(error) => panic!("a sound command is refused: {error:?}"),
            };
            let asked = match &command {
                Command::Finish { id } => Some((id.to_string(), None)),
                Command::Requeue { id, delay_ms } => Some((id.to_string(), Some(*delay_ms))),
                _ => None,
            };
            let before = shard.session_mut(key).map(|s| (s.counts.finished, s.counts.requeued));
            shard.command(self.now, key, command);
            let after = shard.session_mut(key).map(|s| (s.counts.finished, s.counts.requeued));
            if let (Some((id, delay_ms)), true) = (asked, before != after) {
                let (_, channel) = client.subscription.expect("it holds a message");
                let body = &client.bodies[&id];
                self.trace.note(format_args!("client {index} finished {id} {delay_ms:?}"));
                match delay_ms {
                    None => self.auditor.finished(channel, body),
                    Some(delay_ms) => {
                        let due = self.now.time.0 + delay_ms * MS;
                        self.auditor.requeued(channel, body, due);
                    }
                }
            }
        }
        client.input = input.to_vec();
        self.act(at);
    }

    pub(crate) fn act(&mut self, shard: usize) {
        while !self.shards[shard].actions.is_empty() {
            for action in std::mem::take(&mut self.shards[shard].actions) {
                self.act_on(shard, action);
            }
        }
    }

    fn act_on(&mut self, shard: usize, action: Action) {
        self.trace.note(format_args!("{shard} wants {action:?}"));
        match action {
            Action::Notice(notice) => self.note(notice),
            Action::OpenLog { key, topic } => self.disks.open(shard, key, topic),
            Action::RemoveLog { key, topic } => self.disks.removals.push((shard, key, topic)),
            Action::FindLog { topic, name } => self.find_log(shard, topic, name),
            Action::Reply { ticket, reply } => {
                assert!(self.replies.insert(ticket, reply).is_none(), "answered twice");
            }
            Action::Upgrade(..) => unreachable!("no client asks for one"),
            Action::Close(key) => {
                if let Some(client) = self.sessions[shard].get(&key).copied() {
                    self.disconnect(client);
                }
            }
            Action::Resume(key) => {
                if let Some(client) = self.sessions[shard].get(&key).copied() {
                    self.pump(client);
                }
            }
            Action::Authorize(..) => unreachable!("no auth server is configured"),
            Action::Move(key, home) => {
                let client = self.sessions[shard][&key];
                self.clients[client].moving = Some(home);
                self.depart(client);
            }
        }
    }

    fn note(&mut self, notice: Notice) {
        match notice {
            Notice::TopicCreated(topic) => {
                self.is_unsaved = true;
                let level = self.plan.config.durability;
                self.auditor.topics.entry(topic).or_default().level = Some(level);
            }
            Notice::TopicDeleting(topic) => {
                self.is_unsaved = true;
                self.auditor.topics.entry(topic).or_default().level = None;
            }
            Notice::ChannelCreated(topic, channel) => {
                self.is_unsaved = true;
                self.auditor.channel_created(topic, channel, self.is_loading);
            }
            Notice::ChannelDeleting(channel) => {
                self.is_unsaved = true;
                self.auditor.channel_deleted(channel);
            }
            Notice::LogLost { topic, channel, count } => {
                assert!(self.may_be_damaged(topic), "{count} of {topic} are lost to {channel}");
                self.auditor.discarded(channel, count);
            }
            Notice::LogState(..)
            | Notice::LogReport(..)
            | Notice::DeadLettersRefused { .. }
            | Notice::ClientError { .. } => {}
        }
    }

    /// After a sync that failed a log may have what can never become durable.
    pub(crate) fn may_be_damaged(&self, topic: TopicName) -> bool {
        self.damaged.contains(&topic) || self.auditor.ends.iter().any(|end| end.spoils(topic))
    }

    /// Moves a connection that is owed nothing any more.
    fn depart(&mut self, index: usize) {
        let client = &mut self.clients[index];
        let (Some(home), Some((at, key))) = (client.moving, client.place) else { return };
        let session = self.shards[at].session_mut(key).expect("it has a place");
        let owed = !session.is_answered() || !session.output.is_empty();
        if owed || !client.sending.is_empty() || session.input != Input::Moving(home) {
            return;
        }
        let moved = self.shards[at].send_session(key).expect("it has a place");
        self.sessions[at].remove(&key);
        client.place = None;
        let carried = Carried::Connection(index, Box::new(moved));
        self.transit.entry((at, usize::from(home))).or_default().push_back(carried);
    }

    pub(crate) fn flush(&mut self, shard: usize) {
        for index in std::mem::take(&mut self.shards[shard].dirty_sessions) {
            let Some((key, session)) = self.shards[shard].marked_session(index) else { continue };
            session.dirty = false;
            let client = self.sessions[shard][&key];
            self.flush_one(client);
        }
    }

    fn flush_one(&mut self, index: usize) {
        let client = &mut self.clients[index];
        let Some((at, key)) = client.place else { return };
        if !client.sending.is_empty() {
            return;
        }
        let session = self.shards[at].session_mut(key).expect("it has a place");
        if session.output.is_empty() {
            let ended = session.input == Input::Closed && session.is_answered();
            return if ended { self.disconnect(index) } else { self.depart(index) };
        }
        let output = std::mem::take(&mut session.output);
        let mut bytes: Vec<u8> = output.pieces().flatten().copied().collect();
        client.sending = bytes.clone();
        self.shards[at].output_started(self.now, key);
        let since = client.given_since;
        client.given_since = self.auditor.tick();
        for frame in take_frames(&mut bytes) {
            self.trace.note(format_args!("client {index} gets {frame:?}"));
            if let (Frame::Message { body, attempts, .. }, Some((_, channel))) =
                (frame, client.subscription)
            {
                self.auditor.delivered(channel, &body, attempts, (since, self.now.time.0));
            }
        }
    }

    /// A client reads so many bytes of what was sent to it.
    pub(crate) fn complete_send(&mut self, index: usize, bytes: usize) {
        let client = &mut self.clients[index];
        let bytes = bytes.min(client.sending.len());
        let read: Vec<u8> = client.sending.drain(..bytes).collect();
        if bytes > 0 {
            let serial = self.auditor.serial;
            self.trace.note(format_args!("client {index} has acked {bytes} bytes at {serial}"));
        }
        client.read(&read, &mut self.auditor);
        for (number, text) in std::mem::take(&mut client.refusals) {
            self.check_refusal(number, &text);
        }
        let client = &mut self.clients[index];
        if let Some((at, key)) = client.place.filter(|_| bytes > 0 && client.sending.is_empty()) {
            self.shards[at].output_sent(key);
            self.flush_one(index);
            self.pump(index);
        }
    }

    /// Moves mail from an outbox towards its shard, as a mailbox with so much room would.
    pub(crate) fn post(&mut self, from: usize, to: usize, room: usize) {
        let outbox = &mut self.shards[from].outboxes[to];
        let room = room.min(outbox.len());
        let queue = self.transit.entry((from, to)).or_default();
        queue.extend(outbox.drain(..room).map(Carried::Mail));
    }

    /// A request of the control plane; its answer comes with the ticket, now or later.
    pub(crate) fn administer(&mut self, shard: usize, request: AdminRequest) -> u64 {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.trace.note(format_args!("control asks {shard} {request:?}"));
        if let Some(reply) = self.shards[shard].administer(self.now, request, ticket) {
            self.replies.insert(ticket, reply);
        }
        self.act(shard);
        ticket
    }

    /// What the registrar knows of a topic.
    pub(crate) fn resolve(&mut self, topic: TopicName, create: bool) -> u64 {
        let request = AdminRequest::Resolve { topic, create };
        self.administer(usize::from(REGISTRAR), request)
    }

    /// All topics there are.
    pub(crate) fn stats(&mut self) -> Vec<TopicStats> {
        let mut topics = Vec::new();
        for shard in 0..self.shards.len() {
            let request =
                AdminRequest::TopicsPage { from: 0, topic: None, channel: None, latencies: false };
            let reply = self.shards[shard].administer(self.now, request, u64::MAX);
            let Some(AdminReply::Topics(page)) = reply else { panic!("not a page: {reply:?}") };
            assert_eq!(page.next, None, "few topics fit one page");
            topics.extend(page.topics);
        }
        topics
    }

    /// Lets time pass without anybody noticing yet.
    pub(crate) fn pass_ms(&mut self, ms: u64) {
        self.now.time.0 += ms * MS;
        self.now.wall.0 += i64::try_from(ms * MS).expect("some seconds");
    }
}
