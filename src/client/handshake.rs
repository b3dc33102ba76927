//! What is said on a new connection before messages flow. Pure: it is given frames and says what
//! to send and which layer to put on; whoever holds the socket does both.

use super::commands::{self, MAGIC, NOP};
use super::config::Config;
use super::frames::Frame;
use crate::protocol::name::{ChannelName, TopicName};
use serde::Deserialize;
use std::time::Duration;

/// RDY allowed by an nsqd that does not say.
const READY_MAX_DEFAULT: u32 = 2500;

/// What to do next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Send what is there, then read the next frame.
    Read,
    /// Put TLS on, then read.
    Tls,
    /// Put snappy on, then read.
    Snappy,
    /// Put DEFLATE on, at this level, then read.
    Deflate(u8),
    /// The connection is ready for use.
    Done,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Identify,
    TlsOk,
    CompressionOk,
    Auth,
    Subscribe,
    Done,
}

/// Topic and channel of a consumer's connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Subscription {
    pub(super) topic: TopicName,
    pub(super) channel: ChannelName,
}

/// The opening of one connection.
#[derive(Debug)]
pub(super) struct Handshake {
    stage: Stage,
    tls: bool,
    secret: String,
    subscription: Option<Subscription>,
    pub(super) negotiated: Negotiated,
}

/// What nsqd granted. Fields it does not know are missing; the defaults are what old ones do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct Negotiated {
    max_rdy_count: Option<u32>,
    tls_v1: bool,
    deflate: bool,
    deflate_level: u8,
    snappy: bool,
    auth_required: bool,
}

impl Negotiated {
    /// Largest RDY this nsqd takes.
    pub(super) fn ready_max(&self) -> u32 {
        self.max_rdy_count.unwrap_or(READY_MAX_DEFAULT)
    }
}

impl Handshake {
    /// Begins: the magic and IDENTIFY go to `out`.
    pub(super) fn begin(
        config: &Config,
        subscription: Option<Subscription>,
        out: &mut Vec<u8>,
    ) -> Self {
        out.extend_from_slice(MAGIC);
        commands::push_identify(out, identify(config).to_string().as_bytes());
        Self {
            stage: Stage::Identify,
            tls: config.tls_v1,
            secret: config.auth_secret.clone(),
            subscription,
            negotiated: Negotiated::default(),
        }
    }

    /// A frame has come; commands to send go to `out`.
    ///
    /// # Errors
    /// The reason for which this connection cannot be used.
    pub(super) fn frame(&mut self, frame: &Frame<'_>, out: &mut Vec<u8>) -> Result<Next, String> {
        let answer = match frame {
            Frame::Response(b"_heartbeat_") => {
                out.extend_from_slice(NOP);
                return Ok(Next::Read);
            }
            Frame::Response(answer) => *answer,
            Frame::Error(text) => return Err(self.refused(&String::from_utf8_lossy(text))),
            Frame::Message(_) => return Err("a message before RDY".to_owned()),
        };
        match self.stage {
            Stage::Identify => {
                self.identified(answer)?;
                if self.negotiated.tls_v1 {
                    self.stage = Stage::TlsOk;
                    return Ok(Next::Tls);
                }
                self.compress(out)
            }
            Stage::TlsOk => {
                expect_ok(answer)?;
                self.compress(out)
            }
            Stage::CompressionOk => {
                expect_ok(answer)?;
                self.authorize(out)
            }
            Stage::Auth => Ok(self.subscribe(out)),
            Stage::Subscribe => {
                expect_ok(answer)?;
                self.stage = Stage::Done;
                Ok(Next::Done)
            }
            Stage::Done => Err("the connection is open already".to_owned()),
        }
    }

    fn identified(&mut self, answer: &[u8]) -> Result<(), String> {
        // An nsqd too old to negotiate says `OK`.
        if answer.starts_with(b"{") {
            let parsed = serde_json::from_slice(answer);
            self.negotiated = parsed.map_err(|e| format!("failed to parse IDENTIFY - {e}"))?;
        }
        if self.tls && !self.negotiated.tls_v1 {
            return Err("TLS is required here and this nsqd does not offer it".to_owned());
        }
        // Only what was asked for is granted, so these two cannot be a surprise.
        if self.negotiated.tls_v1 && !self.tls {
            return Err("nsqd wants TLS without having been asked".to_owned());
        }
        Ok(())
    }

    fn compress(&mut self, out: &mut Vec<u8>) -> Result<Next, String> {
        self.stage = Stage::CompressionOk;
        if self.negotiated.snappy {
            return Ok(Next::Snappy);
        }
        if self.negotiated.deflate {
            return Ok(Next::Deflate(self.negotiated.deflate_level.clamp(1, 9)));
        }
        self.authorize(out)
    }

    fn authorize(&mut self, out: &mut Vec<u8>) -> Result<Next, String> {
        if !self.negotiated.auth_required {
            return Ok(self.subscribe(out));
        }
        if self.secret.is_empty() {
            return Err("Auth Required".to_owned());
        }
        commands::push_auth(out, self.secret.as_bytes());
        self.stage = Stage::Auth;
        Ok(Next::Read)
    }

    fn subscribe(&mut self, out: &mut Vec<u8>) -> Next {
        let Some(Subscription { topic, channel }) = &self.subscription else {
            self.stage = Stage::Done;
            return Next::Done;
        };
        commands::push_subscribe(out, topic, channel);
        self.stage = Stage::Subscribe;
        Next::Read
    }

