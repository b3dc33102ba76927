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

/// Every client over every layer, alone and in pairs; the clients are independent, their layers come
/// one after the other.
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
    let clients = [
        Client { name: "pynsq", prepare: clients::python },
        Client { name: "gnsq", prepare: clients::python },
        Client { name: "nsqjs", prepare: clients::node },
        Client { name: "go-nsq", prepare: clients::go },
        Client { name: "tokio-nsq", prepare: clients::cargo },
    ];
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

fn run(client: Client) {
    let Some(mut script) = prepare(&client) else { return };
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
