//! What `nsqd.dat` says: NSQ's JSON, to the letter.

use crate::broker::durability::Durability;
use crate::broker::policy::Policy;
use crate::options::Declared;
use crate::options::VERSION;
use crate::protocol::name::{ChannelName, TopicName};
use serde::de::{Error, Unexpected};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::HashMap;
use std::fmt::Display;

/// Topics, channels and their pause states; nothing ephemeral.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Metadata {
    /// In the file's order.
    pub(super) topics: Vec<Topic>,
}

/// A topic that survives a restart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Topic {
    pub(super) name: TopicName,
    pub(super) paused: bool,
    /// What was asked for of this topic; none follows the daemon.
    pub(super) durability: Option<Durability>,
    /// What was asked for of it.
    pub(super) policy: Policy,
    pub(super) channels: Vec<Channel>,
}

/// A channel that survives a restart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Channel {
    pub(super) name: ChannelName,
    pub(super) paused: bool,
    /// What was asked for of it.
    pub(super) policy: Policy,
}

/// The document as it is written; the fields are in NSQ's order. A list without elements is
/// `null`, as Go writes a list that nothing was ever added to.
#[derive(Serialize)]
struct Written<'a> {
    topics: Option<Vec<WrittenTopic<'a>>>,
    version: &'static str,
}

#[derive(Serialize)]
struct WrittenTopic<'a> {
    name: &'a str,
    paused: bool,
    /// Ours; nsqd ignores it.
    #[serde(skip_serializing_if = "Option::is_none")]
    durability: Option<&'static str>,
    /// Ours, too, here and below.
    #[serde(skip_serializing_if = "Policy::is_empty")]
    policy: Policy,
    channels: Option<Vec<WrittenChannel<'a>>>,
}

#[derive(Serialize)]
struct WrittenChannel<'a> {
    name: &'a str,
    paused: bool,
    #[serde(skip_serializing_if = "Policy::is_empty")]
    policy: Policy,
}

/// The document as it is read: what is missing or `null` is empty, what is unknown is ignored.
#[derive(Deserialize)]
struct Read {
    #[serde(default)]
    topics: Option<Vec<ReadTopic>>,
}

#[derive(Deserialize)]
struct ReadTopic {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    paused: Option<bool>,
    #[serde(default)]
    durability: Option<String>,
    #[serde(default)]
    policy: Option<Value>,
    #[serde(default)]
    channels: Option<Vec<ReadChannel>>,
}

#[derive(Deserialize)]
struct ReadChannel {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    paused: Option<bool>,
    #[serde(default)]
    policy: Option<Value>,
}

impl Metadata {
    /// Takes topics in any order.
    pub(super) fn of(mut topics: Vec<Topic>) -> Self {
        topics.sort_unstable_by_key(|topic| topic.name);
        for topic in &mut topics {
            topic.channels.sort_unstable_by_key(|channel| channel.name);
        }
        Self { topics }
    }

    /// Adds topics that are not in it: their logs were there.
    pub fn add_topics(&mut self, names: impl Iterator<Item = TopicName>) {
        for name in names {
            if self.topics.iter().all(|topic| topic.name != name) {
                self.topics.push(Topic::new(name));
            }
        }
    }

    /// Adds what the configuration declares and is not in it.
    pub fn declare(&mut self, declared: &Declared) {
        let indexes = self.topics.iter().enumerate().map(|(index, topic)| (topic.name, index));
        let indexes: HashMap<_, _> = indexes.collect();
        for topic in &declared.topics {
            let index = indexes.get(&topic.name).copied().unwrap_or_else(|| {
                self.topics.push(Topic::new(topic.name));
                self.topics.len() - 1
            });
            let known = &mut self.topics[index];
            known.durability = topic.durability.or(known.durability);
            for name in &topic.channels {
                if known.channels.iter().all(|channel| channel.name != *name) {
                    let policy = Policy::default();
                    known.channels.push(Channel { name: *name, paused: false, policy });
                }
            }
        }
    }

    /// The bytes of the file.
    pub(super) fn to_json(&self) -> Vec<u8> {
        let topics = filled(self.topics.iter().map(WrittenTopic::of).collect());
        let written = Written { topics, version: VERSION };
        serde_json::to_vec(&written).expect("names and booleans have a form in JSON")
    }

    /// Reads the bytes of a file, written by us or by nsqd. Names that are none are left out, with
    /// a line in the log.
    ///
    /// # Errors
    /// When it is not such a document.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        // A list of values would pass for an object, and an empty one for no topics at all.
        if bytes.trim_ascii_start().starts_with(b"[") {
            return Err(Error::invalid_type(Unexpected::Seq, &"an object"));
        }
        let read: Option<Read> = serde_json::from_slice(bytes)?;
        let rows = read.and_then(|read| read.topics).unwrap_or_default();
        let mut topics = Vec::with_capacity(rows.len());
        for row in rows {
            let text = row.name.unwrap_or_default();
            let Ok(name) = TopicName::parse(text.as_bytes()) else {
                tracing::warn!("skipping creation of invalid topic {text}");
                continue;
            };
            let channels = row.channels.unwrap_or_default();
            let channels = channels.into_iter().filter_map(ReadChannel::checked).collect();
            let paused = row.paused.unwrap_or_default();
            let durability = row.durability.and_then(|text| durability_of(&name, &text));
            let policy = policy_of(&name, row.policy);
            topics.push(Topic { name, paused, durability, policy, channels });
        }
        Ok(Self { topics })
    }
}

