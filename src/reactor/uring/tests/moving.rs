//! Moving a connection to another thread's reactor.

use std::io::Write;
use std::sync::mpsc;
use std::thread;

use super::*;

#[test]
fn a_stopped_receive_leaves_bytes_in_the_socket() {
    for mode in MODES {
        let mut world = World::modest(mode);
        let (token, mut far) = world.connected();
        far.write_all(b"before").unwrap();
        world.until(|world| world.received(token) == b"before");
        assert!(world.reactor.detach(token).is_none(), "it still receives");
        world.reactor.stop_receive(token);
        assert!(world.reactor.detach(token).is_none(), "it has not stopped yet");
        world.until(|world| world.ended.contains_key(&token));
        assert_eq!(world.ended[&token], ReceiveEnd::Stopped);
        far.write_all(b"after").unwrap();
        assert_eq!(world.turn(Duration::ZERO), 0);

        world.ended.clear();
        world.bytes.clear();
        world.reactor.start_receive(token);
        world.until(|world| world.received(token) == b"after");
        world.reactor.stop_receive(token);
        world.reactor.stop_receive(token);
        world.until(|world| world.ended.contains_key(&token));
        let socket = world.reactor.detach(token).unwrap();
        assert!(!world.reactor.is_open(token));
        world.settles();
        let again = world.reactor.add_socket(socket);
        assert_ne!(token, again);
    }
}

#[test]
fn a_starved_receive_can_be_stopped() {
    for mode in MODES {
        let mut world = World::tiny(mode);
        world.hoards = true;
        let (token, mut far) = world.connected();
        far.write_all(&sequence(0, 500)).unwrap();
        world.until(|world| world.reactor.counters().buffers_exhausted > 0);
        world.turn(Duration::ZERO);
        world.reactor.stop_receive(token);
        world.until(|world| world.ended.contains_key(&token));
        assert_eq!(world.ended[&token], ReceiveEnd::Stopped);
        world.hoards = false;
        world.recycle_hoard();
        assert_eq!(world.turn(Duration::ZERO), 0);
        world.ended.clear();
        world.reactor.start_receive(token);
        world.until(|world| world.received(token).len() == 500);
        assert_eq!(world.received(token), sequence(0, 500));
    }
}

#[test]
fn a_socket_with_a_send_outstanding_does_not_move() {
    let mut world = World::modest(BufferMode::Incremental);
    let (near, _far) = pair();
    let token = world.reactor.add_socket(near);
    world.reactor.send(token, buffer_of(vec![0; 4 << 20])).unwrap();
    world.turn(Duration::ZERO);
    assert!(world.reactor.detach(token).is_none());
    world.reactor.abort(token);
    world.settles();
}

/// Streams keep coming while their sockets move from reactor to reactor and back.
#[test]
fn moving_a_busy_socket_loses_no_byte() {
    const STREAMS: usize = 8;
    const BYTES: usize = 400_000;
    const MOVE_AFTER: usize = 30_000;
    type Parcel = (usize, OwnedFd, Vec<u8>);
    let (to_first, from_second) = mpsc::channel::<Parcel>();
    let (to_second, from_first) = mpsc::channel::<Parcel>();
    let (done, finished) = mpsc::channel::<(usize, Vec<u8>)>();
    let mut writers = Vec::new();
    for stream in 0..STREAMS {
        let (near, mut far) = pair();
        to_first.send((stream, near, Vec::new())).unwrap();
        writers.push(thread::spawn(move || {
            for part in 0..BYTES / 1000 {
                far.write_all(&sequence(stream * BYTES + part * 1000, 1000)).unwrap();
            }
        }));
    }
    let shard = |inbox: mpsc::Receiver<Parcel>, outbox: mpsc::Sender<Parcel>| {
        let done = done.clone();
        thread::spawn(move || {
            let mut world = World::modest(BufferMode::Incremental);
            let mut here: HashMap<Token, (usize, Vec<u8>)> = HashMap::new();
            let mut silent = 0;
            loop {
                match inbox.try_recv() {
                    Ok((stream, socket, bytes)) => {
                        let token = world.reactor.add_socket(socket);
                        world.reactor.start_receive(token);
                        here.insert(token, (stream, bytes));
                    }
                    Err(mpsc::TryRecvError::Empty) => {}
                    Err(mpsc::TryRecvError::Disconnected) if here.is_empty() => return,
                    Err(mpsc::TryRecvError::Disconnected) => {}
                }
                let count = world.turn(Duration::from_millis(1));
                silent = if count == 0 { silent + 1 } else { 0 };
                if silent == 20_000 {
                    return;
                }
                for (token, (_, bytes)) in &mut here {
                    let Some(new) = world.bytes.remove(token) else { continue };
                    let before = bytes.len() / MOVE_AFTER;
                    bytes.extend_from_slice(&new);
                    if bytes.len() / MOVE_AFTER > before {
                        world.reactor.stop_receive(*token);
                    }
                }
                for (token, cause) in world.ended.drain() {
                    let (stream, bytes) = here.remove(&token).unwrap();
                    if cause == ReceiveEnd::Stopped {
                        let socket = world.reactor.detach(token).unwrap();
                        if outbox.send((stream, socket, bytes)).is_err() {
                            return;
                        }
                    } else {
                        world.reactor.close(token);
                        done.send((stream, bytes)).unwrap();
                    }
                }
            }
        })
    };
    let shards = [shard(from_second, to_second), shard(from_first, to_first)];
    for _ in 0..STREAMS {
        let (stream, bytes) = finished.recv_timeout(Duration::from_secs(30)).unwrap();
        assert!(bytes == sequence(stream * BYTES, BYTES), "stream {stream}: {} bytes", bytes.len());
    }
    for writer in writers {
        writer.join().unwrap();
    }
    drop(shards);
}
