//! Predicts from outside what clients must and must not get. Bodies are unique in an audited world.

use super::world::Frame;
use crate::broker::session::SessionCounts;
use crate::protocol::command::{BatchIter, Command, PublishKind};
use crate::protocol::name::{ChannelName, TopicName};
use std::collections::{HashMap, HashSet, VecDeque};

type Body = Vec<u8>;
type Subscription = Option<(TopicName, ChannelName)>;

/// The next answer a client is owed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Expected {
    Ok,
    Json,
    CloseWait,
    Published { topic: TopicName, bodies: Vec<Body>, epoch: u64, channels: Vec<ChannelName> },
    Failed(String),
    Fatal,
}

/// What a command was, once it is carried out.
pub(super) enum Note {
    Answered(Expected),
    Finish(String),
    Requeue(String),
    Silent,
}

#[derive(Default)]
pub(super) struct Auditor {
    /// Whether bodies are unique, and so everything can be checked.
    pub(super) on: bool,
    /// Non-ephemeral channels there are, per topic; kept by the world.
    pub(super) channels: HashMap<TopicName, Vec<ChannelName>>,
    /// Rises when what a topic held may legitimately be gone.
    epochs: HashMap<TopicName, u64>,
    /// Topics with a deletion under way: nothing is owed to their channels.
    deleting: HashMap<TopicName, usize>,
    refused: HashSet<Body>,
    deliveries: HashSet<(TopicName, ChannelName, Body, u16)>,
    finished: HashSet<(TopicName, ChannelName, Body)>,
    bodies: HashMap<(TopicName, ChannelName, String), Body>,
    owed: HashSet<(TopicName, ChannelName, Body)>,
    pub(super) acknowledged: usize,
    pub(super) delivered: usize,
}

impl Auditor {
    pub(super) fn before(&self, _: Subscription, command: &Command<'_>) -> Note {
        let ok = Note::Answered(Expected::Ok);
        match command {
            Command::Sub(_) => ok,
            Command::Auth { .. } => Note::Answered(Expected::Json),
            Command::Identify { body } if body.windows(11).any(|part| part == b"negotiation") => {
                Note::Answered(Expected::Json)
            }
            Command::Identify { .. } => ok,
            Command::Close => Note::Answered(Expected::CloseWait),
            Command::Finish { id } => Note::Finish(id.to_string()),
            Command::Requeue { id, .. } => Note::Requeue(id.to_string()),
            Command::Publish(publish) => {
                let bytes = publish.body.as_bytes();
                let bodies = match publish.kind {
                    PublishKind::Mpub => BatchIter::new(bytes).map(|(_, b)| b.to_vec()).collect(),
                    _ => vec![bytes.to_vec()],
                };
                let topic = *publish.topic;
                let (epoch, channels) = (self.epoch(topic), self.channels.get(&topic));
                let channels = channels.cloned().unwrap_or_default();
                Note::Answered(Expected::Published { topic, bodies, epoch, channels })
            }
            _ => Note::Silent,
        }
    }

    pub(super) fn after(
        &mut self,
        (subscription, note): (Subscription, Note),
        before: &SessionCounts,
        after: &SessionCounts,
    ) -> Option<Expected> {
        match note {
            Note::Answered(expected) => Some(expected),
            Note::Silent => None,
            Note::Finish(id) if after.finished == before.finished => Some(Expected::Failed(id)),
            Note::Requeue(id) => {
                (after.requeued == before.requeued).then_some(Expected::Failed(id))
            }
            Note::Finish(id) => {
                let (topic, channel) = subscription.unwrap();
                if self.on {
                    let body = self.bodies[&(topic, channel, id)].clone();
                    assert!(self.finished.insert((topic, channel, body)), "finished twice");
                }
                None
            }
        }
    }

    /// A client has read a frame.
    pub(super) fn frame(
        &mut self,
        subscription: Subscription,
        expected: &mut VecDeque<Expected>,
        frame: &Frame,
    ) {
        match frame {
            Frame::Message { id, attempts, body } => {
                self.delivered += 1;
                let (topic, channel) = subscription.unwrap();
                if self.on {
                    assert!(!self.refused.contains(body), "a refused message was delivered");
                    self.bodies.insert((topic, channel, id.clone()), body.clone());
                    let delivery = (topic, channel, body.clone(), *attempts);
                    assert!(self.deliveries.insert(delivery), "attempts {attempts} came twice");
                }
            }
            Frame::Response(text) => {
                let front = expected.pop_front();
                match (text.as_str(), front) {
                    ("CLOSE_WAIT", Some(Expected::CloseWait)) | ("OK", Some(Expected::Ok)) => {}
                    ("OK", Some(Expected::Published { topic, bodies, epoch, channels })) => {
                        self.acknowledged += bodies.len();
                        self.owe(topic, bodies, epoch, channels);
                    }
                    (json, Some(Expected::Json)) if json.starts_with('{') => {}
                    (text, front) => panic!("{text} answers {front:?}"),
                }
            }
            Frame::Error(text) if text.starts_with("E_TOUCH_FAILED") => {}
            Frame::Error(text) => match expected.pop_front() {
                Some(Expected::Failed(id)) => assert!(text.contains(&id), "{text} answers {id}"),
                Some(Expected::Published { bodies, .. }) => {
                    self.refused.extend(bodies);
                    expected.clear();
                }
                _ => expected.clear(),
            },
        }
    }

    /// What a topic holds may be gone from here on.
    pub(super) fn forget(&mut self, topic: TopicName) {
        *self.epochs.entry(topic).or_default() += 1;
        self.owed.retain(|(of, ..)| *of != topic);
    }

    pub(super) fn begin_delete(&mut self, topic: TopicName) {
        *self.deleting.entry(topic).or_default() += 1;
        self.forget(topic);
    }

    pub(super) fn end_delete(&mut self, topic: TopicName) {
        *self.deleting.get_mut(&topic).unwrap() -= 1;
        self.forget(topic);
    }

    pub(super) fn is_finished(&self, at: (TopicName, ChannelName), body: &[u8]) -> bool {
        self.on && self.finished.contains(&(at.0, at.1, body.to_vec()))
    }

    /// Everything acknowledged is finished or still held.
    pub(super) fn check_owed(&self, holds: impl Fn(TopicName, ChannelName, &[u8]) -> bool) {
        for owed @ (topic, channel, body) in &self.owed {
            let body_text = String::from_utf8_lossy(body);
            let there = self.finished.contains(owed) || holds(*topic, *channel, body);
            assert!(there, "{topic}:{channel} lost {body_text}");
        }
    }

    fn owe(&mut self, topic: TopicName, bodies: Vec<Body>, epoch: u64, to: Vec<ChannelName>) {
        if self.on
            && self.epoch(topic) == epoch
            && self.deleting.get(&topic).is_none_or(|n| *n == 0)
        {
            for body in bodies {
                self.owed.extend(to.iter().map(|channel| (topic, *channel, body.clone())));
            }
        }
    }

    fn epoch(&self, topic: TopicName) -> u64 {
        self.epochs.get(&topic).copied().unwrap_or_default()
    }
}
