//! Where topics live: asking for a place, creating, forgetting, deleting.
//!
//! The registrar serialises the life of every topic; see `mail` for the order of its steps. Nobody
//! blocks: a command that needs a place is parked, a control request keeps its ticket, and both
//! are answered when the mail comes.

use super::action::{Action, Notice};
use super::admin::{AdminReply, REGISTRAR, ShardIndex, TopicId};
use super::mail::{Mail, Refusal};
use super::policy::Policy;
use super::registry::Stage;
use super::session::{Input, Parked, SessionKey};
use super::shard::Shard;
use super::time::Now;
use super::topic::Topic;
use crate::protocol::command::PublishKind;
use crate::protocol::error::ProtocolError;
use crate::protocol::name::TopicName;
use hashbrown::HashMap;

/// Who waits for what. Entries exist only while something is under way.
#[derive(Debug, Default)]
pub struct Placement {
    /// Sessions whose parked command names a topic that has no known place.
    waiting: HashMap<TopicName, Vec<SessionKey>, foldhash::fast::FixedState>,
    /// Registrar: what is under way per topic, by index.
    under_way: HashMap<u32, UnderWay, foldhash::fast::FixedState>,
}

/// Registrar: a topic that is being created or deleted.
#[derive(Debug, Default)]
struct UnderWay {
    /// Control requests to answer when it is done.
    tickets: Vec<u64>,
    /// Shards that have yet to forget the topic.
    forgetting: usize,
    /// The topic has already ended at its home.
    home_is_done: bool,
    /// Shards to tell, and requests to carry out, once the topic may exist again.
    afterwards: Vec<Asker>,
}

/// Who asked the registrar for a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asker {
    /// A shard, itself included; its sessions wait in its own `waiting`.
    Shard(ShardIndex),
    /// A control request.
    Ticket(u64),
}

#[cfg(test)]
impl Placement {
    /// Whether nobody waits and nothing is under way.
    pub(super) fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.under_way.is_empty()
    }
}

impl Shard {
    /// The home of a topic, if it is known and usable.
    pub(super) fn known_home(&self, name: &TopicName) -> Option<(TopicId, ShardIndex)> {
        let (id, place) = self.registry.find(name)?;
        (place.stage == Stage::Known).then_some((id, place.home))
    }

    /// Parks a command until its topic has a place, and asks for one.
    pub(super) fn await_place(&mut self, now: Now, index: u32, name: TopicName, parked: Parked) {
        let key = self.park(index, parked, Input::Waiting);
        self.ask_place(now, name, key);
    }

    /// Asks for the place of a topic, unless somebody has; who asked is [retried](Self::retry).
    pub(super) fn ask_place(&mut self, now: Now, name: TopicName, key: SessionKey) {
        let waiting = self.placement.waiting.entry(name).or_default();
        waiting.push(key);
        if waiting.len() > 1 {
            return;
        }
        if self.config.index == REGISTRAR {
            self.place_topic(now, name, Asker::Shard(REGISTRAR));
        } else {
            self.outboxes[usize::from(REGISTRAR)].push(Mail::Resolve { name });
        }
    }

    /// Registrar: finds or makes a place for a topic and tells who asked.
    pub(super) fn place_topic(&mut self, now: Now, name: TopicName, asker: Asker) {
        if let Some((id, place)) = self.registry.find(&name) {
            let (stage, home) = (place.stage, place.home);
            match stage {
                Stage::Known => self.tell(now, asker, id, name, home),
                _ => self.under_way(id).afterwards.push(asker),
            }
            return;
        }
        let preferred = match asker {
            Asker::Shard(shard) => shard,
            Asker::Ticket(_) => self.config.index,
        };
        let Some((id, home)) = self.registry.allocate(name, preferred) else {
            return self.refuse_place(asker, name);
        };
        self.under_way(id).afterwards.push(asker);
        if home == self.config.index {
            self.create_topic(now, id, name);
            self.topic_created(now, id);
        } else {
            self.outboxes[usize::from(home)].push(Mail::Create { id, name });
        }
    }

