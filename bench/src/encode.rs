//! Publishes on the wire: PUB, DPUB, MPUB or HTTP requests to some topics in turn, with a time and,
//! for verification, a stamp in every body.

use std::io::Write as _;

use crate::body::{Stamp, write_time};
use crate::scenario::Plan;

/// Writes the publishes of one producer.
pub(crate) struct Encoder {
    topics: Vec<Topic>,
    turn: usize,
    /// Lengths of the bodies, in turn.
    lengths: Vec<usize>,
    length: usize,
    /// Does not compress, as long as the longest body.
    filler: Vec<u8>,
    /// Messages in each MPUB; `None` for single publishes.
    batch: Option<u32>,
    http: bool,
    defer_ns: u64,
    /// The number to put into stamps, when the run is verified.
    producer: Option<u32>,
}

struct Topic {
    number: u32,
    /// The command up to the size.
    head: Vec<u8>,
    /// Messages written.
    sequence: u64,
}

impl Encoder {
    /// Publishes to `topics`, numbers and names, as `plan` says.
    pub(crate) fn new(plan: &Plan, producer: u32, topics: &[(u32, String)]) -> Self {
        let topic = |(number, name): &(u32, String)| Topic {
            number: *number,
            head: head(plan, name),
            sequence: 0,
        };
        Self {
            topics: topics.iter().map(topic).collect(),
            turn: 0,
            lengths: plan.body.rotation(),
            length: 0,
            filler: filler(plan.body.most()),
            batch: (plan.batch > 0).then_some(plan.batch),
            http: plan.http,
            defer_ns: u64::try_from(plan.defer.as_nanos()).unwrap_or(u64::MAX),
            producer: plan.verify.then_some(producer),
        }
    }

    /// Commands after which the topics and the lengths come around again.
    pub(crate) fn round(&self) -> usize {
        let lengths = self.lengths.len().div_ceil(self.batch.unwrap_or(1) as usize);
        self.topics.len().max(lengths).next_multiple_of(self.topics.len())
    }

    /// Appends one publish, of a message or a batch that is due at `due_ns`.
    pub(crate) fn push(&mut self, out: &mut Vec<u8>, due_ns: u64) {
        let due_ns = due_ns.saturating_add(self.defer_ns);
        let turn = self.turn;
        self.turn = (turn + 1) % self.topics.len();
        out.extend_from_slice(&self.topics[turn].head);
        match self.batch {
            None => {
                let bytes = self.next_length();
                self.push_size(out, bytes);
                self.push_body(out, turn, bytes, due_ns);
            }
            Some(messages) => {
                let first = self.length;
                let batch_bytes: usize = (0..messages).map(|_| 4 + self.next_length()).sum();
                self.length = first;
                self.push_size(out, 4 + batch_bytes);
                out.extend_from_slice(&messages.to_be_bytes());
                for _ in 0..messages {
                    let bytes = self.next_length();
                    out.extend_from_slice(&size_field(bytes));
                    self.push_body(out, turn, bytes, due_ns);
                }
            }
        }
    }

    /// How many messages of each topic were in the first `commands`.
    pub(crate) fn spread(&self, commands: u64) -> Vec<(u32, u64)> {
        let count = self.topics.len() as u64;
        let each = u64::from(self.batch.unwrap_or(1));
        let topics = (0..count).zip(&self.topics);
        topics
            .map(|(place, topic)| (topic.number, (commands + count - 1 - place) / count * each))
            .collect()
    }

    fn next_length(&mut self) -> usize {
        let bytes = self.lengths[self.length];
        self.length = (self.length + 1) % self.lengths.len();
        bytes
    }

    fn push_size(&self, out: &mut Vec<u8>, bytes: usize) {
        if self.http {
            // A vector takes all that is written to it.
            let _ = write!(out, "{bytes}\r\n\r\n");
        } else {
            out.extend_from_slice(&size_field(bytes));
        }
    }

    fn push_body(&mut self, out: &mut Vec<u8>, turn: usize, bytes: usize, due_ns: u64) {
        let at = out.len();
        out.extend_from_slice(&self.filler[..bytes]);
        let body = &mut out[at..];
        let topic = &mut self.topics[turn];
        match self.producer {
            Some(producer) => {
                let sequence = topic.sequence;
                Stamp { due_ns, producer, topic: topic.number, sequence }.write(body);
                topic.sequence += 1;
            }
            None => write_time(body, due_ns),
        }
    }
}

