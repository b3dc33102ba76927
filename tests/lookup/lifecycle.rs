//! Start and end: command lines, addresses, signals, log lines.

use super::daemon::{Daemon, is_original, program};
use std::process::{Command, Output};

fn run(arguments: &[&str]) -> Output {
    Command::new(program()).args(arguments).output().expect("the program runs")
}

#[test]
fn version_help_and_faulty_flags() {
    let output = run(&["-version"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(output.stdout.starts_with(b"nsqlookupd v1."), "{output:?}");
    let output = run(&["-help"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(output.stderr.starts_with(b"Usage of "), "{output:?}");
    let output = run(&["--data-path=x"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(output.stderr.starts_with(b"flag provided but not defined: -data-path\n"));
    let output = run(&["--config=/nonexistent"]);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("FATAL: failed to load config file /nonexistent - "), "{text}");
}

#[test]
fn addresses_that_cannot_be_listened_on_are_fatal() {
    let daemon = Daemon::start(&[]);
    let crate::support::stream::Address::Tcp(taken) = &daemon.tcp else { unreachable!("TCP") };
    let output = run(&[&format!("--tcp-address={taken}"), "--http-address=127.0.0.1:0"]);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr).unwrap();
    let reason =
        format!("listen ({taken}) failed - listen tcp {taken}: bind: address already in use");
    assert!(text.contains(&reason), "{text}");
    let output = run(&["--tcp-address=127.0.0.1:0", "--http-address=/tmp/nsqlookupd.sock"]);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("listen (/tmp/nsqlookupd.sock) failed - listen tcp: "), "{text}");
    assert!(text.contains("missing port in address"), "{text}");
}

#[test]
fn signals_end_it_in_good_order() {
    for signal in ["TERM", "INT"] {
        let mut daemon = Daemon::start(&[]);
        let mut client = daemon.connect();
        client.identify();
        client.order("REGISTER t c");
        let status = daemon.terminate(signal);
        assert_eq!(status.code(), Some(0), "{signal}");
        assert_eq!(client.answer(), None);
        let log = daemon.log();
        for part in [
            " UNREGISTER category:channel key:t subkey:c",
            "] exiting ioloop",
            " TCP: closing 127.0.0.1:",
            " HTTP: closing 127.0.0.1:",
        ] {
            assert!(log.contains(part), "{part} in\n{log}");
        }
    }
}

#[test]
fn log_lines_are_those_of_nsqlookupd() {
    let daemon = Daemon::start(&[]);
    let mut client = daemon.connect();
    client.identify();
    let remote = daemon.nodes()[0]["remote_address"].as_str().unwrap().to_owned();
    client.order("REGISTER t c");
    client.order("UNREGISTER t c");
    client.order("PING");
    for target in [
        "/topic/create?topic=u",
        "/channel/create?topic=u&channel=c",
        "/topic/tombstone?topic=t&node=n:1",
        "/channel/delete?topic=u&channel=c",
        "/topic/delete?topic=u",
    ] {
        daemon.post(target).expect(200, "");
    }
    drop(client);
    daemon.wait_logged(&format!("ERROR: client({remote}) - EOF"));
    let log = daemon.log();
    for part in [
        &format!("INFO: TCP: new client({remote})\n"),
        &format!("INFO: CLIENT({remote}): desired protocol magic '  V1'\n"),
        &format!(
            "INFO: CLIENT({remote}): IDENTIFY Address:ip.address TCP:5000 HTTP:5555 \
             Version:fake-version\n"
        ),
        &format!("INFO: DB: client({remote}) REGISTER category:client key: subkey:\n"),
        &format!("INFO: DB: client({remote}) REGISTER category:channel key:t subkey:c\n"),
        &format!("INFO: DB: client({remote}) REGISTER category:topic key:t subkey:\n"),
        &format!("INFO: DB: client({remote}) UNREGISTER category:channel key:t subkey:c\n"),
        &format!("INFO: CLIENT({remote}): pinged (last ping "),
        &format!("INFO: PROTOCOL(V1): [{remote}] exiting ioloop\n"),
        &format!("INFO: DB: client({remote}) UNREGISTER category:topic key:t subkey:\n"),
        &"INFO: DB: adding topic(u)\n".to_owned(),
        &"INFO: DB: adding channel(c) in topic(u)\n".to_owned(),
        &"INFO: DB: setting tombstone for producer@n:1 of topic(t)\n".to_owned(),
        &"INFO: DB: removing channel(c) from topic(u)\n".to_owned(),
        &"INFO: DB: removing topic(u)\n".to_owned(),
    ] {
        assert!(log.contains(part.as_str()), "{part} in\n{log}");
    }
    assert!(log.lines().all(|line| line.starts_with("[nsqlookupd] ")), "{log}");
}

#[test]
fn both_ip_versions_are_served_and_named_alike() {
    if is_original() {
        return;
    }
    let daemon = Daemon::start(&["--tcp-address=:0"]);
    let crate::support::stream::Address::Tcp(address) = &daemon.tcp else { unreachable!("TCP") };
    let port = address.rsplit(':').next().unwrap();
    let local = crate::support::stream::Address::Tcp(format!("127.0.0.1:{port}"));
    let mut client = super::client::Client::connect(&local);
    client.identify();
    let remote = daemon.nodes()[0]["remote_address"].as_str().unwrap().to_owned();
    assert!(remote.starts_with("127.0.0.1:"), "{remote}");
}
