//! One core's share of the daemon: it owns topics, channels, sessions, messages and deadlines, and
//! routes what happens to them. Each public method is one event; effects come out as output on
//! sessions, as mail for other shards, and as [`Action`]s.
//!
//! The other files of `broker` add the parts: `placement` (where topics live), `publish`,
//! `consume`, `delivery`, `administer`, `stats`.

use super::action::{Action, Notice};
use super::admin::{ShardIndex, TopicId};
use super::authorize::Permission;
use super::channel::Channel;
use super::dead_letters::Burials;
use super::deadlines::{Deadlines, Owner, TimerId};
use super::durability::Durability;
use super::identify::Features;
use super::in_flight::InFlightEntries;
use super::latency::LatencyConfig;
use super::logged::LogKeys;
use super::mail::{Mail, PublishBatch};
use super::placement::Placement;
use super::policy::Policies;
use super::registry::Registry;
use super::session::{Input, MovedSession, Negotiated, Parked, Session, SessionCounts, SessionKey};
use super::store::{BodyPlace, MessageSlot, MessageStore};
use super::time::{Now, Span, Time};
use super::topic::Topic;
use super::upgrade::Layers;
use crate::limits::{
    LOG_BUFFER_BYTES_MAX, OUTPUT_KEPT_BYTES_MAX, OUTPUT_SPARE_BYTES_MAX, OUTPUT_SPARE_BYTES_MIN,
    OUTPUTS_SPARE_MAX,
};
use crate::protocol::command::Command;
use crate::protocol::command::CommandLimits;
use crate::protocol::decoder::Context;
use crate::protocol::error::ProtocolError;
use crate::protocol::identify::IdentifyLimits;
use crate::protocol::slab::SlabPool;
use ringmain_storage::log::{Io, LogOptions};
use ringmain_storage::request::LogKey;
use slab::Slab;

/// What a shard is told at its start.
#[derive(Debug, Clone)]
pub struct ShardConfig {
    /// Which shard it is.
    pub index: ShardIndex,
    /// How many there are.
    pub shards: u16,
    /// `--node-id`, `0..1024`.
    pub node: u16,
    /// Seed of its random decisions (sampling, hashing).
    pub seed: u64,
    /// `--mem-queue-size`: messages in memory per topic and per channel.
    pub mem_queue_size: usize,
    /// `--durability`: what publishes to a topic promise unless it was created with another.
    pub durability: Durability,
    /// What the configuration says of topics and channels.
    pub policies: Policies,
    /// `--sync-every`: messages appended to a log before it is synced.
    pub sync_every: u64,
    /// `--sync-timeout`: the longest that appended messages wait for a sync.
    pub sync_timeout: Span,
    /// Sizes of the logs.
    pub log_options: LogOptions,
    /// This shard's part of the memory budget, in bytes.
    pub budget_bytes: usize,
    /// `--max-channel-consumers`; 0 for no limit.
    pub max_channel_consumers: usize,
    /// `--max-msg-timeout`: the cap of TOUCH.
    pub max_message_timeout: Span,
    /// Which processing times are reported; none when they are not measured.
    pub latency: Option<LatencyConfig>,
    /// What a client has until it negotiates.
    pub defaults: Negotiated,
    /// Limits of single commands.
    pub command_limits: CommandLimits,
    /// Limits of what IDENTIFY may ask for.
    pub identify_limits: IdentifyLimits,
    /// What the IDENTIFY reply says of the daemon.
    pub features: Features,
}

