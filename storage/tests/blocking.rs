//! The log on real files.

use ringmain_storage::blocking::BlockingDisk;
use ringmain_storage::log::{AppendError, Io, Log, LogOptions};
use ringmain_storage::read::{Read, ReadCursor};
use ringmain_storage::recovery::recover;
use ringmain_storage::request::{Disk, LogKey};
use std::path::Path;

const KEY: LogKey = LogKey(1);

const OPTIONS: LogOptions = LogOptions {
    segment_bytes_first: 64 * 4096,
    segment_bytes_max: 128 * 4096,
    commit_bytes_max: 64 * 1024,
    read_bytes: 64 * 1024,
    read_blocks_max: 2,
    open_segments_max: 2,
    spares_max: 1,
};

fn drain(log: &mut Log, disk: &mut BlockingDisk, io: &mut Io) {
    while let Some(request) = io.requests.pop() {
        log.complete(disk.execute(request), io);
    }
}

fn body(number: u64) -> Vec<u8> {
    number
        .to_le_bytes()
        .into_iter()
        .cycle()
        .take(100 + usize::from(number.to_le_bytes()[0]) * 3)
        .collect()
}

/// Opens the log, checks that it holds entries up to a number, and reads them all back.
fn open_and_read(directory: &Path, count: u64) -> (Log, BlockingDisk, Io) {
    let mut disk = BlockingDisk::new(directory);
    let (mut log, report) = recover(KEY, OPTIONS, count + 1, &mut disk).expect("good files");
    assert!(report.is_clean(), "{report:?}");
    let mut io = Io::new(4 << 20);
    let (mut cursor, mut found) = (ReadCursor::new(1), 0);
    loop {
        match log.read(&mut cursor, &mut io) {
            Read::Entry(entry) => {
                found += 1;
                assert_eq!((entry.sequence, entry.bytes()), (found, &body(found)[..]));
            }
            Read::Lost(range) => panic!("{range:?} is lost"),
            Read::Wait => drain(&mut log, &mut disk, &mut io),
            Read::End => break,
        }
    }
    assert_eq!(found, count);
    (log, disk, io)
}

#[test]
fn real_files_keep_what_was_written() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path().join("log");
    let mut count = 0;
    for round in 0..4 {
        let (mut log, mut disk, mut io) = open_and_read(&directory, count);
        for _ in 0..700 {
            let body = body(count + 1);
            while log.append_message(&[&body], &mut io) == Err(AppendError::Busy) {
                drain(&mut log, &mut disk, &mut io);
            }
            count += 1;
        }
        // The program ends in good order, or it does not.
        if round % 2 == 0 {
            log.close(&mut io);
            drain(&mut log, &mut disk, &mut io);
            assert!(log.is_closed());
        } else {
            log.commit(&mut io);
            drain(&mut log, &mut disk, &mut io);
        }
        assert_eq!(log.written_up_to(), count + 1);
    }
    open_and_read(&directory, count);
}
