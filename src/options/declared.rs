//! What the configuration file says of topics: `[[topic]]` tables declare them, `[[policy]]` tables
//! say what holds for names that match a pattern. NSQ has neither, and ignores both.

use super::value;
use crate::broker::durability::Durability;
use crate::broker::policy::{Policies, Policy, WhenFull};
use crate::limits::{POLICY_ROWS_MAX, TOPICS_MAX};
use crate::protocol::name::{ChannelName, TopicName};
use serde::Deserialize;
use serde::de::IntoDeserializer;
use serde::de::value::Error;
use std::collections::HashSet;
use toml::{Table, Value};

/// The declarations of a file, in its order.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Declared {
    /// Topics that are created at start.
    pub topics: Vec<DeclaredTopic>,
    /// The `[[policy]]` tables: patterns of topics and channels.
    rows: Vec<(String, Option<String>, Policy)>,
}

/// A topic that is created at start unless it exists.
#[derive(Debug, Clone, PartialEq)]
pub struct DeclaredTopic {
    /// Its name; not ephemeral.
    pub name: TopicName,
    /// What its publishes promise; none follows the daemon, or what was asked for over HTTP.
    pub durability: Option<Durability>,
    /// Channels that are created with it; none is ephemeral.
    pub channels: Vec<ChannelName>,
    policy: Policy,
}

impl Declared {
    /// Reads the tables of a file.
    ///
    /// # Errors
    /// Which table is wrong, and what about it.
    pub(super) fn read(file: &Table) -> Result<Self, String> {
        let mut declared = Self::default();
        for (number, table) in tables(file, "policy", POLICY_ROWS_MAX)?.into_iter().enumerate() {
            let row = policy_row(table);
            declared.rows.push(row.map_err(|reason| located("policy", number, table, &reason))?);
        }
        let mut names = HashSet::new();
        for (number, table) in tables(file, "topic", TOPICS_MAX)?.into_iter().enumerate() {
            let topic = declared_topic(table).and_then(|topic| {
                let repeated = || format!("topic {} is declared before", topic.name);
                if names.insert(topic.name) { Ok(topic) } else { Err(repeated()) }
            });
            declared.topics.push(topic.map_err(|reason| located("topic", number, table, &reason))?);
        }
        Ok(declared)
    }

    /// The same as the shards are told.
    pub fn policies(&self) -> Policies {
        let mut policies = Policies::default();
        for (topic, channel, policy) in &self.rows {
            policies.add(topic, channel.as_deref(), *policy);
        }
        for topic in self.topics.iter().filter(|topic| !topic.policy.is_empty()) {
            policies.declare(topic.name, topic.policy);
        }
        policies
    }
}

/// The fields of a policy, as keys of a table and parameters of a query.
pub const POLICY_FIELDS: [&str; 7] = [
    "ttl",
    "max_messages",
    "max_bytes",
    "max_age",
    "when_full",
    "max_attempts",
    "dead_letter_topic",
];

/// Reads one field of a policy from its text, in a file or in a query. Gives whether there is such
/// a field.
///
/// # Errors
/// What is wrong with the text.
pub fn set_policy(policy: &mut Policy, field: &str, text: &str) -> Result<bool, String> {
    let milliseconds = || {
        let ms = value::time(text)?.as_millis();
        u64::try_from(ms).map_err(|_| "value out of range".to_owned())
    };
    match field {
        "ttl" => policy.ttl_ms = Some(milliseconds()?),
        "max_age" => policy.max_age_ms = Some(milliseconds()?),
        "max_messages" => policy.max_messages = Some(value::integer(text)?),
        "max_bytes" => policy.max_bytes = Some(value::integer(text)?),
        "max_attempts" => policy.max_attempts = Some(value::integer(text)?),
        "when_full" => {
            let word: Result<WhenFull, Error> = WhenFull::deserialize(text.into_deserializer());
            policy.when_full = Some(word.map_err(|_| "use reject or drop-oldest".to_owned())?);
        }
        "dead_letter_topic" => policy.dead_letter_topic = Some(topic_name(text)?),
        _ => return Ok(false),
    }
    Ok(true)
}

