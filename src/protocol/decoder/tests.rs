//! The decoder against the protocol's tables, in every cut of the bytes.

mod cuts;
mod memory;
mod table;

use super::*;
use std::fmt::Write;

/// Small, so that every limit can be reached in a line of a test.
const LIMITS: CommandLimits = CommandLimits {
    max_msg_size: 10,
    max_body_size: 64,
    max_rdy_count: 2500,
    max_req_timeout_ms: 3_600_000,
};

/// A connection as the server drives it: what the decoder hands out, written down.
struct Connection {
    decoder: Decoder,
    slabs: SlabPool,
    state: State,
    heartbeats: bool,
    limits: CommandLimits,
    /// One line per command.
    commands: Vec<String>,
    error: Option<ProtocolError>,
}

impl Connection {
    fn new(state: State, limits: CommandLimits) -> Self {
        Self {
            decoder: Decoder::after_magic(),
            slabs: SlabPool::new(usize::MAX),
            state,
            heartbeats: true,
            limits,
            commands: Vec::new(),
            error: None,
        }
    }

    /// Takes in bytes of one receive. After an error it takes nothing, as a closed connection.
    fn feed(&mut self, piece: &[u8]) {
        let mut input = piece;
        while self.error.is_none() {
            let context = Context {
                state: self.state,
                heartbeats: self.heartbeats,
                lacks_tls: false,
                limits: &self.limits,
            };
            match self.decoder.next(&mut input, &context, &mut self.slabs) {
                Ok(Some(command)) => {
                    self.commands.push(describe(&command));
                    match command {
                        Command::Sub(_) => self.state = State::Subscribed,
                        Command::Close => self.state = State::Closing,
                        Command::Publish(Publish { body: Body::Owned(bytes), .. }) => {
                            self.slabs.give(bytes);
                        }
                        _ => {}
                    }
                }
                Ok(None) => {
                    assert!(input.is_empty(), "asked for more with bytes left");
                    return;
                }
                Err(error) => self.error = Some(error),
            }
        }
    }

    /// The commands, and the text of the error that ended them.
    fn outcome(&self) -> (String, String) {
        let error = self.error.as_ref().map(ToString::to_string);
        (self.commands.join("; "), error.unwrap_or_default())
    }
}

/// A command as a line of text; a body is the same wherever it lies.
fn describe(command: &Command<'_>) -> String {
    match command {
        Command::Identify { body } => format!("IDENTIFY {}", body.escape_ascii()),
        Command::Auth { secret } => format!("AUTH {}", secret.escape_ascii()),
        Command::Sub(names) => format!("SUB {} {}", names.0, names.1),
        Command::PublishStart { topic } => format!("start {topic}"),
        Command::Publish(publish) => describe_publish(publish),
        Command::Ready { count } => format!("RDY {count}"),
        Command::Finish { id } => format!("FIN {id}"),
        Command::Requeue { id, delay_ms } => format!("REQ {id} {delay_ms}"),
        Command::Touch { id } => format!("TOUCH {id}"),
        Command::Close => "CLS".to_owned(),
        Command::Nop => "NOP".to_owned(),
    }
}

fn describe_publish(publish: &Publish<'_>) -> String {
    let Publish { topic, kind, delay_ms, count, body } = publish;
    let mut text = format!("{} {topic}", CommandName::from(*kind));
    if *kind == PublishKind::Dpub {
        write!(text, " +{delay_ms}").unwrap();
    } else {
        assert_eq!(*delay_ms, 0);
    }
    if *kind != PublishKind::Mpub {
        assert_eq!(*count, 1);
        write!(text, " {}", body.as_bytes().escape_ascii()).unwrap();
        return text;
    }
    let messages: Vec<_> = crate::protocol::command::BatchIter::new(body.as_bytes()).collect();
    assert_eq!(messages.len(), usize::try_from(*count).unwrap());
    let framed_bytes: usize = messages.iter().map(|(_, message)| 4 + message.len()).sum();
    assert_eq!(framed_bytes, body.as_bytes().len(), "exactly the messages, nothing more");
    for (_, message) in messages {
        write!(text, " [{}]", message.escape_ascii()).unwrap();
    }
    text
}

/// A size and a body, as they follow a line.
fn sized(body: &[u8]) -> Vec<u8> {
    let size = i32::try_from(body.len()).unwrap();
    [&size.to_be_bytes(), body].concat()
}

/// An MPUB's count and messages, with its size in front.
fn batch(messages: &[&[u8]]) -> Vec<u8> {
    let mut body = i32::try_from(messages.len()).unwrap().to_be_bytes().to_vec();
    messages.iter().for_each(|message| body.extend(sized(message)));
    sized(&body)
}
