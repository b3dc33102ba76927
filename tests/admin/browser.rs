//! The pages in Chromium: every one of them and every action, on a cluster of two nsqds and two
//! nsqlookupds with 2000 topics; and on one with a dead node and one that means harm.
//!
//! The walk itself is `browser/walk.mjs`, driven by Playwright at a pinned version, which installs
//! itself into `target/admin-browser` the first time, over the network. Without Node.js or Chromium
//! the test is skipped with a line on stderr, unless `RINGMAIN_REQUIRE_INTEROP=1`. Screenshots, for
//! a person to look at, are in `target/admin-screenshots`.

use super::cluster::{Cluster, Program, is_original, text};
use super::partial::{hostile_lookupd, hostile_nsqd};
use crate::support::client::Client;
use crate::support::wait::Stopwatch;
use std::env;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

const TOPICS: usize = 2000;

#[test]
fn every_page_and_every_action() {
    if is_original() {
        return;
    }
    let walk = match prepare() {
        Ok(walk) => walk,
        Err(missing) if env::var("RINGMAIN_REQUIRE_INTEROP").is_ok_and(|value| value == "1") => {
            panic!("{missing}")
        }
        Err(missing) => {
            // Past the test harness, which keeps the prints of passing tests to itself.
            let line = format!("SKIPPED nsqadmin's pages in a browser: {missing}");
            writeln!(std::io::stderr(), "{line}").expect("stderr takes a line");
            return;
        }
    };
    let cluster = Cluster::start(2, 2);
    let consumers = fill(&cluster);
    // The machine may be busy.
    let admin = cluster.admin(&["--http-client-request-timeout=60s"]);
    let nsqd = hostile_nsqd();
    let lookupd = hostile_lookupd(&[nsqd.port(), 1]);
    let lookupds = cluster.lookupds.iter().map(|lookupd| text(&lookupd.http));
    let lookupds = lookupds.chain([lookupd.address.clone()]);
    let flags: Vec<_> = lookupds.map(|l| format!("--lookupd-http-address={l}")).collect();
    let rough = Program::admin(&flags);

    measure(&admin);
    let mut command = walk;
    command.env("ADMIN", format!("http://{}", text(&admin.http)));
    command.env("ROUGH", format!("http://{}", text(&rough.http)));
    command.env("NODE", cluster.node(1));
    command.env("PUBLISH", format!("http://{}/pub?topic=busy", cluster.node(0)));
    let output = command.output().expect("node runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let lines = said.lines().filter(|line| line.ends_with(" ms"));
    lines.for_each(|line| eprintln!("{line}"));
    let complete = output.status.success() && said.lines().last() == Some("OK");
    assert!(complete, "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    drop(consumers);

    // What was done is done.
    assert!(cluster.nsqds.iter().all(|nsqd| nsqd.topic("doomed").is_none()));
    assert!(
        cluster.nsqds[1].topic("tombed").is_none() && cluster.nsqds[0].topic("tombed").is_some()
    );
    let busy = cluster.nsqds[0].topic("busy").expect("it is still there");
    assert_eq!(busy["paused"], false);
}

/// Two thousand topics, some that are busy, and some to be done away with.
fn fill(cluster: &Cluster) -> Vec<Client> {
    let [first, second] = &cluster.nsqds[..] else { panic!("two nsqds") };
    std::thread::scope(|scope| {
        for (index, nsqd) in cluster.nsqds.iter().enumerate() {
            scope.spawn(move || {
                for number in (index..TOPICS).step_by(2) {
                    nsqd.create_channel(&format!("topic-{number:04}"), "worker");
                }
            });
        }
    });
    for nsqd in [first, second] {
        for channel in ["slow", "archive", "metrics#ephemeral"] {
            nsqd.create_channel("busy", channel);
        }
        let body = vec!["<script>alert(1)</script>"; 400].join("\n");
        nsqd.post("/mpub?topic=busy", body.as_bytes()).expect(200, "OK");
        nsqd.create_channel("tombed", "c");
        nsqd.post("/mpub?topic=tombed", b"1\n2").expect(200, "OK");
        nsqd.create_channel("odd#ephemeral", "c");
    }
    first.order("/topic/create?topic=ledger&durability=synced");
    second.create_channel("doomed", "c");
    second.post("/mpub?topic=doomed", b"1\n2\n3").expect(200, "OK");
    second.create_channel("held", "c");
    second.order("/topic/pause?topic=held");
    for (topic, nsqds) in [("busy", 2), ("doomed", 1), ("tombed", 2)] {
        let channels = ["archive", "metrics#ephemeral", "slow"];
        let channels = if topic == "busy" { &channels[..] } else { &["c"] };
        cluster.wait_registered(topic, nsqds, channels);
    }
    [first, second].map(|nsqd| Client::consumer(nsqd, "busy", "slow", 3)).into()
}

/// How long the page of all topics takes, without and with all rows.
fn measure(admin: &Program) {
    for target in ["/", "/", "/?rows=5000", "/?rows=5000", "/api/topics"] {
        let watch = Stopwatch::start();
        let reply = admin.get(target);
        eprintln!("{target}: {} bytes in {:?}", reply.body.len(), watch.elapsed());
        assert_eq!(reply.status, 200);
    }
}

/// The command that walks, with Playwright installed.
fn prepare() -> Result<Command, String> {
    let chromium = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];
    let chromium = chromium.into_iter().find(|path| Path::new(path).exists());
    let chromium = chromium.ok_or("Chromium is not installed")?;
    for program in ["node", "npm"] {
        let version = Command::new(program).arg("--version").output();
        version.map_err(|_| format!("{program} is not installed"))?;
    }
    let tmp = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let target = tmp.parent().expect("it is a directory in `target`");
    let directory = target.join("admin-browser");
    install(&directory).map_err(|reason| format!("Playwright cannot be installed: {reason}"))?;
    let mut command = Command::new("node");
    command.arg(source("walk.mjs")).env("NODE_PATH", directory.join("node_modules"));
    command.env("CHROMIUM", chromium).env("SCREENSHOTS", target.join("admin-screenshots"));
    Ok(command)
}

/// Installs what the lock file names, once.
fn install(directory: &Path) -> Result<(), String> {
    let described = |error: std::io::Error| error.to_string();
    fs::create_dir_all(directory).map_err(described)?;
    let lock = File::create(directory.join("lock")).map_err(described)?;
    lock.lock().map_err(described)?;
    let pinned = fs::read(source("package-lock.json")).map_err(described)?;
    let stamp = directory.join("stamp");
    if fs::read(&stamp).is_ok_and(|installed| installed == pinned) {
        return Ok(());
    }
    for file in ["package.json", "package-lock.json"] {
        fs::copy(source(file), directory.join(file)).map_err(described)?;
    }
    let mut npm = Command::new("npm");
    npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]).current_dir(directory);
    let output = npm.output().map_err(described)?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    fs::write(stamp, pinned).map_err(described)
}

fn source(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/admin/browser").join(file)
}
