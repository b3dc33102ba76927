//! What an auth server is asked, and what it lets a client do: reading its answer, and matching
//! topics and channels.

use crate::limits::{AUTH_PATTERN_BYTES_MAX, AUTH_PATTERNS_CACHED_MAX, AUTH_PATTERNS_MAX};
use crate::protocol::name::{ChannelName, TopicName};
use regex::{Regex, RegexBuilder};
use serde::Deserialize;
use std::collections::HashMap;

/// The permissions of one client, for as long as the auth server said.
#[derive(Debug, Clone)]
pub struct Grant {
    /// Who the client is, for `/stats` and the answer to AUTH; may be empty.
    pub identity: String,
    /// A page about it; may be empty.
    pub identity_url: String,
    /// Seconds after which the server must be asked again; at least 1.
    pub ttl_s: u64,
    authorizations: Vec<Authorization>,
}

/// What an auth server is told about a client.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuthQuestion {
    /// The client's IP address; empty on a unix socket.
    pub remote_ip: String,
    /// Whether the connection is over TLS.
    pub tls: bool,
    /// The common name of the client's first certificate; empty without one.
    pub common_name: String,
    /// The body of AUTH.
    pub secret: Vec<u8>,
}

/// One row of permissions.
#[derive(Debug, Clone)]
struct Authorization {
    topic: Regex,
    channels: Vec<Regex>,
    subscribe: bool,
    publish: bool,
}

/// Compiled patterns by their text: most clients of a daemon have the same few.
#[derive(Debug, Default)]
pub struct Patterns(HashMap<String, Regex>);

/// An auth server's answer. What is `null` or missing is empty, as Go reads it.
#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    ttl: Option<i64>,
    #[serde(default)]
    identity: Option<String>,
    #[serde(default)]
    identity_url: Option<String>,
    #[serde(default)]
    authorizations: Option<Vec<Row>>,
}

#[derive(Deserialize)]
struct Row {
    #[serde(default)]
    topic: Option<String>,
    #[serde(default)]
    channels: Option<Vec<String>>,
    #[serde(default)]
    permissions: Option<Vec<String>>,
}

impl Grant {
    /// Reads an auth server's answer.
    ///
    /// # Errors
    /// NSQ's text: no such JSON, an unknown permission, a pattern that is none, a TTL below 1.
    pub fn parse(json: &[u8], patterns: &mut Patterns) -> Result<Self, String> {
        let answer: Answer = serde_json::from_slice(json).map_err(|error| error.to_string())?;
        let rows = answer.authorizations.unwrap_or_default();
        let count: usize =
            rows.iter().map(|row| 1 + row.channels.as_ref().map_or(0, Vec::len)).sum();
        if count > AUTH_PATTERNS_MAX {
            return Err(format!("{count} patterns, at most {AUTH_PATTERNS_MAX} are taken"));
        }
        let rows = rows.into_iter().map(|row| Authorization::of(row, patterns));
        let authorizations = rows.collect::<Result<_, _>>()?;
        let ttl = answer.ttl.unwrap_or_default();
        let ttl_s = u64::try_from(ttl).ok().filter(|ttl| *ttl > 0);
        Ok(Self {
            identity: answer.identity.unwrap_or_default(),
            identity_url: answer.identity_url.unwrap_or_default(),
            ttl_s: ttl_s.ok_or_else(|| format!("invalid TTL {ttl} (must be >0)"))?,
            authorizations,
        })
    }

    /// Rows of permissions, as the answer to AUTH counts them. A client without any is refused.
    pub fn permission_count(&self) -> usize {
        self.authorizations.len()
    }

    /// Whether the client may publish to the topic. NSQ matches the channels' patterns with the
    /// empty text: a row without a channel that may be empty lets nobody publish.
    pub fn may_publish(&self, topic: &TopicName) -> bool {
        let rows = &mut self.authorizations.iter();
        rows.any(|row| row.publish && row.matches(topic.as_str(), ""))
    }

