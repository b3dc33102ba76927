//! Clients over TLS, snappy, deflate, alone and together.

use crate::support::auth_server::AuthServer;
use crate::support::certificates::{CERTIFICATES, CLIENT_NAME, Shown};
use crate::support::client::{Client, Frame, with_body};
use crate::support::daemon::Daemon;
use crate::support::matrix::check;
use serde_json::{Value, json};

/// IDENTIFY with what is asked for, and the upgrades that are granted, up to their last `OK`.
fn upgrade(client: &mut Client, wishes: &[&str]) -> Value {
    upgrade_as(client, wishes, Shown::Nothing)
}

fn upgrade_as(client: &mut Client, wishes: &[&str], shown: Shown) -> Value {
    let mut settings = json!({"feature_negotiation": true, "user_agent": "layers/1"});
    for wish in wishes {
        settings[*wish] = json!(true);
    }
    let answer = client.identify(&settings);
    for (key, granted) in ["tls_v1", "snappy", "deflate"].map(|key| (key, &answer[key])) {
        assert_eq!(*granted, wishes.contains(&key), "{key} in {answer}");
    }
    if answer["tls_v1"] == true {
        client.stream.start_tls(CERTIFICATES.client(shown)).expect("a handshake");
        client.expect_ok();
    }
    if answer["snappy"] == true {
        client.stream.start_snappy();
        client.expect_ok();
    } else if answer["deflate"] == true {
        client.stream.start_deflate();
        client.expect_ok();
    }
    answer
}

fn check_with_tls(flags: &[&str], case: impl Fn(&Daemon) + Sync) {
    let flags = CERTIFICATES.flags(flags);
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    check(&flags, case);
}

/// Small and large messages through, in both directions, on a connection that consumes.
fn pass_messages(daemon: &Daemon, topic: &str, wishes: &[&str]) {
    let mut client = Client::connect(daemon);
    upgrade(&mut client, wishes);
    client.subscribe(topic, "ch");
    client.ready(5);
    let mut random = 7_u32;
    for bytes in [1, 100, 128_000, 900_000] {
        // Half of it compresses.
        let body: Vec<u8> = (0..bytes)
            .map(|at| {
                random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                if at % 2 == 0 { 7 } else { (random >> 24) as u8 }
            })
            .collect();
        client.publish(topic, &body);
        let message = client.message();
        assert!(message.body == body, "{bytes} bytes");
        client.finish(&message);
    }
    let many = [&b"a body of many"[..]; 200];
    client.publish_batch(topic, &many);
    for _ in 0..many.len() {
        let message = client.message_with(many[0]);
        client.finish(&message);
    }
    daemon.wait_channel(topic, "ch", &[("in_flight_count", 0), ("depth", 0)]);
}

#[test]
fn a20_tls() {
    check_with_tls(&[], |daemon| {
        for (versions, name) in
            [(&[&rustls::version::TLS12], "TLS1.2"), (&[&rustls::version::TLS13], "TLS1.3")]
        {
            let mut client = Client::connect(daemon);
            let settings = json!({"feature_negotiation": true, "tls_v1": true});
            assert_eq!(client.identify(&settings)["tls_v1"], true);
            let config = CERTIFICATES.client_with(Shown::Nothing, versions);
            client.stream.start_tls(config).expect("a handshake");
            client.expect_ok();
            client.publish(name, b"x");
            let producers = daemon.stats()["producers"].clone();
            let seen = producers.as_array().unwrap().iter();
            let seen = seen.into_iter().find(|seen| seen["tls_version"] == name);
            let seen = seen.unwrap_or_else(|| panic!("no {name} in {producers}"));
            assert_eq!(seen["tls"], true);
            assert_eq!(seen["tls_negotiated_protocol"], "");
            assert_eq!(seen["tls_negotiated_protocol_is_mutual"], true);
            let suite = seen["tls_cipher_suite"].as_str().unwrap();
            assert!(suite.starts_with("TLS_ECDHE") || suite.starts_with("Unknown "), "{suite}");
        }
        pass_messages(daemon, "t", &["tls_v1"]);
    });
}

#[test]
fn a21_tls_required() {
    check_with_tls(&["--tls-required=tcp-https"], |daemon| {
        let mut client = Client::connect(daemon);
        client.command("SUB t ch");
        client.expect_fatal("E_INVALID cannot SUB in current state (TLS required)");
        let mut client = Client::connect(daemon);
        upgrade(&mut client, &["tls_v1"]);
        client.subscribe("t", "ch");
    });
}

