//! `nsq_to_nsq`.

use super::program::{Program, refuses, run, tcp};
use crate::support::client::Client;
use crate::support::daemon::{Daemon, Options};
use crate::support::wait::eventually;

const NSQ_TO_NSQ: &str = env!("CARGO_BIN_EXE_nsq_to_nsq");

fn start(from: &Daemon, to: &[&Daemon], flags: &[&str]) -> Program {
    let from = format!("-nsqd-tcp-address={}", tcp(from));
    let to = to.iter().map(|daemon| format!("-destination-nsqd-tcp-address={}", tcp(daemon)));
    let fixed = [from, "-topic=t".to_owned(), "-channel=c".to_owned()];
    let all: Vec<String> = fixed.into_iter().chain(to).collect();
    let all: Vec<&str> = all.iter().map(String::as_str).chain(flags.iter().copied()).collect();
    Program::start(NSQ_TO_NSQ, &all)
}

fn bodies(daemon: &Daemon, topic: &str, count: usize) -> Vec<String> {
    let mut consumer = Client::consumer(daemon, topic, "check", 100);
    let mut bodies: Vec<_> = consumer
        .messages(count)
        .into_iter()
        .map(|message| String::from_utf8(message.body).expect("text"))
        .collect();
    bodies.sort();
    bodies
}

#[test]
fn messages_are_spread_and_finished() {
    let daemons: [_; 3] = std::array::from_fn(|_| Daemon::start(&Options::default()));
    let [from, left, right] = &daemons;
    from.create_channel("t", "c");
    left.create_channel("other", "check");
    right.create_channel("other", "check");
    let flags = ["-destination-topic=other", "-mode=round-robin", "-status-every=2"];
    let program = start(from, &[left, right], &flags);
    from.post("/mpub?topic=t", b"1\n2\n3\n4");
    assert_eq!(bodies(left, "other", 2).len() + bodies(right, "other", 2).len(), 4);
    eventually(|| {
        let channel = from.channel("t", "c").ok_or("no channel")?;
        let left = (channel["depth"].as_u64(), channel["in_flight_count"].as_u64());
        if left == (Some(0), Some(0)) { Ok(()) } else { Err(format!("{channel}")) }
    });
    program.signal("TERM");
    let ended = program.end();
    assert!(ended.status.success(), "{ended:?}");
    assert!(ended.stderr.contains(" [aggregate]: finished 4 - 99th: "), "{ended:?}");
    assert!(ended.stderr.contains(&format!(" [{}]: finished 2 - 99th: ", tcp(left))), "{ended:?}");
}

#[test]
fn a_destination_that_is_down_is_left_out() {
    let (from, to) = (Daemon::start(&Options::default()), Daemon::start(&Options::default()));
    let mut down = Daemon::start(&Options::default());
    down.terminate("TERM");
    from.create_channel("t", "c");
    to.create_channel("t", "check");
    let flags = ["-consumer-opt=default_requeue_delay,0", "-consumer-opt=max_backoff_duration,0"];
    let _program = start(&from, &[&down, &to], &flags);
    from.post("/mpub?topic=t", b"1\n2\n3\n4\n5\n6");
    assert_eq!(bodies(&to, "t", 6), ["1", "2", "3", "4", "5", "6"]);
}

#[test]
fn json_decides_what_passes() {
    let (from, to) = (Daemon::start(&Options::default()), Daemon::start(&Options::default()));
    from.create_channel("t", "c");
    to.create_channel("t", "check");
    let flags = ["-require-json-field=a", "-require-json-value=5", "-whitelist-json-field=b"];
    let program = start(&from, &[&to], &flags);
    let lines = "{\"a\":5,\"b\":1,\"c\":2}\nnope\n{\"a\":6,\"b\":2}\n{\"a\":\"5\",\"b\":3.0}";
    from.post("/mpub?topic=t", lines.as_bytes());
    assert_eq!(bodies(&to, "t", 2), [r#"{"b":1}"#, r#"{"b":3}"#]);
    program.signal("INT");
    let ended = program.end();
    assert!(ended.stderr.contains(" ERROR: Unable to decode json: nope\n"), "{ended:?}");
}

#[test]
fn failures_are_told() {
    let topic = "-topic=t";
    for (flags, text) in [
        (&[][..], "--topic and --channel are required"),
        (&["-topic=a$"], "--topic is invalid"),
        (&[topic, "-destination-topic=a$"], "--destination-topic is invalid"),
        (&[topic, "-channel=a$"], "--channel is invalid"),
        (&[topic], "--nsqd-tcp-address or --lookupd-http-address required"),
        (&[topic, "-nsqd-tcp-address=a:1"], "--destination-nsqd-tcp-address required"),
    ] {
        refuses(NSQ_TO_NSQ, flags, text);
    }
    assert_eq!(run(NSQ_TO_NSQ, &["-version"]).stdout, "nsq_to_nsq v1.3.0\n");
}