    /// Whether the client may subscribe to the channel.
    pub fn may_subscribe(&self, topic: &TopicName, channel: &ChannelName) -> bool {
        let rows = &mut self.authorizations.iter();
        rows.any(|row| row.subscribe && row.matches(topic.as_str(), channel.as_str()))
    }
}

impl Authorization {
    fn of(row: Row, patterns: &mut Patterns) -> Result<Self, String> {
        let permissions = row.permissions.unwrap_or_default();
        for permission in &permissions {
            if !matches!(permission.as_str(), "subscribe" | "publish") {
                return Err(format!("unknown permission {permission}"));
            }
        }
        let has = |name: &str| permissions.iter().any(|permission| permission == name);
        let mut compile = |kind: &str, text: &str| {
            let pattern = patterns.compile(text);
            pattern.map_err(|reason| format!("unable to compile {kind} {text:?} {reason}"))
        };
        let topic = compile("topic", &row.topic.unwrap_or_default())?;
        let channels = row.channels.unwrap_or_default();
        let channels = channels.iter().map(|text| compile("channel", text));
        let channels = channels.collect::<Result<_, _>>()?;
        Ok(Self { topic, channels, subscribe: has("subscribe"), publish: has("publish") })
    }

    /// Patterns are searched for, not anchored, as in NSQ.
    fn matches(&self, topic: &str, channel: &str) -> bool {
        self.topic.is_match(topic) && self.channels.iter().any(|pattern| pattern.is_match(channel))
    }
}

