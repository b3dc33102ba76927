//! What is read of a queue, when all is well and when it is not.

use super::*;
use crate::executors::at_once;
use std::fs;

fn record(number: u16) -> Vec<u8> {
    let body: Vec<u8> = (0..number * 7).map(|n| n.to_be_bytes()[1]).collect();
    let id = format!("{number:016x}");
    let message = [&77_i64.to_be_bytes()[..], &number.to_be_bytes(), id.as_bytes(), &body];
    let message = message.concat();
    let length = u32::try_from(message.len()).unwrap();
    [&length.to_be_bytes()[..], &message].concat()
}

/// Six records, and where each begins.
fn segment() -> (Vec<u8>, Vec<usize>) {
    let (mut bytes, mut starts) = (Vec::new(), Vec::new());
    for number in 0..6 {
        starts.push(bytes.len());
        bytes.extend(record(number));
    }
    (bytes, starts)
}

/// The numbers of the records that were read whole, and what was remarked.
fn read(bytes: &[u8], from: u64) -> (Vec<u16>, Vec<String>) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("q");
    fs::write(&path, bytes).unwrap();
    let (mut numbers, mut remarks) = (Vec::new(), Remarks::default());
    let part = Part { path, from };
    let progress = Progress::none();
    let read = read_part(Backend::Plain, &part, &progress, &mut remarks, |message| {
        let number = message.attempts;
        let is_whole = number < 6
            && record(number).get(30..) == Some(message.body)
            && message.timestamp_ns == 77
            && message.id == *format!("{number:016x}").as_bytes();
        numbers.extend(is_whole.then_some(number));
        Ok(())
    });
    at_once(read).unwrap();
    (numbers, remarks.lines)
}

#[test]
fn records_are_read_from_a_position_on() {
    let (bytes, starts) = segment();
    for (index, start) in starts.iter().enumerate() {
        let expected: Vec<u16> = (0..6).skip(index).collect();
        assert_eq!(read(&bytes, *start as u64), (expected, vec![]));
    }
    assert_eq!(read(&bytes, bytes.len() as u64), (vec![], vec![]));
    let (numbers, remarks) = read(&bytes, bytes.len() as u64 + 1);
    assert!(numbers.is_empty() && remarks[0].contains("before nsqd's position"), "{remarks:?}");
    assert_eq!(read(&[], 0), (vec![], vec![]));
}

#[test]
fn a_cut_costs_the_record_it_hits() {
    let (bytes, starts) = segment();
    for cut in 0..bytes.len() {
        let whole = starts[1..].iter().filter(|start| **start <= cut).count();
        let (numbers, remarks) = read(&bytes[..cut], 0);
        assert!(numbers.iter().copied().eq(0..u16::try_from(whole).unwrap()), "{cut}");
        let expected = if starts.contains(&cut) {
            vec![]
        } else {
            let (from, to) = (starts[whole], cut - 1);
            vec![format!("q: bytes {from} to {to}: the last record is cut off")]
        };
        assert_eq!(remarks, expected, "{cut}");
    }
}

#[test]
fn a_changed_byte_costs_the_record_it_hits() {
    let (bytes, starts) = segment();
    for at in 0..bytes.len() {
        for change in [1_u8, 0x10, 0x80, 0xff] {
            let mut bytes = bytes.clone();
            bytes[at] ^= change;
            let hit = u16::try_from(starts.iter().filter(|start| **start <= at).count() - 1);
            let hit = hit.unwrap();
            let (mut numbers, remarks) = read(&bytes, 0);
            numbers.retain(|number| *number != hit);
            let expected: Vec<u16> = (0..6).filter(|number| *number != hit).collect();
            assert_eq!(numbers, expected, "{at} ^ {change}");
            let in_record = at - starts[usize::from(hit)];
            // A length of another value, or an id that is none, is noticed. There are no checksums.
            if in_record < 4 || (14..30).contains(&in_record) && change >= 0x80 {
                assert!(!remarks.is_empty(), "{at} ^ {change}");
            }
        }
    }
}

#[test]
fn a_damaged_stretch_is_passed_over() {
    let (mut bytes, starts) = segment();
    bytes[starts[1] + 2..starts[4] - 3].fill(0xee);
    let (numbers, remarks) = read(&bytes, 0);
    assert_eq!(numbers, [0, 4, 5]);
    assert_eq!(remarks, [format!("q: bytes {} to {}: damaged", starts[1], starts[4] - 1)]);
    let zeros = [record(1), vec![0; 300_000], record(2), record(3), vec![0; 5000]].concat();
    assert_eq!(read(&zeros, 0).0, [1, 2, 3]);
}

fn queue(directory: &Path, meta: Option<&str>, numbers: &[u64]) -> QueueFiles {
    let mut queue = QueueFiles::default();
    if let Some(meta) = meta {
        let path = directory.join("q.diskqueue.meta.dat");
        fs::write(&path, meta).unwrap();
        queue.meta = Some(path);
    }
    for number in numbers {
        queue.segments.insert(*number, directory.join(format!("{number}")));
    }
    queue
}

/// The positions, the segments there are, which are read from where, and what is remarked.
type Case = (Option<&'static str>, &'static [u64], &'static [(u64, u64)], &'static str);

#[test]
fn the_positions_say_what_is_read() {
    let cases: [Case; 10] = [
        (Some("7\n1,30\n2,60\n"), &[1, 2], &[(1, 30), (2, 0)], ""),
        (Some("0\n0,0\n0,0\n"), &[], &[], ""),
        (None, &[], &[], ""),
        // Just rolled: the next segment is not there yet.
        (Some("7\n1,30\n2,0\n"), &[1], &[(1, 30)], ""),
        (Some("7\n2,30\n2,60\n"), &[1, 2], &[(2, 30)], "1: read to its end"),
        (Some("7\n1,30\n2,60\n"), &[1, 2, 3], &[(1, 30), (2, 0), (3, 0)], "3: newer"),
        (Some("7\n1,30\n4,60\n"), &[1, 4], &[(1, 30), (4, 0)], "2 of the segments 1 to 4 are"),
        (None, &[3, 4], &[(3, 0), (4, 0)], "without good positions"),
        (Some("7\n1,x\n"), &[1], &[(1, 0)], "does not say where"),
        (Some("-1\n1,0\n1,4\n"), &[1], &[(1, 0)], ""),
    ];
    for (meta, numbers, parts, remark) in cases {
        let directory = tempfile::tempdir().unwrap();
        let plan = plan(&queue(directory.path(), meta, numbers)).unwrap();
        let seen =
            plan.parts.iter().map(|part| (file_name(&part.path).parse().unwrap(), part.from));
        assert_eq!(seen.collect::<Vec<(u64, u64)>>(), parts, "{meta:?}");
        let depth = meta.filter(|meta| !meta.contains('x')).and_then(|meta| meta.split_once('\n'));
        assert_eq!(plan.depth, depth.and_then(|(depth, _)| depth.parse().ok()), "{meta:?}");
        let lines = plan.remarks.lines;
        assert_eq!(lines.is_empty(), remark.is_empty(), "{meta:?} {lines:?}");
        assert!(lines.first().is_none_or(|line| line.contains(remark)), "{lines:?}");
    }
}
