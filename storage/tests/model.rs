//! Any workload, any faults of timing and space, any number of crashes: what is found is a prefix
//! of what was appended, with everything that was durable.

mod support;

use proptest::prelude::*;
use support::Bench;

/// One thing a program does, or that happens to it.
#[derive(Debug, Clone)]
enum Operation {
    Append(usize),
    AppendBatch(usize, usize),
    Commit,
    Sync,
    Step(usize),
    Drain,
    CreateCursor(u8),
    DeleteCursor(u8),
    /// Finishes what the cursor has read so far, but for every n-th.
    Finish(u8, u64),
    Checkpoint,
    /// Reads everything written.
    Read,
    /// Reads few of them.
    ReadSparsely(u64),
    /// Leaves room for that many more blocks.
    Fill(u64),
    /// Gives space back and tries again.
    Free,
    Withdraw,
    PowerCut(u64),
    /// Power cuts while the log is being recovered.
    PowerCuts(Vec<u64>),
    Kill,
    Close,
}

fn operation() -> impl Strategy<Value = Operation> {
    use Operation::*;
    prop_oneof![
        12 => prop_oneof![0..400_usize, 0..10_000_usize].prop_map(Append),
        4 => (1..6_usize, 0..900_usize).prop_map(|(count, bytes)| AppendBatch(count, bytes)),
        6 => Just(Commit),
        6 => Just(Sync),
        10 => (1..8_usize).prop_map(Step),
        4 => Just(Drain),
        2 => (0..4_u8).prop_map(CreateCursor),
        1 => (0..4_u8).prop_map(DeleteCursor),
        6 => (0..4_u8, 2..9_u64).prop_map(|(cursor, kept)| Finish(cursor, kept)),
        3 => Just(Checkpoint),
        3 => Just(Read),
        2 => (2..60_u64).prop_map(ReadSparsely),
        2 => (0..20_u64).prop_map(Fill),
        2 => Just(Free),
        2 => Just(Withdraw),
        2 => any::<u64>().prop_map(PowerCut),
        1 => prop::collection::vec(any::<u64>(), 1..4).prop_map(PowerCuts),
        1 => Just(Kill),
        1 => Just(Close),
    ]
}

fn run(bench: &mut Bench, operation: Operation) {
    match operation {
        // A refusal is an answer too; what it means is checked by what is found later.
        Operation::Append(bytes) => drop(bench.append(bytes)),
        Operation::AppendBatch(count, bytes) => drop(bench.append_batch(count, bytes)),
        Operation::Commit => bench.commit(),
        Operation::Sync => bench.sync(),
        Operation::Step(count) => (0..count).for_each(|_| _ = bench.step()),
        Operation::Drain => bench.drain(),
        Operation::CreateCursor(name) => {
            if bench.log.cursors().find(&[name]).is_none() {
                bench.create_cursor(&[name], bench.log.written_up_to());
            }
        }
        Operation::DeleteCursor(name) => bench.delete_cursor(&[name]),
        Operation::Finish(name, kept) => {
            for sequence in bench.log.first_sequence()..bench.log.written_up_to() {
                if sequence % kept != 0 {
                    bench.finish(&[name], sequence);
                }
            }
        }
        Operation::Checkpoint => bench.checkpoint(),
        Operation::Read => {
            let written = bench.log.written_up_to();
            let found = bench.read_all();
            for (sequence, body) in bench.appended.range(..written) {
                let is_needless = bench.needless.contains(sequence);
                let is_right = found.get(sequence).map_or(is_needless, |found| found == body);
                assert!(is_right, "{sequence} is not read");
            }
        }
        Operation::ReadSparsely(apart) => bench.read_sparsely(apart),
        Operation::Fill(blocks) => bench.disk.limit(bench.disk.used_bytes() + blocks * 4096),
        Operation::Free => {
            bench.disk.limit(u64::MAX);
            bench.log.probe(&mut bench.io);
        }
        Operation::Withdraw => bench.withdraw(),
        Operation::PowerCut(seed) => power_cut(bench, seed),
        Operation::PowerCuts(seeds) => {
            let durable = bench.log.durable_up_to();
            bench.disk.crash(seeds[0]);
            for seed in &seeds[1..] {
                bench.recover_in_part(*seed);
            }
            bench.reopen(1);
            check(bench, durable);
        }
        Operation::Kill => {
            let written = bench.log.written_up_to();
            bench.reopen(2);
            check(bench, written);
        }
        Operation::Close => {
            bench.disk.limit(u64::MAX);
            bench.log.probe(&mut bench.io);
            bench.close();
            let appended = bench.log.appended_up_to();
            let report = bench.reopen(3);
            assert!(report.is_clean(), "{report:?}");
            check(bench, appended);
        }
    }
}

fn power_cut(bench: &mut Bench, seed: u64) {
    let durable = bench.log.durable_up_to();
    let report = bench.crash(seed);
    assert!(report.missing.is_empty() && report.damages.is_empty(), "{report:?}");
    check(bench, durable);
}

fn check(bench: &mut Bench, promised: u64) {
    bench.check_prefix(promised);
    bench.check_cursors();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn recovered_is_a_prefix_with_everything_durable(
        seed in any::<u64>(),
        operations in prop::collection::vec(operation(), 1..120),
    ) {
        let mut bench = Bench::new(seed);
        for operation in operations {
            run(&mut bench, operation);
        }
        bench.disk.limit(u64::MAX);
        bench.log.probe(&mut bench.io);
        bench.drain();
        power_cut(&mut bench, seed);
    }
}
