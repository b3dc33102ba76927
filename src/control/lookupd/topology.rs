//! Which topics and channels there are, and the commands that bring nsqlookupd from one such state
//! to another. Pure.

use crate::protocol::name::{ChannelName, TopicName};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// All topics with their channels, ephemeral ones included.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Topology(pub(super) BTreeMap<TopicName, BTreeSet<ChannelName>>);

/// One change that nsqlookupd is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Registration {
    verb: Verb,
    topic: TopicName,
    channel: Option<ChannelName>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verb {
    Register,
    Unregister,
}

impl Topology {
    /// What to tell one who knows `known`. What is gone comes first; a channel before its topic,
    /// because nsqlookupd warns of channels that end with their topic.
    pub(super) fn changes_since(&self, known: &Self) -> Vec<Registration> {
        let mut changes = Vec::new();
        for (topic, channels) in &known.0 {
            let kept = self.0.get(topic);
            let gone = channels.iter().filter(|name| kept.is_none_or(|kept| !kept.contains(name)));
            changes.extend(gone.map(|name| Registration::new(Verb::Unregister, topic, Some(name))));
            if kept.is_none() {
                changes.push(Registration::new(Verb::Unregister, topic, None));
            }
        }
        for (topic, channels) in &self.0 {
            let known = known.0.get(topic);
            let new = channels.iter().filter(|name| known.is_none_or(|k| !k.contains(name)));
            changes.extend(new.map(|name| Registration::new(Verb::Register, topic, Some(name))));
            // A channel registers its topic too.
            if known.is_none() && channels.is_empty() {
                changes.push(Registration::new(Verb::Register, topic, None));
            }
        }
        changes
    }
}

impl Registration {
    fn new(verb: Verb, topic: &TopicName, channel: Option<&ChannelName>) -> Self {
        Self { verb, topic: *topic, channel: channel.copied() }
    }

    /// `topic` or `channel`, as NSQ's log has it.
    pub(super) fn branch(&self) -> &'static str {
        if self.channel.is_some() { "channel" } else { "topic" }
    }
}

impl fmt::Display for Registration {
    /// The command's line without its line feed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = match self.verb {
            Verb::Register => "REGISTER",
            Verb::Unregister => "UNREGISTER",
        };
        write!(f, "{verb} {}", self.topic)?;
        self.channel.map_or(Ok(()), |channel| write!(f, " {channel}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn topology(topics: &[(&str, &[&str])]) -> Topology {
        let topic = |name: &str| TopicName::parse(name.as_bytes()).unwrap();
        let channel = |name: &&str| ChannelName::parse(name.as_bytes()).unwrap();
        let rows = topics.iter().map(|(name, channels)| {
            (topic(name), channels.iter().map(channel).collect::<BTreeSet<_>>())
        });
        Topology(rows.collect())
    }

    fn lines(known: &[(&str, &[&str])], now: &[(&str, &[&str])]) -> Vec<String> {
        let changes = topology(now).changes_since(&topology(known));
        changes.iter().map(Registration::to_string).collect()
    }

    #[test]
    fn only_what_differs_is_told() {
        let state: &[(&str, &[&str])] = &[("a", &["c", "d"]), ("b#ephemeral", &[])];
        assert_eq!(
            lines(&[], state),
            ["REGISTER a c", "REGISTER a d", "REGISTER b#ephemeral"],
            "a topic without channels has a line of its own"
        );
        assert!(lines(state, state).is_empty());
        assert_eq!(
            lines(state, &[]),
            ["UNREGISTER a c", "UNREGISTER a d", "UNREGISTER a", "UNREGISTER b#ephemeral"]
        );
        assert_eq!(
            lines(state, &[("a", &["d", "e"]), ("b#ephemeral", &[]), ("n", &[])]),
            ["UNREGISTER a c", "REGISTER a e", "REGISTER n"]
        );
        assert_eq!(lines(&[("a", &["c"])], &[("a", &[])]), ["UNREGISTER a c"], "the topic stays");
    }

    /// What nsqlookupd holds of one producer.
    #[derive(Default)]
    struct Lookup(BTreeMap<String, BTreeSet<String>>);

    impl Lookup {
        fn obey(&mut self, line: &str) {
            let words: Vec<_> = line.split(' ').map(str::to_owned).collect();
            match words.as_slice() {
                [verb, topic] if verb == "REGISTER" => {
                    self.0.entry(topic.clone()).or_default();
                }
                [verb, topic, channel] if verb == "REGISTER" => {
                    self.0.entry(topic.clone()).or_default().insert(channel.clone());
                }
                [_, topic] => {
                    let channels = self.0.remove(topic).expect("it was registered");
                    assert!(channels.is_empty(), "nsqlookupd warns of {channels:?}");
                }
                [_, topic, channel] => {
                    let channels = self.0.get_mut(topic).expect("it was registered");
                    assert!(channels.remove(channel), "{line}");
                }
                words => panic!("{words:?}"),
            }
        }
    }

    fn states() -> impl Strategy<Value = Vec<BTreeMap<String, BTreeSet<String>>>> {
        let channels = prop::collection::btree_set("[a-d]", 0..4);
        prop::collection::vec(prop::collection::btree_map("[s-w]", channels, 0..5), 1..6)
    }

    proptest! {
        #[test]
        fn a_lookup_that_obeys_knows_the_state(states in states()) {
            let mut lookup = Lookup::default();
            let mut known = Topology::default();
            for state in states {
                let rows = state.iter().map(|(topic, channels)| {
                    let channels = channels.iter().map(|c| ChannelName::parse(c.as_bytes()));
                    let channels = channels.map(Result::unwrap).collect();
                    (TopicName::parse(topic.as_bytes()).unwrap(), channels)
                });
                let now = Topology(rows.collect());
                for change in now.changes_since(&known) {
                    lookup.obey(&change.to_string());
                }
                prop_assert_eq!(&lookup.0, &state);
                known = now;
            }
        }
    }
}
