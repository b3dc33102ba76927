//! Bytes in and out: order, starvation, full queues, partial sends.

use std::io::{Read, Write};
use std::rc::Rc;
use std::thread;

use super::*;

#[test]
fn bytes_come_and_go() {
    for mode in MODES {
        let mut world = World::modest(mode);
        let (token, mut far) = world.connected();
        far.write_all(b"question").unwrap();
        world.until(|world| world.received(token) == b"question");
        world.reactor.send(token, buffer_of(b"answer".to_vec())).unwrap();
        world.until(|world| world.sent.len() == 1);
        let (of, buffer, result) = world.sent.pop().unwrap();
        assert_eq!((of, buffer.output.bytes.as_slice(), result), (token, &b"answer"[..], Ok(())));
        let mut answer = [0; 6];
        far.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"answer");
        drop(far);
        world.until(|world| world.ended.contains_key(&token));
        assert_eq!(world.ended[&token], ReceiveEnd::PeerClosed);
        assert!(world.reactor.is_open(token), "the caller closes, not the peer");
        world.reactor.close(token);
        world.settles();
    }
}

#[test]
fn nothing_is_received_before_it_is_asked_for() {
    let mut world = World::modest(BufferMode::Incremental);
    let (near, mut far) = pair();
    let token = world.reactor.add_socket(near);
    far.write_all(b"early").unwrap();
    assert_eq!(world.turn(Duration::ZERO), 0);
    world.reactor.start_receive(token);
    world.reactor.enter(None).unwrap();
    world.until(|world| world.received(token) == b"early");
}

/// Hazards 2 and 5: with two buffers of 64 bytes for 40 sockets nearly every receive ends for want
/// of a buffer, and with a completion queue of 8 (hazard 4) nearly every turn overflows.
#[test]
fn starved_sockets_lose_nothing() {
    const SOCKETS: usize = 40;
    const BYTES: usize = 1000;
    for mode in MODES {
        let mut world = World::tiny(mode);
        let mut peers: Vec<_> = (0..SOCKETS).map(|_| world.connected()).collect();
        for (at, (_, far)) in peers.iter_mut().enumerate() {
            far.write_all(&sequence(at * BYTES, BYTES)).unwrap();
        }
        world.until(|world| world.bytes.values().map(Vec::len).sum::<usize>() == SOCKETS * BYTES);
        for (at, (token, _)) in peers.iter().enumerate() {
            assert_eq!(world.received(*token), sequence(at * BYTES, BYTES), "{mode:?} {at}");
        }
        let counters = world.reactor.counters();
        assert!(counters.buffers_exhausted > 0, "{counters:?}");
        assert!(counters.completion_overflows > 0, "{counters:?}");
        for (token, _) in peers {
            world.reactor.close(token);
        }
        world.settles();
    }
}

#[test]
fn hoarded_chunks_stay_intact_and_starve_the_rest() {
    for mode in MODES {
        let mut world = World::tiny(mode);
        world.hoards = true;
        let (token, mut far) = world.connected();
        far.write_all(&sequence(0, 500)).unwrap();
        world.until(|world| world.reactor.counters().buffers_exhausted > 0);
        world.turn(Duration::ZERO);
        assert!(world.received(token).len() <= 128, "there are only 128 bytes of buffers");
        let hoarded: Vec<u8> =
            world.hoard.iter().flat_map(|chunk| world.reactor.bytes(chunk).to_vec()).collect();
        assert_eq!(hoarded, sequence(0, hoarded.len()));
        world.hoards = false;
        world.recycle_hoard();
        world.until(|world| world.received(token).len() == 500);
        assert_eq!(world.received(token), sequence(0, 500));
    }
}

/// In incremental mode two sockets share a buffer; a chunk in the middle may come back last.
#[test]
fn a_buffer_returns_when_its_last_chunk_does() {
    let mut world = World::tiny(BufferMode::Incremental);
    world.hoards = true;
    let (first, mut far_first) = world.connected();
    let (second, mut far_second) = world.connected();
    for round in 0..3 {
        for (token, far) in [(first, &mut far_first), (second, &mut far_second)] {
            far.write_all(&[round; 10]).unwrap();
            world.until(|world| world.received(token).len() == (usize::from(round) + 1) * 10);
        }
    }
    // 60 of the first 64 bytes are used; this fills it and goes on in the second buffer.
    far_first.write_all(&[9; 20]).unwrap();
    world.until(|world| world.received(first).len() == 50);
    assert_eq!(world.reactor.buffers.available(), 1);
    let middle = world.hoard.remove(2);
    world.recycle_hoard();
    assert_eq!(world.reactor.buffers.available(), 1, "a chunk of it is still lent");
    assert_eq!(world.reactor.bytes(&middle), [1; 10]);
    world.reactor.recycle(middle);
    assert_eq!(world.reactor.buffers.available(), 2);
}

