//! What a shard asks its caller to do: a closed list, drained completely after every event.

use super::admin::{AdminReply, ShardIndex};
use super::session::SessionKey;
use crate::protocol::error::ProtocolError;
use crate::protocol::name::{ChannelName, TopicName};

/// What the caller must do.
#[derive(Debug)]
pub enum Action {
    /// End the connection now, without waiting for its output to be sent.
    Close(SessionKey),
    /// The session was waiting and is not any more: decode on.
    Resume(SessionKey),
    /// Send what the session still owes, then hand the connection to another shard.
    Move(SessionKey, ShardIndex),
    /// A control request that could not be answered in its turn.
    Reply {
        /// From [`Shard::administer`](super::shard::Shard::administer).
        ticket: u64,
        /// The answer.
        reply: AdminReply,
    },
    /// Something an operator wants in the log.
    Notice(Notice),
}

/// See [`Action::Notice`].
#[derive(Debug)]
pub enum Notice {
    /// `TOPIC(t): created`.
    TopicCreated(TopicName),
    /// `TOPIC(t): deleting`.
    TopicDeleting(TopicName),
    /// `TOPIC(t): new channel(c)`.
    ChannelCreated(TopicName, ChannelName),
    /// `CHANNEL(c): deleting`.
    ChannelDeleting(ChannelName),
    /// A client was answered with an error.
    ClientError {
        /// The client.
        remote_address: Box<str>,
        /// The error.
        error: ProtocolError,
    },
}