#[test]
fn a22_client_certificate_required() {
    check_with_tls(&["--tls-client-auth-policy=require"], |daemon| {
        refused(daemon, Shown::Nothing);
        for shown in [Shown::Unrelated, Shown::Signed] {
            let mut client = Client::connect(daemon);
            upgrade_as(&mut client, &["tls_v1"], shown);
            client.subscribe("t", "ch");
        }
        // The policy alone requires TLS.
        let mut client = Client::connect(daemon);
        client.command("NOP");
        client.expect_fatal("E_INVALID cannot NOP in current state (TLS required)");
    });
}

#[test]
fn a23_client_certificate_verified() {
    let root = CERTIFICATES.root_flag();
    check_with_tls(&["--tls-client-auth-policy=require-verify", &root], |daemon| {
        refused(daemon, Shown::Nothing);
        refused(daemon, Shown::Unrelated);
        let mut client = Client::connect(daemon);
        upgrade_as(&mut client, &["tls_v1"], Shown::Signed);
        client.subscribe("t", CLIENT_NAME);
    });
}

/// A client that shows this gets no `OK`.
fn refused(daemon: &Daemon, shown: Shown) {
    let mut client = Client::connect(daemon);
    client.identify(&json!({"feature_negotiation": true, "tls_v1": true}));
    // TLS 1.3 lets a client think that it is done before the server has looked.
    let versions = &[&rustls::version::TLS13];
    let started = client.stream.start_tls(CERTIFICATES.client_with(shown, versions));
    let mut answer = [0; 10];
    let read = started.and_then(|()| std::io::Read::read(&mut client.stream, &mut answer));
    assert!(!matches!(read, Ok(count) if count > 0), "{shown:?} was let in");
}

#[test]
fn a24_deflate() {
    check(&[], |daemon| {
        pass_messages(daemon, "t", &["deflate"]);
        let mut client = Client::connect(daemon);
        let settings = json!({"feature_negotiation": true, "deflate": true, "deflate_level": 2});
        let answer = client.identify(&settings);
        assert_eq!(
            (&answer["deflate_level"], &answer["max_deflate_level"]),
            (&json!(2), &json!(6))
        );
        client.stream.start_deflate();
        client.expect_ok();
    });
    check(&["--max-deflate-level=3"], |daemon| {
        let answer = upgrade(&mut Client::connect(daemon), &["deflate"]);
        assert_eq!(
            (&answer["deflate_level"], &answer["max_deflate_level"]),
            (&json!(3), &json!(3))
        );
    });
}

#[test]
fn a25_snappy() {
    check(&[], |daemon| pass_messages(daemon, "t", &["snappy"]));
}

#[test]
fn a26_tls_and_deflate() {
    check_with_tls(&[], |daemon| pass_messages(daemon, "t", &["tls_v1", "deflate"]));
}

#[test]
fn a27_tls_and_snappy() {
    check_with_tls(&[], |daemon| pass_messages(daemon, "t", &["tls_v1", "snappy"]));
}

