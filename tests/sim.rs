//! Whole daemons, their clients, their network and their disks in one thread, from one seed.
//!
//! `RINGMAIN_SIM_SEED=n cargo test --test sim replay -- --nocapture` repeats one seed;
//! `RINGMAIN_SIM_TRACE=1` shows everything that happens in it.
//! `cargo test --test sim twenty_thousand_seeds -- --ignored` takes a few minutes.

mod sim {
    mod auditor;
    mod client;
    mod disks;
    mod loss;
    mod plan;
    mod regressions;
    mod scenarios;
    mod start;
    mod trace;
    mod workload;
    mod world;

    use std::panic::{AssertUnwindSafe, catch_unwind};
    use workload::{Outcome, simulate};

    /// Runs a seed; if it fails, says how to run it again.
    fn run(seed: u64) -> Option<Outcome> {
        let outcome = catch_unwind(AssertUnwindSafe(|| simulate(seed)));
        if outcome.is_err() {
            let test = "cargo test --test sim replay -- --nocapture";
            eprintln!("seed {seed} fails; to replay it:\n    RINGMAIN_SIM_SEED={seed} {test}");
        }
        outcome.ok()
    }

    fn run_all(seeds: impl Iterator<Item = u64>) {
        let mut sum = workload::Outcome::default();
        let mut failed = Vec::new();
        for seed in seeds {
            match run(seed) {
                Some(outcome) => sum.add(&outcome),
                None => failed.push(seed),
            }
        }
        eprintln!("{sum:?}");
        assert!(failed.is_empty(), "seeds that fail: {failed:?}");
    }

    // Two halves, because the test program has a thread for each.
    #[test]
    fn a_thousand_seeds_even() {
        run_all((0..1000).step_by(2));
    }

    #[test]
    fn a_thousand_seeds_odd() {
        run_all((1..1000).step_by(2));
    }

    #[test]
    #[ignore = "takes minutes"]
    fn twenty_thousand_seeds_even() {
        run_all((0..20_000).step_by(2));
    }

    #[test]
    #[ignore = "takes minutes"]
    fn twenty_thousand_seeds_odd() {
        run_all((1..20_000).step_by(2));
    }

    /// One seed, from the environment.
    #[test]
    fn replay() {
        let Ok(seed) = std::env::var("RINGMAIN_SIM_SEED") else { return };
        let outcome = run(seed.parse().expect("a number")).expect("it fails again");
        eprintln!("{outcome:?}");
    }

    #[test]
    fn two_runs_of_a_seed_are_the_same() {
        for seed in 0..20 {
            assert_eq!(simulate(seed), simulate(seed), "{seed}");
        }
    }
}
