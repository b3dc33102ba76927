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

/// Every client over every layer, alone and in pairs; the clients are independent, their layers
/// come one after the other.
#[test]
fn layers() {
    let directory = tempfile::TempDir::new().expect("a temporary directory");
    let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]);
    let certified = certified.expect("a certificate");
    let paths = ["cert", "key"].map(|kind| directory.path().join(kind));
    std::fs::write(&paths[0], certified.cert.pem()).expect("a new file");
    std::fs::write(&paths[1], certified.signing_key.serialize_pem()).expect("a new file");
    let flags =
        [format!("--tls-cert={}", paths[0].display()), format!("--tls-key={}", paths[1].display())];
    let clients = [PYNSQ, GNSQ, NSQJS, GO_NSQ, TOKIO_NSQ];
    std::thread::scope(|scope| {
        for client in clients {
            let flags = &flags;
            scope.spawn(move || {
                for layers in ["tls_v1", "snappy", "deflate", "tls_v1,snappy", "tls_v1,deflate"] {
                    // tokio-nsq 0.14.0 leaves what it has inflated until more comes, from any nsqd.
                    if client.name != "tokio-nsq" || !layers.contains("deflate") {
                        run_over(&client, layers, flags);
                    }
                }
            });
        }
    });
}

fn run_over(client: &Client, layers: &str, flags: &[String; 2]) {
    let Some(mut script) = prepare(client) else { return };
    let name = format!("{}-{}", client.name, layers.replace(',', "-"));
    let daemon = Daemon::start(&name, &[&flags[0], &flags[1]]);
    script.env("NSQD_ADDRESS", daemon.tcp_address());
    script.env("NSQD_QUICK_ADDRESS", daemon.tcp_address());
    script.env("NSQD_LAYERS", layers);
    let outcome = process::run(&mut script, &client.log(layers), SCRIPT_DEADLINE);
    let is_good = outcome.as_ref().is_ok_and(|output| output.lines().last() == Some("OK"));
    let output = outcome.unwrap_or_else(|output| output);
    assert!(is_good, "{name}: {output}\n--- nsqd\n{}", daemon.log());
    for layer in layers.split(',') {
        let upgrades =
            daemon.log().matches(&format!("upgrading connection to {}", said(layer))).count();
        assert!(upgrades >= 1, "{name}: {upgrades} connections with {layer}");
    }
}

/// A layer as the log names it.
fn said(layer: &str) -> &str {
    if layer == "tls_v1" { "TLS" } else { layer }
}

/// The command that runs a client; `None` when its language is missing and may be.
fn prepare(client: &Client) -> Option<std::process::Command> {
    match client.prepare() {
        Ok(script) => Some(script),
        Err(Failure::Missing(what)) if !required() => {
            // Past the test harness, which keeps the prints of passing tests to itself.
            let line = format!("SKIPPED interop with {}: {what}", client.name);
            writeln!(std::io::stderr(), "{line}").expect("stderr takes a line");
            None
        }
        Err(failure) => panic!("{}: {failure}", client.name),
    }
}

fn run(client: &Client, way: &Way<'_>) {
    let Some(mut script) = prepare(client) else { return };
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
