//! What a shard asks its caller to do: a closed list, drained completely after every event.

use super::admin::{AdminReply, ShardIndex, TopicId};
use super::grant::AuthQuestion;
use super::mail::Refusal;
use super::session::SessionKey;
use super::upgrade::Upgrade;
use crate::protocol::error::ProtocolError;
use crate::protocol::name::{ChannelName, TopicName};
pub use ringmain_storage::log::State as LogState;
pub use ringmain_storage::request::{IoError, LogKey};

use ringmain_storage::log::Report;

/// What the caller must do.
#[derive(Debug)]
pub enum Action {
    /// End the connection now, without waiting for its output to be sent.
    Close(SessionKey),
    /// The session was waiting and is not any more: decode on.
    Resume(SessionKey),
    /// What is in the session's output goes out as it is; then install these layers, and call
    /// [`Shard::upgraded`](super::shard::Shard::upgraded) after each.
    Upgrade(SessionKey, Upgrade),
    /// Send what the session still owes, then hand the connection to another shard.
    Move(SessionKey, ShardIndex),
    /// A control request that could not be answered in its turn.
    Reply {
        /// From [`Shard::administer`](super::shard::Shard::administer).
        ticket: u64,
        /// The answer.
        reply: AdminReply,
    },
    /// A topic has a log from now on: requests with this key are for it.
    OpenLog {
        /// Its key.
        key: LogKey,
        /// Whose it is.
        topic: TopicName,
    },
    /// A topic is gone, and its log with it: forget the key, remove the files, then call
    /// [`Shard::log_removed`](super::shard::Shard::log_removed).
    RemoveLog {
        /// Its key.
        key: LogKey,
        /// Whose it was.
        topic: TopicName,
    },
    /// Only before the daemon serves: a topic of this shard exists again. If it has a log, bring it
    /// to [`Shard::restore_log`](super::shard::Shard::restore_log).
    FindLog {
        /// The topic.
        topic: TopicId,
        /// Its name.
        name: TopicName,
    },
    /// Ask an auth server what a client may do, and bring the answer to
    /// [`Shard::authorize`](super::shard::Shard::authorize). The session waits for it.
    Authorize(SessionKey, Box<AuthQuestion>),
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
    /// A topic's log takes records again, or does not.
    LogState(TopicName, LogState),
    /// Something happened to a topic's log.
    LogReport(TopicName, Report),
    /// Messages of a topic could not be read back.
    LogLost {
        /// The topic.
        topic: TopicName,
        /// The channel that would have got them.
        channel: ChannelName,
        /// How many.
        count: u64,
    },
    /// A dead-letter topic does not take a channel's messages; it is tried again until it does.
    DeadLettersRefused {
        /// The channel that keeps them meanwhile.
        channel: ChannelName,
        /// The topic.
        to: TopicName,
        /// Why.
        refusal: Refusal,
    },
    /// A client was answered with an error.
    ClientError {
        /// The client.
        remote_address: Box<str>,
        /// The error.
        error: ProtocolError,
    },
}
