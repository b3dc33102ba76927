//! Clients as they are to the daemon: bytes that come in pieces, frames that are read when the
//! network pleases, and what they make of them.

use super::auditor::Auditor;
use ringmain::broker::admin::ShardIndex;
use ringmain::broker::session::SessionKey;
use ringmain::protocol::decoder::Decoder;
use ringmain::protocol::name::{ChannelName, TopicName};
use std::collections::{BTreeMap, VecDeque};

/// What a client got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Frame {
    Response(String),
    Error(String),
    Message { id: String, attempts: u16, body: Vec<u8> },
}

/// The next answer a client is owed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Expected {
    Subscribed,
    CloseWait,
    /// The messages of a publish: the first, and how many.
    Published(usize, usize),
}

/// A connection.
#[derive(Default)]
pub(crate) struct Client {
    /// Its shard and session; none on the way and when it is gone.
    pub(crate) place: Option<(usize, SessionKey)>,
    pub(crate) moving: Option<ShardIndex>,
    pub(crate) decoder: Decoder,
    /// Sent, on its way to the daemon.
    pub(crate) wire: Vec<u8>,
    /// Arrived, not decoded.
    pub(crate) input: Vec<u8>,
    /// Given to the socket by the daemon, on its way to the client.
    pub(crate) sending: Vec<u8>,
    /// Arrived at the client, not a whole frame yet.
    pub(crate) received: Vec<u8>,
    /// Nothing was given to it before this and not to the socket.
    pub(crate) given_since: u64,
    pub(crate) expected: VecDeque<Expected>,
    pub(crate) subscription: Option<(TopicName, ChannelName)>,
    /// Ids of messages it has and has not answered for.
    pub(crate) held: Vec<String>,
    /// Bodies of all messages it got, by id.
    pub(crate) bodies: BTreeMap<String, Vec<u8>>,
    pub(crate) is_gone: bool,
    /// It has sent CLS.
    pub(crate) is_closing: bool,
    /// Messages that were refused, and why, yet to be judged.
    pub(crate) refusals: Vec<(usize, String)>,
}

impl Client {
    /// Takes what has arrived, as whole frames.
    pub(crate) fn read(&mut self, bytes: &[u8], auditor: &mut Auditor) {
        self.received.extend_from_slice(bytes);
        let frames = take_frames(&mut self.received);
        for frame in frames {
            self.take(frame, auditor);
        }
    }

    fn take(&mut self, frame: Frame, auditor: &mut Auditor) {
        match frame {
            Frame::Message { id, body, .. } => {
                self.held.push(id.clone());
                self.bodies.insert(id, body);
            }
            Frame::Response(text) if text == "_heartbeat_" => {}
            Frame::Response(text) => match (text.as_str(), self.expected.pop_front()) {
                ("OK", Some(Expected::Subscribed)) => {}
                ("CLOSE_WAIT", Some(Expected::CloseWait)) => {}
                ("OK", Some(Expected::Published(first, count))) => {
                    auditor.acknowledged(first, count);
                }
                (text, expected) => panic!("{text} answers {expected:?}"),
            },
            Frame::Error(text) => {
                let kinds = ["E_FIN_FAILED", "E_REQ_FAILED", "E_TOUCH_FAILED"];
                if kinds.iter().any(|kind| text.starts_with(kind)) {
                    return;
                }
                if let Some(Expected::Published(first, count)) = self.expected.pop_front() {
                    let kinds = ["E_PUB_FAILED", "E_MPUB_FAILED", "E_DPUB_FAILED"];
                    assert!(kinds.iter().any(|kind| text.starts_with(kind)), "{text}");
                    auditor.refused(first, count);
                    self.refusals.push((first, text));
                }
                self.expected.clear();
            }
        }
    }
}

/// Frames that are complete, taken off the front.
pub(crate) fn take_frames(bytes: &mut Vec<u8>) -> Vec<Frame> {
    let (mut frames, mut taken) = (Vec::new(), 0);
    while let Some((size, rest)) = bytes[taken..].split_first_chunk::<4>() {
        let size = u32::from_be_bytes(*size) as usize;
        let Some(frame) = rest.get(..size) else { break };
        taken += 4 + size;
        let text = || String::from_utf8_lossy(&frame[4..]).into_owned();
        frames.push(match frame[3] {
            0 => Frame::Response(text()),
            1 => Frame::Error(text()),
            _ => Frame::Message {
                attempts: u16::from_be_bytes([frame[12], frame[13]]),
                id: String::from_utf8_lossy(&frame[14..30]).into_owned(),
                body: frame[30..].to_vec(),
            },
        });
    }
    bytes.drain(..taken);
    frames
}

/// The bytes of a publish.
pub(crate) fn publish(topic: &TopicName, bodies: &[Vec<u8>], delay_ms: Option<u64>) -> Vec<u8> {
    let mut bytes = match (bodies, delay_ms) {
        ([_], None) => format!("PUB {topic}\n"),
        ([_], Some(delay_ms)) => format!("DPUB {topic} {delay_ms}\n"),
        _ => format!("MPUB {topic}\n"),
    }
    .into_bytes();
    if let [body] = bodies {
        push_body(&mut bytes, body);
    } else {
        let mut batch = prefix(bodies.len()).to_vec();
        bodies.iter().for_each(|body| push_body(&mut batch, body));
        push_body(&mut bytes, &batch);
    }
    bytes
}

fn push_body(bytes: &mut Vec<u8>, body: &[u8]) {
    bytes.extend_from_slice(&prefix(body.len()));
    bytes.extend_from_slice(body);
}

fn prefix(length: usize) -> [u8; 4] {
    u32::try_from(length).expect("publishes are small").to_be_bytes()
}