impl Patterns {
    /// The compiled form of a pattern, shared with all who have the same.
    fn compile(&mut self, text: &str) -> Result<Regex, String> {
        if let Some(known) = self.0.get(text) {
            return Ok(known.clone());
        }
        let compiled = RegexBuilder::new(text).size_limit(AUTH_PATTERN_BYTES_MAX).build();
        // The library points at the place in several lines; the last one says what is wrong.
        let reason = |error: regex::Error| {
            let text = error.to_string();
            text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned()
        };
        let compiled = compiled.map_err(reason)?;
        if self.0.len() >= AUTH_PATTERNS_CACHED_MAX {
            self.0.clear();
        }
        self.0.insert(text.to_owned(), compiled.clone());
        Ok(compiled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Result<Grant, String> {
        Grant::parse(json.as_bytes(), &mut Patterns::default())
    }

    fn with_rows(rows: &str) -> Result<Grant, String> {
        parse(&format!(r#"{{"ttl":1,"authorizations":[{rows}]}}"#))
    }

    fn row(topic: &str, channels: &str, permissions: &str) -> String {
        format!(r#"{{"topic":"{topic}","channels":[{channels}],"permissions":[{permissions}]}}"#)
    }

    #[test]
    fn answers_that_are_none_are_refused() {
        for (json, expected) in [
            (r#"{"ttl":0}"#, "invalid TTL 0 (must be >0)"),
            (r#"{"ttl":-5}"#, "invalid TTL -5 (must be >0)"),
            ("{}", "invalid TTL 0 (must be >0)"),
        ] {
            assert_eq!(parse(json).unwrap_err(), expected);
        }
        for json in ["", "x", "[]x", r#"{"ttl":"1"}"#, r#"{"ttl":1,"authorizations":{}}"#] {
            assert!(parse(json).is_err(), "{json}");
        }
        let error = |topic: &str, channels: &str, permissions: &str| {
            with_rows(&row(topic, channels, permissions)).unwrap_err()
        };
        assert_eq!(error("t", "", r#""read""#), "unknown permission read");
        let reason = error("(", "", "");
        assert!(reason.starts_with("unable to compile topic \"(\" "), "{reason}");
        let reason = error("t", r#""a","[""#, "");
        assert!(reason.starts_with("unable to compile channel \"[\" "), "{reason}");
        assert!(!reason.contains('\n'), "{reason}");
        // Permissions and patterns are looked at before the time.
        let rows = row("t", "", r#""x""#);
        let json = format!(r#"{{"ttl":0,"authorizations":[{rows}]}}"#);
        assert_eq!(parse(&json).unwrap_err(), "unknown permission x");
    }

    #[test]
    fn an_answer_is_limited() {
        let many = vec![r#""c""#; AUTH_PATTERNS_MAX].join(",");
        let reason = with_rows(&row("t", &many, "")).unwrap_err();
        assert!(reason.contains("patterns, at most"), "{reason}");
        let reason = with_rows(&row("(a{1000}){1000}", "", "")).unwrap_err();
        assert!(reason.starts_with("unable to compile topic "), "{reason}");
    }

    #[test]
    fn an_answer_says_who_and_for_how_long() {
        let json = r#"{"ttl":3600,"identity":"me","identity_url":"http://me","more":[1],
            "authorizations":[{"topic":"t","channels":["c"],"permissions":["publish"]},{}]}"#;
        let grant = parse(json).unwrap();
        assert_eq!((grant.identity.as_str(), grant.identity_url.as_str()), ("me", "http://me"));
        assert_eq!((grant.ttl_s, grant.permission_count()), (3600, 2));
        let grant = parse(r#"{"ttl":1,"authorizations":null,"identity":null}"#).unwrap();
        assert_eq!((grant.identity.as_str(), grant.permission_count()), ("", 0));
    }

    /// Whether publishing to `topic` and subscribing to its channel `ch` is allowed.
    fn allows(rows: &str, topic: &str) -> (bool, bool) {
        let grant = with_rows(rows).unwrap();
        let topic = TopicName::parse(topic.as_bytes()).unwrap();
        let channel = ChannelName::parse(b"ch").unwrap();
        (grant.may_publish(&topic), grant.may_subscribe(&topic, &channel))
    }

    #[test]
    fn rows_are_matched_as_nsq_matches_them() {
        let both = r#""publish","subscribe""#;
        for (topic, channels, permissions, publish, subscribe) in [
            ("test", r#"".*""#, both, true, true),
            ("test", r#""""#, both, true, true),
            // For a publish the channel is the empty text.
            ("test", r#""^ch""#, both, false, true),
            ("test", r#""^$""#, both, true, false),
            ("test", "", both, false, false),
            ("test", r#"".*""#, r#""publish""#, true, false),
            ("test", r#"".*""#, r#""subscribe""#, false, true),
            ("test", r#"".*""#, "", false, false),
            // Patterns are searched for, so they match a part.
            ("es", r#"".*""#, both, true, true),
            ("^es", r#"".*""#, both, false, false),
            ("^test$", r#""h$","x""#, both, false, true),
            ("", r#"".*""#, both, true, true),
        ] {
            let rows = row(topic, channels, permissions);
            assert_eq!(allows(&rows, "test"), (publish, subscribe), "{rows}");
        }
        // One row that permits is enough; the parts of two do not add up.
        let first = row("^a$", r#"".*""#, r#""publish""#);
        let second = row("^b$", r#"".*""#, r#""subscribe""#);
        let rows = format!("{first},{second}");
        assert_eq!((allows(&rows, "a"), allows(&rows, "b")), ((true, false), (false, true)));
        assert_eq!(allows("", "a"), (false, false));
    }

    #[test]
    fn equal_patterns_are_compiled_once() {
        let mut patterns = Patterns::default();
        let json = format!(r#"{{"ttl":1,"authorizations":[{}]}}"#, row("t", r#""c","t""#, ""));
        Grant::parse(json.as_bytes(), &mut patterns).unwrap();
        Grant::parse(json.as_bytes(), &mut patterns).unwrap();
        assert_eq!(patterns.0.len(), 2);
        for n in 0..=AUTH_PATTERNS_CACHED_MAX {
            patterns.compile(&format!("p{n}")).unwrap();
        }
        assert!(patterns.0.len() <= AUTH_PATTERNS_CACHED_MAX);
    }
}
