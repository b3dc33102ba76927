//! Shards, clients and the mail between them; everything happens when a test says so.

use super::auditor::{Auditor, Expected};
use super::disks::Disks;
use super::invariants;
use crate::broker::Features;
use crate::broker::action::Action;
use crate::broker::admin::{
    AdminReply, AdminRequest, ChannelAction, ChannelStats, ShardIndex, TopicAction,
};
use crate::broker::durability::Durability;
use crate::broker::grant::{AuthQuestion, Grant, Patterns};
use crate::broker::mail::Mail;
use crate::broker::session::{Input, MovedSession, Negotiated, Session, SessionKey};
use crate::broker::shard::{Shard, ShardConfig};
use crate::broker::time::{Now, Span, Time, WallClock};
use crate::protocol::command::{Command, CommandLimits};
use crate::protocol::decoder::Decoder;
use crate::protocol::identify::IdentifyLimits;
use crate::protocol::name::{ChannelName, TopicName};
use ringmain_storage::recovery::recover;
use std::collections::{BTreeMap, HashMap, VecDeque};

pub(super) const MS: u64 = 1_000_000;

pub(super) fn topic(text: &str) -> TopicName {
    TopicName::parse(text.as_bytes()).unwrap()
}

pub(super) fn channel(text: &str) -> ChannelName {
    ChannelName::parse(text.as_bytes()).unwrap()
}

pub(crate) fn config() -> ShardConfig {
    ShardConfig {
        index: ShardIndex(0),
        shards: 1,
        node: 1,
        seed: 7,
        mem_queue_size: 10_000,
        durability: Durability::Memory,
        policies: crate::broker::policy::Policies::default(),
        sync_every: 2500,
        sync_timeout: Span::from_ms(2000),
        log_options: ringmain_storage::log::LogOptions::default(),
        budget_bytes: 64 << 20,
        max_channel_consumers: 0,
        max_message_timeout: Span::from_ms(900_000),
        latency: None,
        defaults: Negotiated {
            heartbeat_interval: Some(Span::from_ms(30_000_000)),
            message_timeout: Span::from_ms(60_000),
            sample_rate: 0,
            output_buffer_bytes: 16384,
            output_buffer_timeout_ms: 250,
            proximity: crate::broker::eligible::Proximity::Global,
        },
        command_limits: CommandLimits {
            max_msg_size: 1 << 20,
            max_body_size: 5 << 20,
            max_rdy_count: 2500,
            max_req_timeout_ms: 3_600_000,
        },
        identify_limits: IdentifyLimits {
            max_heartbeat_interval_ms: 60_000,
            min_output_buffer_timeout_ms: 25,
            max_output_buffer_timeout_ms: 30_000,
            max_output_buffer_size: 65536,
            max_msg_timeout_ms: 900_000,
        },
        features: Features {
            version: "1.3.0",
            max_msg_timeout_ms: 900_000,
            tls: false,
            tls_required: false,
            snappy: false,
            deflate: false,
            max_deflate_level: 6,
            upgrade_time: Span::from_ms(5000),
            auth_required: false,
            topology_region: String::new(),
            topology_zone: String::new(),
            topology_aware: false,
        },
    }
}

/// What a client got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Frame {
    Response(String),
    Error(String),
    Message { id: String, attempts: u16, body: Vec<u8> },
}

/// What travels between two shards.
pub(super) enum Carried {
    Mail(Mail),
    Connection(usize, Box<MovedSession>),
}

#[derive(Default)]
pub(super) struct Client {
    /// Its shard and session; `None` on the way and when it is gone.
    pub(super) place: Option<(usize, SessionKey)>,
    moving: Option<ShardIndex>,
    decoder: Decoder,
    /// Sent, not yet decoded.
    input: Vec<u8>,
    /// Taken from the session, the send has not completed.
    sending: Option<Vec<u8>>,
    /// All frames but heartbeats, in order.
    pub(super) frames: Vec<Frame>,
    pub(super) expected: VecDeque<Expected>,
    pub(super) subscription: Option<(TopicName, ChannelName)>,
    pub(super) closed: bool,
    pub(super) heartbeats: usize,
}

