//! TLS handshakes are arithmetic, up to a millisecond of it each: a thread beside each shard does
//! it, so that clients that are there do not wait for those that come.
//!
//! A connection's layers and what it has received go to that thread and come back by themselves;
//! until then the shard keeps what arrives. A few are with the thread at a time, the others wait
//! in their connections, and go with these if the client gives up.

use super::connection::Handshaking;
use super::event_loop::EventLoop;
use super::layers::{Handshake, Layers};
use super::upgrade::handshake_ended;
use crate::broker::session::SessionKey;
use crate::limits::HANDSHAKES_AT_ONCE_MAX;
use crate::process;
use crate::reactor::ControlWaker;
use std::collections::VecDeque;
use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};

/// The shard's end of its handshake thread, which ends when this is dropped.
#[derive(Debug)]
pub struct Handshakes {
    begun: Sender<Begun>,
    ended: Receiver<Ended>,
    /// Handshakes that are with the thread.
    at_once: usize,
    /// Whose turn it is next; some may be gone.
    waiting: VecDeque<SessionKey>,
}

/// On its way to the thread.
struct Begun {
    session: SessionKey,
    layers: Box<Layers>,
    /// Received from the client, and not empty.
    wire: Vec<u8>,
    /// To be called when the step is done.
    waker: ControlWaker,
}

/// On its way back.
struct Ended {
    session: SessionKey,
    layers: Box<Layers>,
    /// What the handshake has left of what was received.
    rest: Vec<u8>,
    outcome: Handshake,
}

impl Handshakes {
    /// Starts the thread. It may run wherever the calling thread may.
    ///
    /// # Errors
    /// There can be no thread.
    pub fn start(shard: usize) -> io::Result<Self> {
        let (handshakes, to_do, done) = Self::with_ends();
        std::thread::Builder::new()
            .name(format!("handshakes-{shard}"))
            .spawn(move || work(&to_do, &done))?;
        Ok(handshakes)
    }

    /// For a shard that offers no TLS: there is no thread, and nothing may be queued.
    pub fn none() -> Self {
        Self::with_ends().0
    }

    fn with_ends() -> (Self, Receiver<Begun>, Sender<Ended>) {
        let (begun, to_do) = channel();
        let (done, ended) = channel();
        (Self { begun, ended, at_once: 0, waiting: VecDeque::new() }, to_do, done)
    }
}

/// What the thread does. The channels hold no more than `HANDSHAKES_AT_ONCE_MAX`.
fn work(to_do: &Receiver<Begun>, done: &Sender<Ended>) {
    process::give_way();
    for Begun { session, mut layers, wire, waker } in to_do {
        let mut rest = &wire[..];
        let outcome = layers.shake_hands(&mut rest);
        let rest = rest.to_vec();
        if done.send(Ended { session, layers, rest, outcome }).is_err() {
            return;
        }
        waker.wake();
    }
}

impl EventLoop {
    /// A connection's handshake goes on, as soon as it is its turn: something was received for it.
    pub(super) fn queue_handshake(&mut self, session: SessionKey) {
        let Some(connection) = self.connection_of(session) else { return };
        connection.handshaking = Handshaking::Waiting;
        self.handshakes.waiting.push_back(session);
        if self.handshakes.waiting.len() > 2 * self.connections.len() {
            // Most of them are gone, or this would be no longer than the table of connections.
            let mut waiting = std::mem::take(&mut self.handshakes.waiting);
            waiting.retain(|session| self.connection_of(*session).is_some());
            self.handshakes.waiting = waiting;
        }
        self.begin_handshakes();
    }

    /// Gives the thread as many as it may have.
    fn begin_handshakes(&mut self) {
        while self.handshakes.at_once < HANDSHAKES_AT_ONCE_MAX
            && let Some(session) = self.handshakes.waiting.pop_front()
        {
            let Some(connection) = self.connection_of(session) else { continue };
            let Some(layers) = connection.layers.take() else { continue };
            connection.handshaking = Handshaking::Away;
            let wire = std::mem::take(&mut connection.stash);
            let waker = self.reactor.control_waker();
            let begun = self.handshakes.begun.send(Begun { session, layers, wire, waker });
            begun.expect("there is a thread, and its panic ends the process");
            self.handshakes.at_once += 1;
        }
    }

    /// Goes on with the connections whose handshakes have come back.
    pub(super) fn take_handshakes(&mut self) {
        while self.handshakes.at_once > 0
            && let Ok(ended) = self.handshakes.ended.try_recv()
        {
            self.handshakes.at_once -= 1;
            self.handshake_came_back(ended);
            self.act();
        }
        self.begin_handshakes();
    }

    fn handshake_came_back(&mut self, ended: Ended) {
        let Ended { session, mut layers, mut rest, outcome } = ended;
        let now = self.now;
        // The client may have gone.
        if self.connection_of(session).is_none() {
            return;
        }
        handshake_ended(&mut self.shard, now, session, &mut layers, outcome);
        let Some(connection) = self.connection_of(session) else { return };
        rest.append(&mut connection.stash);
        connection.stash = rest;
        connection.layers = Some(layers);
        connection.handshaking = Handshaking::No;
        self.shard.mark_for_sending(session);
        self.schedule_resume(session);
    }
}
