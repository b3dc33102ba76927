//! AUTH: who may do what, by the word of auth servers.

use crate::support::auth_server::{AuthServer, Question, SILENCE};
use crate::support::client::{Client, Frame};
use crate::support::daemon::Daemon;
use crate::support::matrix::{check, check_tcp};
use crate::support::stream::Address;
use crate::support::wait::eventually;
use serde_json::{Value, json};

const READ: &str = r#"{"ttl":60,"authorizations":[
    {"topic":".*","channels":[".*"],"permissions":["subscribe"]}]}"#;
const EMPTY: &str = r#"{"ttl":1,"authorizations":[]}"#;

/// A grant of everything on the topics and channels that match.
fn grant(ttl_s: u32, topic: &str, channel: &str) -> String {
    json!({"ttl": ttl_s, "authorizations": [
        {"topic": topic, "channels": [channel], "permissions": ["subscribe", "publish"]}
    ]})
    .to_string()
}

/// A connection that has sent AUTH.
fn authenticating(daemon: &Daemon, secret: &str) -> Client {
    let mut client = Client::connect(daemon);
    client.command_with_body("AUTH", secret.as_bytes());
    client
}

/// A connection whose secret was accepted, and the answer.
fn authenticated(daemon: &Daemon, secret: &str) -> (Client, String) {
    let mut client = authenticating(daemon, secret);
    match client.frame() {
        Frame::Response(answer) => (client, String::from_utf8(answer).expect("JSON")),
        other => panic!("AUTH got {}", other.describe()),
    }
}