    fn refused(&self, text: &str) -> String {
        match self.stage {
            Stage::Identify => format!("failed to IDENTIFY - {text}"),
            Stage::Auth => format!("Auth Failed {text}"),
            _ => text.to_owned(),
        }
    }
}

fn expect_ok(answer: &[u8]) -> Result<(), String> {
    let shown = || format!("invalid response {:?}", String::from_utf8_lossy(answer));
    if answer == b"OK" { Ok(()) } else { Err(shown()) }
}

fn identify(config: &Config) -> serde_json::Value {
    let milliseconds = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let or_off = |time: Option<Duration>| match time {
        Some(time) => serde_json::Value::from(milliseconds(time)),
        None => serde_json::Value::from(-1),
    };
    let mut document = serde_json::json!({
        "client_id": config.client_id,
        "hostname": config.hostname,
        "user_agent": config.user_agent,
        "short_id": config.client_id,
        "long_id": config.hostname,
        "tls_v1": config.tls_v1,
        "deflate": config.deflate,
        "deflate_level": config.deflate_level,
        "snappy": config.snappy,
        "feature_negotiation": true,
        "heartbeat_interval": or_off(config.heartbeat_interval),
        "sample_rate": config.sample_rate,
        "output_buffer_size": config.output_buffer_size.map_or(-1, i64::from),
        "output_buffer_timeout": or_off(config.output_buffer_timeout),
        "msg_timeout": milliseconds(config.msg_timeout),
    });
    for (key, value) in
        [("topology_region", &config.topology_region), ("topology_zone", &config.topology_zone)]
    {
        if !value.is_empty() {
            document[key] = value.as_str().into();
        }
    }
    document
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds the responses and returns what was done and the commands sent after IDENTIFY.
    fn play(config: &Config, responses: &[&str]) -> (Vec<Result<Next, String>>, String) {
        let subscription = Subscription {
            topic: TopicName::parse(b"t").unwrap(),
            channel: ChannelName::parse(b"c").unwrap(),
        };
        let mut first = Vec::new();
        let mut handshake = Handshake::begin(config, Some(subscription), &mut first);
        let mut out = Vec::new();
        let mut step = |text: &&str| match text.strip_prefix("E_") {
            Some(_) => handshake.frame(&Frame::Error(text.as_bytes()), &mut out),
            None => handshake.frame(&Frame::Response(text.as_bytes()), &mut out),
        };
        let done = responses.iter().map(&mut step).collect();
        (done, String::from_utf8(out).unwrap())
    }

    #[test]
    fn identify_says_what_is_set() {
        let config = Config {
            client_id: "c".into(),
            hostname: "h".into(),
            heartbeat_interval: None,
            output_buffer_size: None,
            msg_timeout: Duration::from_secs(5),
            topology_zone: "z".into(),
            ..Config::default()
        };
        let mut out = Vec::new();
        Handshake::begin(&config, None, &mut out);
        let document = out.strip_prefix(b"  V2IDENTIFY\n").unwrap();
        let (length, document) = document.split_first_chunk::<4>().unwrap();
        assert_eq!(u32::from_be_bytes(*length) as usize, document.len());
        let document: serde_json::Value = serde_json::from_slice(document).unwrap();
        let expected = serde_json::json!({
            "client_id": "c", "hostname": "h", "short_id": "c", "long_id": "h",
            "user_agent": config.user_agent, "feature_negotiation": true,
            "tls_v1": false, "deflate": false, "deflate_level": 6, "snappy": false,
            "heartbeat_interval": -1, "sample_rate": 0, "output_buffer_size": -1,
            "output_buffer_timeout": 250, "msg_timeout": 5000, "topology_zone": "z",
        });
        assert_eq!(document, expected);
    }

    #[test]
    fn upgrades_come_in_order() {
        let config = Config { tls_v1: true, auth_secret: "s3".into(), ..Config::default() };
        let granted = r#"{"tls_v1":true,"deflate":true,"deflate_level":3,"auth_required":true}"#;
        let (done, sent) =
            play(&config, &[granted, "OK", "_heartbeat_", "OK", r#"{"identity":""}"#, "OK"]);
        let expected =
            [Next::Tls, Next::Deflate(3), Next::Read, Next::Read, Next::Read, Next::Done];
        assert_eq!(done, expected.map(Ok));
        assert_eq!(sent, "NOP\nAUTH\n\0\0\0\x02s3SUB t c\n");
    }

    #[test]
    fn old_daemons_do_not_negotiate() {
        let (done, sent) = play(&Config::default(), &["OK", "OK"]);
        assert_eq!(done, [Ok(Next::Read), Ok(Next::Done)]);
        assert_eq!(sent, "SUB t c\n");
        assert_eq!(Negotiated::default().ready_max(), 2500);
    }

    #[test]
    fn refusals_end_it() {
        let secure = Config { tls_v1: true, ..Config::default() };
        for (config, responses, text) in [
            (&Config::default(), &["E_BAD_BODY x"][..], "failed to IDENTIFY - E_BAD_BODY x"),
            (&Config::default(), &["{}", "E_BAD_TOPIC x"], "E_BAD_TOPIC x"),
            (&Config::default(), &["{}", "CLOSE_WAIT"], "invalid response \"CLOSE_WAIT\""),
            (&Config::default(), &[r#"{"auth_required":true}"#], "Auth Required"),
            (&Config::default(), &["{"], "failed to parse IDENTIFY"),
            (&secure, &["{}"], "does not offer it"),
        ] {
            let (done, _) = play(config, responses);
            let error = done.last().unwrap().as_ref().unwrap_err();
            assert!(error.contains(text), "{error}");
        }
    }
}
