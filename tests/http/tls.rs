//! HTTPS, what is asked of its clients, and what is left of plain HTTP.

use crate::support::certificates::{CERTIFICATES, Shown};
use crate::support::daemon::{Daemon, Options};
use crate::support::http::{Reply, request_over_tls};
use crate::support::stream::Address;
use crate::support::wait::PATIENCE;
use std::io::{self, Read, Write};

/// A daemon with a certificate, and where it serves HTTPS.
fn start(flags: &[&str]) -> (Daemon, Address) {
    let flags = CERTIFICATES.flags(flags);
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let daemon = Daemon::start(&Options { flags: &flags, ..Options::default() });
    let https = daemon.https();
    (daemon, https)
}

/// A POST over TLS, of a client that shows a certificate.
fn post(https: &Address, shown: Shown, target: &str, body: &str) -> io::Result<Reply> {
    request_over_tls(https, shown, "POST", target, body.as_bytes())
}

fn is_refused_in_the_clear(daemon: &Daemon, https: &Address) {
    let Address::Tcp(https) = https else { panic!("HTTPS is on TCP") };
    let port = https.rsplit_once(':').expect("a port").1;
    let body = format!("{{\"message\": \"TLS_REQUIRED\", \"https_port\": {port}}}");
    for target in ["/pub?topic=t", "/ping", "/no/such"] {
        let reply = daemon.post(target, b"x");
        reply.expect(403, &body);
        assert_eq!(reply.header("content-type"), Some("application/json; charset=utf-8"));
        assert_eq!(reply.header("x-nsq-content-type"), Some("nsq; version=1.0"));
    }
    daemon.get("/ping").expect(403, &body);
}

#[test]
fn d8_https_require() {
    let (daemon, https) = start(&["--tls-client-auth-policy=require"]);
    is_refused_in_the_clear(&daemon, &https);
    assert!(post(&https, Shown::Nothing, "/pub?topic=t", "x").is_err());
    for shown in [Shown::Unrelated, Shown::Signed] {
        post(&https, shown, "/pub?topic=t", "test message").unwrap().expect(200, "OK");
    }
    let answer = post(&https, Shown::Signed, "/stats", "").unwrap();
    answer.expect_message(405, "METHOD_NOT_ALLOWED");
}

#[test]
fn d9_https_require_verify() {
    let root = CERTIFICATES.root_flag();
    let (daemon, https) = start(&["--tls-client-auth-policy=require-verify", &root]);
    is_refused_in_the_clear(&daemon, &https);
    assert!(post(&https, Shown::Unrelated, "/pub?topic=t", "x").is_err());
    post(&https, Shown::Signed, "/pub?topic=t", "test message").unwrap().expect(200, "OK");
}

#[test]
fn d10_tls_require_verify_except_http() {
    let root = CERTIFICATES.root_flag();
    let flags =
        ["--tls-required=tcp-https", "--tls-client-auth-policy=require-verify", root.as_str()];
    let (daemon, https) = start(&flags);
    daemon.post("/pub?topic=t", b"test message").expect(200, "OK");
    daemon.wait_topic("t", &[("depth", 1)]);
    assert!(post(&https, Shown::Nothing, "/pub?topic=t", "x").is_err());
}

/// `/pub` and `/stats` over TLS beside plain HTTP, when nothing is required.
#[test]
fn https_beside_http() {
    let (daemon, https) = start(&[]);
    daemon.post("/pub?topic=t", b"plain").expect(200, "OK");
    post(&https, Shown::Nothing, "/pub?topic=t", "over TLS").unwrap().expect(200, "OK");
    daemon.wait_topic("t", &[("depth", 2)]);
}

/// Who connects and says nothing, or nonsense, holds nobody up, and is cut off.
#[test]
fn https_of_strangers() {
    let (daemon, https) = start(&[]);
    let mut silent: Vec<_> = (0..20).map(|_| https.connect().unwrap()).collect();
    let mut nonsense = https.connect().unwrap();
    nonsense.write_all(b"GET /ping HTTP/1.1\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    let _ = nonsense.read_to_end(&mut answer);
    post(&https, Shown::Nothing, "/pub?topic=t", "x").unwrap().expect(200, "OK");
    if daemon.is_original() {
        return; // It waits for ever.
    }
    let last = silent.last_mut().unwrap();
    last.limit_reads(Some(PATIENCE)).unwrap();
    let read = last.read(&mut [0; 1]).map_err(|error| error.kind());
    let closed = matches!(read, Ok(0) | Err(io::ErrorKind::ConnectionReset));
    assert!(closed, "closed, not answered: {read:?}");
}