pub(super) struct World {
    pub(super) shards: Vec<Shard>,
    pub(super) now: Now,
    pub(super) clients: Vec<Client>,
    pub(super) replies: HashMap<u64, AdminReply>,
    pub(super) auditor: Auditor,
    /// For auth servers, not answered yet.
    pub(super) questions: Vec<(usize, SessionKey, AuthQuestion)>,
    sessions: Vec<HashMap<SessionKey, usize>>,
    transit: BTreeMap<(usize, usize), VecDeque<Carried>>,
    /// The disks of topics' logs, and who asks for them.
    pub(super) disks: Disks,
    next_ticket: u64,
}

impl World {
    pub(super) fn new(shards: u16) -> Self {
        Self::with(shards, |_| {})
    }

    pub(super) fn with(shards: u16, adjust: impl Fn(&mut ShardConfig)) -> Self {
        let shard = |index: u16| {
            let mut config = ShardConfig { index: ShardIndex(index), shards, ..config() };
            adjust(&mut config);
            Shard::new(config)
        };
        Self {
            shards: (0..shards).map(shard).collect(),
            now: Now { time: Time(MS), wall: WallClock(1_790_000_000_000_000_000) },
            clients: Vec::new(),
            replies: HashMap::new(),
            auditor: Auditor::default(),
            questions: Vec::new(),
            sessions: vec![HashMap::new(); usize::from(shards)],
            transit: BTreeMap::new(),
            disks: Disks::default(),
            next_ticket: 0,
        }
    }

    pub(super) fn connect(&mut self, shard: usize) -> usize {
        let key = self.shards[shard].connect(self.now, "10.0.0.1:5".into());
        let client = Client {
            place: Some((shard, key)),
            decoder: Decoder::after_magic(),
            ..Client::default()
        };
        self.clients.push(client);
        self.sessions[shard].insert(key, self.clients.len() - 1);
        self.clients.len() - 1
    }

    pub(super) fn disconnect(&mut self, client: usize) {
        if let Some((shard, key)) = self.clients[client].place.take() {
            self.clients[client].decoder.release(&mut self.shards[shard].store.pool);
            self.shards[shard].disconnect(key);
            self.sessions[shard].remove(&key);
            self.clients[client].closed = true;
            self.act(shard);
        }
    }

    /// Bytes from a client, decoded in the next turn of its shard.
    pub(super) fn send(&mut self, client: usize, bytes: impl AsRef<[u8]>) {
        self.clients[client].input.extend_from_slice(bytes.as_ref());
    }

    /// Sends and lets everything settle; returns the frames that came.
    pub(super) fn ask(&mut self, client: usize, bytes: impl AsRef<[u8]>) -> Vec<Frame> {
        self.send(client, bytes);
        self.settle();
        self.take_frames(client)
    }

    /// Answers the first question to an auth server with its JSON, or with nothing.
    pub(super) fn answer_question(&mut self, json: Option<&str>) -> AuthQuestion {
        let (shard, key, question) = self.questions.remove(0);
        let parse = |json: &str| Grant::parse(json.as_bytes(), &mut Patterns::default()).unwrap();
        let grant = json.map(parse).map(Box::new);
        self.shards[shard].authorize(self.now, key, grant);
        self.act(shard);
        self.settle();
        question
    }

    pub(super) fn take_frames(&mut self, client: usize) -> Vec<Frame> {
        std::mem::take(&mut self.clients[client].frames)
    }

    pub(super) fn session(&mut self, client: usize) -> &mut Session {
        let (shard, key) = self.clients[client].place.expect("the client is connected");
        self.shards[shard].session_mut(key).unwrap()
    }

