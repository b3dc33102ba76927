//! The loop of a shard's thread, and the order of work in a turn.

use super::clock::Clock;
use super::connection::Connection;
use super::handshakes::Handshakes;
use super::mail::{MovedConnection, ShardMail};
use super::stage::{DaemonStage, Stage};
use crate::broker::action::{Action, Notice};
use crate::broker::admin::{AdminReply, ShardIndex};
use crate::broker::grant::AuthQuestion;
use crate::broker::session::SessionKey;
use crate::broker::shard::Shard;
use crate::broker::time::Now;
use crate::control::certificates::OfferedTls;
use crate::control::health::Health;
use crate::control::metadata::{MetadataChanged, Removal};
use crate::control::{AuthInbox, AuthMail, ControlMail};
use crate::limits::{CONTROL_MAIL_PER_TURN, MAIL_PER_TURN, OUTBOX_RETRY};
use crate::reactor::mailbox::Mailboxes;
use crate::reactor::{Completion, Token, Uring};
use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, TryRecvError};
use std::time::Duration;
use tokio::sync::oneshot;

/// What a shard's thread is made of.
pub struct ShardParts {
    /// The decisions.
    pub shard: Shard,
    /// The kernel.
    pub reactor: Uring,
    /// Other shards.
    pub mailboxes: Mailboxes<ShardMail>,
    /// The control thread.
    pub control: Receiver<ControlMail>,
    /// Where clients connect to, if this shard has such a socket. Accepting begins when the
    /// daemon serves.
    pub listener: Option<OwnedFd>,
    /// Whether sockets of that listener are spread over all shards, and do not stay here.
    pub spreads: bool,
    /// What the shard is there for; each change is followed by a wake-up.
    pub stage: Arc<DaemonStage>,
    /// To be told of topics and channels that come and go, from when the daemon serves.
    pub metadata: MetadataChanged,
    /// Called once there is nothing left to deliver, when the daemon is drained.
    pub on_drained: Box<dyn FnOnce() + Send>,
    /// Called once the last client has been disconnected.
    pub on_closed: Box<dyn FnOnce() + Send>,
    /// Time.
    pub clock: Clock,
    /// Where the logs of topics lie.
    pub data_path: PathBuf,
    /// To the thread that removes the logs of deleted topics.
    pub removals: Sender<Removal>,
    /// To be told how the logs are.
    pub health: Health,
    /// The TLS that clients are offered; another one after the certificate was read again.
    pub tls: OfferedTls,
    /// To the thread that does the arithmetic of TLS handshakes; there is one if TLS is offered.
    pub handshakes: Handshakes,
    /// To whoever asks auth servers.
    pub auth: Option<AuthInbox>,
}

/// See the module's text.
pub struct EventLoop {
    pub(super) shard: Shard,
    pub(super) reactor: Uring,
    mailboxes: Mailboxes<ShardMail>,
    control: Receiver<ControlMail>,
    listener: Option<OwnedFd>,
    spreads: bool,
    stage: Arc<DaemonStage>,
    metadata: MetadataChanged,
    /// Until the daemon serves, topics come from the file and are in it already.
    loading: bool,
    on_drained: Option<Box<dyn FnOnce() + Send>>,
    on_closed: Option<Box<dyn FnOnce() + Send>>,
    pub(super) clock: Clock,
    pub(super) data_path: PathBuf,
    pub(super) removals: Sender<Removal>,
    health: Health,
    pub(super) tls: OfferedTls,
    pub(super) handshakes: Handshakes,
    auth: Option<AuthInbox>,
    /// Why the daemon cannot start.
    pub(super) failure: Option<io::Error>,
    /// The shard that gets the next spread socket.
    spread_next: usize,
    /// Read at the start of the turn.
    pub(super) now: Now,
    /// By [`Token::index`].
    pub(super) connections: Vec<Option<Connection>>,
    /// Session slot to connection.
    pub(super) tokens: Vec<Option<Token>>,
    /// Connections whose stash may be decoded.
    pub(super) resuming: Vec<Token>,
    /// Connections whose stash is being decoded in this turn; kept for its memory.
    pub(super) resumed: Vec<Token>,
    /// Connections and sockets for other shards that found no room in the mailbox.
    pub(super) departures: VecDeque<(ShardIndex, ShardMail)>,
    /// Control requests that are answered later.
    replies: HashMap<u64, oneshot::Sender<AdminReply>>,
    next_ticket: u64,
}

