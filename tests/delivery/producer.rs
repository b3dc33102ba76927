//! A producer: pipelined PUBs and MPUBs, cut off now and then.

use super::ledger::{Ledger, TOPICS};
use super::wire::{Connection, Frame, Read_, write_body};
use super::workload::Run;
use crate::support::wait::PATIENCE;
use fastrand::Rng;
use std::collections::VecDeque;
use std::net::Shutdown;
use std::ops::Range;

/// Commands sent in one piece.
const BURST: usize = 16;

/// Commands that may wait for their answer.
const WINDOW: usize = 4 * BURST;

/// Most messages of one MPUB.
const BATCH_MAX: usize = 64;

/// One of [`super::ledger::PRODUCERS`].
pub(super) struct Producer<'a> {
    run: &'a Run,
    random: Rng,
    /// Numbers not used yet, per topic.
    unused: [Range<usize>; TOPICS],
    /// Messages still to be acknowledged.
    owed: usize,
    /// Sent on this connection, in order, and not answered yet.
    waiting: VecDeque<(usize, Range<usize>)>,
}

impl<'a> Producer<'a> {
    pub(super) fn new(run: &'a Run, index: usize, owed: usize) -> Self {
        let unused = std::array::from_fn(|topic| run.ledger.numbers(index, topic));
        let random = run.random(index);
        Self { run, random, unused, owed, waiting: VecDeque::new() }
    }

    /// Publishes until all it owes is acknowledged; returns how often it was cut off.
    pub(super) fn run(mut self) -> u32 {
        let mut cuts = 0;
        while self.owed > 0 {
            self.waiting.clear();
            let mut connection = self.run.connect(PATIENCE);
            let bursts = self.random.u32(1..30);
            if !self.publish(&mut connection, bursts) {
                panic!("the daemon closed the connection of a producer");
            }
            if self.owed > 0 {
                cuts += 1;
                self.cut(&mut connection);
            }
        }
        cuts
    }

    /// Sends some bursts; false when the daemon closed the connection.
    fn publish(&mut self, connection: &mut Connection, bursts: u32) -> bool {
        let mut bytes = Vec::new();
        for _ in 0..bursts {
            if self.owed == 0 {
                break;
            }
            bytes.clear();
            for _ in 0..BURST {
                self.write_command(&mut bytes);
            }
            if connection.send(&bytes).is_err() || !self.read_answers(connection, WINDOW) {
                return false;
            }
        }
        // Sometimes everything is answered before the end, sometimes not.
        let rest = if self.owed < BURST * BATCH_MAX { 0 } else { self.random.usize(..=WINDOW) };
        self.read_answers(connection, rest)
    }

    fn write_command(&mut self, bytes: &mut Vec<u8>) {
        let topic = self.random.usize(..TOPICS);
        let batch = self.random.bool();
        let count = if batch { self.random.usize(1..=BATCH_MAX) } else { 1 };
        let start = self.unused[topic].start;
        let numbers = start..start + count;
        assert!(numbers.end <= self.unused[topic].end, "numbers suffice for all cut-off publishes");
        self.unused[topic].start = numbers.end;
        if batch {
            bytes.extend(format!("MPUB topic{topic}\n").into_bytes());
            let size_at = bytes.len();
            bytes.extend([0; 4]);
            bytes.extend(u32::try_from(count).expect("small").to_be_bytes());
            numbers.clone().for_each(|number| write_body(number, bytes));
            let size = u32::try_from(bytes.len() - size_at - 4).expect("small").to_be_bytes();
            bytes[size_at..size_at + 4].copy_from_slice(&size);
        } else {
            bytes.extend(format!("PUB topic{topic}\n").into_bytes());
            write_body(start, bytes);
        }
        self.waiting.push_back((topic, numbers));
    }

    /// Reads until at most so many commands wait for their answer.
    fn read_answers(&mut self, connection: &mut Connection, window: usize) -> bool {
        while self.waiting.len() > window {
            if connection.fill() != Read_::Some {
                return false;
            }
            while let Some(frame) = connection.frame() {
                match frame {
                    Frame::Response(b"OK") => acknowledge(
                        &self.run.ledger,
                        &mut self.owed,
                        self.waiting.pop_front().expect("an answer belongs to a command"),
                    ),
                    Frame::Response(b"_heartbeat_") => {}
                    Frame::Response(other) | Frame::Error(other) => {
                        panic!("a publish got {:?}", String::from_utf8_lossy(other))
                    }
                    Frame::Message { .. } => panic!("a message for a producer"),
                }
            }
        }
        true
    }

    /// Ends the connection in one of several ways, perhaps in the middle of a command.
    fn cut(&mut self, connection: &mut Connection) {
        let mut bytes = Vec::new();
        self.write_command(&mut bytes);
        match self.random.u32(..4) {
            0 => drop(connection.send(&bytes)),
            1 => drop(connection.send(&bytes[..self.random.usize(..bytes.len())])),
            2 => drop(connection.stream().shutdown(Shutdown::Write)),
            _ => {}
        }
    }
}

fn acknowledge(ledger: &Ledger, owed: &mut usize, command: (usize, Range<usize>)) {
    let (topic, numbers) = command;
    *owed = owed.saturating_sub(numbers.len());
    ledger.acknowledge(topic, numbers);
}
