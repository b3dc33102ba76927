//! Requests of the control plane, carried out on this shard.

use super::admin::{AdminReply, AdminRequest, ChannelAction, PublishBody, TopicAction, TopicId};
use super::mail::Refusal;
use super::placement::Asker;
use super::publish::Put;
use super::shard::Shard;
use super::time::Now;
use crate::protocol::command::{Body, PublishKind};
use crate::protocol::name::ChannelName;

impl Shard {
    /// Carries out a request. `None` when the answer comes later, as an `Action::Reply` with this
    /// ticket.
    pub fn administer(
        &mut self,
        now: Now,
        request: AdminRequest,
        ticket: u64,
    ) -> Option<AdminReply> {
        Some(match request {
            AdminRequest::Resolve { topic, create } => {
                if let Some((topic, home)) = self.known_home(&topic) {
                    return Some(AdminReply::Resolved { topic, home });
                }
                if !create {
                    return Some(AdminReply::TopicNotFound);
                }
                self.place_topic(now, topic, Asker::Ticket(ticket));
                return None;
            }
            AdminRequest::DeleteTopic { topic } => {
                if self.begin_delete(now, topic, ticket) {
                    return None;
                }
                AdminReply::TopicNotFound
            }
            AdminRequest::Publish { topic, messages, defer_ms } => {
                self.publish_for_control(now, topic, messages, defer_ms)
            }
            AdminRequest::Topic { topic, action } => self.topic_action(now, topic, action),
            AdminRequest::Channel { topic, channel, action } => {
                self.channel_action(now, topic, channel, action)
            }
            AdminRequest::TopicsPage { from, topic, channel } => {
                AdminReply::Topics(self.topics_page(from, topic, channel))
            }
            AdminRequest::SessionsPage { from } => AdminReply::Sessions(self.sessions_page(from)),
            AdminRequest::Figures => AdminReply::Figures(self.figures()),
        })
    }

    fn publish_for_control(
        &mut self,
        now: Now,
        topic: TopicId,
        messages: PublishBody,
        defer_ms: u64,
    ) -> AdminReply {
        if self.topic_mut(topic).is_none() {
            return AdminReply::TopicNotFound;
        }
        let (kind, bytes) = match messages {
            PublishBody::One(bytes) => (PublishKind::Pub, bytes),
            PublishBody::Batch { bytes, .. } => (PublishKind::Mpub, bytes),
        };
        self.store.pool.adopt(&bytes);
        let put = Put { kind, delay_ms: defer_ms, body: Body::Owned(bytes) };
        match self.put(now, topic, put) {
            Ok(()) => AdminReply::Done,
            Err(Refusal::Exiting) => AdminReply::TopicNotFound,
            Err(refusal) => AdminReply::Refused(refusal.reason().to_owned()),
        }
    }

    fn topic_action(&mut self, now: Now, id: TopicId, action: TopicAction) -> AdminReply {
        let Some(topic) = self.topic_mut(id) else { return AdminReply::TopicNotFound };
        match action {
            TopicAction::Empty => {
                for waiting in std::mem::take(&mut topic.queue) {
                    self.store.release(waiting.message);
                }
            }
            TopicAction::Pause => topic.paused = true,
            TopicAction::Unpause => {
                topic.paused = false;
                self.flow(now, id.index);
            }
            TopicAction::Start => {
                topic.starting = false;
                self.flow(now, id.index);
            }
        }
        AdminReply::Done
    }

    fn channel_action(
        &mut self,
        now: Now,
        id: TopicId,
        name: ChannelName,
        action: ChannelAction,
    ) -> AdminReply {
        let Some(topic) = self.topic_mut(id) else { return AdminReply::TopicNotFound };
        let existing = topic.channels_by_name.get(&name).copied();
        if action == ChannelAction::Create {
            return match self.channel_or_new(now, id.index, name) {
                Some(_) => AdminReply::Done,
                None => AdminReply::Refused("too many channels".to_owned()),
            };
        }
        let Some(slot) = existing else { return AdminReply::ChannelNotFound };
        match action {
            ChannelAction::Create => {}
            ChannelAction::Delete => self.drop_channel(slot),
            ChannelAction::Empty => self.empty_channel(slot),
            ChannelAction::Pause => self.channels[slot as usize].paused = true,
            ChannelAction::Unpause => {
                self.channels[slot as usize].paused = false;
                for consumer in self.channels[slot as usize].consumers.clone() {
                    self.mark_eligible(consumer);
                }
            }
        }
        AdminReply::Done
    }
}
