//! Command lines and configuration files, good and faulty, in the words of Go and NSQ.

use super::*;
use crate::log::{LogFormat, LogLevel};
use std::time::Duration;

fn parsed(arguments: &[&str]) -> Result<Options, Exit> {
    parse(arguments.iter().map(OsString::from))
}

/// The first line of standard error, and the status.
fn refused(arguments: &[&str]) -> (String, u8) {
    let exit = parsed(arguments).expect_err("this command line is faulty");
    assert_eq!(exit.stdout, "");
    (exit.stderr.lines().next().unwrap_or_default().to_owned(), exit.code)
}

/// Writes a configuration file and parses it with further arguments.
fn with_file(name: &str, text: &str, arguments: &[&str]) -> Result<Options, Exit> {
    let path = std::env::temp_dir().join(format!("ringmain-{}-{name}.toml", std::process::id()));
    std::fs::write(&path, text).unwrap();
    let config = format!("--config={}", path.display());
    let result = parsed(&[&[config.as_str()], arguments].concat());
    std::fs::remove_file(&path).unwrap();
    result
}

#[test]
fn flags_are_read_in_every_form_go_knows() {
    let options = parsed(&[
        "-mem-queue-size",
        "5",
        "--msg-timeout=1h30m",
        "-deflate=false",
        "-tls-required=F",
        "--lookupd-tcp-address=a:1",
        "-lookupd-tcp-address",
        "b:2",
        "-http-address=",
        "-log-level=DEBUG",
        "--e2e-processing-latency-percentile=0.5,1.0",
        "-e2e-processing-latency-percentile",
        "0.99",
        "-statsd-mem-stats",
        "-max-msg-size=0x10",
        "-max-msg-size=32",
        "-log-format=json",
        "-topology-zone",
        "-odd",
        "argument",
        "-no-flag-any-more",
    ])
    .unwrap();
    assert_eq!(options.mem_queue_size, 5);
    assert_eq!(options.msg_timeout, Duration::from_secs(5400));
    assert!(!options.deflate && options.snappy && options.statsd_mem_stats);
    assert_eq!(options.nsqlookupd_tcp_addresses, ["a:1", "b:2"]);
    assert_eq!(options.http_address, "");
    assert_eq!(options.log_level, LogLevel::Debug);
    assert_eq!(options.log_format, LogFormat::Json);
    assert_eq!(options.e2e_processing_latency_percentiles, [1.0, 0.99, 0.5]);
    assert_eq!(options.max_msg_size, 32);
    assert_eq!(options.topology_zone, "-odd");
    // A boolean takes no following argument: the first stray word ends the flags.
    let options = parsed(&["-worker-id", "5", "-shards=1"]).unwrap();
    assert!(options.worker_id);
    assert_eq!(parsed(&["--", "-nonsense"]).unwrap(), Options::default());
}

#[test]
fn faulty_flags_are_refused_in_the_words_of_go() {
    let cases: &[(&[&str], &str)] = &[
        (&["--no-such=1"], "flag provided but not defined: -no-such"),
        (&["-x"], "flag provided but not defined: -x"),
        (&["--mem-queue-size=abc"], "invalid value \"abc\" for flag -mem-queue-size: parse error"),
        (&["-sync-every=1e3"], "invalid value \"1e3\" for flag -sync-every: parse error"),
        (&["--msg-timeout", "5"], "invalid value \"5\" for flag -msg-timeout: parse error"),
        (&["--deflate=maybe"], "invalid boolean value \"maybe\" for -deflate: parse error"),
        (
            &["--tls-required=x"],
            "invalid boolean value \"x\" for -tls-required: strconv.ParseBool: parsing \"x\": \
             invalid syntax",
        ),
        (
            &["--log-level=x"],
            "invalid value \"x\" for flag -log-level: invalid log level 'x' (debug, info, warn, \
             error, fatal)",
        ),
        (
            &["--tls-min-version=ssl3.0"],
            "invalid value \"ssl3.0\" for flag -tls-min-version: unknown tlsVersionOption \
             \"ssl3.0\"",
        ),
        (
            &["-mem-queue-size=99999999999999999999"],
            "invalid value \"99999999999999999999\" for flag -mem-queue-size: value out of range",
        ),
        (&["-deflate", "-tcp-address"], "flag needs an argument: -tcp-address"),
        (&["---x"], "bad flag syntax: ---x"),
        (&["-=x"], "bad flag syntax: -=x"),
        (&["-shards=", "-h"], "invalid value \"\" for flag -shards: parse error"),
    ];
    for (arguments, expected) in cases {
        assert_eq!(refused(arguments), ((*expected).to_owned(), 2), "{arguments:?}");
    }
    for (unknown, nearest) in [
        ("-mem-que-size=1", "mem-queue-size"),
        ("-lookupd-tcp-adress=a:1", "lookupd-tcp-address"),
        ("-statsd-addr=a:1", "statsd-address"),
    ] {
        let exit = parsed(&[unknown]).unwrap_err();
        let expected = format!("\ndid you mean -{nearest}?\nUsage of nsqd:\n");
        assert!(exit.stderr.contains(&expected), "{unknown}: {}", exit.stderr);
    }
    let (line, code) = refused(&["--io=epoll"]);
    assert!(line.contains("no epoll driver"), "{line}");
    assert_eq!(code, 2);
    let (line, code) = refused(&["--e2e-processing-latency-percentile=0.5,x"]);
    assert!(line.ends_with(" Could not parse: x"), "{line}");
    assert_eq!(code, 1);
}

