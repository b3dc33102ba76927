//! Producers and consumers of numbered messages, who take the end of the daemon as it comes.

use super::ledger::Ledger;
use super::wire::{Connection, Frame, Read_};
use super::{Daemon, wait_drained};
use crate::support::client::Client;
use crate::support::stream::Address;
use crate::support::wait::{PATIENCE, eventually};
use fastrand::Rng;
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

/// Publishes of one producer that wait for their answer.
pub(super) const WINDOW: usize = 64;

/// Messages of one batch, at most.
pub(super) const BATCH_MAX: usize = 20;

/// Ready count of a consumer.
pub(super) const READY: usize = 200;

/// How long a consumer waits before it looks whether all is over.
const IDLE: Duration = Duration::from_millis(20);

/// What is published and consumed in a test.
pub(super) struct Traffic<'a> {
    pub(super) ledger: &'a Ledger,
    pub(super) topic: &'a str,
    pub(super) channels: &'a [&'a str],
    /// Bytes of a body, at least; each has up to 63 more.
    pub(super) body_bytes: usize,
    /// Whether some publishes are deferred, by some milliseconds.
    pub(super) defers: bool,
}

/// One daemon's life, as its clients see it.
pub(super) struct Life<'a> {
    pub(super) traffic: &'a Traffic<'a>,
    pub(super) address: Address,
    over: AtomicBool,
}

/// How a producer came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The connection ended, or all is over.
    Quiet,
    /// The daemon refused a publish, and closed the connection.
    Refused,
}

impl<'a> Traffic<'a> {
    /// Clients of this daemon.
    pub(super) fn with(&'a self, daemon: &Daemon) -> Life<'a> {
        Life { traffic: self, address: daemon.tcp.clone(), over: AtomicBool::new(false) }
    }

    /// Has the daemon deliver all it has.
    pub(super) fn drain(&self, daemon: &Daemon) {
        let life = self.with(daemon);
        let all: Vec<_> = (0..self.channels.len()).collect();
        life.while_consuming(&all, || wait_drained(daemon, self.topic));
    }

    /// Publishes a message that must be taken.
    pub(super) fn publish_one(&self, daemon: &Daemon) {
        // A log that was taken up while the disk was full finds out with the first publish.
        eventually(|| {
            let numbers = self.ledger.take(1).expect("there are more");
            let mut bytes = format!("PUB {}\n", self.topic).into_bytes();
            self.write_body(numbers.start, &mut bytes);
            let mut client = Client::connect(daemon);
            client.send(&bytes);
            match client.frame() {
                crate::support::client::Frame::Response(bytes) if bytes == b"OK" => {
                    self.ledger.acknowledge(numbers);
                    Ok(())
                }
                other => {
                    self.ledger.refuse(numbers);
                    Err(format!("{other:?}"))
                }
            }
        });
    }

    /// Appends a message: its length, its number, and bytes that follow from that.
    fn write_body(&self, number: usize, bytes: &mut Vec<u8>) {
        let length = self.length(number);
        bytes.extend(u32::try_from(length).expect("a small body").to_be_bytes());
        bytes.extend((number as u64).to_be_bytes());
        bytes.resize(bytes.len() + length - 8, fill_byte(number));
    }

    /// The number in a body that is whole.
    pub(super) fn read_body(&self, body: &[u8]) -> usize {
        let number = u64::from_be_bytes(*body.first_chunk().expect("a body starts with a number"));
        let number = usize::try_from(number).expect("a 64-bit machine");
        assert_eq!(body.len(), self.length(number), "length of message {number}");
        assert!(body[8..].iter().all(|b| *b == fill_byte(number)), "message {number} is damaged");
        number
    }

    fn length(&self, number: usize) -> usize {
        self.body_bytes.max(8) + number * 31 % 64
    }

    /// Appends an MPUB of these.
    pub(super) fn write_batch(&self, numbers: Range<usize>, bytes: &mut Vec<u8>) {
        bytes.extend(format!("MPUB {}\n", self.topic).into_bytes());
        let size_at = bytes.len();
        bytes.extend([0; 4]);
        bytes.extend(u32::try_from(numbers.len()).expect("a small count").to_be_bytes());
        numbers.for_each(|number| self.write_body(number, bytes));
        let size = u32::try_from(bytes.len() - size_at - 4).expect("a small batch").to_be_bytes();
        bytes[size_at..size_at + 4].copy_from_slice(&size);
    }

    /// Appends a DPUB.
    pub(super) fn write_deferred(&self, number: usize, delay_ms: usize, bytes: &mut Vec<u8>) {
        bytes.extend(format!("DPUB {} {delay_ms}\n", self.topic).into_bytes());
        self.write_body(number, bytes);
    }

    /// Appends some publish; `None` when all numbers are used up.
    fn write_publish(&self, random: &mut Rng, bytes: &mut Vec<u8>) -> Option<Range<usize>> {
        let kind = random.u32(..16);
        if kind == 0 {
            let numbers = self.ledger.take(random.usize(1..=BATCH_MAX))?;
            self.write_batch(numbers.clone(), bytes);
            return Some(numbers);
        }
        let numbers = self.ledger.take(1)?;
        let topic = self.topic;
        let line = if kind == 1 && self.defers {
            format!("DPUB {topic} {}\n", random.u32(1..100))
        } else {
            format!("PUB {topic}\n")
        };
        bytes.extend(line.into_bytes());
        self.write_body(numbers.start, bytes);
        Some(numbers)
    }
}

impl Life<'_> {
    pub(super) fn end(&self) {
        self.over.store(true, Ordering::Release);
    }

