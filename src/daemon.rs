//! The daemon as a whole: one thread per shard, the control thread, their start and their end.

mod data_path;
mod listeners;
mod removal;
mod settings;
mod shards;

pub use data_path::DataPath;

use crate::control::auth;
use crate::control::certificates::Certificates;
use crate::control::health::Health;
use crate::control::metadata::{Metadata, MetadataChanged, MetadataConfig, MetadataFile};
use crate::control::tokens::Tokens;
use crate::control::{self, ControlConfig, ControlThread, HttpListener, ShardPort, systemd};
use crate::limits::FAILURE_PATIENCE;
use crate::log::{self, Log};
use crate::options::{Options, duration, version_text};
use crate::process;
use crate::protocol::name::TopicName;
use crate::reactor::{ControlWaker, memory, probe};
use crate::server::clock::Clock;
use crate::server::{DaemonStage, Stage};
use listeners::TcpSide;
use shards::{ShardThread, Shared};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

/// Why the main thread wakes up.
enum Event {
    /// A shard's reactor is ready; in the order of their indexes they become ports.
    Ready(usize, ControlWaker),
    /// The shards have what the file of topics named; or why not, as NSQ says it.
    Loaded(Result<(), String>),
    /// SIGINT or SIGTERM.
    Stop,
    /// A shard that is drained has nothing left to deliver.
    Drained,
    /// A shard has disconnected its clients.
    Closed(usize),
    /// A shard cannot go on.
    Failed(usize, String),
}

/// What runs, as the main thread sees it.
struct Running {
    control: ControlThread,
    /// By index.
    shards: Vec<ShardThread>,
    stage: Arc<DaemonStage>,
    events: Receiver<Event>,
    drain_timeout: Duration,
}

/// Runs nsqd until it is told to stop.
pub fn run(options: Options, data_path: DataPath) -> ExitCode {
    let log = Log::start(options.log_level, options.log_format, &options.log_prefix);
    process::end_on_panic();
    let ended = start(&options, &data_path, &log).and_then(|running| {
        let failure = running.serve();
        TcpSide::remove(&options.tcp_address);
        failure.map_or(Ok(()), Err)
    });
    drop(data_path);
    let code = match ended {
        Ok(()) => {
            tracing::info!("NSQ: bye");
            ExitCode::SUCCESS
        }
        Err(reason) => {
            tracing::error!(target: log::FATAL, "{reason}");
            ExitCode::FAILURE
        }
    };
    drop(log);
    code
}

fn start(options: &Options, data_path: &DataPath, log: &Log) -> Result<Running, String> {
    introduce(options);
    let logs = data_path.look_around();
    let report = probe::check().map_err(|unavailable| instantiate(unavailable.to_string()))?;
    tracing::info!("{report}, {} shards", options.shards);
    let tcp = TcpSide::bind(&options.tcp_address, options.shards).map_err(instantiate)?;
    let http = HttpListener::bind(&options.http_address).map_err(instantiate)?;
    let certificates = Certificates::read(options).map_err(instantiate)?;
    let tokens = Tokens::read(&options.http_token_file).map_err(instantiate)?;
    let https = bind_https(options, &certificates).map_err(instantiate)?;
    let file = MetadataFile::of(&options.data_path);
    let restored = what_there_is_to_be(&file, logs, options)?;
    let (inbox, auth) = auth::servers(options).map_err(instantiate)?;
    let (sender, events) = channel();
    let (removals, removed) = channel();
    let health = Health::default();
    let stage = Arc::new(DaemonStage::default());
    let changed = MetadataChanged::default();
    let (tcp_port, tcp_name) = (tcp.port(), tcp.name());
    let shared = Shared {
        reactor: report.options(),
        stage: Arc::clone(&stage),
        metadata: changed.clone(),
        events: sender.clone(),
        data_path: PathBuf::from(&options.data_path),
        removals,
        health: health.clone(),
        tls: certificates.offered(),
        auth: inbox,
    };
    let (shards, ports) = shards::spawn(options, &shared, tcp, &events).map_err(instantiate)?;
    drop(shared);
    removal::start(removed, ports.clone())
        .map_err(|error| instantiate(format!("a thread does not start - {error}")))?;
    let on_ready = tell(&sender, Event::Loaded);
    let on_stop = Box::new(move |_| sender.send(Event::Stop).unwrap_or_default());
    let control = control::run(ControlConfig {
        options: options.clone(),
        shards: ports,
        http,
        https,
        certificates,
        tokens,
        tcp_port,
        log_filter: Some(log.filter()),
        free_memory: memory::give_back,
        log_file: log.file(),
        dropped_lines: Some(log.dropped_lines()),
        metadata: MetadataConfig { file, restored, changed },
        health,
        auth,
        on_ready,
        on_stop,
    })
    .map_err(|error| instantiate(format!("the control thread does not start - {error}")))?;
    let running = Running { control, shards, stage, events, drain_timeout: options.drain_timeout };
    running.wait_until_loaded()?;
    tracing::info!("TCP: listening on {tcp_name}");
    running.go_on_to(Stage::Serving);
    systemd::ready();
    Ok(running)
}