/// A level that makes no sense is one that was not asked for.
fn durability_of(topic: &TopicName, text: &str) -> Option<Durability> {
    let level = text.parse();
    if let Err(reason) = &level {
        tracing::warn!("TOPIC({topic}): ignoring its durability - {reason}");
    }
    level.ok()
}

/// A policy that makes no sense is one that was not asked for.
fn policy_of(name: &dyn Display, value: Option<Value>) -> Policy {
    let Some(value) = value else { return Policy::default() };
    serde_json::from_value(value).unwrap_or_else(|reason| {
        tracing::warn!("{name}: ignoring its policy - {reason}");
        Policy::default()
    })
}

impl Topic {
    fn new(name: TopicName) -> Self {
        let (paused, durability, policy) = (false, None, Policy::default());
        Self { name, paused, durability, policy, channels: Vec::new() }
    }
}

impl<'a> WrittenTopic<'a> {
    fn of(topic: &'a Topic) -> Self {
        let written = |channel: &'a Channel| WrittenChannel {
            name: channel.name.as_str(),
            paused: channel.paused,
            policy: channel.policy,
        };
        let channels = filled(topic.channels.iter().map(written).collect());
        let durability = topic.durability.map(Durability::as_str);
        let (name, paused, policy) = (topic.name.as_str(), topic.paused, topic.policy);
        Self { name, paused, durability, policy, channels }
    }
}

impl ReadChannel {
    fn checked(self) -> Option<Channel> {
        let text = self.name.unwrap_or_default();
        match ChannelName::parse(text.as_bytes()) {
            Ok(name) => {
                let policy = policy_of(&name, self.policy);
                Some(Channel { name, paused: self.paused.unwrap_or_default(), policy })
            }
            Err(_) => {
                tracing::warn!("skipping creation of invalid channel {text}");
                None
            }
        }
    }
}

fn filled<T>(list: Vec<T>) -> Option<Vec<T>> {
    (!list.is_empty()).then_some(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(name: &str, paused: bool, channels: &[(&str, bool)]) -> Topic {
        let channels = channels.iter().map(|(name, paused)| {
            let name = ChannelName::parse(name.as_bytes()).unwrap();
            Channel { name, paused: *paused, policy: Policy::default() }
        });
        let name = TopicName::parse(name.as_bytes()).unwrap();
        Topic { paused, channels: channels.collect(), ..Topic::new(name) }
    }

    fn json(topics: Vec<Topic>) -> String {
        String::from_utf8(Metadata::of(topics).to_json()).unwrap()
    }

    #[test]
    fn l21_the_bytes_are_nsqs() {
        assert_eq!(json(vec![]), r#"{"topics":null,"version":"1.3.0"}"#);
        let topics = vec![topic("b", true, &[]), topic("a", false, &[("d", false), ("c", true)])];
        let expected = concat!(
            r#"{"topics":[{"name":"a","paused":false,"channels":"#,
            r#"[{"name":"c","paused":true},{"name":"d","paused":false}]},"#,
            r#"{"name":"b","paused":true,"channels":null}],"version":"1.3.0"}"#
        );
        assert_eq!(json(topics), expected);
    }

    #[test]
    fn what_is_written_is_read() {
        let topics = vec![topic("a", true, &[("c", true)]), topic("b", false, &[])];
        let metadata = Metadata::of(topics);
        assert_eq!(Metadata::parse(&metadata.to_json()).unwrap(), metadata);
    }

    #[test]
    fn what_is_missing_null_or_unknown_does_no_harm() {
        let empty = ["null", "{}", r#"{"topics":null}"#, r#"{"version":1,"topics":[]}"#];
        for text in empty {
            assert_eq!(Metadata::parse(text.as_bytes()).unwrap(), Metadata::default(), "{text}");
        }
        let text = r#"{"topics":[{"name":"t","x":[1],"paused":null,"channels":[{"name":"c"}]}]}"#;
        let expected = vec![topic("t", false, &[("c", false)])];
        assert_eq!(Metadata::parse(text.as_bytes()).unwrap().topics, expected);
    }

    #[test]
    fn names_that_are_none_are_left_out() {
        let text = r#"{"topics":[{"name":"t$","channels":[{"name":"c"}]},{"paused":true},
            {"name":"t","channels":[{"name":"c c"},{"name":"c","paused":true}]}]}"#;
        let expected = vec![topic("t", false, &[("c", true)])];
        assert_eq!(Metadata::parse(text.as_bytes()).unwrap().topics, expected);
    }

    #[test]
    fn other_documents_are_refused() {
        for text in ["", " ", "{", "[]", "1", r#"{"topics":{}}"#, r#"{"topics":[]} x"#] {
            assert!(Metadata::parse(text.as_bytes()).is_err(), "{text}");
        }
        assert!(Metadata::parse(br#"{"topics":[{"name":1}]}"#).is_err());
    }
}
