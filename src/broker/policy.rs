//! Policies: how long a topic's messages live, how many there may be, and what becomes of those
//! that nobody finishes. All of it is off unless it is asked for.
//!
//! What is said of a topic or channel is a [`Policy`] of optional fields; the more particular word
//! wins field by field: what was asked for of the channel, of its topic, then the rows of the
//! configuration, later ones first. What comes of it for one queue are its [`Terms`].

use super::store::Message;
use super::time::WallClock;
use crate::limits::NAME_BYTES_MAX;
use crate::protocol::name::{ChannelName, EPHEMERAL_SUFFIX, TopicName};
use regex::Regex;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::HashMap;
use std::fmt;

/// What is said of a topic or channel; `None` where nothing is. A number of 0 stands for none of
/// the kind, whatever less particular policies say.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Policy {
    /// Messages older than this are not delivered but discarded; milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl_ms: Option<u64>,
    /// Messages that a queue may hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_messages: Option<u64>,
    /// Bytes of their bodies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<u64>,
    /// How old the next message to be delivered may be; milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_age_ms: Option<u64>,
    /// What happens where one of these three is reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub when_full: Option<WhenFull>,
    /// Deliveries after which a message goes to the dead-letter topic.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_attempts: Option<u16>,
    /// Where that is, if not at [`dead_letter_topic`].
    #[serde(skip_serializing_if = "Option::is_none")]
    #[serde(serialize_with = "as_text", deserialize_with = "from_text")]
    pub dead_letter_topic: Option<TopicName>,
}

/// What happens to a publish that would fill a queue beyond its caps.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WhenFull {
    /// It is refused, and nothing of it is kept.
    #[default]
    Reject,
    /// It is taken, and what would be delivered next is dropped instead.
    DropOldest,
}

/// What the configuration says.
#[derive(Debug, Default, Clone)]
pub struct Policies {
    /// Of names that match a pattern.
    rows: Vec<Row>,
    /// Of topics that are declared.
    topics: HashMap<TopicName, Policy>,
}

#[derive(Debug, Clone)]
struct Row {
    topic: Regex,
    channel: Option<Regex>,
    policy: Policy,
}

/// What holds for one queue: a channel, or a topic's own queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// Nanoseconds; `i64::MAX` for no end.
    pub ttl_ns: i64,
    /// `u64::MAX` for any number.
    pub max_messages: u64,
    /// `u64::MAX` for any number.
    pub max_bytes: u64,
    /// Nanoseconds; `i64::MAX` for any age.
    pub max_age_ns: i64,
    /// At one of those three.
    pub when_full: WhenFull,
    /// How often a message is delivered, and where it goes then.
    pub dead_letters: Option<(u16, TopicName)>,
}

/// What a queue has reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cap {
    /// `max_messages`.
    Messages(u64),
    /// `max_bytes`.
    Bytes(u64),
    /// `max_age`, in milliseconds.
    Age(u64),
}

/// Why a message is not delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It has lived its time.
    Expired,
    /// It is older than anything the queue may hold.
    Dropped,
    /// It has been delivered as often as it may be.
    Dead,
}

impl Policy {
    /// Whether nothing is said.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// This, and where it says nothing the other.
    pub fn over(self, other: Self) -> Self {
        Self {
            ttl_ms: self.ttl_ms.or(other.ttl_ms),
            max_messages: self.max_messages.or(other.max_messages),
            max_bytes: self.max_bytes.or(other.max_bytes),
            max_age_ms: self.max_age_ms.or(other.max_age_ms),
            when_full: self.when_full.or(other.when_full),
            max_attempts: self.max_attempts.or(other.max_attempts),
            dead_letter_topic: self.dead_letter_topic.or(other.dead_letter_topic),
        }
    }

    /// What comes of it for a channel, or for a topic's own queue.
    pub fn terms(&self, topic: &TopicName, channel: Option<&ChannelName>) -> Terms {
        let most = |limit: Option<u64>| limit.filter(|limit| *limit > 0).unwrap_or(u64::MAX);
        let span = |ms| i64::try_from(most(ms).saturating_mul(1_000_000)).unwrap_or(i64::MAX);
        let attempts = self.max_attempts.filter(|attempts| *attempts > 0);
        let dead_letters = attempts.zip(channel).and_then(|(attempts, channel)| {
            let to = self.dead_letter_topic.or_else(|| dead_letter_topic(topic, channel))?;
            // A dead-letter topic has none of its own: nothing goes round in circles.
            (to != *topic).then_some((attempts, to))
        });
        Terms {
            ttl_ns: span(self.ttl_ms),
            max_messages: most(self.max_messages),
            max_bytes: most(self.max_bytes),
            max_age_ns: span(self.max_age_ms),
            when_full: self.when_full.unwrap_or_default(),
            dead_letters,
        }
    }
}

