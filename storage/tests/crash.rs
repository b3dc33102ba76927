//! The power goes, or the program ends, after every single request of a canonical trace.

mod support;

use support::Bench;

/// Appends, commits, syncs, rolls, finishes, checkpoints and reclaims; when the bench stops
/// executing in between, nothing promised changes any more.
fn trace(bench: &mut Bench) {
    bench.create_cursor(b"slow", 1);
    bench.create_cursor(b"quick", 1);
    for round in 0..50_usize {
        for entry in 0..5 {
            let bytes = [20, 300, 5000, 4000, 1][(round + entry) % 5];
            if bench.append(bytes).is_err() {
                bench.drain();
                let _stopped = bench.append(bytes);
            }
        }
        if round % 4 == 1 {
            let _busy = bench.append_batch(4, 100);
        }
        if round == 10 {
            bench.create_cursor(b"late", bench.log.appended_up_to());
        }
        if round % 3 == 0 {
            bench.sync();
        } else {
            bench.commit();
        }
        // Part of it is still outstanding when the next round begins.
        for _ in 0..round % 4 {
            bench.step();
        }
        if round % 2 == 0 {
            bench.drain();
        }
        let written = bench.log.written_up_to();
        for sequence in written.saturating_sub(40)..written {
            bench.finish(b"quick", sequence);
            if sequence % 3 != 0 || sequence + 25 < written {
                bench.finish(b"slow", sequence);
            }
            bench.finish(b"late", sequence);
        }
        if round % 5 == 4 {
            bench.checkpoint();
        }
    }
    bench.drain();
}

/// How many requests the whole trace takes.
fn trace_requests() -> u64 {
    let mut bench = Bench::new(1);
    trace(&mut bench);
    assert!(bench.log.segment_count() < 10, "what everyone finished is reclaimed");
    assert!(bench.log.first_sequence() > 20, "{}", bench.log.first_sequence());
    bench.disk.executed()
}

/// Goes on with a recovered log: appends, closes it in good order, and finds everything again.
fn go_on(bench: &mut Bench, seed: u64) {
    for bytes in [10, 6000, 100] {
        while bench.append(bytes).is_err() {
            assert!(bench.step());
        }
    }
    bench.close();
    let report = bench.crash(seed);
    assert!(report.torn_tail.is_none() && report.damages.is_empty(), "{report:?}");
    bench.check_prefix(bench.log.appended_up_to());
    bench.check_cursors();
}

#[test]
fn reliability_6_power_cut_after_every_request() {
    let requests = trace_requests();
    assert!(requests > 200, "{requests}");
    for stop in 0..=requests {
        for seed in 0..3 {
            let mut bench = Bench::new(1);
            bench.stop = stop;
            trace(&mut bench);
            let durable = bench.log.durable_up_to();
            let report = bench.crash(seed);
            assert!(report.damages.is_empty() && report.missing.is_empty(), "{report:?}");
            bench.check_prefix(durable);
            bench.check_cursors();
            if stop % 3 == seed {
                go_on(&mut bench, seed);
            }
        }
    }
}

#[test]
fn reliability_6_kill_after_every_request() {
    for stop in 0..=trace_requests() {
        let mut bench = Bench::new(1);
        bench.stop = stop;
        trace(&mut bench);
        let written = bench.log.written_up_to();
        let report = bench.reopen(stop);
        assert!(report.damages.is_empty() && report.missing.is_empty(), "{report:?}");
        bench.check_prefix(written);
        bench.check_cursors();
        go_on(&mut bench, stop);
    }
}

/// Appends entries of a size that gives three to a segment and more, and makes them durable.
fn fill_segments(bench: &mut Bench, segments: usize) {
    let target = bench.log.segment_count() + segments;
    while bench.log.segment_count() < target {
        if bench.append(3000).is_err() {
            assert!(bench.step());
        }
        bench.commit();
        bench.drain();
    }
    bench.sync();
    bench.drain();
}

#[test]
fn a_segment_is_reclaimed_only_after_its_checkpoint() {
    for stop in 0..60 {
        for seed in 0..6 {
            let mut bench = Bench::new(seed);
            bench.create_cursor(b"one", 1);
            fill_segments(&mut bench, 6);
            let written = bench.log.written_up_to();
            bench.stop = bench.disk.executed() + stop;
            (1..written / 2).for_each(|sequence| bench.finish(b"one", sequence));
            bench.checkpoint();
            // While the first half is being reclaimed the second is finished, and saved.
            while !bench.log.is_reclaiming() && bench.step() {}
            (1..written - 2).for_each(|sequence| bench.finish(b"one", sequence));
            bench.checkpoint();
            bench.drain();
            let durable = bench.log.durable_up_to();
            let report = bench.crash(seed);
            assert_eq!(report.missing, [], "{stop} {seed}");
            bench.check_prefix(durable);
            bench.check_cursors();
        }
    }
}

#[test]
fn what_was_cut_off_stays_cut_off() {
    let mut cuts = 0;
    for seed in 0..200 {
        let mut bench = Bench::new(seed);
        bench.create_cursor(b"slow", 1);
        for _ in 0..6 {
            let _busy = bench.append(1500);
            bench.commit();
            bench.drain();
        }
        let report = bench.crash(seed);
        cuts += u32::from(report.torn_tail.is_some());
        bench.check_prefix(1);
        if bench.log.cursors().find(b"slow").is_none() {
            bench.create_cursor(b"slow", 1);
        }
        let end = bench.appended.last_key_value().map_or(0, |(last, _)| *last);
        // The segments right behind the cut are reclaimed, so that none says where it was.
        fill_segments(&mut bench, 4);
        for sequence in end + 1..bench.log.written_up_to() - 2 {
            bench.finish(b"slow", sequence);
        }
        bench.checkpoint();
        bench.drain();
        let durable = bench.log.durable_up_to();
        let report = bench.crash(seed);
        assert!(report.damages.is_empty() && report.missing.is_empty(), "{seed} {report:?}");
        bench.check_prefix(durable);
        bench.check_cursors();
    }
    assert!(cuts > 20, "{cuts}");
}