    /// One turn of a shard: mail, bytes, time, deliveries, sends.
    pub(super) fn turn(&mut self, shard: usize, mail_max: usize) {
        for from in 0..self.shards.len() {
            for _ in 0..mail_max {
                let queue = self.transit.entry((from, shard)).or_default();
                let Some(carried) = queue.pop_front() else { break };
                self.receive(shard, from, carried);
                self.act(shard);
            }
        }
        for client in 0..self.clients.len() {
            if self.clients[client].place.is_some_and(|(at, _)| at == shard) {
                self.pump(client);
            }
        }
        self.shards[shard].tick(self.now);
        self.act(shard);
        self.shards[shard].end_turn(self.now);
        invariants::check_settled(&self.shards[shard]);
        self.act(shard);
        self.flush(shard);
        self.use_disks(shard);
    }

    /// Executes what the logs of a shard ask for.
    fn use_disks(&mut self, shard: usize) {
        while !self.shards[shard].io.requests.is_empty() {
            for request in std::mem::take(&mut self.shards[shard].io.requests) {
                let key = request.log;
                let completion = self.disks.execute(shard, request);
                self.shards[shard].file_completed(self.now, key, completion);
                self.act(shard);
            }
        }
    }

    fn receive(&mut self, shard: usize, from: usize, carried: Carried) {
        let from = ShardIndex(u16::try_from(from).unwrap());
        match carried {
            Carried::Mail(mail) => {
                self.shards[shard].receive(self.now, from, mail);
            }
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
        while shard.session_mut(key).is_some_and(|session| session.may_read()) {
            let (context, pool) = shard.decoding(key);
            match client.decoder.next(&mut input, &context, pool) {
                Ok(Some(command)) => {
                    let note = self.auditor.before(client.subscription, &command);
                    if let Command::Sub(names) = &command {
                        client.subscription = Some(**names);
                    }
                    let before = shard.session_mut(key).unwrap().counts.clone();
                    shard.command(self.now, key, command);
                    let after = shard.session_mut(key).unwrap().counts.clone();
                    let entry = (client.subscription, note);
                    client.expected.extend(self.auditor.after(entry, &before, &after));
                }
                Ok(None) => break,
                Err(error) => {
                    client.expected.push_back(Expected::Fatal);
                    shard.fail(key.index, error);
                }
            }
        }
        let rest = input.to_vec();
        client.input = rest;
        self.act(at);
    }

    fn act(&mut self, shard: usize) {
        while !self.shards[shard].actions.is_empty() {
            for action in std::mem::take(&mut self.shards[shard].actions) {
                match action {
                    Action::Notice(_) => {}
                    Action::OpenLog { key, topic } => self.disks.open(shard, key, topic),
                    Action::RemoveLog { key, topic } => {
                        self.disks.remove(shard, key, topic);
                        self.shards[shard].log_removed(self.now, key);
                    }
                    Action::FindLog { topic, name } => {
                        let disk = self.disks.disk(name);
                        let key = self.shards[shard].log_key(topic);
                        let options = self.shards[shard].config.log_options;
                        let (log, _) = recover(key, options, 5, disk).expect("a sound disk");
                        self.shards[shard].restore_log(self.now, topic, key, log);
                    }
                    Action::Reply { ticket, reply } => {
                        assert!(self.replies.insert(ticket, reply).is_none(), "answered twice");
                    }
                    Action::Close(key) => {
                        if let Some(client) = self.sessions[shard].get(&key).copied() {
                            self.disconnect(client);
                        }
                    }
                    Action::Upgrade(..) => unreachable!("no client asks for one"),
                    Action::Resume(key) => {
                        if let Some(client) = self.sessions[shard].get(&key).copied() {
                            self.pump(client);
                        }
                    }
                    Action::Authorize(key, question) => {
                        self.questions.push((shard, key, *question));
                    }
                    Action::Move(key, home) => {
                        let client = self.sessions[shard][&key];
                        self.clients[client].moving = Some(home);
                        self.depart(client);
                    }
                }
            }
        }
    }

    /// Moves a connection that is owed nothing any more.
    fn depart(&mut self, index: usize) {
        let client = &mut self.clients[index];
        let (Some(home), Some((at, key))) = (client.moving, client.place) else { return };
        let session = self.shards[at].session_mut(key).unwrap();
        let owed = !session.is_answered() || !session.output.is_empty();
        if owed || client.sending.is_some() || session.input != Input::Moving(home) {
            return;
        }
        let moved = self.shards[at].send_session(key).unwrap();
        self.sessions[at].remove(&key);
        client.place = None;
        let carried = Carried::Connection(index, Box::new(moved));
        self.transit.entry((at, usize::from(home))).or_default().push_back(carried);
    }

    fn flush(&mut self, shard: usize) {
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
        if client.sending.is_some() {
            return;
        }
        let session = self.shards[at].session_mut(key).unwrap();
        if session.output.is_empty() {
            let ended = session.input == Input::Closed && session.is_answered();
            return if ended { self.disconnect(index) } else { self.depart(index) };
        }
        let output = std::mem::take(&mut session.output);
        client.sending = Some(output.pieces().flatten().copied().collect());
        self.shards[at].output_started(self.now, key);
    }

    /// A client reads what was sent to it.
    pub(super) fn complete_send(&mut self, index: usize) {
        let client = &mut self.clients[index];
        let Some(bytes) = client.sending.take() else { return };
        for frame in parse(&bytes) {
            if frame == Frame::Response("_heartbeat_".into()) {
                client.heartbeats += 1;
                continue;
            }
            self.auditor.frame(client.subscription, &mut client.expected, &frame);
            client.frames.push(frame);
        }
        if let Some((at, key)) = client.place {
            self.shards[at].output_sent(key);
            self.flush_one(index);
            self.pump(index);
        }
    }

    /// Moves mail from an outbox towards its shard, as a mailbox with so much room would.
    pub(super) fn post(&mut self, from: usize, to: usize, room: usize) {
        let outbox = &mut self.shards[from].outboxes[to];
        let room = room.min(outbox.len());
        let queue = self.transit.entry((from, to)).or_default();
        queue.extend(outbox.drain(..room).map(Carried::Mail));
    }

    /// Turns, mail and sends until nothing happens any more.
    pub(super) fn settle(&mut self) {
        for _ in 0..100_000 {
            let count = self.shards.len();
            for shard in 0..count {
                self.turn(shard, usize::MAX);
                for to in 0..count {
                    self.post(shard, to, usize::MAX);
                }
            }
            for client in 0..self.clients.len() {
                self.complete_send(client);
            }
            invariants::check(self);
            let due = |shard: &Shard| shard.next_deadline().is_some_and(|due| due <= self.now.time);
            let carried = self.transit.values().any(|queue| !queue.is_empty());
            let sending = self.clients.iter().any(|client| client.sending.is_some());
            let busy = self.shards.iter().any(|shard| {
                due(shard) || !shard.dirty_sessions.is_empty() || !shard.actions.is_empty()
            });
            if !carried && !sending && !busy {
                return;
            }
        }
        panic!("the world does not come to rest");
    }

    /// Lets time pass without anybody noticing yet.
    pub(super) fn pass_ms(&mut self, ms: u64) {
        self.now.time.0 += ms * MS;
        self.now.wall.0 += i64::try_from(ms * MS).unwrap();
    }

    pub(super) fn administer(&mut self, shard: usize, request: AdminRequest) -> u64 {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        if let Some(reply) = self.shards[shard].administer(self.now, request, ticket) {
            self.replies.insert(ticket, reply);
        }
        self.act(shard);
        ticket
    }

    /// Where a topic lives, if the registrar knows it.
    pub(super) fn home(&self, name: &str) -> Option<(crate::broker::admin::TopicId, usize)> {
        let (id, home) = self.shards[0].known_home(&topic(name))?;
        Some((id, usize::from(home)))
    }

    pub(super) fn create_topic(&mut self, name: &str) {
        self.administer(0, AdminRequest::Resolve { topic: topic(name), create: true });
        self.settle();
    }

    pub(super) fn delete_topic(&mut self, name: &str) -> AdminReply {
        let ticket = self.administer(0, AdminRequest::DeleteTopic { topic: topic(name) });
        self.settle();
        self.replies.remove(&ticket).expect("answered")
    }

    pub(super) fn on_topic(&mut self, name: &str, action: TopicAction) -> AdminReply {
        let Some((topic, home)) = self.home(name) else { return AdminReply::TopicNotFound };
        let ticket = self.administer(home, AdminRequest::Topic { topic, action });
        self.replies.remove(&ticket).expect("answered at once")
    }

    /// What `/stats` says of a channel.
    pub(super) fn channel_stats(&mut self, name: &str, of: &str) -> ChannelStats {
        let (_, home) = self.home(name).expect("the topic exists");
        let (topic, channel) = (Some(topic(name)), Some(channel(of)));
        let request = AdminRequest::TopicsPage { from: 0, topic, channel, latencies: false };
        let ticket = self.administer(home, request);
        match self.replies.remove(&ticket) {
            Some(AdminReply::Topics(page)) => page.topics[0].channels[0].clone(),
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn on_channel(&mut self, name: &str, of: &str, action: ChannelAction) -> AdminReply {
        let Some((topic, home)) = self.home(name) else { return AdminReply::TopicNotFound };
        let request = AdminRequest::Channel { topic, channel: channel(of), action };
        let ticket = self.administer(home, request);
        self.replies.remove(&ticket).expect("answered at once")
    }
}

fn parse(mut bytes: &[u8]) -> Vec<Frame> {
    let mut frames = Vec::new();
    while let Some((size, rest)) = bytes.split_first_chunk::<4>() {
        let (frame, rest) = rest.split_at(u32::from_be_bytes(*size) as usize);
        bytes = rest;
        let text = || String::from_utf8(frame[4..].to_vec()).unwrap();
        frames.push(match frame[3] {
            0 => Frame::Response(text()),
            1 => Frame::Error(text()),
            _ => Frame::Message {
                attempts: u16::from_be_bytes([frame[12], frame[13]]),
                id: String::from_utf8(frame[14..30].to_vec()).unwrap(),
                body: frame[30..].to_vec(),
            },
        });
    }
    assert!(bytes.is_empty(), "a frame is cut");
    frames
}

pub(super) fn publish(name: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes = format!("PUB {name}\n").into_bytes();
    push_body(&mut bytes, body);
    bytes
}

pub(super) fn publish_deferred(name: &str, delay_ms: u64, body: &[u8]) -> Vec<u8> {
    let mut bytes = format!("DPUB {name} {delay_ms}\n").into_bytes();
    push_body(&mut bytes, body);
    bytes
}

pub(super) fn publish_all(name: &str, bodies: &[Vec<u8>]) -> Vec<u8> {
    let mut batch = u32::try_from(bodies.len()).unwrap().to_be_bytes().to_vec();
    bodies.iter().for_each(|body| push_body(&mut batch, body));
    let mut bytes = format!("MPUB {name}\n").into_bytes();
    push_body(&mut bytes, &batch);
    bytes
}

fn push_body(bytes: &mut Vec<u8>, body: &[u8]) {
    bytes.extend_from_slice(&u32::try_from(body.len()).unwrap().to_be_bytes());
    bytes.extend_from_slice(body);
}

pub(super) fn identify(json: &str) -> Vec<u8> {
    let mut bytes = b"IDENTIFY\n".to_vec();
    push_body(&mut bytes, json.as_bytes());
    bytes
}
