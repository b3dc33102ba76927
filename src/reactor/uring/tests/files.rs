//! Requests for files against a real directory; a real log's trace against the simulated disk.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use ringmain_storage::buffer::{AlignedBuffer, BLOCK_BYTES};
use ringmain_storage::faulty_disk::FaultyDisk;
use ringmain_storage::log::{Io, Log, LogOptions};
use ringmain_storage::recovery::recover;
use ringmain_storage::request::{
    Completion, Disk, FileName, IoError, LogKey, Operation, Outcome, Request, Slot, Ticket,
};
use ringmain_storage::segment::SegmentId;
use tempfile::TempDir;

use super::*;
use crate::limits;

pub(super) const LOG: LogKey = LogKey(7);
pub(super) const A: FileName = FileName::Checkpoint(Slot::A);
const B: FileName = FileName::Checkpoint(Slot::B);

/// A reactor that executes requests one after the other, for one log.
pub(super) struct RingDisk {
    pub(super) world: World,
    pub(super) directory: PathBuf,
}

impl RingDisk {
    pub(super) fn new(root: &std::path::Path) -> Self {
        let mut world = World::modest(BufferMode::Incremental);
        let directory = root.join("log");
        world.reactor.open_log(LOG, &directory).unwrap();
        Self { world, directory }
    }

    pub(super) fn submit(&mut self, number: usize, operation: Operation) {
        let ticket = Ticket::without_log(number);
        self.world.reactor.submit_file(Request { log: LOG, ticket, operation });
    }

    pub(super) fn result(&mut self, operation: Operation) -> Result<Outcome, IoError> {
        self.execute(Request { log: LOG, ticket: Ticket::without_log(0), operation }).result
    }

    pub(super) fn does(&mut self, operation: Operation) {
        assert_eq!(self.result(operation).unwrap(), Outcome::Done);
    }

    /// A log with one open file.
    pub(super) fn with_file(root: &std::path::Path) -> Self {
        let mut disk = Self::new(root);
        disk.does(Operation::MakeDirectory);
        disk.does(Operation::Create { file: A });
        disk
    }

    fn listing(&mut self) -> Vec<(String, u64)> {
        let Ok(Outcome::Listing(mut listing)) = self.result(Operation::List) else {
            panic!("no listing")
        };
        listing.sort();
        listing
    }

    /// Descriptors of this process on files below the log's directory, and on itself.
    fn descriptors(&self) -> usize {
        let links = fs::read_dir("/proc/self/fd").unwrap();
        let targets = links.filter_map(|link| fs::read_link(link.unwrap().path()).ok());
        targets.filter(|target| target.starts_with(&self.directory)).count()
    }
}

impl Disk for RingDisk {
    fn execute(&mut self, request: Request) -> Completion {
        self.world.reactor.submit_file(request);
        self.world.until(|world| !world.files.is_empty());
        let completion = self.world.files.pop().unwrap();
        assert!(self.world.files.is_empty(), "one answer per request");
        completion
    }
}

pub(super) fn filled(bytes: usize, value: u8) -> AlignedBuffer {
    let mut buffer = AlignedBuffer::zeroed(bytes);
    buffer.as_mut_bytes().fill(value);
    buffer
}

pub(super) fn write(file: FileName, offset: u64, buffer: AlignedBuffer) -> Operation {
    let range = 0..buffer.capacity_bytes();
    Operation::Write { file, offset, buffer, range }
}

fn read(file: FileName, offset: u64, bytes: usize) -> Operation {
    Operation::Read { file, offset, buffer: filled(bytes, 0xee), range: 0..bytes }
}

fn error(errno: i32) -> Result<Outcome, IoError> {
    Err(IoError { errno })
}

