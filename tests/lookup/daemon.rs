//! An nsqlookupd under test: started on free ports, killed when dropped.

use super::client::Client;
use crate::support::http::{self, Reply};
use crate::support::stream::Address;
use crate::support::wait::eventually;
use serde_json::Value;
use std::env;
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use tempfile::TempDir;

/// The program under test.
pub(super) fn program() -> PathBuf {
    match env::var_os("RINGMAIN_NSQLOOKUPD") {
        Some(path) => path.into(),
        None => env!("CARGO_BIN_EXE_nsqlookupd").into(),
    }
}

/// Whether it is not ours: what we do otherwise on purpose is not expected then.
pub(super) fn is_original() -> bool {
    env::var_os("RINGMAIN_NSQLOOKUPD").is_some()
}

/// A running nsqlookupd.
pub(super) struct Daemon {
    child: Child,
    directory: TempDir,
    /// Where it speaks the lookup protocol.
    pub(super) tcp: Address,
    /// Where it serves HTTP.
    pub(super) http: Address,
}

impl Daemon {
    /// Starts it and returns once it listens.
    pub(super) fn start(flags: &[&str]) -> Self {
        let directory = TempDir::new().expect("a temporary directory");
        let log = File::create(directory.path().join("stderr.log")).expect("a file");
        let mut command = Command::new(program());
        command.args(["--tcp-address=127.0.0.1:0", "--http-address=127.0.0.1:0"]).args(flags);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let child = command.spawn().unwrap_or_else(|e| panic!("starting {command:?}: {e}"));
        let unknown = Address::Tcp(String::new());
        let mut daemon = Self { child, directory, tcp: unknown.clone(), http: unknown };
        daemon.tcp = daemon.listening("TCP");
        daemon.http = daemon.listening("HTTP");
        daemon
    }

    pub(super) fn connect(&self) -> Client {
        Client::connect(&self.tcp)
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
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

    pub(super) fn post(&self, target: &str) -> Reply {
        http::request(&self.http, "POST", target, b"")
    }

    /// A document that is there.
    #[track_caller]
    pub(super) fn json(&self, target: &str) -> Value {
        let reply = self.get(target);
        assert_eq!(reply.status, 200, "{target}: {}", reply.text());
        reply.json()
    }

    /// Numbers of channels and producers that a look-up finds.
    #[track_caller]
    pub(super) fn found(&self, topic: &str) -> (usize, usize) {
        let document = self.json(&format!("/lookup?topic={topic}"));
        let length = |key: &str| document[key].as_array().expect("a list").len();
        (length("channels"), length("producers"))
    }

    /// Waits until a look-up finds so many channels and producers.
    pub(super) fn wait_found(&self, topic: &str, expected: (usize, usize)) {
        eventually(|| {
            let found = self.found(topic);
            if found == expected { Ok(()) } else { Err(format!("{found:?}")) }
        });
    }

    /// The producers of `/nodes`.
    pub(super) fn nodes(&self) -> Vec<Value> {
        self.json("/nodes")["producers"].as_array().expect("a list").clone()
    }

    /// Asks for an orderly stop and returns how the process ended.
    pub(super) fn terminate(&mut self, signal: &str) -> ExitStatus {
        let pid = self.pid().to_string();
        let sent = Command::new("kill").arg(format!("-{signal}")).arg(pid).status();
        assert!(sent.expect("kill can be run").success());
        let child = &mut self.child;
        eventually(|| child.try_wait().expect("a child").ok_or("still running".to_owned()))
    }

    /// The most memory the process has had in RAM, in bytes.
    pub(super) fn resident_peak_bytes(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid()));
        let status = status.expect("a live process");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kibibytes = line.expect("a known key").trim().trim_end_matches(" kB");
        kibibytes.parse::<u64>().expect("a number") * 1024
    }

    fn listening(&mut self, protocol: &str) -> Address {
        let mark = format!(" {protocol}: listening on ");
        let text = eventually(|| {
            if let Some(status) = self.child.try_wait().expect("a child") {
                panic!("nsqlookupd ended at start: {status}\n{}", self.log());
            }
            let log = self.log();
            let whole_lines = log.rsplit_once('\n').map_or("", |(lines, _)| lines);
            let line = whole_lines.lines().find_map(|line| line.split_once(&mark));
            line.map(|(_, address)| address.to_owned()).ok_or(format!("no{mark}…"))
        });
        Address::Tcp(text)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Both fail only when the process has already been waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- nsqlookupd's log ---\n{}---", self.log());
        }
    }
}