#[test]
fn help_and_version_leave_with_status_0() {
    for flag in ["-h", "--help", "-help=1"] {
        let exit = parsed(&["-shards=1", flag, "-nonsense"]).unwrap_err();
        assert_eq!((exit.code, exit.stdout.as_str()), (0, ""));
        assert!(exit.stderr.starts_with("Usage of nsqd:\n  -auth-http-address value\n    \t"));
        assert!(exit.stderr.contains("\n  -deflate\n"), "booleans stand alone");
        assert!(exit.stderr.contains("(default 0.0.0.0:4150)\n"));
        let (nsqds, ours) = exit.stderr.split_once("Flags that nsqd does not have:\n").unwrap();
        assert!(nsqds.contains("  -worker-id\n") && !nsqds.contains("  -shards "));
        assert!(ours.contains("  -shards value\n") && ours.contains("  -memory-budget value\n"));
    }
    let exit = parsed(&["--version"]).unwrap_err();
    assert_eq!((exit.code, exit.stderr.as_str()), (0, ""));
    assert!(exit.stdout.starts_with("nsqd v1.3.0 (built w/rust1."), "{}", exit.stdout);
    assert!(exit.stdout.ends_with(")\n"));
}

#[test]
fn options_that_cannot_run_are_fatal() {
    let cases: &[(&[&str], &str)] = &[
        (&["--max-deflate-level=10", "--node-id=-1"], "--max-deflate-level must be [1,9]"),
        (&["--node-id=1024"], "--node-id must be [0,1024)"),
        (&["--tls-required"], "cannot require TLS client connections without TLS key and cert"),
        (
            &["--tls-client-auth-policy=require"],
            "cannot require TLS client connections without TLS key and cert",
        ),
        (
            &["--tls-cert=/nonexistent"],
            "failed to build TLS config - open /nonexistent: no such file or directory",
        ),
        (
            &["--tls-key=k", "--tls-required"],
            "failed to build TLS config - open : no such file or directory",
        ),
        (
            &["--tls-cert=/dev/null", "--tls-key=/dev/null"],
            "failed to build TLS config - tls: failed to find any PEM data in certificate input",
        ),
        (
            &["--tls-root-ca-file=/nonexistent", "--auth-http-request-method=put"],
            "failed to build client TLS config - open /nonexistent: no such file or directory",
        ),
        (
            &["--tls-root-ca-file=/dev/null"],
            "failed to build client TLS config - failed to append certificate to pool",
        ),
        (
            &["--statsd-address=a:1", "--statsd-interval=1s"],
            "--statsd-interval must be more than 1s",
        ),
        (&["--auth-http-request-method=put"], "--auth-http-request-method must be post or get"),
        (
            &["--e2e-processing-latency-percentile=1.5"],
            "invalid E2E processing latency percentile: 1.5",
        ),
        (&["--shards=0"], "--shards must be [1,256]"),
        (&["--output-buffer-timeout=0"], "--output-buffer-timeout must be positive"),
    ];
    for (arguments, reason) in cases {
        let (line, code) = refused(arguments);
        assert!(line.starts_with("[nsqd] "), "{line}");
        let expected = format!(" FATAL: failed to instantiate nsqd - {reason}");
        assert!(line.ends_with(&expected), "{line}");
        assert_eq!(code, 1);
    }
}

