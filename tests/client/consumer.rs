//! Consumers of real daemons.

use super::fake::{run, serve_http};
use crate::support::certificates::CERTIFICATES;
use crate::support::daemon::{Daemon, Options};
use crate::support::stream::Address;
use ringmain::client::{Config, Consumer, Error, Producer};
use std::collections::BTreeMap;
use std::net::TcpListener;
use std::sync::{Arc, atomic};
use std::time::Duration;

pub(super) fn tcp(daemon: &Daemon) -> String {
    match &daemon.tcp {
        Address::Tcp(address) => address.clone(),
        Address::Unix(path) => path.display().to_string(),
    }
}

/// J1: three messages and one that always fails, over TCP and a unix socket.
#[test]
fn j1_end_to_end() {
    use crate::support::matrix::Transport;
    for transport in [Transport::Tcp, Transport::Unix] {
        let daemon = Daemon::start(&Options { transport, ..Options::default() });
        daemon.create_channel("t", "c");
        daemon.post("/pub?topic=t", b"single");
        daemon.post("/mpub?topic=t", b"double\ndouble");
        daemon.post("/pub?topic=t", b"TOBEFAILED");
        run(end_to_end(&tcp(&daemon), Config::default()));
    }
}

/// J1: the same with whatever there is between socket and protocol.
#[test]
fn j1_end_to_end_compressed() {
    let certificate = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let directory = tempfile::TempDir::new().unwrap();
    let (certificate_path, key_path) =
        (directory.path().join("certificate.pem"), directory.path().join("key.pem"));
    std::fs::write(&certificate_path, certificate.cert.pem()).unwrap();
    std::fs::write(&key_path, certificate.signing_key.serialize_pem()).unwrap();
    let tls_cert = format!("--tls-cert={}", certificate_path.display());
    let tls_key = format!("--tls-key={}", key_path.display());

    for (tls_v1, snappy, deflate) in [
        (false, true, false),
        (false, false, true),
        (true, false, false),
        (true, true, false),
        (true, false, true),
    ] {
        let flags: &[&str] = if tls_v1 { &[&tls_cert, &tls_key] } else { &[] };
        let daemon = Daemon::start(&Options { flags, ..Options::default() });
        daemon.create_channel("t", "c");
        daemon.post("/pub?topic=t", b"single");
        daemon.post("/mpub?topic=t", b"double\ndouble");
        daemon.post("/pub?topic=t", b"TOBEFAILED");
        let tls_root_ca_file = Some(certificate_path.clone());
        let config = Config { tls_v1, snappy, deflate, tls_root_ca_file, ..Config::default() };
        run(async {
            if tls_v1 {
                // Not just anybody's certificate will do.
                let config = Config { tls_root_ca_file: None, ..config.clone() };
                let consumer = Consumer::new("t", "c").nsqd(&tcp(&daemon)).config(config);
                let refused = consumer.connect().await.unwrap_err().to_string();
                assert!(refused.contains("certificate"), "{refused}");
            }
            end_to_end(&tcp(&daemon), config).await;
        });
    }
}

/// J1: nsqd asks for a client's certificate; files are given by the names of settings.
#[test]
fn j1_client_certificates() {
    let root = CERTIFICATES.root_flag();
    let file = |name: &str| CERTIFICATES.path(name).display().to_string();
    for (policy, shown) in [("require", "unrelated"), ("require-verify", "client")] {
        let policy = format!("--tls-client-auth-policy={policy}");
        let flags = CERTIFICATES.flags(&[&root, &policy, "--tls-required=tcp-https"]);
        let flags: Vec<_> = flags.iter().map(String::as_str).collect();
        let daemon = Daemon::start(&Options { flags: &flags, ..Options::default() });
        let mut config = Config { tls_v1: true, ..Config::default() };
        config.set("tls_root_ca_file", &file("ca.pem")).unwrap();
        let producer = |config: &Config| {
            let producer = Producer::new().nsqd(&tcp(&daemon)).config(config.clone());
            producer.start().unwrap()
        };
        daemon.create_channel("t", "c");
        run(async {
            let nameless = producer(&config);
            let refused = nameless.publish_within(Duration::from_secs(1), "t", "x").await;
            assert!(refused.is_err(), "without a certificate");
            config.set("tls-cert", &file(&format!("{shown}.pem"))).unwrap();
            config.set("tls-key", &file(&format!("{shown}.key"))).unwrap();
            let producer = producer(&config);
            for body in ["single", "double", "double", "TOBEFAILED"] {
                producer.publish("t", body).await.unwrap();
            }
            end_to_end(&tcp(&daemon), config).await;
        });
    }
}