/// The first lines of the log; and the process takes what descriptors it may have.
fn introduce(options: &Options) {
    tracing::info!("{}", version_text());
    tracing::info!("ID: {}", options.id);
    for warning in &options.warnings {
        tracing::warn!("{warning}");
    }
    process::allow_many_descriptors();
}

/// The topics that are brought back or made: those of the file, of logs, and the declared ones.
fn what_there_is_to_be(
    file: &MetadataFile,
    logs: Vec<TopicName>,
    options: &Options,
) -> Result<Metadata, String> {
    let restored = file.load();
    let mut restored = restored.map_err(|reason| format!("failed to load metadata - {reason}"))?;
    restored.add_topics(logs.into_iter());
    restored.declare(&options.declared);
    Ok(restored)
}

/// The HTTPS socket, if there is a certificate and an address.
fn bind_https(
    options: &Options,
    certificates: &Certificates,
) -> Result<Option<HttpListener>, String> {
    if certificates.offered().borrow().is_none() {
        return Ok(None);
    }
    HttpListener::bind(&options.https_address)
}

impl Running {
    fn wait_until_loaded(&self) -> Result<(), String> {
        loop {
            match self.events.recv() {
                Ok(Event::Loaded(loaded)) => {
                    return loaded.map_err(|reason| self.first_failure(reason));
                }
                Ok(Event::Failed(index, reason)) => return Err(shard_failed(index, &reason)),
                Ok(_) => {}
                Err(_) => return Ok(()),
            }
        }
    }

    /// Why the topics could not be brought back: a shard that has failed says it better than the
    /// control thread, which only notices that nobody answers.
    fn first_failure(&self, reason: String) -> String {
        while let Ok(event) = self.events.recv_timeout(FAILURE_PATIENCE) {
            if let Event::Failed(index, reason) = event {
                return shard_failed(index, &reason);
            }
        }
        reason
    }

    /// Serves until told to stop, or until something fails, which is returned.
    fn serve(self) -> Option<String> {
        let mut open = vec![true; self.shards.len()];
        let failure = loop {
            match self.events.recv() {
                Ok(Event::Stop) | Err(_) => break None,
                Ok(Event::Failed(index, reason)) => {
                    open[index] = false;
                    break Some(shard_failed(index, &reason));
                }
                Ok(_) => {}
            }
        };
        systemd::stopping();
        let failure = failure.or_else(|| self.drain(&mut open));
        self.control.close_http();
        self.go_on_to(Stage::Closing);
        while open.contains(&true) {
            match self.events.recv() {
                Ok(Event::Closed(index) | Event::Failed(index, _)) => open[index] = false,
                Ok(_) => {}
                Err(_) => break,
            }
        }
        // Nobody is left who could be told of a topic that the file does not have.
        self.control.stop();
        tracing::info!("NSQ: stopping subsystems");
        self.stage.set(Stage::Ended);
        for shard in self.shards {
            shard.waker.wake();
            shard.thread.join().expect("a panic of a shard ends the process");
        }
        failure
    }

    /// Lets consumers take what there is, until there is nothing left, the time is over, or another
    /// signal comes. Gives what failed meanwhile.
    fn drain(&self, open: &mut [bool]) -> Option<String> {
        if self.drain_timeout.is_zero() {
            return None;
        }
        tracing::info!("NSQ: draining for {} at most", duration::format(self.drain_timeout));
        self.control.withdraw();
        self.go_on_to(Stage::Draining);
        let clock = Clock::start();
        let mut busy = self.shards.len();
        while busy > 0 {
            let elapsed = Duration::from_nanos(clock.read().time.0);
            let left = self.drain_timeout.saturating_sub(elapsed);
            match self.events.recv_timeout(left) {
                Ok(Event::Drained) => busy -= 1,
                Ok(Event::Failed(index, reason)) => {
                    open[index] = false;
                    return Some(shard_failed(index, &reason));
                }
                Ok(Event::Stop) | Err(_) => {
                    tracing::warn!("NSQ: not drained, what is left is kept");
                    return None;
                }
                Ok(_) => {}
            }
        }
        tracing::info!("NSQ: drained");
        None
    }

    fn go_on_to(&self, stage: Stage) {
        self.stage.set(stage);
        for shard in &self.shards {
            shard.waker.wake();
        }
    }
}

/// A callback that sends the main thread an event.
fn tell<T: 'static>(
    events: &Sender<Event>,
    event: impl FnOnce(T) -> Event + Send + 'static,
) -> Box<dyn FnOnce(T) + Send> {
    let events = events.clone();
    Box::new(move |value| {
        // The main thread is gone only when the process ends anyway.
        let _ = events.send(event(value));
    })
}

fn instantiate(reason: String) -> String {
    format!("failed to instantiate nsqd - {reason}")
}

fn shard_failed(index: usize, reason: &str) -> String {
    format!("shard {index}: {reason}")
}