    pub(super) fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    /// Does something while somebody consumes each of these channels, by index.
    pub(super) fn while_consuming<T>(&self, channels: &[usize], act: impl FnOnce() -> T) -> T {
        thread::scope(|scope| {
            for channel in channels {
                scope.spawn(|| self.consume(*channel));
            }
            let _end = EndWhenDropped(self);
            act()
        })
    }

    /// Publishes, with [`WINDOW`] publishes on their way, until all is over.
    pub(super) fn produce(&self, mut random: Rng) -> End {
        let Ok(mut connection) = Connection::open(&self.address, PATIENCE) else {
            return End::Quiet;
        };
        let mut waiting = VecDeque::new();
        let mut bytes = Vec::new();
        loop {
            bytes.clear();
            while waiting.len() < WINDOW && !self.is_over() {
                let written = self.traffic.write_publish(&mut random, &mut bytes);
                let Some(numbers) = written else { break };
                waiting.push_back(numbers);
            }
            // What is answered already is read even if the connection is over.
            let is_open = connection.send(&bytes).is_ok();
            if waiting.is_empty() {
                return End::Quiet;
            }
            loop {
                match connection.fill() {
                    Read_::Some => {}
                    Read_::Closed => return End::Quiet,
                    Read_::Idle => panic!("no answer to {} publishes", waiting.len()),
                }
                if let Some(end) = self.take_answers(&mut connection, &mut waiting) {
                    return end;
                }
                if is_open {
                    break;
                }
            }
        }
    }

    fn take_answers(
        &self,
        connection: &mut Connection,
        waiting: &mut VecDeque<Range<usize>>,
    ) -> Option<End> {
        while let Some(frame) = connection.frame() {
            match frame {
                Frame::Response(b"_heartbeat_") => {}
                Frame::Response(b"OK") => {
                    let numbers = waiting.pop_front().expect("an answer belongs to a publish");
                    self.traffic.ledger.acknowledge(numbers);
                }
                Frame::Error(text) => {
                    let text = String::from_utf8_lossy(text);
                    assert!(text.contains("PUB_FAILED"), "{text}");
                    let numbers = waiting.pop_front().expect("an answer belongs to a publish");
                    self.traffic.ledger.refuse(numbers);
                    return Some(End::Refused);
                }
                other => panic!("{}", name(&other)),
            }
        }
        None
    }

    /// Takes and finishes messages, now and then requeues one, until all is over.
    pub(super) fn consume(&self, channel: usize) {
        let Ok(mut connection) = Connection::open(&self.address, IDLE) else { return };
        let (topic, name_) = (self.traffic.topic, self.traffic.channels[channel]);
        let _ = connection.send(format!("SUB {topic} {name_}\nRDY {READY}\n").as_bytes());
        let mut bytes = Vec::new();
        let mut count = 0_u32;
        loop {
            match connection.fill() {
                Read_::Some => {}
                Read_::Idle if self.is_over() => return,
                Read_::Idle => continue,
                Read_::Closed => return,
            }
            bytes.clear();
            while let Some(frame) = connection.frame() {
                match frame {
                    Frame::Message { id, body, .. } => {
                        self.traffic.ledger.deliver(channel, self.traffic.read_body(body));
                        count += 1;
                        let is_requeued = count.is_multiple_of(512);
                        bytes.extend(if is_requeued { b"REQ " } else { b"FIN " });
                        bytes.extend(id);
                        bytes.extend(if is_requeued { &b" 1\n"[..] } else { b"\n" });
                    }
                    Frame::Response(b"OK") => {}
                    Frame::Response(b"_heartbeat_") => bytes.extend(b"NOP\n"),
                    other => panic!("{}", name(&other)),
                }
            }
            if connection.send(&bytes).is_err() || self.is_over() {
                return;
            }
        }
    }
}

/// Ends a life even when what goes on in it panics, so that the panic is seen.
pub(super) struct EndWhenDropped<'a>(pub(super) &'a Life<'a>);

impl Drop for EndWhenDropped<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}

fn name(frame: &Frame<'_>) -> String {
    match frame {
        Frame::Response(text) => format!("response {}", String::from_utf8_lossy(text)),
        Frame::Error(text) => format!("error {}", String::from_utf8_lossy(text)),
        Frame::Message { attempts, .. } => format!("a message, attempt {attempts}"),
    }
}

fn fill_byte(number: usize) -> u8 {
    u8::try_from(number % 251).expect("below 251")
}
