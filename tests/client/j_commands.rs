//! Section J: the commands a consumer sends, in their order, with a scripted nsqd.

use super::fake::{Fake, Peer, id, runtime};
use ringmain::client::{Config, Consumer, ConsumerControl, Message};
use std::time::Duration;
use tokio::runtime::Runtime;

const MS: Duration = Duration::from_millis(1);

/// Handles messages by their body: `good` is finished, `bad` requeued, `wait` requeued without
/// backoff.
fn handle(message: Message) {
    match message.body().as_ref() {
        b"bad" => message.requeue(),
        b"wait" => message.requeue_without_backoff(None),
        _ => message.finish(),
    }
}

/// A consumer of this nsqd that handles messages as they come.
fn consume(fake: &Fake, max_in_flight: u32) -> (Runtime, ConsumerControl, Peer) {
    let config = Config {
        max_in_flight,
        max_attempts: 0,
        backoff_multiplier: 10 * MS,
        lookupd_poll_interval: 10 * MS,
        rdy_redistribute_interval: 10 * MS,
        ..Config::default()
    };
    let runtime = runtime();
    let address = fake.address.clone();
    let (tell, told) = std::sync::mpsc::channel();
    runtime.spawn(async move {
        let consumer = Consumer::new("t", "c").nsqd(&address).config(config);
        let mut consumer = consumer.connect().await.expect("the script answers");
        tell.send(consumer.control()).expect("the test waits");
        while let Some(message) = consumer.next().await {
            handle(message);
        }
    });
    let peer = fake.accept_consumer();
    (runtime, told.recv().expect("a control"), peer)
}

#[test]
fn j3_backoff() {
    let fake = Fake::listen();
    let (_runtime, _, mut peer) = consume(&fake, 5);
    let (fin, requeue) = (format!("FIN {}", id("good")), format!("REQ {} 0", id("bad")));
    peer.expect("RDY 5");
    for _ in 0..3 {
        peer.message("good", 0);
        peer.expect(&fin);
    }
    peer.message("bad", 0);
    peer.expect_all(&["RDY 0", &requeue, "RDY 1"]);
    peer.message("bad", 0);
    peer.expect_all(&["RDY 0", &requeue, "RDY 1"]);
    peer.message("good", 0);
    peer.expect_all(&["RDY 0", &fin, "RDY 1"]);
    peer.message("good", 0);
    peer.expect_all(&["RDY 5", &fin]);
}

#[test]
fn j4_requeue_without_backoff() {
    let fake = Fake::listen();
    let (_runtime, _, mut peer) = consume(&fake, 1);
    peer.expect("RDY 1");
    peer.message("bad", 0);
    peer.expect_all(&["RDY 0", &format!("REQ {} 0", id("bad")), "RDY 1"]);
    peer.message("wait", 0);
    peer.expect_all(&["RDY 0", &format!("REQ {} 0", id("wait")), "RDY 1"]);
    peer.message("good", 0);
    peer.expect(&format!("FIN {}", id("good")));
}

#[test]
fn j5_backoff_then_disconnect() {
    let fake = Fake::listen();
    let (_runtime, _, mut peer) = consume(&fake, 5);
    let (fin, requeue) = (format!("FIN {}", id("good")), format!("REQ {} 0", id("bad")));
    peer.expect("RDY 5");
    peer.message("good", 0);
    peer.expect(&fin);
    peer.message("bad", 0);
    peer.expect_all(&["RDY 0", &requeue, "RDY 1"]);
    peer.message("bad", 0);
    peer.expect_all(&["RDY 0", &requeue, "RDY 1"]);
    peer.message("good", 0);
    peer.expect_all(&["RDY 0", &fin, "RDY 1"]);
    drop(peer);
    let mut peer = fake.accept_consumer();
    peer.expect("RDY 1");
    peer.message("good", 0);
    peer.expect_all(&["RDY 5", &fin]);
}

#[test]
fn j6_pause() {
    let fake = Fake::listen();
    let (_runtime, control, mut peer) = consume(&fake, 5);
    peer.expect("RDY 5");
    control.set_max_in_flight(0);
    peer.expect("RDY 0");
    control.set_max_in_flight(5);
    peer.expect("RDY 5");
}

#[test]
fn a_stop_waits_for_what_is_in_hand() {
    let fake = Fake::listen();
    let runtime = runtime();
    let address = fake.address.clone();
    let (tell, told) = std::sync::mpsc::channel();
    let (go, may_go) = tokio::sync::oneshot::channel();
    let ended = runtime.spawn(async move {
        let consumer = Consumer::new("t", "c").nsqd(&address).max_in_flight(2);
        let mut consumer = consumer.connect().await.expect("the script answers");
        let held = consumer.next().await.expect("a message");
        tell.send(consumer.control()).expect("the test waits");
        let after_stop = consumer.next().await.expect("it was on its way");
        may_go.await.expect("the test says when");
        after_stop.finish();
        held.touch();
        held.finish();
        assert!(consumer.next().await.is_none());
    });
    let mut peer = fake.accept_consumer();
    peer.expect("RDY 2");
    peer.message("one", 1);
    told.recv().expect("a control").stop();
    peer.expect("CLS");
    peer.message("two", 1);
    peer.respond("CLOSE_WAIT");
    // Still answering heartbeats.
    peer.respond("_heartbeat_");
    peer.expect("NOP");
    go.send(()).expect("the task waits");
    let (one, two) = (id("one"), id("two"));
    peer.expect_all(&[&format!("FIN {two}"), &format!("TOUCH {one}"), &format!("FIN {one}")]);
    assert_eq!(peer.line(), None);
    runtime.block_on(ended).expect("no assertion failed");
}
