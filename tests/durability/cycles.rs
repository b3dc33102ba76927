//! Orderly stops: nothing is lost, attempts and times are kept, what is finished stays finished.

use super::{check_log, random, rounds, start, u64_of};
use crate::support::client::{Client, Message, batch, with_body};
use crate::support::daemon::Daemon;
use crate::support::wait::Stopwatch;
use fastrand::Rng;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

const LEVELS: [&str; 3] = ["overflow", "logged", "synced"];

/// What a channel must have of a message that is not finished.
#[derive(Clone, Copy)]
struct Known {
    attempts: u16,
    /// Not to be delivered earlier than this after that.
    not_before: (Stopwatch, Duration),
}

/// A topic as its clients know it. Channel `a` is consumed, channel `b` is paused until the end.
struct Topic {
    name: &'static str,
    published: u64,
    unfinished: HashMap<u64, Known>,
    deferred: HashMap<u64, Known>,
}

impl Topic {
    fn new(name: &'static str) -> Self {
        Self { name, published: 0, unfinished: HashMap::new(), deferred: HashMap::new() }
    }

    fn publish(&mut self, producer: &mut Client, count: u64, defer: Option<Duration>) {
        let numbers = self.published..self.published + count;
        self.published = numbers.end;
        let known = Known {
            attempts: 0,
            not_before: (Stopwatch::start(), defer.unwrap_or(Duration::ZERO)),
        };
        self.unfinished.extend(numbers.clone().map(|number| (number, known)));
        let bodies: Vec<_> = numbers.clone().map(u64::to_be_bytes).collect();
        if let Some(delay) = defer {
            self.deferred.extend(numbers.map(|number| (number, known)));
            let line = format!("DPUB {} {}", self.name, delay.as_millis());
            for body in &bodies {
                producer.send(&with_body(&line, body));
                producer.expect_ok();
            }
            return;
        }
        let bodies: Vec<&[u8]> = bodies.iter().map(|body| &body[..]).collect();
        producer.send(&with_body(&format!("MPUB {}", self.name), &batch(&bodies)));
        producer.expect_ok();
    }

    /// A delivery is one that is due. Returns its number.
    fn check(&mut self, message: &Message) -> u64 {
        let body = *message.body.first_chunk().expect("a number");
        let number = u64::from_be_bytes(body);
        let Some(known) = self.unfinished.get_mut(&number) else {
            panic!("{}: message {number} was finished, and came again", self.name);
        };
        known.attempts += 1;
        assert_eq!(message.attempts, known.attempts, "{}: message {number}", self.name);
        let (since, delay) = known.not_before;
        assert!(since.elapsed() >= delay, "{}: message {number} came too early", self.name);
        number
    }

    /// Takes some messages, finishes, requeues and defers some, and keeps the others in flight.
    fn consume(&mut self, daemon: &Daemon, random: &mut Rng) -> Client {
        let available = u64_of(&daemon.channel(self.name, "a").expect("it is there"), "depth");
        let count = u32::try_from(available.min(60)).expect("at most 60");
        let mut consumer = Client::consumer(daemon, self.name, "a", count);
        let messages = consumer.messages(count as usize);
        // No more than these: whatever is delivered is looked at.
        consumer.ready(0);
        for message in messages {
            let number = self.check(&message);
            let known = self.unfinished.get_mut(&number).expect("just checked");
            match random.u32(..4) {
                0 | 1 => {
                    consumer.finish(&message);
                    self.unfinished.remove(&number);
                }
                2 => {
                    let delay_ms = random.u64(..1500);
                    known.not_before = (Stopwatch::start(), Duration::from_millis(delay_ms));
                    consumer.requeue(&message, delay_ms);
                }
                _ => {}
            }
        }
        consumer.expect_quiet();
        consumer
    }

    /// Takes all that is left, from both channels.
    fn drain(&mut self, daemon: &Daemon) {
        let mut consumer = Client::consumer(daemon, self.name, "a", 2500);
        while !self.unfinished.is_empty() {
            let message = consumer.message();
            let number = self.check(&message);
            consumer.finish(&message);
            self.unfinished.remove(&number);
        }
        consumer.expect_quiet();
        daemon.order(&format!("/channel/unpause?topic={}&channel=b", self.name));
        let all = |number| {
            let now = Known { attempts: 0, not_before: (Stopwatch::start(), Duration::ZERO) };
            (number, self.deferred.get(&number).copied().unwrap_or(now))
        };
        self.unfinished = (0..self.published).map(all).collect();
        let mut consumer = Client::consumer(daemon, self.name, "b", 2500);
        while !self.unfinished.is_empty() {
            let message = consumer.message();
            let number = self.check(&message);
            consumer.finish(&message);
            self.unfinished.remove(&number);
        }
        consumer.expect_quiet();
        for channel in ["a", "b"] {
            let empty = [("depth", 0), ("in_flight_count", 0), ("deferred_count", 0)];
            daemon.wait_channel(self.name, channel, &empty);
        }
    }
}

#[test]
fn reliability_4_orderly_stops_lose_and_forget_nothing() {
    let mut random = random();
    let directory = Arc::new(TempDir::new().expect("a temporary directory"));
    let mut topics = LEVELS.map(Topic::new);
    let count = rounds(8);
    for round in 0..count {
        // A queue that holds all, some, or nothing.
        let queue = [100_000, 1000, 0][random.usize(..3)];
        let queue = if round == 0 { 100_000 } else { queue };
        let queue = format!("--mem-queue-size={queue}");
        let mut daemon = start(&directory, random.u16(1..=3), &[&queue]);
        let mut producer = Client::connect(&daemon);
        let mut clients = Vec::new();
        for topic in &mut topics {
            let name = topic.name;
            if round == 0 {
                daemon.order(&format!("/topic/create?topic={name}&durability={name}"));
                daemon.create_channel(name, "a");
                daemon.create_channel(name, "b");
                daemon.order(&format!("/channel/pause?topic={name}&channel=b"));
                (0..20).for_each(|_| topic.publish(&mut producer, 1000, None));
            }
            topic.publish(&mut producer, random.u64(1..100), None);
            let delay = Duration::from_millis(random.u64(1..3000));
            topic.publish(&mut producer, random.u64(1..5), Some(delay));
            clients.push(topic.consume(&daemon, &mut random));
        }
        let status = daemon.terminate("TERM");
        assert!(status.success(), "{status}");
        check_log(&daemon);
    }
    let daemon = start(&directory, 2, &[]);
    topics.iter_mut().for_each(|topic| topic.drain(&daemon));
    check_log(&daemon);
    let published: u64 = topics.iter().map(|topic| topic.published).sum();
    eprintln!("{count} stops, {published} messages");
}

#[test]
fn memory_is_lost_at_an_orderly_stop_and_that_is_said() {
    let directory = Arc::new(TempDir::new().expect("a temporary directory"));
    let mut daemon = start(&directory, 2, &["--durability=memory"]);
    daemon.create_channel("t", "a");
    Client::connect(&daemon).publish_batch("t", &[b"one", b"two"]);
    daemon.wait_channel("t", "a", &[("depth", 2)]);
    assert!(daemon.terminate("TERM").success());
    let log = daemon.log();
    let daemon = start(&directory, 2, &["--durability=memory"]);
    daemon.wait_channel("t", "a", &[("depth", 0)]);
    assert!(!directory.path().join("t.log").exists());
    assert!(!log.contains("flushed"), "{log}");
}
