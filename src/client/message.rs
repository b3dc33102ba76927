//! A message in the hands of a consumer, to be answered exactly once.

use crate::protocol::message::MessageId;
use bytes::Bytes;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::UnboundedSender;

/// A message. It is nsqd's again, for another attempt, unless it is answered: with
/// [`finish`](Self::finish), or one of the ways to requeue. Dropping it requeues it as failed.
///
/// It may be answered from any task or thread. Answers for a connection that was lost in the
/// meantime do nothing: nsqd has taken the message back.
pub struct Message {
    body: Bytes,
    origin: Arc<Origin>,
    timestamp_ns: i64,
    id: [u8; 16],
    attempts: u16,
    answered: bool,
}

/// The connection messages came from; one for all of them.
#[derive(Debug)]
pub(super) struct Origin {
    pub(super) address: Arc<str>,
    pub(super) connection: ConnectionKey,
    pub(super) replies: UnboundedSender<Reply>,
}

/// A connection of a consumer: a place, and how often the place has been taken before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ConnectionKey {
    pub(super) slot: u32,
    pub(super) generation: u32,
}

/// What is to become of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reply {
    pub(super) connection: ConnectionKey,
    pub(super) id: [u8; 16],
    pub(super) verdict: Verdict,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Finish,
    /// `None`: after the automatic delay for so many attempts.
    Requeue {
        delay: Option<Duration>,
        attempts: u16,
        failed: bool,
    },
    /// Nobody has answered it.
    Dropped {
        attempts: u16,
    },
    Touch,
}

impl Message {
    pub(super) fn new(arrived: super::frames::Arrived, origin: &Arc<Origin>) -> Self {
        Self {
            body: arrived.body,
            origin: Arc::clone(origin),
            timestamp_ns: arrived.timestamp_ns,
            id: arrived.id,
            attempts: arrived.attempts,
            answered: false,
        }
    }

    /// What was published. It shares memory with the messages that arrived with it (up to 64 KiB):
    /// copy what is to be kept for long.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// When nsqd got the message, in nanoseconds since 1970.
    pub fn timestamp_ns(&self) -> i64 {
        self.timestamp_ns
    }

    /// Deliveries so far, this one included.
    pub fn attempts(&self) -> u16 {
        self.attempts
    }

    /// Unique within a topic of one nsqd.
    pub fn id(&self) -> MessageId {
        MessageId(self.id)
    }

    /// The nsqd it came from.
    pub fn nsqd_address(&self) -> &str {
        &self.origin.address
    }

    /// The message is dealt with: nsqd may forget it.
    pub fn finish(mut self) {
        self.answer(Verdict::Finish);
    }

    /// It could not be dealt with: nsqd hands it out again after a delay that grows with its
    /// attempts, and the consumer slows down.
    pub fn requeue(mut self) {
        self.answer(Verdict::Requeue { delay: None, attempts: self.attempts, failed: true });
    }

    /// As [`requeue`](Self::requeue), after this delay, in whole milliseconds.
    pub fn requeue_after(mut self, delay: Duration) {
        let delay = Some(delay);
        self.answer(Verdict::Requeue { delay, attempts: self.attempts, failed: true });
    }

    /// Not now, but nothing is wrong: nsqd hands it out again after the delay (`None`: the
    /// automatic one), and the consumer goes on at its pace.
    pub fn requeue_without_backoff(mut self, delay: Option<Duration>) {
        self.answer(Verdict::Requeue { delay, attempts: self.attempts, failed: false });
    }

    /// It takes longer: nsqd counts the message's time anew.
    pub fn touch(&self) {
        self.tell(Verdict::Touch);
    }

    fn answer(&mut self, verdict: Verdict) {
        self.answered = true;
        self.tell(verdict);
    }

    fn tell(&self, verdict: Verdict) {
        let Origin { connection, replies, .. } = &*self.origin;
        // A consumer that has ended has no connection on which this could be said.
        let _ = replies.send(Reply { connection: *connection, id: self.id, verdict });
    }
}

impl Drop for Message {
    fn drop(&mut self) {
        if !self.answered {
            self.tell(Verdict::Dropped { attempts: self.attempts });
        }
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("id", &self.id())
            .field("attempts", &self.attempts)
            .field("body_bytes", &self.body.len())
            .field("nsqd", &self.origin.address)
            .finish_non_exhaustive()
    }
}
