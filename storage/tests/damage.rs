//! What bit flips, bad blocks, lost and foreign files cost: what they hit, and nothing else.

mod support;

use ringmain_storage::read::{Read, ReadCursor};
use ringmain_storage::recovery::{RecoveryError, recover};
use ringmain_storage::request::{FileName, LogKey};
use std::collections::BTreeSet;
use support::{Bench, TINY};

/// A log of some segments, closed in good order, with a cursor that has finished nothing.
fn closed_log(entries: usize) -> Bench {
    let mut bench = Bench::new(3);
    bench.create_cursor(b"all", 1);
    for entry in 0..entries {
        while bench.append([200, 1000, 30][entry % 3]).is_err() {
            assert!(bench.step());
        }
        if entry % 7 == 0 {
            bench.sync();
        }
    }
    bench.close();
    bench
}

fn segment_names(bench: &Bench) -> Vec<String> {
    let names = bench.disk.files().into_iter().map(|(name, _)| name);
    names.filter(|name| name.ends_with(".segment")).collect()
}

/// The sequences that are read back, all with the right body.
fn sequences(bench: &mut Bench) -> BTreeSet<u64> {
    let (found, lost) = bench.read_from(0);
    for (sequence, body) in &found {
        assert_eq!(bench.appended.get(sequence), Some(body), "{sequence}");
    }
    for range in lost {
        assert!(range.clone().all(|sequence| !found.contains_key(&sequence)));
    }
    found.into_keys().collect()
}

#[test]
fn reliability_15_a_bit_flip_costs_one_record() {
    let bench = closed_log(120);
    let names = segment_names(&bench);
    assert!(names.len() > 2);
    let mut random = fastrand::Rng::with_seed(15);
    let (mut hits, mut flips) = (0, 0);
    while flips < 500 {
        let name = &names[random.usize(..names.len())];
        let size = bench.disk.bytes(name).unwrap().len();
        let mut disk = bench.disk.clone();
        disk.flip(name, random.usize(..size * 8));
        let mut flipped = Bench::new(3);
        flipped.disk = disk;
        flipped.appended.clone_from(&bench.appended);
        flipped.finished.clone_from(&bench.finished);
        flipped.reopen(1);
        let found = sequences(&mut flipped);
        let lost = bench.appended.len() - found.len();
        assert!(lost <= 1, "{lost} records for one bit");
        let (reports, _) = flipped.log.take_reports();
        assert!(lost == 0 || !reports.is_empty(), "a loss is reported");
        hits += lost;
        flips += 1;
    }
    assert!(hits > 100, "{hits}");
}

#[test]
fn reliability_16_truncation_leaves_an_exact_prefix() {
    let mut bench = Bench::new(3);
    for _ in 0..14 {
        bench.append(700).unwrap();
    }
    bench.sync();
    bench.drain();
    let names = segment_names(&bench);
    let bytes = bench.disk.bytes(&names[0]).unwrap().to_vec();
    for cut in (4096..16384).step_by(61) {
        let mut cut_off = Bench::new(3);
        cut_off.appended.clone_from(&bench.appended);
        cut_off.disk.put(&names[0], bytes[..cut].to_vec());
        cut_off.reopen(1);
        cut_off.check_prefix(0);
        let found = sequences(&mut cut_off);
        // Header, first record with its table of no cursors, then 14 records of 736 bytes, of
        // which the last four are padding.
        let whole = (cut + 4).saturating_sub(4096 + 40) / 736;
        assert_eq!(found.len(), whole.min(14), "{cut}");
    }
}

