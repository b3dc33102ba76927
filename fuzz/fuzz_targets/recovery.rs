//! Any bytes as a log's files: no panic, no endless search, nothing removed but spares; and what
//! recovery leaves behind is found the same a second time.
//!
//! Input: `[flips: uint8]`, that many `[file: uint8, bit: uint16]` to be flipped in a good log,
//! then bytes that overwrite the first segment from its first record on.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ringmain_storage::faulty_disk::FaultyDisk;
use ringmain_storage::log::{AppendError, Io, Log, LogOptions};
use ringmain_storage::read::{Read, ReadCursor};
use ringmain_storage::recovery::recover;
use ringmain_storage::request::{Disk, LogKey};

const OPTIONS: LogOptions = LogOptions {
    segment_bytes_first: 8 * 4096,
    segment_bytes_max: 8 * 4096,
    commit_bytes_max: 8 * 4096,
    read_bytes: 8192,
    read_blocks_max: 2,
    open_segments_max: 2,
    spares_max: 2,
};

const KEY: LogKey = LogKey(1);

fuzz_target!(|input: &[u8]| {
    let Some((flips, rest)) = input.split_first() else { return };
    let Some((flips, bytes)) = rest.split_at_checked(3 * usize::from(*flips)) else { return };
    let mut disk = good_log();
    let names: Vec<String> = disk.files().into_iter().map(|(name, _)| name).collect();
    for [file, low, high] in flips.as_chunks::<3>().0 {
        let bit = usize::from(u16::from_le_bytes([*low, *high]));
        disk.flip(&names[usize::from(*file) % names.len()], 4096 * 8 + bit);
    }
    let first = "0000000000000001.segment";
    if let Some(mut segment) = disk.take(first) {
        let length = bytes.len().min(segment.len() - 4096);
        segment[4096..4096 + length].copy_from_slice(&bytes[..length]);
        disk.put(first, segment);
    }
    let found = read_all(&mut disk);
    assert_eq!(found, read_all(&mut disk));
});

/// Three segments, a cursor and a checkpoint.
fn good_log() -> FaultyDisk {
    let mut disk = FaultyDisk::new(1);
    let mut io = Io::new(1 << 20);
    let mut log = Log::new(KEY, OPTIONS, 1);
    log.create_cursor(b"one", 1, &mut io);
    for number in 0..60_u8 {
        while log.append_message(&[&[number; 1000]], &mut io) == Err(AppendError::Busy) {
            drain(&mut log, &mut disk, &mut io);
        }
    }
    log.close(&mut io);
    drain(&mut log, &mut disk, &mut io);
    disk.kill();
    disk
}

fn drain(log: &mut Log, disk: &mut FaultyDisk, io: &mut Io) {
    while let Some(request) = io.requests.pop() {
        log.complete(disk.execute(request), io);
    }
}

fn read_all(disk: &mut FaultyDisk) -> Vec<(u64, Vec<u8>)> {
    let (mut log, _) = recover(KEY, OPTIONS, 2, disk).expect("no version is made up by chance");
    let mut io = Io::new(1 << 20);
    let (mut cursor, mut found) = (ReadCursor::new(0), Vec::new());
    loop {
        match log.read(&mut cursor, &mut io) {
            Read::Entry(entry) => found.push((entry.sequence, entry.bytes().to_vec())),
            Read::Lost(_) => {}
            Read::Wait => drain(&mut log, disk, &mut io),
            Read::End => break,
        }
    }
    disk.kill();
    found
}
