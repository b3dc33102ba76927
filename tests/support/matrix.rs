//! Runs a case on every setup it must hold for: TCP and unix sockets, one shard and two.

use super::daemon::{Daemon, Options, plain_flags};
use std::thread;

/// How clients reach the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Tcp,
    Unix,
}

/// Runs the case on all four setups at once, each with a daemon of its own.
///
/// The case is a plain function of a daemon, so that no setup can be written by copying.
pub(crate) fn check(flags: &[&str], case: impl Fn(&Daemon) + Sync) {
    check_over(&[Transport::Tcp, Transport::Unix], flags, case);
}

/// As [`check`], for cases that concern TCP alone.
pub(crate) fn check_tcp(flags: &[&str], case: impl Fn(&Daemon) + Sync) {
    check_over(&[Transport::Tcp], flags, case);
}

fn check_over(transports: &[Transport], flags: &[&str], case: impl Fn(&Daemon) + Sync) {
    let shard_counts: &[u16] = if plain_flags() { &[1] } else { &[1, 2] };
    let setups = transports.iter().flat_map(|t| shard_counts.iter().map(move |s| (*t, *s)));
    let mut failed = Vec::new();
    thread::scope(|scope| {
        let mut running = Vec::new();
        for (transport, shards) in setups {
            let name = format!("{transport:?}, shards {shards}");
            let case = &case;
            let run = move || {
                let options = Options { transport, shards, flags };
                case(&Daemon::start(&options));
            };
            let thread = thread::Builder::new().name(name.clone()).spawn_scoped(scope, run);
            running.push((name, thread.expect("a thread can be started")));
        }
        for (name, thread) in running {
            if thread.join().is_err() {
                failed.push(name);
            }
        }
    });
    assert!(failed.is_empty(), "failed over {failed:?}; the panics are above");
}