#[test]
fn every_operation_does_what_it_says() {
    let root = TempDir::new().unwrap();
    let mut disk = RingDisk::new(root.path());
    assert_eq!(disk.listing(), [], "no directory is an empty one");
    disk.does(Operation::MakeDirectory);
    disk.does(Operation::MakeDirectory);
    disk.does(Operation::Create { file: A });
    let path = disk.directory.join("checkpoint.a");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(&disk.directory).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(disk.result(Operation::Create { file: A }), error(libc::EEXIST));

    disk.does(Operation::Preallocate { file: A, bytes: 4 * 4096 });
    disk.does(Operation::Preallocate { file: A, bytes: 4096 });
    assert_eq!(disk.listing(), [("checkpoint.a".to_owned(), 4 * 4096)], "it never shrinks");

    let mut buffer = filled(3 * BLOCK_BYTES, 1);
    buffer.as_mut_bytes()[BLOCK_BYTES..2 * BLOCK_BYTES].fill(2);
    let range = BLOCK_BYTES..3 * BLOCK_BYTES;
    let request = Operation::Write { file: A, offset: 4096, buffer, range };
    assert_eq!(disk.result(request), Ok(Outcome::Bytes(8192)));
    disk.does(Operation::Sync { file: A });
    disk.does(Operation::SyncDirectory);
    let bytes = fs::read(&path).unwrap();
    let sums: Vec<_> = bytes.chunks(4096).map(|block| (block[0], block[4095])).collect();
    assert_eq!(sums, [(0, 0), (2, 2), (1, 1), (0, 0)]);

    disk.does(Operation::Rename { from: A, to: B });
    assert_eq!(disk.result(Operation::Sync { file: A }), error(libc::EBADF));
    let buffer = filled(3 * BLOCK_BYTES, 0xee);
    let operation = Operation::Read { file: B, offset: 8192, buffer, range: 4096..3 * BLOCK_BYTES };
    let ticket = Ticket::without_log(9);
    let completion = disk.execute(Request { log: LOG, ticket, operation });
    assert_eq!(completion.ticket, ticket);
    assert_eq!(completion.result, Ok(Outcome::Bytes(8192)));
    let buffer = completion.buffer.unwrap();
    let values: Vec<_> = buffer.as_bytes().chunks(4096).map(|block| block[7]).collect();
    assert_eq!(values, [0xee, 1, 0], "only the range is filled");

    disk.does(Operation::Close { file: B });
    assert_eq!(disk.result(Operation::Close { file: B }), error(libc::EBADF));
    disk.does(Operation::Open { file: B });
    disk.does(Operation::Open { file: B });
    assert_eq!(disk.descriptors(), 2, "the directory and one file");
    disk.does(Operation::Remove { file: B });
    assert_eq!(disk.result(Operation::Remove { file: B }), error(libc::ENOENT));
    assert_eq!(disk.result(Operation::Open { file: B }), error(libc::ENOENT));
    assert_eq!(disk.listing(), []);
    disk.world.until(|world| world.reactor.queue.in_flight() == 1);
    assert_eq!(disk.descriptors(), 1, "a removed file does not stay open");
    assert!(disk.world.buffered.is_empty());
}

#[test]
fn a_rename_replaces_nothing() {
    let root = TempDir::new().unwrap();
    let mut disk = RingDisk::with_file(root.path());
    disk.does(Operation::Create { file: B });
    assert_eq!(disk.result(Operation::Rename { from: A, to: B }), error(libc::EEXIST));
    assert_eq!(disk.listing().len(), 2);
    disk.does(Operation::Sync { file: A });
}

