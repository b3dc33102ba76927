//! Every error of the protocol: its code, its text to the letter of NSQ, and whether it is fatal.
//!
//! Only this file writes `E_` texts. Texts may quote what the client sent, which need not be
//! UTF-8: [`ProtocolError::push_text`] writes the exact bytes, `Display` is for logs.

use super::batch::BatchError;
use super::command::{CommandName, PublishKind};
use super::message::MessageId;
use super::quote::push_quoted;
use std::borrow::Cow;
use std::fmt;

/// A reason that ends an error's text.
pub type Reason = Cow<'static, str>;

/// Reason of a failed FIN, REQ or TOUCH: the message is not (or no longer) in flight.
pub const NOT_IN_FLIGHT: &str = "ID not in flight";

/// Reason of a failed FIN, REQ or TOUCH: another client has the message.
pub const NOT_OWNER: &str = "client does not own message";

/// Reason of a failed SUB or publish: the topic or channel is being closed or deleted.
pub const EXITING: &str = "exiting";

/// What is wrong with a command or with carrying it out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProtocolError {
    /// The magic is not `"  V2"`.
    BadProtocol,
    /// A line without end within the limit: the connection is closed **without** a frame.
    LineTooLong,
    /// No such command; the name as sent.
    UnknownCommand(Box<[u8]>),
    /// Refused before TLS is up; the name as sent.
    TlsRequired(Box<[u8]>),
    /// Not allowed in this state of the connection.
    WrongState(CommandName),
    /// SUB needs heartbeats.
    HeartbeatsDisabled,
    /// Too few parameters; for AUTH, any.
    ParameterCount(CommandName),
    /// Not a topic name.
    BadTopic {
        /// Of SUB, PUB, MPUB or DPUB.
        command: CommandName,
        /// As sent.
        name: Box<[u8]>,
    },
    /// Not a channel name; as sent.
    BadChannel(Box<[u8]>),
    /// A message id that is not 16 bytes long.
    BadMessageId,
    /// Not a decimal number.
    BadNumber {
        /// Of RDY, REQ or DPUB.
        command: CommandName,
        /// As sent.
        text: Box<[u8]>,
    },
    /// RDY above `--max-rdy-count`.
    ReadyOutOfRange {
        /// As sent, at most `u64::MAX`.
        count: u64,
        /// The limit.
        max: u64,
    },
    /// DPUB's delay above `--max-req-timeout`.
    DelayOutOfRange {
        /// As sent, at most `u64::MAX`.
        delay_ms: u64,
        /// The limit.
        max_ms: u64,
    },
    /// The connection ended before a body's size.
    BodySizeUnread(CommandName),
    /// A body's size is not positive.
    BodySizeInvalid {
        /// Whose body.
        command: CommandName,
        /// As on the wire.
        size: i32,
    },
    /// A body is larger than `--max-body-size`, or a message than `--max-msg-size`.
    BodyTooBig {
        /// Whose body.
        command: CommandName,
        /// As on the wire.
        size: i32,
        /// The limit.
        max: usize,
    },
    /// The connection ended inside a body, or there is no memory for it.
    BodyUnread(CommandName),
    /// The messages of an MPUB.
    Batch(BatchError),
    /// IDENTIFY's body is not the JSON it should be.
    IdentifyUndecodable,
    /// A value in IDENTIFY is out of bounds.
    IdentifyInvalid {
        /// Which setting, in NSQ's words.
        setting: &'static str,
        /// As sent.
        value: i64,
    },
    /// IDENTIFY asked for both compressions and both are available.
    IdentifyConflict,
    /// An upgrade after IDENTIFY failed.
    IdentifyFailed(Reason),
    /// AUTH for the second time.
    AuthAlreadySet,
    /// No auth server is configured.
    AuthDisabled,
    /// The auth server could not be asked, or refused.
    AuthFailed,
    /// The answer to AUTH could not be made.
    AuthError(Reason),
    /// The auth server allows nothing.
    AuthEmpty,
    /// A command that needs AUTH first.
    AuthFirst(CommandName),
    /// Not allowed by the auth server.
    Unauthorized {
        /// What was refused.
        command: CommandName,
        /// On which topic.
        topic: Box<[u8]>,
        /// On which channel; empty for publishes.
        channel: Box<[u8]>,
    },
    /// SUB could not be carried out.
    SubFailed(Reason),
    /// A publish could not be carried out.
    PublishFailed {
        /// Which command it was.
        kind: PublishKind,
        /// Why.
        reason: Reason,
    },
    /// FIN of a message that is not this client's. Not fatal.
    FinFailed {
        /// As sent.
        id: MessageId,
        /// Why.
        reason: Reason,
    },
    /// REQ of a message that is not this client's. Not fatal.
    ReqFailed {
        /// As sent.
        id: MessageId,
        /// Why.
        reason: Reason,
    },
    /// TOUCH of a message that is not this client's. Not fatal.
    TouchFailed {
        /// As sent.
        id: MessageId,
        /// Why.
        reason: Reason,
    },
}

