//! Real HTTP to auth servers that answer what a test gave them.

use super::*;
use crate::options;
use crate::protocol::name::TopicName;
use rustls::crypto::ring;
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread;

/// An answer that allows everything on topic `test`.
const GRANT: &str = r#"{"ttl":1,"authorizations":
    [{"topic":"test","channels":[".*"],"permissions":["subscribe","publish"]}]}"#;

/// A server that gives every request the same answer, and tells of it.
struct Server {
    address: String,
    requests: Receiver<Request>,
}

trait Stream: Read + Write {}

impl<T: Read + Write> Stream for T {}

#[derive(Debug)]
struct Request {
    line: String,
    headers: String,
    body: String,
}

impl Server {
    fn start(status: &'static str, body: &'static str) -> Self {
        Self::start_over(status, body, |stream| Box::new(stream))
    }

    fn start_over(
        status: &'static str,
        body: &'static str,
        wrap: impl Fn(TcpStream) -> Box<dyn Stream> + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (tell, requests) = channel();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let mut stream = BufReader::new(wrap(stream));
                // Whoever does not trust the certificate goes away.
                let Ok(mut request) = Request::read(&mut stream) else { continue };
                request.headers.make_ascii_lowercase();
                let length = body.len();
                let head = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n");
                let answer = format!("{head}Connection: close\r\n\r\n{body}");
                stream.get_mut().write_all(answer.as_bytes()).unwrap();
                tell.send(request).unwrap_or_default();
            }
        });
        Self { address, requests }
    }
}