    /// Registrar: a home has created its topic; everybody may know of it now.
    pub(super) fn topic_created(&mut self, now: Now, id: TopicId) {
        let Some(place) = self.registry.place(id).copied() else { return };
        self.registry.set_stage(id, Stage::Known);
        for shard in self.other_shards().filter(|shard| *shard != place.home) {
            let mail = Mail::Known { id, name: place.name, home: place.home };
            self.outboxes[usize::from(shard)].push(mail);
        }
        let under_way = self.placement.under_way.remove(&id.index).unwrap_or_default();
        for asker in under_way.afterwards {
            // The other shards have just been told, but for the home.
            if asker == Asker::Shard(place.home) || !matches!(asker, Asker::Shard(_)) {
                self.tell(now, asker, id, place.name, place.home);
            }
        }
        self.place_known(now, place.name);
    }

    /// Whoever waited for this topic here goes on.
    pub(super) fn place_known(&mut self, now: Now, name: TopicName) {
        for key in self.placement.waiting.remove(&name).unwrap_or_default() {
            self.retry(now, key);
        }
    }

    /// The topic cannot be created: whoever waited for it here is refused.
    pub(super) fn place_refused(&mut self, name: TopicName) {
        for key in self.placement.waiting.remove(&name).unwrap_or_default() {
            if key == SessionKey::DEAD_LETTERS {
                self.dead_letters_unplaced();
            }
            let Some(session) = self.session_mut(key) else { continue };
            if session.input == Input::Closed {
                continue;
            }
            let error = match session.parked.take().map(|parked| *parked) {
                Some(Parked::Publish(publish)) => {
                    self.store.pool.give(publish.body);
                    Refusal::TooManyTopics.publish_error(publish.kind)
                }
                Some(Parked::PublishStart(_)) => {
                    Refusal::TooManyTopics.publish_error(PublishKind::Mpub)
                }
                _ => ProtocolError::SubFailed(Refusal::TooManyTopics.reason()),
            };
            self.fail(key.index, error);
        }
    }

    /// Home: makes the topic.
    pub(super) fn create_topic(&mut self, now: Now, id: TopicId, name: TopicName) {
        self.registry.learn(id, name, self.config.index);
        let index = id.index as usize;
        if index >= self.topics.len() {
            self.topics.resize_with(index + 1, || None);
        }
        let mut topic = Topic::new(id, name, self.config.node, self.config.durability);
        topic.starting = self.new_topics_wait;
        self.topics[index] = Some(Box::new(topic));
        self.govern_topic(now, id.index, Policy::default());
        if self.is_loading && !name.is_ephemeral() {
            self.actions.push(Action::FindLog { topic: id, name });
        }
        self.actions.push(Action::Notice(Notice::TopicCreated(name)));
    }

    /// Registrar: starts the end of a topic. Returns whether there was one to delete.
    pub(super) fn begin_delete(&mut self, now: Now, name: TopicName, ticket: u64) -> bool {
        let Some((id, place)) = self.registry.find(&name) else { return false };
        if place.stage != Stage::Known {
            return false;
        }
        self.under_way(id).tickets.push(ticket);
        self.forget_everywhere(now, id);
        true
    }

    /// Registrar: an ephemeral topic has ended at its home.
    pub(super) fn topic_ended(&mut self, now: Now, id: TopicId) {
        if self.note_end(id) {
            self.forget_everywhere(now, id);
        }
    }

    /// Registrar: nobody may use the topic from here on. Returns whether its deletion has yet to
    /// begin.
    pub(super) fn note_end(&mut self, id: TopicId) -> bool {
        let Some(place) = self.registry.place(id) else { return false };
        let begins = place.stage == Stage::Known;
        self.registry.set_stage(id, Stage::Deleting);
        self.under_way(id).home_is_done = true;
        begins
    }

    /// Registrar: one more shard has forgotten the topic.
    pub(super) fn topic_forgotten(&mut self, now: Now, id: TopicId) {
        let under_way = self.under_way(id);
        under_way.forgetting -= 1;
        if under_way.forgetting == 0 {
            self.delete_at_home(now, id);
        }
    }

