//! The machine without a kernel: results are made up, so that every fault can be had.

use std::ops::Range;
use std::os::fd::AsRawFd;

use ringmain_storage::request::{Operation, Slot};

use super::*;

const LOG: LogKey = LogKey(3);
const A: FileName = FileName::Checkpoint(Slot::A);
const B: FileName = FileName::Checkpoint(Slot::B);
const NOTHING_DUE: &str = "the machine asks for nothing";

/// A machine and what it has counted.
#[derive(Default)]
struct Machine {
    files: Files,
    counters: Counters,
}

impl Machine {
    /// One with a log whose directory and first file are open.
    fn new() -> Self {
        let mut machine = Self::default();
        machine.files.open_log(LOG, Path::new("/nowhere/log")).unwrap();
        machine.ask(0, Operation::Open { file: A });
        machine.answer(descriptor());
        machine.answer(descriptor());
        assert_eq!(machine.results(), [(0, Ok(Outcome::Done))]);
        machine
    }

    fn ask(&mut self, number: usize, operation: Operation) {
        let ticket = Ticket::without_log(number);
        self.files.submit(Request { log: LOG, ticket, operation });
    }

    fn next(&mut self) -> u32 {
        self.files.next_entry().expect(NOTHING_DUE).0
    }

    /// Answers the oldest entry not given to the kernel yet.
    fn answer(&mut self, result: i32) {
        let index = self.next();
        self.complete(index, result);
    }

    fn complete(&mut self, index: u32, result: i32) {
        self.files.complete(index, result, &mut self.counters);
    }

    /// Plays the kernel for closes only, and says how many there were.
    fn closes(&mut self) -> usize {
        let mut count = 0;
        while let Some((index, _)) = self.files.next_entry() {
            let Step::Close(raw) = self.files.running[index as usize].step else {
                panic!("something else than a close is due")
            };
            drop(not_closed(raw));
            self.complete(index, 0);
            count += 1;
        }
        count
    }

    fn results(&mut self) -> Vec<(usize, Result<Outcome, IoError>)> {
        let number = |ticket| (0..100).find(|n| Ticket::without_log(*n) == ticket).unwrap();
        let finished = self.files.finished.drain(..);
        finished.map(|(_, completion)| (number(completion.ticket), completion.result)).collect()
    }

    /// The range that the one transfer under way asks for.
    fn asked(&self, index: u32) -> Range<usize> {
        let Step::Transfer(transfer, _) = &self.files.running[index as usize].step else {
            panic!("no transfer is under way")
        };
        transfer.range.start + transfer.done..transfer.range.end
    }
}

/// A number that a kernel could have answered an open with.
fn descriptor() -> i32 {
    let file = tempfile::tempfile().unwrap();
    assert!(file.as_raw_fd() > 2);
    file.into_raw_fd()
}

fn failed(errno: i32) -> Result<Outcome, IoError> {
    Err(IoError { errno })
}

fn write(range: Range<usize>) -> Operation {
    Operation::Write { file: A, offset: 8192, buffer: AlignedBuffer::zeroed(65536), range }
}

fn read(range: Range<usize>) -> Operation {
    Operation::Read { file: A, offset: 0, buffer: AlignedBuffer::zeroed(65536), range }
}

#[test]
fn short_writes_go_on_at_a_whole_block() {
    let mut machine = Machine::new();
    machine.ask(1, write(4096..65536));
    machine.answer(10_000);
    let index = machine.next();
    assert_eq!(machine.asked(index), 4096 + 8192..65536);
    machine.complete(index, 4096);
    machine.answer(65536 - 4096 - 8192 - 4096);
    assert_eq!(machine.results(), [(1, Ok(Outcome::Bytes(61440)))]);
    assert_eq!(machine.counters.file_continuations, 2);
    // Less than a block: going on might never end.
    machine.ask(2, write(0..8192));
    machine.answer(100);
    machine.ask(3, write(0..8192));
    machine.answer(0);
    assert_eq!(machine.results(), [(2, Ok(Outcome::Bytes(0))), (3, Ok(Outcome::Bytes(0)))]);
}

#[test]
fn short_reads_go_on_unless_the_file_ends() {
    let mut machine = Machine::new();
    machine.ask(1, read(0..65536));
    machine.answer(8192);
    let index = machine.next();
    assert_eq!(machine.asked(index), 8192..65536);
    machine.complete(index, 5000);
    machine.ask(2, read(0..65536));
    machine.answer(8192);
    machine.answer(0);
    machine.ask(3, read(0..65536));
    machine.answer(8192);
    machine.answer(-libc::EIO);
    let ends =
        [(1, Ok(Outcome::Bytes(13192))), (2, Ok(Outcome::Bytes(8192))), (3, failed(libc::EIO))];
    assert_eq!(machine.results(), ends);
}

