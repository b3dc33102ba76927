//! `nsq_tail`.

use super::program::{Program, refuses, run, tcp};
use crate::support::daemon::{Daemon, Options};
use crate::support::wait::eventually;

const NSQ_TAIL: &str = env!("CARGO_BIN_EXE_nsq_tail");

#[test]
fn messages_are_printed_until_a_signal() {
    let daemon = Daemon::start(&Options::default());
    daemon.create_channel("t", "c");
    let address = tcp(&daemon);
    let flags = ["-topic=t", "-channel=c", "--print-topic", "-nsqd-tcp-address", &address];
    let mut program = Program::start(NSQ_TAIL, &flags);
    daemon.post("/mpub?topic=t", b"one\ntwo");
    assert_eq!(program.read(16), "t | one\nt | two\n");
    program.signal("INT");
    let ended = program.end();
    assert!(ended.status.success(), "{ended:?}");
    assert!(ended.stderr.contains(" Adding consumer for topic: t\n"), "{ended:?}");
    let line = format!(" INF    1 [t/c] ({address}) connecting to nsqd\n");
    assert!(ended.stderr.contains(&line), "{ended:?}");
    let channel = daemon.channel("t", "c").expect("it was made");
    assert_eq!((&channel["depth"], &channel["in_flight_count"]), (&0.into(), &0.into()));
}

#[test]
fn it_ends_after_n_messages_and_finishes_them() {
    let daemon = Daemon::start(&Options::default());
    daemon.create_channel("t", "c");
    daemon.post("/mpub?topic=t", b"1\n2\n3\n4\n5");
    let flags = ["-topic=t", "-channel=c", "-n=3", "-nsqd-tcp-address", &tcp(&daemon)];
    let ended = run(NSQ_TAIL, &flags);
    assert!(ended.status.success(), "{ended:?}");
    assert_eq!(ended.stdout.lines().count(), 3);
    eventually(|| {
        let channel = daemon.channel("t", "c").expect("it was made");
        let left = (channel["depth"].as_u64(), channel["in_flight_count"].as_u64());
        if left == (Some(2), Some(0)) { Ok(()) } else { Err(format!("{channel}")) }
    });
}

#[test]
fn without_a_channel_it_has_an_ephemeral_one() {
    let daemon = Daemon::start(&Options::default());
    let _program = Program::start(NSQ_TAIL, &["-topic=t", "-nsqd-tcp-address", &tcp(&daemon)]);
    eventually(|| {
        let topic = daemon.topic("t").ok_or("no topic")?;
        let name = topic["channels"][0]["channel_name"].as_str().ok_or("no channel")?;
        let digits = name.strip_prefix("tail").and_then(|n| n.strip_suffix("#ephemeral"));
        let fits = digits.is_some_and(|d| d.len() == 6 && d.parse::<u32>().is_ok());
        if fits { Ok(()) } else { Err(name.to_owned()) }
    });
}

#[test]
fn failures_are_told() {
    refuses(NSQ_TAIL, &[], "--nsqd-tcp-address or --lookupd-http-address required");
    let both = ["-nsqd-tcp-address=a:1", "-lookupd-http-address=b:1"];
    refuses(NSQ_TAIL, &both, "use --nsqd-tcp-address or --lookupd-http-address not both");
    refuses(NSQ_TAIL, &["-nsqd-tcp-address=a:1"], "--topic required");
    let version = run(NSQ_TAIL, &["-version"]);
    assert_eq!((version.status.code(), version.stdout.as_str()), (Some(0), "nsq_tail v1.3.0\n"));
    let ended = run(NSQ_TAIL, &["-topic=t", "-nsqd-tcp-address=127.0.0.1:1"]);
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
}