/// See the module's text.
#[derive(Debug)]
pub struct Shard {
    /// As given.
    pub config: ShardConfig,
    /// What the caller must do; drained after every event.
    pub actions: Vec<Action>,
    /// Mail per shard, in order; drained at the end of a turn. What does not fit the mailbox stays.
    pub outboxes: Vec<Vec<Mail>>,
    /// Sessions that have output, by slot; drained at the end of a turn.
    pub dirty_sessions: Vec<u32>,
    /// Whether a new topic keeps its messages until the control thread has created its channels.
    pub new_topics_wait: bool,
    pub(super) sessions: Slab<Session>,
    pub(super) topics: Vec<Option<Box<Topic>>>,
    pub(super) channels: Slab<Channel>,
    pub(super) store: MessageStore,
    pub(super) in_flight: InFlightEntries,
    pub(super) deadlines: Deadlines,
    pub(super) registry: Registry,
    pub(super) placement: Placement,
    /// Channels that have both messages and consumers, by slot.
    pub(super) dirty_channels: Vec<u32>,
    /// The publishes of this turn per shard, before they become mail.
    pub(super) remote: Vec<Option<Box<PublishBatch>>>,
    /// Sessions whose publish found the outbox to its home full.
    pub(super) held_back: Vec<(SessionKey, ShardIndex)>,
    /// Registrar: ephemeral topics that ended on this shard in this turn; the others forget them
    /// at its end.
    pub(super) ended_here: Vec<TopicId>,
    /// Scratch of `publish`: the bodies of one batch.
    pub(super) places: Vec<BodyPlace>,
    /// Memory for output, empty.
    pub(super) spare_outputs: Vec<Vec<u8>>,
    /// Scratch of `publish`: the messages made of them.
    pub(super) slots: Vec<MessageSlot>,
    /// Requests of the logs, to be executed; and their memory.
    pub io: Io,
    pub(super) log_keys: LogKeys,
    /// Topics whose logs are being removed.
    pub(super) removing: Vec<(LogKey, TopicId)>,
    /// Topics come from what an earlier run left.
    pub(super) is_loading: bool,
    /// Publishes are refused: the daemon is about to stop.
    pub(super) is_draining: bool,
    /// Topics whose logs are looked at when the turn ends, by index.
    pub(super) marked_logs: Vec<u32>,
    /// Armed while a log needs to be looked at.
    pub(super) logs_timer: TimerId,
    pub(super) random: u64,
    next_generation: u32,
    pub(super) next_sequence: u64,
    /// Dead letters on their way.
    pub(super) burials: Burials,
}

impl Shard {
    /// A shard without topics and sessions.
    pub fn new(config: ShardConfig) -> Self {
        let shards = usize::from(config.shards);
        let mut deadlines = Deadlines::default();
        Self {
            io: Io::new(LOG_BUFFER_BYTES_MAX),
            log_keys: LogKeys::default(),
            removing: Vec::new(),
            is_loading: false,
            is_draining: false,
            marked_logs: Vec::new(),
            logs_timer: deadlines.add(Owner::Logs),

            actions: Vec::new(),
            outboxes: (0..shards).map(|_| Vec::new()).collect(),
            dirty_sessions: Vec::new(),
            new_topics_wait: false,
            sessions: Slab::new(),
            topics: Vec::new(),
            channels: Slab::new(),
            store: MessageStore::new(config.budget_bytes),
            in_flight: InFlightEntries::default(),
            deadlines,
            registry: Registry::new(config.shards, config.seed),
            placement: Placement::default(),
            dirty_channels: Vec::new(),
            remote: (0..shards).map(|_| None).collect(),
            held_back: Vec::new(),
            ended_here: Vec::new(),
            places: Vec::new(),
            spare_outputs: Vec::new(),
            slots: Vec::new(),
            random: config.seed | 1,
            next_generation: 0,
            next_sequence: 0,
            burials: Burials::default(),
            config,
        }
    }

    /// A client has connected.
    pub fn connect(&mut self, now: Now, remote_address: Box<str>) -> SessionKey {
        let moved = MovedSession {
            remote_address,
            identity: None,
            credentials: None,
            negotiated: self.config.defaults,
            layers: Layers::default(),
            connected: now.wall,
            last_heard: now.time,
            last_heartbeat: now.time,
            moves: 0,
            counts: SessionCounts::default(),
            parked: None,
        };
        self.add_session(moved)
    }

    /// A connection has arrived from another shard; the command it came for is carried out.
    pub fn receive_session(&mut self, now: Now, moved: MovedSession) -> SessionKey {
        let key = self.add_session(moved);
        self.retry(now, key);
        key
    }

    /// Takes a session out to send it to another shard: everything it was owed has been sent.
    pub fn send_session(&mut self, key: SessionKey) -> Option<MovedSession> {
        let session = self.session_mut(key)?;
        debug_assert!(session.channel.is_none() && session.is_answered());
        self.deadlines.remove(self.sessions[key.index as usize].timer);
        let session = self.sessions.remove(key.index as usize);
        Some(MovedSession {
            remote_address: session.remote_address,
            identity: session.identity,
            credentials: session.credentials,
            negotiated: session.negotiated,
            layers: session.layers,
            connected: session.connected,
            last_heard: session.last_heard,
            last_heartbeat: session.last_heartbeat,
            moves: session.moves,
            counts: session.counts,
            parked: session.parked,
        })
    }

    /// The connection is gone; what the session held goes back to its channel.
    pub fn disconnect(&mut self, key: SessionKey) {
        if self.session_mut(key).is_none() {
            return;
        }
        self.unsubscribe(key.index);
        self.deadlines.remove(self.sessions[key.index as usize].timer);
        let session = self.sessions.remove(key.index as usize);
        if let Some(Parked::Publish(publish)) = session.parked.map(|parked| *parked) {
            self.store.pool.give(publish.body);
        }
    }