#[test]
fn what_fitted_on_a_full_disk_is_said() {
    let mut machine = Machine::new();
    machine.ask(1, write(0..65536));
    machine.answer(8192);
    machine.answer(-libc::ENOSPC);
    machine.ask(2, write(0..65536));
    machine.answer(-libc::EDQUOT);
    machine.ask(3, write(0..65536));
    machine.answer(8192);
    machine.answer(-libc::EIO);
    let ends = [(1, Ok(Outcome::Bytes(8192))), (2, failed(libc::EDQUOT)), (3, failed(libc::EIO))];
    assert_eq!(machine.results(), ends);
}

#[test]
fn what_did_not_run_is_tried_again_but_not_for_ever() {
    let mut machine = Machine::new();
    machine.ask(1, write(0..4096));
    machine.answer(-libc::EINTR);
    machine.answer(-libc::EAGAIN);
    machine.answer(4096);
    assert_eq!(machine.results(), [(1, Ok(Outcome::Bytes(4096)))]);
    machine.ask(2, Operation::Preallocate { file: A, bytes: 4096 });
    for _ in 0..=limits::FILE_RETRIES_MAX {
        machine.answer(-libc::EINTR);
    }
    assert_eq!(machine.results(), [(2, failed(libc::EINTR))]);
    assert_eq!(machine.counters.file_retries, 2 + u64::from(limits::FILE_RETRIES_MAX));
}

/// A sync that failed may have lost what it was for, whatever the error; nor may an operation on
/// names run twice.
#[test]
fn what_may_have_run_is_not_repeated() {
    let mut machine = Machine::new();
    for errno in [libc::EINTR, libc::EAGAIN, libc::EIO, libc::ECANCELED] {
        machine.ask(1, Operation::Sync { file: A });
        machine.answer(-errno);
        machine.ask(2, Operation::SyncDirectory);
        machine.answer(-errno);
        assert_eq!(machine.results(), [(1, failed(errno)), (2, failed(errno))]);
    }
    let once = [
        Operation::Create { file: B },
        Operation::Rename { from: A, to: B },
        Operation::Remove { file: A },
    ];
    for operation in once {
        machine.ask(3, operation);
        machine.answer(-libc::EAGAIN);
        machine.answer(-libc::EINTR);
        assert_eq!(machine.results(), [(3, failed(libc::EINTR))]);
    }
}

#[test]
fn a_filesystem_that_cannot_check_a_name_renames_without() {
    let mut machine = Machine::new();
    machine.ask(1, Operation::Rename { from: A, to: B });
    machine.answer(-libc::EINVAL);
    machine.answer(0);
    machine.ask(2, Operation::Sync { file: B });
    machine.answer(0);
    assert_eq!(machine.results(), [(1, Ok(Outcome::Done)), (2, Ok(Outcome::Done))]);
    machine.ask(3, Operation::Rename { from: B, to: A });
    machine.answer(-libc::EINVAL);
    machine.answer(-libc::EINVAL);
    assert_eq!(machine.results(), [(3, failed(libc::EINVAL))]);
}

/// Hazard 3: the number of a closed descriptor may be another file's at once.
#[test]
fn a_file_is_closed_after_all_that_use_it() {
    let mut machine = Machine::new();
    machine.ask(1, write(0..4096));
    machine.ask(2, Operation::Sync { file: A });
    machine.ask(3, Operation::Close { file: A });
    machine.ask(4, Operation::Sync { file: A });
    let (writing, syncing) = (machine.next(), machine.next());
    assert!(machine.files.next_entry().is_none(), "the close waits");
    machine.complete(syncing, 0);
    assert!(machine.files.next_entry().is_none(), "the close still waits");
    machine.complete(writing, 4096);
    assert_eq!(machine.closes(), 1);
    let ends = [
        (4, failed(libc::EBADF)),
        (2, Ok(Outcome::Done)),
        (1, Ok(Outcome::Bytes(4096))),
        (3, Ok(Outcome::Done)),
    ];
    assert_eq!(machine.results(), ends);
    assert_eq!(machine.files.descriptors.len(), 1);
}

