//! The end of sockets: dead tokens, late completions, lingering sends, the end of the reactor.

use std::io::{Read, Write};
use std::rc::Rc;

use super::*;

/// More than a socket holds, so that sending it waits for the peer.
const MUCH: usize = 4 << 20;

fn rest_of(far: &mut UnixStream) -> usize {
    let mut bytes = Vec::new();
    let read = far.read_to_end(&mut bytes).unwrap();
    assert!(bytes == sequence(0, read), "the peer got other bytes");
    read
}

/// Patience has been called off, not waited for: only the read of the eventfd is in flight.
fn nothing_is_left(world: &mut World) {
    for _ in 0..3 {
        world.turn(Duration::ZERO);
    }
    assert_eq!(world.reactor.queue.in_flight(), 1);
}

#[test]
fn a_closed_socket_finishes_its_send() {
    let mut world = World::modest(BufferMode::Incremental);
    let (token, mut far) = world.connected();
    world.reactor.send(token, buffer_of(sequence(0, MUCH))).unwrap();
    world.turn(Duration::ZERO);
    world.reactor.close(token);
    assert!(!world.reactor.is_open(token));
    let reader = std::thread::spawn(move || rest_of(&mut far));
    world.settles();
    assert_eq!(reader.join().unwrap(), MUCH);
    assert!(world.sent.is_empty() && world.ended.is_empty(), "the token was dead");
    assert_eq!(world.reactor.counters().lingers_cut, 0);
    nothing_is_left(&mut world);
}

/// Closes a socket whose peer does not read, then cuts it off in one way or another.
fn cut_off(cut: impl FnOnce(&mut World, Token)) -> World {
    let mut world = World::modest(BufferMode::Incremental);
    let body = Rc::new(sequence(0, MUCH));
    let (token, mut far) = world.connected();
    let mut buffer = SendBuffer::new();
    buffer.output.push_shared(Rc::clone(&body), 0..MUCH);
    world.reactor.send(token, buffer).unwrap();
    world.turn(Duration::ZERO);
    world.reactor.close(token);
    for _ in 0..3 {
        world.turn(Duration::from_millis(1));
    }
    assert_eq!(world.reactor.sockets(), 1, "it waits for the peer");
    assert_eq!(Rc::strong_count(&body), 2, "hazard 1: the kernel still reads it");
    cut(&mut world, token);
    world.settles();
    assert_eq!(Rc::strong_count(&body), 1);
    assert!(rest_of(&mut far) < MUCH);
    assert!(world.sent.is_empty() && world.ended.is_empty(), "the token was dead");
    world
}

#[test]
fn a_closed_socket_can_be_cut_off() {
    let mut world = cut_off(|world, token| world.reactor.abort(token));
    nothing_is_left(&mut world);
}

#[test]
fn patience_with_a_closed_socket_ends() {
    let world = cut_off(|world, token| world.reactor.linger_ended(token));
    assert_eq!(world.reactor.counters().lingers_cut, 1);
}

#[test]
fn aborting_does_not_wait_for_the_peer() {
    let mut world = World::modest(BufferMode::Incremental);
    let (token, _far) = world.connected();
    world.reactor.send(token, buffer_of(sequence(0, MUCH))).unwrap();
    world.turn(Duration::ZERO);
    world.reactor.abort(token);
    world.settles();
    assert!(world.sent.is_empty() && world.ended.is_empty());
}

/// Hazards 2 and 3: completions that were already there when the socket was closed return their
/// buffers and surface nowhere, least of all at the next socket in the same place.
#[test]
fn late_completions_reach_nobody() {
    for mode in MODES {
        let mut world = World::modest(mode);
        let (first, mut far) = world.connected();
        world.turn(Duration::ZERO);
        far.write_all(&sequence(0, 5000)).unwrap();
        world.reactor.enter(Some(TURN)).unwrap();
        assert!(world.reactor.queue.has_completions(), "bytes have arrived");
        world.reactor.close(first);
        let (second, mut far_second) = world.connected();
        assert_ne!(first.index, second.index, "the place is not free before the kernel is done");
        far_second.write_all(b"second").unwrap();
        world.until(|world| world.reactor.sockets() == 1);

        let (third, mut far_third) = world.connected();
        assert_eq!(first.index, third.index);
        assert_ne!(first, third);
        far_third.write_all(b"third").unwrap();
        world.until(|world| world.received(third).len() + world.received(second).len() == 11);
        assert_eq!(
            (world.received(second), world.received(third)),
            (&b"second"[..], &b"third"[..])
        );

        world.reactor.close(first);
        world.reactor.abort(first);
        world.reactor.stop_receive(first);
        assert!(world.reactor.send(first, buffer_of(vec![1])).is_err());
        assert!(world.reactor.detach(first).is_none());
        assert!(world.reactor.is_open(third), "a stale token touches nobody");
        assert!(world.received(first).is_empty());
        world.reactor.close(second);
        world.reactor.close(third);
        world.settles();
    }
}

#[test]
fn a_starved_socket_can_be_closed() {
    let mut world = World::tiny(BufferMode::Whole);
    world.hoards = true;
    let (token, mut far) = world.connected();
    far.write_all(&sequence(0, 500)).unwrap();
    world.until(|world| world.reactor.counters().buffers_exhausted > 0);
    world.turn(Duration::ZERO);
    world.reactor.close(token);
    assert_eq!(world.reactor.sockets(), 0, "nothing was outstanding");
    world.recycle_hoard();
    world.settles();
}

#[test]
fn a_reset_connection_is_an_error() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let far = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (near, _) = listener.accept().unwrap();
    let mut world = World::modest(BufferMode::Incremental);
    let token = world.reactor.add_socket(near.into());
    world.reactor.start_receive(token);
    world.turn(Duration::ZERO);
    rustix::net::sockopt::set_socket_linger(&far, Some(Duration::ZERO)).unwrap();
    drop(far);
    world.until(|world| world.ended.contains_key(&token));
    assert_eq!(world.ended[&token], ReceiveEnd::Error(Errno(libc::ECONNRESET)));
}

/// Hazard 1: the reactor goes only after the kernel has let go of everything.
#[test]
fn the_reactor_ends_with_everything_outstanding() {
    let mut world = World::modest(BufferMode::Incremental);
    let body = Rc::new(sequence(0, MUCH));
    let mut peers: Vec<_> = (0..20).map(|_| world.connected()).collect();
    for (token, far) in &mut peers {
        let mut buffer = SendBuffer::new();
        buffer.output.push_shared(Rc::clone(&body), 0..MUCH);
        world.reactor.send(*token, buffer).unwrap();
        far.write_all(b"unread").unwrap();
    }
    world.turn(Duration::ZERO);
    // Half are submitted and reaped, half not even submitted.
    for (_, far) in &mut peers[..10] {
        far.write_all(b"unread").unwrap();
    }
    world.reactor.enter(Some(Duration::ZERO)).unwrap();
    let (_late, _far) = world.connected();
    drop(world);
    assert_eq!(Rc::strong_count(&body), 1, "the buffers were leaked, not freed");
    for (_, mut far) in peers {
        let mut sink = Vec::new();
        // The descriptor is closed, with bytes unread, which a unix socket calls a reset.
        let _ = far.read_to_end(&mut sink);
        assert!(sink.len() < MUCH);
    }
}
