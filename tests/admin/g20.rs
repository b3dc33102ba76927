//! G20: an nsqd that wants HTTPS and a certificate of whoever asks. It answers plain HTTP with 403
//! and the port to come to; nsqadmin goes there, with its own certificate.

use super::cluster::{Cluster, Program, admin_command, text};
use crate::support::certificates::CERTIFICATES;

fn flag(name: &str, file: &str) -> String {
    format!("--http-client-tls-{name}={}", CERTIFICATES.path(file).display())
}

#[test]
fn g20_nsqds_that_want_certificates_are_asked_over_https() {
    let root = CERTIFICATES.root_flag();
    let wanted = [
        "--tls-required=true",
        "--tls-client-auth-policy=require-verify",
        "--https-address=127.0.0.1:0",
        &root,
    ];
    let flags = CERTIFICATES.flags(&wanted);
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let cluster = Cluster::start_with(1, 1, &flags);
    let lookup = format!("--lookupd-http-address={}", text(&cluster.lookupds[0].http));
    let target = format!("/api/nodes/{}", cluster.node(0));
    let (root, cert, key) =
        (flag("root-ca-file", "ca.pem"), flag("cert", "client.pem"), flag("key", "client.key"));
    let admin = Program::admin(&[lookup.clone(), root.clone(), cert.clone(), key.clone()]);
    assert_eq!(admin.json(&target)["total_messages"], 0);
    assert_eq!(admin.get("/api/nodes").status, 200);
    let lazy = "--http-client-tls-insecure-skip-verify".to_owned();
    let admin = Program::admin(&[lookup.clone(), lazy, cert.clone(), key.clone()]);
    assert_eq!(admin.get(&target).status, 200, "any certificate will do then");
    let admin = Program::admin(&[lookup.clone(), cert, key]);
    assert_eq!(admin.get(&target).status, 502, "the authority is not known");
    let admin = Program::admin(&[lookup, root]);
    assert_eq!(admin.get(&target).status, 502, "without a certificate");
}

#[test]
fn files_of_certificates_must_be_there() {
    let none = "/nonexistent.pem";
    for (flags, expected) in [
        (
            vec![format!("--http-client-tls-root-ca-file={none}")],
            "failed to read TLS root CA file /nonexistent.pem - open /nonexistent.pem: ",
        ),
        (
            vec![format!("--http-client-tls-cert={none}"), format!("--http-client-tls-key={none}")],
            "failed to LoadX509KeyPair /nonexistent.pem, /nonexistent.pem - ",
        ),
    ] {
        let mut command = admin_command();
        command.arg("--lookupd-http-address=127.0.0.1:1").args(flags);
        let output = command.output().expect("it starts");
        assert_eq!(output.status.code(), Some(1));
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(stderr.contains(expected), "{stderr}");
    }
}