#[test]
fn a_directory_opened_twice_is_kept_once() {
    let mut machine = Machine::default();
    machine.files.open_log(LOG, Path::new("log")).unwrap();
    machine.ask(1, Operation::SyncDirectory);
    machine.ask(2, Operation::SyncDirectory);
    let (first, second) = (machine.next(), machine.next());
    machine.complete(second, descriptor());
    machine.complete(first, descriptor());
    // The second's sync, the close of what is one too many, and the first's sync.
    machine.answer(0);
    let closing = machine.next();
    machine.answer(0);
    let Step::Close(raw) = machine.files.running[closing as usize].step else { panic!("no close") };
    drop(not_closed(raw));
    machine.complete(closing, 0);
    assert_eq!(machine.results(), [(2, Ok(Outcome::Done)), (1, Ok(Outcome::Done))]);
    assert_eq!(machine.files.descriptors.len(), 1);
}

#[test]
fn a_directory_is_made_durable_in_its_parent() {
    let mut machine = Machine::default();
    machine.files.open_log(LOG, Path::new("log")).unwrap();
    for made in [0, -libc::EEXIST] {
        machine.ask(1, Operation::MakeDirectory);
        machine.answer(made);
        machine.answer(descriptor());
        machine.answer(-libc::EIO);
        assert_eq!(machine.closes(), 1);
        assert_eq!(machine.results(), [(1, failed(libc::EIO))]);
    }
    machine.ask(2, Operation::MakeDirectory);
    machine.answer(-libc::EROFS);
    machine.ask(3, Operation::MakeDirectory);
    machine.answer(0);
    machine.answer(-libc::EMFILE);
    assert_eq!(machine.results(), [(2, failed(libc::EROFS)), (3, failed(libc::EMFILE))]);
}

#[test]
fn what_opens_too_late_is_closed() {
    let mut machine = Machine::new();
    machine.ask(1, Operation::Open { file: B });
    let opening = machine.next();
    machine.files.close_log(LOG);
    assert_eq!(machine.closes(), 1, "the file; the directory is in use");
    machine.complete(opening, descriptor());
    assert_eq!(machine.closes(), 2);
    assert_eq!(machine.results(), [(1, failed(libc::ENOENT))]);
    assert_eq!(machine.files.descriptors.len(), 0);
    assert!(machine.files.running.is_empty());
}

/// The reactor ends: descriptors that the kernel has made, or has not closed, are not lost.
#[test]
fn what_is_discarded_leaves_no_descriptor() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let descriptors = || {
        let links = std::fs::read_dir("/proc/self/fd").unwrap();
        let targets = links.filter_map(|link| std::fs::read_link(link.unwrap().path()).ok());
        targets.filter(|target| target == file.path()).count()
    };
    let another = || file.reopen().unwrap().into_raw_fd();
    let mut machine = Machine::default();
    machine.files.open_log(LOG, Path::new("/nowhere/log")).unwrap();
    machine.ask(1, Operation::MakeDirectory);
    machine.answer(0);
    machine.ask(2, Operation::SyncDirectory);
    let (parent, directory) = (machine.next(), machine.next());
    machine.files.discard(parent, another());
    assert_eq!(descriptors(), 1);
    machine.complete(directory, another());
    machine.answer(0);
    machine.ask(3, Operation::Create { file: A });
    let creating = machine.next();
    machine.files.discard(creating, another());
    machine.ask(4, Operation::Open { file: A });
    machine.answer(another());
    assert_eq!(descriptors(), 3, "the directory and a file");
    machine.ask(5, Operation::Close { file: A });
    let closing = machine.next();
    machine.files.discard(closing, -libc::ECANCELED);
    assert_eq!(descriptors(), 2);
    drop(machine);
    assert_eq!(descriptors(), 1);
}

#[test]
fn requests_beyond_the_limit_wait_their_turn() {
    let mut machine = Machine::new();
    for _ in 0..limits::FILE_REQUESTS_MAX {
        machine.ask(1, Operation::Sync { file: A });
    }
    machine.ask(2, Operation::Sync { file: B });
    machine.ask(3, Operation::Sync { file: A });
    assert!(machine.files.finished.is_empty(), "nothing overtakes");
    let first = machine.next();
    while machine.files.next_entry().is_some() {}
    machine.complete(first, 0);
    assert_eq!(machine.results(), [(1, Ok(Outcome::Done)), (2, failed(libc::EBADF))]);
    machine.answer(0);
    assert_eq!(machine.results(), [(3, Ok(Outcome::Done))]);
}
