//! The daemon as a whole: one thread per shard, the control thread, their start and their end.

mod listeners;
mod settings;

use crate::broker::shard::{Shard, ShardConfig};
use crate::control::{self, ControlConfig, ControlMail, HttpListener, ShardPort};
use crate::limits::{CONTROL_MAIL_MAX, MAILBOX_CAPACITY};
use crate::log::{self, Log};
use crate::options::{Options, version_text};
use crate::reactor::mailbox::{Mailboxes, mesh};
use crate::reactor::{ControlWaker, ReactorOptions, Uring, affinity, probe};
use crate::server::clock::Clock;
use crate::server::{EventLoop, ShardMail, ShardParts};
use listeners::TcpSide;
use std::os::fd::OwnedFd;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel, sync_channel};
use std::thread::JoinHandle;

/// Why the main thread wakes up.
enum Event {
    /// A shard's reactor is ready; in the order of their indexes they become ports.
    Ready(usize, ControlWaker),
    /// SIGINT or SIGTERM.
    Stop,
    /// A shard cannot go on.
    Failed(String),
}

/// A running shard, as the main thread sees it.
struct ShardThread {
    thread: JoinHandle<()>,
    waker: ControlWaker,
}

/// Runs nsqd until it is told to stop.
pub fn run(options: Options) -> ExitCode {
    let log = Log::start(options.log_level, options.log_format, &options.log_prefix);
    end_on_panic();
    let code = match start(&options, &log) {
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

fn start(options: &Options, log: &Log) -> Result<(), String> {
    tracing::info!("{}", version_text());
    tracing::info!("ID: {}", options.id);
    for warning in &options.warnings {
        tracing::warn!("{warning}");
    }
    let instantiate = |reason: String| format!("failed to instantiate nsqd - {reason}");
    let report = probe::check().map_err(|unavailable| instantiate(unavailable.to_string()))?;
    tracing::info!("{report}, {} shards", options.shards);
    listeners::allow_many_descriptors();
    let tcp = TcpSide::bind(&options.tcp_address, options.shards).map_err(instantiate)?;
    let http = HttpListener::bind(&options.http_address).map_err(instantiate)?;

    let stop = Arc::new(AtomicBool::new(false));
    let (events, main) = channel();
    let tcp_port = tcp.port();
    let mut waiting = spawn_shards(options, report.options(), tcp, &stop, &events)?;
    let mut ports = Vec::new();
    let mut shards: Vec<Option<ShardThread>> = (0..options.shards).map(|_| None).collect();
    for _ in 0..options.shards {
        match main.recv() {
            Ok(Event::Ready(index, waker)) => {
                let (thread, mail) = waiting[index].take().expect("each is ready once");
                ports.push((index, mail, waker.clone()));
                shards[index] = Some(ShardThread { thread, waker });
            }
            Ok(Event::Failed(reason)) => return Err(instantiate(reason)),
            Ok(Event::Stop) | Err(_) => {}
        }
    }
    ports.sort_by_key(|(index, ..)| *index);
    let ports = ports
        .into_iter()
        .map(|(_, mail, waker)| ShardPort { mail, wake: Box::new(move || waker.wake()) })
        .collect();
    let on_stop = Box::new(move |_| {
        // The main thread is gone only when the process ends anyway.
        let _ = events.send(Event::Stop);
    });
    let control = control::run(ControlConfig {
        options: options.clone(),
        shards: ports,
        http,
        tcp_port,
        log_filter: Some(log.filter()),
        dropped_lines: Some(log.dropped_lines()),
        on_stop,
    })
    .map_err(|error| instantiate(format!("the control thread does not start - {error}")))?;

    let failure = loop {
        match main.recv() {
            Ok(Event::Stop) | Err(_) => break None,
            Ok(Event::Failed(reason)) => break Some(reason),
            Ok(Event::Ready(..)) => {}
        }
    };
    control.stop();
    tracing::info!("NSQ: stopping subsystems");
    stop.store(true, Ordering::Release);
    for shard in shards.into_iter().flatten() {
        shard.waker.wake();
        shard.thread.join().expect("a panic of a shard ends the process");
    }
    TcpSide::remove(&options.tcp_address);
    failure.map_or(Ok(()), Err)
}

/// Threads and control inboxes of the shards, until their reactors are ready.
type Waiting = Vec<Option<(JoinHandle<()>, std::sync::mpsc::SyncSender<ControlMail>)>>;

fn spawn_shards(
    options: &Options,
    reactor: ReactorOptions,
    mut tcp: TcpSide,
    stop: &Arc<AtomicBool>,
    events: &Sender<Event>,
) -> Result<Waiting, String> {
    let cpus = affinity::available_cpus().unwrap_or_default();
    let clock = Clock::start();
    let mut waiting = Vec::new();
    for (index, mailboxes) in mesh(options.shards, MAILBOX_CAPACITY).into_iter().enumerate() {
        let (mail, control) = sync_channel(CONTROL_MAIL_MAX);
        let seat = Seat {
            index,
            cpu: (options.shards <= cpus.len()).then(|| cpus[index]),
            listener: tcp.listeners[index].take(),
            spreads: tcp.spreads,
            reactor,
            config: settings::shard_config(options, index),
            mailboxes,
            stop: Arc::clone(stop),
            clock,
            events: events.clone(),
        };
        let thread = std::thread::Builder::new()
            .name(format!("shard-{index}"))
            .spawn(move || seat.run(control))
            .map_err(|error| format!("cannot start a thread for shard {index} - {error}"))?;
        waiting.push(Some((thread, mail)));
    }
    Ok(waiting)
}

/// What a shard's thread begins with.
struct Seat {
    index: usize,
    /// The CPU it is pinned to; none when there are more shards than CPUs.
    cpu: Option<usize>,
    listener: Option<OwnedFd>,
    spreads: bool,
    reactor: ReactorOptions,
    config: ShardConfig,
    mailboxes: Mailboxes<ShardMail>,
    stop: Arc<AtomicBool>,
    clock: Clock,
    events: Sender<Event>,
}

impl Seat {
    fn run(self, control: std::sync::mpsc::Receiver<ControlMail>) {
        let (index, events) = (self.index, self.events.clone());
        if let Err(reason) = self.serve(control) {
            // Without the main thread the process is ending already.
            let _ = events.send(Event::Failed(format!("shard {index}: {reason}")));
        }
    }

    fn serve(self, control: std::sync::mpsc::Receiver<ControlMail>) -> Result<(), String> {
        if let Some(cpu) = self.cpu
            && let Err(error) = affinity::pin_to(cpu)
        {
            tracing::warn!("shard {} is not pinned to CPU {cpu} - {error}", self.index);
        }
        let mut reactor = Uring::new(self.reactor).map_err(|error| error.to_string())?;
        let mut spread_listener = None;
        if let Some(listener) = self.listener {
            let listener = reactor.add_listener(listener);
            spread_listener = self.spreads.then(|| listener.index());
        }
        let waker = reactor.control_waker();
        let _ = self.events.send(Event::Ready(self.index, waker));
        let parts = ShardParts {
            shard: Shard::new(self.config),
            reactor,
            mailboxes: self.mailboxes,
            control,
            stop: self.stop,
            clock: self.clock,
            spread_listener,
        };
        EventLoop::new(parts).run().map_err(|error| format!("io_uring failed - {error}"))
    }
}

/// A panic anywhere ends the process at once: what the other threads know can no longer be
/// trusted, and a supervisor can start it again.
fn end_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        std::process::abort();
    }));
}