impl EventLoop {
    /// A loop that has not begun.
    pub fn new(parts: ShardParts) -> Self {
        let now = parts.clock.read();
        Self {
            shard: parts.shard,
            reactor: parts.reactor,
            mailboxes: parts.mailboxes,
            control: parts.control,
            listener: parts.listener,
            spreads: parts.spreads,
            stage: parts.stage,
            metadata: parts.metadata,
            loading: true,
            on_drained: Some(parts.on_drained),
            on_closed: Some(parts.on_closed),
            clock: parts.clock,
            data_path: parts.data_path,
            removals: parts.removals,
            health: parts.health,
            tls: parts.tls,
            handshakes: parts.handshakes,
            auth: parts.auth,
            failure: None,
            spread_next: 0,
            now,
            connections: Vec::new(),
            tokens: Vec::new(),
            resuming: Vec::new(),
            resumed: Vec::new(),
            departures: VecDeque::new(),
            replies: HashMap::new(),
            next_ticket: 0,
        }
    }

    /// Runs until the daemon stops.
    ///
    /// # Errors
    /// What the reactor cannot go on after.
    pub fn run(mut self) -> io::Result<()> {
        self.mailboxes.connect(&self.reactor);
        self.shard.begin_loading();
        self.turn_during(Stage::Loading)?;
        self.loading = false;
        self.shard.loaded(self.now);
        self.act();
        if let Some(listener) = self.listener.take() {
            self.reactor.add_listener(listener);
        }
        self.turn_during(Stage::Serving)?;
        if self.stage.current() == Stage::Draining {
            self.shard.begin_drain();
            self.turn_during(Stage::Draining)?;
        }
        self.close_all()?;
        self.wind_up()
    }

    /// Takes turns until the daemon goes on to another stage.
    fn turn_during(&mut self, stage: Stage) -> io::Result<()> {
        while self.stage.current() == stage {
            let idle = self.turn();
            self.report_drained(stage);
            if let Some(failure) = self.failure.take() {
                return Err(failure);
            }
            self.wait_during(stage, idle)?;
        }
        Ok(())
    }

    /// Ends a turn. It may have taken note of the wake-up that told of another stage: a shard that
    /// slept then would sleep through it.
    fn wait_during(&mut self, stage: Stage, idle: bool) -> io::Result<()> {
        self.wait(idle && self.stage.current() == stage)
    }

    /// Says, once, that there is nothing left to deliver.
    fn report_drained(&mut self, stage: Stage) {
        if stage == Stage::Draining
            && self.on_drained.is_some()
            && self.shard.is_drained()
            && let Some(on_drained) = self.on_drained.take()
        {
            on_drained();
        }
    }

    /// One turn. Returns whether the next may wait: nothing is left to do right away.
    fn turn(&mut self) -> bool {
        self.now = self.clock.read();
        self.shard.new_topics_wait = !self.loading && self.metadata.do_new_topics_wait();
        while let Some(completion) = self.reactor.next() {
            self.complete(completion);
            self.act();
        }
        let mail_left = self.take_mail();
        let control_left = self.take_control_mail();
        self.take_handshakes();
        self.resume();
        self.shard.tick(self.now);
        self.act();
        self.shard.end_turn(self.now);
        self.act();
        self.flush();
        self.post_mail();
        self.submit_files();
        !(mail_left || control_left) && self.resuming.is_empty()
    }

    /// The one system call of a turn.
    fn wait(&mut self, idle: bool) -> io::Result<()> {
        let sleeps = idle && self.mailboxes.prepare_to_sleep();
        let timeout = if sleeps { self.patience() } else { Some(Duration::ZERO) };
        let entered = self.reactor.enter(timeout);
        if sleeps {
            self.mailboxes.wake_up();
        }
        entered
    }

    /// How long the kernel may let this shard sleep.
    fn patience(&self) -> Option<Duration> {
        let deadline = self
            .shard
            .next_deadline()
            .map(|due| Duration::from_nanos(due.0.saturating_sub(self.now.time.0)));
        let waits =
            !self.departures.is_empty() || self.shard.outboxes.iter().any(|b| !b.is_empty());
        if waits { Some(deadline.unwrap_or(OUTBOX_RETRY).min(OUTBOX_RETRY)) } else { deadline }
    }

