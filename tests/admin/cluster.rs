//! A cluster under test: nsqlookupds, nsqds that register with them, and an nsqadmin that watches.

use crate::support::daemon::{Daemon, Options};
use crate::support::http::{self, Reply};
use crate::support::stream::Address;
use crate::support::wait::eventually;
use serde_json::Value;
use std::env;
use std::fs::{self, File};
use std::process::{Child, Command, ExitStatus, Stdio};
use tempfile::TempDir;

/// Whether the nsqadmin under test is the original: what we do otherwise is not expected then.
pub(super) fn is_original() -> bool {
    env::var_os("RINGMAIN_NSQADMIN").is_some()
}

/// Some nsqlookupds and nsqds.
pub(super) struct Cluster {
    pub(super) nsqds: Vec<Daemon>,
    pub(super) lookupds: Vec<Program>,
}

impl Cluster {
    /// Starts so many, and returns once all nsqds are registered everywhere.
    pub(super) fn start(lookupds: usize, nsqds: usize) -> Self {
        Self::start_with(lookupds, nsqds, &[])
    }

    pub(super) fn start_with(lookupds: usize, nsqds: usize, flags: &[&str]) -> Self {
        let lookupds: Vec<_> = (0..lookupds).map(|_| Program::lookupd()).collect();
        let peers = lookupds.iter().map(|l| format!("--lookupd-tcp-address={}", text(&l.tcp)));
        let own = ["--broadcast-address=127.0.0.1".to_owned()];
        let peers: Vec<String> = peers.chain(own).collect();
        let mut all: Vec<&str> = peers.iter().map(String::as_str).collect();
        all.extend(flags);
        let options = Options { shards: 1, flags: &all, ..Options::default() };
        let nsqds: Vec<_> = (0..nsqds).map(|_| Daemon::start(&options)).collect();
        let cluster = Self { nsqds, lookupds };
        for lookupd in &cluster.lookupds {
            eventually(|| {
                let nodes = lookupd.get("/nodes").json();
                let nodes = nodes["producers"].as_array().map_or(0, Vec::len);
                if nodes == cluster.nsqds.len() { Ok(()) } else { Err(format!("{nodes} nodes")) }
            });
        }
        cluster
    }

    /// An nsqadmin that asks the nsqlookupds, or the nsqds where there are none.
    pub(super) fn admin(&self, flags: &[&str]) -> Program {
        let mut all: Vec<String> = flags.iter().map(|flag| (*flag).to_owned()).collect();
        for lookupd in &self.lookupds {
            all.push(format!("--lookupd-http-address={}", text(&lookupd.http)));
        }
        if self.lookupds.is_empty() {
            let nsqd = |nsqd: &Daemon| format!("--nsqd-http-address={}", text(&nsqd.http));
            all.extend(self.nsqds.iter().map(nsqd));
        }
        Program::admin(&all)
    }

    /// Waits until all nsqlookupds know that so many nsqds have the topic, with such channels.
    pub(super) fn wait_registered(&self, topic: &str, nsqds: usize, channels: &[&str]) {
        for lookupd in &self.lookupds {
            eventually(|| {
                let found = lookupd.get(&format!("/lookup?topic={topic}")).json();
                let count = |key: &str| found[key].as_array().map_or(0, Vec::len);
                let right = count("producers") == nsqds && count("channels") == channels.len();
                if right { Ok(()) } else { Err(found.to_string()) }
            });
        }
    }

    /// The address by which an nsqd is known.
    pub(super) fn node(&self, index: usize) -> String {
        text(&self.nsqds[index].http)
    }
}

/// `host:port`.
pub(super) fn text(address: &Address) -> String {
    match address {
        Address::Tcp(address) => address.clone(),
        Address::Unix(path) => path.display().to_string(),
    }
}

/// A running nsqadmin or nsqlookupd.
pub(super) struct Program {
    name: &'static str,
    child: Child,
    directory: TempDir,
    pub(super) http: Address,
    /// Of nsqlookupd alone.
    pub(super) tcp: Address,
}

impl Program {
    fn lookupd() -> Self {
        let path = env::var_os("RINGMAIN_NSQLOOKUPD");
        let path = path.unwrap_or_else(|| env!("CARGO_BIN_EXE_nsqlookupd").into());
        let flags = ["--tcp-address=127.0.0.1:0", "--http-address=127.0.0.1:0"];
        let command = with_flags(Command::new(path), &flags.map(str::to_owned));
        let mut program = Self::start("nsqlookupd", command);
        program.tcp = program.listening("TCP");
        program.http = program.listening("HTTP");
        program
    }

