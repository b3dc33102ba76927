//! What a client can ask for, decoded and checked: the values the decoder hands out.

pub use super::batch::{BatchError, BatchIter, split_batch};
use super::message::MessageId;
use super::name::{ChannelName, TopicName};

/// One command. What it borrows is valid until the decoder is asked for the next one.
#[derive(Debug, PartialEq, Eq)]
pub enum Command<'a> {
    /// `IDENTIFY`: settings of the connection, as JSON not yet looked at.
    Identify {
        /// The JSON document.
        body: &'a [u8],
    },
    /// `AUTH`.
    Auth {
        /// The client's secret.
        secret: &'a [u8],
    },
    /// `SUB`: the topic to consume from and the channel to join. In a box, since every FIN would
    /// move the room they take.
    Sub(Box<(TopicName, ChannelName)>),
    /// The line of an MPUB is valid, its body has not been looked at: NSQ creates the topic now,
    /// even if the body turns out bad. The MPUB itself follows as [`Command::Publish`].
    PublishStart {
        /// The topic to create if missing.
        topic: &'a TopicName,
    },
    /// `PUB`, `DPUB` or `MPUB`, whole.
    Publish(Publish<'a>),
    /// `RDY`.
    Ready {
        /// At most max-rdy-count.
        count: u64,
    },
    /// `FIN`.
    Finish {
        /// As sent; any 16 bytes.
        id: MessageId,
    },
    /// `REQ`.
    Requeue {
        /// As sent; any 16 bytes.
        id: MessageId,
        /// Clamped to max-req-timeout; 0 for at once.
        delay_ms: u64,
    },
    /// `TOUCH`.
    Touch {
        /// As sent; any 16 bytes.
        id: MessageId,
    },
    /// `CLS`.
    Close,
    /// `NOP`, or an `RDY` that came after `CLS` and is to be ignored.
    Nop,
}

/// One is moved for every message that is finished: it stays a few registers large.
const _: () = assert!(size_of::<Command<'_>>() <= 64);

/// Messages to publish.
#[derive(Debug, PartialEq, Eq)]
pub struct Publish<'a> {
    /// Where to.
    pub topic: &'a TopicName,
    /// Which command it was, for the text of errors.
    pub kind: PublishKind,
    /// DPUB's delay, at most max-req-timeout; 0 for at once.
    pub delay_ms: u64,
    /// How many messages: 1 unless it is an MPUB.
    pub count: u32,
    /// The messages.
    pub body: Body<'a>,
}

/// The three ways to publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PublishKind {
    /// One message.
    Pub,
    /// One message, deferred.
    Dpub,
    /// Several messages, all or none.
    Mpub,
}

/// The bytes of a publish. PUB, DPUB: the message. MPUB: exactly `([int32 size][bytes]) × count`,
/// every size checked; see [`BatchIter`].
#[derive(Debug, PartialEq, Eq)]
pub enum Body<'a> {
    /// In the receive buffer or in the decoder: copy what is to stay.
    Borrowed(&'a [u8]),
    /// Memory taken from the shard's `SlabPool` and still charged to it: whoever gets this gives
    /// it back. Its capacity may be a few times its length.
    Owned(Vec<u8>),
}

impl Body<'_> {
    /// The bytes, wherever they are.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Borrowed(bytes) => bytes,
            Self::Owned(bytes) => bytes,
        }
    }
}

/// Where a connection is in its life, as far as it decides which commands are allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Before SUB; publishers stay here.
    Init,
    /// After SUB.
    Subscribed,
    /// After CLS.
    Closing,
}

/// What an operator limits in commands; the options in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommandLimits {
    /// `--max-msg-size`: largest message body in bytes.
    pub max_msg_size: usize,
    /// `--max-body-size`: largest body of IDENTIFY, AUTH and MPUB in bytes.
    pub max_body_size: usize,
    /// `--max-rdy-count`.
    pub max_rdy_count: u64,
    /// `--max-req-timeout` in milliseconds: REQ is clamped to it, DPUB refused above it.
    pub max_req_timeout_ms: u64,
}

/// A command's name on the wire, for the texts of errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the variants are the commands' names")]
pub enum CommandName {
    Identify,
    Auth,
    Sub,
    Pub,
    Mpub,
    Dpub,
    Rdy,
    Fin,
    Req,
    Touch,
    Cls,
}

impl CommandName {
    /// As on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Identify => "IDENTIFY",
            Self::Auth => "AUTH",
            Self::Sub => "SUB",
            Self::Pub => "PUB",
            Self::Mpub => "MPUB",
            Self::Dpub => "DPUB",
            Self::Rdy => "RDY",
            Self::Fin => "FIN",
            Self::Req => "REQ",
            Self::Touch => "TOUCH",
            Self::Cls => "CLS",
        }
    }
}

impl From<PublishKind> for CommandName {
    fn from(kind: PublishKind) -> Self {
        match kind {
            PublishKind::Pub => Self::Pub,
            PublishKind::Dpub => Self::Dpub,
            PublishKind::Mpub => Self::Mpub,
        }
    }
}