/// Who asks an auth server is told whether TLS is on, and the certificate's name.
#[test]
fn a32_auth_over_tls() {
    let grant = json!({"ttl": 60, "authorizations": [
        {"topic": "test", "channels": [".*"], "permissions": ["subscribe", "publish"]}
    ]});
    let server = AuthServer::start(&[("secret", &grant.to_string())]);
    let (root, auth) =
        (CERTIFICATES.root_flag(), format!("--auth-http-address={}", server.address));
    let flags = ["--tls-client-auth-policy=require-verify", root.as_str(), auth.as_str()];
    check_with_tls(&flags, |daemon| {
        let mut client = Client::connect(daemon);
        upgrade_as(&mut client, &["tls_v1", "snappy"], Shown::Signed);
        client.command_with_body("AUTH", b"secret");
        client.expect_response(r#"{"identity":"","identity_url":"","permission_count":1}"#);
        client.subscribe("test", "ch");
        let told = server.questions("secret");
        let told = told.iter().all(|seen| seen.tls == "true" && seen.common_name == CLIENT_NAME);
        assert!(told);
    });
}

#[test]
fn l7_both_compressions() {
    check(&[], |daemon| {
        let both = json!({"feature_negotiation": true, "snappy": true, "deflate": true});
        let mut client = Client::connect(daemon);
        client.command_with_body("IDENTIFY", both.to_string().as_bytes());
        let text = "E_IDENTIFY_FAILED cannot enable both deflate and snappy compression";
        client.expect_fatal(text);
        let mut client = Client::connect(daemon);
        assert_eq!(client.identify(&json!({"snappy": true, "deflate": true})), Value::Null);
    });
    check(&["--deflate=false"], |daemon| {
        let both = json!({"feature_negotiation": true, "snappy": true, "deflate": true});
        let mut client = Client::connect(daemon);
        let answer = client.identify(&both);
        assert_eq!((&answer["snappy"], &answer["deflate"]), (&json!(true), &json!(false)));
        client.stream.start_snappy();
        client.expect_ok();
    });
    check(&["--deflate=false", "--snappy=0"], |daemon| {
        let both = json!({"feature_negotiation": true, "snappy": true, "deflate": true});
        let mut client = Client::connect(daemon);
        client.identify(&both);
        client.publish("t", b"in the clear");
    });
}

#[test]
fn l16_tls_required() {
    check_with_tls(&["--tls-required"], |daemon| {
        for (line, name) in [("NOP", "NOP"), ("NO SUCH", "NO"), ("", ""), ("AUTH", "AUTH")] {
            let mut client = Client::connect(daemon);
            client.command(line);
            let text = format!("E_INVALID cannot {name} in current state (TLS required)");
            client.expect_fatal(&text);
        }
        // A client that negotiates without TLS gets no further.
        let mut client = Client::connect(daemon);
        client.identify(&json!({"feature_negotiation": true}));
        client.send(&with_body("PUB t", b"x"));
        client.expect_fatal("E_INVALID cannot PUB in current state (TLS required)");
    });
}

#[test]
fn e2_layers_of_clients() {
    check_with_tls(&[], |daemon| {
        for (wishes, shown) in [
            (&["snappy"][..], [false, true, false]),
            (&["deflate"], [false, false, true]),
            (&["tls_v1", "snappy"], [true, true, false]),
            (&[], [false, false, false]),
        ] {
            let mut client = Client::connect(daemon);
            upgrade(&mut client, wishes);
            client.subscribe("t", "ch");
            daemon.wait_channel("t", "ch", &[("client_count", 1)]);
            let seen = daemon.channel("t", "ch").unwrap()["clients"][0].clone();
            assert_eq!(seen["user_agent"], "layers/1");
            assert_eq!(["tls", "snappy", "deflate"].map(|key| seen[key] == true), shown, "{seen}");
            drop(client);
            daemon.wait_channel("t", "ch", &[("client_count", 0)]);
        }
    });
}

/// A consumer's connection goes to its topic's shard at SUB, a producer's after a while, with its
/// layers and whatever of its bytes is in them.
#[test]
fn connections_move_with_their_layers() {
    check_with_tls(&[], |daemon| {
        for wishes in [&["tls_v1", "snappy"][..], &["tls_v1"], &["deflate"]] {
            // Of two topics one is elsewhere.
            for topic in ["one", "two"] {
                let mut client = Client::connect(daemon);
                upgrade(&mut client, wishes);
                // In one piece: SUB, and what follows it at the new place.
                let mut script = Vec::new();
                for index in 0..300 {
                    script
                        .extend(with_body(&format!("PUB {topic}"), format!("{index}").as_bytes()));
                }
                script.extend(format!("SUB {topic} ch\nRDY 500\nNOP\n").as_bytes());
                script.extend(with_body(&format!("PUB {topic}"), b"last"));
                client.send(&script);
                let (mut oks, mut bodies) = (0, std::collections::HashSet::new());
                while oks < 302 || bodies.len() < 301 {
                    match client.frame() {
                        Frame::Response(answer) if answer == b"OK" => oks += 1,
                        Frame::Message(message) => {
                            client.finish(&message);
                            assert!(bodies.insert(message.body));
                        }
                        other => panic!("got {}", other.describe()),
                    }
                }
                daemon.wait_channel(topic, "ch", &[("in_flight_count", 0), ("depth", 0)]);
                drop(client);
                daemon.order(&format!("/topic/delete?topic={topic}"));
            }
        }
    });
}

/// What a client does not wait for goes into the layer, as if it had waited.
#[test]
fn what_follows_identify_goes_into_the_layer() {
    check_with_tls(&[], |daemon| {
        if daemon.is_original() {
            return; // It loses what it has read before the upgrade.
        }
        let settings = json!({"feature_negotiation": true, "snappy": true}).to_string();
        let mut packed = snap::write::FrameEncoder::new(Vec::new());
        std::io::Write::write_all(&mut packed, &with_body("PUB t", b"early")).unwrap();
        let mut bytes = with_body("IDENTIFY", settings.as_bytes());
        bytes.extend(packed.into_inner().unwrap());
        let mut client = Client::connect(daemon);
        client.send(&bytes);
        assert!(matches!(client.frame(), Frame::Response(answer) if answer.starts_with(b"{")));
        client.stream.start_snappy();
        client.expect_ok();
        client.expect_ok();
        daemon.wait_topic("t", &[("depth", 1)]);
    });
}
