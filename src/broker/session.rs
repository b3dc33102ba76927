//! One client's protocol state: what it may send, what it is owed, and what it has been given.
//!
//! A session outlives nothing: when its connection ends it ends, and the messages it holds go back
//! to their channel at once. It can move to another shard between two commands, taking its
//! settings and counters along; it never moves while it has a subscription.

use super::admin::{ShardIndex, TopicId};
use super::authorize::Credentials;
use super::deadlines::TimerId;
use super::eligible::Proximity;
use super::in_flight::InFlightList;
use super::mail::Refusal;
use super::time::{Span, Time, WallClock};
use super::upgrade::{Layers, Upgrade};
use crate::limits::{ANSWERS_MAX, CLOSE_PATIENCE_NS, OUTPUT_BYTES_MAX, PUBLISH_COUNTS_MAX};
use crate::protocol::command::{Body, Publish, PublishKind, State};
use crate::protocol::error::ProtocolError;
use crate::protocol::frame;
use crate::protocol::name::{ChannelName, TopicName};
use crate::protocol::output::Output;
use std::collections::VecDeque;

/// See [`CLOSE_PATIENCE_NS`].
const CLOSE_PATIENCE: Span = Span(CLOSE_PATIENCE_NS);

/// A session's slot, and the generation that tells it from an earlier one in the same slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SessionKey {
    /// Slot on its shard.
    pub index: u32,
    /// Rises with every session of the shard.
    pub generation: u32,
}

impl SessionKey {
    /// No session: the shard itself publishes dead letters.
    pub const DEAD_LETTERS: Self = Self { index: u32::MAX, generation: u32::MAX };
}

/// What may happen to the client's next command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// It may be carried out.
    Open,
    /// The last one is waiting (`parked`); nothing may be decoded until the shard says so.
    Waiting,
    /// The connection is on its way to another shard: finish sending, then move it.
    Moving(ShardIndex),
    /// Layers are being put between the socket and the protocol; nothing is decoded meanwhile.
    Upgrading {
        /// When the client is given up.
        until: Time,
    },
    /// A fatal error was answered, or the session was cut: nothing more is decoded, and the
    /// connection closes once its output is sent.
    Closed,
}

/// A command that cannot be carried out before the topic's home is known, or not on this shard.
#[derive(Debug)]
pub enum Parked {
    /// SUB.
    Subscribe(TopicName, ChannelName),
    /// PUB, DPUB or MPUB with its body.
    Publish(OwnedPublish),
    /// MPUB's line: the topic is created even if the body turns out bad.
    PublishStart(TopicName),
    /// AUTH, which waits for an auth server.
    Auth,
}

/// A publish that owns its body.
#[derive(Debug)]
pub struct OwnedPublish {
    /// The topic.
    pub topic: TopicName,
    /// The command.
    pub kind: PublishKind,
    /// Milliseconds before it becomes ready.
    pub delay_ms: u64,
    /// Messages in the body.
    pub count: u32,
    /// The body.
    pub body: Vec<u8>,
}

impl OwnedPublish {
    /// The same as a decoded command.
    pub fn as_command(topic: &TopicName, publish: Self) -> Publish<'_> {
        let Self { kind, delay_ms, count, body, .. } = publish;
        Publish { topic, kind, delay_ms, count, body: Body::Owned(body) }
    }
}

/// An answer that waits for its turn: answers leave in the order of their commands.
#[derive(Debug)]
pub enum Answer {
    /// A publish that another shard has not answered yet.
    Pending(PublishKind),
    /// `OK`.
    Ok,
    /// Any other frame, complete.
    Frame(Box<[u8]>),
    /// An error that ends the connection.
    Fatal(Box<ProtocolError>),
}

/// Who a client is, as it said or as the connection shows.
#[derive(Debug, Clone, Default)]
pub struct Identity {
    /// `client_id`.
    pub client_id: String,
    /// `hostname`.
    pub hostname: String,
    /// `user_agent`.
    pub user_agent: String,
    /// `topology_zone`.
    pub topology_zone: String,
    /// `topology_region`.
    pub topology_region: String,
}

/// What a client negotiated, or the defaults.
#[derive(Debug, Clone, Copy)]
pub struct Negotiated {
    /// Between heartbeats; `None` when the client disabled them.
    pub heartbeat_interval: Option<Span>,
    /// Until a delivered message is requeued by itself.
    pub message_timeout: Span,
    /// Percent of messages kept; 0 keeps all (as does 99, by NSQ's arithmetic).
    pub sample_rate: u8,
    /// `output_buffer_size`; only reported, since output leaves at the end of a turn anyway.
    pub output_buffer_bytes: u64,
    /// `output_buffer_timeout`; only reported.
    pub output_buffer_timeout_ms: u64,
    /// Whether its topology matches the daemon's, with the experiment that looks at it.
    pub proximity: Proximity,
}

