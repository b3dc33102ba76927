//! A daemon of the cluster on its host: it can be killed, and started again where it was.

use super::network::Host;
use crate::support::http::{self, Reply};
use crate::support::stream::Address;
use crate::support::wait::eventually;
use std::fs::{self, File};
use std::process::{Child, Stdio};
use tempfile::TempDir;

/// An nsqd or nsqlookupd; killed when dropped.
pub(super) struct Node {
    host: Host,
    program: &'static str,
    flags: Vec<String>,
    directory: TempDir,
    child: Child,
    /// Where it speaks its protocol.
    pub(super) tcp: String,
    /// Where it serves HTTP.
    pub(super) http: String,
}

impl Node {
    /// Starts it and returns once it listens.
    pub(super) fn start(host: &Host, program: &'static str, flags: &[String]) -> Self {
        let directory = TempDir::new().expect("a temporary directory");
        let mut flags = flags.to_vec();
        flags.push(format!("--broadcast-address={}", host.ip));
        if program.ends_with("nsqd") {
            flags.push(format!("--data-path={}", directory.path().display()));
        }
        let host = host.clone();
        let any = format!("{}:0", host.ip);
        let child = spawn(&host, program, &flags, &directory, (&any, &any));
        let (tcp, http) = (String::new(), String::new());
        let mut node = Self { host, program, flags, directory, child, tcp, http };
        (node.tcp, node.http) = (node.listening("TCP"), node.listening("HTTP"));
        node
    }

    /// `kill -9`.
    pub(super) fn kill(&mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("a child");
    }

    /// Starts it again with its data and at its addresses.
    pub(super) fn start_again(&mut self) {
        let addresses = (self.tcp.as_str(), self.http.as_str());
        self.child = spawn(&self.host, self.program, &self.flags, &self.directory, addresses);
        self.listening("HTTP");
    }

    pub(super) fn get(&self, target: &str) -> Reply {
        http::request(&Address::Tcp(self.http.clone()), "GET", target, b"")
    }

    /// Posts where an empty 200 is the only good answer.
    pub(super) fn order(&self, target: &str) {
        http::request(&Address::Tcp(self.http.clone()), "POST", target, b"").expect(200, "");
    }

    fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("stderr.log")).unwrap_or_default()
    }

    fn listening(&mut self, protocol: &str) -> String {
        let mark = format!(" {protocol}: listening on ");
        eventually(|| {
            let ended = self.child.try_wait().expect("a child");
            assert!(ended.is_none(), "{} ended at start: {}", self.program, self.log());
            let log = self.log();
            let whole_lines = log.rsplit_once('\n').map_or("", |(lines, _)| lines);
            let line = whole_lines.lines().find_map(|line| line.split_once(&mark));
            line.map(|(_, address)| address.to_owned()).ok_or(format!("no{mark}…"))
        })
    }
}

fn spawn(
    host: &Host,
    program: &str,
    flags: &[String],
    directory: &TempDir,
    (tcp, http): (&str, &str),
) -> Child {
    let log = File::create(directory.path().join("stderr.log")).expect("a file");
    let mut command = host.command(program);
    command.arg(format!("--tcp-address={tcp}")).arg(format!("--http-address={http}")).args(flags);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    command.spawn().unwrap_or_else(|error| panic!("starting {command:?}: {error}"))
}

impl Drop for Node {
    fn drop(&mut self) {
        // Both fail only when the process has already been waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<_> = log.lines().collect();
            let tail = lines[lines.len().saturating_sub(30)..].join("\n");
            eprintln!("--- {} {} ---\n{tail}\n---", self.program, self.tcp);
        }
    }
}
