//! A daemon under test: started on free ports in a directory of its own, killed when dropped.

use super::client::Client;
use super::http::{self, Reply};
use super::matrix::Transport;
use super::stream::Address;
use super::wait::eventually;
use serde_json::Value;
use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use tempfile::TempDir;

/// Whether the program under test is the original nsqd, which has no flags of ours.
pub(crate) fn plain_flags() -> bool {
    env::var_os("RINGMAIN_NSQD_PLAIN_FLAGS").is_some_and(|value| value == "1")
}

/// The program under test.
pub(crate) fn program() -> PathBuf {
    match env::var_os("RINGMAIN_NSQD") {
        Some(path) => path.into(),
        None => env!("CARGO_BIN_EXE_nsqd").into(),
    }
}

/// How to start a daemon.
pub(crate) struct Options<'a> {
    pub(crate) transport: Transport,
    /// Threads that own topics; the original has no such thing.
    pub(crate) shards: u16,
    /// Flags of the case.
    pub(crate) flags: &'a [&'a str],
}

impl Default for Options<'_> {
    fn default() -> Self {
        Self { transport: Transport::Tcp, shards: 2, flags: &[] }
    }
}

/// A running daemon.
pub(crate) struct Daemon {
    child: Child,
    /// Shared with those who started in it before.
    directory: Arc<TempDir>,
    /// Where it speaks NSQ's protocol.
    pub(crate) tcp: Address,
    /// Where it serves HTTP.
    pub(crate) http: Address,
}

impl Daemon {
    /// Starts a daemon and returns once it listens.
    pub(crate) fn start(options: &Options<'_>) -> Self {
        Self::start_in(Arc::new(TempDir::new().expect("a temporary directory")), options)
    }

    /// Starts another daemon in the same directory, with a new log; this one has ended.
    pub(crate) fn start_again(&self, options: &Options<'_>) -> Self {
        Self::start_in(Arc::clone(&self.directory), options)
    }

    /// Starts a daemon in a directory and returns once it listens.
    pub(crate) fn start_in(directory: Arc<TempDir>, options: &Options<'_>) -> Self {
        let (tcp, http) = match options.transport {
            Transport::Tcp => ("127.0.0.1:0".to_owned(), "127.0.0.1:0".to_owned()),
            Transport::Unix => (socket(&directory, "tcp"), socket(&directory, "http")),
        };
        let mut command = command(directory.path());
        command.arg(format!("--tcp-address={tcp}")).arg(format!("--http-address={http}"));
        command.arg("--https-address=127.0.0.1:0").args(options.flags);
        if !plain_flags() {
            command.arg(format!("--shards={}", options.shards));
        }
        let child = command.spawn().unwrap_or_else(|e| panic!("starting {command:?}: {e}"));
        let unknown = Address::Tcp(String::new());
        let mut daemon = Self { child, directory, tcp: unknown.clone(), http: unknown };
        daemon.tcp = daemon.listening("TCP", options.transport);
        daemon.http = daemon.listening("HTTP", options.transport);
        daemon
    }

    /// Where it serves HTTPS; only with a certificate.
    pub(crate) fn https(&self) -> Address {
        let logged = || self.logged_address("HTTPS").ok_or_else(|| self.log());
        Address::Tcp(eventually(logged))
    }

    /// Whether the original is under test: what we do otherwise on purpose is not expected then.
    pub(crate) fn is_original(&self) -> bool {
        plain_flags()
    }

