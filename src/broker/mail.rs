//! What shards tell each other. Only owned values cross; nothing is shared.
//!
//! Placement goes through the registrar: a shard that meets an unknown topic asks it
//! ([`Mail::Resolve`]); the registrar picks a home, has it create the topic, and only then tells
//! everybody ([`Mail::Known`]), so that no publish can reach a home before its topic. Deletion
//! runs the other way: everybody forgets the topic, and only then does its home drop it.

use super::admin::{ShardIndex, TopicId};
use super::policy::Cap;
use super::session::SessionKey;
use crate::protocol::command::PublishKind;
use crate::protocol::error::{EXITING, ProtocolError};
use crate::protocol::name::TopicName;
use crate::protocol::slab::OverBudget;
use ringmain_storage::request::IoError;
use std::borrow::Cow;

/// One message between shards.
#[derive(Debug)]
pub enum Mail {
    /// To the registrar: where does this topic live? Create it when it does not exist.
    Resolve {
        /// The topic asked for.
        name: TopicName,
    },
    /// From the registrar: a topic has a home. Sent to every shard, and again to one that asks.
    Known {
        /// Its identity.
        id: TopicId,
        /// Its name.
        name: TopicName,
        /// The shard that owns it.
        home: ShardIndex,
    },
    /// From the registrar: the topic asked for cannot be created (limit on topics reached).
    Unplaced {
        /// The topic asked for.
        name: TopicName,
    },
    /// From the registrar to the chosen home: create the topic.
    Create {
        /// Its identity.
        id: TopicId,
        /// Its name.
        name: TopicName,
    },
    /// From a home to the registrar: `Create` was carried out.
    Created {
        /// The topic.
        id: TopicId,
    },
    /// From the registrar to every shard but the home: the topic is being deleted.
    Forget {
        /// The topic.
        id: TopicId,
    },
    /// To the registrar: `Forget` was carried out.
    Forgotten {
        /// The topic.
        id: TopicId,
    },
    /// From the registrar to the home, when every other shard has forgotten the topic.
    Delete {
        /// The topic.
        id: TopicId,
    },
    /// From the home to the registrar: `Delete` was carried out.
    Deleted {
        /// The topic.
        id: TopicId,
    },
    /// From a home to the registrar: an ephemeral topic lost its last channel and is gone.
    Ended {
        /// The topic.
        id: TopicId,
    },
    /// To a home: publishes of one turn.
    Publish(Box<PublishBatch>),
    /// From a home: how each publish ended, in the order they came.
    Answers(Vec<PublishAnswer>),
}

/// The publishes that one shard's connections made in one turn to topics of one other shard.
#[derive(Debug, Default)]
pub struct PublishBatch {
    /// Bodies, back to back.
    pub bytes: Vec<u8>,
    /// What to do with them, in order.
    pub publishes: Vec<RemotePublish>,
}

/// One publish of a [`PublishBatch`].
#[derive(Debug)]
pub struct RemotePublish {
    /// The topic; it may be gone by the time this arrives.
    pub topic: TopicId,
    /// Who published, on the sending shard.
    pub session: SessionKey,
    /// Which answer of that session this publish will be.
    pub ticket: u64,
    /// The command.
    pub kind: PublishKind,
    /// Milliseconds before it becomes ready.
    pub delay_ms: u64,
    /// Messages in the body.
    pub count: u32,
    /// Where the body is.
    pub body: RemoteBody,
}

/// Where a mailed body lies.
#[derive(Debug)]
pub enum RemoteBody {
    /// The next so many bytes of the batch.
    Inline {
        /// Bytes.
        length: usize,
    },
    /// A slab of its own: the body was large.
    Slab(Vec<u8>),
}

/// How one publish ended.
#[derive(Debug)]
pub struct PublishAnswer {
    /// Who published.
    pub session: SessionKey,
    /// Which of its answers this is.
    pub ticket: u64,
    /// Done, or why not.
    pub outcome: Result<(), Refusal>,
}

/// Why a publish was refused. Nothing of it was kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The topic is being deleted.
    Exiting,
    /// The daemon is about to stop.
    Draining,
    /// The topic or one of its channels holds `--mem-queue-size` messages.
    QueueFull,
    /// It, or one of its channels, may hold no more.
    CapReached(Cap),
    /// The daemon's memory budget is used up.
    OverBudget,
    /// The daemon holds as many topics as it may.
    TooManyTopics,
    /// The topic's log cannot take it.
    Disk(IoError),
    /// The batch has so many messages that it would take more of the log than one record may.
    TooLargeForLog,
}

impl Refusal {
    /// The error a client gets.
    pub fn publish_error(self, kind: PublishKind) -> ProtocolError {
        ProtocolError::PublishFailed { kind, reason: self.reason() }
    }

    /// The reason as it follows `PUB failed `.
    pub fn reason(self) -> Cow<'static, str> {
        match self {
            Self::Exiting | Self::Draining => EXITING.into(),
            Self::QueueFull => "memory queue full".into(),
            Self::CapReached(cap) => cap.to_string().into(),
            Self::OverBudget => OverBudget::REASON.into(),
            Self::TooManyTopics => "too many topics".into(),
            Self::Disk(error) => format!("write to the topic's log: {error}").into(),
            Self::TooLargeForLog => {
                "too many messages in a batch for the topic's log: send smaller ones".into()
            }
        }
    }
}
