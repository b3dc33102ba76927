//! `nsq_stat`.

use super::program::{Program, http, refuses, run};
use crate::support::daemon::{Daemon, Options};

const NSQ_STAT: &str = env!("CARGO_BIN_EXE_nsq_stat");

#[test]
fn lines_are_sums_over_nsqds() {
    let daemons = [Daemon::start(&Options::default()), Daemon::start(&Options::default())];
    for daemon in &daemons {
        daemon.create_channel("t", "c");
        daemon.post("/mpub?topic=t", b"1\n2\n3");
    }
    let [left, right] =
        daemons.each_ref().map(|daemon| format!("-nsqd-http-address={}", http(daemon)));
    let flags = ["-topic=t", "-channel=c", "-count=2", "-interval=50ms", &left, &right];
    let ended = run(NSQ_STAT, &flags);
    assert!(ended.status.success(), "{ended:?}");
    let line = "      0       0 |       6       6       0     0     0 |       0       0 \
                \x20          6       0";
    let lines: Vec<_> = ended.stdout.lines().collect();
    assert_eq!(lines.len(), 4, "{ended:?}");
    assert!(lines[0].starts_with("------rate------+"));
    assert_eq!((lines[2], lines[3]), (line, line));
}

#[test]
fn a_signal_ends_it_and_failures_are_told() {
    let daemon = Daemon::start(&Options::default());
    daemon.create_channel("t", "c");
    let address = http(&daemon);
    let flags = ["-topic=t", "-channel=c", "-nsqd-http-address", &address];
    let mut program = Program::start(NSQ_STAT, &flags);
    program.read(20);
    program.signal("HUP");
    assert!(program.end().status.success());

    let flags = ["-topic=t", "-channel=other", "-nsqd-http-address", &address];
    refuses(
        NSQ_STAT,
        &flags,
        "ERROR: failed to find channel(other) in stats metadata for topic(t)",
    );
    let flags = ["-topic=other", "-channel=c", "-nsqd-http-address", &address];
    refuses(NSQ_STAT, &flags, "ERROR: failed to get nsqd stats - []");
    refuses(NSQ_STAT, &["-topic=t"], "--topic and --channel are required");
    let named = ["-topic=t", "-channel=c"];
    for (flag, text) in [
        ("-interval=0s", "--interval should be positive"),
        ("-count=0", "--count should be positive"),
        ("-http-client-connect-timeout=0", "--http-client-connect-timeout should be positive"),
        (
            "-nsqd-http-address=http://a:1",
            "--nsqd-http-address error - address should not contain scheme",
        ),
        ("-version=false", "--nsqd-http-address or --lookupd-http-address required"),
    ] {
        refuses(NSQ_STAT, &[named[0], named[1], flag], text);
    }
}
