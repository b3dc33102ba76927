//! G20: nsqds that want HTTPS and a certificate of whoever asks. They answer plain HTTP with 403 and
//! the port to come to; nsqadmin goes there, with its own certificate.

use super::cluster::{Cluster, Program, text};
use super::fake::Fake;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use serde_json::json;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::thread;
use tempfile::TempDir;

/// An authority, a server's certificate and a client's.
struct Certificates {
    authority: CertifiedIssuer<'static, KeyPair>,
    directory: TempDir,
}

impl Certificates {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let authority = CertifiedIssuer::self_signed(params, key).unwrap();
        let directory = TempDir::new().unwrap();
        fs::write(directory.path().join("ca.pem"), authority.pem()).unwrap();
        Self { authority, directory }
    }

    /// A certificate for loopback and its key, both in DER and PEM.
    fn issue(&self, name: &str) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
        let params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.authority).unwrap();
        fs::write(self.directory.path().join(format!("{name}.pem")), certificate.pem()).unwrap();
        fs::write(self.directory.path().join(format!("{name}.key")), key.serialize_pem()).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        (certificate.der().clone(), key)
    }

    fn flag(&self, flag: &str, file: &str) -> String {
        format!("--http-client-tls-{flag}={}", self.directory.path().join(file).display())
    }
}

/// Serves this document over TLS to whoever shows a certificate of the authority; gives its port.
fn https(certificates: &Certificates, document: String) -> u16 {
    let mut roots = RootCertStore::empty();
    roots.add(certificates.authority.der().clone()).unwrap();
    let provider = Arc::new(ring::default_provider());
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
    let (certificate, key) = certificates.issue("server");
    let config =
        ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.unwrap().with_client_cert_verifier(verifier.build().unwrap());
    let config = Arc::new(config.with_single_cert(vec![certificate], key).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = StreamOwned::new(connection, stream);
            let mut request = [0; 4096];
            if stream.read(&mut request).is_ok_and(|bytes| bytes > 0) {
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n", document.len());
                let answer = format!("{head}Connection: close\r\n\r\n{document}");
                let _ = stream.write_all(answer.as_bytes()).and_then(|()| stream.flush());
            }
        }
    });
    port
}

#[test]
fn g20_nsqds_that_want_certificates_are_asked_over_https() {
    let certificates = Certificates::new();
    certificates.issue("client");
    let stats = json!({"version": "1.3.0", "health": "OK", "topics": [{"topic_name": "safe",
        "depth": 7, "channels": [], "e2e_processing_latency": {"count": 0, "percentiles": null}}]});
    let port = https(&certificates, stats.to_string());
    let wants_tls = format!("{{\"message\": \"TLS_REQUIRED\", \"https_port\": {port}}}");
    let plain = Fake::refusing(403, &wants_tls);
    let node = json!({"remote_address": "127.0.0.1:9", "hostname": "h", "topics": ["safe"],
        "broadcast_address": "127.0.0.1", "http_port": plain.port(), "tcp_port": 1,
        "version": "1.3.0", "tombstones": [false]});
    let nodes = json!({"producers": [node], "channels": [], "topics": ["safe"]}).to_string();
    let paths = ["/nodes", "/lookup", "/topics"].map(|path| (path, nodes.clone()));
    let lookupd = Fake::start(&paths);
    let target = format!("/api/nodes/127.0.0.1:{}", plain.port());
    let lookup = format!("--lookupd-http-address={}", lookupd.address);
    let (root, cert, key) = (
        certificates.flag("root-ca-file", "ca.pem"),
        certificates.flag("cert", "client.pem"),
        certificates.flag("key", "client.key"),
    );
    let admin = Program::admin(&[lookup.clone(), root.clone(), cert.clone(), key.clone()]);
    let node = admin.json(&target);
    assert_eq!(
        (&node["topics"][0]["topic_name"], &node["topics"][0]["depth"]),
        (&json!("safe"), &json!(7))
    );
    let lazy = "--http-client-tls-insecure-skip-verify".to_owned();
    let admin = Program::admin(&[lookup.clone(), lazy, cert, key]);
    assert_eq!(admin.get(&target).status, 200, "any certificate will do then");
    let admin = Program::admin(&[lookup, root]);
    assert_eq!(admin.get(&target).status, 502, "without a certificate");
}

#[test]
fn files_of_certificates_must_be_there() {
    let cluster = Cluster::start(1, 0);
    let lookup = format!("--lookupd-http-address={}", text(&cluster.lookupds[0].http));
    let none = "/nonexistent.pem";
    for (flags, expected) in [
        (
            &[format!("--http-client-tls-root-ca-file={none}")][..],
            "failed to read TLS root CA file /nonexistent.pem - open /nonexistent.pem: ",
        ),
        (
            &[format!("--http-client-tls-cert={none}"), format!("--http-client-tls-key={none}")],
            "failed to LoadX509KeyPair /nonexistent.pem, /nonexistent.pem - ",
        ),
    ] {
        let mut command = super::cluster::admin_command();
        let output = command.arg(&lookup).args(flags).output().expect("it starts");
        assert_eq!(output.status.code(), Some(1));
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(stderr.contains(expected), "{stderr}");
    }
}