    fn complete(&mut self, completion: Completion) {
        match completion {
            Completion::Received { token, chunk } => self.received(token, chunk),
            Completion::Sent { token, buffer, result } => self.sent(token, buffer, result),
            Completion::ReceiveEnded { token, cause } => self.receive_ended(token, cause),
            Completion::Accepted { socket, .. } if self.spreads => self.spread(socket),
            Completion::Accepted { socket, .. } => self.accept(socket),
            Completion::AcceptFailed { error, .. } => {
                tracing::warn!("temporary Accept() failure - {error}");
            }
            Completion::Woken => {}
            Completion::File { log, completion } => {
                self.shard.file_completed(self.now, log, completion);
            }
            Completion::FilesBuffered { .. } => {
                tracing::warn!(
                    "the filesystem of the data path has no direct I/O: logs go through the page \
                     cache"
                );
            }
        }
    }

    /// Sockets of a listener that only this shard has go to all shards in turn.
    fn spread(&mut self, socket: OwnedFd) {
        let shards = self.shard.outboxes.len();
        let shard = self.spread_next;
        self.spread_next = (shard + 1) % shards;
        if shard == usize::from(self.shard.config.index) {
            self.accept(socket);
        } else {
            let index = u16::try_from(shard).expect("at most SHARDS_MAX shards");
            self.departures.push_back((ShardIndex(index), ShardMail::Accepted(socket)));
        }
    }

    /// Does what the broker asks for, until it asks for nothing more.
    pub(super) fn act(&mut self) {
        while !self.shard.actions.is_empty() {
            let mut actions = std::mem::take(&mut self.shard.actions);
            for action in actions.drain(..) {
                self.act_on(action);
            }
            if self.shard.actions.is_empty() {
                self.shard.actions = actions;
            }
        }
    }

    fn act_on(&mut self, action: Action) {
        match action {
            Action::OpenLog { key, topic } => self.open_log(key, &topic),
            Action::RemoveLog { key, topic } => {
                self.health.forget(&topic);
                self.remove_log(key, topic);
            }
            Action::FindLog { topic, name } => self.find_log(topic, name),
            Action::Authorize(session, question) => self.ask_auth_server(session, question),
            Action::Notice(notice) => {
                super::notices::log(&notice);
                if let Notice::LogState(topic, state) = &notice {
                    self.health.note(topic, *state);
                }
                if !self.loading {
                    super::notices::mark(&notice, &self.metadata);
                }
            }
            Action::Upgrade(key, upgrade) => self.begin_upgrade(key, upgrade),
            Action::Resume(key) => self.schedule_resume(key),
            Action::Move(key, home) => self.begin_move(key, home),
            Action::Close(key) => self.cut_off(key),
            Action::Reply { ticket, reply } => {
                if let Some(asker) = self.replies.remove(&ticket) {
                    // An asker that has given up is no concern of ours.
                    let _ = asker.send(reply);
                }
            }
        }
    }

    /// Asks what a client may do. The question ends with its connection.
    fn ask_auth_server(&mut self, session: SessionKey, question: Box<AuthQuestion>) {
        let (alive, gone) = oneshot::channel();
        let Some(connection) = self.connection_of(session) else { return };
        connection.asking = Some(alive);
        let Some(client) = self.shard.session_mut(session) else { return };
        let remote_address = client.remote_address.clone();
        let shard = self.shard.config.index;
        let mail = AuthMail { shard, session, remote_address, question, gone };
        if self.auth.as_ref().is_none_or(|inbox| inbox.try_send(mail).is_err()) {
            self.shard.authorize(self.now, session, None);
        }
    }

    /// Takes mail from other shards. Returns whether there may be more.
    fn take_mail(&mut self) -> bool {
        let mut arrivals: Vec<(usize, ShardMail)> = Vec::new();
        self.mailboxes.drain(MAIL_PER_TURN, |from, mail| arrivals.push((from, mail)));
        for (from, mail) in arrivals {
            let from = ShardIndex(u16::try_from(from).expect("at most SHARDS_MAX shards"));
            match mail {
                ShardMail::Broker(mail) => {
                    self.shard.receive(self.now, from, mail);
                }
                ShardMail::Connection(moved) => self.arrive(*moved),
                ShardMail::Accepted(socket) => self.accept(socket),
            }
            self.act();
        }
        self.mailboxes.has_mail()
    }