    /// Carries out one command of a session whose input is open.
    pub fn command(&mut self, now: Now, key: SessionKey, command: Command<'_>) {
        let index = key.index;
        let Some(session) = self.session_mut(key) else { return };
        session.last_heard = now.time;
        if self.config.features.auth_required {
            match self.permission(now, index, &command) {
                Permission::Given => {}
                Permission::Refused(error) => return self.fail(index, *error),
                Permission::Unknown => return self.ask_again(index, command),
            }
        }
        match command {
            Command::Publish(publish) => self.publish(now, index, publish),
            Command::Finish { id } => self.finish(now, index, id),
            Command::Ready { count } => self.ready(index, count),
            Command::Requeue { id, delay_ms } => self.requeue(now, index, id, delay_ms),
            Command::Touch { id } => self.touch(now, index, id),
            Command::PublishStart { topic } => self.publish_start(now, index, topic),
            Command::Sub(names) => self.subscribe(now, index, names.0, names.1),
            Command::Identify { body } => self.identify(now, index, body),
            Command::Auth { secret } => self.authenticate(index, secret),
            Command::Close => self.close(index),
            Command::Nop => {}
        }
    }

    /// Ends a session with an error it is still told of.
    pub fn fail(&mut self, index: u32, error: ProtocolError) {
        if error.is_fatal() {
            self.unsubscribe(index);
        }
        let session = &mut self.sessions[index as usize];
        let remote_address = session.remote_address.clone();
        let notice = Notice::ClientError { remote_address, error: error.clone() };
        self.actions.push(Action::Notice(notice));
        session.answer_error(error);
        self.mark_dirty(index);
        self.arm_session(index);
    }

    /// Everything that is due.
    pub fn tick(&mut self, now: Now) {
        while let Some(owner) = self.deadlines.pop_due(now.time) {
            match owner {
                Owner::Session(index) => self.session_due(now, index),
                Owner::Channel(index) => self.deferred_due(now, index),
                Owner::Topic(index) => self.sweep_topic(now, index),
                Owner::Logs => self.logs_due(now),
            }
        }
    }

    /// The earliest time something will be due: at once if what happened after the end of the
    /// turn (a connection was lost, mail has left) calls for another one.
    pub fn next_deadline(&self) -> Option<Time> {
        let calls = !self.dirty_channels.is_empty()
            || !self.ended_here.is_empty()
            || !self.actions.is_empty()
            || !self.marked_logs.is_empty()
            || self.burials.are_due()
            || self.may_release_held_back();
        if calls { Some(Time(0)) } else { self.deadlines.next() }
    }

    /// A session; `None` when it is gone.
    pub fn session_mut(&mut self, key: SessionKey) -> Option<&mut Session> {
        let session = self.sessions.get_mut(key.index as usize)?;
        (session.generation == key.generation).then_some(session)
    }

    /// The session in a slot that this turn has marked. `None` when the one that was marked is
    /// gone (its slot may have been used again), or when its mark was cleared by an earlier entry
    /// of the list.
    pub fn marked_session(&mut self, index: u32) -> Option<(SessionKey, &mut Session)> {
        let session = self.sessions.get_mut(index as usize).filter(|session| session.dirty)?;
        let key = SessionKey { index, generation: session.generation };
        Some((key, session))
    }

    /// What the decoder must know of a session, and the pool it takes bodies from.
    pub fn decoding(&mut self, key: SessionKey) -> (Context<'_>, &mut SlabPool) {
        let session = &self.sessions[key.index as usize];
        let context = Context {
            state: session.state,
            heartbeats: session.negotiated.heartbeat_interval.is_some(),
            lacks_tls: self.config.features.tls_required && !session.is_tls(),
            limits: &self.config.command_limits,
        };
        (context, &mut self.store.pool)
    }

    /// The memory of bodies.
    pub fn pool(&mut self) -> &mut SlabPool {
        &mut self.store.pool
    }

    /// Whether the session's next command may be decoded.
    pub fn may_read(&mut self, key: SessionKey) -> bool {
        self.session_mut(key).is_some_and(|session| session.may_read())
    }

    /// Whether no further command of the session will ever be carried out.
    pub fn is_closed(&mut self, key: SessionKey) -> bool {
        self.session_mut(key).is_none_or(|session| session.input == Input::Closed)
    }

    /// The client has closed its side, in the middle of a command if there is an error to tell.
    /// A command that still waits is carried out first: call this again when it has been.
    pub fn end_input(&mut self, key: SessionKey, error: Option<ProtocolError>) {
        let Some(session) = self.session_mut(key) else { return };
        if session.input != Input::Open {
            return;
        }
        match error {
            Some(error) => self.fail(key.index, error),
            None => {
                session.input = Input::Closed;
                self.unsubscribe(key.index);
                self.mark_dirty(key.index);
                self.arm_session(key.index);
            }
        }
    }

