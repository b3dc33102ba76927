//! The lookup protocol's commands and its refusals, whose texts stand here alone.
//!
//! ```text
//! IDENTIFY LF  [4 bytes: length]  JSON
//! REGISTER   SP topic [SP channel] LF
//! UNREGISTER SP topic [SP channel] LF
//! PING LF
//! ```
//!
//! White space around a line does not count; within it every single space separates, so two in a
//! row enclose an empty parameter. Surplus parameters are ignored.

use super::peer::PeerFault;
use crate::limits::{LOOKUPD_BODY_BYTES_MAX, LOOKUPD_LINE_BYTES_MAX};
use crate::protocol::name::{ChannelName, TopicName};

/// A line, checked.
#[derive(Debug, PartialEq, Eq)]
pub enum Command {
    /// A sign of life.
    Ping,
    /// A body follows.
    Identify,
    /// The client has this topic, or this channel of it.
    Register(TopicName, Option<ChannelName>),
    /// The client no longer has it.
    Unregister(TopicName, Option<ChannelName>),
}

/// What a client is told that asked for what cannot be.
#[derive(Debug, PartialEq, Eq)]
pub struct Refusal {
    /// `CODE text`.
    pub text: Vec<u8>,
    /// Whether the connection ends.
    pub fatal: bool,
}

impl Command {
    /// Decodes a line without its line feed.
    ///
    /// # Errors
    /// The first thing wrong with it, in NSQ's order.
    pub fn parse(line: &[u8], identified: bool) -> Result<Self, Refusal> {
        let mut words = trim(line).split(|byte| *byte == b' ');
        match words.next().unwrap_or_default() {
            b"PING" => Ok(Self::Ping),
            b"IDENTIFY" if identified => Err(Refusal::new("E_INVALID cannot IDENTIFY again")),
            b"IDENTIFY" => Ok(Self::Identify),
            b"REGISTER" => {
                let (topic, channel) = names("REGISTER", words, identified)?;
                Ok(Self::Register(topic, channel))
            }
            b"UNREGISTER" => {
                let (topic, channel) = names("UNREGISTER", words, identified)?;
                Ok(Self::Unregister(topic, channel))
            }
            name => Err(Refusal::quoting("E_INVALID invalid command ", name, "")),
        }
    }
}

impl Refusal {
    /// The line has no end within the limit.
    pub fn line_too_long() -> Self {
        Self::new(&format!("E_INVALID line is longer than {LOOKUPD_LINE_BYTES_MAX} bytes"))
    }

    /// The input ended where an IDENTIFY's length should be.
    pub fn no_body_size() -> Self {
        Self::new("E_BAD_BODY IDENTIFY failed to read body size")
    }

    /// The input ended within an IDENTIFY's body.
    pub fn no_body() -> Self {
        Self::new("E_BAD_BODY IDENTIFY failed to read body")
    }

    /// An IDENTIFY's length that cannot be. In the words nsqd has for it: nsqlookupd has none.
    pub fn body_size(bytes: i32) -> Self {
        Self::new(&match bytes {
            ..0 => format!("E_BAD_BODY IDENTIFY invalid body size {bytes}"),
            _ => format!("E_BAD_BODY IDENTIFY body too big {bytes} > {LOOKUPD_BODY_BYTES_MAX}"),
        })
    }

    /// There is no room for another registration. What the client has stays, and so does its
    /// connection: to make it come back and say everything again would not help.
    pub fn full(command: &str) -> Self {
        let text = format!("E_INVALID {command} failed: nsqlookupd holds too many registrations");
        Self { fatal: false, ..Self::new(&text) }
    }

    fn new(text: &str) -> Self {
        Self { text: text.as_bytes().to_vec(), fatal: true }
    }

    fn quoting(before: &str, quoted: &[u8], after: &str) -> Self {
        Self { text: [before.as_bytes(), quoted, after.as_bytes()].concat(), fatal: true }
    }
}

impl From<PeerFault> for Refusal {
    fn from(fault: PeerFault) -> Self {
        Self::new(match fault {
            PeerFault::Undecodable => "E_BAD_BODY IDENTIFY failed to decode JSON body",
            PeerFault::MissingFields => "E_BAD_BODY IDENTIFY missing fields",
        })
    }
}

