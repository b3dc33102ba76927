//! Who may do what: admin users, sign-in, other sites.

use super::cluster::{Cluster, Program, admin_command, is_original};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use tempfile::TempDir;

const ORDER: &str = r#"{"topic":"t"}"#;

fn status(admin: &Program, headers: &[&str]) -> u16 {
    admin.with_headers("POST", "/api/topics", headers, ORDER).status
}

#[test]
fn admin_users_are_named_by_the_proxy() {
    let cluster = Cluster::start(1, 0);
    let flags = ["--admin-user=matt", "--admin-user=jehiah", "--acl-http-header=X-User"];
    let admin = cluster.admin(&flags);
    for (headers, expected) in [
        (&[][..], 403),
        (&["X-User: jehiah"], 200),
        (&["x-user: matt"], 200),
        (&["X-User: jehiah2"], 403),
        (&["X-User: "], 403),
        (&["X-Forwarded-User: matt"], 403),
    ] {
        assert_eq!(status(&admin, headers), expected, "{headers:?}");
    }
    for (method, target) in [
        ("DELETE", "/api/topics/t"),
        ("DELETE", "/api/topics/t/c"),
        ("DELETE", "/api/nodes/127.0.0.1:1"),
        ("POST", "/api/topics/t"),
        ("POST", "/api/topics/t/c"),
    ] {
        admin.with_headers(method, target, &[], "{}").expect_message(403, "FORBIDDEN");
    }
    admin.get("/api/topics").expect(200, r#"{"topics":["t"],"message":""}"#);
    if !is_original() {
        assert!(admin.get("/").text().contains("Read only"));
        assert!(!admin.get("/topics/t").text().contains("data-method"));
        let seen = admin.with_headers("GET", "/topics/t", &["X-User: matt"], "").text();
        assert!(seen.contains("data-method=\"DELETE\""), "{seen}");
    }
}

#[test]
fn other_sites_change_nothing() {
    if is_original() {
        return;
    }
    let cluster = Cluster::start(1, 0);
    let admin = cluster.admin(&[]);
    let ours = "X-Nsqadmin: 1";
    for (headers, expected) in [
        (&[][..], 200),
        (&["Content-Type: text/plain"], 200),
        (&["Sec-Fetch-Site: same-origin", ours], 200),
        (&["Sec-Fetch-Site: same-origin"], 403),
        (&["Sec-Fetch-Site: cross-site", ours], 403),
        (&["Origin: http://evil.example"], 403),
        (&["Origin: http://evil.example", ours], 403),
        (&["Origin: null", ours], 403),
        (&["Host: admin:1", "Origin: http://admin:1", ours], 200),
    ] {
        assert_eq!(status(&admin, headers), expected, "{headers:?}");
    }
    let origin = ["Origin: http://evil.example"];
    let reply = admin.with_headers("PUT", "/config/log_level", &origin, "debug");
    reply.expect_message(403, "FORBIDDEN");
    // Nobody is told that they may ask with headers of their own.
    let reply = admin.with_headers("OPTIONS", "/api/topics", &origin, "");
    assert_eq!(reply.header("access-control-allow-origin"), None);
}

#[test]
fn users_and_tokens_sign_in_with_their_roles() {
    if is_original() {
        return;
    }
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("auth.toml");
    // The digests are those of `ops` and of `foo`.
    let text = r#"
        [[users]]
        name = "ops"
        password_sha256 = "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae"
        role = "operate"
        [[users]]
        name = "eve"
        password = "look"
        role = "view"
        [[tokens]]
        name = "deploy"
        token = "hush"
        role = "operate"
    "#;
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    let cluster = Cluster::start(1, 0);
    let admin = cluster.admin(&[&format!("--auth-file={}", path.display())]);
    admin.get("/ping").expect(200, "OK");
    for target in ["/", "/api/topics", "/live?page=topics", "/static/admin.css"] {
        let reply = admin.get(target);
        assert_eq!(reply.status, 401, "{target}");
        assert!(reply.header("www-authenticate").unwrap().starts_with("Basic realm="));
    }
    let (ops, eve, deploy) = (
        "Authorization: Basic b3BzOmZvbw==",
        "Authorization: Basic ZXZlOmxvb2s=",
        "Authorization: Bearer hush",
    );
    assert_eq!(status(&admin, &[ops]), 200);
    assert_eq!(status(&admin, &[deploy]), 200);
    assert_eq!(status(&admin, &[eve]), 403);
    assert_eq!(status(&admin, &["Authorization: Bearer look"]), 401);
    assert_eq!(status(&admin, &["Authorization: Basic b3BzOmJhcg=="]), 401);
    let page = admin.with_headers("GET", "/", &[eve], "");
    assert_eq!(page.status, 200);
    assert!(page.text().contains("Signed in as eve") && page.text().contains("Read only"));
    let reply = admin.with_headers("PUT", "/config/log_level", &[eve], "debug");
    reply.expect_message(403, "FORBIDDEN");

    fs::write(&path, "[[users]]\nname = \"ops\"\nrole = \"operate\"\n").unwrap();
    let flags = ["--lookupd-http-address=127.0.0.1:1", "--http-address=127.0.0.1:0"];
    let file = format!("--auth-file={}", path.display());
    let output = admin_command().args(flags).arg(file).output().expect("it starts");
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("exactly one secret is needed"), "{stderr}");
}