    /// The daemon ends: takes what other shards have mailed, but no more clients.
    pub(super) fn take_broker_mail(&mut self) {
        let mut arrivals = Vec::new();
        self.mailboxes.drain(MAIL_PER_TURN, |from, mail| arrivals.push((from, mail)));
        for (from, mail) in arrivals {
            let from = ShardIndex(u16::try_from(from).expect("at most SHARDS_MAX shards"));
            if let ShardMail::Broker(mail) = mail {
                self.shard.receive(self.now, from, mail);
                self.act();
            }
        }
    }

    /// Carries out control requests. Returns whether there may be more.
    fn take_control_mail(&mut self) -> bool {
        for _ in 0..CONTROL_MAIL_PER_TURN {
            let ControlMail { request, reply } = match self.control.try_recv() {
                Ok(mail) => mail,
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => return false,
            };
            let ticket = self.next_ticket;
            self.next_ticket += 1;
            match self.shard.administer(self.now, request, ticket) {
                Some(mut answer) => {
                    if let AdminReply::Figures(figures) = &mut answer {
                        figures.extend(super::figures::of(&self.reactor.counters()));
                    }
                    let _ = reply.send(answer);
                }
                None => {
                    self.replies.insert(ticket, reply);
                }
            }
            self.act();
        }
        true
    }

    /// Moves mail from the outboxes to the mailboxes as far as there is room; the rest stays in
    /// order and is tried again next turn.
    pub(super) fn post_mail(&mut self) {
        for (shard, outbox) in self.shard.outboxes.iter_mut().enumerate() {
            if !outbox.is_empty() {
                let room = self.mailboxes.room(shard).min(outbox.len());
                for mail in outbox.drain(..room) {
                    let posted = self.mailboxes.send(shard, ShardMail::Broker(mail));
                    debug_assert!(posted.is_ok(), "there was room");
                }
            }
        }
        for _ in 0..self.departures.len() {
            let Some((shard, mail)) = self.departures.pop_front() else { break };
            if let Err(mail) = self.mailboxes.send(usize::from(shard), mail) {
                self.departures.push_back((shard, mail));
            }
        }
        self.mailboxes.ring_doorbells(&mut self.reactor);
    }

    /// The connection of a session, if both are alive.
    pub(super) fn connection_of(&mut self, key: SessionKey) -> Option<&mut Connection> {
        let token = self.tokens.get(key.index as usize).copied().flatten()?;
        let connection = self.connections.get_mut(token.index())?.as_mut()?;
        (connection.session == key).then_some(connection)
    }

    /// Forgets a connection whose socket has been given up.
    pub(super) fn forget(&mut self, token: Token) -> Option<Connection> {
        let mut connection = self.connections.get_mut(token.index())?.take()?;
        self.tokens[connection.session.index as usize] = None;
        connection.decoder.release(self.shard.pool());
        Some(connection)
    }

    /// Adds a connection and starts receiving.
    pub(super) fn add(&mut self, connection: Connection) {
        let place = connection.token.index();
        if place >= self.connections.len() {
            self.connections.resize_with(place + 1, || None);
        }
        let slot = connection.session.index as usize;
        if slot >= self.tokens.len() {
            self.tokens.resize(slot + 1, None);
        }
        self.tokens[slot] = Some(connection.token);
        self.connections[place] = Some(connection);
    }

    /// A moved connection, on its way out.
    pub(super) fn depart(&mut self, home: ShardIndex, moved: MovedConnection) {
        self.departures.push_back((home, ShardMail::Connection(Box::new(moved))));
    }

    /// The daemon ends: everybody is disconnected, and what was given to sockets is sent.
    fn close_all(&mut self) -> io::Result<()> {
        self.reactor.remove_listeners();
        self.flush();
        for place in 0..self.connections.len() {
            if let Some(connection) = self.connections[place].take() {
                self.reactor.close(connection.token);
            }
        }
        let saved = self.save_all();
        if let Some(on_closed) = self.on_closed.take() {
            on_closed();
        }
        saved
    }

    /// Without clients: answers the control thread as long as it may ask, and lets closing sockets
    /// send what they were given; the reactor itself cuts off one that lingers.
    fn wind_up(mut self) -> io::Result<()> {
        while self.stage.current() != Stage::Ended || self.reactor.sockets() > 0 {
            self.take_control_mail();
            self.reactor.enter(Some(OUTBOX_RETRY))?;
            while let Some(completion) = self.reactor.next() {
                if let Completion::Received { chunk, .. } = completion {
                    self.reactor.recycle(chunk);
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
