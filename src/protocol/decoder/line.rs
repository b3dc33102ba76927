//! The line of a command: split, checked and decoded, in NSQ's order and with NSQ's quirks.
//!
//! ```text
//! NAME[ SP parameter]* [CR] LF
//! ```
//!
//! Every single space separates, so two in a row enclose an empty parameter. Surplus parameters
//! are ignored, but for AUTH.

use super::Context;
use crate::protocol::command::{Command, CommandName, State};
use crate::protocol::error::ProtocolError;
use crate::protocol::message::MessageId;
use crate::protocol::name::{ChannelName, TopicName};

/// A decoded line.
pub(super) enum Line {
    /// The command is complete.
    Whole(Short),
    /// A body follows.
    Body(CommandName),
}

/// A command without a body. Unlike a [`Command`] it is a few registers large, since every
/// function here passes it on.
pub(super) enum Short {
    Finish(MessageId),
    Touch(MessageId),
    Requeue(MessageId, u64),
    Ready(u64),
    Subscribe(Box<(TopicName, ChannelName)>),
    Close,
    Nop,
}

impl Short {
    #[inline]
    pub(super) fn into_command(self) -> Command<'static> {
        match self {
            Self::Finish(id) => Command::Finish { id },
            Self::Touch(id) => Command::Touch { id },
            Self::Requeue(id, delay_ms) => Command::Requeue { id, delay_ms },
            Self::Ready(count) => Command::Ready { count },
            Self::Subscribe(names) => Command::Sub(names),
            Self::Close => Command::Close,
            Self::Nop => Command::Nop,
        }
    }
}

/// Decodes a line without its line feed. A publish leaves its topic in `topic` (not checked again
/// if it is there already) and a DPUB its delay in `delay_ms`.
#[inline]
pub(super) fn decode(
    line: &[u8],
    context: &Context<'_>,
    topic: &mut Option<TopicName>,
    delay_ms: &mut u64,
) -> Result<Line, ProtocolError> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let mut parameters = Parameters { rest: Some(line) };
    let name = parameters.next().unwrap_or_default();
    if context.lacks_tls && name != b"IDENTIFY" {
        return Err(ProtocolError::TlsRequired(name.into()));
    }
    match name {
        b"PUB" => decode_topic(CommandName::Pub, &mut parameters, topic),
        b"FIN" => decode_id(CommandName::Fin, 1, context, &mut parameters)
            .map(Short::Finish)
            .map(Line::Whole),
        b"RDY" => decode_ready(context, &mut parameters),
        b"REQ" => decode_requeue(context, &mut parameters),
        b"TOUCH" => decode_id(CommandName::Touch, 1, context, &mut parameters)
            .map(Short::Touch)
            .map(Line::Whole),
        b"NOP" => Ok(Line::Whole(Short::Nop)),
        b"MPUB" => decode_topic(CommandName::Mpub, &mut parameters, topic),
        b"DPUB" => decode_deferred(context, &mut parameters, topic, delay_ms),
        b"SUB" => decode_subscribe(context, &mut parameters),
        b"CLS" if context.state != State::Subscribed => {
            Err(ProtocolError::WrongState(CommandName::Cls))
        }
        b"CLS" => Ok(Line::Whole(Short::Close)),
        b"IDENTIFY" => {
            require_init(CommandName::Identify, context)?;
            Ok(Line::Body(CommandName::Identify))
        }
        b"AUTH" => {
            require_init(CommandName::Auth, context)?;
            require_parameters(CommandName::Auth, parameters.rest.is_none())?;
            Ok(Line::Body(CommandName::Auth))
        }
        _ => Err(ProtocolError::UnknownCommand(name.into())),
    }
}

/// What is between the spaces of a line, in order.
#[derive(Clone)]
struct Parameters<'l> {
    /// What follows the last space; `None` after the end of the line.
    rest: Option<&'l [u8]>,
}

impl<'l> Parameters<'l> {
    #[inline]
    fn next(&mut self) -> Option<&'l [u8]> {
        let rest = self.rest?;
        match find_space(rest) {
            Some(space) => {
                let (parameter, rest) = rest.split_at(space);
                self.rest = rest.get(1..);
                Some(parameter)
            }
            None => self.rest.take(),
        }
    }

    /// Whether at least `count` more follow (1 or 2). NSQ counts them before it looks at any.
    #[inline]
    fn has(&self, count: usize) -> bool {
        self.rest.is_some_and(|rest| count < 2 || rest.contains(&b' '))
    }
}

/// PUB, MPUB: a topic.
#[inline]
fn decode_topic(
    command: CommandName,
    parameters: &mut Parameters<'_>,
    topic: &mut Option<TopicName>,
) -> Result<Line, ProtocolError> {
    let name = parameters.next().ok_or(ProtocolError::ParameterCount(command))?;
    recall_topic(command, name, topic)?;
    Ok(Line::Body(command))
}

/// DPUB: a topic and a delay, which must be in range.
fn decode_deferred(
    context: &Context<'_>,
    parameters: &mut Parameters<'_>,
    topic: &mut Option<TopicName>,
    delay_ms: &mut u64,
) -> Result<Line, ProtocolError> {
    require_parameters(CommandName::Dpub, parameters.has(2))?;
    recall_topic(CommandName::Dpub, parameters.next().unwrap_or_default(), topic)?;
    *delay_ms = decode_number(CommandName::Dpub, parameters.next().unwrap_or_default())?;
    let max_ms = context.limits.max_req_timeout_ms;
    if *delay_ms > max_ms {
        return Err(ProtocolError::DelayOutOfRange { delay_ms: *delay_ms, max_ms });
    }
    Ok(Line::Body(CommandName::Dpub))
}