impl ProtocolError {
    /// Whether the connection is closed after it.
    pub fn is_fatal(&self) -> bool {
        !matches!(self, Self::FinFailed { .. } | Self::ReqFailed { .. } | Self::TouchFailed { .. })
    }

    /// Whether the client is told; if not, the connection is closed without a word.
    pub fn has_frame(&self) -> bool {
        !matches!(self, Self::LineTooLong)
    }

    /// The code, which begins with `E_`; empty if there is no frame.
    pub fn code(&self) -> &'static str {
        use CommandName::{Dpub, Pub};
        match self {
            Self::BadProtocol => "E_BAD_PROTOCOL",
            Self::LineTooLong => "",
            Self::BadTopic { .. } => "E_BAD_TOPIC",
            Self::BadChannel(_) => "E_BAD_CHANNEL",
            Self::BodySizeUnread(Pub | Dpub)
            | Self::BodySizeInvalid { command: Pub | Dpub, .. }
            | Self::BodyTooBig { command: Pub | Dpub, .. }
            | Self::BodyUnread(Pub | Dpub) => "E_BAD_MESSAGE",
            Self::Batch(BatchError::CountUnread | BatchError::CountInvalid { .. }) => "E_BAD_BODY",
            Self::Batch(_) => "E_BAD_MESSAGE",
            Self::BodySizeUnread(_)
            | Self::BodySizeInvalid { .. }
            | Self::BodyTooBig { .. }
            | Self::BodyUnread(_)
            | Self::IdentifyUndecodable
            | Self::IdentifyInvalid { .. } => "E_BAD_BODY",
            Self::IdentifyConflict | Self::IdentifyFailed(_) => "E_IDENTIFY_FAILED",
            Self::AuthDisabled => "E_AUTH_DISABLED",
            Self::AuthFailed => "E_AUTH_FAILED",
            Self::AuthError(_) => "E_AUTH_ERROR",
            Self::AuthFirst(_) => "E_AUTH_FIRST",
            Self::AuthEmpty | Self::Unauthorized { .. } => "E_UNAUTHORIZED",
            Self::SubFailed(_) => "E_SUB_FAILED",
            Self::PublishFailed { kind: PublishKind::Pub, .. } => "E_PUB_FAILED",
            Self::PublishFailed { kind: PublishKind::Dpub, .. } => "E_DPUB_FAILED",
            Self::PublishFailed { kind: PublishKind::Mpub, .. } => "E_MPUB_FAILED",
            Self::FinFailed { .. } => "E_FIN_FAILED",
            Self::ReqFailed { .. } => "E_REQ_FAILED",
            Self::TouchFailed { .. } => "E_TOUCH_FAILED",
            Self::UnknownCommand(_)
            | Self::TlsRequired(_)
            | Self::WrongState(_)
            | Self::HeartbeatsDisabled
            | Self::ParameterCount(_)
            | Self::BadMessageId
            | Self::BadNumber { .. }
            | Self::ReadyOutOfRange { .. }
            | Self::DelayOutOfRange { .. }
            | Self::AuthAlreadySet => "E_INVALID",
        }
    }

    /// Appends the text of the error frame, `CODE description`; nothing if there is no frame.
    pub fn push_text(&self, out: &mut Vec<u8>) {
        push(out, self.code());
        if matches!(self, Self::BadProtocol | Self::LineTooLong) {
            return;
        }
        push(out, " ");
        self.push_request_text(out);
    }

    /// Descriptions of what is wrong with the line of a command.
    fn push_request_text(&self, out: &mut Vec<u8>) {
        match self {
            Self::UnknownCommand(name) => push_all(out, &[b"invalid command ", name]),
            Self::TlsRequired(name) => {
                push_all(out, &[b"cannot ", name, b" in current state (TLS required)"]);
            }
            Self::WrongState(command) => {
                push(out, &format!("cannot {command} in current state"));
            }
            Self::HeartbeatsDisabled => push(out, "cannot SUB with heartbeats disabled"),
            Self::ParameterCount(command) => push(out, &parameter_count_text(*command)),
            Self::BadTopic { command, name } => {
                // NSQ's text for MPUB has the code twice; clients may compare it.
                let code = if *command == CommandName::Mpub { "E_BAD_TOPIC " } else { "" };
                push(out, &format!("{code}{command} topic name "));
                push_quoted(out, name);
                push(out, " is not valid");
            }
            Self::BadChannel(name) => {
                push(out, "SUB channel name ");
                push_quoted(out, name);
                push(out, " is not valid");
            }
            Self::BadMessageId => push(out, "invalid message ID"),
            Self::BadNumber { command, text } => {
                let what = if *command == CommandName::Rdy { "count" } else { "timeout" };
                push(out, &format!("{command} could not parse {what} "));
                out.extend_from_slice(text);
            }
            Self::ReadyOutOfRange { count, max } => {
                push(out, &format!("RDY count {count} out of range 0-{max}"));
            }
            Self::DelayOutOfRange { delay_ms, max_ms } => {
                push(out, &format!("DPUB timeout {delay_ms} out of range 0-{max_ms}"));
            }
            _ => self.push_body_text(out),
        }
    }

    /// Descriptions of what is wrong with the body of a command.
    fn push_body_text(&self, out: &mut Vec<u8>) {
        match self {
            Self::BodySizeUnread(command) => {
                push(out, &format!("{command} failed to read {}body size", message(*command)));
            }
            Self::BodySizeInvalid { command, size } => {
                push(out, &format!("{command} invalid {}body size {size}", message(*command)));
            }
            Self::BodyTooBig { command, size, max } => {
                let what = if message(*command).is_empty() { "body" } else { "message" };
                push(out, &format!("{command} {what} too big {size} > {max}"));
            }
            Self::BodyUnread(command) => {
                push(out, &format!("{command} failed to read {}body", message(*command)));
            }
            Self::Batch(error) => push(out, &format!("MPUB {error}")),
            Self::IdentifyUndecodable => push(out, "IDENTIFY failed to decode JSON body"),
            Self::IdentifyInvalid { setting, value } => {
                push(out, &format!("IDENTIFY {setting} ({value}) is invalid"));
            }
            _ => self.push_outcome_text(out),
        }
    }

    /// Descriptions of why a valid command was not carried out.
    fn push_outcome_text(&self, out: &mut Vec<u8>) {
        match self {
            Self::IdentifyConflict => {
                push(out, "cannot enable both deflate and snappy compression")
            }
            Self::IdentifyFailed(reason) => push(out, &format!("IDENTIFY failed {reason}")),
            Self::AuthAlreadySet => push(out, "AUTH already set"),
            Self::AuthDisabled => push(out, "AUTH disabled"),
            Self::AuthFailed => push(out, "AUTH failed"),
            Self::AuthError(reason) => push(out, &format!("AUTH error {reason}")),
            Self::AuthEmpty => push(out, "AUTH no authorizations found"),
            Self::AuthFirst(command) => push(out, &format!("AUTH required before {command}")),
            Self::Unauthorized { command, topic, channel } => {
                push(out, &format!("AUTH failed for {command} on "));
                push_quoted(out, topic);
                push(out, " ");
                push_quoted(out, channel);
            }
            Self::SubFailed(reason) => push(out, &format!("SUB failed {reason}")),
            Self::PublishFailed { kind, reason } => {
                push(out, &format!("{} failed {reason}", CommandName::from(*kind)));
            }
            Self::FinFailed { id, reason } => push_message_failure(out, "FIN ", id, reason),
            Self::ReqFailed { id, reason } => push_message_failure(out, "REQ ", id, reason),
            Self::TouchFailed { id, reason } => push_message_failure(out, "TOUCH ", id, reason),
            _ => unreachable!("every other error has been described before"),
        }
    }
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.has_frame() {
            return f.write_str("command line too long");
        }
        let mut text = Vec::new();
        self.push_text(&mut text);
        f.write_str(&String::from_utf8_lossy(&text))
    }
}