async fn end_to_end(address: &str, config: Config) {
    let config = Config {
        default_requeue_delay: Duration::ZERO,
        backoff_multiplier: Duration::from_millis(1),
        max_in_flight: 10,
        max_attempts: 5,
        ..config
    };
    let given_up = Arc::new(atomic::AtomicUsize::new(0));
    let count = Arc::clone(&given_up);
    let consumer = Consumer::new("t", "c").nsqd(address).config(config);
    let consumer = consumer.on_give_up(move |message| {
        assert_eq!((&message.body[..], message.attempts), (&b"TOBEFAILED"[..], 6));
        count.fetch_add(1, atomic::Ordering::SeqCst);
    });
    let mut consumer = consumer.connect().await.expect("a daemon that listens");
    let control = consumer.control();

    assert!(matches!(control.connect_nsqd(address).await, Err(Error::AlreadyConnected(_))));
    let unreachable = control.connect_nsqd("127.0.0.1:1").await;
    let unreachable = unreachable.expect_err("nobody listens there");
    assert!(unreachable.to_string().contains("127.0.0.1:1"), "{unreachable}");
    assert!(matches!(control.disconnect_nsqd("1.2.3.4:5").await, Err(Error::UnknownAddress(_))));
    assert_eq!(control.stats().connections, 1);

    let mut seen = BTreeMap::new();
    while given_up.load(atomic::Ordering::SeqCst) == 0 {
        let message = tokio::select! {
            message = consumer.next() => message.expect("nobody stops it"),
            () = tokio::time::sleep(Duration::from_millis(5)) => continue,
        };
        let body = String::from_utf8(message.body().to_vec()).expect("ASCII");
        *seen.entry(body.clone()).or_insert(0) += 1;
        if body == "TOBEFAILED" { message.requeue() } else { message.finish() }
    }
    let expected = [("TOBEFAILED", 5), ("double", 2), ("single", 1)];
    assert!(seen.iter().map(|(body, count)| (body.as_str(), *count)).eq(expected), "{seen:?}");

    control.stop();
    assert!(consumer.next().await.is_none());
    let stats = control.stats();
    assert_eq!((stats.received, stats.connections, stats.in_flight), (9, 0, 0));
    assert_eq!((stats.finished, stats.requeued), (4, 5));
    assert_eq!(control.connect_nsqd(address).await, Err(Error::Stopped));
}