/// SUB: a topic and a channel, on a connection with heartbeats.
fn decode_subscribe(
    context: &Context<'_>,
    parameters: &mut Parameters<'_>,
) -> Result<Line, ProtocolError> {
    let command = CommandName::Sub;
    require_init(command, context)?;
    if !context.heartbeats {
        return Err(ProtocolError::HeartbeatsDisabled);
    }
    require_parameters(command, parameters.has(2))?;
    let name = parameters.next().unwrap_or_default();
    let topic = TopicName::parse(name)
        .map_err(|_| ProtocolError::BadTopic { command, name: name.into() })?;
    let name = parameters.next().unwrap_or_default();
    let channel = ChannelName::parse(name).map_err(|_| ProtocolError::BadChannel(name.into()))?;
    Ok(Line::Whole(Short::Subscribe(Box::new((topic, channel)))))
}

/// RDY: a count, 1 if there is none. After CLS it is ignored unread.
fn decode_ready(
    context: &Context<'_>,
    parameters: &mut Parameters<'_>,
) -> Result<Line, ProtocolError> {
    match context.state {
        State::Init => return Err(ProtocolError::WrongState(CommandName::Rdy)),
        State::Closing => return Ok(Line::Whole(Short::Nop)),
        State::Subscribed => {}
    }
    let parameter = parameters.next();
    let count = parameter.map_or(Ok(1), |text| decode_number(CommandName::Rdy, text))?;
    let max = context.limits.max_rdy_count;
    if count > max {
        return Err(ProtocolError::ReadyOutOfRange { count, max });
    }
    Ok(Line::Whole(Short::Ready(count)))
}

/// REQ: an id and a delay, which is clamped.
fn decode_requeue(
    context: &Context<'_>,
    parameters: &mut Parameters<'_>,
) -> Result<Line, ProtocolError> {
    let id = decode_id(CommandName::Req, 2, context, parameters)?;
    let delay_ms = decode_number(CommandName::Req, parameters.next().unwrap_or_default())?;
    let delay_ms = delay_ms.min(context.limits.max_req_timeout_ms);
    Ok(Line::Whole(Short::Requeue(id, delay_ms)))
}

/// The id that FIN, REQ and TOUCH begin with; the latter two need `count` parameters in all.
#[inline]
fn decode_id(
    command: CommandName,
    count: usize,
    context: &Context<'_>,
    parameters: &mut Parameters<'_>,
) -> Result<MessageId, ProtocolError> {
    if context.state == State::Init {
        return Err(ProtocolError::WrongState(command));
    }
    require_parameters(command, parameters.has(count))?;
    let id = parameters.next().unwrap_or_default();
    id.try_into().map(MessageId).map_err(|_| ProtocolError::BadMessageId)
}

/// A decimal number: digits only, nothing is 0. What does not fit becomes `u64::MAX`, which is
/// out of every range (NSQ lets it wrap around).
fn decode_number(command: CommandName, text: &[u8]) -> Result<u64, ProtocolError> {
    let mut number = 0u64;
    for byte in text {
        if !byte.is_ascii_digit() {
            return Err(ProtocolError::BadNumber { command, text: text.into() });
        }
        let digit = u64::from(byte - b'0');
        let next = number.checked_mul(10).and_then(|number| number.checked_add(digit));
        number = next.unwrap_or(u64::MAX);
    }
    Ok(number)
}

#[inline]
fn recall_topic(
    command: CommandName,
    name: &[u8],
    topic: &mut Option<TopicName>,
) -> Result<(), ProtocolError> {
    if topic.as_ref().is_some_and(|topic| topic.as_bytes() == name) {
        return Ok(());
    }
    let parsed = TopicName::parse(name)
        .map_err(|_| ProtocolError::BadTopic { command, name: name.into() })?;
    *topic = Some(parsed);
    Ok(())
}

/// Where the first space is. Parameters are a few bytes long, which a search by eights in a
/// register finds faster than a byte loop or a vector search that has to be set up.
#[inline]
fn find_space(bytes: &[u8]) -> Option<usize> {
    const EACH_BYTE: u64 = 0x0101_0101_0101_0101;
    let (words, tail) = bytes.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        // A space becomes zero, and of all bytes up to it only zero borrows into its top bit.
        let zeroed = u64::from_le_bytes(*word) ^ (0x20 * EACH_BYTE);
        let found = zeroed.wrapping_sub(EACH_BYTE) & !zeroed & (0x80 * EACH_BYTE);
        if found != 0 {
            return Some(index * 8 + found.trailing_zeros() as usize / 8);
        }
    }
    let at = tail.iter().position(|&byte| byte == b' ')?;
    Some(words.len() * 8 + at)
}

fn require_init(command: CommandName, context: &Context<'_>) -> Result<(), ProtocolError> {
    if context.state == State::Init { Ok(()) } else { Err(ProtocolError::WrongState(command)) }
}

#[inline]
fn require_parameters(command: CommandName, enough: bool) -> Result<(), ProtocolError> {
    if enough { Ok(()) } else { Err(ProtocolError::ParameterCount(command)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_first_space_is_found(
            bytes in vec(prop_oneof![any::<u8>(), 0x1f..0x22u8, 0x9f..0xa2u8], 0..40),
        ) {
            let naive = bytes.iter().position(|&byte| byte == b' ');
            prop_assert_eq!(find_space(&bytes), naive);
        }
    }
}
