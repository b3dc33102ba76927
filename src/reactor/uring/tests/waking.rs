//! Wake-ups from the control thread and from peers.

use std::thread;

use super::*;

#[test]
fn the_control_thread_wakes_a_shard() {
    let mut world = World::modest(BufferMode::Incremental);
    for round in 1..=3 {
        let waker = world.reactor.control_waker();
        let control = thread::spawn(move || waker.wake());
        control.join().unwrap();
        world.until(|world| world.woken == round);
    }
    // Wake-ups that nobody has noticed yet are one.
    let waker = world.reactor.control_waker();
    for _ in 0..5 {
        waker.wake();
    }
    world.until(|world| world.woken == 4);
    assert_eq!(world.turn(Duration::ZERO), 0);
}

#[test]
fn a_peer_wakes_a_shard() {
    let mut world = World::modest(BufferMode::Incremental);
    let handle = world.reactor.wake_handle();
    let peer = thread::spawn(move || {
        let mut peer = World::modest(BufferMode::Incremental);
        let index = peer.reactor.add_peer(handle);
        peer.reactor.wake(index);
        assert_eq!(peer.turn(Duration::ZERO), 0, "a wake-up that works is silent");
        assert_eq!(peer.reactor.counters().wakes, 1);
    });
    world.until(|world| world.woken == 1);
    peer.join().unwrap();
}

#[test]
fn shards_wake_each_other_at_the_same_time() {
    let mut world = World::modest(BufferMode::Incremental);
    let handle = world.reactor.wake_handle();
    let (send, receive) = std::sync::mpsc::channel();
    let peer = thread::spawn(move || {
        let mut peer = World::modest(BufferMode::Incremental);
        send.send(peer.reactor.wake_handle()).unwrap();
        let index = peer.reactor.add_peer(handle);
        for round in 1..=1000 {
            peer.until(|peer| peer.woken >= round);
            peer.reactor.wake(index);
        }
        peer.turn(Duration::ZERO);
    });
    let index = world.reactor.add_peer(receive.recv().unwrap());
    for round in 1..=1000 {
        world.reactor.wake(index);
        world.until(|world| world.woken >= round);
    }
    peer.join().unwrap();
}

/// A ring that takes no message (here: something that is no ring) is woken by its eventfd.
#[test]
fn a_wake_up_that_fails_goes_the_other_way() {
    let mut world = World::modest(BufferMode::Incremental);
    let broken = world.reactor.wake_handle().with_broken_ring();
    let peer = world.reactor.add_peer(broken);
    world.reactor.wake(peer);
    world.until(|world| world.woken == 1);
}

/// A peer that has ended is no danger to the one that wakes it.
#[test]
fn waking_the_dead_is_harmless() {
    let mut world = World::modest(BufferMode::Incremental);
    let handle =
        thread::spawn(|| World::modest(BufferMode::Incremental).reactor.wake_handle()).join();
    let peer = world.reactor.add_peer(handle.unwrap());
    for _ in 0..3 {
        world.reactor.wake(peer);
        world.turn(Duration::ZERO);
    }
    assert_eq!(world.woken, 0);
}