/// Counters of a session since it connected.
#[derive(Debug, Clone, Default)]
pub struct SessionCounts {
    /// Messages delivered to it.
    pub delivered: u64,
    /// FINs carried out.
    pub finished: u64,
    /// REQs carried out.
    pub requeued: u64,
    /// Messages published, per topic; at most [`PUBLISH_COUNTS_MAX`] topics.
    pub published: Vec<(TopicName, u64)>,
}

/// The publishes of one connection to topics of one other shard, in a row.
#[derive(Debug, Clone, Copy, Default)]
pub struct RemoteRun {
    /// The other shard.
    pub home: u16,
    /// Publishes so far.
    pub length: u32,
}

/// The topic a session published to last: most have one, which is then not looked up again.
#[derive(Debug, Clone, Copy)]
pub struct LastPublish {
    /// Its name.
    pub topic: TopicName,
    /// Its identity, while it lives.
    pub id: TopicId,
    /// Its row in [`SessionCounts::published`], or past its end when that is full.
    pub count_index: usize,
}

/// See the module's text.
#[derive(Debug)]
pub struct Session {
    /// Its key's generation.
    pub generation: u32,
    /// NSQ's state: init, subscribed, closing.
    pub state: State,
    /// Whether commands are taken.
    pub input: Input,
    /// `ip:port`, or `@`.
    pub remote_address: Box<str>,
    /// `None` until IDENTIFY: then the host part of `remote_address` stands in.
    pub identity: Option<Box<Identity>>,
    /// What it has shown with AUTH.
    pub credentials: Option<Box<Credentials>>,
    /// Negotiated values.
    pub negotiated: Negotiated,
    /// What lies between its socket and the protocol.
    pub layers: Layers,
    /// What is still to come there.
    pub upgrade: Upgrade,
    /// When it connected.
    pub connected: WallClock,
    /// When it last completed a command.
    pub last_heard: Time,
    /// When the last heartbeat was due.
    pub last_heartbeat: Time,
    /// When the send that is outstanding was started.
    pub sending_since: Option<Time>,
    /// Armed for the earliest of heartbeat, client deadline and message timeout.
    pub timer: TimerId,
    /// Frames to be sent at the end of the turn.
    pub output: Output,
    /// Whether it is in the shard's list of sessions with output.
    pub dirty: bool,
    /// Answers that wait for an earlier one; empty unless the first is pending.
    answers: VecDeque<Answer>,
    /// The ticket of the first of `answers`.
    first_ticket: u64,
    /// The command that waits.
    pub parked: Option<Box<Parked>>,
    /// The topic of the last publish.
    pub last_publish: Option<LastPublish>,
    /// For moving the connection to where it publishes.
    pub remote_run: RemoteRun,
    /// How often it has moved for that; each time it takes twice as long a run.
    pub moves: u8,
    /// The channel it subscribed to, by slot.
    pub channel: Option<u32>,
    /// The RDY window.
    pub ready_count: u64,
    /// Delivered, not finished.
    pub in_flight_count: u64,
    /// The same, as entries.
    pub in_flight: InFlightList,
    /// Whether its channel has it in `eligible`.
    pub eligible: bool,
    /// Counters.
    pub counts: SessionCounts,
}

/// What travels when a connection changes its shard.
#[derive(Debug)]
pub struct MovedSession {
    /// `ip:port`, or `@`.
    pub remote_address: Box<str>,
    /// As on the session.
    pub identity: Option<Box<Identity>>,
    /// As on the session.
    pub credentials: Option<Box<Credentials>>,
    /// As on the session.
    pub negotiated: Negotiated,
    /// As on the session.
    pub layers: Layers,
    /// As on the session.
    pub connected: WallClock,
    /// As on the session.
    pub last_heard: Time,
    /// As on the session.
    pub last_heartbeat: Time,
    /// As on the session.
    pub moves: u8,
    /// As on the session.
    pub counts: SessionCounts,
    /// The command it moved for, to be carried out on arrival.
    pub parked: Option<Box<Parked>>,
}

impl Session {
    /// A session that has just connected, or arrived from another shard.
    pub fn new(generation: u32, timer: TimerId, moved: MovedSession) -> Self {
        Self {
            generation,
            state: State::Init,
            input: Input::Open,
            remote_address: moved.remote_address,
            identity: moved.identity,
            credentials: moved.credentials,
            negotiated: moved.negotiated,
            layers: moved.layers,
            upgrade: Upgrade::default(),
            connected: moved.connected,
            last_heard: moved.last_heard,
            last_heartbeat: moved.last_heartbeat,
            sending_since: None,
            timer,
            output: Output::default(),
            dirty: false,
            answers: VecDeque::new(),
            first_ticket: 0,
            parked: moved.parked,
            last_publish: None,
            remote_run: RemoteRun::default(),
            moves: moved.moves,
            channel: None,
            ready_count: 0,
            in_flight_count: 0,
            in_flight: InFlightList::default(),
            eligible: false,
            counts: moved.counts,
        }
    }

