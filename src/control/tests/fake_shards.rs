//! Two shards that keep everything in one map and answer a page of one entry at a time.

use crate::broker::admin::{
    AdminReply, AdminRequest, ChannelAction, ChannelStats, PublishBody, REGISTRAR, SessionStats,
    SessionsPage, ShardIndex, TopicAction, TopicId, TopicStats, TopicsPage,
};
use crate::broker::durability::Durability;
use crate::broker::figures::Figure;
use crate::broker::latency::Latencies;
use crate::control::{ControlMail, ShardPort};
use crate::protocol::name::{ChannelName, TopicName};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel, sync_channel};
use std::thread;

/// The way into the shards for a test.
pub(super) struct FakeShards(Sender<Event>);

type Look = Box<dyn FnOnce(&mut Model) + Send>;

#[expect(clippy::large_enum_variant, reason = "there are a few of them at a time")]
enum Event {
    Mail(ShardIndex, ControlMail),
    Look(Look),
}

/// What both shards hold.
#[derive(Default)]
pub(super) struct Model {
    pub(super) topics: BTreeMap<TopicName, Topic>,
    pub(super) sessions: Vec<SessionStats>,
    /// Refuse publishes with this text.
    pub(super) refusal: Option<String>,
    /// Keep requests, and their askers waiting.
    pub(super) asleep: bool,
    /// How many times the registrar has been asked where a topic is.
    pub(super) resolved: usize,
    kept: Vec<ControlMail>,
    generation: u32,
}

pub(super) struct Topic {
    pub(super) id: TopicId,
    home: ShardIndex,
    pub(super) messages: Vec<Vec<u8>>,
    pub(super) paused: bool,
    pub(super) starting: bool,
    pub(super) channels: BTreeMap<ChannelName, ChannelStats>,
}

impl FakeShards {
    pub(super) fn start() -> (Self, Vec<ShardPort>) {
        let (events, inbox) = channel();
        let ports = [ShardIndex(0), ShardIndex(1)].map(|shard| {
            let (mail, letters) = sync_channel(1);
            let events: Sender<Event> = events.clone();
            thread::spawn(move || {
                for letter in letters {
                    events.send(Event::Mail(shard, letter)).unwrap_or_default();
                }
            });
            ShardPort { mail, wake: Arc::new(|| {}) }
        });
        thread::spawn(move || {
            let mut model = Model::default();
            for event in inbox {
                match event {
                    Event::Mail(_, mail) if model.asleep => model.kept.push(mail),
                    Event::Mail(shard, mail) => {
                        let reply = model.answer(shard, mail.request);
                        mail.reply.send(reply).unwrap_or_default();
                    }
                    Event::Look(look) => look(&mut model),
                }
            }
        });
        (Self(events), ports.into())
    }

    pub(super) fn look<T: Send + 'static>(
        &self,
        at: impl FnOnce(&mut Model) -> T + Send + 'static,
    ) -> T {
        let (answer, answers) = channel();
        let look: Look = Box::new(move |model| answer.send(at(model)).unwrap());
        self.0.send(Event::Look(look)).unwrap_or_else(|_| panic!("the fake shards have ended"));
        answers.recv().unwrap()
    }
}

impl Model {
    pub(super) fn topic(&mut self, name: &str) -> &mut Topic {
        self.topics.get_mut(&TopicName::parse(name.as_bytes()).unwrap()).expect("the topic exists")
    }

    pub(super) fn channel(&mut self, topic: &str, name: &str) -> &mut ChannelStats {
        let name = ChannelName::parse(name.as_bytes()).unwrap();
        self.topic(topic).channels.get_mut(&name).expect("the channel exists")
    }

    fn answer(&mut self, shard: ShardIndex, request: AdminRequest) -> AdminReply {
        match request {
            AdminRequest::Resolve { topic, create } => {
                assert_eq!(shard, REGISTRAR);
                self.resolved += 1;
                self.resolve(topic, create)
            }
            AdminRequest::DeleteTopic { topic } => {
                assert_eq!(shard, REGISTRAR);
                self.topics.remove(&topic).map_or(AdminReply::TopicNotFound, |_| AdminReply::Done)
            }
            AdminRequest::Publish { topic, messages, defer_ms } => {
                let refusal = self.refusal.clone();
                self.at_home(shard, topic, |topic| match refusal {
                    Some(reason) => AdminReply::Refused(reason),
                    None => topic.publish(messages, defer_ms),
                })
            }
            AdminRequest::LogRemoved { .. } | AdminRequest::Authorize { .. } => AdminReply::Done,
            AdminRequest::Topic { topic, action } => self.at_home(shard, topic, |topic| {
                match action {
                    TopicAction::Empty => topic.messages.clear(),
                    TopicAction::Pause => topic.paused = true,
                    TopicAction::Unpause => topic.paused = false,
                    TopicAction::SetDurability(_) | TopicAction::SetPolicy(_) => {}
                    TopicAction::Start => topic.starting = false,
                }
                AdminReply::Done
            }),
            AdminRequest::Channel { topic, channel, action } => {
                self.at_home(shard, topic, |topic| topic.act(channel, action))
            }
            AdminRequest::TopicsPage { from, topic, channel, .. } => {
                self.topics_page(shard, from, topic, channel)
            }
            AdminRequest::SessionsPage { from } => self.sessions_page(shard, from),
            AdminRequest::Figures => {
                let value = u64::from(shard.0) + 10;
                AdminReply::Figures(vec![Figure::gauge("nsqd_shard_messages", "in memory", value)])
            }
        }
    }

