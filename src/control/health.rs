//! How the topics' logs are, for `/ping` and `/stats`: the last thing each shard said of them.
//!
//! Shards speak up only when a log's state changes, which is rare.

use crate::broker::action::LogState;
use crate::protocol::name::TopicName;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::watch;

/// See the module's text. Cheap to copy.
#[derive(Debug, Clone, Default)]
pub struct Health(Arc<watch::Sender<BTreeMap<TopicName, LogState>>>);

impl Health {
    /// The log of a topic is like this from now on.
    pub fn note(&self, topic: &TopicName, state: LogState) {
        self.0.send_modify(|ill| {
            match state {
                LogState::Healthy => ill.remove(topic),
                LogState::Blocked(_) | LogState::Failed(_) => ill.insert(*topic, state),
            };
        });
    }

    /// A topic is gone.
    pub fn forget(&self, topic: &TopicName) {
        self.note(topic, LogState::Healthy);
    }

    /// As NSQ tells it: `OK`, or `NOK - ` and why.
    pub(super) fn text(&self) -> String {
        let ill = self.0.borrow();
        let Some((topic, state)) = ill.first_key_value() else { return "OK".to_owned() };
        let what = match state {
            LogState::Healthy => String::new(),
            LogState::Blocked(error) => {
                format!("cannot write to the log of topic {topic}: {error}")
            }
            LogState::Failed(error) => {
                format!("the log of topic {topic} has failed, restart needed: {error}")
            }
        };
        let others = ill.len() - 1;
        let more = if others > 0 { format!(" (and {others} more)") } else { String::new() };
        format!("NOK - {what}{more}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::action::IoError;

    #[test]
    fn c6_one_ill_log_makes_the_daemon_ill_until_it_is_well_or_gone() {
        let health = Health::default();
        assert_eq!(health.text(), "OK");
        let [a, b] = [&b"a"[..], b"b"].map(|name| TopicName::parse(name).unwrap());
        health.note(&a, LogState::Blocked(IoError::NO_SPACE));
        health.note(&b, LogState::Failed(IoError::DEVICE));
        let text = health.text();
        assert!(text.starts_with("NOK - cannot write to the log of topic a: No space"), "{text}");
        assert!(text.ends_with(" (and 1 more)"), "{text}");
        health.note(&a, LogState::Healthy);
        assert!(health.text().contains("topic b has failed"));
        health.forget(&b);
        assert_eq!(health.text(), "OK");
    }
}
