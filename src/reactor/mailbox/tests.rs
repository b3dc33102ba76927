//! Mail arrives, in order, bounded, and never while its shard sleeps on.

mod model;

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use super::*;
use crate::reactor::{BufferMode, Completion, ReactorOptions};

#[test]
fn mail_arrives_in_order_from_each_peer() {
    let mut boxes = mesh::<u32>(3, 4);
    for mail in 0..4 {
        boxes[0].send(2, mail).unwrap();
        boxes[1].send(2, 100 + mail).unwrap();
    }
    assert_eq!(boxes[0].send(2, 4), Err(4), "a full queue gives the mail back");
    assert_eq!((boxes[0].room(2), boxes[0].room(1)), (0, 4));
    assert!(boxes[2].has_mail() && !boxes[1].has_mail());

    let mut seen = Vec::new();
    assert_eq!(boxes[2].drain(3, |from, mail| seen.push((from, mail))), 6);
    assert_eq!(seen, [(0, 0), (0, 1), (0, 2), (1, 100), (1, 101), (1, 102)]);
    assert!(boxes[2].has_mail(), "the limit left some");
    boxes[0].send(2, 4).unwrap();
    seen.clear();
    assert_eq!(boxes[2].drain(10, |from, mail| seen.push((from, mail))), 3);
    assert_eq!(seen, [(0, 3), (0, 4), (1, 103)]);
    assert!(!boxes[2].has_mail());
}

#[test]
fn one_shard_has_nobody_to_write_to() {
    let mut boxes = mesh::<u32>(1, 4);
    assert_eq!(boxes[0].drain(10, |_, _| panic!("from whom?")), 0);
    assert!(!boxes[0].has_mail());
}

fn reactor() -> Uring {
    Uring::new(ReactorOptions {
        submission_entries: 8,
        completion_entries: 32,
        buffer_mode: BufferMode::Whole,
        buffer_count: 1,
        buffer_bytes: 64,
    })
    .unwrap()
}

#[test]
fn a_shard_with_mail_does_not_sleep() {
    let mut boxes = mesh::<u32>(2, 4);
    let reactors = [reactor(), reactor()];
    boxes[1].connect(&reactors[1]);
    boxes[0].send(1, 7).unwrap();
    assert!(!boxes[1].prepare_to_sleep());
    boxes[1].drain(10, |_, _| {});
    assert!(boxes[1].prepare_to_sleep());
}

#[test]
fn only_a_sleeping_shard_is_rung() {
    let mut boxes = mesh::<u32>(2, 4);
    let (mut sender, receiver) = (reactor(), reactor());
    boxes[1].connect(&receiver);
    boxes[0].send(1, 7).unwrap();
    boxes[0].ring_doorbells(&mut sender);
    assert_eq!(sender.counters().wakes, 0, "it is awake and will look");
    boxes[1].drain(10, |_, _| {});
    assert!(boxes[1].prepare_to_sleep());
    boxes[0].ring_doorbells(&mut sender);
    assert_eq!(sender.counters().wakes, 0, "it has had no mail since");
    for _ in 0..2 {
        boxes[0].send(1, 8).unwrap();
        boxes[0].ring_doorbells(&mut sender);
    }
    assert_eq!(sender.counters().wakes, 1, "once is enough");
    boxes[1].wake_up();
    boxes[1].drain(10, |_, _| {});
    assert!(boxes[1].prepare_to_sleep());
    boxes[1].wake_up();
    boxes[0].send(1, 9).unwrap();
    boxes[0].ring_doorbells(&mut sender);
    assert_eq!(sender.counters().wakes, 1, "it has woken by itself");
}

/// Shards in a ring pass tokens on and sleep between, without any other reason to wake up. A lost
/// wake-up stops all tokens of a shard; the patience of a minute is only ever used up then.
#[test]
fn no_wake_up_is_lost() {
    const HOPS: u64 = 20_000;
    // With one token for three shards there is always one asleep; with as many they meet awake.
    for (shards, tokens) in [(2, 1), (3, 1), (3, 3), (2, 5)] {
        let hops = Arc::new(AtomicU64::new(0));
        let threads: Vec<_> = mesh::<u64>(shards, tokens + shards)
            .into_iter()
            .map(|mail| {
                let hops = Arc::clone(&hops);
                thread::spawn(move || pass_on(mail, shards, tokens, &hops, HOPS))
            })
            .collect();
        let wakes: u64 = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
        assert!(wakes > 0, "they were never asleep, which tests nothing");
    }
}

/// One shard of the ring; returns how often it woke another.
fn pass_on(
    mut mail: Mailboxes<u64>,
    shards: usize,
    tokens: usize,
    hops: &AtomicU64,
    enough: u64,
) -> u64 {
    let mut reactor = reactor();
    mail.connect(&reactor);
    let next = (mail.shard() + 1) % shards;
    let mut inbox: Vec<u64> = Vec::new();
    if mail.shard() == 0 {
        inbox.extend(0..tokens as u64);
    }
    loop {
        mail.drain(tokens + shards, |_, token| inbox.push(token));
        for token in inbox.drain(..) {
            hops.fetch_add(1, Ordering::Relaxed);
            mail.send(next, token).expect("there are more places than tokens");
        }
        let over = hops.load(Ordering::Relaxed) >= enough;
        if over {
            // One more, so that the next does not sleep on when the tokens have come to rest.
            mail.send(next, 0).expect("there is a place for each shard's");
        }
        mail.ring_doorbells(&mut reactor);
        let sleeps = !over && mail.prepare_to_sleep();
        reactor.enter(Some(if sleeps { Duration::from_secs(60) } else { Duration::ZERO })).unwrap();
        mail.wake_up();
        if over {
            return reactor.counters().wakes;
        }
        let mut woken = false;
        while let Some(completion) = reactor.next() {
            woken |= matches!(completion, Completion::Woken);
        }
        assert!(woken || !sleeps || hops.load(Ordering::Relaxed) >= enough, "slept on its mail");
    }
}