impl Policies {
    /// Adds a row, which wins over those before it. In patterns `*` stands for any text and `?` for
    /// one character. Without a pattern of channels it holds for the topic's own queue and for all
    /// its channels.
    pub fn add(&mut self, topic: &str, channel: Option<&str>, policy: Policy) {
        let (topic, channel) = (pattern(topic), channel.map(pattern));
        self.rows.push(Row { topic, channel, policy });
    }

    /// Adds what is said of one topic and all its channels, which wins over all rows.
    pub fn declare(&mut self, topic: TopicName, policy: Policy) {
        self.topics.insert(topic, policy);
    }

    /// What is said of a channel, or of a topic's own queue.
    pub fn of(&self, topic: &TopicName, channel: Option<&ChannelName>) -> Policy {
        let holds = |row: &&Row| {
            row.topic.is_match(topic.as_str())
                && row.channel.as_ref().is_none_or(|pattern| {
                    channel.is_some_and(|channel| pattern.is_match(channel.as_str()))
                })
        };
        let rows = self.rows.iter().filter(holds).map(|row| &row.policy);
        let said = rows.chain(self.topics.get(topic));
        said.fold(Policy::default(), |said, policy| policy.over(said))
    }
}

impl Terms {
    /// Whether a publish may be too much.
    pub fn has_caps(&self) -> bool {
        self.max_messages < u64::MAX || self.max_bytes < u64::MAX || self.max_age_ns < i64::MAX
    }

    /// Whether something older makes way for what is new.
    pub fn drops_oldest(&self) -> bool {
        self.has_caps() && self.when_full == WhenFull::DropOldest
    }

    /// The age from which on a message has to be looked at; nanoseconds.
    pub fn lifetime_ns(&self) -> i64 {
        self.ttl_ns.min(self.max_age_ns)
    }

    /// How a message of that many deliveries ends, if it does not go on.
    pub fn judge(&self, wall: WallClock, message: &Message, attempts: u16) -> Option<Fate> {
        let age_ns = wall.0.saturating_sub(message.timestamp_ns);
        self.judge_age(age_ns).or_else(|| self.is_used_up(attempts).then_some(Fate::Dead))
    }

    /// The same by its age alone.
    pub fn judge_age(&self, age_ns: i64) -> Option<Fate> {
        if age_ns > self.ttl_ns {
            Some(Fate::Expired)
        } else if age_ns > self.max_age_ns && self.when_full == WhenFull::DropOldest {
            Some(Fate::Dropped)
        } else {
            None
        }
    }

    /// Whether a message has been delivered as often as it may be.
    pub fn is_used_up(&self, attempts: u16) -> bool {
        self.dead_letters.is_some_and(|(most, _)| attempts >= most)
    }
}

impl Cap {
    /// What HTTP answers.
    pub fn code(self) -> &'static str {
        match self {
            Self::Messages(_) => "MAX_MESSAGES_REACHED",
            Self::Bytes(_) => "MAX_BYTES_REACHED",
            Self::Age(_) => "MAX_AGE_REACHED",
        }
    }
}

impl fmt::Display for Cap {
    /// As it follows `PUB failed `.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Messages(most) => write!(f, "max_messages of {most} reached"),
            Self::Bytes(most) => write!(f, "max_bytes of {most} reached"),
            Self::Age(most) => write!(f, "max_age of {most}ms reached"),
        }
    }
}

