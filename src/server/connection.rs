//! One socket of a shard: its layers, its decoder, what was received and may not be decoded yet,
//! and what is outstanding in the reactor.

use super::layers::Layers;
use crate::broker::admin::ShardIndex;
use crate::broker::session::SessionKey;
use crate::protocol::decoder::Decoder;
use crate::reactor::Token;
use std::convert::Infallible;
use tokio::sync::oneshot;

/// See the module's text.
#[derive(Debug)]
pub struct Connection {
    /// The socket.
    pub(super) token: Token,
    /// The client's state, in the broker.
    pub(super) session: SessionKey,
    pub(super) decoder: Decoder,
    /// TLS and compression, if the client has asked for any; not here while a handshake is away.
    pub(super) layers: Option<Box<Layers>>,
    pub(super) handshaking: Handshaking,
    /// Received while the session took no commands; decoded before anything newer.
    pub(super) stash: Vec<u8>,
    pub(super) receive: Receive,
    /// A send is outstanding.
    pub(super) sending: bool,
    /// It is in the loop's list of connections to decode on.
    pub(super) resuming: bool,
    /// While an auth server is asked about it; dropped with the connection, it ends the question.
    pub(super) asking: Option<oneshot::Sender<Infallible>>,
    /// Where it goes as soon as nothing is outstanding.
    pub(super) moving: Option<ShardIndex>,
}

/// Where a TLS handshake is that cannot go on here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Handshaking {
    /// Nowhere: there is none, or the client has to say more first.
    No,
    /// Here, until the thread for handshakes has time for it.
    Waiting,
    /// With that thread, and the layers, too.
    Away,
}

/// What the reactor is doing for the receiving side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Receive {
    /// Bytes are delivered.
    Started,
    /// Bytes may still come, then it is stopped.
    Stopping,
    /// What the peer sends stays in the socket: back-pressure.
    Stopped,
    /// The peer has closed its sending side; there is nothing more to come.
    AtEnd,
}

impl Connection {
    /// A connection that is about to be received from.
    pub(super) fn new(token: Token, session: SessionKey, decoder: Decoder) -> Self {
        Self {
            token,
            session,
            decoder,
            layers: None,
            handshaking: Handshaking::No,
            stash: Vec::new(),
            receive: Receive::Stopped,
            sending: false,
            resuming: false,
            asking: None,
            moving: None,
        }
    }

    /// Whether something was received and not decoded.
    pub(super) fn holds_input(&self) -> bool {
        !self.stash.is_empty() || self.layers.as_ref().is_some_and(|layers| layers.holds_input())
    }

    /// Whether what was received waits for the thread that does handshakes, or for the outcome.
    pub(super) fn waits_for_handshake(&self) -> bool {
        self.handshaking != Handshaking::No
    }

    /// Whether what was received is for a handshake that has not been told of it.
    pub(super) fn brings_handshake(&self) -> bool {
        !self.waits_for_handshake()
            && !self.stash.is_empty()
            && self.layers.as_ref().is_some_and(|layers| layers.is_shaking_hands())
    }

    /// Whether its layers have something to send.
    pub(super) fn has_wire(&self) -> bool {
        self.layers.as_ref().is_some_and(|layers| !layers.wire.is_empty())
    }

    /// Whether nothing can come of the receiving side any more, until it is started again.
    pub(super) fn is_quiet(&self) -> bool {
        matches!(self.receive, Receive::Stopped | Receive::AtEnd)
    }
}
