//! The HTTP API over real sockets, in front of shards that keep their topics in a map.

mod api;
mod client;
mod fake_shards;
mod faults;
mod persistence;
mod statistics;

use self::client::{Answer, Client};
use self::fake_shards::{FakeShards, Model};
use super::*;
use crate::options;
use metadata::{MetadataChanged, MetadataFile};
use std::sync::mpsc;
use tempfile::TempDir;

/// A control thread with two fake shards behind it.
struct Daemon {
    shards: FakeShards,
    thread: ControlThread,
    client: Client,
    signals: mpsc::Receiver<StopSignal>,
    /// Where `nsqd.dat` is.
    directory: TempDir,
}

impl Daemon {
    fn start(arguments: &[&str]) -> Self {
        Self::listen(&[arguments, &["-http-address=127.0.0.1:0"]].concat())
    }

    fn listen(arguments: &[&str]) -> Self {
        Self::listen_in(TempDir::new().unwrap(), arguments)
    }

    fn listen_in(directory: TempDir, arguments: &[&str]) -> Self {
        let options = options::parse(arguments.iter().map(Into::into)).unwrap();
        let http = HttpListener::bind(&options.http_address).unwrap().unwrap();
        let client = Client::of(&http);
        let (shards, ports) = FakeShards::start();
        let (signal, signals) = mpsc::channel();
        let (ready, loaded) = mpsc::channel();
        let config = ControlConfig {
            https: None,
            certificates: Certificates::read(&Options::default()).unwrap(),
            health: crate::control::health::Health::default(),
            options,
            shards: ports,
            http: Some(http),
            tokens: None,
            tcp_port: 4150,
            auth: None,
            log_filter: None,
            free_memory: || {},
            log_file: LogFile::default(),
            dropped_lines: None,
            metadata: metadata_in(&directory),
            on_ready: Box::new(move |outcome| ready.send(outcome).unwrap()),
            on_stop: Box::new(move |stop| signal.send(stop).unwrap_or_default()),
        };
        let thread = run(config).unwrap();
        loaded.recv().unwrap().unwrap();
        Self { shards, thread, client, signals, directory }
    }

    fn get(&self, target: &str) -> Answer {
        self.client.send("GET", target, b"")
    }

    fn post(&self, target: &str, body: impl AsRef<[u8]>) -> Answer {
        self.client.send("POST", target, body.as_ref())
    }

    /// Looks into the fake shards.
    fn look<T: Send + 'static>(&self, at: impl FnOnce(&mut Model) -> T + Send + 'static) -> T {
        self.shards.look(at)
    }

    /// The bodies waiting in a topic.
    fn messages(&self, topic: &'static str) -> Vec<Vec<u8>> {
        self.look(move |model| model.topic(topic).messages.clone())
    }
}

fn metadata_in(directory: &TempDir) -> MetadataConfig {
    let file = MetadataFile::of(directory.path().to_str().unwrap());
    let restored = file.load().unwrap();
    MetadataConfig { file, restored, changed: MetadataChanged::default() }
}
