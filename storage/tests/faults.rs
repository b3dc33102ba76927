//! Failing requests: errors at every index, full disks, short transfers.

mod support;

use ringmain_storage::log::{AppendError, LogOptions, State};
use ringmain_storage::request::IoError;
use support::{Bench, TINY};

/// Appends, syncs and checkpoints through some segments. What is refused is not tried again.
fn workload(bench: &mut Bench) {
    if bench.log.cursors().is_empty() {
        bench.create_cursor(b"one", 1);
    }
    for round in 0..25_usize {
        for entry in 0..3 {
            if bench.append([30, 2000, 700][(round + entry) % 3]) == Err(AppendError::Busy) {
                bench.drain();
            }
        }
        bench.sync();
        bench.drain();
        for sequence in 1..bench.log.written_up_to().saturating_sub(5) {
            bench.finish(b"one", sequence);
        }
        if round % 6 == 5 {
            bench.checkpoint();
            bench.drain();
        }
        bench.log.probe(&mut bench.io);
    }
    bench.drain();
}

/// How many requests the workload takes without faults.
fn requests() -> u64 {
    let mut bench = Bench::new(5);
    workload(&mut bench);
    assert_eq!(bench.log.state(), State::Healthy);
    bench.disk.executed()
}

/// The workload with one fault; afterwards a power cut.
fn with_fault(number: u64, error: IoError) -> State {
    let mut bench = Bench::new(5);
    bench.disk.fail_at(number, error);
    workload(&mut bench);
    let (state, durable) = (bench.log.state(), bench.log.durable_up_to());
    if matches!(state, State::Failed(_)) {
        assert!(matches!(bench.append(1), Err(AppendError::Failed(_))), "for good");
        bench.sync();
        bench.drain();
        assert_eq!(bench.log.durable_up_to(), durable, "nothing is durable any more");
        // What was written before can still be read.
        assert!(bench.read_all().len() as u64 <= bench.log.written_up_to());
    }
    bench.crash(number);
    bench.check_prefix(durable);
    bench.check_cursors();
    state
}

#[test]
fn reliability_21_a_failed_sync_ends_the_log() {
    let mut failed = 0;
    for number in 0..requests() {
        for error in [IoError::DEVICE, IoError::NO_SPACE] {
            failed += u64::from(matches!(with_fault(number, error), State::Failed(_)));
        }
    }
    assert!(failed > 50, "every sync's and every write's failure is final: {failed}");
}

#[test]
fn reliability_23_interruptions_are_no_failures() {
    for number in 0..requests() {
        for error in [IoError::AGAIN, IoError::CANCELED] {
            assert_eq!(with_fault(number, error), State::Healthy, "{number} {error}");
        }
        // A sync may have run when it is interrupted, and is not tried again.
        with_fault(number, IoError::INTERRUPTED);
    }
}

#[test]
fn reliability_23_short_transfers_are_completed() {
    let mut bench = Bench::new(5);
    for number in 0..requests() * 2 {
        if number % 3 == 0 {
            bench.disk.shorten_at(number);
        }
    }
    workload(&mut bench);
    assert_eq!(bench.log.state(), State::Healthy);
    let durable = bench.log.durable_up_to();
    assert_eq!(durable, bench.log.appended_up_to());
    bench.crash(1);
    bench.check_prefix(durable);
}

#[test]
fn reliability_23_there_is_an_end_to_trying() {
    let mut bench = Bench::new(5);
    for number in 20..200 {
        bench.disk.fail_at(number, IoError::AGAIN);
    }
    workload(&mut bench);
    assert!(matches!(bench.log.state(), State::Failed(_) | State::Blocked(_)));
}

#[test]
fn reliability_14_no_record_depends_on_a_name_that_may_vanish() {
    // Names are lost from some point on, whatever the files' contents do.
    for stop in 0..requests() {
        let mut bench = Bench::new(5);
        bench.stop = stop;
        workload(&mut bench);
        let durable = bench.log.durable_up_to();
        for seed in 10..14 {
            let disk = bench.disk.clone();
            let mut bench = Bench::new(5);
            bench.disk = disk;
            bench.disk.crash(seed);
            bench.reopen(seed);
            let (found, lost) = bench.read_from(0);
            let last = found.last_key_value().map_or(0, |(last, _)| *last);
            assert!(last + 1 >= durable, "{stop}: {last} of {durable}");
            assert_eq!(lost, []);
        }
    }
}