fn tables<'a>(file: &'a Table, key: &str, most: usize) -> Result<Vec<&'a Table>, String> {
    let Some(value) = file.get(key) else { return Ok(Vec::new()) };
    let wanted = || format!("{key} must be tables: write [[{key}]]");
    let list = value.as_array().ok_or_else(wanted)?;
    if list.len() > most {
        return Err(format!("there may be at most {most} tables [[{key}]]"));
    }
    list.iter().map(|item| item.as_table().ok_or_else(wanted)).collect()
}

/// `[[policy]] number 2 (topic = "orders*"): …`
fn located(key: &str, number: usize, table: &Table, reason: &str) -> String {
    let name = ["name", "topic"].into_iter().find_map(|name| Some((name, table.get(name)?)));
    let name = name.map(|(key, value)| format!(" ({key} = {value})")).unwrap_or_default();
    format!("[[{key}]] number {}{name}: {reason}", number + 1)
}

fn policy_row(table: &Table) -> Result<(String, Option<String>, Policy), String> {
    let (mut policy, mut topic, mut channel) = (Policy::default(), None, None);
    for (key, value) in table {
        match key.as_str() {
            "topic" => topic = Some(pattern(key, value)?),
            "channel" => channel = Some(pattern(key, value)?),
            _ => read_field(&mut policy, key, value)?,
        }
    }
    Ok((
        topic.ok_or("it has no topic (a name, or a pattern such as \"orders*\")")?,
        channel,
        policy,
    ))
}

fn declared_topic(table: &Table) -> Result<DeclaredTopic, String> {
    let (mut policy, mut name, mut durability) = (Policy::default(), None, None);
    let mut channels = Vec::new();
    for (key, value) in table {
        match key.as_str() {
            "name" => name = Some(lasting(topic_name(text(key, value)?)?)?),
            "durability" => {
                let level = text(key, value)?.parse();
                durability = Some(level.map_err(|reason| format!("durability: {reason}"))?);
            }
            "channels" => {
                let list = value.as_array().ok_or("channels must be a list of names")?;
                let read = list.iter().map(|item| channel_name(text(key, item)?));
                channels = read.collect::<Result<_, _>>()?;
            }
            _ => read_field(&mut policy, key, value)?,
        }
    }
    let name = name.ok_or("it has no name")?;
    Ok(DeclaredTopic { name, durability, channels, policy })
}

fn read_field(policy: &mut Policy, key: &str, value: &Value) -> Result<(), String> {
    let text = match value {
        // As for other durations of the file.
        Value::Integer(ms) if matches!(key, "ttl" | "max_age") => format!("{ms}ms"),
        Value::Integer(number) => number.to_string(),
        _ => text(key, value)?.to_owned(),
    };
    match set_policy(policy, key, &text) {
        Ok(true) => Ok(()),
        Ok(false) => Err(format!("there is no key {key}")),
        Err(reason) => Err(format!("{key} = {value}: {reason}")),
    }
}

fn text<'a>(key: &str, value: &'a Value) -> Result<&'a str, String> {
    value.as_str().ok_or_else(|| format!("{key}: {} is no text", value.type_str()))
}

fn pattern(key: &str, value: &Value) -> Result<String, String> {
    let text = text(key, value)?;
    let fits = |c: char| c.is_ascii_alphanumeric() || "._-#*?".contains(c);
    if text.is_empty() || !text.chars().all(fits) {
        return Err(format!("{key} = {value}: use characters of names, * and ?"));
    }
    Ok(text.to_owned())
}

fn topic_name(text: &str) -> Result<TopicName, String> {
    TopicName::parse(text.as_bytes()).map_err(|_| format!("{text:?} is no name of a topic"))
}