#[test]
fn wrong_requests_are_answered() {
    let root = TempDir::new().unwrap();
    let mut disk = RingDisk::with_file(root.path());
    let (buffer, range) = (filled(8192, 0), 0..8192);
    let wrong = [
        Operation::Write { file: A, offset: 512, buffer, range: range.clone() },
        Operation::Write { file: A, offset: 0, buffer: filled(8192, 0), range: 1..8192 },
        Operation::Read { file: A, offset: 0, buffer: filled(8192, 0), range: 0..12288 },
        Operation::Read { file: A, offset: u64::MAX - 4095, buffer: filled(8192, 0), range },
    ];
    for operation in wrong {
        let ticket = Ticket::without_log(1);
        let completion = disk.execute(Request { log: LOG, ticket, operation });
        assert_eq!(completion.result, error(libc::EINVAL));
        assert_eq!(completion.buffer.unwrap().capacity_bytes(), 8192, "the buffer comes back");
    }
    let operation = Operation::Read { file: A, offset: 0, buffer: filled(4096, 0), range: 0..0 };
    assert_eq!(disk.result(operation), Ok(Outcome::Bytes(0)));
    assert_eq!(disk.result(read(B, 0, 4096)), error(libc::EBADF));
    let unknown = LogKey(8);
    let request =
        Request { log: unknown, ticket: Ticket::without_log(1), operation: Operation::List };
    assert_eq!(disk.execute(request).result, error(libc::ENOENT));
    let again = disk.world.reactor.open_log(LOG, root.path()).unwrap_err();
    assert_eq!(again.kind(), std::io::ErrorKind::AlreadyExists);
    let elsewhere = root.path().join("no/such");
    disk.world.reactor.open_log(unknown, &elsewhere).unwrap();
    let operation = Operation::MakeDirectory;
    let request = Request { log: unknown, ticket: Ticket::without_log(1), operation };
    assert_eq!(disk.execute(request).result, error(libc::ENOENT));
}

#[test]
fn reads_end_with_the_file() {
    let root = TempDir::new().unwrap();
    let mut disk = RingDisk::with_file(root.path());
    fs::write(disk.directory.join("checkpoint.a"), sequence(0, 10_000)).unwrap();
    let table = [(0, 16384, 10_000), (8192, 4096, 1808), (4096, 4096, 4096), (12288, 4096, 0)];
    for (offset, wanted, got) in table {
        let operation = read(A, offset, wanted);
        let ticket = Ticket::without_log(1);
        let completion = disk.execute(Request { log: LOG, ticket, operation });
        assert_eq!(completion.result, Ok(Outcome::Bytes(got)), "{wanted} bytes at {offset}");
        let buffer = completion.buffer.unwrap();
        let expected = sequence(usize::try_from(offset).unwrap(), got);
        assert!(buffer.as_bytes()[..got] == expected[..]);
    }
}

/// More than are given to the kernel at a time, on a tiny ring; each answer is told by its ticket.
#[test]
fn many_may_be_outstanding() {
    const COUNT: usize = limits::FILE_REQUESTS_MAX + 1000;
    const BLOCKS: u8 = 64;
    let root = TempDir::new().unwrap();
    let mut disk = RingDisk::with_file(root.path());
    let blocks: Vec<u8> = (0..BLOCKS).flat_map(|block| vec![block; 4096]).collect();
    fs::write(disk.directory.join("checkpoint.a"), blocks).unwrap();
    for number in 0..COUNT {
        disk.submit(number, read(A, (number % usize::from(BLOCKS) * 4096) as u64, 4096));
    }
    disk.submit(COUNT, Operation::Close { file: A });
    disk.world.until(|world| world.files.len() == COUNT + 1);
    let mut seen = vec![false; COUNT];
    for completion in disk.world.files.drain(..) {
        let number = (0..=COUNT).find(|n| Ticket::without_log(*n) == completion.ticket).unwrap();
        if number == COUNT {
            assert_eq!(completion.result, Ok(Outcome::Done));
            continue;
        }
        assert_eq!(completion.result, Ok(Outcome::Bytes(4096)));
        let buffer = completion.buffer.unwrap();
        assert_eq!(usize::from(buffer.as_bytes()[99]), number % usize::from(BLOCKS));
        assert!(!std::mem::replace(&mut seen[number], true), "{number} is answered twice");
    }
    assert!(seen.iter().all(|seen| *seen));
    assert_eq!(disk.descriptors(), 1);
}

