//! Real clients against the daemon: each publishes 10 000 messages and consumes them, requeues,
//! touches, defers and lets a message time out. `interop/README.md` has the scenarios.
//!
//! The clients install themselves with pinned versions into `target/interop`, the first time over
//! the network. A client whose interpreter is missing is skipped with a line on stderr, unless
//! `RINGMAIN_REQUIRE_INTEROP=1`. `RINGMAIN_NSQD=/path/to/nsqd` tests that daemon instead of ours.

#[allow(dead_code, reason = "each test program uses a part of it")]
#[path = "support/auth_server.rs"]
mod auth_server;
#[path = "interop/clients.rs"]
mod clients;
#[path = "interop/daemon.rs"]
mod daemon;
#[path = "interop/process.rs"]
mod process;

use std::io::Write;
use std::time::Duration;

use auth_server::AuthServer;
use clients::{Client, Failure};
use daemon::Daemon;

/// A script gives up after 60 s by itself and says where it stood; this is for one that cannot.
const SCRIPT_DEADLINE: Duration = Duration::from_secs(75);

const PYNSQ: Client = Client { name: "pynsq", prepare: clients::python };
const GNSQ: Client = Client { name: "gnsq", prepare: clients::python };
const NSQJS: Client = Client { name: "nsqjs", prepare: clients::node };
const GO_NSQ: Client = Client { name: "go-nsq", prepare: clients::go };
const TOKIO_NSQ: Client = Client { name: "tokio-nsq", prepare: clients::cargo };

/// How a client reaches its daemons, beside what every test needs.
struct Way<'a> {
    /// Of the daemons and of the log of the run, after the client's.
    name: &'a str,
    flags: &'a [&'a str],
    /// What the program is told in its environment.
    env: &'a [(&'a str, &'a str)],
}

const PLAIN: Way<'_> = Way { name: "", flags: &[], env: &[] };

/// What the auth server lets the clients do: just what they need, for so short a time that it is
/// asked again in the middle of a run.
const GRANT: &str = r#"{"ttl":1,"identity":"interop","identity_url":"","authorizations":[
    {"topic":"^(bulk|touch|defer|requeue|timeout)$","channels":["^all$"],
        "permissions":["subscribe"]},
    {"topic":".*","channels":[""],"permissions":["publish"]}]}"#;

#[test]
fn pynsq() {
    run(&PYNSQ, &PLAIN);
}

#[test]
fn pynsq_with_auth() {
    run_with_auth(&PYNSQ);
}

#[test]
fn gnsq() {
    run(&GNSQ, &PLAIN);
}

#[test]
fn gnsq_with_auth() {
    run_with_auth(&GNSQ);
}

#[test]
fn nsqjs() {
    run(&NSQJS, &PLAIN);
}

#[test]
fn nsqjs_with_auth() {
    run_with_auth(&NSQJS);
}

#[test]
fn go_nsq() {
    run(&GO_NSQ, &PLAIN);
}

#[test]
fn go_nsq_with_auth() {
    run_with_auth(&GO_NSQ);
}

#[test]
fn tokio_nsq() {
    run(&TOKIO_NSQ, &PLAIN);
}

#[test]
fn tokio_nsq_with_auth() {
    run_with_auth(&TOKIO_NSQ);
}

fn run_with_auth(client: &Client) {
    let server = AuthServer::start(&[("open-sesame", GRANT)]);
    let address = format!("--auth-http-address={}", server.address);
    let way =
        Way { name: "-auth", flags: &[&address], env: &[("NSQD_AUTH_SECRET", "open-sesame")] };
    run(client, &way);
}

fn run(client: &Client, way: &Way<'_>) {
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
    let name = format!("{}{}", client.name, way.name);
    let daemon = Daemon::start(&name, way.flags);
    let quick_flags = [&["--msg-timeout=1500ms"], way.flags].concat();
    let quick = Daemon::start(&format!("{name}-quick"), &quick_flags);
    script.env("NSQD_ADDRESS", daemon.tcp_address());
    script.env("NSQD_QUICK_ADDRESS", quick.tcp_address());
    script.envs(way.env.iter().copied());
    let log = client.log(&format!("run{}", way.name));
    let outcome = process::run(&mut script, &log, SCRIPT_DEADLINE);
    if outcome.as_ref().is_ok_and(|output| output.lines().last() == Some("OK")) {
        return;
    }
    panic!(
        "{name}: {}\n--- nsqd\n{}--- nsqd --msg-timeout=1500ms\n{}",
        outcome.unwrap_or_else(|output| output),
        daemon.log(),
        quick.log(),
    );
}

fn required() -> bool {
    std::env::var("RINGMAIN_REQUIRE_INTEROP").is_ok_and(|value| value == "1")
}
