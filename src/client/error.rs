//! What can go wrong for who publishes or consumes, told so that they know what to do.

use std::fmt;
use std::sync::Arc;

/// Why a publish, a connection or a setting was refused. Cheap to clone: the loss of a connection
/// is told to everybody who waited for an answer on it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The topic's name is not one; nothing was sent.
    InvalidTopic(Arc<str>),
    /// The channel's name is not one; nothing was sent.
    InvalidChannel(Arc<str>),
    /// nsqd takes no empty messages and no empty batches; nothing was sent.
    EmptyBody,
    /// A setting that cannot be.
    Setting(Arc<str>),
    /// No connection could be made.
    Connect {
        /// Where to.
        address: Arc<str>,
        /// What the network, TLS or nsqd said.
        reason: Arc<str>,
    },
    /// nsqd's answer to a publish, its own text (`E_PUB_FAILED …`): the messages are not stored.
    Refused(Arc<str>),
    /// The connection ended before nsqd had answered. Whether the messages are stored is unknown:
    /// publishing them again may store them twice.
    Unanswered {
        /// The nsqd that did not answer.
        address: Arc<str>,
        /// How the connection ended.
        reason: Arc<str>,
    },
    /// No nsqd could be reached in time; nothing was sent.
    NotConnected(Arc<str>),
    /// The caller's deadline passed first. What was sent by then may be stored.
    DeadlinePassed,
    /// The producer or consumer has been stopped.
    Stopped,
    /// There is a connection to this address already, or one is being made.
    AlreadyConnected(Arc<str>),
    /// There is no such connection.
    UnknownAddress(Arc<str>),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InvalidTopic(name) => write!(f, "invalid topic name {name:?}"),
            Self::InvalidChannel(name) => write!(f, "invalid channel name {name:?}"),
            Self::EmptyBody => f.write_str("an empty message or batch cannot be published"),
            Self::Setting(text) => f.write_str(text),
            Self::Connect { address, reason } => {
                write!(f, "failed to connect to nsqd {address} - {reason}")
            }
            Self::Refused(text) => f.write_str(text),
            Self::Unanswered { address, reason } => write!(
                f,
                "not connected: {address} did not answer, the messages may be stored or not \
                 ({reason})"
            ),
            Self::NotConnected(reason) => write!(f, "not connected: {reason}"),
            Self::DeadlinePassed => f.write_str("the deadline passed before nsqd answered"),
            Self::Stopped => f.write_str("stopped"),
            Self::AlreadyConnected(address) => write!(f, "already connected to {address}"),
            Self::UnknownAddress(address) => write!(f, "not connected to {address}"),
        }
    }
}

impl std::error::Error for Error {}

impl Error {
    pub(super) fn connect(address: &Arc<str>, reason: impl fmt::Display) -> Self {
        Self::Connect { address: Arc::clone(address), reason: reason.to_string().into() }
    }
}