    /// Whether the next command may be decoded: nothing waits, and the client takes its answers.
    pub fn may_read(&self) -> bool {
        self.input == Input::Open
            && self.output.len() < OUTPUT_BYTES_MAX
            && self.answers.len() < ANSWERS_MAX
    }

    /// Whether every command was answered.
    pub fn is_answered(&self) -> bool {
        self.answers.is_empty()
    }

    /// How many more messages it takes now.
    pub fn window(&self) -> u64 {
        self.ready_count.saturating_sub(self.in_flight_count)
    }

    /// Answers a command with a frame, after all earlier answers. The frame is written by
    /// `write` straight into the output when nothing waits.
    pub fn answer(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        if self.answers.is_empty() {
            write(&mut self.output.bytes);
        } else {
            let mut frame = Vec::new();
            write(&mut frame);
            self.answers.push_back(Answer::Frame(frame.into_boxed_slice()));
        }
    }

    /// Answers `OK`, after all earlier answers.
    pub fn answer_ok(&mut self) {
        if self.answers.is_empty() {
            frame::push_ok(&mut self.output.bytes);
        } else {
            self.answers.push_back(Answer::Ok);
        }
    }

    /// Answers with an error; a fatal one is the last thing the client hears.
    pub fn answer_error(&mut self, error: ProtocolError) {
        if !error.is_fatal() {
            return self.answer(|out| frame::push_error(out, &error));
        }
        self.input = Input::Closed;
        if self.answers.is_empty() {
            frame::push_error(&mut self.output.bytes, &error);
        } else {
            self.answers.push_back(Answer::Fatal(Box::new(error)));
        }
    }

    /// Keeps a place for the answer of a publish that another shard carries out.
    pub fn await_answer(&mut self, kind: PublishKind) -> u64 {
        self.answers.push_back(Answer::Pending(kind));
        self.first_ticket + self.answers.len() as u64 - 1
    }

    /// Another shard has answered; everything that waited for it alone leaves.
    /// Returns the error it made of a refusal.
    pub fn resolve(&mut self, ticket: u64, outcome: Result<(), Refusal>) -> Option<ProtocolError> {
        let position = usize::try_from(ticket.wrapping_sub(self.first_ticket)).ok();
        let answer = position.and_then(|position| self.answers.get_mut(position))?;
        let Answer::Pending(kind) = *answer else { return None };
        let error = outcome.err().map(|refusal| refusal.publish_error(kind));
        *answer = match &error {
            None => Answer::Ok,
            Some(error) => Answer::Fatal(Box::new(error.clone())),
        };
        self.release_answers();
        error
    }

    fn release_answers(&mut self) {
        while let Some(answer) = self.answers.front() {
            match answer {
                Answer::Pending(_) => break,
                Answer::Ok => frame::push_ok(&mut self.output.bytes),
                Answer::Frame(bytes) => self.output.bytes.extend_from_slice(bytes),
                Answer::Fatal(error) => {
                    frame::push_error(&mut self.output.bytes, error);
                    self.input = Input::Closed;
                    self.first_ticket += self.answers.len() as u64;
                    self.answers.clear();
                    return;
                }
            }
            self.answers.pop_front();
            self.first_ticket += 1;
        }
    }

    /// Notes the topic the session publishes to from now on.
    pub fn note_publish(&mut self, topic: &TopicName, id: TopicId) {
        let published = &mut self.counts.published;
        let found = published.iter().position(|(name, _)| name == topic);
        let count_index = found.unwrap_or(published.len());
        if found.is_none() && published.len() < PUBLISH_COUNTS_MAX {
            published.push((*topic, 0));
        }
        self.last_publish = Some(LastPublish { topic: *topic, id, count_index });
    }

    /// Counts messages published to that topic, for `/stats`.
    pub fn count_published(&mut self, messages: u64) {
        let Some(last) = &self.last_publish else { return };
        if let Some((_, count)) = self.counts.published.get_mut(last.count_index) {
            *count += messages;
        }
    }

    /// The earliest moment something is due, apart from message timeouts.
    pub fn next_liveness(&self) -> Time {
        let interval = self.negotiated.heartbeat_interval;
        let heartbeat = interval.map_or(Time::NEVER, |interval| self.last_heartbeat + interval);
        heartbeat
            .min(self.client_deadline())
            .min(self.write_deadline())
            .min(self.upgrade_deadline())
    }

