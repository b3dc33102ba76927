//! What an acknowledged message survives: the end of the process, of the power, of the space.
//!
//! The checker knows every message by number: what was sent, acknowledged or refused, and which
//! channel was given it. Lost is what was acknowledged and never came; what nobody sent, or came
//! damaged, ends a test at once. Tests are named by their number in the plan of reliability.
//!
//! `RINGMAIN_ROUNDS` is how often a test does its worst (kills, power cuts, stops, fills), and
//! `RINGMAIN_MESSAGES` how many messages pile up; the default suite is short. `RINGMAIN_SEED`
//! repeats the choices, not the timing. Tests of disks need root, loop devices, `mkfs.ext4` and
//! `perl`, and say so where they are skipped.

#[allow(dead_code, reason = "each test program uses a part of it")]
mod support;

mod durability {
    mod cycles;
    mod disk;
    mod full;
    mod kills;
    mod ledger;
    mod pile;
    mod power;
    mod recovery;
    mod topics;
    mod traffic;
    #[allow(dead_code, reason = "each test program uses a part of it")]
    #[path = "../delivery/wire.rs"]
    mod wire;

    use crate::support::daemon::{Daemon, Options};
    use crate::support::wait::{PATIENCE, Stopwatch, pass};
    use fastrand::Rng;
    use std::env;
    use std::os::unix::process::ExitStatusExt;
    use std::sync::Arc;
    use std::time::Duration;
    use tempfile::TempDir;

    /// A number from the environment.
    fn number(variable: &str, default: usize) -> usize {
        env::var(variable).map_or(default, |text| text.parse().expect("a number"))
    }

    /// How often a test does its worst.
    fn rounds(default: usize) -> usize {
        number("RINGMAIN_ROUNDS", default)
    }

    /// Randomness that can be had again.
    fn random() -> Rng {
        let default = usize::try_from(fastrand::u32(..)).expect("a 64-bit machine");
        let seed = number("RINGMAIN_SEED", default);
        eprintln!("RINGMAIN_SEED={seed}");
        Rng::with_seed(seed as u64)
    }

    /// A daemon in a directory, with so many shards.
    fn start(directory: &Arc<TempDir>, shards: u16, flags: &[&str]) -> Daemon {
        let options = Options { shards, flags, ..Options::default() };
        Daemon::start_in(Arc::clone(directory), &options)
    }

    /// Ends the daemon as `kill -9` does. It must have been alive, and without errors until then.
    fn kill(daemon: &mut Daemon) {
        let status = daemon.terminate("KILL");
        assert_eq!(status.signal(), Some(9), "{status}\n{}", daemon.log());
        check_log(daemon);
    }

    /// Nothing went wrong that the daemon would tell of.
    fn check_log(daemon: &Daemon) {
        let log = daemon.log();
        let bad = |line: &&str| line.contains(" ERROR: ") || line.contains("panicked");
        let bad: Vec<_> = log.lines().filter(bad).collect();
        assert!(bad.is_empty(), "{bad:#?}");
    }

    /// Messages that a topic and its channels still hold, wherever.
    fn held(daemon: &Daemon, topic: &str) -> u64 {
        let topic = daemon.topic(topic).expect("the topic is there");
        let channels = topic["channels"].as_array().into_iter().flatten();
        let keys = ["depth", "in_flight_count", "deferred_count"];
        let of = |channel| keys.map(|key: &str| u64_of(channel, key)).iter().sum::<u64>();
        u64_of(&topic, "depth") + channels.map(of).sum::<u64>()
    }

    fn u64_of(value: &serde_json::Value, key: &str) -> u64 {
        value[key].as_u64().unwrap_or_else(|| panic!("no {key} in {value}"))
    }

    /// Waits until nothing is held any more; gives up only when nothing moves.
    fn wait_drained(daemon: &Daemon, topic: &str) {
        let (mut since, mut fewest) = (Stopwatch::start(), u64::MAX);
        loop {
            let held = held(daemon, topic);
            if held == 0 {
                return;
            }
            if held < fewest {
                (since, fewest) = (Stopwatch::start(), held);
            }
            assert!(since.elapsed() < PATIENCE, "{held} messages stay: {:?}", daemon.topic(topic));
            pass(Duration::from_millis(10));
        }
    }
}