    fn resolve(&mut self, name: TopicName, create: bool) -> AdminReply {
        if create && !self.topics.contains_key(&name) {
            let home = ShardIndex(u16::try_from(self.topics.len() % 2).unwrap());
            self.generation += 1;
            let id = TopicId { index: 7, generation: self.generation };
            let (messages, channels) = (Vec::new(), BTreeMap::new());
            self.topics.insert(
                name,
                Topic { id, home, messages, paused: false, starting: false, channels },
            );
        }
        match self.topics.get(&name) {
            Some(topic) => AdminReply::Resolved { topic: topic.id, home: topic.home },
            None => AdminReply::TopicNotFound,
        }
    }

    fn at_home(
        &mut self,
        shard: ShardIndex,
        id: TopicId,
        act: impl FnOnce(&mut Topic) -> AdminReply,
    ) -> AdminReply {
        let topic = self.topics.values_mut().find(|topic| topic.id == id && topic.home == shard);
        topic.map_or(AdminReply::TopicNotFound, act)
    }

    fn topics_page(
        &self,
        shard: ShardIndex,
        from: u32,
        topic: Option<TopicName>,
        channel: Option<ChannelName>,
    ) -> AdminReply {
        let all = self.topics.iter().rev();
        let mut rest = all
            .filter(|(_, entry)| entry.home == shard)
            .filter(|(name, _)| topic.is_none_or(|topic| topic == **name))
            .filter(|(_, entry)| {
                channel.is_none_or(|channel| entry.channels.contains_key(&channel))
            })
            .skip(from as usize);
        let topics = rest.next().map(|(name, topic)| topic.stats(*name, channel));
        let next = rest.next().map(|_| from + 1);
        AdminReply::Topics(TopicsPage { topics: topics.into_iter().collect(), next })
    }

    fn sessions_page(&self, shard: ShardIndex, from: u32) -> AdminReply {
        let here = |index: &usize| index % 2 == usize::from(shard.0);
        let mut rest = (0..self.sessions.len()).filter(here).skip(from as usize);
        let sessions = rest.next().map(|index| self.sessions[index].clone());
        let next = rest.next().map(|_| from + 1);
        AdminReply::Sessions(SessionsPage { sessions: sessions.into_iter().collect(), next })
    }
}

impl Topic {
    fn publish(&mut self, messages: PublishBody, defer_ms: u64) -> AdminReply {
        let bodies = match messages {
            PublishBody::One(body) => vec![body],
            PublishBody::Batch { bytes, count } => {
                let bodies = unframe(&bytes);
                assert_eq!(bodies.len(), count as usize);
                bodies
            }
        };
        for channel in self.channels.values_mut() {
            let count = if defer_ms > 0 { &mut channel.deferred_count } else { &mut channel.depth };
            *count += bodies.len() as u64;
        }
        self.messages.extend(bodies);
        AdminReply::Done
    }

    fn act(&mut self, name: ChannelName, action: ChannelAction) -> AdminReply {
        if action == ChannelAction::Create {
            self.channels.entry(name).or_insert_with(|| new_channel(name));
            return AdminReply::Done;
        }
        let Some(channel) = self.channels.get_mut(&name) else {
            return AdminReply::ChannelNotFound;
        };
        match action {
            ChannelAction::Empty => channel.depth = 0,
            ChannelAction::Pause => channel.paused = true,
            ChannelAction::Unpause => channel.paused = false,
            ChannelAction::SetPolicy(_) => {}
            ChannelAction::Create | ChannelAction::Delete => {
                self.channels.remove(&name);
            }
        }
        AdminReply::Done
    }

    fn stats(&self, name: TopicName, channel: Option<ChannelName>) -> TopicStats {
        let channels = self.channels.values().rev();
        let shown = |entry: &&ChannelStats| channel.is_none_or(|channel| channel == entry.name);
        TopicStats {
            durability: Durability::Overflow,
            has_own_durability: false,
            log_bytes: 0,
            name,
            depth: self.messages.len() as u64,
            backend_depth: 0,
            message_count: self.messages.len() as u64,
            message_bytes: self.messages.iter().map(|body| body.len() as u64).sum(),
            paused: self.paused,
            starting: self.starting,
            governed: None,
            latencies: Latencies::default(),
            channels: channels.filter(shown).cloned().collect(),
        }
    }
}

fn new_channel(name: ChannelName) -> ChannelStats {
    ChannelStats {
        name,
        depth: 0,
        backend_depth: 0,
        in_flight_count: 0,
        deferred_count: 0,
        message_count: 0,
        requeue_count: 0,
        timeout_count: 0,
        delivery_counts: [0; 3],
        latencies: Latencies::default(),
        client_count: 0,
        paused: false,
        governed: None,
    }
}

fn unframe(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut bodies = Vec::new();
    while let Some((size, rest)) = bytes.split_first_chunk::<4>() {
        let (body, rest) = rest.split_at(i32::from_be_bytes(*size) as usize);
        bodies.push(body.to_vec());
        bytes = rest;
    }
    assert!(bytes.is_empty(), "nothing is left over");
    bodies
}