impl Request {
    fn read(input: &mut impl BufRead) -> io::Result<Self> {
        let (mut line, mut headers) = (String::new(), String::new());
        input.read_line(&mut line)?;
        while !headers.ends_with("\r\n\r\n") && headers != "\r\n" {
            if input.read_line(&mut headers)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        let length = headers.to_ascii_lowercase().lines().find_map(|line| {
            line.strip_prefix("content-length: ").and_then(|value| value.parse().ok())
        });
        let mut body = vec![0; length.unwrap_or(0)];
        input.read_exact(&mut body)?;
        let body = String::from_utf8(body).unwrap();
        Ok(Self { line: line.trim_end().to_owned(), headers, body })
    }
}

fn ask(flags: &[String], question: &AuthQuestion) -> Result<Grant, String> {
    let mut options = Options::default();
    for flag in flags {
        match flag.split_once('=').unwrap() {
            ("address", value) => options.auth_http_addresses.push(value.to_owned()),
            ("roots", value) => options.tls_root_ca_file = value.to_owned(),
            ("method", value) => options.auth_http_request_method = value.to_owned(),
            ("timeout", value) => {
                let flag = format!("-http-client-request-timeout={value}");
                let parsed = options::parse(std::iter::once(flag.into())).unwrap();
                options.http_client_request_timeout = parsed.http_client_request_timeout;
            }
            other => panic!("{other:?}"),
        }
    }
    let servers = AuthServers::new(&options).unwrap().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(servers.ask(question))
}

fn question() -> AuthQuestion {
    AuthQuestion {
        remote_ip: "127.0.0.1".to_owned(),
        tls: true,
        common_name: "test.local".to_owned(),
        secret: b"se cret&\xff<".to_vec(),
    }
}

fn address(server: &Server) -> String {
    format!("address={}", server.address)
}

#[test]
fn without_addresses_there_is_nobody_to_ask() {
    assert!(AuthServers::new(&Options::default()).unwrap().is_none());
}

#[test]
fn a32_a_get_has_the_question_in_its_query() {
    let server = Server::start("200 OK", GRANT);
    let grant = ask(&[address(&server)], &question()).unwrap();
    assert_eq!((grant.permission_count(), grant.ttl_s), (1, 1));
    assert!(grant.may_publish(&TopicName::parse(b"test").unwrap()));
    let request = server.requests.recv().unwrap();
    let query = "common_name=test.local&remote_ip=127.0.0.1&secret=se+cret%26%FF%3C&tls=true";
    assert_eq!(request.line, format!("GET /auth?{query} HTTP/1.1"));
    assert!(request.headers.contains("accept: application/vnd.nsq; version=1.0\r\n"));
    // A URL is used as it is, even one that has a query.
    let flag = format!("address=http://{}/a/b?c=d", server.address);
    ask(&[flag], &AuthQuestion::default()).unwrap();
    let request = server.requests.recv().unwrap();
    let query = "common_name=&remote_ip=&secret=&tls=false";
    assert_eq!(request.line, format!("GET /a/b?c=d?{query} HTTP/1.1"));
}

#[test]
fn a32_a_post_has_the_question_in_its_body() {
    let server = Server::start("200 OK", GRANT);
    ask(&[address(&server), "method=post".to_owned()], &question()).unwrap();
    let request = server.requests.recv().unwrap();
    assert_eq!(request.line, "POST /auth HTTP/1.1");
    assert!(request.headers.contains("content-type: application/json\r\n"), "{request:?}");
    let expected = concat!(
        r#"{"common_name":["test.local"],"remote_ip":["127.0.0.1"],"#,
        r#""secret":["se cret\u0026�\u003c"],"tls":["true"]}"#
    );
    assert_eq!(request.body, expected);
}

#[test]
fn the_next_server_is_asked_when_one_fails() {
    let broken = Server::start("500 Internal Server Error", "no");
    let silly = Server::start("200 OK", r#"{"ttl":0}"#);
    let good = Server::start("200 OK", GRANT);
    let addresses = [address(&broken), address(&silly), address(&good)];
    for _ in 0..10 {
        ask(&addresses, &question()).unwrap();
    }
    assert_eq!(good.requests.try_iter().count(), 10);
    let reason = ask(&addresses[..2], &question()).unwrap_err();
    let both = [
        format!(
            "failed to auth against {} - got response 500 Internal Server Error \"no\"",
            broken.address
        ),
        format!("failed to auth against {} - invalid TTL 0 (must be >0)", silly.address),
    ];
    let [first, second] = &both;
    let either = [format!("{first}; {second}"), format!("{second}; {first}")];
    assert!(either.contains(&reason), "{reason}");
}

#[test]
fn a_secret_is_not_in_the_reason() {
    // Nobody listens there, and a silent one never answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = format!("address={}", silent.local_addr().unwrap());
    let timeout = "timeout=100ms".to_owned();
    for flag in ["address=127.0.0.1:1".to_owned(), silent] {
        let secret = AuthQuestion { secret: b"hidden".to_vec(), ..AuthQuestion::default() };
        let reason = ask(&[flag, timeout.clone()], &secret).unwrap_err();
        assert!(reason.starts_with("failed to auth against 127.0.0.1:"), "{reason}");
        assert!(!reason.contains("hidden"), "{reason}");
    }
}

#[test]
fn a_server_that_forbids_http_is_asked_over_https() {
    let server = Server::start("403 Forbidden", r#"{"message":"TLS_REQUIRED","https_port":1}"#);
    let reason = ask(&[address(&server)], &question()).unwrap_err();
    assert!(reason.ends_with(" - connection refused"), "{reason}");
    assert_eq!(server.requests.try_iter().count(), 1);
}

#[test]
fn a_server_with_a_certificate_is_asked_if_it_is_trusted() {
    let own = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(own.signing_key.serialize_der().into());
    let tls = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![own.cert.der().clone()], key)
        .unwrap();
    let tls = Arc::new(tls);
    let server = Server::start_over("200 OK", GRANT, move |stream| {
        let connection = ServerConnection::new(Arc::clone(&tls)).unwrap();
        Box::new(StreamOwned::new(connection, stream))
    });
    let address = format!("address=https://{}/auth", server.address);
    let reason = ask(std::slice::from_ref(&address), &question()).unwrap_err();
    assert!(reason.contains("certificate"), "{reason}");
    let directory = tempfile::TempDir::new().unwrap();
    let roots = directory.path().join("roots.pem");
    std::fs::write(&roots, own.cert.pem()).unwrap();
    let roots = format!("roots={}", roots.display());
    let grant = ask(&[address, roots], &question()).unwrap();
    assert_eq!(grant.permission_count(), 1);
    assert!(server.requests.recv().unwrap().line.starts_with("GET /auth?common_name="));
}
