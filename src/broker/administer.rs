//! Requests of the control plane, carried out on this shard.

use super::admin::{AdminReply, AdminRequest, ChannelAction, PublishBody, TopicAction, TopicId};
use super::placement::Asker;
use super::publish::Put;
use super::shard::Shard;
use super::time::Now;
use super::topic_log::ReplyTo;
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
                return self.publish_for_control(now, topic, (messages, defer_ms), ticket);
            }
            AdminRequest::Topic { topic, action } => self.topic_action(now, topic, action),
            AdminRequest::Channel { topic, channel, action } => {
                self.channel_action(now, topic, channel, action)
            }
            AdminRequest::LogRemoved { key } => {
                self.log_removed(now, key);
                AdminReply::Done
            }
            AdminRequest::Authorize { session, grant } => {
                self.authorize(now, session, grant);
                AdminReply::Done
            }
            AdminRequest::TopicsPage { from, topic, channel, latencies } => {
                AdminReply::Topics(self.topics_page(now, from, topic, channel, latencies))
            }
            AdminRequest::SessionsPage { from } => AdminReply::Sessions(self.sessions_page(from)),
            AdminRequest::Figures => AdminReply::Figures(self.figures()),
        })
    }

    fn publish_for_control(
        &mut self,
        now: Now,
        topic: TopicId,
        (messages, defer_ms): (PublishBody, u64),
        ticket: u64,
    ) -> Option<AdminReply> {
        if self.topic_mut(topic).is_none() {
            return Some(AdminReply::TopicNotFound);
        }
        let (kind, count, bytes) = match messages {
            PublishBody::One(bytes) => (PublishKind::Pub, 1, bytes),
            PublishBody::Batch { bytes, count } => (PublishKind::Mpub, count, bytes),
        };
        self.store.pool.adopt(&bytes);
        let put = Put { kind, delay_ms: defer_ms, count, body: Body::Owned(bytes) };
        self.put_for(now, topic, put, ReplyTo::Control(ticket));
        None
    }

    fn topic_action(&mut self, now: Now, id: TopicId, action: TopicAction) -> AdminReply {
        let Some(topic) = self.topic_mut(id) else { return AdminReply::TopicNotFound };
        match action {
            TopicAction::Empty => {
                let queue = std::mem::take(&mut topic.queue);
                topic.empty_log();
                if let Some(governed) = topic.governed.as_deref_mut() {
                    (governed.bytes, governed.oldest_ns) = (0, None);
                }
                for waiting in queue {
                    self.store.release(waiting.message);
                }
                self.mark_log(id.index);
            }
            TopicAction::Pause => {
                topic.paused = true;
                // What the channels have been given by now is to be known after a crash.
                topic.log.iter_mut().for_each(|log| log.has_changed = true);
                self.mark_log(id.index);
            }
            TopicAction::SetDurability(durability) => {
                topic.durability = durability;
                topic.has_own_durability = true;
            }
            TopicAction::SetPolicy(policy) => self.govern_topic(now, id.index, policy),
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
            ChannelAction::SetPolicy(policy) => self.govern_channel(now, slot, policy),
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
