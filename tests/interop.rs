//! Real clients against the daemon: each publishes 10 000 messages and consumes them, requeues,
//! touches, defers and lets a message time out. `interop/README.md` has the scenarios.
//!
//! The clients install themselves with pinned versions into `target/interop`, the first time over
//! the network. A client whose interpreter is missing is skipped with a line on stderr, unless
//! `RINGMAIN_REQUIRE_INTEROP=1`. `RINGMAIN_NSQD=/path/to/nsqd` tests that daemon instead of ours.

#[path = "interop/clients.rs"]
mod clients;
#[path = "interop/daemon.rs"]
mod daemon;
#[path = "interop/process.rs"]
mod process;

use std::io::Write;
use std::time::Duration;

use clients::{Client, Failure};
use daemon::Daemon;

/// A script gives up after 60 s by itself and says where it stood; this is for one that cannot.
const SCRIPT_DEADLINE: Duration = Duration::from_secs(75);

#[test]
fn pynsq() {
    run(Client { name: "pynsq", prepare: clients::python });
}

#[test]
fn gnsq() {
    run(Client { name: "gnsq", prepare: clients::python });
}

#[test]
fn nsqjs() {
    run(Client { name: "nsqjs", prepare: clients::node });
}

#[test]
fn go_nsq() {
    run(Client { name: "go-nsq", prepare: clients::go });
}

#[test]
fn tokio_nsq() {
    run(Client { name: "tokio-nsq", prepare: clients::cargo });
}

fn run(client: Client) {
    let mut script = match client.prepare() {
        Ok(script) => script,
        Err(Failure::Missing(what)) if !required() => {
            // Past the test harness, which keeps the prints of passing tests to itself.
            let line = format!("SKIPPED interop with {}: {what}", client.name);
            writeln!(std::io::stderr(), "{line}").expect("stderr takes a line");
            return;
        }
        Err(failure) => panic!("{}: {failure}", client.name),
    };
    let daemon = Daemon::start(client.name, &[]);
    let quick = Daemon::start(&format!("{}-quick", client.name), &["--msg-timeout=1500ms"]);
    script.env("NSQD_ADDRESS", daemon.tcp_address());
    script.env("NSQD_QUICK_ADDRESS", quick.tcp_address());
    let outcome = process::run(&mut script, &client.log("run"), SCRIPT_DEADLINE);
    if outcome.as_ref().is_ok_and(|output| output.lines().last() == Some("OK")) {
        return;
    }
    panic!(
        "{}: {}\n--- nsqd\n{}--- nsqd --msg-timeout=1500ms\n{}",
        client.name,
        outcome.unwrap_or_else(|output| output),
        daemon.log(),
        quick.log(),
    );
}

fn required() -> bool {
    std::env::var("RINGMAIN_REQUIRE_INTEROP").is_ok_and(|value| value == "1")
}
