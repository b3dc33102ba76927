//! What survives the end of the daemon, in order and not, and who may use its data directory.

#[allow(dead_code, reason = "each test program uses a part of it")]
mod support;

mod restart {
    mod data_path;
    mod messages;
    mod metadata;
    mod policies;

    use crate::support::daemon::{Daemon, Options, command, log_path};
    use crate::support::wait::eventually;
    use std::fs;
    use std::path::Path;

    /// The bytes of `nsqd.dat`.
    fn saved(directory: &Path) -> String {
        fs::read_to_string(directory.join("nsqd.dat")).unwrap_or_default()
    }

    /// `nsqd.dat` with these topics, given as JSON.
    fn document(topics: &str) -> String {
        format!("{{\"topics\":{topics},\"version\":\"1.3.0\"}}")
    }

    /// Waits until `nsqd.dat` is exactly this.
    fn wait_saved(daemon: &Daemon, expected: &str) {
        eventually(|| {
            let seen = saved(daemon.directory());
            if seen == expected { Ok(()) } else { Err(seen) }
        });
    }

    /// Ends the daemon with a signal and starts another in its directory.
    fn restart(daemon: &mut Daemon, signal: &str, shards: u16) -> Daemon {
        let status = daemon.terminate(signal);
        assert_eq!(status.success(), signal == "TERM", "{status}");
        daemon.start_again(&Options { shards, ..Options::default() })
    }

    /// Runs the program in a directory where it cannot start, and returns its status and its log.
    fn start_refused(directory: &Path, flags: &[&str]) -> (Option<i32>, String) {
        let mut command = command(directory);
        command.args(["--tcp-address=127.0.0.1:0", "--http-address=127.0.0.1:0"]).args(flags);
        let mut child = command.spawn().expect("the daemon starts");
        let status =
            eventually(|| child.try_wait().expect("it is our child").ok_or("it runs".to_owned()));
        (status.code(), fs::read_to_string(log_path(directory)).expect("its log"))
    }
}