    /// Its data directory.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The daemon's process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has logged so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(log_path(self.directory.path())).unwrap_or_default()
    }

    /// Asks for an orderly stop and returns how the process ended.
    pub(crate) fn terminate(&mut self, signal: &str) -> ExitStatus {
        self.signal(signal);
        self.ended()
    }

    /// Sends the process a signal.
    pub(crate) fn signal(&self, signal: &str) {
        let pid = self.pid().to_string();
        let sent = Command::new("kill").arg(format!("-{signal}")).arg(pid).status();
        assert!(sent.expect("kill can be run").success());
    }

    /// Waits for the end of the process.
    pub(crate) fn ended(&mut self) -> ExitStatus {
        let child = &mut self.child;
        eventually(|| child.try_wait().expect("a child").ok_or("still running".to_owned()))
    }

    /// Memory of the process that is in RAM, in bytes.
    pub(crate) fn resident_bytes(&self) -> u64 {
        self.status_bytes("VmRSS:")
    }

    /// The most memory the process has had in RAM, in bytes.
    pub(crate) fn resident_peak_bytes(&self) -> u64 {
        self.status_bytes("VmHWM:")
    }

    /// How many descriptors the process has open.
    pub(crate) fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.pid())).expect("a live process").count()
    }

    pub(crate) fn get(&self, target: &str) -> Reply {
        http::request(&self.http, "GET", target, b"")
    }

    pub(crate) fn post(&self, target: &str, body: &[u8]) -> Reply {
        http::request(&self.http, "POST", target, body)
    }

    /// Posts where an empty 200 is the only good answer.
    #[track_caller]
    pub(crate) fn order(&self, target: &str) {
        self.post(target, b"").expect(200, "");
    }

    pub(crate) fn create_topic(&self, topic: &str) {
        self.order(&format!("/topic/create?topic={}", in_query(topic)));
    }

    /// Creates a topic and a channel of it.
    pub(crate) fn create_channel(&self, topic: &str, channel: &str) {
        self.create_topic(topic);
        let (topic, channel) = (in_query(topic), in_query(channel));
        self.order(&format!("/channel/create?topic={topic}&channel={channel}"));
    }

    pub(crate) fn stats(&self) -> Value {
        self.get("/stats?format=json").json()
    }

    /// A topic as in `/stats`, if it exists.
    pub(crate) fn topic(&self, topic: &str) -> Option<Value> {
        let stats = self.stats();
        let mut topics = stats["topics"].as_array()?.iter();
        topics.find(|t| t["topic_name"] == topic).cloned()
    }

    /// A channel as in `/stats`, if it exists.
    pub(crate) fn channel(&self, topic: &str, channel: &str) -> Option<Value> {
        let topic = self.topic(topic)?;
        let mut channels = topic["channels"].as_array()?.iter();
        channels.find(|c| c["channel_name"] == channel).cloned()
    }

    /// Waits until the topic shows these numbers.
    pub(crate) fn wait_topic(&self, topic: &str, expected: &[(&str, u64)]) {
        eventually(|| compare(self.topic(topic), expected));
    }

    /// Waits until the channel shows these numbers.
    pub(crate) fn wait_channel(&self, topic: &str, channel: &str, expected: &[(&str, u64)]) {
        eventually(|| compare(self.channel(topic, channel), expected));
    }

    /// Returns once the daemon watches the channel's times: the original finds a new channel's
    /// time-outs up to 5 s late. Needs the channel to be empty and nobody else subscribed.
    pub(crate) fn warm_up_timers(&self, topic: &str, channel: &str) {
        if self.is_original() {
            let mut client = Client::consumer(self, topic, channel, 1);
            client.publish_deferred(topic, 1, b"warm up");
            let message = client.message_with(b"warm up");
            client.finish(&message);
            client.expect_quiet();
            drop(client);
            self.wait_channel(topic, channel, &[("client_count", 0)]);
        }
    }

    /// Waits until the topic is gone.
    pub(crate) fn wait_no_topic(&self, topic: &str) {
        eventually(|| self.topic(topic).map_or(Ok(()), |seen| Err(seen.to_string())));
    }

    /// Waits until the channel is gone.
    pub(crate) fn wait_no_channel(&self, topic: &str, channel: &str) {
        eventually(|| self.channel(topic, channel).map_or(Ok(()), |seen| Err(seen.to_string())));
    }

    /// Waits for the daemon to listen.
    fn listening(&mut self, protocol: &str, transport: Transport) -> Address {
        let text = eventually(|| {
            if let Some(status) = self.child.try_wait().expect("a child") {
                panic!("the daemon ended at start: {status}");
            }
            self.logged_address(protocol).ok_or(format!("no {protocol}: listening…"))
        });
        match transport {
            Transport::Tcp => Address::Tcp(text),
            Transport::Unix => Address::Unix(text.into()),
        }
    }

    /// The address in the log line `<protocol>: listening on <address>`.
    fn logged_address(&self, protocol: &str) -> Option<String> {
        let mark = format!(" {protocol}: listening on ");
        let log = self.log();
        let (whole_lines, _) = log.rsplit_once('\n')?;
        let line = whole_lines.lines().find_map(|line| line.split_once(&mark));
        line.map(|(_, address)| address.to_owned())
    }

    fn status_bytes(&self, key: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid()));
        let status = status.expect("a live process");
        let line = status.lines().find_map(|line| line.strip_prefix(key)).expect("a known key");
        let kibibytes = line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number");
        kibibytes * 1024
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Both fail only when the process has already been waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<_> = log.lines().collect();
            let tail = lines.len().saturating_sub(100);
            eprintln!("--- the daemon's last lines ---\n{}\n---", lines[tail..].join("\n"));
        }
    }
}

/// The program with what every daemon under test needs; its log goes to a file in the directory.
pub(crate) fn command(directory: &Path) -> Command {
    let mut command = Command::new(program());
    let log = File::create(log_path(directory)).expect("a file in the temporary directory");
    command.current_dir(directory).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    command.arg(format!("--data-path={}", directory.display()));
    command
}

/// Where [`command`] puts the log.
pub(crate) fn log_path(directory: &Path) -> PathBuf {
    directory.join("stderr.log")
}

/// A name with the one character of names that a query string cannot hold.
fn in_query(name: &str) -> String {
    name.replace('#', "%23")
}

fn socket(directory: &TempDir, name: &str) -> String {
    directory.path().join(format!("{name}.sock")).display().to_string()
}

fn compare(seen: Option<Value>, expected: &[(&str, u64)]) -> Result<(), String> {
    let seen = seen.ok_or("it does not exist")?;
    if expected.iter().all(|(key, count)| seen[key] == *count) {
        return Ok(());
    }
    Err(format!("{seen}, expected {expected:?}"))
}