#[test]
fn j2_several_nsqds_are_found_through_lookups_which_get_the_secret() {
    let daemons = [Daemon::start(&Options::default()), Daemon::start(&Options::default())];
    for (at, daemon) in daemons.iter().enumerate() {
        daemon.create_channel("t", "c");
        daemon.post("/pub?topic=t", format!("from {at}").as_bytes());
    }
    let producers = daemons.iter().map(|daemon| {
        let address = tcp(daemon);
        let (host, port) = address.rsplit_once(':').unwrap();
        format!(r#"{{"broadcast_address":"{host}","tcp_port":{port}}}"#)
    });
    let answer = producers.collect::<Vec<_>>().join(",");
    let answer = format!(r#"{{"channels":["c"],"producers":[{answer}]}}"#);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let lookup = listener.local_addr().unwrap().to_string();
    let service = std::thread::spawn(move || serve_http(&listener, &[&answer]));

    let secret = Config { auth_secret: "AuthSecret".into(), ..Config::default() };
    run(async {
        let consumer = Consumer::new("t", "c").lookupd("127.0.0.1:1").lookupd(&lookup);
        let mut consumer = consumer.config(secret).max_in_flight(10).connect().await.unwrap();
        let mut bodies = Vec::new();
        for _ in &daemons {
            let message = consumer.next().await.unwrap();
            bodies.push(message.body().clone());
            message.finish();
        }
        bodies.sort();
        assert_eq!(bodies, [&b"from 0"[..], b"from 1"]);
    });
    // J2: the secret goes to lookup services.
    let requests = service.join().unwrap();
    assert!(requests[0].starts_with("GET /lookup?topic=t HTTP/1.1\r\n"), "{requests:?}");
    let head = requests[0].to_lowercase();
    assert!(head.contains("authorization: bearer authsecret\r\n"), "{head}");
}

/// J1: the source address is the one that was asked for.
#[test]
fn j1_local_address() {
    let daemon = Daemon::start(&Options::default());
    run(async {
        let mut config = Config::default();
        config.set("local_addr", "127.0.0.2:0").unwrap();
        let consumer = Consumer::new("t", "c").nsqd(&tcp(&daemon)).config(config);
        let consumer = consumer.connect().await.unwrap();
        daemon.wait_channel("t", "c", &[("client_count", 1)]);
        let channel = daemon.channel("t", "c").unwrap();
        let address = channel["clients"][0]["remote_address"].as_str().unwrap();
        assert!(address.starts_with("127.0.0.2:"), "{address}");
        drop(consumer);
    });
}

#[test]
fn every_message_comes_once_whoever_handles_it() {
    const COUNT: usize = 5_000;
    let daemon = Daemon::start(&Options::default());
    daemon.create_channel("t", "c");
    let address = tcp(&daemon);
    run(async {
        let producer = Producer::new().nsqd(&address).start().unwrap();
        let mut consumer =
            Consumer::new("t", "c").nsqd(&address).max_in_flight(300).connect().await.unwrap();
        let publishing = tokio::spawn(async move {
            let mut answers = Vec::new();
            for at in 0..COUNT {
                // Some are larger than any buffer.
                let filler = if at % 1000 == 7 { 200_000 } else { at % 50 };
                let body = format!("{at:5}{}", "x".repeat(filler));
                answers.push(producer.begin("t", body).await.unwrap());
            }
            for answer in answers {
                answer.await.unwrap();
            }
            producer.stop().await;
        });
        let mut seen = vec![0; COUNT];
        let mut handed = 0;
        while handed < COUNT {
            for message in consumer.next_batch().await.unwrap() {
                let at: usize =
                    std::str::from_utf8(&message.body()[..5]).unwrap().trim().parse().unwrap();
                seen[at] += 1;
                handed += 1;
                tokio::spawn(async move { message.finish() });
            }
        }
        assert!(seen.iter().all(|count| *count == 1));
        publishing.await.unwrap();
        // All that was answered is told to nsqd before the consumer ends.
        consumer.control().stop();
        assert!(consumer.next().await.is_none());
    });
    let channel = daemon.channel("t", "c").unwrap();
    assert_eq!((channel["depth"].clone(), channel["requeue_count"].clone()), (0.into(), 0.into()));
}

#[test]
fn messages_of_a_dropped_consumer_go_back() {
    let daemon = Daemon::start(&Options::default());
    daemon.create_channel("t", "c");
    for body in ["one", "two", "three"] {
        daemon.post("/pub?topic=t", body.as_bytes());
    }
    let address = tcp(&daemon);
    run(async {
        let consume = || Consumer::new("t", "c").nsqd(&address).max_in_flight(3).connect();
        let mut first = consume().await.unwrap();
        let kept = first.next().await.unwrap();
        drop(first);
        let mut second = consume().await.unwrap();
        for _ in 0..2 {
            second.next().await.unwrap().finish();
        }
        // What was in hand can still be answered.
        kept.finish();
        let left = || {
            let channel = daemon.channel("t", "c").unwrap();
            (channel["depth"].as_u64(), channel["in_flight_count"].as_u64())
        };
        while left() != (Some(0), Some(0)) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
}