    /// Registrar: the topic is gone everywhere.
    pub(super) fn topic_deleted(&mut self, now: Now, id: TopicId) {
        let Some(name) = self.registry.place(id).map(|place| place.name) else { return };
        self.registry.forget(id, true);
        let under_way = self.placement.under_way.remove(&id.index).unwrap_or_default();
        for ticket in under_way.tickets {
            self.actions.push(Action::Reply { ticket, reply: AdminReply::Done });
        }
        for asker in under_way.afterwards {
            self.place_topic(now, name, asker);
        }
    }

    /// Home: drops a topic with its channels; their clients are disconnected.
    pub(super) fn drop_topic(&mut self, id: TopicId) {
        if self.topic_mut(id).is_none() {
            return;
        }
        let Some(mut topic) = self.topics[id.index as usize].take() else { return };
        self.actions.push(Action::Notice(Notice::TopicDeleting(topic.name)));
        if let Some(governed) = topic.governed.take() {
            self.deadlines.remove(governed.timer);
        }
        if let Some(log) = topic.log.take() {
            self.drop_log(id, topic.name, *log);
        }
        for channel in topic.channels {
            self.drop_channel(channel);
        }
        for waiting in topic.queue {
            self.store.release(waiting.message);
        }
    }

    /// A topic of this shard.
    pub(super) fn topic_mut(&mut self, id: TopicId) -> Option<&mut Topic> {
        let topic = self.topics.get_mut(id.index as usize)?.as_deref_mut()?;
        (topic.id == id).then_some(topic)
    }

    pub(super) fn forget_everywhere(&mut self, now: Now, id: TopicId) {
        let Some(home) = self.registry.place(id).map(|place| place.home) else { return };
        self.registry.set_stage(id, Stage::Deleting);
        let others: Vec<_> = self.other_shards().filter(|shard| *shard != home).collect();
        self.under_way(id).forgetting = others.len();
        for shard in &others {
            self.outboxes[usize::from(*shard)].push(Mail::Forget { id });
        }
        if others.is_empty() {
            self.delete_at_home(now, id);
        }
    }

    fn delete_at_home(&mut self, now: Now, id: TopicId) {
        let Some(home) = self.registry.place(id).map(|place| place.home) else { return };
        if self.under_way(id).home_is_done {
            self.topic_deleted(now, id);
        } else if home == self.config.index {
            self.drop_topic(id);
            if !self.is_removing(id) {
                self.topic_deleted(now, id);
            }
        } else {
            self.outboxes[usize::from(home)].push(Mail::Delete { id });
        }
    }

    fn tell(&mut self, now: Now, asker: Asker, id: TopicId, name: TopicName, home: ShardIndex) {
        match asker {
            Asker::Shard(shard) if shard == self.config.index => self.place_known(now, name),
            Asker::Shard(shard) => {
                self.outboxes[usize::from(shard)].push(Mail::Known { id, name, home });
            }
            Asker::Ticket(ticket) => {
                let reply = AdminReply::Resolved { topic: id, home };
                self.actions.push(Action::Reply { ticket, reply });
            }
        }
    }

    fn refuse_place(&mut self, asker: Asker, name: TopicName) {
        match asker {
            Asker::Shard(shard) if shard == self.config.index => self.place_refused(name),
            Asker::Shard(shard) => {
                self.outboxes[usize::from(shard)].push(Mail::Unplaced { name });
            }
            Asker::Ticket(ticket) => {
                let reply = AdminReply::Refused(Refusal::TooManyTopics.reason().into_owned());
                self.actions.push(Action::Reply { ticket, reply });
            }
        }
    }

    fn under_way(&mut self, id: TopicId) -> &mut UnderWay {
        self.placement.under_way.entry(id.index).or_default()
    }

    fn other_shards(&self) -> impl Iterator<Item = ShardIndex> + use<> {
        let own = self.config.index;
        (0..self.config.shards).map(ShardIndex).filter(move |shard| *shard != own)
    }
}