/// What is quick overtakes what is slow, and a closed log's requests are answered all the same.
#[test]
fn a_log_is_closed_with_requests_outstanding() {
    let root = TempDir::new().unwrap();
    let mut disk = RingDisk::with_file(root.path());
    for number in 0..20 {
        disk.submit(number, write(A, number as u64 * 65536, filled(65536, 5)));
    }
    disk.submit(20, Operation::Create { file: B });
    disk.world.reactor.close_log(LOG);
    disk.submit(21, Operation::Sync { file: A });
    disk.world.until(|world| world.files.len() == 22);
    let refused: Vec<_> = disk.world.files.iter().filter(|c| c.result.is_err()).collect();
    // The one that came after the end and the one whose file had no log to go to.
    assert_eq!(refused.len(), 2);
    disk.world.until(|world| world.reactor.queue.in_flight() == 1);
    assert_eq!(disk.descriptors(), 0);
    assert_eq!(fs::read(disk.directory.join("checkpoint.a")).unwrap(), vec![5; 20 * 65536]);
    disk.world.reactor.open_log(LOG, &disk.directory).unwrap();
}

/// Hazard 1: nothing is freed or closed before the kernel is done with it.
#[test]
fn the_reactor_ends_with_requests_outstanding() {
    let root = TempDir::new().unwrap();
    for round in 0..8 {
        let _ = fs::remove_dir_all(root.path().join("log"));
        let mut disk = RingDisk::with_file(root.path());
        for number in 0..40 {
            disk.submit(number, write(A, number as u64 * 65536, filled(65536, 5)));
        }
        disk.submit(40, Operation::Create { file: B });
        disk.submit(41, Operation::Close { file: A });
        disk.submit(42, Operation::SyncDirectory);
        for _ in 0..round {
            disk.world.reactor.enter(Some(Duration::ZERO)).unwrap();
        }
        let RingDisk { world, directory } = disk;
        drop(world);
        let disk = RingDisk { world: World::modest(BufferMode::Whole), directory };
        assert_eq!(disk.descriptors(), 0, "descriptors are left in round {round}");
        let bytes = fs::read(disk.directory.join("checkpoint.a")).unwrap();
        assert!(bytes.chunks(4096).all(|block| block == [5; 4096] || block == [0; 4096]));
    }
}

/// Executes on the simulated disk and on the ring, and compares what they say.
struct BothDisks {
    simulated: FaultyDisk,
    ring: RingDisk,
    requests: usize,
}

fn copied(operation: &Operation) -> Operation {
    let copy = |buffer: &AlignedBuffer| {
        let mut copy = AlignedBuffer::zeroed(buffer.capacity_bytes());
        copy.as_mut_bytes().copy_from_slice(buffer.as_bytes());
        copy
    };
    match operation {
        Operation::MakeDirectory => Operation::MakeDirectory,
        Operation::List => Operation::List,
        Operation::SyncDirectory => Operation::SyncDirectory,
        Operation::Create { file } => Operation::Create { file: *file },
        Operation::Open { file } => Operation::Open { file: *file },
        Operation::Close { file } => Operation::Close { file: *file },
        Operation::Preallocate { file, bytes } => {
            Operation::Preallocate { file: *file, bytes: *bytes }
        }
        Operation::Write { file, offset, buffer, range } => {
            let (file, offset, buffer, range) = (*file, *offset, copy(buffer), range.clone());
            Operation::Write { file, offset, buffer, range }
        }
        Operation::Read { file, offset, buffer, range } => {
            let (file, offset, buffer, range) = (*file, *offset, copy(buffer), range.clone());
            Operation::Read { file, offset, buffer, range }
        }
        Operation::Sync { file } => Operation::Sync { file: *file },
        Operation::Rename { from, to } => Operation::Rename { from: *from, to: *to },
        Operation::Remove { file } => Operation::Remove { file: *file },
    }
}

