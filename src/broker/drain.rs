//! The last minutes of a daemon that is drained: nothing new is taken, and what its consumers can
//! take is delivered.

use super::channel::Channel;
use super::mail::Refusal;
use super::shard::Shard;
use crate::protocol::command::PublishKind;

impl Shard {
    /// From here on publishes are refused, as by an nsqd that exits: the client tries another one.
    pub fn begin_drain(&mut self) {
        self.is_draining = true;
    }

    /// Whether nothing is left that its consumers could take: nothing is in flight, nothing waits
    /// for a consumer that is there, and every publish is answered. What waits for its time, or
    /// for consumers that are not there, is kept by the stop.
    pub fn is_drained(&self) -> bool {
        let at_rest = self.channels.iter().all(|(_, channel)| channel.is_at_rest());
        at_rest && self.sessions.iter().all(|(_, session)| session.is_answered())
    }

    /// Ends a session that publishes while the daemon is drained. Returns whether it did.
    pub(super) fn refuse_while_draining(&mut self, index: u32, kind: PublishKind) -> bool {
        if self.is_draining {
            self.fail(index, Refusal::Draining.publish_error(kind));
        }
        self.is_draining
    }
}

impl Channel {
    fn is_at_rest(&self) -> bool {
        let has_more = !self.ready.is_empty() || self.behind.is_some() || self.later.is_due;
        self.in_flight.is_empty() && (!has_more || self.paused || self.eligible.is_empty())
    }
}