#[test]
fn a32_auth() {
    let server = AuthServer::start(&[("empty", EMPTY), ("good", &grant(60, "test", ".*"))]);
    let address = format!("--auth-http-address={}", server.address);
    for method in ["get", "post"] {
        let flags = [address.as_str(), &format!("--auth-http-request-method={method}")];
        check(&flags, |daemon| {
            let mut client = authenticating(daemon, "empty");
            client.expect_fatal("E_UNAUTHORIZED AUTH no authorizations found");
            let mut client = Client::connect(daemon);
            let identity = client.identify(&json!({"feature_negotiation": true}));
            assert_eq!(identity["auth_required"], true);
            client.command_with_body("AUTH", b"good");
            client.expect_response(r#"{"identity":"","identity_url":"","permission_count":1}"#);
            client.subscribe("test", "ch");
            client.publish("test", b"body");
            client.ready(1);
            client.message_with(b"body");
            let remote_ip = match daemon.tcp {
                Address::Tcp(_) => "127.0.0.1",
                Address::Unix(_) => "",
            };
            let expected = Question {
                method: method.to_ascii_uppercase(),
                remote_ip: remote_ip.to_owned(),
                tls: "false".to_owned(),
                common_name: String::new(),
                secret: "good".to_owned(),
            };
            assert!(server.questions("good").contains(&expected), "{expected:?}");
        });
    }
}

#[test]
fn l14_permissions() {
    let server = AuthServer::start(&[
        ("ch", &grant(60, "^ok", "^ch")),
        ("other", &grant(60, "other", ".*")),
        ("read", READ),
    ]);
    check(&[&format!("--auth-http-address={}", server.address)], |daemon| {
        let (mut client, _) = authenticated(daemon, "ch");
        client.subscribe("ok1", "ch1");
        client.command_with_body("PUB ok1", b"body");
        client.expect_fatal(r#"E_UNAUTHORIZED AUTH failed for PUB on "ok1" """#);
        for (secret, command, text) in [
            ("ch", "SUB ok1 no\n", r#"SUB on "ok1" "no""#),
            ("other", "SUB ok1 ch1\n", r#"SUB on "ok1" "ch1""#),
            ("read", "MPUB t\n", r#"MPUB on "t" """#),
            ("read", "DPUB t 1\n\0\0\0\x01x", r#"DPUB on "t" """#),
        ] {
            let (mut client, _) = authenticated(daemon, secret);
            client.send(command.as_bytes());
            client.expect_fatal(&format!("E_UNAUTHORIZED AUTH failed for {text}"));
        }
        assert!(daemon.topic("t").is_none());
        for (command, name) in [
            ("PUB t\n\0\0\0\x01x", "PUB"),
            ("DPUB t 1\n\0\0\0\x01x", "DPUB"),
            ("MPUB t\n", "MPUB"),
            ("SUB t ch\n", "SUB"),
        ] {
            let mut client = Client::connect(daemon);
            client.send(command.as_bytes());
            client.expect_fatal(&format!("E_AUTH_FIRST AUTH required before {name}"));
        }
        // HTTP is never asked for.
        daemon.post("/pub?topic=t", b"body").expect(200, "OK");
    });
}

#[test]
fn l27_auth_that_cannot_be() {
    let row = |topic: &str, permission: &str| {
        let rows = json!([{"topic": topic, "channels": [], "permissions": [permission]}]);
        json!({"ttl": 1, "authorizations": rows}).to_string()
    };
    let server = AuthServer::start(&[
        ("good", &grant(60, "t", ".*")),
        ("expired", &grant(0, "t", ".*")),
        ("pattern", &row("(", "publish")),
        ("permission", &row("t", "read")),
        ("text", "no"),
    ]);
    check(&[&format!("--auth-http-address={}", server.address)], |daemon| {
        for secret in ["expired", "pattern", "permission", "text", "unknown"] {
            authenticating(daemon, secret).expect_fatal("E_AUTH_FAILED AUTH failed");
        }
        let (mut client, _) = authenticated(daemon, "good");
        client.command_with_body("AUTH", b"good");
        client.expect_fatal("E_INVALID AUTH already set");
        let (mut client, _) = authenticated(daemon, "good");
        client.subscribe("t", "ch");
        client.command_with_body("AUTH", b"good");
        client.expect_fatal("E_INVALID cannot AUTH in current state");
    });
    check(&[], |daemon| {
        authenticating(daemon, "good").expect_fatal("E_AUTH_DISABLED AUTH disabled");
    });
}

#[test]
fn auth_is_asked_for_again_when_its_time_is_over() {
    let server = AuthServer::start(&[("short", &grant(1, "t", ".*"))]);
    check_tcp(&[&format!("--auth-http-address={}", server.address)], |daemon| {
        let secret = "short";
        let (mut client, _) = authenticated(daemon, secret);
        let first = server.questions(secret).len();
        // Each setup asks at least once more; none is told apart from the others.
        eventually(|| {
            client.publish("t", b"body");
            let asked = server.questions(secret).len();
            if asked > first + 3 { Ok(()) } else { Err(format!("{asked} questions")) }
        });
    });
    // Permissions that were taken away.
    check_tcp(&[&format!("--auth-http-address={}", server.address)], |daemon| {
        let secret = format!("leaving-{}", daemon.pid());
        server.answer(&secret, &grant(1, "t", ".*"));
        let (mut client, _) = authenticated(daemon, &secret);
        client.publish("t", b"body");
        server.answer(&secret, EMPTY);
        let text = r#"E_UNAUTHORIZED AUTH failed for PUB on "t" """#;
        eventually(|| {
            client.command_with_body("PUB t", b"body");
            match client.frame() {
                Frame::Error(error) if error == text => Ok(()),
                Frame::Response(_) => Err("still allowed".to_owned()),
                other => panic!("{}", other.describe()),
            }
        });
        client.expect_closed();
    });
}

#[test]
fn a_silent_auth_server_delays_only_those_who_wait_for_it() {
    let server = AuthServer::start(&[("good", &grant(60, ".*", ".*"))]);
    let address = format!("--auth-http-address={}", server.address);
    check(&[&address, "--http-client-request-timeout=20s"], |daemon| {
        let mut waiting: Vec<_> = (0..50).map(|_| authenticating(daemon, SILENCE)).collect();
        for _ in 0..20 {
            let (mut client, _) = authenticated(daemon, "good");
            client.publish("t", b"body");
        }
        daemon.post("/pub?topic=t", b"body").expect(200, "OK");
        daemon.wait_topic("t", &[("message_count", 21)]);
        // Those who leave meanwhile leave nothing behind, and the daemon goes on.
        waiting.truncate(1);
        let (mut client, _) = authenticated(daemon, "good");
        client.publish("t", b"body");
        if !daemon.is_original() {
            assert!(!daemon.log().contains(SILENCE), "secrets are not in the log");
        }
    });
}

#[test]
fn the_next_auth_server_is_asked_when_one_is_dead() {
    let server = AuthServer::start(&[("good", &grant(60, "t", ".*"))]);
    let [dead, alive] = ["127.0.0.1:1", server.address.as_str()]
        .map(|address| format!("--auth-http-address={address}"));
    check_tcp(&[&dead, &alive], |daemon| {
        for _ in 0..10 {
            authenticated(daemon, "good");
        }
    });
    check_tcp(&[&dead], |daemon| {
        authenticating(daemon, "good").expect_fatal("E_AUTH_FAILED AUTH failed");
        let failed = "AUTH failed failed to auth against 127.0.0.1:1 - ";
        let logged = || daemon.log().contains(failed).then_some(()).ok_or_else(|| daemon.log());
        eventually(logged);
    });
}

#[test]
fn stats_say_who_a_client_is() {
    let answer = json!({"ttl": 60, "identity": "me <x>", "identity_url": "http://a?b&c",
        "authorizations": [{"topic": "t", "channels": [".*"], "permissions": ["subscribe"]}]});
    let server = AuthServer::start(&[("good", &answer.to_string())]);
    check(&[&format!("--auth-http-address={}", server.address)], |daemon| {
        let (mut client, answer) = authenticated(daemon, "good");
        let identity = r#""identity":"me \u003cx\u003e","identity_url":"http://a?b\u0026c""#;
        assert_eq!(answer, format!("{{{identity},\"permission_count\":1}}"));
        client.subscribe("t", "ch");
        let channel = daemon.channel("t", "ch").unwrap();
        let shown = &channel["clients"][0];
        assert_eq!(shown["authed"], true);
        assert_eq!(shown["auth_identity"], "me <x>");
        assert_eq!(shown["auth_identity_url"], "http://a?b&c");
    });
    check(&[], |daemon| {
        let _client = Client::consumer(daemon, "t", "ch", 1);
        let channel = daemon.channel("t", "ch").unwrap();
        assert_eq!(channel["clients"][0]["authed"], Value::Null);
    });
}