/// Where the dead letters of a channel go unless something else was said: `<topic>.<channel>.dead`,
/// shortened where that is too long; those of an ephemeral channel to a topic that is ephemeral
/// too. None for a topic that is such a place itself.
pub fn dead_letter_topic(topic: &TopicName, channel: &ChannelName) -> Option<TopicName> {
    let stem = |name: &str| name.split('#').next().unwrap_or_default().to_owned();
    let (of, at) = (stem(topic.as_str()), stem(channel.as_str()));
    if of.ends_with(DEAD) {
        return None;
    }
    let is_ephemeral = topic.is_ephemeral() || channel.is_ephemeral();
    let suffix = if is_ephemeral { EPHEMERAL_SUFFIX } else { &[] };
    let mut name = format!("{of}.{at}");
    let room = NAME_BYTES_MAX - DEAD.len() - suffix.len();
    if name.len() > room {
        // The same for the same pair of names on every node and at every start.
        let mark = format!("-{:08x}", crc32fast::hash(name.as_bytes()));
        name.truncate(room - mark.len());
        name.push_str(&mark);
    }
    let name = [name.as_bytes(), DEAD.as_bytes(), suffix].concat();
    TopicName::parse(&name).ok()
}

/// The end of those names.
const DEAD: &str = ".dead";

fn pattern(text: &str) -> Regex {
    let text = regex::escape(text).replace(r"\*", ".*").replace(r"\?", ".");
    Regex::new(&format!("^(?:{text})$")).expect("an escaped text is a pattern")
}

fn as_text<S: Serializer>(name: &Option<TopicName>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(name.as_ref().map_or("", TopicName::as_str))
}

fn from_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<TopicName>, D::Error> {
    let text: Option<String> = Option::deserialize(deserializer)?;
    let name = |text: String| {
        let invalid = |_| D::Error::custom(format!("{text:?} is no name of a topic"));
        TopicName::parse(text.as_bytes()).map_err(invalid)
    };
    text.map(name).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(name: &str) -> TopicName {
        TopicName::parse(name.as_bytes()).unwrap()
    }

    fn channel(name: &str) -> ChannelName {
        ChannelName::parse(name.as_bytes()).unwrap()
    }

    fn ttl(ms: u64) -> Policy {
        Policy { ttl_ms: Some(ms), ..Policy::default() }
    }

    #[test]
    fn the_more_particular_word_wins_field_by_field() {
        let mut policies = Policies::default();
        policies.add("*", None, ttl(1));
        policies.add("order?", Some("*"), ttl(2));
        policies.add("orders", Some("bill*"), Policy { max_attempts: Some(3), ..ttl(0) });
        policies.declare(topic("declared"), ttl(3));
        let of = |name: &str, at: Option<&str>| policies.of(&topic(name), at.map(channel).as_ref());
        assert_eq!(of("other", Some("billing")), ttl(1));
        assert_eq!(of("declared", Some("c")), ttl(3));
        assert_eq!(of("orders", None), ttl(1), "rows with channels are not for the topic");
        assert_eq!(of("orders", Some("audit")), ttl(2));
        assert_eq!(of("orders.x", Some("audit")), ttl(1), "a dot is a dot");
        let billing = of("orders", Some("billing"));
        assert_eq!((billing.ttl_ms, billing.max_attempts), (Some(0), Some(3)));
        let terms = billing.terms(&topic("orders"), Some(&channel("billing")));
        assert_eq!(terms.ttl_ns, i64::MAX, "0 is none");
    }

    #[test]
    fn dead_letters_have_a_place_with_a_name_that_fits() {
        let name = |t: &str, c: &str| {
            dead_letter_topic(&topic(t), &channel(c)).map(|name| name.as_str().to_owned())
        };
        assert_eq!(name("t", "c").unwrap(), "t.c.dead");
        assert_eq!(name("t", "c#ephemeral").unwrap(), "t.c.dead#ephemeral");
        assert_eq!(name("t#ephemeral", "c").unwrap(), "t.c.dead#ephemeral");
        assert_eq!(name("t.c.dead", "c"), None);
        let long = "x".repeat(64);
        let names = [name(&long, &long), name(&long, &"x".repeat(63))].map(Option::unwrap);
        assert!(names.iter().all(|name| name.len() == 64 && name.ends_with(".dead")), "{names:?}");
        assert_ne!(names[0], names[1]);
        let itself = Policy {
            max_attempts: Some(1),
            dead_letter_topic: Some(topic("t")),
            ..Policy::default()
        };
        assert_eq!(itself.terms(&topic("t"), Some(&channel("c"))).dead_letters, None);
        assert_eq!(itself.terms(&topic("u"), None).dead_letters, None, "it delivers nothing");
    }
}