    /// Marks a session that has output, or whose end or departure must be looked at.
    pub fn mark_if_due(&mut self, key: SessionKey) {
        let Some(session) = self.session_mut(key) else { return };
        let leaves = matches!(session.input, Input::Closed | Input::Moving(_));
        if leaves || !session.output.is_empty() {
            self.mark_dirty(key.index);
        }
    }

    /// Marks a session whose connection has something to send that is no output of the session.
    pub fn mark_for_sending(&mut self, key: SessionKey) {
        if self.session_mut(key).is_some() {
            self.mark_dirty(key.index);
        }
    }

    /// Memory for output, used before if there is some.
    pub fn spare_output(&mut self) -> Vec<u8> {
        self.spare_outputs.pop().unwrap_or_default()
    }

    /// Memory of output that has been sent, empty. A little stays with its session, which will
    /// answer again; much goes to the next subscriber that needs some.
    pub fn recycle_output(&mut self, key: SessionKey, bytes: Vec<u8>) {
        if bytes.capacity() <= OUTPUT_KEPT_BYTES_MAX {
            if let Some(session) = self.session_mut(key)
                && session.output.bytes.capacity() == 0
            {
                session.output.bytes = bytes;
            }
            return;
        }
        let size = OUTPUT_SPARE_BYTES_MIN..=OUTPUT_SPARE_BYTES_MAX;
        if size.contains(&bytes.capacity()) && self.spare_outputs.len() < OUTPUTS_SPARE_MAX {
            self.spare_outputs.push(bytes);
        }
    }

    /// Messages this shard holds, in whatever state.
    pub fn message_count(&self) -> usize {
        self.store.live_count()
    }

    /// Puts a session on the list of those with output.
    pub(super) fn mark_dirty(&mut self, index: u32) {
        let session = &mut self.sessions[index as usize];
        if !session.dirty {
            session.dirty = true;
            self.dirty_sessions.push(index);
        }
    }

    /// Carries out the command that waited, and lets the session go on.
    pub(super) fn retry(&mut self, now: Now, key: SessionKey) {
        if key == SessionKey::DEAD_LETTERS {
            return self.dead_letters_placed();
        }
        let Some(session) = self.session_mut(key) else { return };
        if session.input == Input::Closed {
            // It was cut while it waited; what is parked goes with it.
            return;
        }
        session.input = Input::Open;
        match session.parked.take().map(|parked| *parked) {
            None => {}
            Some(Parked::Subscribe(topic, channel)) => {
                self.subscribe(now, key.index, topic, channel);
            }
            Some(Parked::Auth) => self.answer_auth(key.index),
            Some(Parked::PublishStart(topic)) => self.publish_start(now, key.index, &topic),
            Some(Parked::Publish(publish)) => self.publish_owned(now, key.index, publish),
        }
        let open = self.session_mut(key).is_some_and(|session| session.input == Input::Open);
        if open {
            self.actions.push(Action::Resume(key));
        }
    }

    /// Parks a command; nothing more of this session is decoded until [`Self::retry`].
    pub(super) fn park(&mut self, index: u32, parked: Parked, input: Input) -> SessionKey {
        let session = &mut self.sessions[index as usize];
        session.parked = Some(Box::new(parked));
        session.input = input;
        SessionKey { index, generation: session.generation }
    }

    /// Arms a session's timer if something is now due earlier than it was.
    pub(super) fn arm_session(&mut self, index: u32) {
        let session = &self.sessions[index as usize];
        let due = session.next_liveness().min(self.in_flight.first_deadline(&session.in_flight));
        if due < self.deadlines.due(session.timer) {
            self.deadlines.arm(session.timer, due);
        }
    }

    /// Pseudo-random numbers for sampling (xorshift64*).
    pub(super) fn random(random: &mut u64) -> u64 {
        *random ^= *random >> 12;
        *random ^= *random << 25;
        *random ^= *random >> 27;
        random.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn add_session(&mut self, moved: MovedSession) -> SessionKey {
        let entry = self.sessions.vacant_entry();
        let index = u32::try_from(entry.key()).expect("SOCKETS_PER_SHARD_MAX is below 2^32");
        let generation = self.next_generation;
        self.next_generation = self.next_generation.wrapping_add(1);
        let timer = self.deadlines.add(Owner::Session(index));
        entry.insert(Session::new(generation, timer, moved));
        self.arm_session(index);
        SessionKey { index, generation }
    }
}