/// A publish up to its size.
fn head(plan: &Plan, topic: &str) -> Vec<u8> {
    let defer_ms = plan.defer.as_millis();
    let text = match (plan.http, plan.batch, defer_ms) {
        (true, batch, _) => {
            let (path, more) = if batch > 0 { ("mpub", "&binary=true") } else { ("pub", "") };
            let defer = if defer_ms > 0 { format!("&defer={defer_ms}") } else { String::new() };
            let topic = topic.replace('#', "%23");
            format!(
                "POST /{path}?topic={topic}{more}{defer} HTTP/1.1\r\nHost: nsqd\r\n\
                 Content-Type: application/octet-stream\r\nContent-Length: "
            )
        }
        (false, 0, 0) => format!("PUB {topic}\n"),
        (false, 0, _) => format!("DPUB {topic} {defer_ms}\n"),
        (false, ..) => format!("MPUB {topic}\n"),
    };
    text.into_bytes()
}

fn size_field(bytes: usize) -> [u8; 4] {
    u32::try_from(bytes).expect("flags bound bodies and batches far below 4 GiB").to_be_bytes()
}

/// The same in every run, and not compressible.
fn filler(bytes: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(42);
    std::iter::repeat_with(|| random.u8(..)).take(bytes).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::flags::LoadFlags;

    fn plan(body: &str, batch: u32) -> Plan {
        let flags = LoadFlags {
            body_bytes: Some(body.parse().unwrap()),
            batch: Some(batch),
            ..LoadFlags::default()
        };
        Plan::named("pub", &flags).unwrap()
    }

    fn encoder(plan: &Plan) -> Encoder {
        Encoder::new(plan, 5, &[(0, "a".into()), (1, "b".into())])
    }

    fn pushed(plan: &Plan, commands: usize) -> Vec<u8> {
        let (mut encoder, mut out) = (encoder(plan), Vec::new());
        (0..commands).for_each(|_| encoder.push(&mut out, 0x0102));
        out
    }

    #[test]
    fn commands_have_their_golden_bytes() {
        let time = b"\0\0\0\0\0\0\x01\x02";
        let single = plan("8", 0);
        let expected = [b"PUB a\n\0\0\0\x08", &time[..], b"PUB b\n\0\0\0\x08", time].concat();
        assert_eq!(pushed(&single, 2), expected);

        let batch = [b"\0\0\0\x08", &time[..], b"\0\0\0\x08", time].concat();
        let expected = [b"MPUB a\n\0\0\0\x1c\0\0\0\x02", &batch[..]].concat();
        assert_eq!(pushed(&plan("8", 2), 1), expected);

        let deferred = Plan { defer: Duration::from_millis(250), ..single.clone() };
        let late = (0x0102u64 + 250_000_000).to_be_bytes();
        assert_eq!(pushed(&deferred, 1), [b"DPUB a 250\n\0\0\0\x08", &late[..]].concat());

        let http = String::from_utf8_lossy(&pushed(&Plan { http: true, ..single }, 1)).into_owned();
        assert!(http.starts_with("POST /pub?topic=a HTTP/1.1\r\n"), "{http}");
        assert!(http.contains("Content-Length: 8\r\n\r\n\0"), "{http}");
    }

    #[test]
    fn stamps_count_by_topic_and_the_spread_agrees_with_them() {
        let verified = Plan { verify: true, ..plan("28..60", 3) };
        let mut encoder = encoder(&verified);
        let mut sequences = [0, 0];
        for command in 1..=7u64 {
            let mut out = Vec::new();
            encoder.push(&mut out, 9);
            let mut rest = &out[b"MPUB a\n\0\0\0\0\0\0\0\0".len()..];
            while let Some((size, after)) = rest.split_first_chunk::<4>() {
                let (body, after) = after.split_at(u32::from_be_bytes(*size) as usize);
                let stamp = Stamp::read(body).unwrap();
                let expected = &mut sequences[stamp.topic as usize];
                assert_eq!((stamp.producer, stamp.due_ns, stamp.sequence), (5, 9, *expected));
                *expected += 1;
                rest = after;
            }
            assert_eq!(encoder.spread(command), [(0, sequences[0]), (1, sequences[1])]);
        }
    }
}