    /// When a client that does not get through its upgrades is given up.
    pub fn upgrade_deadline(&self) -> Time {
        if let Input::Upgrading { until } = self.input { until } else { Time::NEVER }
    }

    /// When the connection is given up because nothing was heard: two heartbeats, but not while
    /// nothing that it sends is read because an auth server takes its time.
    pub fn client_deadline(&self) -> Time {
        if self.credentials.as_ref().is_some_and(|shown| shown.is_asking) {
            return Time::NEVER;
        }
        match self.negotiated.heartbeat_interval {
            // An upgrade has a deadline of its own.
            _ if matches!(self.input, Input::Upgrading { .. }) => Time::NEVER,
            Some(interval) => self.last_heard + Span(interval.0.saturating_mul(2)),
            None => Time::NEVER,
        }
    }

    /// When the connection is given up because it does not take what is sent: one heartbeat, or,
    /// without heartbeats, [`CLOSE_PATIENCE`] once there is nothing left but to close it.
    pub fn write_deadline(&self) -> Time {
        match (self.sending_since, self.negotiated.heartbeat_interval) {
            (Some(since), Some(interval)) => since + interval,
            (Some(since), None) if self.input == Input::Closed => since + CLOSE_PATIENCE,
            _ => Time::NEVER,
        }
    }

    /// The host part of the peer's address: what NSQ shows until IDENTIFY.
    pub fn peer_host(&self) -> &str {
        let address = self.remote_address.rsplit_once(':').map_or("", |(host, _)| host);
        address.trim_start_matches('[').trim_end_matches(']')
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::deadlines::{Deadlines, Owner};

    fn session() -> Session {
        let timer = Deadlines::default().add(Owner::Session(0));
        let moved = MovedSession {
            remote_address: "[::1]:7".into(),
            layers: Layers::default(),
            identity: None,
            credentials: None,
            negotiated: Negotiated {
                heartbeat_interval: Some(Span(10)),
                message_timeout: Span(100),
                sample_rate: 0,
                output_buffer_bytes: 0,
                output_buffer_timeout_ms: 0,
                proximity: Proximity::Global,
            },
            connected: WallClock(0),
            last_heard: Time(0),
            last_heartbeat: Time(0),
            moves: 0,
            counts: SessionCounts::default(),
            parked: None,
        };
        Session::new(0, timer, moved)
    }

    #[test]
    fn answers_leave_in_the_order_of_their_commands() {
        let mut session = session();
        let first = session.await_answer(PublishKind::Pub);
        let second = session.await_answer(PublishKind::Mpub);
        session.answer(|out| out.extend_from_slice(b"local"));
        assert_eq!(session.resolve(second, Ok(())), None);
        assert!(session.output.is_empty(), "the first is still pending");
        assert_eq!(session.resolve(first, Ok(())), None);
        let mut expected = Vec::new();
        frame::push_ok(&mut expected);
        frame::push_ok(&mut expected);
        expected.extend_from_slice(b"local");
        assert_eq!(session.output.bytes, expected);
        assert!(session.is_answered());
        let third = session.await_answer(PublishKind::Pub);
        assert_eq!(third, 3);
    }

    #[test]
    fn nothing_follows_a_fatal_answer() {
        let mut session = session();
        let first = session.await_answer(PublishKind::Pub);
        let second = session.await_answer(PublishKind::Pub);
        assert!(session.resolve(first, Err(Refusal::QueueFull)).is_some());
        assert_eq!(session.resolve(second, Ok(())), None);
        let mut expected = Vec::new();
        let error = Refusal::QueueFull.publish_error(PublishKind::Pub);
        frame::push_error(&mut expected, &error);
        assert_eq!(session.output.bytes, expected);
        assert_eq!(session.input, Input::Closed);
    }

    #[test]
    fn the_peers_host_is_the_address_without_port_and_brackets() {
        assert_eq!(session().peer_host(), "::1");
    }

    #[test]
    fn silence_and_stalled_sends_have_deadlines() {
        let mut session = session();
        assert_eq!(session.next_liveness(), Time(10), "a heartbeat");
        session.last_heartbeat = Time(15);
        assert_eq!(session.client_deadline(), Time(20));
        session.sending_since = Some(Time(3));
        assert_eq!(session.next_liveness(), Time(13));
        session.negotiated.heartbeat_interval = None;
        assert_eq!(session.next_liveness(), Time::NEVER);
        session.input = Input::Closed;
        assert_eq!(session.next_liveness(), Time(3) + CLOSE_PATIENCE);
    }
}