#[test]
fn reliability_17_stale_and_foreign_blocks_are_no_records() {
    let bench = closed_log(120);
    let names = segment_names(&bench);
    let mut other = Bench::new(99);
    for _ in 0..30 {
        while other.append(200).is_err() {
            assert!(other.step());
        }
    }
    other.close();
    let foreign = other.disk.bytes(&segment_names(&other)[0]).unwrap().to_vec();
    let mut random = fastrand::Rng::with_seed(17);
    for case in 0..300 {
        let name = &names[random.usize(..names.len())];
        let mut bytes = bench.disk.bytes(name).unwrap().to_vec();
        let at = 4096 * random.usize(1..7);
        let another = bench.disk.bytes(&names[random.usize(..names.len())]).unwrap();
        let source = 4096 * random.usize(1..7);
        let block = match case % 4 {
            0 => vec![0; 4096],
            1 => vec![0xff; 4096],
            2 => foreign[source..source + 4096].to_vec(),
            _ => another[source..source + 4096].to_vec(),
        };
        bytes[at..at + 4096].copy_from_slice(&block);
        let mut hit = Bench::new(3);
        hit.disk = bench.disk.clone();
        hit.disk.put(name, bytes);
        hit.appended.clone_from(&bench.appended);
        hit.finished.clone_from(&bench.finished);
        hit.reopen(1);
        let found = sequences(&mut hit);
        // At least 64 bytes a record, and one that reaches in at either side.
        assert!(bench.appended.len() - found.len() <= 4096 / 64 + 2);
    }
}

#[test]
fn reliability_18_checkpoints_may_be_lost() {
    let mut bench = closed_log(60);
    bench.finish(b"all", 1);
    bench.checkpoint();
    bench.drain();
    let damages: [&[&str]; 4] =
        [&[], &["checkpoint.a"], &["checkpoint.b"], &["checkpoint.a", "checkpoint.b"]];
    for damaged in damages {
        for is_removed in [false, true] {
            let mut hit = Bench::new(3);
            hit.disk = bench.disk.clone();
            hit.appended.clone_from(&bench.appended);
            hit.finished.clone_from(&bench.finished);
            for name in damaged {
                if is_removed {
                    hit.disk.take(name);
                } else {
                    hit.disk.flip(name, 300);
                }
            }
            let report = hit.reopen(1);
            assert_eq!(report.has_lost_checkpoint, damaged.len() == 2 && !is_removed);
            assert_eq!(sequences(&mut hit).len(), bench.appended.len());
            let cursor = hit.log.cursors().find(b"all").expect("cursors are in the log, too");
            assert!(!hit.log.cursors().cursor(cursor).unwrap().is_finished(2));
        }
    }
}

#[test]
fn reliability_19_a_lost_segment_costs_itself() {
    let bench = closed_log(120);
    for name in segment_names(&bench) {
        let mut hit = Bench::new(3);
        hit.disk = bench.disk.clone();
        let files = hit.disk.files().len();
        hit.disk.take(&name);
        hit.appended.clone_from(&bench.appended);
        hit.finished.clone_from(&bench.finished);
        let report = hit.reopen(1);
        let found = sequences(&mut hit);
        let lost: BTreeSet<u64> =
            bench.appended.keys().copied().filter(|sequence| !found.contains(sequence)).collect();
        let told: BTreeSet<u64> = report.missing.iter().cloned().flatten().collect();
        assert!(lost.is_subset(&told), "{report:?}");
        assert!(lost.len() < bench.appended.len());
        assert_eq!(hit.disk.files().len(), files - 1, "nothing is removed");
        // Everything goes on after what is lost.
        let last = *bench.appended.last_key_value().unwrap().0;
        assert!(hit.append(10).unwrap() > last);
    }
}

#[test]
fn reliability_19_a_copied_segment_is_left_alone() {
    let mut bench = closed_log(60);
    let name = segment_names(&bench)[0].clone();
    let bytes = bench.disk.bytes(&name).unwrap().to_vec();
    bench.disk.put("0000000000000099.segment", bytes.clone());
    bench.disk.put("notes.txt", b"mine".to_vec());
    let report = bench.reopen(1);
    let copy = FileName::parse("0000000000000099.segment").unwrap();
    assert_eq!((report.unreadable, report.strange), (vec![copy], vec!["notes.txt".to_owned()]));
    bench.check_prefix(61);
    bench.append(10).unwrap();
    bench.close();
    assert_eq!(bench.disk.bytes("0000000000000099.segment"), Some(&bytes[..]));
    assert!(bench.disk.bytes("0000000000000100.segment").is_some(), "its number is not given");
}