#[test]
fn i1_files_are_read_and_flags_win_over_them() {
    let text = r#"
        log_level = "debug"
        tls_min_version = ""
        id = 7
        msg_timeout = 1500
        max_msg_timeout = "20m"
        max_rdy_count = "12"
        snappy = "false"
        nsqlookupd_tcp_addresses = ["a:1", "b:2"]
        enable_experiment = "x,y"
        e2e_processing_latency_percentiles = [0.5, 1.0]
        shards = 3
        verbose = "ignored, as only the command line has it"
        unknown = "ignored"
    "#;
    let options =
        with_file("i1", text, &["-node-id=9", "-lookupd-tcp-address=c:3", "-shards=2"]).unwrap();
    assert_eq!(options.log_level, LogLevel::Debug);
    assert_eq!(options.tls_min_version, TlsVersion(769));
    assert_eq!((options.id, options.shards, options.max_rdy_count), (9, 2, 12));
    assert_eq!(options.msg_timeout, Duration::from_millis(1500));
    assert_eq!(options.max_msg_timeout, Duration::from_secs(1200));
    assert!(!options.snappy && !options.verbose);
    assert_eq!(options.nsqlookupd_tcp_addresses, ["c:3"]);
    assert_eq!(options.enable_experiment, ["x", "y"]);
    assert_eq!(options.e2e_processing_latency_percentiles, [1.0, 0.5]);
}

#[test]
fn faulty_files_are_fatal() {
    let cases = [
        ("log_level = 'x'", "FATAL: failed parsing log_level x"),
        ("tls_required = 3", "FATAL: failed parsing tls_required 3"),
        ("tls_min_version = 'ssl3.0'", "FATAL: failed parsing tls_min_version ssl3.0"),
        (
            "mem_queue_size = 'abc'",
            "ERROR: Resolve failed to coerce value abc for mem_queue_size - invalid digit found \
             in string",
        ),
        (
            "mem_queue_size = -1",
            "ERROR: Resolve failed to coerce value -1 for mem_queue_size - value out of range",
        ),
        (
            "deflate = 0",
            "ERROR: Resolve failed to coerce value 0 for deflate - invalid value type integer",
        ),
        (
            "msg_timeout = '5'",
            "ERROR: Resolve failed to coerce value 5 for msg_timeout - parse error",
        ),
        (
            "e2e_processing_latency_percentiles = [1]",
            "ERROR: Resolve failed to coerce value [1] for e2e_processing_latency_percentiles - \
             a list item is of type integer",
        ),
        ("id = 1024", "FATAL: failed to instantiate nsqd - --node-id must be [0,1024)"),
    ];
    for (text, expected) in cases {
        let exit = with_file("faulty", text, &[]).unwrap_err();
        assert_eq!(exit.code, 1);
        assert!(exit.stderr.ends_with(&format!(" {expected}\n")), "{}", exit.stderr);
    }
    let exit = with_file("syntax", "a = = b", &[]).unwrap_err();
    assert!(exit.stderr.contains(" FATAL: failed to load config file /"), "{}", exit.stderr);
    let exit = parsed(&["-config", "/nonexistent"]).unwrap_err();
    let expected = "FATAL: failed to load config file /nonexistent - open /nonexistent: no such \
                    file or directory\n";
    assert!(exit.stderr.ends_with(expected), "{}", exit.stderr);
}

#[test]
fn options_without_effect_are_warned_of_once() {
    let options = parsed(&[
        "-lookupd-tcp-address=a:1",
        "-lookupd-tcp-address=b:1",
        "-enable-experiment=unheard-of",
        "-statsd-interval=60s",
        "-queue-scan-worker-pool-max=1",
        "-queue-scan-worker-pool-max=2",
        "-verbose",
    ])
    .unwrap();
    assert_eq!(
        options.warnings,
        [
            "option queue_scan_worker_pool_max has no effect: timeouts are kept in order and need \
             no scanning",
            "--verbose has no effect: use --log-level",
        ]
    );
    assert!(parsed(&[]).unwrap().warnings.is_empty());
}

#[test]
fn options_without_effect_exist() {
    let options = validate::by_name(&Options::default());
    for (name, _) in validate::WITHOUT_EFFECT {
        assert!(options.get(name).is_some(), "{name}");
    }
}