#[test]
fn reliability_25_a_full_disk_heals() {
    let mut bench = Bench::new(5);
    bench.create_cursor(b"one", 1);
    for cycle in 0..5 {
        bench.disk.limit(bench.disk.used_bytes() + 80_000);
        let mut refused = 0;
        while refused < 3 {
            match bench.append(900) {
                Ok(_) => {}
                Err(AppendError::Busy) => assert!(bench.step()),
                Err(AppendError::Blocked(error)) => {
                    assert!(error.is_no_space());
                    refused += 1;
                    bench.withdraw();
                    bench.log.probe(&mut bench.io);
                    bench.drain();
                }
                Err(error) => panic!("{error}"),
            }
        }
        assert!(matches!(bench.log.state(), State::Blocked(_)));
        bench.sync();
        bench.drain();
        assert_eq!(bench.log.durable_up_to(), bench.log.appended_up_to(), "{cycle}");
        // Reading, finishing and checkpoints go on: both checkpoint files are there by now.
        assert_eq!(bench.read_all().len(), bench.appended.len() - bench.needless.len());
        for sequence in 1..bench.log.written_up_to() {
            bench.finish(b"one", sequence);
        }
        if cycle > 0 {
            bench.checkpoint();
            bench.drain();
            assert!(bench.saved.is_some());
        }
        bench.disk.limit(u64::MAX);
        bench.log.probe(&mut bench.io);
        bench.drain();
        assert_eq!(bench.log.state(), State::Healthy);
        bench.append(10).unwrap();
        bench.checkpoint();
        bench.drain();
    }
}

#[test]
fn reliability_26_full_killed_and_started_while_full() {
    let mut bench = Bench::new(5);
    bench.create_cursor(b"one", 1);
    bench.disk.limit(100_000);
    loop {
        match bench.append(900) {
            Ok(_) => {}
            Err(AppendError::Busy) => assert!(bench.step()),
            Err(_) => break,
        }
    }
    bench.withdraw();
    bench.drain();
    let written = bench.log.written_up_to();
    let report = bench.reopen(9);
    assert_eq!((report.torn_tail, report.missing), (None, vec![]));
    bench.check_prefix(written);
    for sequence in 1..written {
        bench.finish(b"one", sequence);
    }
    bench.disk.limit(u64::MAX);
    bench.append(10).unwrap();
    bench.close();
}

#[test]
fn reliability_25_a_drained_log_goes_on_with_what_it_gave_back() {
    // Segments double, so that the disk never has room for the next one: neither a spare that has
    // come back nor a smaller file may be left unused.
    let options = LogOptions { segment_bytes_max: 64 * 4096, spares_max: 1, ..TINY };
    // A disk on which one segment leaves no room for any file is beyond help: what is being written
    // to is never given back.
    for capacity in [200_000, 400_000] {
        let mut bench = Bench::with(5, options);
        bench.create_cursor(b"one", 1);
        bench.disk.limit(capacity);
        // One checkpoint makes room for all that follow.
        while bench.append(10).is_err() {
            assert!(bench.step());
        }
        bench.checkpoint();
        bench.drain();
        for cycle in 0..6 {
            loop {
                match bench.append(900) {
                    Ok(_) => {}
                    Err(AppendError::Busy) => assert!(bench.step()),
                    Err(_) => break,
                }
            }
            assert!(matches!(bench.log.state(), State::Blocked(_)));
            bench.withdraw();
            bench.drain();
            for sequence in 1..bench.log.written_up_to() {
                bench.finish(b"one", sequence);
            }
            bench.checkpoint();
            bench.drain();
            bench.log.probe(&mut bench.io);
            bench.drain();
            assert_eq!(bench.log.state(), State::Healthy, "{capacity}, cycle {cycle}");
        }
        bench.append(10).unwrap();
        bench.sync();
        bench.drain();
        assert_eq!(bench.log.durable_up_to(), bench.log.appended_up_to());
    }
}