/// The parameters of REGISTER and UNREGISTER. An empty channel is none.
fn names<'l>(
    command: &str,
    mut words: impl Iterator<Item = &'l [u8]>,
    identified: bool,
) -> Result<(TopicName, Option<ChannelName>), Refusal> {
    if !identified {
        return Err(Refusal::new("E_INVALID client must IDENTIFY"));
    }
    let topic = words.next().ok_or_else(|| {
        Refusal::new(&format!("E_INVALID {command} insufficient number of params"))
    })?;
    let channel = words.next().filter(|channel| !channel.is_empty());
    let topic = TopicName::parse(topic).map_err(|_| {
        let before = format!("E_BAD_TOPIC {command} topic name '");
        Refusal::quoting(&before, topic, "' is not valid")
    })?;
    let channel = channel.map(|channel| {
        ChannelName::parse(channel).map_err(|_| {
            let before = format!("E_BAD_CHANNEL {command} channel name '");
            Refusal::quoting(&before, channel, "' is not valid")
        })
    });
    Ok((topic, channel.transpose()?))
}

/// Without white space at both ends, by Go's definition of it as far as it is ASCII.
fn trim(line: &[u8]) -> &[u8] {
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\t'..=b'\r');
    let start = line.iter().position(|byte| !is_space(byte)).unwrap_or(line.len());
    let end = line.iter().rposition(|byte| !is_space(byte)).map_or(start, |last| last + 1);
    line.get(start..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(name: &str) -> TopicName {
        TopicName::parse(name.as_bytes()).unwrap()
    }

    fn channel(name: &str) -> Option<ChannelName> {
        Some(ChannelName::parse(name.as_bytes()).unwrap())
    }

    #[test]
    fn lines_are_decoded() {
        let cases: &[(&str, Command)] = &[
            ("PING", Command::Ping),
            ("  PING with anything\r", Command::Ping),
            ("REGISTER t", Command::Register(topic("t"), None)),
            ("REGISTER t c\t\x0b", Command::Register(topic("t"), channel("c"))),
            ("REGISTER t c d", Command::Register(topic("t"), channel("c"))),
            ("REGISTER t  c", Command::Register(topic("t"), None)),
            ("UNREGISTER t#ephemeral c", Command::Unregister(topic("t#ephemeral"), channel("c"))),
            ("UNREGISTER t ", Command::Unregister(topic("t"), None)),
        ];
        for (line, command) in cases {
            assert_eq!(Command::parse(line.as_bytes(), true).as_ref(), Ok(command), "{line}");
        }
        assert_eq!(Command::parse(b"IDENTIFY", false), Ok(Command::Identify));
        assert_eq!(Command::parse(b"PING", false), Ok(Command::Ping));
    }

    #[test]
    fn f7_faulty_lines_are_refused() {
        let cases: &[(&str, bool, &str)] = &[
            ("INVALID_COMMAND", true, "E_INVALID invalid command INVALID_COMMAND"),
            ("", true, "E_INVALID invalid command "),
            ("ping", false, "E_INVALID invalid command ping"),
            ("IDENTIFY", true, "E_INVALID cannot IDENTIFY again"),
            ("REGISTER", false, "E_INVALID client must IDENTIFY"),
            ("UNREGISTER t", false, "E_INVALID client must IDENTIFY"),
            ("REGISTER", true, "E_INVALID REGISTER insufficient number of params"),
            ("UNREGISTER ", true, "E_INVALID UNREGISTER insufficient number of params"),
            ("REGISTER t$ c$", true, "E_BAD_TOPIC REGISTER topic name 't$' is not valid"),
            ("REGISTER  t", true, "E_BAD_TOPIC REGISTER topic name '' is not valid"),
            ("REGISTER * c", true, "E_BAD_TOPIC REGISTER topic name '*' is not valid"),
            ("UNREGISTER t c$", true, "E_BAD_CHANNEL UNREGISTER channel name 'c$' is not valid"),
        ];
        for (line, identified, text) in cases {
            let refusal = Command::parse(line.as_bytes(), *identified).unwrap_err();
            assert_eq!(String::from_utf8(refusal.text).unwrap(), *text, "{line}");
            assert!(refusal.fatal);
        }
        // What is no text comes back as it was.
        let refusal = Command::parse(b"\xff\xfe", true).unwrap_err();
        assert_eq!(refusal.text, b"E_INVALID invalid command \xff\xfe");
    }
}
