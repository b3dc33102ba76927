//! One run: a daemon, its producers and consumers, and the end of it.

use super::consumer::Consumer;
use super::ledger::{CHANNELS, Ledger, PRODUCERS, Pair, TOPICS};
use super::producer::Producer;
use super::wire::Connection;
use crate::support::daemon::{Daemon, Options, plain_flags};
use crate::support::matrix::Transport;
use crate::support::stream::Address;
use crate::support::wait::eventually;
use fastrand::Rng;
use std::env;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

const CONSUMERS: usize = 8;

/// What all producers and consumers share.
pub(super) struct Run {
    pub(super) ledger: Ledger,
    /// Whether messages of ended connections wait for a timeout (as in the original).
    pub(super) timeouts: bool,
    /// With nothing to read for so long, a consumer leaves: another channel may need it more.
    pub(super) idle: Duration,
    address: Address,
    seed: u64,
    /// Set when all producers are done.
    published: AtomicBool,
    over: AtomicBool,
}

impl Run {
    /// Randomness of one participant.
    pub(super) fn random(&self, participant: usize) -> Rng {
        let participant = u64::try_from(participant).expect("a small number");
        Rng::with_seed(self.seed.wrapping_add(participant.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
    }

    pub(super) fn connect(&self, patience: Duration) -> Connection {
        Connection::open(&self.address, patience).expect("the daemon accepts connections")
    }

    /// Whether a consumer may be cut off: not near the end, so that the run comes to one.
    pub(super) fn may_cut(&self, pair: Pair) -> bool {
        !self.published.load(Ordering::Acquire) || self.ledger.backlog(pair) > 5000
    }

    /// Set when every channel is empty and nothing will be published any more. A participant that
    /// failed ends the run for all, so that the failure is reported.
    pub(super) fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }
}

/// Ends the run when a participant panics.
struct EndOnPanic<'a>(&'a Run);

impl Drop for EndOnPanic<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.over.store(true, Ordering::Release);
        }
    }
}

fn number_from(variable: &str) -> Option<u64> {
    env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

#[test]
fn every_acknowledged_message_reaches_every_channel() {
    let messages = number_from("RINGMAIN_DELIVERY_MESSAGES").unwrap_or(1_000_000);
    let messages = usize::try_from(messages).expect("a 64-bit machine");
    let seed = number_from("RINGMAIN_SEED").unwrap_or_else(|| fastrand::u64(..));
    eprintln!("RINGMAIN_SEED={seed}");
    // Everything may be waiting at once, if consumers are unlucky.
    let queue = format!("--mem-queue-size={}", 3 * messages);
    let mut flags = vec![queue.as_str()];
    if plain_flags() {
        flags.push("--msg-timeout=3s");
    }
    let options = Options { transport: Transport::Tcp, shards: 2, flags: &flags };
    let daemon = Daemon::start(&options);
    for topic in 0..TOPICS {
        for channel in 0..CHANNELS {
            daemon.create_channel(&format!("topic{topic}"), &format!("channel{channel}"));
        }
    }
    let run = Run {
        ledger: Ledger::new(messages / PRODUCERS + 10_000),
        timeouts: daemon.is_original(),
        // The original holds messages back for up to 250 ms.
        idle: Duration::from_millis(if daemon.is_original() { 500 } else { 50 }),
        address: daemon.tcp.clone(),
        seed,
        published: AtomicBool::new(false),
        over: AtomicBool::new(false),
    };
    let cuts = run_all(&daemon, &run, messages / PRODUCERS);
    let acknowledged = run.ledger.check();
    assert!(acknowledged >= messages / PRODUCERS * PRODUCERS, "{acknowledged}");
    let duplicates = run.ledger.duplicates();
    eprintln!("{acknowledged} acknowledged, {duplicates} delivered again, {cuts:?} cut off");
}

/// Runs everybody to the end; returns how often producers and consumers were cut off.
fn run_all(daemon: &Daemon, run: &Run, per_producer: usize) -> (u32, u32) {
    thread::scope(|scope| {
        let _end = EndOnPanic(run);
        let consumers: Vec<_> = (0..CONSUMERS)
            .map(|index| {
                scope.spawn(move || {
                    let _end = EndOnPanic(run);
                    Consumer::new(run, index).run()
                })
            })
            .collect();
        let producers: Vec<_> = (0..PRODUCERS)
            .map(|index| {
                scope.spawn(move || {
                    let _end = EndOnPanic(run);
                    Producer::new(run, index, per_producer).run()
                })
            })
            .collect();
        let produced = producers.into_iter().map(|p| p.join().expect("a producer failed")).sum();
        run.published.store(true, Ordering::Release);
        eventually(|| if run.is_over() { Ok(()) } else { drained(daemon) });
        run.over.store(true, Ordering::Release);
        let consumed = consumers.into_iter().map(|c| c.join().expect("a consumer failed")).sum();
        (produced, consumed)
    })
}

/// Whether all topics and channels are empty, nothing in flight and nothing deferred.
fn drained(daemon: &Daemon) -> Result<(), String> {
    for topic in 0..TOPICS {
        let topic = daemon.topic(&format!("topic{topic}")).ok_or("a topic is missing")?;
        let channels = topic["channels"].as_array().ok_or("no channels")?;
        let counts = ["depth", "in_flight_count", "deferred_count"];
        let empty = |channel: &serde_json::Value| counts.iter().all(|key| channel[key] == 0);
        if topic["depth"] != 0 || !channels.iter().all(empty) {
            return Err(topic.to_string());
        }
    }
    Ok(())
}
