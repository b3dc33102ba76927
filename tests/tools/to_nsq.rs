//! `to_nsq`.

use super::program::{Program, refuses, run, tcp};
use crate::support::client::Client;
use crate::support::daemon::{Daemon, Options};
use crate::support::wait::{Stopwatch, eventually};
use std::time::Duration;

const TO_NSQ: &str = env!("CARGO_BIN_EXE_to_nsq");

fn bodies(daemon: &Daemon, count: usize) -> Vec<String> {
    let mut consumer = Client::consumer(daemon, "t", "c", 100);
    let mut bodies: Vec<_> = consumer
        .messages(count)
        .into_iter()
        .map(|message| String::from_utf8(message.body).expect("text"))
        .collect();
    bodies.sort();
    bodies
}

#[test]
fn every_record_goes_to_every_nsqd() {
    let daemons = [Daemon::start(&Options::default()), Daemon::start(&Options::default())];
    for daemon in &daemons {
        daemon.create_channel("t", "c");
    }
    let addresses = daemons.each_ref().map(|daemon| format!("-nsqd-tcp-address={}", tcp(daemon)));
    let mut program = Program::start(TO_NSQ, &["-topic=t", &addresses[0], &addresses[1]]);
    program.feed(b"one\n\ntwo\nlastX");
    let ended = program.end();
    assert!(ended.status.success(), "{ended:?}");
    for daemon in &daemons {
        assert_eq!(bodies(daemon, 3), ["lastX", "one", "two"]);
    }
}

#[test]
fn records_go_out_as_they_come_and_a_signal_ends_it() {
    let daemon = Daemon::start(&Options::default());
    daemon.create_channel("t", "c");
    let address = tcp(&daemon);
    let flags = ["--topic", "t", "--delimiter", ",", "--nsqd-tcp-address", &address];
    let mut program = Program::start(TO_NSQ, &flags);
    program.feed(b"one,two,not yet");
    assert_eq!(bodies(&daemon, 2), ["one", "two"]);
    program.signal("TERM");
    // Its input stays open until it has ended.
    eventually(|| {
        let log = daemon.log();
        let ended = log.matches("exiting ioloop").count() >= 2;
        if ended { Ok(()) } else { Err(log) }
    });
    assert!(program.end().status.success());
}

#[test]
fn many_records_are_not_lost() {
    const COUNT: usize = 20_000;
    let daemon =
        Daemon::start(&Options { flags: &["--mem-queue-size=100000"], ..Options::default() });
    daemon.create_channel("t", "c");
    let mut program = Program::start(TO_NSQ, &["-topic=t", "-nsqd-tcp-address", &tcp(&daemon)]);
    let input: String = (0..COUNT).map(|at| format!("{at:06}\n")).collect();
    program.feed(input.as_bytes());
    assert!(program.end().status.success());
    let channel = daemon.channel("t", "c").expect("it was made");
    assert_eq!(channel["depth"], COUNT);
}

#[test]
fn a_rate_is_kept() {
    let daemon = Daemon::start(&Options::default());
    let started = Stopwatch::start();
    let address = tcp(&daemon);
    let flags = ["-topic=t", "-rate=10", "-nsqd-tcp-address", &address];
    let mut program = Program::start(TO_NSQ, &flags);
    program.feed(b"1\n2\n3\n4\n5\n");
    let ended = program.end();
    assert!(ended.stderr.contains("Throttling messages rate to max:10/second"), "{ended:?}");
    assert!(started.elapsed() >= Duration::from_millis(400));
}

#[test]
fn failures_are_told() {
    refuses(TO_NSQ, &[], "--topic required");
    refuses(TO_NSQ, &["-topic=t", "-delimiter=ab"], "--delimiter must be a single byte");
    refuses(TO_NSQ, &["-topic=t"], "--nsqd-tcp-address required");
    let wrong = run(TO_NSQ, &["-topic=t", "-producer-opt=nope,1"]);
    assert_eq!(wrong.status.code(), Some(2), "{wrong:?}");
    let text = "invalid value \"nope,1\" for flag -producer-opt: invalid option nope\n";
    assert!(wrong.stderr.starts_with(text), "{wrong:?}");

    let mut program = Program::start(TO_NSQ, &["-topic=t", "-nsqd-tcp-address=127.0.0.1:1"]);
    program.feed(b"x\n");
    let ended = program.end();
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    assert!(ended.stderr.contains("Connection refused"), "{ended:?}");
    // What is not needed is not connected to.
    assert!(run(TO_NSQ, &["-topic=t", "-nsqd-tcp-address=127.0.0.1:1"]).status.success());
}
