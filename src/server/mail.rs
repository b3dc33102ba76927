//! What travels between the threads of shards: the broker's mail, and connections with their
//! sockets.

use super::layers::Layers;
use crate::broker::mail::Mail;
use crate::broker::session::MovedSession;
use std::os::fd::OwnedFd;

/// One piece of mail between two shards' threads.
#[derive(Debug)]
pub enum ShardMail {
    /// For the broker.
    Broker(Mail),
    /// A connection that goes on here.
    Connection(Box<MovedConnection>),
    /// A socket that was accepted by a shard that only spreads them (unix sockets).
    Accepted(OwnedFd),
}

/// A connection between two threads. Dropped on the way, it closes its socket.
#[derive(Debug)]
pub struct MovedConnection {
    /// The socket: nothing is outstanding on it.
    pub(super) socket: OwnedFd,
    /// The client's state.
    pub(super) session: MovedSession,
    /// TLS and compression, between two of the client's commands.
    pub(super) layers: Option<Box<Layers>>,
    /// Received, not decoded yet.
    pub(super) stash: Vec<u8>,
    /// The peer has closed its sending side.
    pub(super) at_end: bool,
}
