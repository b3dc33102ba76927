//! Bearer tokens of the HTTP API.

use crate::support::daemon::{Daemon, Options, plain_flags};
use crate::support::http::{Reply, exchange};
use crate::support::wait::eventually;
use std::fs;
use std::process::Command;
use std::sync::Arc;
use tempfile::TempDir;

fn ask(daemon: &Daemon, method: &str, target: &str, token: Option<&str>) -> Reply {
    let token = token.map(|token| format!("Authorization: Bearer {token}\r\n"));
    let request = format!(
        "{method} {target} HTTP/1.1\r\nHost: nsqd\r\nConnection: close\r\n{}\
         Content-Length: 1\r\n\r\nx",
        token.unwrap_or_default()
    );
    exchange(&daemon.http, request.as_bytes()).expect("an answer")
}

#[test]
fn tokens_give_what_their_role_says_and_change_with_sighup() {
    if plain_flags() {
        return; // There are none.
    }
    let directory = Arc::new(TempDir::new().unwrap());
    let path = directory.path().join("tokens");
    fs::write(&path, "# ours\nread r1\npublish p1\nadmin a1\nread both\npublish both\n").unwrap();
    let flag = format!("--http-token-file={}", path.display());
    let options = Options { flags: &[&flag], ..Options::default() };
    let daemon = Daemon::start_in(directory, &options);
    let calls = [("GET", "/stats"), ("POST", "/pub?topic=t"), ("POST", "/topic/create?topic=t")];
    for (token, expected) in [
        (None, [401, 401, 401]),
        (Some("unknown"), [401, 401, 401]),
        (Some("r1"), [200, 403, 403]),
        (Some("p1"), [403, 200, 403]),
        (Some("both"), [200, 200, 403]),
        (Some("a1"), [200, 200, 200]),
    ] {
        let seen = calls.map(|(method, target)| ask(&daemon, method, target, token).status);
        assert_eq!(seen, expected, "{token:?}");
        ask(&daemon, "GET", "/ping", token).expect(200, "OK");
    }
    let refused = ask(&daemon, "GET", "/info", None);
    refused.expect_message(401, "UNAUTHORIZED");
    assert_eq!(refused.header("www-authenticate"), Some("Bearer"));
    ask(&daemon, "PUT", "/config/log_level", Some("r1")).expect_message(403, "FORBIDDEN");
    // A path in another spelling gives nothing more.
    assert_eq!(ask(&daemon, "POST", "/topic%2Fcreate?topic=u", Some("p1")).status, 403);
    assert_eq!(ask(&daemon, "POST", "/%70ub?topic=u", Some("r1")).status, 403);

    let hang_up = || {
        let sent = Command::new("kill").arg("-HUP").arg(daemon.pid().to_string()).status();
        assert!(sent.unwrap().success());
    };
    fs::write(&path, "read r2\n").unwrap();
    hang_up();
    eventually(|| match ask(&daemon, "GET", "/stats", Some("r2")).status {
        200 => Ok(()),
        status => Err(status.to_string()),
    });
    assert_eq!(ask(&daemon, "GET", "/stats", Some("a1")).status, 401);
    fs::write(&path, "reader r3\n").unwrap();
    hang_up();
    eventually(|| {
        let log = daemon.log();
        let told = log.contains("HTTP tokens stay as they are") && log.contains("line 1: the role");
        if told { Ok(()) } else { Err(log) }
    });
    assert_eq!(ask(&daemon, "GET", "/stats", Some("r2")).status, 200);
}