fn lasting(name: TopicName) -> Result<TopicName, String> {
    let ends = || format!("{name} is ephemeral: it would end with its last channel");
    if name.is_ephemeral() { Err(ends()) } else { Ok(name) }
}

fn channel_name(text: &str) -> Result<ChannelName, String> {
    let name = ChannelName::parse(text.as_bytes());
    let name = name.map_err(|_| format!("{text:?} is no name of a channel"))?;
    let ends = || format!("channel {name} is ephemeral: it would end with its last consumer");
    if name.is_ephemeral() { Err(ends()) } else { Ok(name) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Declared, String> {
        Declared::read(&text.parse().unwrap())
    }

    #[test]
    fn topics_and_policies_are_read() {
        let declared = read(
            r#"
            [[policy]]
            topic = "orders*"
            channel = "*"
            ttl = "24h"
            max_attempts = 5
            dead_letter_topic = "graveyard"
            [[policy]]
            topic = "orders"
            max_messages = 1000
            max_bytes = "1_000"
            max_age = 1500
            when_full = "drop-oldest"
            [[topic]]
            name = "orders"
            durability = "synced"
            channels = ["billing", "audit"]
            ttl = "1h"
            "#,
        )
        .unwrap();
        let (topic, channel) = (topic_name("orders").unwrap(), channel_name("audit").unwrap());
        let policy = declared.policies().of(&topic, Some(&channel));
        let expected = Policy {
            ttl_ms: Some(3_600_000),
            max_messages: Some(1000),
            max_bytes: Some(1000),
            max_age_ms: Some(1500),
            when_full: Some(WhenFull::DropOldest),
            max_attempts: Some(5),
            dead_letter_topic: Some(topic_name("graveyard").unwrap()),
        };
        assert_eq!(policy, expected);
        assert_eq!(declared.topics[0].durability, Some(Durability::Synced));
        assert_eq!(declared.topics[0].channels.len(), 2);
        assert_eq!(read("").unwrap(), Declared::default());
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        for (text, expected) in [
            ("topic = 1", "topic must be tables: write [[topic]]"),
            ("[policy]", "policy must be tables: write [[policy]]"),
            ("[[topic]]\n[[topic]]", "[[topic]] number 1: it has no name"),
            ("[[topic]]\nname='a b'", "[[topic]] number 1 (name = \"a b\"): \"a b\" is no name"),
            (
                "[[topic]]\nname='a'\n[[topic]]\nname='a'",
                "number 2 (name = \"a\"): topic a is decl",
            ),
            ("[[topic]]\nname='a#ephemeral'", "a#ephemeral is ephemeral: it would end with"),
            ("[[topic]]\nname='a'\nchannels=['c', 1]", "channels: integer is no text"),
            ("[[topic]]\nname='a'\nchannels=['c#ephemeral']", "channel c#ephemeral is ephemeral"),
            ("[[topic]]\nname='a'\ndurability='x'", "durability: \"x\" is no durability level"),
            ("[[topic]]\nname='a'\nmax_mesages=1", "there is no key max_mesages"),
            ("[[policy]]\nttl='1h'", "[[policy]] number 1: it has no topic"),
            ("[[policy]]\ntopic='[a]'", "use characters of names, * and ?"),
            ("[[policy]]\ntopic='a'\nttl='1x'", "(topic = \"a\"): ttl = \"1x\": parse error"),
            ("[[policy]]\ntopic='a'\nttl=-1", "a negative duration makes no sense here"),
            ("[[policy]]\ntopic='a'\nmax_attempts=70000", "value out of range"),
            ("[[policy]]\ntopic='a'\nwhen_full='drop'", "use reject or drop-oldest"),
            ("[[policy]]\ntopic='a'\nmax_bytes=true", "max_bytes: boolean is no text"),
        ] {
            let reason = read(text).unwrap_err();
            assert!(reason.contains(expected), "{text}: {reason}");
        }
    }
}