#[test]
fn reliability_20_a_newer_format_is_refused_untouched() {
    let bench = closed_log(30);
    for (name, at) in [("0000000000000001.segment", 52), ("checkpoint.a", 92)] {
        let mut disk = bench.disk.clone();
        let mut bytes = disk.bytes(name).unwrap().to_vec();
        bytes[8] = 2;
        let crc = crc32c::crc32c(&bytes[..at]).to_le_bytes();
        bytes[at..at + 4].copy_from_slice(&crc);
        disk.put(name, bytes);
        let before: Vec<_> =
            disk.files().into_iter().map(|(name, _)| disk.bytes(&name).unwrap().to_vec()).collect();
        let file = FileName::parse(name).unwrap();
        let error = recover(LogKey(1), TINY, 1, &mut disk).unwrap_err();
        assert_eq!(error, RecoveryError::Version { file, version: 2 });
        let after: Vec<_> =
            disk.files().into_iter().map(|(name, _)| disk.bytes(&name).unwrap().to_vec()).collect();
        assert!(before == after);
    }
}

#[test]
fn reliability_24_a_bad_block_costs_its_records() {
    let mut bench = closed_log(120);
    let name = segment_names(&bench)[0].clone();
    bench.disk.break_range(&name, 9000..9001);
    bench.reopen(1);
    let found = sequences(&mut bench);
    let lost = bench.appended.len() - found.len();
    assert!((1..4096 / 64 + 2).contains(&lost), "{lost}");
    let (reports, dropped) = bench.log.take_reports();
    assert!(!reports.is_empty() && dropped == 0);
    // Read again, it is not reported again.
    bench.log.release_memory(&mut bench.io);
    assert_eq!(sequences(&mut bench), found);
    assert_eq!(bench.log.take_reports().0, []);
    // When nobody needs the segment any more its file is kept.
    for sequence in 1..bench.log.written_up_to() {
        bench.finish(b"all", sequence);
    }
    bench.checkpoint();
    bench.drain();
    assert!(bench.disk.bytes(&name.replace("segment", "damaged")).is_some());
}

#[test]
fn damaged_headers_cost_nothing() {
    let bench = closed_log(60);
    for name in segment_names(&bench) {
        let mut hit = Bench::new(3);
        hit.disk = bench.disk.clone();
        hit.disk.flip(&name, 100);
        hit.appended.clone_from(&bench.appended);
        hit.finished.clone_from(&bench.finished);
        assert!(!hit.reopen(1).is_clean());
        assert_eq!(sequences(&mut hit).len(), bench.appended.len());
    }
}

#[test]
fn readers_share_blocks() {
    let mut bench = closed_log(120);
    bench.reopen(1);
    let before = bench.disk.executed();
    let mut cursors: Vec<ReadCursor> = (0..3).map(|_| ReadCursor::new(1)).collect();
    let mut counts = [0; 3];
    for turn in 0.. {
        let reader = turn % 3;
        match bench.log.read(&mut cursors[reader], &mut bench.io) {
            Read::Entry(_) => counts[reader] += 1,
            Read::Lost(range) => panic!("{range:?} is lost"),
            Read::Wait => drop(bench.step()),
            Read::End if counts.iter().all(|count| *count == 120) => break,
            Read::End => {}
        }
    }
    let requests = bench.disk.executed() - before;
    let mut alone = ReadCursor::new(1);
    bench.log.release_memory(&mut bench.io);
    let before = bench.disk.executed();
    while !matches!(bench.log.read(&mut alone, &mut bench.io), Read::End) {
        bench.step();
    }
    let requests_alone = bench.disk.executed() - before;
    assert!(requests < 2 * requests_alone, "{requests} and {requests_alone}");
}