#[test]
fn a_full_submission_queue_is_continued() {
    const SOCKETS: usize = 100;
    let mut world = World::tiny(BufferMode::Incremental);
    let peers: Vec<_> = (0..SOCKETS).map(|_| world.connected()).collect();
    for (at, (token, _)) in peers.iter().enumerate() {
        world.reactor.send(*token, buffer_of(sequence(at, 10))).unwrap();
    }
    world.until(|world| world.sent.len() == SOCKETS);
    for (at, (_, mut far)) in peers.into_iter().enumerate() {
        let mut bytes = [0; 10];
        far.read_exact(&mut bytes).unwrap();
        assert_eq!(bytes, *sequence(at, 10));
    }
}

#[test]
fn one_send_at_a_time() {
    let mut world = World::modest(BufferMode::Incremental);
    let (token, _far) = world.connected();
    assert!(world.reactor.send(token, SendBuffer::new()).is_err(), "empty");
    world.reactor.send(token, buffer_of(vec![1])).unwrap();
    let refused = world.reactor.send(token, buffer_of(vec![2])).unwrap_err();
    assert_eq!(refused.output.bytes, [2]);
    world.until(|world| world.sent.len() == 1);
    world.reactor.send(token, refused).unwrap();
    world.until(|world| world.sent.len() == 2);
}

#[test]
fn a_failed_send_says_so() {
    let mut world = World::modest(BufferMode::Incremental);
    let (token, far) = world.connected();
    drop(far);
    world.reactor.send(token, buffer_of(vec![1; 100])).unwrap();
    world.until(|world| world.sent.len() == 1);
    assert_eq!(world.sent[0].2, Err(Errno(libc::EPIPE)));
    assert_eq!(world.sent[0].1.output.bytes, [1; 100]);
}

/// More parts than one call takes (1024), and more bytes than the socket holds.
#[test]
fn shared_parts_arrive_in_place() {
    const PARTS: usize = 2500;
    let body = Rc::new(sequence(0, 200_000));
    let mut buffer = SendBuffer::new();
    let mut expected = Vec::new();
    for part in 0..PARTS {
        if part % 3 != 0 {
            let own = sequence(part, part % 40);
            buffer.output.bytes.extend_from_slice(&own);
            expected.extend_from_slice(&own);
        }
        let range = part * 70..part * 70 + part % 1000;
        expected.extend_from_slice(&body[range.clone()]);
        buffer.output.push_shared(Rc::clone(&body), range);
    }
    buffer.output.bytes.extend_from_slice(b"end");
    expected.extend_from_slice(b"end");
    assert_eq!((buffer.len(), buffer.output.shared_count()), (expected.len(), PARTS));

    let mut world = World::modest(BufferMode::Incremental);
    let (token, mut far) = world.connected();
    let reader = thread::spawn(move || {
        let mut bytes = vec![0; expected.len()];
        far.read_exact(&mut bytes).unwrap();
        assert!(bytes == expected, "the parts were mixed up");
    });
    world.reactor.send(token, buffer).unwrap();
    world.until(|world| world.sent.len() == 1);
    reader.join().unwrap();
    let (_, mut buffer, result) = world.sent.pop().unwrap();
    assert_eq!(result, Ok(()));
    assert!(world.reactor.counters().short_sends > 0);
    assert_eq!(Rc::strong_count(&body), PARTS + 1);
    buffer.clear();
    assert_eq!(Rc::strong_count(&body), 1);
    assert!(buffer.is_empty() && buffer.output.bytes.capacity() > 0);
}

/// The user data of each answer names the right socket while many are at it.
#[test]
fn many_connections_hear_their_own_echo() {
    const CONNECTIONS: usize = 150;
    const BYTES: usize = 3000;
    for mode in MODES {
        let mut world = World::modest(mode);
        let (tokens, fars): (Vec<_>, Vec<_>) = (0..CONNECTIONS).map(|_| world.connected()).unzip();
        let clients = thread::spawn(move || {
            for round in 0..4 {
                for (at, mut far) in fars.iter().enumerate() {
                    far.write_all(&sequence(at * 31 + round, BYTES)).unwrap();
                }
                for (at, mut far) in fars.iter().enumerate() {
                    let mut bytes = vec![0; BYTES];
                    far.read_exact(&mut bytes).unwrap();
                    assert!(bytes == sequence(at * 31 + round, BYTES), "not what {at} said");
                }
            }
        });
        world.until(|world| {
            world.sent.clear();
            for token in &tokens {
                let Some(bytes) = world.bytes.remove(token) else { continue };
                if let Err(refused) = world.reactor.send(*token, buffer_of(bytes)) {
                    world.bytes.insert(*token, refused.output.bytes);
                }
            }
            world.ended.len() == CONNECTIONS
        });
        clients.join().unwrap();
        assert_eq!(world.reactor.counters().sent_bytes, (4 * CONNECTIONS * BYTES) as u64);
    }
}