    /// An nsqadmin with just these flags, and a free port.
    pub(super) fn admin(flags: &[String]) -> Self {
        let mut command = with_flags(admin_command(), flags);
        command.arg("--http-address=127.0.0.1:0");
        let mut program = Self::start("nsqadmin", command);
        program.http = program.listening("HTTP");
        program
    }

    fn start(name: &'static str, mut command: Command) -> Self {
        let directory = TempDir::new().expect("a temporary directory");
        let log = File::create(directory.path().join("stderr.log")).expect("a file");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let child = command.spawn().unwrap_or_else(|e| panic!("starting {command:?}: {e}"));
        let unknown = Address::Tcp(String::new());
        Self { name, child, directory, http: unknown.clone(), tcp: unknown }
    }

    pub(super) fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("stderr.log")).unwrap_or_default()
    }

    /// Waits until this has been logged.
    pub(super) fn wait_logged(&self, text: &str) {
        eventually(|| {
            let log = self.log();
            if log.contains(text) { Ok(()) } else { Err(format!("no {text:?} in\n{log}")) }
        });
    }

    pub(super) fn get(&self, target: &str) -> Reply {
        http::request(&self.http, "GET", target, b"")
    }

    pub(super) fn post(&self, target: &str, body: &str) -> Reply {
        http::request(&self.http, "POST", target, body.as_bytes())
    }

    pub(super) fn put(&self, target: &str, body: &str) -> Reply {
        http::request(&self.http, "PUT", target, body.as_bytes())
    }

    pub(super) fn delete(&self, target: &str, body: &str) -> Reply {
        http::request(&self.http, "DELETE", target, body.as_bytes())
    }

    /// A request with headers of its own.
    pub(super) fn with_headers(
        &self,
        method: &str,
        target: &str,
        headers: &[&str],
        body: &str,
    ) -> Reply {
        let mut request = format!("{method} {target} HTTP/1.1\r\nConnection: close\r\n");
        if !headers.iter().any(|header| header.starts_with("Host:")) {
            request.push_str("Host: nsqadmin\r\n");
        }
        for header in headers {
            request.push_str(&format!("{header}\r\n"));
        }
        request.push_str(&format!("Content-Length: {}\r\n\r\n{body}", body.len()));
        http::exchange(&self.http, request.as_bytes()).expect("an answer")
    }

    /// A document that is there.
    #[track_caller]
    pub(super) fn json(&self, target: &str) -> Value {
        let reply = self.get(target);
        assert_eq!(reply.status, 200, "{target}: {}", reply.text());
        reply.json()
    }

    /// Waits until a document looks right.
    pub(super) fn wait_json(&self, target: &str, is_right: impl Fn(&Value) -> bool) -> Value {
        eventually(|| {
            let document = self.get(target).json();
            if is_right(&document) { Ok(document) } else { Err(document.to_string()) }
        })
    }

    /// Asks for an orderly stop and returns how the process ended.
    pub(super) fn terminate(&mut self, signal: &str) -> ExitStatus {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").arg(format!("-{signal}")).arg(pid).status();
        assert!(sent.expect("kill can be run").success());
        let child = &mut self.child;
        eventually(|| child.try_wait().expect("a child").ok_or("still running".to_owned()))
    }

    fn listening(&mut self, protocol: &str) -> Address {
        let mark = format!(" {protocol}: listening on ");
        let text = eventually(|| {
            if let Some(status) = self.child.try_wait().expect("a child") {
                panic!("{} ended at start: {status}\n{}", self.name, self.log());
            }
            let log = self.log();
            let whole_lines = log.rsplit_once('\n').map_or("", |(lines, _)| lines);
            let line = whole_lines.lines().find_map(|line| line.split_once(&mark));
            line.map(|(_, address)| address.to_owned()).ok_or(format!("no{mark}…"))
        });
        Address::Tcp(text)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Both fail only when the process has already been waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<_> = log.lines().collect();
            let tail = &lines[lines.len().saturating_sub(60)..];
            eprintln!("--- {}'s last lines ---\n{}\n---", self.name, tail.join("\n"));
        }
    }
}

/// How to start the nsqadmin under test.
pub(super) fn admin_command() -> Command {
    let path = env::var_os("RINGMAIN_NSQADMIN");
    Command::new(path.unwrap_or_else(|| env!("CARGO_BIN_EXE_nsqadmin").into()))
}

fn with_flags(mut command: Command, flags: &[String]) -> Command {
    command.args(flags);
    command
}
