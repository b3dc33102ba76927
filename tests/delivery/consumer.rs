//! A consumer: goes where the backlog is, finishes what it gets, and is cut off now and then.

use super::ledger::Pair;
use super::wire::{Connection, Frame, Read_, read_body};
use super::workload::Run;
use fastrand::Rng;
use std::collections::VecDeque;
use std::net::Shutdown;

/// An id nobody has: its FIN fails, which tells that all commands before it were carried out.
const FENCE: &[u8; 16] = b"ffffffffffffffff";

/// A FIN on its way.
enum Sent {
    Finish { id: [u8; 16], number: usize },
    Fence,
}

/// One of the run's consumers.
pub(super) struct Consumer<'a> {
    run: &'a Run,
    random: Rng,
    pair: Pair,
    /// FINs and fences of this connection, in order, whose fate is not known yet.
    sent: VecDeque<Sent>,
}

impl<'a> Consumer<'a> {
    pub(super) fn new(run: &'a Run, index: usize) -> Self {
        let random = run.random(1000 + index);
        Self { run, random, pair: Pair::at(index % Pair::COUNT), sent: VecDeque::new() }
    }

    /// Consumes until the run is over; returns how often it was cut off.
    pub(super) fn run(mut self) -> u32 {
        let mut cuts = 0;
        while !self.run.is_over() {
            self.sent.clear();
            let mut connection = self.run.connect(self.run.idle);
            let ready = self.random.u32(1..=1000);
            let Pair { topic, channel } = self.pair;
            let start = format!("SUB topic{topic} channel{channel}\nRDY {ready}\n");
            connection.send(start.as_bytes()).expect("a new connection");
            if self.consume(&mut connection) {
                cuts += 1;
            }
            self.pair = self.next_pair();
        }
        cuts
    }

    /// True when it ended by being cut off, false when there was nothing to do.
    fn consume(&mut self, connection: &mut Connection) -> bool {
        let mut lifetime = self.random.i64(1..=4000);
        let mut bytes = Vec::new();
        loop {
            match connection.fill() {
                Read_::Some => {}
                // What has been finished stays finished: wait for the fences before leaving.
                Read_::Idle if self.sent.is_empty() => return false,
                Read_::Idle => continue,
                Read_::Closed => panic!("the daemon closed the connection of a consumer"),
            }
            bytes.clear();
            while let Some(frame) = connection.frame() {
                match frame {
                    Frame::Message { attempts, id, body } => {
                        lifetime -= 1;
                        let number = read_body(body);
                        self.run.ledger.deliver(self.pair, number, attempts);
                        self.answer(id, number, &mut bytes);
                    }
                    Frame::Response(b"OK") => {}
                    Frame::Response(_) => bytes.extend(b"NOP\n"),
                    Frame::Error(text) => self.finish_failed(text),
                }
            }
            self.fence(&mut bytes);
            if lifetime <= 0 && self.run.may_cut(self.pair) {
                self.cut(connection, &bytes);
                return true;
            }
            connection.send(&bytes).expect("the daemon reads what a consumer sends");
        }
    }

    /// Finishes a message, or now and then requeues it.
    fn answer(&mut self, id: [u8; 16], number: usize, bytes: &mut Vec<u8>) {
        if self.random.u32(..500) == 0 {
            bytes.extend(b"REQ ");
            bytes.extend(id);
            bytes.extend(if self.random.bool() { b" 0\n" } else { b" 5\n" });
            return;
        }
        bytes.extend(b"FIN ");
        bytes.extend(id);
        bytes.push(b'\n');
        self.sent.push_back(Sent::Finish { id, number });
    }

    fn fence(&mut self, bytes: &mut Vec<u8>) {
        if matches!(self.sent.back(), Some(Sent::Finish { .. })) {
            bytes.extend(b"FIN ");
            bytes.extend(FENCE);
            bytes.push(b'\n');
            self.sent.push_back(Sent::Fence);
        }
    }

    /// The daemon refused a FIN: the fence's, which confirms all before it, or a late one.
    fn finish_failed(&mut self, text: &[u8]) {
        let id: &[u8; 16] = text
            .strip_prefix(b"E_FIN_FAILED FIN ")
            .and_then(|rest| rest.first_chunk())
            .unwrap_or_else(|| panic!("{}", String::from_utf8_lossy(text)));
        if id == FENCE {
            while let Some(Sent::Finish { number, .. }) = self.sent.pop_front() {
                self.run.ledger.finish(self.pair, number);
            }
            return;
        }
        // The original lets messages of ended connections time out, and a slow one with them.
        assert!(self.run.timeouts, "nothing times out: {}", String::from_utf8_lossy(text));
        self.sent.retain(|sent| !matches!(sent, Sent::Finish { id: late, .. } if late == id));
    }

    /// Ends the connection: with nothing, a part or all of what was to be sent, in several ways.
    fn cut(&mut self, connection: &mut Connection, bytes: &[u8]) {
        let sent = match self.random.u32(..3) {
            0 => 0,
            1 => self.random.usize(..=bytes.len()),
            _ => bytes.len(),
        };
        // Without an answer nobody knows which of these were carried out.
        let _ = connection.send(&bytes[..sent]);
        if self.random.bool() {
            let _ = connection.stream().shutdown(Shutdown::Write);
        }
    }

    /// Where most is waiting, or anywhere, so that channels have several consumers or none.
    fn next_pair(&mut self) -> Pair {
        let pairs = (0..Pair::COUNT).map(Pair::at);
        if self.random.bool() {
            return Pair::at(self.random.usize(..Pair::COUNT));
        }
        pairs.max_by_key(|pair| self.run.ledger.backlog(*pair)).expect("there are pairs")
    }
}