impl Disk for BothDisks {
    fn execute(&mut self, request: Request) -> Completion {
        self.requests += 1;
        let (log, ticket) = (request.log, request.ticket);
        let told = format!("{:?}", request.operation);
        let copy = Request { log, ticket, operation: copied(&request.operation) };
        let mut simulated = self.simulated.execute(copy);
        let mut real = self.ring.execute(request);
        for completion in [&mut simulated, &mut real] {
            if let Ok(Outcome::Listing(listing)) = &mut completion.result {
                listing.sort();
            }
        }
        assert_eq!(simulated.result, real.result, "{told}");
        assert_eq!(simulated.ticket, real.ticket);
        let bytes = |completion: &Completion| {
            completion.buffer.as_ref().map(|buffer| buffer.as_bytes().to_vec())
        };
        assert!(bytes(&simulated) == bytes(&real), "other bytes: {told}");
        real
    }
}

impl BothDisks {
    fn drain(&mut self, log: &mut Log, io: &mut Io) {
        while !io.requests.is_empty() {
            for request in std::mem::take(&mut io.requests) {
                let completion = self.execute(request);
                log.complete(completion, io);
            }
        }
    }

    fn files(&self) -> (BTreeMap<String, Vec<u8>>, BTreeMap<String, Vec<u8>>) {
        let names = self.simulated.files().into_iter().map(|(name, _)| name);
        let simulated = names.map(|name| {
            let bytes = self.simulated.bytes(&name).unwrap().to_vec();
            (name, bytes)
        });
        let real = fs::read_dir(&self.ring.directory).unwrap().map(|entry| {
            let entry = entry.unwrap();
            (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())
        });
        (simulated.collect(), real.collect())
    }
}

/// A log's whole life: recovered from nothing, filled, reclaimed, closed, recovered again.
#[test]
fn a_log_leaves_the_same_bytes_as_on_the_simulated_disk() {
    let root = TempDir::new().unwrap();
    let (simulated, ring) = (FaultyDisk::new(1), RingDisk::new(root.path()));
    let mut disk = BothDisks { simulated, ring, requests: 0 };
    let options = LogOptions {
        segment_bytes_first: 8 * 4096,
        segment_bytes_max: 16 * 4096,
        commit_bytes_max: 6 * 4096,
        read_bytes: 8192,
        read_blocks_max: 2,
        open_segments_max: 1,
        spares_max: 2,
    };
    for seed in 1..4 {
        let (mut log, report) = recover(LOG, options, seed, &mut disk).unwrap();
        assert!(report.is_clean());
        let mut io = Io::new(1 << 20);
        let cursor = match log.cursors().find(b"channel") {
            Some(cursor) => cursor,
            None => log.create_cursor(b"channel", 0, &mut io),
        };
        for turn in 0..120 {
            let body = sequence(turn * 31, 1 + turn * 97 % 5000);
            let appended = log.append_message(&[&body], &mut io).unwrap();
            if turn % 3 == 0 {
                log.commit(&mut io);
                log.sync(&mut io);
            }
            disk.drain(&mut log, &mut io);
            if turn % 2 == 0 {
                log.cursor_mut(cursor).unwrap().finish(appended);
            }
            if turn % 10 == 0 {
                log.checkpoint(&mut io);
            }
        }
        log.close(&mut io);
        disk.drain(&mut log, &mut io);
        assert!(log.is_closed());
        let (simulated, real) = disk.files();
        assert!(simulated.keys().eq(real.keys()), "{:?} {:?}", simulated.keys(), real.keys());
        assert!(simulated == real, "a file differs");
        // The program ends; the next one begins with nothing open.
        disk.simulated.kill();
        disk.ring.world.reactor.close_log(LOG);
        disk.ring.world.until(|world| world.reactor.queue.in_flight() == 1);
        assert_eq!(disk.ring.descriptors(), 0);
        disk.ring.world.reactor.open_log(LOG, &disk.ring.directory).unwrap();
    }
    assert!(disk.requests > 500, "{} requests", disk.requests);
    let name = FileName::Segment(SegmentId(1)).to_string();
    assert!(disk.files().1.keys().any(|file| file.len() == name.len()));
}