impl std::error::Error for ProtocolError {}

impl From<BatchError> for ProtocolError {
    fn from(error: BatchError) -> Self {
        Self::Batch(error)
    }
}

impl fmt::Display for BatchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CountUnread => write!(f, "failed to read message count"),
            Self::CountInvalid { count } => write!(f, "invalid message count {count}"),
            Self::SizeUnread { index } => write!(f, "failed to read message({index}) body size"),
            Self::SizeInvalid { index, size } => {
                write!(f, "invalid message({index}) body size {size}")
            }
            Self::MessageTooBig { size, max } => write!(f, "message too big {size} > {max}"),
            Self::MessageUnread => write!(f, "failed to read message body"),
        }
    }
}

impl fmt::Display for CommandName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// NSQ says "parameters" or "params", by command.
fn parameter_count_text(command: CommandName) -> String {
    use CommandName::{Auth, Fin, Req, Touch};
    match command {
        Auth => "AUTH invalid number of parameters".to_owned(),
        Fin | Req | Touch => format!("{command} insufficient number of params"),
        _ => format!("{command} insufficient number of parameters"),
    }
}

/// PUB and DPUB have a "message body", the others a "body".
fn message(command: CommandName) -> &'static str {
    if matches!(command, CommandName::Pub | CommandName::Dpub) { "message " } else { "" }
}

fn push(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
}

fn push_all(out: &mut Vec<u8>, parts: &[&[u8]]) {
    parts.iter().for_each(|part| out.extend_from_slice(part));
}

fn push_message_failure(out: &mut Vec<u8>, command: &str, id: &MessageId, reason: &str) {
    push_all(out, &[command.as_bytes(), &id.0, b" failed ", reason.as_bytes()]);
}

#[cfg(test)]
mod tests;
