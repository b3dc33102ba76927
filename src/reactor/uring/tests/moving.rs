//! Moving a connection to another thread's reactor.

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
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

/// A stream on its way between shards: its number, its socket, and what was received so far.
type Parcel = (usize, OwnedFd, Vec<u8>);

const STREAMS: usize = 8;
const BYTES: usize = 400_000;
const MOVE_AFTER: usize = 30_000;

/// Streams keep coming while their sockets move from reactor to reactor and back.
#[test]
fn moving_a_busy_socket_loses_no_byte() {
    let (to_first, from_second) = mpsc::channel();
    let (to_second, from_first) = mpsc::channel();
    let (done, finished) = mpsc::channel();
    let over = Arc::new(AtomicBool::new(false));
    let (mut writers, mut shards) = (Vec::new(), Vec::new());
    for stream in 0..STREAMS {
        let (near, mut far) = pair();
        to_first.send((stream, near, Vec::new())).unwrap();
        writers.push(thread::spawn(move || {
            for part in 0..BYTES / 1000 {
                far.write_all(&sequence(stream * BYTES + part * 1000, 1000)).unwrap();
            }
        }));
    }
    for (inbox, outbox) in [(from_second, to_second), (from_first, to_first)] {
        let (done, over) = (done.clone(), Arc::clone(&over));
        shards.push(thread::spawn(move || Shard::new(outbox, done).run(&inbox, &over)));
    }
    for _ in 0..STREAMS {
        let (stream, bytes) = finished.recv_timeout(Duration::from_secs(30)).unwrap();
        assert!(bytes == sequence(stream * BYTES, BYTES), "stream {stream}: {} bytes", bytes.len());
    }
    over.store(true, Ordering::Relaxed);
    for thread in writers.into_iter().chain(shards) {
        thread.join().unwrap();
    }
}

/// Receives streams, and gives each away after every `MOVE_AFTER` bytes.
struct Shard {
    world: World,
    streams: HashMap<Token, (usize, Vec<u8>)>,
    outbox: mpsc::Sender<Parcel>,
    done: mpsc::Sender<(usize, Vec<u8>)>,
}

impl Shard {
    fn new(outbox: mpsc::Sender<Parcel>, done: mpsc::Sender<(usize, Vec<u8>)>) -> Self {
        let world = World::modest(BufferMode::Incremental);
        Self { world, streams: HashMap::new(), outbox, done }
    }

    fn run(mut self, inbox: &mpsc::Receiver<Parcel>, over: &AtomicBool) {
        while !over.load(Ordering::Relaxed) {
            while let Ok((stream, socket, bytes)) = inbox.try_recv() {
                let token = self.world.reactor.add_socket(socket);
                self.world.reactor.start_receive(token);
                self.streams.insert(token, (stream, bytes));
            }
            self.world.turn(Duration::from_millis(1));
            self.take_bytes();
            self.pass_on();
        }
    }

    fn take_bytes(&mut self) {
        for (token, (_, bytes)) in &mut self.streams {
            let Some(new) = self.world.bytes.remove(token) else { continue };
            let before = bytes.len() / MOVE_AFTER;
            bytes.extend_from_slice(&new);
            if bytes.len() / MOVE_AFTER > before {
                self.world.reactor.stop_receive(*token);
            }
        }
    }

    fn pass_on(&mut self) {
        for (token, cause) in self.world.ended.drain() {
            let (stream, bytes) = self.streams.remove(&token).unwrap();
            if cause == ReceiveEnd::Stopped {
                let socket = self.world.reactor.detach(token).unwrap();
                self.outbox.send((stream, socket, bytes)).unwrap();
            } else {
                self.world.reactor.close(token);
                self.done.send((stream, bytes)).unwrap();
            }
        }
    }
}
